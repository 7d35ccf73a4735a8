"""The global random streams, which the plugin leaves as they are."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch

__all__ = ["restored_streams"]


@contextlib.contextmanager
def restored_streams(devices: Sequence[torch.device] = ()) -> Iterator[None]:
    """Context manager that restores the global random streams of torch, NumPy and Python.

    Args:
        devices: CUDA devices whose streams are restored too; others are ignored.
    """
    cuda = [device for device in devices if device.type == "cuda"]
    python, array = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=cuda):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(array)
