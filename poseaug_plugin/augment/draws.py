"""Random numbers of the plugin's own: float32 on the generator's device, whatever the defaults."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["normal", "uniform", "weighted"]

_RESOLUTION = 1 << 24  # of the largest weight; the smallest share is one part of it


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    """Even in 0 to 1."""
    return torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float32)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Gaussian, of mean 0 and deviation 1."""
    return torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float32)


def weighted(generator: torch.Generator, weight: Tensor, count: int) -> Tensor:
    """`count` indices of weights (N,), each as likely as its weight, of which none is infinite.

    In whole numbers: unlike `torch.multinomial` it is deterministic on every device, and a weight
    that is NaN counts as none. Where all are 0 all are alike.
    """
    share = (weight / weight.amax()).nan_to_num(0.0)  # 0 / 0 where all are 0
    ends = (share * _RESOLUTION + 1).to(torch.int64).cumsum(0)
    target = uniform(generator, count) * ends[-1]
    return torch.searchsorted(ends, target.to(torch.int64), right=True).clamp_max(len(weight) - 1)
