"""Training for a place of which only unlabelled 2D poses are known: the fourth line.

    python examples/target_2d.py                                            # synthetic motion
    python examples/target_2d.py --data FOLDER --target-2d FILE.npy         # Human3.6M's files

The file holds 2D poses (N, 16, 2) from where the model will be used, in normalised screen units and
with the joints of the training data; a hundred of different moments are enough. Augmented
people get the proportions and joint positions of the people there, stand where they stand in the
image and appear as large; half of them take poses from there, which the model itself lifts to 3D.
No label is needed, and no pose of the test set.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import nn

from poseaug_plugin import PoseAugmenter  # 1 of 4
from poseaug_plugin.data import Batch, load, make_loader
from poseaug_plugin.lifters import SimpleBaseline
from poseaug_plugin.metrics import mpjpe


def train(args: argparse.Namespace, loader: Any, target_2d: Any) -> nn.Module:
    torch.manual_seed(args.seed)
    model = SimpleBaseline().to(args.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    augmenter = PoseAugmenter(  # 2 of 4
        model,
        optimizer,
        "poseaug",
        args.epochs,
        target_2d=target_2d,  # 3 of 4
    )
    loader = augmenter.wrap(loader)  # 4 of 4

    for _ in range(args.epochs):
        model.train()
        batch: Batch
        for batch in loader:
            pose_3d, pose_2d = (field.to(args.device) for field in batch[:2])
            loss = (model(pose_2d) - (pose_3d - pose_3d[:, :1])).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    if augmenter.target is not None:
        print(augmenter.target)  # what was learned about the people there
    return model


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help="folder of Human3.6M's files (default: synthetic motion)")
    parser.add_argument("--target-2d", help=".npy or .npz file; needed with --data")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, help="number of random training rows (default: all)")
    args = parser.parse_args(argv)
    if args.data and not args.target_2d:
        parser.error("--data needs --target-2d: 2D poses from where the model will be used")
    pairs, _, cross = load(args.data, args.seed)
    if args.rows:
        pairs = pairs[torch.randperm(len(pairs))[: args.rows]]
    # Other people and clips than those of the test, without their 3D.
    target_2d = args.target_2d or load(None, args.seed + 1)[2].pose_2d

    for name, target in (("without target_2d", None), ("with target_2d", target_2d)):
        model = train(args, make_loader(pairs, args.batch_size), target).eval()
        with torch.no_grad():
            predicted = model(cross.pose_2d.to(args.device)).cpu()
        print(f"{name}: cross-dataset MPJPE {mpjpe(predicted, cross.root_relative):.1f} mm")


if __name__ == "__main__":
    main()
