"""2.5D targets of MotionBERT and its successors: image position and depth, all in screen units.

(u, v) is the perspective projection of a joint, d = (Z - Z_root) f / Z_root. The targets determine
a pose up to the root's depth, which is chosen such that the trunk has an average length. It cancels
when the pose is converted back.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry.bones import gather, lengths, pose_to_bones
from ..geometry.skeleton import Skeleton

__all__ = ["from_image", "relative_from_image", "to_image"]

TRUNK = 0.48  # metres from pelvis to thorax


def from_image(uvd: Tensor, camera: Tensor, skeleton: Skeleton) -> Tensor:
    """Absolute poses (B, T, J, 3), camera frame, metres, from image space; ignores distortion."""
    pose = _at_unit_depth(uvd, camera)
    bones = lengths(pose_to_bones(pose, skeleton))
    measured = (
        gather(bones[..., None], skeleton.trunk).sum((-1, -2)) if skeleton.trunk else bones.mean(-1)
    )
    return pose * (TRUNK / measured.clamp_min(1e-6))[..., None, None]


def relative_from_image(uvd: Tensor, root: Tensor, camera: Tensor, skeleton: Skeleton) -> Tensor:
    """Root-relative metres from a prediction (B, T, J, 3) for a person at `root` (B, T, 3)."""
    at = root[:, :, None]
    placed = uvd - uvd[:, :, skeleton.root, None] + to_image(at, camera, root=0)
    return _at_unit_depth(placed, camera) * at[..., 2:] - at


def _at_unit_depth(uvd: Tensor, camera: Tensor) -> Tensor:
    """Absolute poses in the camera frame, in units of the root's depth."""
    f, c = camera[:, None, None, :2], camera[:, None, None, 2:4]
    depth = 1 + uvd[..., 2:] / f[..., :1]
    return torch.cat([(uvd[..., :2] - c) / f * depth, depth], -1)


def to_image(pose_3d: Tensor, camera: Tensor, root: int) -> Tensor:
    """Image space from absolute poses (B, T, J, 3), metres.

    Args:
        root: the joint that depths are relative to.
    """
    f, c = camera[:, None, None, :2], camera[:, None, None, 2:4]
    z = pose_3d[..., 2:]
    z_root = z[:, :, root, None]
    return torch.cat([f * pose_3d[..., :2] / z + c, (z - z_root) * f[..., :1] / z_root], -1)
