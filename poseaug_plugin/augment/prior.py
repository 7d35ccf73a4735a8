"""The prior: random bodies, views, positions and focal lengths from given ranges.

It is the control experiment for learned augmentation, and what the learned networks add to.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import PoseAugConfig
from ..geometry.bones import EPS
from ..geometry.constants import constant, group_matrix, identity
from ..geometry.operators import euler_to_matrix
from ..geometry.pose_batch import PoseBatch
from ..geometry.skeleton import Skeleton
from .augmentation import BONE_OPERATORS, JOINT_OPERATORS
from .draws import uniform
from .ranges import VIEW, Ranges

__all__ = ["Draw", "View", "draw", "own_view", "swap_lengths"]


@dataclass(frozen=True)
class View:
    """Views of B people, independent of the camera.

    Attributes:
        R: (B, 3, 3), rotation of the person in the camera frame.
        image_offset: (B, 2), position of the root relative to the image centre, screen units.
        distance: (B,), depth of the root, metres.
        focal: (B,), factor on the focal length of the camera.
    """

    R: Tensor
    image_offset: Tensor
    distance: Tensor
    focal: Tensor


@dataclass(frozen=True)
class Draw:
    """A draw from the prior for B rows.

    Attributes:
        parameters: the parameter (B, ...) of each operator that is on, by name.
        view: the views.
    """

    parameters: dict[str, Tensor]
    view: View


def draw(
    rows: int,
    skeleton: Skeleton,
    config: PoseAugConfig,
    ranges: Ranges,
    generator: torch.Generator,
) -> Draw:
    """Draw parameters and views for some rows, on the device of the generator.

    Args:
        config: says which operators are on.
        ranges: what to draw from.
    """
    operators = {
        name: operator
        for name, operator in {**BONE_OPERATORS, **JOINT_OPERATORS}.items()
        if operator.on(config, skeleton)
    }
    # All uniform numbers in one call: on a GPU each call has a fixed cost.
    sizes = [*(operator.uniform(skeleton) for operator in operators.values()), len(VIEW)]
    *of_operators, of_view = uniform(generator, rows, sum(sizes)).split(sizes, -1)
    parameters = {
        name: operator.draw(numbers, generator, skeleton, ranges)
        for (name, operator), numbers in zip(operators.items(), of_operators)
    }
    return Draw(parameters, _view(of_view, ranges))


def _view(numbers: Tensor, ranges: Ranges) -> View:
    """Scale uniform numbers (B, 7) to the ranges of `VIEW`."""
    drawn = torch.lerp(*ranges.view, numbers)
    return View(
        R=euler_to_matrix(drawn[:, :3]),
        image_offset=drawn[:, 3:5],
        distance=drawn[:, 5],
        focal=drawn[:, 6].exp(),
    )


def own_view(poses: PoseBatch) -> View:
    """Return the view in which each row was seen; of bad rows, which have none, any finite one."""
    root, focal = poses.root[:, poses.middle], poses.camera[:, :2]
    distance = torch.where(root[:, 2] > EPS, root[:, 2], 1.0)
    R = identity(3, root.dtype, root.device).expand(len(root), 3, 3)
    return View(R, focal * root[:, :2] / distance[:, None], distance, torch.ones_like(distance))


def swap_lengths(length: Tensor, skeleton: Skeleton, generator: torch.Generator) -> Tensor:
    """Return the change of bone lengths that gives each row the body of another row.

    The released code has a table with the bone lengths of its training subjects. A shuffled batch
    contains the same subjects. Lengths are averaged over left and right. A bone that has no length
    in the other row stays as it is, so no row gets the bones of a padding row.

    Args:
        length: (B, K), lengths of the bones.
        skeleton: the skeleton of the poses.
        generator: on the device of the lengths.

    Returns:
        gamma_bl (B, G).
    """
    group_of_bone = group_matrix(skeleton, length.dtype, length.device)
    # The sum of the lengths in each mirror group, and EPS times the number of bones that have one:
    # together the mean lengths, in units of EPS.
    total, count = length.mm(group_of_bone), length.clamp_max(EPS).mm(group_of_bone)
    own = (total / count.clamp_min(EPS)).clamp_min(1)
    order = torch.randperm(len(length), generator=generator, device=length.device)
    other = own.index_select(0, order)
    one, minus_one = (constant((x,), length.dtype, length.device) for x in (1.0, -1.0))
    other = torch.where(other > one, other, own)
    return torch.addcdiv(minus_one, other, own)
