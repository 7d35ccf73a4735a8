"""Things to do: chosen on a command line, done in turn or side by side, with a bar and a log."""

from __future__ import annotations

import argparse
import logging
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

__all__ = ["LOG", "Tick", "Work", "logged", "progress", "several", "work"]

Tick = Callable[[float], None]  # called with the share of a thing that was done
Work = Callable[[Any, Path, str, Tick], Any]  # thing, folder, device

LOG = logging.getLogger("reproduce")


def several(choices: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    """Reads names separated by commas, each among the choices; `all` of them."""
    known = tuple(choices)

    def parse(text: str) -> tuple[str, ...]:
        names = known if text == "all" else tuple(text.split(","))
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown} not among {', '.join(known)}, all")
        return names

    return parse


def work(
    task: Work,
    things: Sequence[Any],
    title: str,
    out: Path,
    *,
    device: str,
    jobs: int,
    console: Console,
) -> Iterator[Any]:
    """What the task makes of each thing, as they come.

    Args:
        task: a module's function, for other processes to find.
        jobs: how many at a time; more than one: in single-threaded processes of their own.
    """
    if not things:
        return
    with progress(console) as bar:
        row = bar.add_task(title, total=len(things))
        if jobs == 1:
            for done, thing in enumerate(things, 1):
                made = task(thing, out, device, lambda share: bar.advance(row, share))
                bar.update(row, completed=done)
                yield made
            return
        spawn = multiprocessing.get_context("spawn")
        shared = spawn.Value("d", 0.0)
        pool = ProcessPoolExecutor(min(jobs, len(things)), spawn, _enter, (out, shared))
        with pool:
            left = {pool.submit(_share, task, thing, out, device) for thing in things}
            try:
                while left:
                    ready, left = wait(left, timeout=1, return_when=FIRST_COMPLETED)
                    bar.update(row, completed=shared.value)
                    yield from (future.result() for future in ready)
            finally:
                pool.shutdown(cancel_futures=True)


def progress(console: Console) -> Progress:
    """A bar with the time left."""
    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(TextColumn("{task.description}"), *columns, console=console)


_done: Any = None  # shares of all processes' work


def _enter(out: Path, done: Any) -> None:
    global _done
    _done = done
    torch.set_num_threads(1)
    _log_to(out)


def _share(task: Work, thing: Any, out: Path, device: str) -> Any:
    def tick(share: float) -> None:
        with _done.get_lock():
            _done.value += share

    return task(thing, out, device, tick)


@contextmanager
def logged(out: Path) -> Iterator[None]:
    """Log to a file of the folder inside the block."""
    handler = _log_to(out)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        handler.close()


def _log_to(out: Path) -> logging.Handler:
    handler = logging.FileHandler(out / "log.txt")
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(message)s"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    return handler
