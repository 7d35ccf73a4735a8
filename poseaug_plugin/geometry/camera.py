"""Camera projection and what follows from it: frame checks, zoom and recovery of the root.

Intrinsics are (..., 9) = fx fy cx cy k1 k2 k3 p1 p2 in normalised screen units, as in VideoPose3D,
SemGCN and PoseAug: focal lengths are pixels * 2 / w, the centre is x / w * 2 - 1 and
y / w * 2 - h / w. Poses are (..., J, 3) in metres in the camera frame: x right, y down, z away.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from .constants import constant

__all__ = ["Camera", "fit_root", "in_frame", "project", "undistort", "zoom"]

#: Sizes of f, c, k1, k2, k3 and p.
_PARTS = 2, 2, 1, 1, 1, 2

#: Exponent of the zoom factor by which each of the nine intrinsics is multiplied, see `zoom`.
_ZOOM_EXPONENTS = 1.0, 1.0, 0.0, 0.0, 2.0, 4.0, 6.0, 1.0, 1.0


@dataclass(frozen=True)
class Camera:
    """A constant camera, for data whose batches have no camera.

    Args:
        f: focal lengths in normalised screen units. The default is the average of Human3.6M.
        c: image centre in normalised screen units.
        k: coefficients of the radial distortion.
        p: coefficients of the tangential distortion.
        height: half height of the image, h / w; the half width is 1.

    Raises:
        ConfigError: an argument has the wrong number of values or one that is not finite, `f` is
            outside 0.1 to 20, or `height` is not above 0.
    """

    f: tuple[float, float] = (2.29, 2.29)
    c: tuple[float, float] = (0.0, 0.0)
    k: tuple[float, float, float] = (0.0, 0.0, 0.0)
    p: tuple[float, float] = (0.0, 0.0)
    height: float = 1.0

    def __post_init__(self) -> None:
        for name, count in (("f", 2), ("c", 2), ("k", 3), ("p", 2)):
            object.__setattr__(self, name, _values(name, getattr(self, name), count))
        if not all(0.1 < f < 20 for f in self.f):
            raise ConfigError(
                f"Camera f={self.f} is not in normalised screen units, in which it is between 0.1 "
                "and 20; convert pixels with Camera.from_pixels(f, c, w, h)."
            )
        if not 0 < self.height < math.inf:
            raise ConfigError(
                f"Camera height={self.height} is not the half height of an image; pass h / w, "
                "which is above 0."
            )

    @classmethod
    def from_pixels(
        cls,
        f: Sequence[float],
        c: Sequence[float],
        w: float,
        h: float,
        k: Sequence[float] = (0.0, 0.0, 0.0),
        p: Sequence[float] = (0.0, 0.0),
    ) -> Camera:
        """Return a camera from values in pixels.

        Args:
            f: focal lengths, pixels.
            c: image centre, pixels.
            w, h: width and height of the image, pixels.
            k: coefficients of the radial distortion, k1 k2 k3.
            p: coefficients of the tangential distortion, p1 p2. OpenCV's vector is k1 k2 p1 p2 k3.

        Raises:
            ConfigError: an argument has the wrong number of values, as in `Camera`.

        >>> Camera.from_pixels(f=(1145, 1145), c=(500, 500), w=1000, h=1000).f
        (2.29, 2.29)
        """
        (fx, fy), (cx, cy) = _values("f", f, 2), _values("c", c, 2)
        (k1, k2, k3), (p1, p2) = _values("k", k, 3), _values("p", p, 2)
        centre = (cx / w * 2 - 1, cy / w * 2 - h / w)
        return cls((2 * fx / w, 2 * fy / w), centre, (k1, k2, k3), (p1, p2), h / w)

    @property
    def intrinsics(self) -> Tensor:
        """The nine intrinsics (9,), float32."""
        return self.intrinsics_on(torch.device("cpu")).clone()

    def intrinsics_on(self, device: torch.device) -> Tensor:
        """The nine intrinsics (9,), float32, cached. Do not modify them in place."""
        return constant((*self.f, *self.c, *self.k, *self.p), torch.float32, device)


def _values(name: str, given: Any, count: int) -> tuple[float, ...]:
    """Check an argument of `Camera`, and return it as numbers.

    Raises:
        ConfigError: it has another number of values, or one that is not finite.
    """
    try:
        values = tuple(float(v) for v in np.atleast_1d(given))
    except (TypeError, ValueError):
        raise ConfigError(f"Camera {name}={given!r} must be {count} numbers.") from None
    if len(values) != count:
        raise ConfigError(
            f"Camera {name}={values} has the wrong number of values: {len(values)}, expected "
            f"{count}." + " OpenCV's vector is k1 k2 p1 p2 k3." * (name == "k" and len(values) == 5)
        )
    if not all(math.isfinite(v) for v in values):
        raise ConfigError(f"Camera {name}={values} has values that are not finite.")
    return values


def project(
    pose_3d: Tensor, intrinsics: Tensor, *, floor: float = 1e-3, limit: float | None = None
) -> Tensor:
    """Project poses with perspective, radial distortion and tangential distortion.

    Source: `project_to_2d` of VideoPose3D, which follows the MATLAB code of Human3.6M.

    Args:
        pose_3d: (..., J, 3), camera frame, metres.
        intrinsics: (..., 9), broadcast over the joints and any further leading dimensions.
        floor: smallest depth in metres. A joint with a smaller depth is projected as if it had
            this one, so that the result is finite; `in_frame` rejects such a pair. `-math.inf`
            disables it.
        limit: clamp X / Z and Y / Z to [-limit, limit]; VideoPose3D uses 1. The default is no
            limit, because clamping gives a wrong 2D for joints far off the axis. It serves to
            bound the input of networks.

    Returns:
        (..., J, 2), normalised screen units.

    >>> project(torch.tensor([[1.0, -1.0, 4.0]]), Camera(f=(2, 2)).intrinsics)
    tensor([[ 0.5000, -0.5000]])
    """
    f, c, *distortion = intrinsics[..., None, :].split_with_sizes(_PARTS, -1)
    ray = pose_3d[..., :2] / pose_3d[..., 2:].clamp_min(floor)
    if limit is not None:
        ray = ray.clamp(-limit, limit)
    return torch.addcmul(c, f, _distort(ray, *distortion))


def _distort(ray: Tensor, k1: Tensor, k2: Tensor, k3: Tensor, p: Tensor) -> Tensor:
    """Return distorted rays: ray * (1 + k1 r^2 + k2 r^4 + k3 r^6 + p . ray) + p r^2."""
    # Sums over two coordinates are written out: they are three times faster on a CPU.
    (x, y), (p1, p2) = ray.split_with_sizes((1, 1), -1), p.split_with_sizes((1, 1), -1)
    r2 = torch.addcmul(x * x, y, y)
    factor = torch.addcmul(p1 * x, p2, y)  # the tangential part; below, the radial one
    factor = torch.addcmul(factor, r2, torch.addcmul(k1, r2, torch.addcmul(k2, r2, k3)))
    return torch.addcmul(torch.addcmul(ray, p, r2), ray, factor)


def undistort(pose_2d: Tensor, intrinsics: Tensor, steps: int = 10) -> Tensor:
    """Return the rays (X / Z, Y / Z) of image points, by fixed-point iteration.

    Args:
        pose_2d: (..., J, 2), normalised screen units.
        intrinsics: (..., 9).
        steps: number of iterations.

    Returns:
        (..., J, 2).
    """
    f, c, *distortion = intrinsics[..., None, :].split_with_sizes(_PARTS, -1)
    distorted = (pose_2d - c) / f
    ray = distorted
    for _ in range(steps):
        ray = ray - (_distort(ray, *distortion) - distorted)
    return ray


def in_frame(
    pose_3d: Tensor, pose_2d: Tensor, *, depth: float | Tensor, height: float = 1.0
) -> Tensor:
    """Return which pairs are finite, in front of the camera and inside the image.

    Args:
        pose_3d: (..., J, 3), camera frame, metres.
        pose_2d: (..., J, 2), its projection.
        depth: smallest depth allowed for a joint, a number or (), metres.
        height: half height of the image, h / w; the half width is 1.

    Returns:
        (...,) bool, True if all joints satisfy the conditions.

    >>> pose_3d = torch.tensor([[[0.0, 0, 4]], [[3.0, 0, 4]], [[0.0, 0, -4]]])  # 3 of one joint
    >>> in_frame(pose_3d, project(pose_3d, Camera().intrinsics), depth=0.5)
    tensor([ True, False, False])
    """
    coordinates = torch.cat([pose_2d, pose_3d], -1)
    low, high = _bounds(height, coordinates.dtype, coordinates.device)
    low = torch.cat([low, torch.as_tensor(depth, dtype=low.dtype, device=low.device).view(1)])
    outside = coordinates != coordinates.clamp(low, high)  # also True for NaN
    # Not `any`, which is ten times slower than a sum on a CPU.
    return outside.flatten(-2).sum(-1) == 0


@functools.lru_cache(maxsize=16)
def _bounds(height: float, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the smallest (x, y, X, Y) and the largest (x, y, X, Y, Z) of a joint in the frame."""
    largest = torch.finfo(dtype).max
    low = (-1.0, -height, -largest, -largest)
    high = (1.0, height, largest, largest, largest)
    return constant(low, dtype, device), constant(high, dtype, device)


