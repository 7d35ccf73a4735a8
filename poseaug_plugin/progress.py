"""A progress line for long commands: a bar, what runs now, the time passed and the time left."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import TextIO

__all__ = ["Progress", "Silent"]

BAR = 20  # characters
REDRAW = 0.1  # seconds


class Progress:
    """Shows how far a command is, on one line of a terminal.

    Where the stream is no terminal, it writes one line whenever another task starts.

    Args:
        total: the work to do, in any unit.
        stream: default: standard error.

    Example:
        >>> with Progress(total=300, stream=sys.stdout) as progress:
        ...     progress.start("loading")
        ...     progress.advance(300)
        0:00  loading
    """

    def __init__(self, total: float, stream: TextIO | None = None) -> None:
        self.total, self.done = total, 0.0
        self._stream = sys.stderr if stream is None else stream
        self._redraws = self._stream.isatty()
        self._task, self._began, self._drawn = "", time.monotonic(), 0.0

    def start(self, task: str) -> None:
        """Say what runs now."""
        self._task = task
        if self._redraws:
            self._draw()
        else:
            self._stream.write(f"{_clock(time.monotonic() - self._began)}  {task}\n")
            self._stream.flush()

    def advance(self, work: float = 1) -> None:
        """Add to the work that is done."""
        self.done += work
        if self._redraws and time.monotonic() - self._drawn >= REDRAW:
            self._draw()

    def line(self) -> str:
        """The line, without a limit of its width."""
        share = min(1.0, self.done / self.total) if self.total else 1.0
        passed = time.monotonic() - self._began
        left = f", {_clock(passed / share - passed)} left" if share > 0.01 else ""
        bar = "#" * int(BAR * share)
        return f"[{bar:<{BAR}}] {share:4.0%}  {_clock(passed)} passed{left}  {self._task}"

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._redraws:  # clear the line
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r\x1b[K{self.line()[:width]}")
        self._stream.flush()


class Silent(Progress):
    """Shows nothing."""

    def __init__(self) -> None:
        super().__init__(total=1)

    def start(self, task: str) -> None: ...

    def advance(self, work: float = 1) -> None: ...


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
