"""Joints that a detector does not see: behind an object, or outside the image."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ..geometry.pose_batch import PoseBatch
from .draws import uniform

__all__ = ["hide_joints"]


def hide_joints(
    poses: PoseBatch, rows: Tensor, share: float, generator: torch.Generator
) -> PoseBatch:
    """Set 2D and confidence of some joints of the given rows to 0, in all frames of a clip.

    Half of the rows lose single joints. The others lose all joints beyond a line across the image,
    as half a body does that a table hides or the image's border cuts off.

    Args:
        poses: has a confidence, `extra_2d`. Nothing but its 2D changes.
        rows: (N,), indices.
        share: of the joints, on average.
        generator: on the device of the poses.
    """
    part = poses.pick(rows)
    centre = part.pose_2d[:, part.middle]
    joints = centre.shape[1]
    numbers = uniform(generator, len(rows), joints + 3)
    single, size, angle, kind = numbers.split([joints, 1, 1, 1], -1)
    across = torch.cat([(2 * math.pi * angle).cos(), (2 * math.pi * angle).sin()], -1)
    along = (centre @ across[..., None])[..., 0]  # (N, J), towards the hidden side
    place = along.argsort(-1, descending=True).argsort(-1)  # 0 for the outermost joint
    beyond = place + 0.5 < 2 * share * size * joints
    hidden = torch.where(kind < 0.5, single < share, beyond)[:, None, :, None]
    changed = {
        name: getattr(poses, name).index_copy(0, rows, getattr(part, name).masked_fill(hidden, 0))
        for name in ("pose_2d", "extra_2d")
    }
    return replace(poses, **changed)
