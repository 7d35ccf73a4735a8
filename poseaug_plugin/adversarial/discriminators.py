"""The discriminators: one of bone angles in 3D, by part-aware KCS, and one of 2D poses.

`DISCRIMINATORS` lists them. A further discriminator is a further entry.

Source: PoseAug (CVPR 2021), section 3.3; layer sizes from the released code.
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
    """Scores each body part of a pose, from the cosines between its bones.

    Each part has its own path, a network of five layers. All paths run as one batched product,
    except for their first layers, whose size depends on the number of bones of the part.

    Args:
        skeleton: the skeleton of the poses.
        generator: draws the initial weights.
        kcs: "parts" for one path per body part, in the order of their size, or "whole" for a single
            path with the KCS matrix of the whole body.
        width: width of the first three layers; that of the fourth is at most 100.
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
        # Grouped by size and not padded to the largest part: with 68 face landmarks, padding would
        # enlarge the input of the limbs a hundredfold.
        self.groups = [
            tuple(group) for _, group in itertools.groupby(sorted(parts, key=len), key=len)
        ]
        paths = len(parts)
        # In the released code, the input of each path is the KCS matrix of the whole body, with
        # zeros outside the part. The initial weights have the scale of that input size.
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
        """Return the scores (B, P) of P parts, from unit bones (B, K, 3)."""
        psis = (part_kcs(direction, group).flatten(-2).transpose(0, 1) for group in self.groups)
        h = leaky(torch.cat([first(psi) for first, psi in zip(self.first, psis)]))  # (P, B, width)
        h = self.third(leaky(self.second(h))) + h
        return self.score(leaky(self.last(h)))[..., 0].T


class Discriminator2d(nn.Module):
    """Scores a 2D pose, which depends on the body, the view and the position.

    Args:
        skeleton: the skeleton of the poses.
        generator: draws the initial weights.
        width: width of the hidden layers.
    """

    def __init__(self, skeleton: Skeleton, generator: torch.Generator, *, width: int = 100) -> None:
        super().__init__()
        self.first = ParallelLinear(1, 2 * skeleton.num_joints, width, generator)
        self.second = ParallelLinear(1, width, width, generator)
        self.third = ParallelLinear(1, width, width, generator)
        self.fourth = ParallelLinear(1, width, width, generator)
        self.last = ParallelLinear(1, width, width, generator)
        self.score = ParallelLinear(1, width, 1, generator)

    def forward(self, pose_2d: Tensor) -> Tensor:
        """Return scores (B, 1) of poses (B, J, 2) in normalised screen units."""
        h1 = leaky(self.first(pose_2d.flatten(1)[None]))
        h3 = leaky(self.third(leaky(self.second(h1))) + h1)
        return self.score(leaky(self.last(self.fourth(h3))))[0]


class DiscriminatorInput(NamedTuple):
    """The centre frames of real or augmented pairs, from which discriminators take their input.

    Attributes:
        bones: bones of (B, K); those of augmented pairs are bent and stretched.
        pose_2d: (B, J, 2), normalised screen units.
    """

    bones: Bones
    pose_2d: Tensor


class Discriminator(NamedTuple):
    """An entry of `DISCRIMINATORS`.

    Attributes:
        weight: its weight in the loss of the augmentor. At 0 it is not built.
        build: builds the network, with initial weights from the generator. The score of a row must
            not depend on other rows, so batch normalisation is ruled out.
        view: selects the input of the network, a tensor of B rows.
    """

    weight: Callable[[PoseAugConfig], float]
    build: Callable[[Skeleton, PoseAugConfig, torch.Generator], nn.Module]
    view: Callable[[DiscriminatorInput], Tensor]


#: All discriminators, by name.
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
