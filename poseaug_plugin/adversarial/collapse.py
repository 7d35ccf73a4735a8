"""Has the game between augmentor and discriminators died? Means over a window, then a verdict."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..loop.distributed import average

__all__ = ["CollapseReport", "CollapseWatch"]

WINDOW = 200  # turns; one look (and one wait for the device) per window
WON = 0.002  # discriminator's loss: every score within 0.06 of its label
STILL = 1e-7  # gradient norm of the augmentor
HARDNESS = 0.3, 50.0  # error(augmented) / error(original) of the estimator


@dataclass(frozen=True)
class CollapseReport:
    """What collapsed and why."""

    part: str  # "augmentor", or a discriminator's name
    reason: str


@dataclass
class CollapseWatch:
    """Sums the measures of each turn on the device and judges their means once per window."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    updates: int = 0

    def add(self, measures: dict[str, Tensor]) -> list[CollapseReport]:
        """Take one turn's measures; verdicts come at the end of a window, mostly none."""
        for name, value in measures.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value
            self.counts[name] = self.counts.get(name, 0) + 1
        self.updates += 1
        if self.updates < WINDOW:
            return []
        average(self.sums.values())
        means = {name: float(total) / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts, self.updates = {}, {}, 0
        return self._judge(means)

    def _judge(self, means: dict[str, float]) -> list[CollapseReport]:
        found = [
            CollapseReport(
                name, f"its loss is {means[f'loss_{name}']:.2g}: it tells every fake apart"
            )
            for name in (key.removeprefix("loss_") for key in means if key.startswith("loss_"))
            if name != "augmentor" and not means[f"loss_{name}"] >= WON  # NaN counts as dead
        ]
        low, high = HARDNESS
        hardness = means.get("hardness", 1.0)
        if not low <= hardness <= high:
            found.append(
                CollapseReport(
                    "augmentor", f"hardness {hardness:.3g} is outside {low:g} to {high:g}"
                )
            )
        elif not means.get("grad_norm", 1.0) >= STILL:
            found.append(CollapseReport("augmentor", f"its gradient is {means['grad_norm']:.3g}"))
        return found
