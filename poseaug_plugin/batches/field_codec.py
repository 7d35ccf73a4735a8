"""Converts one pose field of a batch to the plugin's form and back.

The steps are: shape, mean and standard deviation, unit or pixels, joints.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..geometry.bones import gather
from ..geometry.constants import constant, index_tensor
from .layout import Layout

__all__ = ["FieldCodec"]


@dataclass(frozen=True)
class FieldCodec:
    """How a field holds poses.

    Args:
        layout: the field's shape.
        joints: the skeleton's joints that the field holds, in the field's order.
        total: number of joints of the skeleton.
        channels: 2 or 3; further channels of the field are not part of the pose.
        stat: (mean, std), each (J * C,) or (J, C), that the field is standardised with, or None.
            Where std is 0 the value is the mean.
        scale, offset: after the statistics, pose = field * scale + offset. Metres per unit and 0,
            or for pixels 2 / w and -(1, h / w).
    """

    layout: Layout
    joints: tuple[int, ...]
    total: int
    channels: int
    stat: tuple[Tensor, Tensor] | None = None
    scale: float = 1.0
    offset: tuple[float, ...] = (0.0,)

    def decode(self, field: Tensor) -> tuple[Tensor, Tensor | None]:
        """Poses (B, T, J, C), zero for joints that the field lacks, and its further channels."""
        x, extra = self.layout.canonical(field), None
        if x.shape[-1] > self.channels:
            x, extra = x[..., : self.channels], self._all_joints(x[..., self.channels :])
        if self.stat is not None:
            mean, std = self._stat(x)
            x = torch.where(std > 0, x * std + mean, mean)
        if self._rescales:
            x = x * self.scale + constant(self.offset, x.dtype, x.device)
        return self._all_joints(x), extra

    def _all_joints(self, x: Tensor) -> Tensor:
        if self._has_all:
            return x
        whole = x.new_zeros(*x.shape[:2], self.total, x.shape[-1])
        return whole.index_copy_(2, index_tensor(self.joints, x.device), x)

    def encode(
        self, pose: Tensor, extra: Tensor | None = None, old: Tensor | None = None
    ) -> Tensor:
        """The field that holds poses (B, T, J, C); differentiable.

        Args:
            old: a field of the same shape. Dimensions whose standard deviation is 0, which hold no
                information, are copied from it; without it they are 0.
        """
        x = pose
        if not self._has_all:
            x = gather(x, self.joints)
        if self._rescales:
            x = (x - constant(self.offset, x.dtype, x.device)) / self.scale
        if self.stat is not None:
            mean, std = self._stat(x)
            unchanged = (
                0.0 if old is None else self.layout.canonical(old)[..., : self.channels].to(x)
            )
            x = torch.where(std > 0, (x - mean) / torch.where(std > 0, std, 1.0), unchanged)
        if extra is not None:
            x = torch.cat([x, extra if self._has_all else gather(extra, self.joints)], -1)
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
        mean, std = (_moved(x, shape, like.dtype, like.device) for x in (mean, std))
        return mean, std


@lru_cache(maxsize=64)
def _moved(
    values: Tensor, shape: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Statistics on a device, copied once: on a GPU a copy makes the program wait."""
    with torch.inference_mode(False):
        return values.to(device, dtype).view(shape)
