"""The three differentiable operators of PoseAug, and one of ours: pure functions of a pose.

Poses are (..., J, 3), camera frame, metres; parameters broadcast over leading dimensions, so one
gamma or one (R, t) of shape (B, 1, ...) moves every frame of a clip alike.
Source: PoseAug (CVPR 2021) section 3.2, equations for BA, BL and RT.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from .bones import EPS, body_axes, bones_to_pose, gather, lengths, pose_to_bones, unit
from .skeleton import Skeleton

__all__ = ["axis_angle_to_matrix", "bend", "move", "root_relative", "shift", "stretch", "turned"]


def root_relative(pose_3d: Tensor, skeleton: Skeleton) -> tuple[Tensor, Tensor]:
    """The pose (..., J, 3) with its root at the origin, and the root (..., 1, 3)."""
    root = pose_3d[..., skeleton.root : skeleton.root + 1, :]
    return pose_3d - root, root


def bend(pose_3d: Tensor, gamma_ba: Tensor, skeleton: Skeleton) -> Tensor:
    """Bone angles: unit bones plus `gamma_ba` (..., K, 3), made unit again; lengths and root kept.

    Where bone and gamma cancel there is no direction: the bone stays as it was. The paper's
    equation leaves out the normalisation; without it BA would change lengths as well.
    """
    relative, root = root_relative(pose_3d, skeleton)
    bones = pose_to_bones(relative, skeleton)
    direction = unit(bones)
    bent = direction + gamma_ba
    gone = lengths(bent.detach()) < EPS
    bent = torch.where(gone[..., None], direction, bent)
    return bones_to_pose(unit(bent) * lengths(bones)[..., None], skeleton) + root


def stretch(pose_3d: Tensor, gamma_bl: Tensor, skeleton: Skeleton) -> Tensor:
    """Bone lengths: bone k times 1 + gamma_bl[..., k]; angles and root kept.

    Args:
        gamma_bl: (..., K) per bone, or (..., G) per mirror group (left and right share a ratio).
    """
    if gamma_bl.shape[-1] != skeleton.num_bones:
        gamma_bl = gather(gamma_bl[..., None], skeleton.mirror_group)[..., 0]
    relative, root = root_relative(pose_3d, skeleton)
    bones = pose_to_bones(relative, skeleton)
    return bones_to_pose(bones * (1 + gamma_bl)[..., None], skeleton) + root


def shift(pose_3d: Tensor, offset: Tensor, skeleton: Skeleton) -> Tensor:
    """Definition: each joint moved by `offset` (..., J, 3), metres, along the body's own axes.

    What one data set calls a hip lies centimetres from what another does. The body stays as it is;
    the joint that moves takes no other along. Ours, not PoseAug's.
    """
    axes = body_axes(unit(pose_to_bones(pose_3d, skeleton)), skeleton)
    return pose_3d + offset @ axes.mT


def move(pose_3d: Tensor, R: Tensor, t: Tensor, skeleton: Skeleton) -> Tensor:
    """View and position: R (..., 3, 3) turns the pose about its root, t (..., 3) replaces it."""
    relative, _ = root_relative(pose_3d, skeleton)
    return relative @ R.transpose(-1, -2) + t[..., None, :]


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Rotation vectors (..., 3), radians, to matrices (..., 3, 3): Rodrigues' formula.

    Below 1e-3 rad the two coefficients are their Taylor series, whose gradient is finite at 0.
    """
    squared = (axis_angle * axis_angle).sum(-1)
    small = squared < 1e-6
    safe = torch.where(small, torch.ones_like(squared), squared)  # keeps sqrt's gradient finite
    angle = safe.sqrt()
    a = torch.where(small, 1 - squared / 6, angle.sin() / angle)
    b = torch.where(small, 0.5 - squared / 24, (1 - angle.cos()) / safe)
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    cross = rearrange(
        torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1), "... (a b) -> ... a b", a=3
    )
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return identity + a[..., None, None] * cross + b[..., None, None] * (cross @ cross)


def turned(vector: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Vectors (..., 3) turned as the smallest rotation takes unit vectors `start` to `end`.

    Between opposite directions there is no smallest one: the answer is a mirror image.
    """
    half = unit(start + end)
    along_half = (half * vector).sum(-1, keepdim=True)
    along_start = (start * vector).sum(-1, keepdim=True)
    return vector + 2 * (along_start * end - along_half * half)
