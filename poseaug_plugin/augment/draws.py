"""Random numbers from the plugin's own generators.

They are float32 on the device of the generator, whatever the default dtype and device are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry.constants import constant

__all__ = ["normal", "uniform", "weighted"]

_RESOLUTION = 1 << 24  # integer weight of the most likely row; the least likely ones have 1


def uniform(generator: torch.Generator, *shape: int, high: float = 1.0) -> Tensor:
    """Return uniform random numbers in 0 to `high`."""
    numbers = torch.empty(shape, device=generator.device, dtype=torch.float32)
    return numbers.uniform_(0.0, high, generator=generator)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Return normal random numbers with mean 0 and standard deviation 1."""
    numbers = torch.empty(shape, device=generator.device, dtype=torch.float32)
    return numbers.normal_(generator=generator)


def weighted(generator: torch.Generator, weight: Tensor, count: int) -> Tensor:
    """Draw `count` indices with replacement, with probabilities proportional to weights.

    Unlike `torch.multinomial`, it uses integers and is therefore deterministic on every device.

    Args:
        generator: on the device of the weights.
        weight: (N,). One that is not finite counts as 0. If all are 0, all indices are equally
            likely.
        count: number of indices.

    Returns:
        (count,) int64.
    """
    weight = weight.nan_to_num(0.0, 0.0, 0.0)
    relative = weight / weight.amax().clamp_min(torch.finfo(weight.dtype).tiny)
    one = constant((1.0,), weight.dtype, weight.device)
    cumulative = torch.add(one, relative, alpha=_RESOLUTION).to(torch.int64).cumsum(0)
    target = (uniform(generator, count) * cumulative[-1]).to(torch.int64)
    return torch.searchsorted(cumulative, target, right=True).clamp_max(len(weight) - 1)
