"""Constant tensors, made once for each device: making one waits for a GPU each time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["constant", "identity", "index_tensor", "matrix"]


@lru_cache(maxsize=256)
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers (N,) on the device. Never write to it."""
    with torch.inference_mode(False):  # else one call in inference mode would poison training
        return torch.tensor(values, dtype=dtype, device=device)


def matrix(
    rows: Sequence[Sequence[float]], dtype: torch.dtype, device: torch.device, times: int = 1
) -> Tensor:
    """Rows of numbers (N, M) on the device; keep what comes back. Never write to it.

    Args:
        times: each number stands for so many coordinates, which it treats alike: the matrix is
            (N * times, M * times) then.
    """
    with torch.inference_mode(False):
        given = torch.tensor(rows, dtype=dtype, device=device)
        return torch.kron(given, torch.eye(times, dtype=dtype, device=device))


@lru_cache(maxsize=16)
def identity(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The identity matrix (size, size). Never write to it."""
    with torch.inference_mode(False):
        return torch.eye(size, dtype=dtype, device=device)


@lru_cache(maxsize=256)
def index_tensor(index: tuple[int, ...], device: torch.device) -> Tensor:
    """Indices (N,) on the device. Never write to it."""
    with torch.inference_mode(False):
        return torch.tensor(index, device=device)
