"""A training loop in SemGCN's style with PoseAug: root-relative 3D, no camera.

    python examples/semgcn.py                  # synthetic motion
    python examples/semgcn.py --data FOLDER    # Human3.6M's files

As in SemGCN's code, batches are (3D, 2D, action), the learning rate depends on the global step,
zero_grad follows the forward pass, gradients are clipped before the step, and evaluation disables
gradients globally.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from poseaug_plugin import PoseAugmenter  # 1 of 3
from poseaug_plugin.data import Pairs, load
from poseaug_plugin.lifters import GraphLifter
from poseaug_plugin.metrics import mpjpe


class PoseDataset(Dataset[tuple[Tensor, Tensor, str]]):
    """Rows (root-relative 3D, 2D, action)."""

    def __init__(self, pairs: Pairs) -> None:
        self.targets, self.inputs, self.actions = pairs.root_relative, pairs.pose_2d, pairs.action

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor, str]:
        return self.targets[row], self.inputs[row], str(self.actions[row])


def train(args: argparse.Namespace, loader: DataLoader[tuple[Tensor, Tensor, str]]) -> nn.Module:
    model = GraphLifter().to(args.device)
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    augmenter = PoseAugmenter(model, optimizer, "semgcn", args.epochs, config=args.config)  # 2 of 3
    loader = augmenter.wrap(loader)  # 3 of 3

    step = 0
    for epoch in range(args.epochs):
        torch.set_grad_enabled(True)
        model.train()
        total = rows = 0.0
        for targets_3d, inputs_2d, _ in loader:
            step += 1
            for group in optimizer.param_groups:
                group["lr"] = args.lr * 0.96 ** (step / 1000)
            targets_3d, inputs_2d = targets_3d.to(args.device), inputs_2d.to(args.device)
            loss = criterion(model(inputs_2d), targets_3d)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), max_norm=1)
            optimizer.step()
            total, rows = total + loss.item() * len(inputs_2d), rows + len(inputs_2d)
        print(f"epoch {epoch + 1}: training loss {total / rows:.5f}")
    return model


def evaluate(model: nn.Module, pairs: Pairs, device: str) -> float:
    torch.set_grad_enabled(False)
    model.eval()
    predicted = torch.cat([model(x.to(device)).cpu() for x in pairs.pose_2d.split(4096)])
    return mpjpe(predicted, pairs.root_relative)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help="folder of Human3.6M's files (default: synthetic motion)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, help="number of random training rows (default: all)")
    parser.add_argument("--config", default="default", help="preset of the plugin")
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    pairs, test, cross = load(args.data, args.seed)
    if args.rows:
        pairs = pairs[torch.randperm(len(pairs))[: args.rows]]
    model = train(args, DataLoader(PoseDataset(pairs), args.batch_size, shuffle=True))
    print(f"MPJPE, mm: in-domain {evaluate(model, test, args.device):.1f}", end=", ")
    print(f"cross-dataset {evaluate(model, cross, args.device):.1f}")
    torch.set_grad_enabled(True)


if __name__ == "__main__":
    main()
