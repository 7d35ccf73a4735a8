"""Plausible parameters without learning: any turn, some tilt, a range of distances and bodies.

The control every learned augmentor has to beat, and the ground the default one stands on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import PoseAugConfig
from ..geometry.bones import EPS, Bones, index_tensor
from ..geometry.operators import axis_angle_to_matrix
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
    sizes = [*(operator.uniform(skeleton) for operator in operators.values()), 3, 2, 2]
    *shares, angles, place, camera = uniform(generator, rows, sum(sizes)).split(sizes, -1)
    return Draw(
        {
            name: operator.draw(share, generator, skeleton, config)
            for (name, operator), share in zip(operators.items(), shares)
        },
        _view(angles, place, camera, config),
    )


def _view(angles: Tensor, place: Tensor, camera: Tensor, config: PoseAugConfig) -> View:
    """A view from even numbers: (B, 3) turn, tilt and roll, (B, 2), (B, 2) distance and focal."""
    turn, tilt, roll = angles.unbind(-1)
    turn, roll = config.turn * (2 * turn - 1), config.roll * (2 * roll - 1)
    up, down = config.tilt
    tilt = up + (down - up) * tilt
    zero = torch.zeros_like(turn)
    about_y, about_x, about_z = axis_angle_to_matrix(
        torch.stack([zero, turn, zero, tilt, zero, zero, zero, zero, roll]).view(3, 3, -1).mT
    )
    near, far = config.distance
    wide, narrow = (math.log(f) for f in config.focal)
    distance, focal = camera.unbind(-1)
    return View(
        R=about_z @ about_x @ about_y,
        place=config.place * (2 * place - 1),
        distance=near + (far - near) * distance,
        focal=torch.exp(wide + (narrow - wide) * focal),
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
    group = index_tensor(skeleton.mirror_group, length.device)
    # Per mirror group the sum and the number of the bones that are there.
    person, there = (
        length.new_zeros(len(length), skeleton.num_groups).index_add_(1, group, x.to(length))
        for x in (length, length > EPS)
    )
    person = person / there.clamp_min(1)
    other = torch.randperm(len(length), generator=generator, device=length.device)
    theirs = person[other]
    return torch.where(theirs > EPS, theirs / person.clamp_min(EPS) - 1, 0.0)
