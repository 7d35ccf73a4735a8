"""The ranges from which the prior draws: those of the options, or fitted to the caller's data.

Distances in metres suit one kind of data: at the 2.5 to 6.5 m that suit people in a room, a hand is
a dot. An option that is None is therefore fitted. The numbers that suit Human3.6M are scaled by a
quantile of the caller's data, divided by that of Human3.6M.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from ..config import PoseAugConfig
from ..geometry.constants import constant
from ..geometry.pose_batch import PoseBatch
from ..geometry.skeleton import Skeleton
from .body_measures import BodyMeasures
from .view_statistics import ON_H36M, QUANTILES, ViewStatistics

__all__ = ["VIEW", "Ranges"]

#: What the columns of `Ranges.view` are.
VIEW = ("yaw", "tilt", "roll", "image_offset_x", "image_offset_y", "distance", "log_focal")

#: Numbers that suit Human3.6M.
DISTANCE, FOCAL, IMAGE_OFFSET, JOINT_OFFSET = (2.5, 6.5), (0.5, 1.0), 0.3, 0.025
DEPTH_SHARE = 0.2  # smallest depth of a joint, as a share of the smallest distance of a root
OFFSET_FACTOR = IMAGE_OFFSET / max(abs(q.on_h36m) for q in QUANTILES if "offset" in q.measure)
LARGEST_OFFSET = 2.0  # of the root from the image centre, screen units


@dataclass(frozen=True)
class Ranges:
    """Low and high ends of everything that the prior draws uniformly, and two limits.

    Attributes:
        view: (low, high), each (7,) or, to draw from other ranges in each row, (B, 7). The columns
            are those of `VIEW`: yaw, tilt and roll in radians, the place of the root relative to
            the image centre in screen units, its depth in metres, and the log of a factor on the
            focal length.
        length: (low, high), each (G + 1,) or (B, G + 1): a factor on the bone lengths of each
            mirror group, and one on the whole body.
        bend: largest step on a unit bone vector.
        joint_offset: (), standard deviation of a joint's offset on each axis, metres.
        depth: (), smallest depth of a joint, metres.
    """

    view: tuple[Tensor, Tensor]
    length: tuple[Tensor, Tensor]
    bend: float
    joint_offset: Tensor
    depth: Tensor

    @classmethod
    @lru_cache(maxsize=64)
    def of(cls, config: PoseAugConfig, skeleton: Skeleton, device: torch.device) -> Ranges:
        """Return the ranges that the options give; those that are None suit Human3.6M."""
        distance = config.distance or DISTANCE
        offset = _or(config.image_offset, IMAGE_OFFSET)
        joint_offset = _or(config.joint_offset, JOINT_OFFSET)
        depth = _or(config.depth, DEPTH_SHARE * distance[0])
        view = (
            (-config.yaw, config.yaw),
            config.tilt,
            (-config.roll, config.roll),
            (-offset, offset),
            (-offset, offset),
            distance,
            tuple(map(math.log, config.focal or FOCAL)),
        )
        spread = (*[config.stretch] * skeleton.num_groups, config.body_scale)
        limits = constant((joint_offset, depth), torch.float32, device)
        return cls(
            view=_ends(view, device),
            length=_ends([(1 - s, 1 + s) for s in spread], device),
            bend=config.bend,
            joint_offset=limits[0],
            depth=limits[1],
        )

    def fitted(self, config: PoseAugConfig, statistics: ViewStatistics) -> Ranges:
        """Return the ranges with those whose option is None fitted to the data."""
        measured = statistics.quantiles
        usual = constant(ON_H36M, measured.dtype, measured.device)
        size, near, far, apparent = (10 ** (measured - usual)[:4]).unbind()
        left, right, top, bottom = (OFFSET_FACTOR * measured[4:]).unbind()
        low, high = (ends.clone() for ends in self.view)
        if config.distance is None:
            low[VIEW.index("distance")] = DISTANCE[0] * near
            high[VIEW.index("distance")] = DISTANCE[1] * far
        if config.focal is None:  # lenses as long as it takes to see people as large as there
            high[VIEW.index("log_focal")] = (FOCAL[1] / apparent.clamp_max(1)).log()
        if config.image_offset is None:
            # People who are always in the middle of the image are placed elsewhere, too.
            for name, start, end in (
                ("image_offset_x", left, right),
                ("image_offset_y", top, bottom),
            ):
                low[VIEW.index(name)] = start.clamp(-LARGEST_OFFSET, -IMAGE_OFFSET)
                high[VIEW.index(name)] = end.clamp(IMAGE_OFFSET, LARGEST_OFFSET)
        fit_joint_offset, fit_depth = config.joint_offset is None, config.depth is None
        return replace(
            self,
            view=(low, high),
            joint_offset=JOINT_OFFSET * size if fit_joint_offset else self.joint_offset,
            depth=DEPTH_SHARE * low[VIEW.index("distance")] if fit_depth else self.depth,
        )

    @classmethod
    def for_batch(cls, config: PoseAugConfig, skeleton: Skeleton, poses: PoseBatch) -> Ranges:
        """Return the ranges that would be used if a batch were the only one."""
        statistics = ViewStatistics(poses.root.device)
        statistics.add(poses)
        return cls.of(config, skeleton, poses.root.device).fitted(config, statistics)

    def with_target(self, config: PoseAugConfig, skeleton: Skeleton) -> Ranges:
        """Return the ranges that are used if there is a target.

        Joints are moved at random because it is unknown where another data set has them. A target
        tells, so they are not, unless the user has said how far.
        """
        if config.joint_offset is not None or not BodyMeasures.of(skeleton).places:
            return self
        return replace(self, joint_offset=torch.zeros_like(self.joint_offset))

    def doubts(
        self, config: PoseAugConfig, skeleton: Skeleton, poses: PoseBatch
    ) -> tuple[str, ...]:
        """Tell if `config.distance` has nothing in common with where the people of a batch are."""
        if config.distance is None or not config.rt:
            return ()
        fitted = Ranges.for_batch(config.replace(distance=None), skeleton, poses).numbers()
        near, far = float(fitted["distance_low"]), float(fitted["distance_high"])
        if config.distance[0] <= far and near <= config.distance[1]:
            return ()
        return (
            f"distance={config.distance} in config= is far from where your people are. Without "
            f"distance=, it is fitted to them: {near:.2g} to {far:.2g} m",
        )

    def numbers(self) -> dict[str, Tensor]:
        """Return the ranges that may be fitted, by name, see `PoseAugmenter.stats`."""
        found = {"joint_offset": self.joint_offset, "depth": self.depth}
        for name in ("distance", "image_offset_x", "image_offset_y"):
            for end, values in zip(("low", "high"), self.view):
                found[f"{name}_{end}"] = values[VIEW.index(name)]
        for end, values in zip(("low", "high"), self.view):
            found[f"focal_{end}"] = values[VIEW.index("log_focal")].exp()
        return found


def _or(option: float | None, default: float) -> float:
    return default if option is None else option


def _ends(ranges: Iterable[Sequence[float]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the low and the high ends of some ranges (N,)."""
    low, high = zip(*ranges)
    return constant(low, torch.float32, device), constant(high, torch.float32, device)
