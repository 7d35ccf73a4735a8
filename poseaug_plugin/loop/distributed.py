"""Communication between the ranks of a distributed run. In a single process nothing is sent."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["all_agree", "average", "on_all_ranks", "rank", "synchronised", "world_size"]

T = TypeVar("T")

_synchronised: ContextVar[bool] = ContextVar("synchronised", default=True)


@contextlib.contextmanager
def synchronised(on: bool) -> Iterator[None]:
    """Context manager in which, if `on` is False, nothing is sent to other ranks."""
    token = _synchronised.set(on and _synchronised.get())
    try:
        yield
    finally:
        _synchronised.reset(token)


def _is_distributed() -> bool:
    connected = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return connected and _synchronised.get()


def world_size() -> int:
    """The number of processes."""
    return dist.get_world_size() if _is_distributed() else 1


def rank() -> int:
    """The rank of this process; 0 in a single process."""
    return dist.get_rank() if _is_distributed() else 0


def average(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor, in place, by its mean over all ranks; one message for all of them."""
    tensors = list(tensors) if _is_distributed() else []
    if not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
        tensor.copy_(mean.view_as(tensor))


def all_agree(condition: bool, device: torch.device, lower: Tensor | None = None) -> bool:
    """Whether the condition holds on every rank.

    An update averages gradients over all ranks, so it must run on all of them or on none.

    Args:
        condition: this rank's answer.
        device: device of the message.
        lower: a tensor to replace, in place, by its minimum over all ranks, in the same message.
    """
    if not _is_distributed():
        return condition
    smallest = torch.tensor([float(condition)], device=device, dtype=torch.float32)
    if lower is not None:
        smallest = torch.cat([smallest, lower.flatten()])
    dist.all_reduce(smallest, dist.ReduceOp.MIN)
    if lower is not None:
        lower.copy_(smallest[1:].view_as(lower))
    return bool(smallest[0])


def on_all_ranks(
    compute: Callable[[], T], device: torch.device, lower: Tensor | None = None
) -> T | None:
    """Return what `compute` returns, or None if it has failed on another rank.

    Args:
        compute: what may fail, as a call of the caller's model may. Its error is raised.
        device, lower: see `all_agree`.
    """
    try:
        result = compute()
    except Exception:
        all_agree(False, device, lower)
        raise
    return result if all_agree(True, device, lower) else None
