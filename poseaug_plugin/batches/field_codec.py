"""One pose field of a batch: from the caller's numbers to ours and back, step by step.

shape -> mean and standard deviation -> unit or pixels -> which joints are there
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .layout import Layout

__all__ = ["Codec"]


@dataclass(frozen=True)
class Codec:
    """How a field holds poses.

    Args:
        layout: its shape.
        joints: the skeleton's joints that it holds, in its own order.
        total: joints of the skeleton.
        stat: (mean, std), each (J * C,) or (J, C), that the caller normalised with; or None.
        scale, offset: ours = theirs * scale + offset, after the statistics; metres per unit, or
            2 / w and -(1, h / w) for pixels.
    """

    layout: Layout
    joints: tuple[int, ...]
    total: int
    channels: int
    stat: tuple[Tensor, Tensor] | None = None
    scale: float = 1.0
    offset: tuple[float, ...] = (0.0,)

    def decode(self, field: Tensor) -> tuple[Tensor, Tensor]:
        """A field to poses (B, T, J, C), joints it lacks at zero, and its further channels."""
        x = self.layout.canonical(field)
        x, extra = x[..., : self.channels], x[..., self.channels :]
        if self.stat is not None:
            mean, std = self._stat(x)
            x = x * std + mean
        if self._rescales:
            x = x * self.scale + x.new_tensor(self.offset)
        if self._has_all:
            return x, extra
        whole = x.new_zeros(*x.shape[:2], self.total, self.channels)
        whole[:, :, list(self.joints)] = x
        return whole, extra

    def encode(self, pose: Tensor, extra: Tensor | None = None) -> Tensor:
        """Poses (B, T, J, C) to the field; differentiable."""
        x = pose
        if not self._has_all:
            x = x[:, :, list(self.joints)]
        if self._rescales:
            x = (x - x.new_tensor(self.offset)) / self.scale
        if self.stat is not None:
            mean, std = self._stat(x)
            x = (x - mean) / std
        if extra is not None and extra.shape[-1]:
            x = torch.cat([x, extra], -1)
        return self.layout.shaped(x)

    @property
    def _has_all(self) -> bool:
        return self.joints == tuple(range(self.total))

    @property
    def _rescales(self) -> bool:
        return self.scale != 1 or any(self.offset)

    def _stat(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = self.stat or (like, like)
        shape = (len(self.joints), self.channels)
        return mean.to(like).view(shape), std.to(like).view(shape)
