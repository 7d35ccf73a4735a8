"""A training loop with Hugging Face Accelerate and PoseAug, in one process or several.

    python examples/accelerate_loop.py
    accelerate launch --cpu --num_processes 2 examples/accelerate_loop.py

What to do when: `prepare` first, then create the augmenter from what it returned, and wrap the
prepared loader.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from accelerate import Accelerator
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
    parser.add_argument("--cpu", action="store_true")
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    pairs, _, cross = load(args.data)
    rows = pairs[torch.randperm(len(pairs))[: args.rows]]
    data: Any = list(zip(rows.root_relative, rows.pose_2d))

    accelerator = Accelerator(cpu=args.cpu)
    model = SimpleBaseline()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader: Any = DataLoader(data, args.batch_size, shuffle=True, drop_last=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    batch = dict(pose_3d=0, pose_2d=1)
    augmenter = PoseAugmenter(model, optimizer, batch, args.epochs, config=args.config)  # 2 of 3
    loader = augmenter.wrap(loader)  # 3 of 3
    accelerator.register_for_checkpointing(augmenter)  # for save_state() and load_state()

    model.train()
    for _ in range(args.epochs):
        for targets_3d, inputs_2d in loader:
            loss = (model(inputs_2d) - targets_3d).square().mean()
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()

    inner = accelerator.unwrap_model(model)
    scores = evaluate(inner, cross.pose_2d, cross.pose_3d, accelerator.device)
    accelerator.print(f"{accelerator.num_processes} processes; {augmenter.stats()}")
    accelerator.print(f"cross-dataset MPJPE {scores['MPJPE']:.1f} mm")
    return augmenter.stats()


if __name__ == "__main__":
    main()
