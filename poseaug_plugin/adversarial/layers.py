"""N small networks of one shape, run as one batched product: (N, B, features) in and out."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ParallelLinear", "ParallelNorm"]


class ParallelLinear(nn.Module):
    """N linear layers: (N, B, inputs) to (N, B, outputs).

    Weights are Kaiming-normal as in the released code, from the plugin's own generator: building
    a network leaves the caller's random stream alone.

    Args:
        fan_in: true input widths where narrower networks are padded with zeros.
        zero: start at zero output.
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
        # Said, for a caller may have set other defaults.
        like: Any = {"dtype": torch.float32, "device": generator.device}
        widths = torch.tensor(fan_in or [inputs] * nets, **like).view(nets, 1, 1)
        weight = torch.zeros(nets, inputs, outputs, **like)
        bias = torch.zeros(nets, 1, outputs, **like)
        if not zero:
            weight = weight.normal_(generator=generator) * (2 / widths).sqrt()
            bias = (bias.uniform_(generator=generator) * 2 - 1) / widths.sqrt()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class ParallelNorm(nn.Module):
    """N batch normalisations over (N, B, features), always by the batch's own statistics.

    The released augmentor stays in training mode for good, so running statistics would never be
    read. A batch of one row gives the bias.
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


def leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.01)
