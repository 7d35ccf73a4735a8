"""The three differentiable operators of PoseAug (BA, BL, RT), joint offsets, and rotations.

Poses are (..., J, 3) in metres in the camera frame. Parameters broadcast over leading dimensions:
a gamma or an (R, t) of shape (B, 1, ...) applies to every frame of a clip.

These are functions of poses, for users, tests and benchmarks. The sampler applies BA and BL to
`Bones` (`Bones.bend`, `Bones.stretch`), and RT in `Augmentation.place`, to convert each pose once.

Source: PoseAug (CVPR 2021), section 3.2, the equations of BA, BL and RT.
"""

from __future__ import annotations

import functools
import itertools
import math

import torch
from einops import rearrange
from torch import Tensor

from .bones import Bones, rotate_between
from .constants import constant, identity, matrix
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
    flat = (x.reshape(-1, *x.shape[-2:]) for x in (pose_3d, offset.expand_as(pose_3d), axes.mT))
    return torch.baddbmm(*flat).view_as(pose_3d)


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


#: The entries of Rz Rx Ry, row by row, as sums of signed products of sines and cosines.
_ZXY = (
    *("+cz cy -sz sx sy", "-sz cx", "+cz sy +sz sx cy"),
    *("+sz cy +cz sx sy", "+cz cx", "+sz sy -cz sx cy"),
    *("-cx sy", "+sx", "+cx cy"),
)


def euler_to_matrix(angles: Tensor) -> Tensor:
    """Convert angles (B, 3), radians, to rotations (B, 3, 3) about y, then x, then z."""
    # Each entry is a sum of cosines of sums of angles. Three operations in place of the products of
    # three matrices: on a GPU each operation has a fixed cost.
    combinations, phases, weights = _sums_of_cosines(angles.dtype, angles.device)
    return torch.addmm(phases, angles, combinations).cos().mm(weights).view(-1, 3, 3)


@functools.lru_cache(maxsize=16)
def _sums_of_cosines(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return C (3, M), p (M,) and W (M, 9) with which R = cos(angles C + p) W.

    By cos a cos b = (cos(a + b) + cos(a - b)) / 2, and sin a = cos(a - pi / 2).
    """
    combinations, phases, weights = [], [], []
    for entry, terms in enumerate(_ZXY):
        for term in terms.replace(" +", ",+").replace(" -", ",-").split(","):
            factors = term[1:].split()
            for signs in itertools.product((1.0,), *[(1.0, -1.0)] * (len(factors) - 1)):
                of_axis = {factor[1]: sign for factor, sign in zip(factors, signs)}
                sines = sum(sign for factor, sign in zip(factors, signs) if factor[0] == "s")
                combinations.append([of_axis.get(axis, 0.0) for axis in "yxz"])
                phases.append(-sines * math.pi / 2)
                weight = float(f"{term[0]}1") / 2 ** (len(factors) - 1)
                weights.append([weight * (entry == own) for own in range(9)])
    C, W = (matrix(rows, dtype, device) for rows in (combinations, weights))
    return C.T.contiguous(), constant(tuple(phases), dtype, device), W


def mirrored(offset: Tensor, skeleton: Skeleton) -> Tensor:
    """Make joint offsets (..., J, 3) in the body frame symmetric.

    A right joint gets the mirrored offset of its left joint. A joint on neither side gets no
    offset to the side, unless the skeleton has no sides. The root gets none at all.
    """
    sources, signs = _mirror(skeleton, offset.dtype, offset.device)
    return offset.index_select(-2, sources) * signs


@functools.lru_cache(maxsize=64)
def _mirror(skeleton: Skeleton, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the joint whose offset each joint gets (J,), and factors on the offsets (J, 3)."""
    sources = torch.arange(skeleton.num_joints)
    signs = torch.ones(skeleton.num_joints, 3, dtype=dtype)
    left, right = list(skeleton.left), list(skeleton.right)
    sources[right] = sources[left]
    if left:
        signs[:, 0] = 0
    signs[left, 0], signs[right, 0] = 1, -1
    signs[skeleton.root] = 0
    return sources.to(device), signs.to(device)
