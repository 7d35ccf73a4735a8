"""What is stated beside numbers: commit, machine, versions; and their tables."""

from __future__ import annotations

import functools
import platform
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

__all__ = ["ROOT", "circumstances", "markdown", "spread"]

ROOT = Path(__file__).resolve().parents[1]


def circumstances() -> dict[str, Any]:
    """What a number depends on besides its command."""
    cuda = torch.cuda.is_available()
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu": _cpu(),
        "cores": torch.multiprocessing.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if cuda else None,
    }


@functools.cache
def _commit() -> str:
    """The short hash at the start, with a plus where files differ from it."""
    try:
        git = ["git", "-C", str(Path(__file__).parent)]
        commit = subprocess.check_output([*git, "rev-parse", "--short", "HEAD"], text=True).strip()
        changed = subprocess.check_output([*git, "status", "--porcelain", "-uno"], text=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + "+" * bool(changed.strip())


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "?")


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], labels: int = 1) -> str:
    """A Markdown table, the first so many columns to the left and the others to the right."""
    rules = [*["---"] * labels, *["---:"] * (len(head) - labels)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rules, *rows])


def spread(values: Iterable[float | None]) -> str:
    """Mean and, of several, standard deviation; nothing of a test that some run did not have."""
    numbers = [value for value in values if value is not None]
    if not numbers:
        return ""
    mean = f"{statistics.fmean(numbers):.1f}"
    return mean + (f" ± {statistics.stdev(numbers):.1f}" if len(numbers) > 1 else "")
