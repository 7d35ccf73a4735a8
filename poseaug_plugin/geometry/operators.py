"""The three differentiable operators of PoseAug, and one of ours: pure functions of a pose.

Poses are (..., J, 3), camera frame, metres; parameters broadcast over leading dimensions, so one
gamma or one (R, t) of shape (B, 1, ...) moves every frame of a clip alike.
Source: PoseAug (CVPR 2021) section 3.2, equations for BA, BL and RT.
"""

from __future__ import annotations

import functools

import torch
from einops import rearrange
from torch import Tensor

from .bones import Bones, unit
from .constants import constant, identity, index_tensor
from .skeleton import Skeleton

__all__ = [
    "axis_angle_to_matrix",
    "bend",
    "euler_to_matrix",
    "mirrored",
    "move",
    "root_relative",
    "rotate_between",
    "shift",
    "shift_along",
    "stretch",
]


def root_relative(pose_3d: Tensor, skeleton: Skeleton) -> tuple[Tensor, Tensor]:
    """The pose (..., J, 3) with its root at the origin, and the root (..., 1, 3)."""
    root = pose_3d[..., skeleton.root : skeleton.root + 1, :]
    return pose_3d - root, root


def bend(pose_3d: Tensor, gamma_ba: Tensor, skeleton: Skeleton) -> Tensor:
    """Bone angles: unit bones plus `gamma_ba` (..., K, 3), made unit again; lengths and root kept.

    Where bone and gamma cancel there is no direction: the bone stays as it was. The paper's
    equation leaves out the normalisation; without it BA would change lengths as well.
    """
    _, root = root_relative(pose_3d, skeleton)
    return Bones.of(pose_3d, skeleton).bend(gamma_ba).pose_3d + root


def stretch(pose_3d: Tensor, gamma_bl: Tensor, skeleton: Skeleton) -> Tensor:
    """Bone lengths: bone k times 1 + gamma_bl[..., k]; angles and root kept.

    Args:
        gamma_bl: (..., K) per bone, or (..., G) per mirror group (left and right share a ratio).
    """
    _, root = root_relative(pose_3d, skeleton)
    return Bones.of(pose_3d, skeleton).stretch(gamma_bl).pose_3d + root


def shift(pose_3d: Tensor, offset: Tensor, skeleton: Skeleton) -> Tensor:
    """Definition: each joint moved by `offset` (..., J, 3), metres, along the body's own axes.

    What one data set calls a hip lies centimetres from what another does. The body stays as it is;
    the joint that moves takes no other along. Ours, not PoseAug's.
    """
    return shift_along(pose_3d, offset, Bones.of(pose_3d, skeleton).axes)


def shift_along(pose_3d: Tensor, offset: Tensor, axes: Tensor) -> Tensor:
    """The same along given axes (..., 3, 3), their columns."""
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
    eye = identity(3, axis_angle.dtype, axis_angle.device)
    return eye + a[..., None, None] * cross + b[..., None, None] * (cross @ cross)


#: Entries of the rotations about y, x and z among cosines, sines, negative sines (of three angles
#: each), 0 and 1.
_ABOUT_YXZ = (
    *(0, 9, 3, 9, 10, 9, 6, 9, 0),
    *(10, 9, 9, 9, 1, 7, 9, 4, 1),
    *(2, 8, 9, 5, 2, 9, 9, 9, 10),
)


def euler_to_matrix(angles: Tensor) -> Tensor:
    """Rotations (B, 3, 3) about y, then x, then z by angles (B, 3) in that order, radians."""
    cos, sin = angles.cos(), angles.sin()
    fixed = constant((0.0, 1.0), angles.dtype, angles.device).expand(len(angles), 2)
    entries = torch.cat([cos, sin, -sin, fixed], -1)
    entries = entries.index_select(-1, index_tensor(_ABOUT_YXZ, angles.device))
    about_y, about_x, about_z = entries.view(-1, 3, 3, 3).unbind(1)
    return about_z @ about_x @ about_y


def rotate_between(vector: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Vectors (..., 3) turned as the smallest rotation takes unit vectors `start` to `end`.

    Between opposite directions there is no smallest one: the answer is a mirror image.
    """
    half = unit(start + end)
    along_half = (half * vector).sum(-1, keepdim=True)
    along_start = (start * vector).sum(-1, keepdim=True)
    return vector + 2 * (along_start * end - along_half * half)


def mirrored(offset: Tensor, skeleton: Skeleton) -> Tensor:
    """Offsets (..., J, 3) along a body's axes made symmetric: right joints take their left twin's
    offset, mirrored; joints of neither side have none sideways, the root none at all.
    """
    sources, signs = _mirror(skeleton, offset.device)
    return signs.to(offset) * offset[..., sources, :]


@functools.lru_cache(maxsize=64)
def _mirror(skeleton: Skeleton, device: torch.device) -> tuple[Tensor, Tensor]:
    """Whose offset each joint takes (J,), and the factors (J, 3) on it."""
    sources = torch.arange(skeleton.num_joints)
    signs = torch.ones(skeleton.num_joints, 3, dtype=torch.float32)
    left, right = list(skeleton.left), list(skeleton.right)
    sources[right] = sources[left]
    signs[:, 0] = 0
    signs[left, 0], signs[right, 0] = 1, -1
    signs[skeleton.root] = 0
    return sources.to(device), signs.to(device)
