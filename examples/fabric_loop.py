"""A training loop with Lightning Fabric and PoseAug, in one process or several.

    python examples/fabric_loop.py
    python examples/fabric_loop.py --accelerator cpu --devices 2

What to do when: `setup` and `setup_dataloaders` first, then create the augmenter from what they
returned, and wrap the loader.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from lightning.fabric import Fabric
from torch.utils.data import DataLoader

from poseaug_plugin import PoseAugmenter  # 1 of 3
from poseaug_plugin.data import load
from poseaug_plugin.lifters import SimpleBaseline
from poseaug_plugin.metrics import evaluate


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help="folder of Human3.6M's files (default: synthetic motion)")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=256, help="rows of each process")
    parser.add_argument("--rows", type=int, help="number of random training rows (default: all)")
    parser.add_argument("--config", default="default", help="preset of the plugin")
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--devices", type=int, default=1)
    args = parser.parse_args(argv)

    fabric = Fabric(accelerator=args.accelerator, devices=args.devices)
    fabric.launch()
    fabric.seed_everything(0, verbose=False)
    pairs, _, cross = load(args.data)
    rows = pairs[torch.randperm(len(pairs))[: args.rows]]
    data: Any = list(zip(rows.root_relative, rows.pose_2d))

    lifter = SimpleBaseline()
    model, optimizer = fabric.setup(lifter, torch.optim.Adam(lifter.parameters(), lr=1e-3))
    loader = fabric.setup_dataloaders(
        DataLoader(data, args.batch_size, shuffle=True, drop_last=True)
    )
    batch = dict(pose_3d=0, pose_2d=1)
    augmenter = PoseAugmenter(model, optimizer, batch, args.epochs, config=args.config)  # 2 of 3
    loader = augmenter.wrap(loader)  # 3 of 3

    model.train()
    for _ in range(args.epochs):
        for targets_3d, inputs_2d in loader:
            loss = (model(inputs_2d) - targets_3d).square().mean()
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()

    scores = evaluate(lifter, cross.pose_2d, cross.pose_3d, fabric.device)
    fabric.print(f"{fabric.world_size} processes; {augmenter.stats()}")
    fabric.print(f"cross-dataset MPJPE {scores['MPJPE']:.1f} mm")
    return augmenter.stats()


if __name__ == "__main__":
    main()
