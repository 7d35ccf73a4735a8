"""The environment of a measurement: commit, machine and versions."""

from __future__ import annotations

import functools
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

__all__ = ["ROOT", "environment_info"]

ROOT = Path(__file__).resolve().parents[1]


def environment_info() -> dict[str, Any]:
    """Everything that a number depends on besides its command."""
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
    """The short hash when the process starts, followed by "+" if tracked files are modified."""
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