def zoom(intrinsics: Tensor, factor: Tensor) -> Tensor:
    """Multiply the focal lengths by a factor.

    The lens distortion stays the same function of the image point, not of the ray. The coefficients
    of r^2, r^4, r^6 and of the tangential terms are therefore multiplied by powers of the factor.

    Args:
        intrinsics: (..., 9).
        factor: (...,).

    Returns:
        (..., 9).
    """
    exponents = constant(_ZOOM_EXPONENTS, intrinsics.dtype, intrinsics.device)
    return intrinsics * factor[..., None] ** exponents


def fit_root(pose_2d: Tensor, relative: Tensor, intrinsics: Tensor) -> Tensor:
    """Return the root position that best aligns a root-relative pose with its 2D.

    Each joint with ray (u, v) gives two equations that are linear in the translation t:
    X + tx = u (Z + tz) and Y + ty = v (Z + tz). The least-squares solution is in closed form. It is
    exact on exact data; with a guessed camera its error is 50 to 90 mm at a distance of 5 m.

    Args:
        pose_2d: (..., J, 2), normalised screen units.
        relative: (..., J, 3), root-relative pose, metres.
        intrinsics: (..., 9).

    Returns:
        (..., 3), metres.
    """
    ray = undistort(pose_2d, intrinsics)
    offset = ray * relative[..., 2:] - relative[..., :2]
    spread = ray - ray.mean(-2, keepdim=True)
    tz = -(spread * offset).sum((-1, -2)) / (spread * spread).sum((-1, -2)).clamp_min(1e-12)
    txy = offset.mean(-2) + tz[..., None] * ray.mean(-2)
    return torch.cat([txy, tz[..., None]], -1)
