"""The three differentiable operators of PoseAug (BA, BL, RT), joint offsets, and rotations.

Poses are (..., J, 3) in metres in the camera frame. Parameters broadcast over leading dimensions:
a gamma or an (R, t) of shape (B, 1, ...) applies to every frame of a clip.

These are functions of poses, for users, tests and benchmarks. The sampler applies BA and BL to
`Bones` (`Bones.bend`, `Bones.stretch`), and RT in `Augmentation.place`, to convert each pose once.

Source: PoseAug (CVPR 2021), section 3.2, the equations of BA, BL and RT.
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
    """Return the pose (..., J, 3) relative to its root, and the root (..., 1, 3)."""
    root = pose_3d[..., skeleton.root : skeleton.root + 1, :]
    return pose_3d - root, root


def bend(pose_3d: Tensor, gamma_ba: Tensor, skeleton: Skeleton) -> Tensor:
    """BA: change bone angles. Bone lengths and the root are kept.

    `gamma_ba` is added to the unit bones, and the sum is normalised. The equation in the paper
    has no normalisation; without it, BA would change the lengths too. A bone that `gamma_ba`
    cancels stays unchanged.

    Args:
        pose_3d: (..., J, 3).
        gamma_ba: (..., K, 3).

    >>> bone = Skeleton(parents=[-1, 0])
    >>> pose_3d = torch.tensor([[0.0, 0, 0], [0, 2, 0]])
    >>> bend(pose_3d, torch.tensor([[1.0, -1.0, 0.0]]), bone)
    tensor([[0., 0., 0.],
            [2., 0., 0.]])
    """
    _, root = root_relative(pose_3d, skeleton)
    return Bones.of(pose_3d, skeleton).bend(gamma_ba).pose_3d + root


def stretch(pose_3d: Tensor, gamma_bl: Tensor, skeleton: Skeleton) -> Tensor:
    """BL: multiply the length of bone k by 1 + gamma_bl[..., k]. Angles and the root are kept.

    Args:
        pose_3d: (..., J, 3).
        gamma_bl: (..., K), one per bone, or (..., G), one per mirror group, so that left and right
            keep the same ratio.

    >>> bone = Skeleton(parents=[-1, 0])
    >>> stretch(torch.tensor([[0.0, 0, 4], [0, 2, 4]]), torch.tensor([0.5]), bone)
    tensor([[0., 0., 4.],
            [0., 3., 4.]])
    """
    _, root = root_relative(pose_3d, skeleton)
    return Bones.of(pose_3d, skeleton).stretch(gamma_bl).pose_3d + root


def shift(pose_3d: Tensor, offset: Tensor, skeleton: Skeleton) -> Tensor:
    """Move each joint by an offset along the axes of the body frame.

    Data sets place a joint such as the hip at points that are centimetres apart. The offsets
    imitate this: a joint moves alone, and the joints below it stay. PoseAug has no such operator.

    Args:
        pose_3d: (..., J, 3).
        offset: (..., J, 3), metres.

    >>> bone = Skeleton(parents=[-1, 0])
    >>> pose_3d = torch.tensor([[0.0, 0, 4], [0, 1, 4]])
    >>> shift(pose_3d, torch.tensor([[0.0, 0, 0], [0.5, 0, 0]]), bone)
    tensor([[0.0000, 0.0000, 4.0000],
            [0.5000, 1.0000, 4.0000]])
    """
    return shift_along(pose_3d, offset, Bones.of(pose_3d, skeleton).axes)


def shift_along(pose_3d: Tensor, offset: Tensor, axes: Tensor) -> Tensor:
    """Move each joint by an offset along given axes, the columns of (..., 3, 3)."""
    return pose_3d + offset @ axes.mT


def move(pose_3d: Tensor, R: Tensor, t: Tensor, skeleton: Skeleton) -> Tensor:
    """RT: rotate the pose about its root by R, and place the root at t.

    Args:
        pose_3d: (..., J, 3).
        R: (..., 3, 3).
        t: (..., 3), metres.

    >>> bone = Skeleton(parents=[-1, 0])
    >>> R = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    >>> move(torch.tensor([[5.0, 5, 5], [6, 5, 5]]), R, torch.tensor([0.0, 0, 4]), bone)
    tensor([[0., 0., 4.],
            [0., 1., 4.]])
    """
    relative, _ = root_relative(pose_3d, skeleton)
    return relative @ R.transpose(-1, -2) + t[..., None, :]


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Convert rotation vectors (..., 3), radians, to matrices (..., 3, 3) by Rodrigues' formula.

    Below 1e-3 rad, Taylor series replace the two coefficients, so that the gradient at 0 is finite.
    """
    squared = (axis_angle * axis_angle).sum(-1)
    small = squared < 1e-6
    safe = torch.where(
        small, torch.ones_like(squared), squared
    )  # keeps the gradient of sqrt finite
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


#: The entries of the rotation matrices about y, x and z, row by row, as indices into
#: (cos y, cos x, cos z, sin y, sin x, sin z, -sin y, -sin x, -sin z, 0, 1).
_YXZ_ENTRIES = (
    *(0, 9, 3, 9, 10, 9, 6, 9, 0),
    *(10, 9, 9, 9, 1, 7, 9, 4, 1),
    *(2, 8, 9, 5, 2, 9, 9, 9, 10),
)


def euler_to_matrix(angles: Tensor) -> Tensor:
    """Convert angles (B, 3), radians, to rotations (B, 3, 3) about y, then x, then z."""
    cos, sin = angles.cos(), angles.sin()
    zero_one = constant((0.0, 1.0), angles.dtype, angles.device).expand(len(angles), 2)
    # One lookup in place of 27 assignments: on a GPU each operation has a fixed cost.
    values = torch.cat([cos, sin, -sin, zero_one], -1)
    entries = values.index_select(-1, index_tensor(_YXZ_ENTRIES, angles.device))
    about_y, about_x, about_z = entries.view(-1, 3, 3, 3).unbind(1)
    return about_z @ about_x @ about_y


def rotate_between(vector: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Rotate vectors (..., 3) by the smallest rotation that takes `start` to `end`.

    Args:
        vector: (..., 3).
        start, end: (..., 3), unit vectors. If they are opposite, no smallest rotation exists, and
            the result is a mirror image of `vector`.
    """
    half = unit(start + end)
    along_half = (half * vector).sum(-1, keepdim=True)
    along_start = (start * vector).sum(-1, keepdim=True)
    return vector + 2 * (along_start * end - along_half * half)


def mirrored(offset: Tensor, skeleton: Skeleton) -> Tensor:
    """Make joint offsets (..., J, 3) in the body frame symmetric.

    A right joint gets the mirrored offset of its left joint. A joint on neither side gets no
    offset to the side, and the root gets none at all.
    """
    sources, signs = _mirror(skeleton, offset.device)
    return signs.to(offset) * offset[..., sources, :]


@functools.lru_cache(maxsize=64)
def _mirror(skeleton: Skeleton, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the joint whose offset each joint gets (J,), and factors on the offsets (J, 3)."""
    sources = torch.arange(skeleton.num_joints)
    signs = torch.ones(skeleton.num_joints, 3, dtype=torch.float32)
    left, right = list(skeleton.left), list(skeleton.right)
    sources[right] = sources[left]
    signs[:, 0] = 0
    signs[left, 0], signs[right, 0] = 1, -1
    signs[skeleton.root] = 0
    return sources.to(device), signs.to(device)
