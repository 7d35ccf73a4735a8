"""Copies of several tensors between devices at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["copy_together"]


def copy_together(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Copy tensors of any dtypes to a device in one transfer; those that are there are returned.

    Each transfer between the CPU and a GPU makes the program wait, and a batch is small: it takes
    as long for all fields as for one. The copies share memory, and have no gradient.

    Args:
        tensors: on one device, apart from those that are on `device` already.
        device: the device of the results.
    """
    if all(tensor.device == device for tensor in tensors):
        return [*tensors]
    away = [i for i, tensor in enumerate(tensors) if tensor.device != device]
    if len(away) < 2 or len({tensors[i].device for i in away}) > 1:
        return [tensor.to(device) for tensor in tensors]
    # Wide dtypes first, so that each tensor starts at a multiple of its item size.
    away.sort(key=lambda i: -tensors[i].element_size())
    parts = [tensors[i].detach().flatten().view(torch.uint8) for i in away]
    copied = torch.cat(parts).to(device).split([len(part) for part in parts])
    together = list(tensors)
    for i, part in zip(away, copied):
        together[i] = part.view(tensors[i].dtype).view(tensors[i].shape)
    return together
