"""Run tasks one by one or in parallel, with a progress bar and a log file."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

__all__ = ["LOG", "OnProgress", "TaskFunction", "log_to_file", "progress_bar", "run_parallel"]

OnProgress = Callable[[float], None]  # called with the share of a task done since the last call
TaskFunction = Callable[[Any, Path, str, OnProgress], Any]  # task, folder, device, callback

LOG = logging.getLogger("reproduce")


def run_parallel(
    function: TaskFunction,
    tasks: Sequence[Any],
    title: str,
    out: Path,
    *,
    device: str,
    jobs: int,
    console: Console,
) -> Iterator[Any]:
    """Call the function with each task and yield the results as they complete.

    Args:
        function: A function at module level, so that other processes can import it.
        tasks: First argument of each call.
        title: Label of the progress bar.
        out: Folder that the function may write to.
        device: Device that the function uses.
        jobs: Number of tasks at a time. With more than one, each runs in a process of its own with
            one thread.
        console: Console of the progress bar.
    """
    if not tasks:
        return
    with progress_bar(console) as bar:
        row = bar.add_task(title, total=len(tasks))
        if jobs == 1:
            for done, task in enumerate(tasks, 1):
                result = function(task, out, device, lambda share: bar.advance(row, share))
                bar.update(row, completed=done)
                yield result
            return
        spawn = multiprocessing.get_context("spawn")
        completed = spawn.Value("d", 0.0)
        initargs = (out, completed)
        pool = ProcessPoolExecutor(min(jobs, len(tasks)), spawn, _init_worker, initargs)
        with pool:
            pending = {pool.submit(_run_in_worker, function, task, out, device) for task in tasks}
            try:
                while pending:
                    ready, pending = wait(pending, timeout=1, return_when=FIRST_COMPLETED)
                    bar.update(row, completed=completed.value)
                    yield from (future.result() for future in ready)
            finally:
                pool.shutdown(cancel_futures=True)


def progress_bar(console: Console) -> Progress:
    """A progress bar with the remaining time."""
    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(TextColumn("{task.description}"), *columns, console=console)


_completed: Any = None  # number of tasks completed by all processes, with fractions


def _init_worker(out: Path, completed: Any) -> None:
    global _completed
    _completed = completed
    torch.set_num_threads(1)
    _add_log_file(out)


def _run_in_worker(function: TaskFunction, task: Any, out: Path, device: str) -> Any:
    def on_progress(share: float) -> None:
        with _completed.get_lock():
            _completed.value += share

    return function(task, out, device, on_progress)


@contextmanager
def log_to_file(out: Path) -> Iterator[None]:
    """Log to a file in the folder inside the block."""
    handler = _add_log_file(out)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        handler.close()


def _add_log_file(out: Path) -> logging.Handler:
    handler = logging.FileHandler(out / "log.txt")
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(message)s"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    return handler
