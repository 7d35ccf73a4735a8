"""The ranges from which the prior draws, as tensors on one device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..config import PoseAugConfig
from ..geometry.constants import constant
from ..geometry.skeleton import Skeleton

__all__ = ["VIEW", "Ranges"]

#: What the columns of `Ranges.view` are.
VIEW = ("yaw", "tilt", "roll", "image_offset_x", "image_offset_y", "distance", "log_focal")


@dataclass(frozen=True)
class Ranges:
    """Low and high ends of everything that the prior draws uniformly, and the joint offset.

    Attributes:
        view: (low, high), each (7,) or, to draw from other ranges in each row, (B, 7). The columns
            are those of `VIEW`: yaw, tilt and roll in radians, the place of the root relative to
            the image centre in screen units, its depth in metres, and the log of a factor on the
            focal length.
        length: (low, high), each (G + 1,) or (B, G + 1): a factor on the bone lengths of each
            mirror group, and one on the whole body.
        bend: largest step on a unit bone vector.
        joint_offset: standard deviation of a joint's offset on each axis, metres.
    """

    view: tuple[Tensor, Tensor]
    length: tuple[Tensor, Tensor]
    bend: float
    joint_offset: float

    @classmethod
    @lru_cache(maxsize=64)
    def of(cls, config: PoseAugConfig, skeleton: Skeleton, device: torch.device) -> Ranges:
        """Return the ranges that the options give."""
        view = (
            (-config.yaw, config.yaw),
            config.tilt,
            (-config.roll, config.roll),
            (-config.image_offset, config.image_offset),
            (-config.image_offset, config.image_offset),
            config.distance,
            tuple(map(math.log, config.focal)),
        )
        spread = (*[config.stretch] * skeleton.num_groups, config.body_scale)
        length = [(1 - s, 1 + s) for s in spread]
        return cls(
            view=_ends(view, device),
            length=_ends(length, device),
            bend=config.bend,
            joint_offset=config.joint_offset,
        )


def _ends(ranges: Iterable[Sequence[float]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the low and the high ends of some ranges (N,)."""
    low, high = zip(*ranges)
    return constant(low, torch.float32, device), constant(high, torch.float32, device)
