"""What changes as training goes on: plain numbers of the epochs behind us, no torch."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EpochSchedule"]


@dataclass
class EpochSchedule:
    """Counts finished epochs.

    Args:
        epochs: length of the caller's run. None: every schedule stands at its end from the
            start, and the learning rate does not decay.
        warmup: epochs before the feedback counts.
    """

    epochs: int | None
    warmup: float
    done: int = 0

    @property
    def warm(self) -> bool:
        """Whether the warm-up is over."""
        return self.done >= self.warmup

    def between(self, ends: tuple[float, float]) -> float:
        """A value on its way from start to end; the last epoch has the end."""
        start, end = ends
        share = 1.0 if self.epochs is None else min(1.0, (self.done + 1) / self.epochs)
        return start + (end - start) * share

    @property
    def lr_factor(self) -> float:
        """Linear decay over the run, as the released code's schedule."""
        if self.epochs is None:
            return 1.0
        return max(0.0, 1 - self.done / (self.epochs + 1))
