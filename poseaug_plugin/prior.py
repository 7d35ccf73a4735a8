"""Plausible parameters without learning: any turn, some tilt, a range of distances and bodies.

The control every learned augmentor has to beat, and the ground the default one stands on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .bones import index_tensor, lengths, pose_to_bones
from .config import PoseAugConfig
from .operators import axis_angle_to_matrix
from .skeleton import Skeleton

__all__ = ["Draw", "draw", "swap_lengths"]


@dataclass(frozen=True)
class Draw:
    """One draw per row: what `Augmentation` holds, before places become metres."""

    gamma_ba: Tensor  # (B, K, 3)
    gamma_bl: Tensor  # (B, G)
    R: Tensor  # (B, 3, 3)
    place: Tensor  # (B, 2) where the root falls on the screen, from the image centre
    distance: Tensor  # (B,) metres
    focal: Tensor  # (B,) factor on the row's focal length


def draw(rows: int, skeleton: Skeleton, config: PoseAugConfig, generator: torch.Generator) -> Draw:
    """Draw `rows` parameters on the generator's device; switched-off parts are left neutral."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=generator.device)

    def either_way(*shape: int) -> Tensor:
        return 2 * uniform(*shape) - 1

    bend = config.bend * config.ba
    stretch, size = config.stretch * config.bl, config.size * config.bl
    step = torch.randn(rows, skeleton.num_bones, 3, generator=generator, device=generator.device)
    step = step / torch.linalg.vector_norm(step, dim=-1, keepdim=True).clamp_min(1e-6)
    body = 1 + size * either_way(rows, 1)
    limbs = 1 + stretch * either_way(rows, skeleton.num_groups)

    roll, tilt, turn = (most * either_way(rows) for most in (config.roll, config.tilt, config.turn))
    zero = torch.zeros_like(turn)
    R = (
        axis_angle_to_matrix(torch.stack([zero, zero, roll], -1))
        @ axis_angle_to_matrix(torch.stack([tilt, zero, zero], -1))
        @ axis_angle_to_matrix(torch.stack([zero, turn, zero], -1))
    )
    near, far = config.distance
    wide, narrow = (math.log(f) for f in config.focal)
    return Draw(
        gamma_ba=bend * uniform(rows, skeleton.num_bones, 1) * step,
        gamma_bl=body * limbs - 1,
        R=R,
        place=config.place * either_way(rows, 2),
        distance=near + (far - near) * uniform(rows),
        focal=torch.exp(wide + (narrow - wide) * uniform(rows)),
    )


def swap_lengths(pose_3d: Tensor, skeleton: Skeleton, generator: torch.Generator) -> Tensor:
    """gamma_bl (B, G) that gives each row the bone lengths of another row's person.

    The released code keeps a table of its training subjects' lengths; a shuffled batch holds the
    same people. Lengths are averaged over left and right.

    Args:
        pose_3d: (B, J, 3) metres.
    """
    bones = lengths(pose_to_bones(pose_3d, skeleton))  # (B, K)
    group = index_tensor(skeleton.mirror_group, bones.device)
    person = bones.new_zeros(len(bones), skeleton.num_groups).index_add_(1, group, bones)
    other = torch.randperm(len(bones), generator=generator, device=bones.device)
    return person[other] / person.clamp_min(1e-6) - 1
