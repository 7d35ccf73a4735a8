"""What has gone by: counts that cost nothing until they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

__all__ = ["Counters"]


@dataclass
class Counters:
    """Batches, steps and rows so far."""

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            # fed_steps: optimizer steps that a batch came by before. Schedules count them and not
            # batches: a rank may peek at one, or get a bad one, and ranks must stay together.
            ("batches", "bad_batches", "steps", "steps_with_batch", "rows"),
            0,
        )
    )
    passed: Tensor | None = None  # augmented rows that a camera could take; stays on the device

    def add(self, name: str, number: int = 1) -> int:
        """Count on; the new total."""
        self.counts[name] += number
        return self.counts[name]

    def rows(self, tried: int, passed: Tensor) -> None:
        """Count augmented rows."""
        self.add("rows", tried)
        self.passed = passed if self.passed is None else self.passed + passed

    def numbers(self) -> dict[str, float]:
        """All counts, and the share of augmented rows that passed."""
        passed = 0 if self.passed is None else int(self.passed)
        tried = self.counts["rows"]
        return {**self.counts, "augmented": passed, "accepted": passed / max(1, tried)}
