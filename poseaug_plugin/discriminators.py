"""The two judges: joint angles in 3D by part-aware KCS, and the whole pair in 2D.

Source: PoseAug (CVPR 2021) section 3.3; layer sizes of the released code. The paths of the 3D
judge are one batched network, smaller parts padded with zero bones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .bones import part_kcs, pose_to_bones, unit
from .nets import ParallelLinear, leaky
from .skeleton import Skeleton

__all__ = ["Discriminator2d", "Discriminator3d"]


class Discriminator3d(nn.Module):
    """Scores each part of a pose by the cosines between its bones.

    Args:
        kcs: "parts" for one path per body part, "whole" for one path on the whole body's KCS.
        width: of three hidden layers; a fourth has at most 100. Released: 256.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        generator: torch.Generator,
        *,
        kcs: str = "parts",
        width: int = 256,
    ) -> None:
        super().__init__()
        self.skeleton = skeleton
        last = min(100, width)
        self.parts = skeleton.parts if kcs == "parts" else (tuple(range(skeleton.num_bones)),)
        sizes = [len(part) ** 2 for part in self.parts]
        paths = len(self.parts)
        self.first = ParallelLinear(paths, max(sizes), width, generator, fan_in=sizes)
        self.second = ParallelLinear(paths, width, width, generator)
        self.third = ParallelLinear(paths, width, width, generator)
        self.last = ParallelLinear(paths, width, last, generator)
        self.score = ParallelLinear(paths, last, 1, generator)

    def forward(self, pose_3d: Tensor) -> Tensor:
        """(B, J, 3) camera frame, metres, to scores (B, P)."""
        bones = unit(pose_to_bones(pose_3d, self.skeleton))
        psi = part_kcs(bones, self.parts).flatten(-2).transpose(0, 1)  # (P, B, M * M)
        h = leaky(self.first(psi))
        h = self.third(leaky(self.second(h))) + h
        return self.score(leaky(self.last(h)))[..., 0].T


class Discriminator2d(nn.Module):
    """Scores a projected pose: body size, view and position at once."""

    def __init__(self, skeleton: Skeleton, generator: torch.Generator, *, width: int = 100) -> None:
        super().__init__()
        self.first = ParallelLinear(1, 2 * skeleton.num_joints, width, generator)
        self.second = ParallelLinear(1, width, width, generator)
        self.third = ParallelLinear(1, width, width, generator)
        self.fourth = ParallelLinear(1, width, width, generator)
        self.last = ParallelLinear(1, width, width, generator)
        self.score = ParallelLinear(1, width, 1, generator)

    def forward(self, pose_2d: Tensor) -> Tensor:
        """(B, J, 2) normalised screen to scores (B, 1)."""
        h1 = leaky(self.first(pose_2d.flatten(1)[None]))
        h3 = leaky(self.third(leaky(self.second(h1))) + h1)
        return self.score(leaky(self.last(self.fourth(h3))))[0]
