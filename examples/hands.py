"""A lifter of hands, 21 joints, trained without and with PoseAug.

    python examples/hands.py

Nothing is set for hands except their skeleton. They are 0.18 m long and half a metre away; the
plugin measures that in the first batches and places augmented hands accordingly. The data is
synthetic: a studio for training, webcams with other hands and other gestures for the test.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from poseaug_plugin import PoseAugmenter  # 1 of 3
from poseaug_plugin.data import synthetic_hands
from poseaug_plugin.data.filming import Views
from poseaug_plugin.lifters import SimpleBaseline
from poseaug_plugin.metrics import mpjpe

# How a batch is laid out: 2D and absolute 3D in metres in the camera frame, and the camera.
BATCH = dict(pose_2d=0, pose_3d=1, camera=2, root="absolute")


def train(args: argparse.Namespace, views: Views, with_plugin: bool) -> nn.Module:
    torch.manual_seed(args.seed)
    data = TensorDataset(views.pose_2d, views.pose_3d, views.camera)
    loader = DataLoader(data, args.batch_size, shuffle=True, drop_last=True)
    model = SimpleBaseline(joints=21).to(args.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    steps = args.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)

    if with_plugin:
        augmenter = PoseAugmenter(  # 2 of 3
            model, optimizer, BATCH, args.epochs, skeleton="hand_21"
        )
        loader = augmenter.wrap(loader)  # 3 of 3

    model.train()
    for _ in range(args.epochs):
        for pose_2d, pose_3d, _ in loader:
            target = root_relative(pose_3d).to(args.device)
            loss = (model(pose_2d.to(args.device)) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    if with_plugin:
        stats = augmenter.stats()
        print(
            f"augmented hands are {stats['distance_low']:.2f} to {stats['distance_high']:.2f} m "
            f"away; {stats['accepted']:.0%} of them are inside the image"
        )
    return model.eval()


def root_relative(pose_3d: Tensor) -> Tensor:
    """Poses relative to the wrist."""
    return pose_3d - pose_3d[:, :1]


@torch.no_grad()
def error(model: nn.Module, views: Views, device: str) -> float:
    """MPJPE, mm."""
    return mpjpe(model(views.pose_2d.to(device)).cpu(), root_relative(views.pose_3d))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    studio, same_studio, webcams = synthetic_hands.make(args.seed)
    for name, with_plugin in (("plain", False), ("plugin", True)):
        model = train(args, studio, with_plugin)
        tests = {"same studio": same_studio, "webcams": webcams}
        errors = {test: error(model, views, args.device) for test, views in tests.items()}
        print(f"{name}: MPJPE, mm: " + ", ".join(f"{k} {v:.1f}" for k, v in errors.items()))


if __name__ == "__main__":
    main()
