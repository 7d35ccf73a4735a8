"""Lifts the target's 2D poses with the caller's model, for augmented rows to take.

Unlabelled 2D shows which poses people take where the model will be used, and the model knows about
what they look like in 3D. An augmented row takes such a pose, with bones of its own and in another
view, and its 2D is the projection of its 3D: an exact pair, though the pose may be a little wrong.
So the model learns from its own answers without learning its errors.

Source: poses lifted from 2D, rotated and projected again are from Chen et al., "Unsupervised 3D
Pose Estimation with Geometric Self-Supervision" (CVPR 2019); that they widen the training set, from
Gong et al., "PoseTriplet" (CVPR 2022).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..batches.protocol import EstimatorFormat
from ..geometry.pose_batch import PoseBatch
from ..loop.estimator import Estimator
from .sampler import Sampler

if TYPE_CHECKING:
    from ..adversarial.collapse import CollapseReport
    from ..schedule import EpochSchedule

__all__ = ["Lifting"]


class Lifting:
    """Lifts the poses of `sampler.target`, some in each update, again and again.

    Args:
        sampler: has the target.

    Attributes:
        updates: number of updates.
        is_reducing: whether an update averages over the ranks now: never.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self.updates, self.is_reducing = 0, False
        self._rows: tuple[Tensor, bool] | None = None  # to lift, from the first update on

    @property
    def measures(self) -> dict[str, Tensor]:
        """Nothing: the target tells what was lifted."""
        return {}

    @torch.no_grad()
    def update(
        self, poses: PoseBatch, estimator: Estimator, fmt: EstimatorFormat, _: EpochSchedule
    ) -> list[CollapseReport]:
        """Lift as many poses as the batch has rows, each at most once.

        Call it inside `estimator.untouched()`.

        Args:
            poses: rows of a batch, whose 2D is replaced.
            estimator: the caller's model.
            fmt: converts poses to inputs of the estimator, and its outputs to poses.

        Returns:
            An empty list: it cannot collapse.
        """
        target = self._sampler.target
        if target is None:
            return []
        if self._rows is None:
            self._rows = target.liftable(fmt)
        liftable, some_are_missing = self._rows
        if not len(liftable):
            return []
        others = poses.pose_2d.flatten(0, 1)
        poses = poses.first(len(liftable))
        number = self.updates * len(poses) + torch.arange(len(poses), device=target.device)
        rows = liftable[number % len(liftable)]
        frames = poses.pose_2d.shape[1]  # a lifter of windows sees a person who stands still
        if poses.extra_2d is not None:  # every joint is as certain as the most certain one
            most = poses.extra_2d.nan_to_num(0.0).amax((0, 1, 2))
            poses = replace(poses, extra_2d=most.expand_as(poses.extra_2d))
        pose_2d = target.filled(rows, others) if some_are_missing else target.pose_2d[rows]
        pose_2d = pose_2d[:, None].expand(-1, frames, -1, -1)
        predicted = fmt.outputs(
            estimator(fmt.inputs(poses, pose_2d)), poses, self._sampler.skeleton
        )
        focal = poses.camera[:, :2].mean()
        target.keep_lifted(rows, predicted[:, predicted.shape[1] // 2].float(), focal)
        self.updates += 1
        return []

    def state_dict(self) -> dict[str, Any]:
        """The poses are part of the target's state."""
        return {"updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates, self._rows = state["updates"], None
