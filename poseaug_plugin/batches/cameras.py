"""Converts a batch's cameras to nine intrinsics in screen units, and back to what they were."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.constants import constant

__all__ = ["PIXEL_COORDINATE", "PIXEL_FOCAL", "as_given", "from_pixels", "intrinsics_of"]

# Larger numbers are in pixels. In screen units, images end at 1, and a 500 mm lens has f = 28.
PIXEL_COORDINATE = 10.0
PIXEL_FOCAL = 30.0


def intrinsics_of(camera: Tensor) -> Tensor:
    """(B, 9) from cameras (B, 9) or matrices (B, 3, 3), in the unit they are in."""
    if camera.ndim == 2:
        return camera
    focal = camera.diagonal(dim1=1, dim2=2)[:, :2]
    return F.pad(torch.cat([focal, camera[:, :2, 2]], -1), (0, 5))


def from_pixels(camera: Tensor, screen: tuple[float, float]) -> Tensor:
    """Intrinsics (B, 9) in screen units; those in pixels of a (w, h) image are converted."""
    scaled = camera[:, :4] * (2 / screen[0]) - _corner(camera, screen)
    pixels = camera[:, :1] > PIXEL_FOCAL
    return torch.cat([torch.where(pixels, scaled, camera[:, :4]), camera[:, 4:]], -1)


def as_given(camera: Tensor, old: Tensor, screen: tuple[float, float] | None) -> Tensor:
    """Intrinsics (B, 9), screen units, in the unit and shape of the batch's `old` cameras."""
    if screen is not None:
        pixels = (camera[:, :4] + _corner(camera, screen)) * (screen[0] / 2)
        were_pixels = intrinsics_of(old)[:, :1] > PIXEL_FOCAL
        camera = torch.cat([torch.where(were_pixels, pixels, camera[:, :4]), camera[:, 4:]], -1)
    if old.ndim == 2:
        return camera
    matrix = old.clone()
    matrix.diagonal(dim1=1, dim2=2)[:, :2] = camera[:, :2]
    matrix[:, :2, 2] = camera[:, 2:4]
    return matrix


def _corner(camera: Tensor, screen: tuple[float, float]) -> Tensor:
    """What moves f and c (4,) from the image's corner to its centre, in screen units."""
    w, h = screen
    return constant((0.0, 0.0, 1.0, h / w), camera.dtype, camera.device)
