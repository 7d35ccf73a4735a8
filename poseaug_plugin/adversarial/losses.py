"""Least-squares GAN losses, range penalties, and position errors. Pure functions.

Source: LSGAN (Mao et al., ICCV 2017); regularisation of PoseAug (CVPR 2021) and of its code.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "lsgan_discriminator",
    "lsgan_generator",
    "outside_band",
    "past_limit",
    "squared_error",
    "threshold_penalty",
]


def lsgan_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """1/2 E[(D(real) - 1)^2] + 1/2 E[D(fake)^2], over every score."""
    return 0.5 * ((real - 1).square().mean() + fake.square().mean())


def lsgan_generator(fake: Tensor) -> Tensor:
    """1/2 E[(D(fake) - 1)^2], over every score."""
    return 0.5 * (fake - 1).square().mean()


def threshold_penalty(gamma: Tensor, threshold: float) -> Tensor:
    """The paper's L_reg: 0 where a row's mean |gamma| is below the threshold, else its 2-norm.

    Args:
        gamma: (B, ...) parameters of each row.

    Returns:
        The mean over rows, a scalar.
    """
    rows = gamma.flatten(1)
    norm = torch.linalg.vector_norm(rows, dim=1)
    return torch.where(rows.abs().mean(1) < threshold, 0.0, norm).mean()


def outside_band(value: Tensor, target: float, band: float) -> Tensor:
    """The released penalty: mean of (value - target)^2, zero where |value - target| <= band."""
    squared = (value - target).square()
    return torch.where(squared > band**2, squared, 0.0).mean()


def past_limit(gamma: Tensor, limit: float) -> Tensor:
    """The released penalty on lengths: mean of gamma^2, zero where |gamma| <= limit."""
    return outside_band(gamma, 0.0, limit)


def squared_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared joint distance of each row: (B, ..., J, 3) to (B,), square metres."""
    return (predicted - target).square().sum(-1).flatten(1).mean(1)
