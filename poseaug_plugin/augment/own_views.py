"""Ranges of views that start at each row's own view, for `config.widen_views`.

Each end of each range of `VIEW` is a share of the way from the row's own view, at 0, to a limit, at
1. The limit is that of the option, or, where the option is None, a fixed step away from the row's
own. `adversarial.widening` moves the shares.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..config import PoseAugConfig
from ..geometry.constants import constant, matrix
from ..geometry.pose_batch import PoseBatch
from .prior import own_view
from .ranges import VIEW

__all__ = ["OwnViews"]

SCALE = math.log(3)  # largest step of the log distance and of the log focal length
OFFSET = 0.6  # largest step on the image, screen units
DISTANCE = VIEW.index("distance")


class OwnViews:
    """Ranges of the views of a batch's rows.

    Args:
        config: its ranges of views are the limits.
        device: device of the poses.

    Attributes:
        shares: (2, 7), of the way to the limit, for the low and the high ends of `VIEW`.
    """

    def __init__(self, config: PoseAugConfig, device: torch.device) -> None:
        offset, distance, focal = (
            None if config.image_offset is None else (-config.image_offset, config.image_offset),
            config.distance and tuple(map(math.log, config.distance)),
            config.focal and tuple(map(math.log, config.focal)),
        )
        angles = (-config.yaw, config.yaw), config.tilt, (-config.roll, config.roll)
        given = (*angles, offset, offset, distance, focal)
        steps = (0.0, 0.0, 0.0, OFFSET, OFFSET, SCALE, SCALE)
        ends = [(-s, s) if limits is None else limits for limits, s in zip(given, steps)]
        self._limits = matrix([*zip(*ends)], torch.float32, device)[:, None]
        # 1 for limits that are steps away from a row's own view.
        is_step = tuple(float(limits is None) for limits in given)
        self._is_step = constant(is_step, torch.float32, device)
        self.shares = torch.zeros(2, len(VIEW), device=device, dtype=torch.float32)

    def own(self, poses: PoseBatch) -> Tensor:
        """Return the own view (B, 7) of each row: level, where it is, with its focal length."""
        return _in_metres(_own(poses))

    def ends(self, poses: PoseBatch) -> tuple[Tensor, Tensor]:
        """Return the low and the high ends of the ranges of each row, (B, 7) each."""
        own = _own(poses)
        low, high = torch.lerp(own, self._limits + self._is_step * own, self.shares[:, None])
        return _in_metres(low), _in_metres(high)


def _own(poses: PoseBatch) -> Tensor:
    """Return the own views (B, 7), with the log of the distance."""
    view = own_view(poses)
    depth = view.distance[:, None]
    none = torch.zeros_like(depth)
    return torch.cat([none, none, none, view.image_offset, depth.log(), none], 1)


def _in_metres(view: Tensor) -> Tensor:
    """Return a copy of views (B, 7) with the distance for its logarithm."""
    columns = list(view.unbind(1))
    columns[DISTANCE] = columns[DISTANCE].exp()
    return torch.stack(columns, 1)
