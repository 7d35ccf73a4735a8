"""Detection of collapsed adversarial training, from the means of measures over a window."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..loop.distributed import average

__all__ = ["CollapseReport", "CollapseWatch"]

WINDOW = 200  # updates; the device is waited for once per window
# Below the first, scores differ from their labels by less than 0.06. Above the second they are
# far from any label; a discriminator that always answers 0.5 has a loss of 0.25, and new ones less
# than 1.5.
DISCRIMINATOR_LOSS_RANGE = 0.002, 2.0
OF_THE_ESTIMATOR = {"hardness", "grad_norm", "model_error"}  # measures of its predictions


class _Limit(NamedTuple):
    """The smallest and the largest mean of a healthy augmentor, and what is wrong with others."""

    low: float
    high: float
    reason: str  # with a placeholder for the mean; it may name low and high


#: By measure. The first one that is not in its range is reported.
LIMITS = {
    "gamma_ba": _Limit(0, sys.float_info.max, "its parameters are not finite"),
    "gamma_bl": _Limit(0, sys.float_info.max, "its parameters are not finite"),
    "model_error": _Limit(
        0,
        0.9,
        "it learns from the errors of the model, which say nothing: their square is {:.2g} of that "
        "of predicting the root for every joint. The model has learned nothing yet, or its answers "
        "are in another unit or order of joints than the batch; then pass predict=lambda model, x: "
        "... that converts them",
    ),
    # A ratio of squared errors.
    "hardness": _Limit(0.1, 2500, "hardness {:.3g} is outside {low:g} to {high:g}"),
    "diversity_ba": _Limit(0.3, 1.1, "it bends all rows alike: only {:.0%} of its bends differ"),
    # On one line it is a third.
    "evenness_r": _Limit(0.4, 1.1, "it turns all rows about one axis: the evenness is {:.2f}"),
    "evenness_t": _Limit(0.4, 1.1, "it moves all rows along one line: the evenness is {:.2f}"),
    "grad_norm": _Limit(1e-7, math.inf, "its gradient norm is {:.3g}"),
}


@dataclass(frozen=True)
class CollapseReport:
    """What has collapsed, and how it was detected.

    Attributes:
        part: "augmentor", the name of a discriminator, or "widen_views".
        reason: the measure and its limit.
        restarted: whether the part has new weights now.
    """

    part: str
    reason: str
    restarted: bool = False

    def __str__(self) -> str:
        return f"{self.part} {'' if self.restarted else 'not '}restarted: {self.reason}"


@dataclass
class CollapseWatch:
    """Accumulates the measures of each update on the device, and checks their means per window.

    Args:
        part: what is reported if a measure is not in its range in `LIMITS`.

    Attributes:
        sums: sum of each measure in the current window.
        counts: number of updates that reported each measure.
        updates: number of updates in the current window.
    """

    part: str = "augmentor"
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    updates: int = 0

    def add(self, measures: dict[str, Tensor]) -> list[CollapseReport]:
        """Add the measures of one update.

        Returns:
            At the end of a window, a report for each part that has collapsed; otherwise nothing.
        """
        for name, value in measures.items():
            # An estimator that predicts NaN for a while is not the augmentor's fault.
            if name in OF_THE_ESTIMATOR:
                finite = value.isfinite()
                value = torch.where(finite, value, 0.0)
                self._add(f"{name}_finite", finite.to(value))
            self._add(name, value)
        self.updates += 1
        if self.updates < WINDOW:
            return []
        average(self.sums.values())
        means = {name: float(total) / self.counts[name] for name, total in self.sums.items()}
        for name in OF_THE_ESTIMATOR & means.keys():
            share = means[f"{name}_finite"]
            means[name] = means[name] / share if share else math.nan
        self.sums, self.counts, self.updates = {}, {}, 0
        return self._reports(means)

    def _add(self, name: str, value: Tensor) -> None:
        self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value
        self.counts[name] = self.counts.get(name, 0) + 1

    def _reports(self, means: dict[str, float]) -> list[CollapseReport]:
        # The comparisons are written so that a NaN counts as a collapse.
        reports = []
        least, most = DISCRIMINATOR_LOSS_RANGE
        for name in (key.removeprefix("loss_") for key in means if key.startswith("loss_")):
            loss = means[f"loss_{name}"]
            if name != "augmentor" and not least <= loss <= most:
                meaning = "it recognises every fake" if loss < least else "it has diverged"
                reports.append(CollapseReport(name, f"its loss is {loss:.2g}, so {meaning}"))
        for name, (low, high, reason) in LIMITS.items():
            if name in means and not low <= means[name] <= high:
                reason = reason.format(means[name], low=low, high=high)
                return [*reports, CollapseReport(self.part, reason)]
        return reports

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self.sums), "counts": dict(self.counts), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self.sums = {name: value.to(device) for name, value in state["sums"].items()}
        self.counts, self.updates = dict(state["counts"]), state["updates"]

    def complete(self, measures: Iterable[str], device: torch.device) -> None:
        """Make every entry of the state that these measures can add."""
        names = {*measures}
        names |= {f"{name}_finite" for name in OF_THE_ESTIMATOR & names}
        self.sums = {name: torch.zeros((), device=device) for name in names}
        self.counts = dict.fromkeys(names, 0)
