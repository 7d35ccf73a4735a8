"""Plausible parameters without learning: any turn, some tilt, a range of distances and bodies.

The control every learned augmentor has to beat, and the ground the default one stands on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..config import PoseAugConfig
from ..geometry.bones import EPS, Bones
from ..geometry.constants import constant, matrix
from ..geometry.operators import euler_to_matrix
from ..geometry.skeleton import Skeleton
from .augmentation import BONE_OPERATORS, JOINT_OPERATORS
from .draws import uniform

__all__ = ["Draw", "View", "draw", "swap_lengths"]


@dataclass(frozen=True)
class View:
    """Where a camera stands, before places become metres."""

    R: Tensor  # (B, 3, 3)
    place: Tensor  # (B, 2) where the root falls on the screen, from the image centre
    distance: Tensor  # (B,) metres
    focal: Tensor  # (B,) factor on the row's focal length


@dataclass(frozen=True)
class Draw:
    """One draw per row: the parameters of the operators that are on, by name, and a view."""

    parameters: dict[str, Tensor]
    view: View


def draw(rows: int, skeleton: Skeleton, config: PoseAugConfig, generator: torch.Generator) -> Draw:
    """Draw `rows` parameters on the generator's device."""
    operators = {
        name: operator
        for name, operator in {**BONE_OPERATORS, **JOINT_OPERATORS}.items()
        if operator.on(config, skeleton)
    }
    # One draw for all that is uniform: on a GPU each call costs as much as the numbers.
    sizes = [*(operator.uniform(skeleton) for operator in operators.values()), 7]
    *shares, view = uniform(generator, rows, sum(sizes)).split(sizes, -1)
    return Draw(
        {
            name: operator.draw(share, generator, skeleton, config)
            for (name, operator), share in zip(operators.items(), shares)
        },
        _view(view, config),
    )


def _view(share: Tensor, config: PoseAugConfig) -> View:
    """A view from even numbers (B, 7): turn, tilt, roll, place, distance, focal length."""
    ends = zip(
        (-config.yaw, config.yaw),
        config.tilt,
        (-config.roll, config.roll),
        (-config.image_offset, config.image_offset),
        (-config.image_offset, config.image_offset),
        config.distance,
        map(math.log, config.focal),
    )
    near, far = (constant(values, share.dtype, share.device) for values in ends)
    drawn = torch.lerp(near, far, share)
    return View(
        R=euler_to_matrix(drawn[:, :3]),
        place=drawn[:, 3:5],
        distance=drawn[:, 5],
        focal=drawn[:, 6].exp(),
    )


def swap_lengths(bones: Bones, generator: torch.Generator) -> Tensor:
    """gamma_bl (B, G) that gives each row the bone lengths of another row's person.

    The released code keeps a table of its training subjects' lengths; a shuffled batch holds the
    same people. Lengths are averaged over left and right. A bone that the other lacks, as all bones
    of a padding row, stays as it is.

    Args:
        bones: of (B, K), metres.
    """
    length, skeleton = bones.length, bones.skeleton
    group_of = _group_matrix(skeleton, length.dtype, length.device)
    # Per mirror group the sum and the number of the bones that are there.
    total, there = (torch.stack([length, (length > EPS).to(length)]) @ group_of).unbind()
    person = total / there.clamp_min(1)
    other = torch.randperm(len(length), generator=generator, device=length.device)
    theirs = person.index_select(0, other)
    return torch.where(theirs > EPS, theirs / person.clamp_min(EPS) - 1, 0.0)


@lru_cache(maxsize=64)
def _group_matrix(skeleton: Skeleton, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(K, G): 1 where a bone belongs to a mirror group."""
    groups = range(skeleton.num_groups)
    rows = [[float(group == own) for group in groups] for own in skeleton.mirror_group]
    return matrix(rows, dtype, device)
