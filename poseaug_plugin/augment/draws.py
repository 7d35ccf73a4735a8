"""Random numbers of the plugin's own: float32 on the generator's device, whatever the defaults."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["normal", "uniform"]


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    """Even in 0 to 1."""
    return torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float32)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Gaussian, of mean 0 and deviation 1."""
    return torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float32)
