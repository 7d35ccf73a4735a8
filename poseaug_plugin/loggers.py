"""Ready callbacks: the numbers of `PoseAugmenter.stats()` to TensorBoard, logging, CSV or a line.

Each goes into `callbacks=`. `StatsLogger` takes any function, e.g. for Weights & Biases:

    log = StatsLogger(lambda stats, step: wandb.log({f"poseaug/{k}": v for k, v in stats.items()}))
    augmenter = PoseAugmenter(model, optimizer, ..., callbacks=[log])

Reading the numbers waits for the device, so they are read every `every` steps and after each epoch.
Under `torch.distributed` only rank 0 logs. `stats.STATS` says what each number means.
"""

from __future__ import annotations

import csv
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import torch.distributed as dist

from .errors import ConfigError
from .events import Event

__all__ = ["CSVLogger", "ProgressLine", "PythonLogger", "StatsLogger", "TensorBoardLogger"]

Stats = dict[str, float]

EVERY = 100  # steps


class _Logger:
    """Decides when to write. Subclasses say how.

    Raises:
        ConfigError: `every` is not a whole number of 1 or more.
    """

    def __init__(self, every: int = EVERY) -> None:
        if not isinstance(every, int) or every < 1:
            raise ConfigError(f"every={every!r} must be a whole number of steps, 1 or more.")
        self._every = every
        self._steps = self._written = 0

    def __call__(self, event: Event) -> None:
        """Take an event of an augmenter."""
        if dist.is_available() and dist.is_initialized() and dist.get_rank() > 0:
            return
        self._steps += event.kind == "step"
        if event.kind not in ("step", "epoch"):
            self.write_problem(event.kind, event.message, int(event.augmenter.stats()["steps"]))
        elif event.kind == "epoch" or self._steps % self._every == 0:
            stats = event.augmenter.stats()
            step = int(stats["steps"])
            if step != self._written:  # not twice at the end of an epoch
                self._written = step
                self.write(stats, step)

    def write(self, stats: Stats, step: int) -> None:
        """Write the numbers after `step` steps of the optimizer."""
        raise NotImplementedError

    def write_problem(self, kind: str, message: str, step: int) -> None:
        """Write that a network collapsed, or that a batch or an update failed. Default: nothing."""


class StatsLogger(_Logger):
    """Calls `write(stats, step)` with the numbers and the steps of the optimizer so far.

    Args:
        write: any function.
        every: steps between two calls.

    >>> log = StatsLogger(lambda stats, step: print(step, stats["accepted"]), every=50)
    """

    def __init__(self, write: Callable[[Stats, int], object], every: int = EVERY) -> None:
        super().__init__(every)
        self._write = write

    def write(self, stats: Stats, step: int) -> None:
        self._write(stats, step)


class TensorBoardLogger(_Logger):
    """Scalars `poseaug/accepted`, ... and texts `poseaug/collapse`, ... for TensorBoard.

    Args:
        writer: `torch.utils.tensorboard.SummaryWriter`, or any object with its `add_scalar` and
            `add_text`. The caller closes it.
        every: steps between two writes.
        prefix: before each name.
    """

    def __init__(self, writer: Any, every: int = EVERY, prefix: str = "poseaug/") -> None:
        super().__init__(every)
        self._writer, self._prefix = writer, prefix

    def write(self, stats: Stats, step: int) -> None:
        for name, value in stats.items():
            self._writer.add_scalar(self._prefix + name, value, step)

    def write_problem(self, kind: str, message: str, step: int) -> None:
        self._writer.add_text(self._prefix + kind, message, step)


class PythonLogger(_Logger):
    """One line for a logger of the standard library; what went wrong is a warning.

    Args:
        logger: default: the logger "poseaug_plugin".
        every: steps between two lines.
        level: of the lines with numbers.
    """

    def __init__(
        self, logger: logging.Logger | None = None, every: int = EVERY, level: int = logging.INFO
    ) -> None:
        super().__init__(every)
        self._logger, self._level = logger or logging.getLogger("poseaug_plugin"), level

    def write(self, stats: Stats, step: int) -> None:
        numbers = " ".join(f"{name}={value:.4g}" for name, value in stats.items())
        self._logger.log(self._level, "step %d: %s", step, numbers)

    def write_problem(self, kind: str, message: str, step: int) -> None:
        self._logger.warning("step %d: %s: %s", step, kind, message)


class CSVLogger(_Logger):
    """A file with one line per write and one column per number.

    Numbers that are not there from the start, such as those of the feedback, start a new header.
    An existing file is continued.

    Args:
        path: the file. Its folder is created.
        every: steps between two lines.
    """

    def __init__(self, path: str | Path, every: int = EVERY) -> None:
        super().__init__(every)
        self._path, self._columns = Path(path), list[str]()
        self._path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, stats: Stats, step: int) -> None:
        with self._path.open("a", newline="") as stream:
            writer = csv.writer(stream)
            if list(stats) != self._columns:
                self._columns = list(stats)
                writer.writerow(self._columns)
            writer.writerow(stats.values())


class ProgressLine(_Logger):
    """One line that says how the augmentation goes; on a terminal it is overwritten.

    Args:
        stream: default: standard error.
        every: steps between two updates.
    """

    def __init__(self, stream: TextIO | None = None, every: int = EVERY) -> None:
        super().__init__(every)
        self._stream = stream or sys.stderr

    def write(self, stats: Stats, step: int) -> None:
        start, end = ("\r\x1b[K", "") if self._stream.isatty() else ("", "\n")
        failures = stats["bad_batches"] + stats["failed_updates"]
        self._stream.write(
            f"{start}poseaug: step {step}, epoch {stats['epochs']:.0f}, {stats['accepted']:.1%} of "
            f"{stats['rows']:.0f} chosen rows augmented, {failures:.0f} failures{end}"
        )
        self._stream.flush()
