"""The two judges: joint angles in 3D by part-aware KCS, and the whole pair in 2D.

Source: PoseAug (CVPR 2021) section 3.3; layer sizes of the released code. The paths of the 3D
judge are one batched network behind a first layer for each size of part.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..config import PoseAugConfig
from ..geometry.bones import Bones, part_kcs
from ..geometry.skeleton import Skeleton
from .layers import ParallelLinear, leaky

__all__ = [
    "DISCRIMINATORS",
    "Discriminator",
    "Discriminator2d",
    "Discriminator3d",
    "DiscriminatorInput",
]


class Discriminator3d(nn.Module):
    """Scores each part of a pose by the cosines between its bones; small parts first.

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
        last = min(100, width)
        parts = skeleton.parts if kcs == "parts" else (tuple(range(skeleton.num_bones)),)
        # By size, not padded to the widest: 68 points of a face would pad a body's limbs a
        # hundredfold.
        self.groups = [
            tuple(group) for _, group in itertools.groupby(sorted(parts, key=len), key=len)
        ]
        paths = len(parts)
        # Released: each path takes the whole body's KCS, zero outside its part; weights start so.
        fan_in = skeleton.num_bones**2
        self.first = nn.ModuleList(
            ParallelLinear(
                len(group), len(group[0]) ** 2, width, generator, fan_in=[fan_in] * len(group)
            )
            for group in self.groups
        )
        self.second = ParallelLinear(paths, width, width, generator)
        self.third = ParallelLinear(paths, width, width, generator)
        self.last = ParallelLinear(paths, width, last, generator)
        self.score = ParallelLinear(paths, last, 1, generator)

    def forward(self, direction: Tensor) -> Tensor:
        """Unit bones (B, K, 3) to scores (B, P)."""
        psis = (part_kcs(direction, group).flatten(-2).transpose(0, 1) for group in self.groups)
        h = leaky(torch.cat([first(psi) for first, psi in zip(self.first, psis)]))  # (P, B, width)
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


class DiscriminatorInput(NamedTuple):
    """What discriminators may look at: the centre frames of pairs, real or augmented."""

    bones: Bones  # of (B, K), bent and stretched
    pose_2d: Tensor  # (B, J, 2) normalised screen


class Discriminator(NamedTuple):
    """One discriminator.

    Attributes:
        weight: of its verdict in the augmentor's loss; where it is 0 there is none.
        build: the network, its weights from the generator.
        view: what the network sees of the pairs.
    """

    weight: Callable[[PoseAugConfig], float]
    build: Callable[[Skeleton, PoseAugConfig, torch.Generator], nn.Module]
    view: Callable[[DiscriminatorInput], Tensor]


#: All discriminators there are, by name. A further one is a further row.
DISCRIMINATORS: dict[str, Discriminator] = {
    "d3d": Discriminator(
        weight=lambda config: config.adv3d,
        build=lambda skeleton, config, generator: Discriminator3d(
            skeleton, generator, kcs=config.kcs, width=config.d_width
        ),
        view=lambda pairs: pairs.bones.direction,
    ),
    "d2d": Discriminator(
        weight=lambda config: config.adv2d,
        build=lambda skeleton, config, generator: Discriminator2d(skeleton, generator),
        view=lambda pairs: pairs.pose_2d,
    ),
}
