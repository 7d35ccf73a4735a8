"""Constant tensors, created once per device and cached.

Creating a tensor from Python numbers copies it to the device each time, and on a GPU that copy
makes the program wait.

The functions leave inference mode before they create a tensor. A tensor that is created in
inference mode cannot take part in autograd, so caching one would break later training.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from .skeleton import Skeleton

__all__ = ["constant", "group_matrix", "identity", "index_tensor", "matrix"]


@lru_cache(maxsize=256)
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the numbers (N,) as a cached tensor. Do not modify it in place."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


def matrix(
    rows: Sequence[Sequence[float]], dtype: torch.dtype, device: torch.device, dims: int = 1
) -> Tensor:
    """Return a matrix from its rows. The result is not cached; callers should cache it.

    Args:
        rows: N rows of M numbers.
        dims: replaces each number by that number times the identity (dims, dims), so that the
            matrix acts on each of `dims` interleaved coordinates alike.

    Returns:
        (N * dims, M * dims).
    """
    with torch.inference_mode(False):
        scalars = torch.tensor(rows, dtype=dtype, device=device)
        return torch.kron(scalars, torch.eye(dims, dtype=dtype, device=device))


@lru_cache(maxsize=64)
def group_matrix(
    skeleton: Skeleton, dtype: torch.dtype, device: torch.device, mean: bool = False
) -> Tensor:
    """Return (K, G), which sums over the bones of each mirror group. Do not modify it in place.

    Args:
        mean: average over them instead.
    """
    group = skeleton.mirror_group
    rows = [
        [(own == g) / (group.count(own) if mean else 1) for g in range(skeleton.num_groups)]
        for own in group
    ]
    return matrix(rows, dtype, device)


@lru_cache(maxsize=64)
def identity(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the identity matrix (size, size), cached. Do not modify it in place."""
    with torch.inference_mode(False):
        return torch.eye(size, dtype=dtype, device=device)


@lru_cache(maxsize=256)
def index_tensor(index: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the indices (N,) as a cached int64 tensor. Do not modify it in place."""
    with torch.inference_mode(False):
        return torch.tensor(index, device=device)
