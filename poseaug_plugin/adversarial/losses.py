"""Losses of the augmentor and the discriminators: least-squares GAN losses and range penalties.

Source: LSGAN (Mao et al., ICCV 2017); regularisation of PoseAug (CVPR 2021) and its released code.
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
    """Return 1/2 E[(D(real) - 1)^2] + 1/2 E[D(fake)^2], a scalar, from scores of any shape.

    >>> lsgan_discriminator(real=torch.ones(4), fake=torch.ones(4))  # it takes all for real
    tensor(0.5000)
    """
    return 0.5 * ((real - 1).square().mean() + fake.square().mean())


def lsgan_generator(fake: Tensor) -> Tensor:
    """Return 1/2 E[(D(fake) - 1)^2], a scalar, from scores of any shape.

    >>> lsgan_generator(fake=torch.ones(4))  # the discriminator is fooled
    tensor(0.)
    """
    return 0.5 * (fake - 1).square().mean()


def threshold_penalty(gamma: Tensor, threshold: float) -> Tensor:
    """Return the L_reg of the paper, a scalar.

    It is the mean over rows of the 2-norm of gamma, or of 0 where the mean of |gamma| in the row is
    below the threshold.

    Args:
        gamma: (B, ...), the parameters of each row.
        threshold: largest mean of |gamma| that costs nothing.
    """
    rows = gamma.flatten(1)
    norm = torch.linalg.vector_norm(rows, dim=1)
    return torch.where(rows.abs().mean(1) < threshold, 0.0, norm).mean()


def outside_band(value: Tensor, target: float, band: float) -> Tensor:
    """Return the penalty of the released code, a scalar.

    It is the mean of (value - target)^2, or of 0 where |value - target| <= band.

    >>> outside_band(torch.tensor([3.0, 5.0]), target=2.0, band=1.0)
    tensor(4.5000)
    """
    squared = (value - target).square()
    return torch.where(squared > band**2, squared, 0.0).mean()


def past_limit(gamma: Tensor, limit: float) -> Tensor:
    """Return the mean of gamma^2, or of 0 where |gamma| <= limit; a scalar.

    It is the penalty of the released code on changes of bone lengths.
    """
    return outside_band(gamma, 0.0, limit)


def squared_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared joint error of each row: (B, ..., J, 3) to (B,), square metres."""
    return (predicted - target).square().sum(-1).flatten(1).mean(1)
