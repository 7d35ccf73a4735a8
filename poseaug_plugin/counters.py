"""Counts of batches, steps and rows."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

__all__ = ["Counters"]

# Schedules count steps_with_batch, not batches: under DistributedDataParallel one rank may read an
# extra batch or a bad one, and all ranks must update at the same steps.
COUNTS = (
    "batches",
    "bad_batches",
    "bad_rows",
    "steps",
    "steps_with_batch",
    "rows",
    "failed_updates",
)


@dataclass
class Counters:
    """Batches, steps and rows so far. Counting never waits for the device; `numbers()` does."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    passed: Tensor | None = None  # number of augmented rows that were used, on the device
    unread_bad_rows: Tensor | None = None  # since the last `read_bad_rows`, on the device

    def add(self, name: str, number: int = 1) -> int:
        """Add to a count and return the new total."""
        self.counts[name] += number
        return self.counts[name]

    def add_rows(self, tried: int, passed: Tensor) -> None:
        """Add the rows of one batch.

        Args:
            tried: number of rows that were chosen for augmentation.
            passed: number of these whose augmented pair was used, a scalar on the device.
        """
        self.add("rows", tried)
        self.passed = passed if self.passed is None else self.passed + passed

    def add_bad_rows(self, number: Tensor) -> None:
        """Add the bad rows of one batch, a scalar on the device of the batch."""
        unread = self.unread_bad_rows
        self.unread_bad_rows = number if unread is None else number + unread.to(number.device)

    def read_bad_rows(self) -> int:
        """Count the bad rows that were added since the last call, and return their number.

        This waits for the device.
        """
        number = 0 if self.unread_bad_rows is None else int(self.unread_bad_rows)
        self.unread_bad_rows = None
        self.add("bad_rows", number)
        return number

    def numbers(self) -> dict[str, float]:
        """All counts, and the number and share of rows that were augmented."""
        passed = 0 if self.passed is None else int(self.passed)
        tried = self.counts["rows"]
        return {**self.counts, "augmented": passed, "accepted": passed / max(1, tried)}
