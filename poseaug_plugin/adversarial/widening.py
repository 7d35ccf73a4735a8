"""Learns how far views may be from those of the data, from the estimator's errors.

A curriculum over the prior instead of networks: each range of views is widened while the estimator
can follow, and narrowed where it cannot. No gradient is needed.

Source: automatic domain randomisation, OpenAI et al., "Solving Rubik's Cube with a Robot Hand"
(arXiv:1910.07113), section 5, with PoseAug's ratio of errors (CVPR 2021, section 3.4) as the
measure.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..augment.draws import uniform
from ..augment.own_views import OwnViews
from ..augment.ranges import VIEW
from ..augment.sampler import Sampler
from ..batches.protocol import EstimatorFormat
from ..geometry.pose_batch import PoseBatch
from ..loop.distributed import average, on_all_ranks
from ..loop.estimator import Estimator
from ..schedule import EpochSchedule
from .collapse import CollapseReport, CollapseWatch
from .feedback import log_ratio, steer
from .losses import squared_error
from .objectives import make_predict_pairs, model_error

__all__ = ["Widening"]

STEP = 0.02  # largest change of a share in an update
FEW = 0.3  # share of the pairs at an end; if fewer are in frame, the range is narrowed


class Widening:
    """Moves the shares of `OwnViews`.

    Args:
        sampler: makes the pairs.
        views: its ranges of views.
        hardness: squared errors at the ends of the ranges, relative to those in own views, at which
            the ranges stay as they are.

    Attributes:
        updates: number of updates.
        is_reducing: whether an update averages over the ranks now.
    """

    def __init__(self, sampler: Sampler, views: OwnViews, hardness: float) -> None:
        self._sampler, self._views, self._hardness = sampler, views, hardness
        self.updates, self.is_reducing = 0, False
        self.watch = CollapseWatch("widen_views")
        self._model_error: dict[str, Tensor] = {}

    @property
    def measures(self) -> dict[str, Tensor]:
        """The mean share of its two ends for each range, by name, and the error of the model."""
        shares = self._views.shares.mean(0)
        widened = {f"widened_{name}": share for name, share in zip(VIEW, shares)}
        return {**widened, **self._model_error}

    @torch.no_grad()
    def update(
        self, poses: PoseBatch, estimator: Estimator, fmt: EstimatorFormat, _: EpochSchedule
    ) -> list[CollapseReport]:
        """Move all ends by a step. Call it inside `estimator.untouched()`.

        Each row gets a view at one end of one range, and anywhere in the others. It is compared
        with the same person in the own view of the row.

        Args:
            poses: the rows to measure with.
            estimator: the caller's model.
            fmt: converts poses to inputs of the estimator, and its outputs to poses.

        Returns:
            A report if the errors of the model say nothing, so that all ranges would widen.
        """
        views, self.is_reducing = self._views, False
        measured = on_all_ranks(lambda: self._measure(poses, estimator, fmt), self._sampler.device)
        if measured is None:
            return []
        sums, self._model_error = measured[0], {"model_error": measured[1]}
        self.is_reducing = True
        average([sums])
        tried, accepted, ratio = sums
        too_hard = steer(ratio / accepted.clamp_min(1e-6), self._hardness)
        step = torch.where(accepted < FEW * tried, -1.0, -too_hard)
        step = torch.where(tried > 0, STEP * step, 0.0)
        views.shares = (views.shares + step.view_as(views.shares)).clamp(0, 1)
        self.updates += 1
        reports = self.watch.add(self._model_error)
        self.is_reducing = False
        return reports

    def _measure(
        self, poses: PoseBatch, estimator: Estimator, fmt: EstimatorFormat
    ) -> tuple[Tensor, Tensor]:
        """Return three sums (3, 14) for each end, and the error of the model in the own views.

        The sums are numbers of pairs and of accepted pairs, and the log ratios of the latter.
        """
        sampler, views = self._sampler, self._views
        low, high = views.ends(poses)
        number = (uniform(sampler.generator, len(poses)) * 2 * len(VIEW)).long()
        if poses.leader is not None:  # all people of a scene get the view of the first
            number = number[poses.leader]
        at_end = torch.eye(2 * len(VIEW), device=low.device, dtype=low.dtype)[number]  # (B, 14)
        is_low, is_high = at_end.bool().chunk(2, 1)
        ends = torch.where(is_high, high, low), torch.where(is_low, low, high)
        state = sampler.generator.get_state()
        made, accepted = sampler.sample_in(poses, *ends)
        sampler.generator.set_state(state)  # so that both have the same person
        own = views.own(poses)
        reference, _ = sampler.sample_in(poses, own, own)
        predict_pairs = make_predict_pairs(estimator, fmt, sampler.skeleton)
        in_own_views = predict_pairs(reference)
        ratio = log_ratio(squared_error(*predict_pairs(made)), squared_error(*in_own_views))
        known = accepted & ratio.isfinite()
        weights = torch.stack([poses.valid.to(ratio), known.to(ratio), ratio.where(known, 0.0)])
        return weights @ at_end, model_error(*in_own_views)

    def state_dict(self) -> dict[str, Any]:
        watch = self.watch.state_dict()
        return {"updates": self.updates, "shares": self._views.shares.clone(), "watch": watch}

    def complete(self) -> None:
        """Make every entry of the state that training can add."""
        self.watch.complete({"model_error"}, self._sampler.device)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        self._views.shares = state["shares"].to(self._sampler.device).clamp(0, 1)
        self.watch.load_state_dict(state["watch"], self._sampler.device)
