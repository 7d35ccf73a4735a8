"""Layers of N networks of the same shape, run as one batched product on (N, B, features)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry.constants import identity
from ..loop.distributed import average

__all__ = ["Centring", "ParallelLinear", "ParallelNorm", "Whitening", "leaky"]

MOMENTUM = 0.1  # of running means, as in torch's BatchNorm
LITTLE = 1e-8  # variance of numbers that are taken to be equal


class ParallelLinear(nn.Module):
    """N linear layers: (N, B, inputs) to (N, B, outputs).

    As in the released code, the initial weights are Kaiming-normal. They come from a generator, so
    the global random stream is not used.

    Args:
        nets: number of layers, N.
        inputs, outputs: number of features.
        generator: draws the initial weights; its device is that of the layers.
        fan_in: the number of inputs of each layer that are not padding. Default: all.
        zero: start with zero weights, and therefore zero outputs.
    """

    def __init__(
        self,
        nets: int,
        inputs: int,
        outputs: int,
        generator: torch.Generator,
        *,
        fan_in: list[int] | None = None,
        zero: bool = False,
    ) -> None:
        super().__init__()
        # Explicit, because the caller may have changed the default dtype and device.
        options: Any = {"dtype": torch.float32, "device": generator.device}
        widths = torch.tensor(fan_in or [inputs] * nets, **options).view(nets, 1, 1)
        weight = torch.zeros(nets, inputs, outputs, **options)
        bias = torch.zeros(nets, 1, outputs, **options)
        if not zero:
            weight = weight.normal_(generator=generator) * (2 / widths).sqrt()
            bias = (bias.uniform_(generator=generator) * 2 - 1) / widths.sqrt()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class ParallelNorm(nn.Module):
    """N batch normalisations of (N, B, features), always with the statistics of the batch.

    The augmentor of the released code is always in training mode, so running statistics would
    never be used. The output for a batch of one row is the bias.

    Args:
        nets: number of normalisations, N.
        features: number of features.
    """

    def __init__(self, nets: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(nets, 1, features, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(nets, 1, features, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        # Not torch.var_mean, whose kernel is ten times slower along this dimension on a CPU.
        centred = x - x.mean(1, keepdim=True)
        scale = self.weight * (centred.square().mean(1, keepdim=True) + 1e-5).rsqrt()
        return torch.addcmul(self.bias, centred, scale)


class Centring(nn.Module):
    """Removes the mean over rows of (B, features), and keeps numbers in -1 to 1 there.

    In training mode it is the mean of the batch on all ranks, in evaluation mode a running mean, so
    that the output of a row does not depend on the other rows.

    Source: mean-only batch normalisation, Salimans and Kingma, "Weight Normalization" (NeurIPS
    2016), section 4.

    Args:
        features: number of features.
    """

    mean: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        mean = self.mean
        if self.training:
            mean = _mean_over_ranks(x.mean(0))
            self.mean.lerp_(mean.detach(), MOMENTUM)
        return (x - mean) / (1 + mean.abs())


class Whitening(nn.Module):
    """Gives vectors (B, N * D), whose mean over rows is 0, the same variance in every direction.

    The variance is the mean of those of the D components, so that the size of the vectors stays. A
    direction in which they hardly differ is enlarged at most 4 times. In training mode the
    covariance is that of the batch on all ranks, in evaluation mode a running one.

    Source: Huang et al., "Decorrelated Batch Normalization" (CVPR 2018), with Cholesky factors.

    Args:
        vectors: number of vectors in each row, N. Each has a covariance of its own.
        size: number of components of a vector, D.
    """

    RIDGE = 0.05  # added to the covariance, relative to the mean variance

    covariance: Tensor  # (N, D, D)

    def __init__(self, vectors: int, size: int) -> None:
        super().__init__()
        self.shape = vectors, size
        # So small that the covariance of the first batch counts more.
        start = LITTLE * torch.eye(size, dtype=torch.float32)
        self.register_buffer("covariance", start.repeat(vectors, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        vectors, covariance = x.unflatten(1, self.shape).permute(1, 2, 0), self.covariance
        if self.training:
            covariance = _mean_over_ranks(vectors @ vectors.mT / len(x))
            self.covariance.lerp_(covariance.detach(), MOMENTUM)
        variance = covariance.diagonal(dim1=1, dim2=2).mean(1).clamp_min(LITTLE)[:, None, None]
        ridge = self.RIDGE * identity(self.shape[1], x.dtype, x.device)
        # Not `cholesky`, which waits for the device.
        factor, _ = torch.linalg.cholesky_ex((covariance / variance + ridge) / (1 + self.RIDGE))
        white = torch.linalg.solve_triangular(factor, vectors, upper=False)
        return white.permute(2, 0, 1).flatten(1)


class _MeanOverRanks(torch.autograd.Function):
    """The mean of a tensor over all ranks; its gradient is the mean of their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        mean = x.clone()
        average([mean])
        return mean

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone()
        average([grad])
        return grad


def _mean_over_ranks(x: Tensor) -> Tensor:
    mean: Tensor = _MeanOverRanks.apply(x)  # type: ignore[no-untyped-call]
    return mean


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU with the slope of the released code, 0.01."""
    return F.leaky_relu(x, 0.01)
