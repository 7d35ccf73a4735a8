"""Ranks that train together: equal weights, one verdict, no rank left waiting. No-ops alone."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["all_agree", "average", "rank"]


def _together() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """Number of the process among those that train together; 0 alone."""
    return dist.get_rank() if _together() else 0


def average(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over the ranks."""
    if _together():
        for tensor in tensors:
            dist.all_reduce(tensor)
            tensor /= dist.get_world_size()


def all_agree(yes: bool, device: torch.device) -> bool:
    """Whether every rank says yes; a rank must not wait for one that skips its turn."""
    if not _together():
        return yes
    votes = torch.tensor(float(yes), device=device, dtype=torch.float32)
    dist.all_reduce(votes, dist.ReduceOp.MIN)
    return bool(votes)
