"""Schedules over the epochs of a run: plain numbers, no torch."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EpochSchedule"]


@dataclass
class EpochSchedule:
    """Values that change with the number of finished epochs.

    Args:
        epochs: length of the run. None: every schedule has its end value from the start, and the
            learning rate does not decay.
        warmup: epochs before the augmentor starts to learn; without a prior, before feedback is
            used and rows are augmented.
        done: finished epochs.
        warmup_steps: the same in steps. None: `warmup` epochs.
        steps: steps so far that followed a new batch.
    """

    epochs: int | None
    warmup: float
    done: int = 0
    warmup_steps: int | None = None
    steps: int = 0

    @property
    def warm(self) -> bool:
        """Whether the warm-up is over."""
        if self.warmup_steps is not None:
            return self.steps >= self.warmup_steps
        return self.done >= self.warmup

    def between(self, ends: tuple[float, float]) -> float:
        """Interpolate linearly from start to end; the last epoch has the end value."""
        start, end = ends
        share = 1.0 if self.epochs is None else min(1.0, (self.done + 1) / self.epochs)
        return start + (end - start) * share

    @property
    def lr_factor(self) -> float:
        """Factor on the learning rate. It decays linearly over the run, as in the released code."""
        if self.epochs is None:
            return 1.0
        return max(0.0, 1 - self.done / (self.epochs + 1))
