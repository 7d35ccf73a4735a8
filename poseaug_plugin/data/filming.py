"""Filming of synthetic bodies of any skeleton, with cameras placed anywhere.

World frame: metres, z up. Camera frame: metres, x right, y down, z forward. Angles are in degrees.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .h36m_cameras import StudioCamera, project

__all__ = ["Views", "film", "look_at", "rotation"]

Floats = NDArray[np.float64]
NEAREST = 0.05  # metres; smallest depth of a joint in a frame that is kept


@dataclass(frozen=True)
class Views:
    """N pairs of a 2D and a 3D pose, of any skeleton.

    Attributes:
        pose_3d: (N, J, 3) float32, camera frame, metres, absolute.
        pose_2d: (N, J, 2) float32, normalised screen units.
        camera: (N, 9) float32, fx fy cx cy k1 k2 k3 p1 p2 in screen units.
    """

    pose_3d: Tensor
    pose_2d: Tensor
    camera: Tensor

    def __len__(self) -> int:
        return len(self.pose_3d)

    def __getitem__(self, rows: Tensor | slice) -> Views:
        """Select rows."""
        return Views(self.pose_3d[rows], self.pose_2d[rows], self.camera[rows])

    @staticmethod
    def join(parts: Iterable[Views]) -> Views:
        """Concatenate."""
        return Views(*(torch.cat(fields) for fields in zip(*map(_fields, parts))))


def _fields(views: Views) -> tuple[Tensor, Tensor, Tensor]:
    return views.pose_3d, views.pose_2d, views.camera


def film(world: ArrayLike, camera: StudioCamera, height: float = 1.0) -> Views:
    """Project world poses (T, J, 3), and keep the frames with all joints in the image.

    Args:
        height: half height of the image, h / w; the half width is 1.
    """
    pose_3d = camera.to_camera(world)
    pose_2d = project(pose_3d, camera.intrinsics)
    inside = (np.abs(pose_2d) <= (1, height)).all(axis=(1, 2))
    seen = inside & (pose_3d[..., 2].min(axis=1) > NEAREST)
    intrinsics = np.repeat(camera.intrinsics[None], seen.sum(), axis=0)
    return Views(
        *(
            torch.from_numpy(x.astype(np.float32))
            for x in (pose_3d[seen], pose_2d[seen], intrinsics)
        )
    )


def look_at(
    position: ArrayLike,
    target: ArrayLike,
    focal: float,
    off: ArrayLike = (0.0, 0.0, 0.0),
) -> StudioCamera:
    """Return a camera without distortion.

    Args:
        position: (3,), where it stands.
        target: (3,), what it looks at. Not straight above or below it.
        focal: focal length in screen units.
        off: yaw, pitch and roll by which it then turns away.
    """
    position, forward = np.asarray(position), np.subtract(target, position)
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(forward, right), forward], axis=1)
    for axis, angle in zip("yxz", np.asarray(off)):
        axes = axes @ rotation(axis, angle)
    return StudioCamera(axes, position, np.array([focal, focal, 0, 0, 0, 0, 0, 0, 0]))


def rotation(axis: str, degrees: ArrayLike) -> Floats:
    """Return right-handed rotations (..., 3, 3) about one axis."""
    angle = np.deg2rad(np.asarray(degrees, dtype=np.float64))
    i, j, k = {"x": (1, 2, 0), "y": (2, 0, 1), "z": (0, 1, 2)}[axis]
    matrix = np.zeros((*angle.shape, 3, 3))
    matrix[..., k, k] = 1
    matrix[..., i, i] = matrix[..., j, j] = np.cos(angle)
    matrix[..., j, i] = np.sin(angle)
    matrix[..., i, j] = -matrix[..., j, i]
    return matrix
