"""Plausible parameters without learning: any turn, some tilt, a range of distances and bodies.

The control every learned augmentor has to beat, and the ground the default one stands on.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import PoseAugConfig
from ..geometry.bones import EPS, index_tensor, lengths, pose_to_bones, unit
from ..geometry.operators import axis_angle_to_matrix
from ..geometry.skeleton import Skeleton

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
    offset: Tensor | None  # (B, J, 3) metres, the body's axes; None: joints stay where they are


def draw(rows: int, skeleton: Skeleton, config: PoseAugConfig, generator: torch.Generator) -> Draw:
    """Draw `rows` parameters on the generator's device; switched-off parts are left neutral."""
    bones, groups, device = skeleton.num_bones, skeleton.num_groups, generator.device
    step = torch.randn(rows, bones, 3, generator=generator, device=device, dtype=torch.float32)
    # One draw for all that is uniform: on a GPU each call costs as much as the numbers.
    share, limbs, body, angles, place, distance, focal = torch.rand(
        rows, bones + groups + 8, generator=generator, device=device, dtype=torch.float32
    ).split((bones, groups, 1, 3, 2, 1, 1), -1)

    turn, tilt, roll = angles.unbind(-1)
    turn, roll = config.turn * (2 * turn - 1), config.roll * (2 * roll - 1)
    up, down = config.tilt
    tilt = up + (down - up) * tilt
    zero = torch.zeros_like(turn)
    about_y, about_x, about_z = axis_angle_to_matrix(
        torch.stack([zero, turn, zero, tilt, zero, zero, zero, zero, roll]).view(3, 3, rows).mT
    )
    near, far = config.distance
    wide, narrow = (math.log(f) for f in config.focal)
    body = 1 + config.size * config.bl * (2 * body - 1)
    limbs = 1 + config.stretch * config.bl * (2 * limbs - 1)
    return Draw(
        gamma_ba=config.bend * config.ba * share[..., None] * unit(step),
        gamma_bl=body * limbs - 1,
        R=about_z @ about_x @ about_y,
        place=config.place * (2 * place - 1),
        distance=near + (far - near) * distance[:, 0],
        focal=torch.exp(wide + (narrow - wide) * focal[:, 0]),
        offset=_offset(rows, skeleton, config.shift, generator)
        if config.shift and config.ba and config.bl and skeleton.left  # a body, not a hand
        else None,
    )


def _offset(rows: int, skeleton: Skeleton, size: float, generator: torch.Generator) -> Tensor:
    """Normal steps (B, J, 3), left and right mirrored, joints in the middle not sideways."""
    shape, device = (rows, skeleton.num_joints, 3), generator.device
    step = torch.randn(shape, generator=generator, device=device, dtype=torch.float32)
    sources, signs = _mirror(skeleton, step.device)
    return size * signs * step[:, sources]


@functools.lru_cache(maxsize=64)
def _mirror(skeleton: Skeleton, device: torch.device) -> tuple[Tensor, Tensor]:
    """Whose step each joint takes (J,), and the factors (J, 3) on it; the root stays."""
    sources = torch.arange(skeleton.num_joints)
    signs = torch.ones(skeleton.num_joints, 3, dtype=torch.float32)
    left, right = list(skeleton.left), list(skeleton.right)
    sources[right] = sources[left]
    signs[:, 0] = 0
    signs[left, 0], signs[right, 0] = 1, -1
    signs[skeleton.root] = 0
    return sources.to(device), signs.to(device)


def swap_lengths(pose_3d: Tensor, skeleton: Skeleton, generator: torch.Generator) -> Tensor:
    """gamma_bl (B, G) that gives each row the bone lengths of another row's person.

    The released code keeps a table of its training subjects' lengths; a shuffled batch holds the
    same people. Lengths are averaged over left and right. A bone that the other lacks, as all bones
    of a padding row, stays as it is.

    Args:
        pose_3d: (B, J, 3) metres.
    """
    bones = lengths(pose_to_bones(pose_3d, skeleton))  # (B, K)
    group = index_tensor(skeleton.mirror_group, bones.device)
    # Per mirror group the sum and the number of the bones that are there.
    person, there = (
        bones.new_zeros(len(bones), skeleton.num_groups).index_add_(1, group, x.to(bones))
        for x in (bones, bones > EPS)
    )
    person = person / there.clamp_min(1)
    other = torch.randperm(len(bones), generator=generator, device=bones.device)
    theirs = person[other]
    return torch.where(theirs > EPS, theirs / person.clamp_min(EPS) - 1, 0.0)
