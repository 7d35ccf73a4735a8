"""How the plugin's time scales with rows, joints and frames, with a lifter of negligible cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poseaug_plugin import PoseAugConfig, PoseAugmenter, Skeleton
from poseaug_plugin.data.h36m_cameras import cameras
from poseaug_plugin.geometry.bones import bones_to_pose
from poseaug_plugin.geometry.camera import project
from poseaug_plugin.geometry.skeleton import SKELETONS

__all__ = ["AXES", "Axis", "FixedBatchLoop"]


class PerJointLifter(nn.Module):
    """One linear map for all joints: a lifter (..., 2) to (..., 3) for any skeleton."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(2, 3)

    def forward(self, pose_2d: Tensor) -> Tensor:
        pose_3d: Tensor = self.map(pose_2d)
        return pose_3d


def chain(joints: int) -> Skeleton:
    """A chain in which each joint is the child of the previous one."""
    return Skeleton(tuple(range(-1, joints - 1)))


def fingers(joints: int) -> Skeleton:
    """Human3.6M's 16 joints. More joints are chains of four at head, wrists and ankles."""
    parents = list(SKELETONS["h36m_16"].parents)
    tips = [j for j in range(len(parents)) if j not in parents]
    for more in range(joints - len(parents)):
        parents.append(len(parents) - 1 if more % 4 else tips[more // 4 % len(tips)])
    return Skeleton(tuple(parents))


def face(joints: int) -> Skeleton:
    """Human3.6M's 16 joints. More joints are children of the head."""
    parents = SKELETONS["h36m_16"].parents
    return Skeleton((*parents, *[9] * (joints - len(parents))))


@dataclass(frozen=True)
class Axis:
    """A dimension that grows. `shape` maps a size to (rows, frames, skeleton)."""

    sizes: tuple[int, ...]
    shape: Callable[[int], tuple[int, int, Skeleton]]


H36M = SKELETONS["h36m_16"]
JOINTS = 16, 32, 64, 133
AXES = {
    "rows": Axis((256, 1024, 4096, 16384, 65536), lambda n: (n, 1, H36M)),
    "frames": Axis((1, 3, 9, 27, 81, 243), lambda n: (256, n, H36M)),
    "joints, one chain": Axis(JOINTS, lambda n: (1024, 1, chain(n))),
    "joints, fingers": Axis(JOINTS, lambda n: (1024, 1, fingers(n))),
    "joints, face": Axis(JOINTS, lambda n: (1024, 1, face(n))),
}


class FixedBatchLoop:
    """A loop that augments the same batch again and again, with the augmenter's updates."""

    def __init__(
        self, rows: int, frames: int, skeleton: Skeleton, config: PoseAugConfig, device: str
    ) -> None:
        model = PerJointLifter().to(device)
        # Without gradients, a step of this optimizer only calls the plugin's hook.
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        fields = dict(pose_2d=0, pose_3d=1, camera=2, root="absolute")
        self.augmenter = PoseAugmenter(
            model, self.optimizer, fields, config=config, skeleton=skeleton
        )
        self.batch = tuple(field.to(device) for field in random_clips(rows, frames, skeleton))

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.augmenter(self.batch)
            self.optimizer.step()


def random_clips(rows: int, frames: int, skeleton: Skeleton) -> tuple[Tensor, Tensor, Tensor]:
    """Random slow motion: 2D (B, T, J, 2), absolute 3D (B, T, J, 3) and cameras (B, 9)."""
    rng = torch.Generator().manual_seed(0)
    start, end = torch.randn(2, rows, 1, skeleton.num_bones, 3, generator=rng)
    share = torch.linspace(0, 0.3, frames)[:, None, None]
    directions = nn.functional.normalize(start + share * (end - start), dim=-1)
    pose_3d = bones_to_pose(0.15 * directions, skeleton) + torch.tensor([0.0, 0.0, 3.0])
    intrinsics = cameras("S1")[0].intrinsics
    camera = torch.tensor(intrinsics, dtype=torch.float32).repeat(rows, 1)
    return project(pose_3d, camera[:, None]), pose_3d, camera
