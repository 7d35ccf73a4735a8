"""Several people in one image: a lifter of scenes with PoseAug.

    python examples/scene.py                  # synthetic motion
    python examples/scene.py --data FOLDER    # Human3.6M's files

A batch is (2D, 3D, camera) with the shapes (B, P, 16, 2), (B, P, 16, 3) and (B, 9): up to P people
of one image, with zeros for places without a person. The lifter predicts root-relative poses of
each person. The plugin augments a scene as a whole: its people keep their distances, and none comes
into contact with another. Here people of the training set are put next to each other.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from poseaug_plugin import Camera, PoseAugmenter, Skeleton  # 1 of 3
from poseaug_plugin.data import Pairs, load
from poseaug_plugin.geometry.camera import project
from poseaug_plugin.geometry.contact import bone_distance
from poseaug_plugin.lifters import SimpleBaseline

H36M = Skeleton.of("h36m_16")
PLACES = 4  # for people in an image
NEAR = 0.1  # metres between the bones of people who touch


class SceneLifter(nn.Module):
    """Lifts each person of (B, P, 16, 2) to (B, P, 16, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = SimpleBaseline()

    def forward(self, pose_2d: Tensor) -> Tensor:
        predicted: Tensor = self.net(pose_2d.flatten(0, 1))
        return predicted.view(*pose_2d.shape[:3], 3)


def make_scenes(pairs: Pairs, count: int) -> TensorDataset:
    """2D, 3D and cameras of scenes of one to `PLACES` people, 0.6 to 1.5 m apart."""
    people = torch.randint(len(pairs), (count, PLACES))
    angle, gap = 6.28 * torch.rand(count, PLACES), 0.6 + 0.9 * torch.rand(count, PLACES)
    step = torch.stack([gap * angle.cos(), torch.zeros_like(gap), gap * angle.sin()], -1)
    place = step.cumsum(1) - step.cumsum(1).mean(1, keepdim=True) + torch.tensor([0.0, 0.0, 6.0])
    pose_3d = pairs.root_relative[people] + place[:, :, None]
    camera = Camera().intrinsics.repeat(count, 1)
    pose_2d = project(pose_3d, camera[:, None])
    here = torch.arange(PLACES) < torch.randint(1, PLACES + 1, (count, 1))
    shown = here[:, :, None, None]
    return TensorDataset(pose_2d * shown, pose_3d * shown, camera)


def people_of(pose_3d: Tensor) -> Tensor:
    """(B, P), whether somebody is there."""
    return pose_3d.flatten(2).any(2)


def train(args: argparse.Namespace, loader: DataLoader[Any]) -> tuple[nn.Module, PoseAugmenter]:
    model = SceneLifter().to(args.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scenes = dict(pose_2d=0, pose_3d=1, camera=2, root="absolute", scenes=True)
    config = {"distance": (4.0, 9.0)}  # metres: several people need more room in the image
    augmenter = PoseAugmenter(model, optimizer, scenes, args.epochs, config=config)  # 2 of 3
    loader = augmenter.wrap(loader)  # 3 of 3

    for epoch in range(args.epochs):
        model.train()
        total = count = 0.0
        for pose_2d, pose_3d, _ in loader:
            pose_2d, pose_3d = pose_2d.to(args.device), pose_3d.to(args.device)
            here = people_of(pose_3d)
            target = pose_3d - pose_3d[:, :, :1]
            loss = (model(pose_2d) - target)[here].square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total, count = total + loss.item(), count + 1
        print(f"epoch {epoch + 1}: training loss {total / count:.5f}")
    return model, augmenter


def in_contact(pose_3d: Tensor) -> float:
    """Share of scenes (B, P, J, 3) in which two people touch."""
    here = people_of(pose_3d)
    touch = torch.zeros(len(pose_3d), dtype=torch.bool)
    for a, b in pairs_of(PLACES):
        near = bone_distance(pose_3d[:, a], pose_3d[:, b], H36M) < NEAR
        touch |= near & here[:, a] & here[:, b]
    return float(touch.float().mean())


def pairs_of(people: int) -> Iterator[tuple[int, int]]:
    return ((a, b) for b in range(people) for a in range(b))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help="folder of Human3.6M's files (default: synthetic motion)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--scenes", type=int, default=5000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    pairs, _, cross = load(args.data, args.seed)
    scenes = make_scenes(pairs, args.scenes)
    loader = DataLoader(scenes, args.batch_size, shuffle=True)
    model, augmenter = train(args, loader)
    stats = augmenter.stats()
    print(f"{stats['augmented']:.0f} of {stats['rows']:.0f} chosen people were augmented")

    batch = scenes[: args.batch_size]
    made = augmenter(batch)
    changed = (made[1] != batch[1]).flatten(1).any(1)
    print(f"of the last {int(changed.sum())} augmented scenes, people touch in", end=" ")
    print(
        f"{in_contact(batch[1][changed]):.0%} before and {in_contact(made[1][changed]):.0%} after"
    )

    model.eval()
    with torch.no_grad():
        predicted = model(cross.pose_2d[:, None].to(args.device))[:, 0].cpu()
    error = (predicted - cross.root_relative).norm(dim=-1).mean()
    print(f"MPJPE, mm: cross-dataset {1000 * float(error):.1f}")


if __name__ == "__main__":
    main()
