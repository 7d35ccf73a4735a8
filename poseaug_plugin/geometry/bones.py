"""The bone vector transform H, its exact inverse, lengths, unit vectors and KCS matrices.

Shapes: poses (..., J, 3), bones (..., K, 3) with K = J - 1; any leading dimensions. Any unit.
Source: PoseAug (Gong, Zhang, Feng; CVPR 2021) section 3; KCS from RepNet (Wandt and Rosenhahn,
CVPR 2019), split into body parts as PoseAug does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..errors import SkeletonError
from .constants import identity, index_tensor, matrix
from .skeleton import Skeleton

__all__ = [
    "Bones",
    "body_axes",
    "bones_to_pose",
    "directions",
    "gather",
    "kcs",
    "lengths",
    "part_kcs",
    "pose_to_bones",
    "unit",
    "upright_bones",
]

EPS = 1e-6  # metres; a shorter bone has no direction. Keeps values and gradients finite.


def gather(points: Tensor, index: tuple[int, ...]) -> Tensor:
    """Rows `index` of the second last dimension."""
    return points.index_select(-2, index_tensor(index, points.device))


def _check(points: Tensor, expected: int, what: str) -> None:
    if points.ndim < 2 or points.shape[-2] != expected or points.shape[-1] != 3:
        raise SkeletonError(
            f"{what} of shape {tuple(points.shape)}, expected (..., {expected}, 3) for this "
            "skeleton; pass the skeleton your data has."
        )


def pose_to_bones(pose_3d: Tensor, skeleton: Skeleton) -> Tensor:
    """H: pose (..., J, 3) to bone vectors (..., K, 3), each from parent to child."""
    _check(pose_3d, skeleton.num_joints, "pose")
    bones = F.linear(pose_3d.flatten(-2), _differences(skeleton, pose_3d.dtype, pose_3d.device))
    return bones.unflatten(-1, (skeleton.num_bones, 3))


def bones_to_pose(bones: Tensor, skeleton: Skeleton) -> Tensor:
    """H^-1: bone vectors (..., K, 3) to the pose (..., J, 3) whose root is the origin."""
    _check(bones, skeleton.num_bones, "bones")
    pose_3d = F.linear(bones.flatten(-2), _paths(skeleton, bones.dtype, bones.device))
    return pose_3d.unflatten(-1, (skeleton.num_joints, 3))


@lru_cache(maxsize=64)
def _differences(skeleton: Skeleton, dtype: torch.dtype, device: torch.device) -> Tensor:
    """H as a matrix (3 K, 3 J): 1 at each bone's child, -1 at its parent."""
    rows = [[0.0] * skeleton.num_joints for _ in skeleton.child]
    for row, child, parent in zip(rows, skeleton.child, skeleton.parent):
        row[child], row[parent] = 1.0, -1.0
    return matrix(rows, dtype, device, times=3)


@lru_cache(maxsize=64)
def _paths(skeleton: Skeleton, dtype: torch.dtype, device: torch.device) -> Tensor:
    """H^-1 as a matrix (3 J, 3 K): 1 where the bone lies between the root and the joint."""
    rows = [[0.0] * skeleton.num_bones for _ in skeleton.parents]
    for joint, row in enumerate(rows):
        while joint != skeleton.root:
            row[skeleton.bone_of[joint]] = 1.0
            joint = skeleton.parents[joint]
    return matrix(rows, dtype, device, times=3)


def lengths(bones: Tensor) -> Tensor:
    """Bone lengths (..., K); the gradient at a zero bone is 0."""
    return torch.linalg.vector_norm(bones, dim=-1)


def unit(bones: Tensor) -> Tensor:
    """Unit directions (..., K, 3); a zero bone stays zero."""
    return F.normalize(bones, dim=-1, eps=EPS)


@lru_cache(maxsize=64)
def upright_bones(skeleton: Skeleton) -> tuple[int, ...]:
    """Right hip, left hip and the trunk, from a root between them: which way is up in a body.

    None of them where the skeleton does not tell: no sides, or a root elsewhere.
    """
    hips = [
        (skeleton.bone_of[right], skeleton.bone_of[left])
        for left, right in zip(skeleton.left, skeleton.right)
        if skeleton.parents[left] == skeleton.parents[right] == skeleton.root
    ]
    return (*hips[0], skeleton.trunk[0]) if hips and skeleton.trunk else ()


def body_axes(bones: Tensor, skeleton: Skeleton) -> Tensor:
    """Axes (..., 3, 3) that turn with the body, as columns, from its unit bones (..., K, 3).

    Across is from hip to hip, up along the trunk; on a skeleton that does not tell these, across
    from the root's second bone to its first, and "up" along its last. A root with a single bone has
    no such frame: the axes are the camera's.
    """
    upright = upright_bones(skeleton)
    first, *others = upright or (skeleton.bone_of[j] for j in skeleton.children[skeleton.root])
    if not others:
        return identity(3, bones.dtype, bones.device).expand(*bones.shape[:-2], 3, 3)
    across = unit(bones[..., first, :] - bones[..., others[0], :])
    up = (
        bones[..., others[-1], :]
        if len(others) > 1
        else bones[..., first, :] + bones[..., others[0], :]
    )
    ahead = unit(torch.linalg.cross(across, up, dim=-1))
    return torch.stack([across, torch.linalg.cross(ahead, across, dim=-1), ahead], -1)


def directions(pose_3d: Tensor, skeleton: Skeleton) -> tuple[Tensor, Tensor]:
    """Unit bones (..., K, 3) of a pose (..., J, 3) in its body's own axes, and those (..., 3, 3).

    View, place and body size are gone from them: `directions @ axes.mT` are the unit bones.
    """
    bones = unit(pose_to_bones(pose_3d, skeleton))
    axes = body_axes(bones, skeleton)
    return bones @ axes, axes


def kcs(bones: Tensor) -> Tensor:
    """Kinematic chain space matrix B B^T (..., K, K): lengths squared and inner products.

    RepNet feeds bone vectors; with unit vectors the entries are cosines between bones.

    >>> kcs(torch.tensor([[2.0, 0, 0], [0, 1, 0]]))
    tensor([[4., 0.],
            [0., 1.]])
    """
    return bones @ bones.transpose(-1, -2)


def part_kcs(bones: Tensor, parts: tuple[tuple[int, ...], ...]) -> Tensor:
    """KCS of every part in one batched product: (..., P, M, M), M bones in the largest part.

    Args:
        bones: (..., K, 3), unit vectors for PoseAug's part-aware KCS.
        parts: bones of each part; `skeleton.parts`, or `(range(K),)` for the whole body. Rows
            and columns past a smaller part's bones are zero.
    """
    widest = max(len(part) for part in parts)
    nothing = bones.shape[-2]  # index of a zero bone appended below, which pads smaller parts
    index = tuple(i for part in parts for i in (*part, *[nothing] * (widest - len(part))))
    rows = gather(F.pad(bones, (0, 0, 0, 1)), index)
    return kcs(rearrange(rows, "... (p m) c -> ... p m c", m=widest))


@dataclass(frozen=True)
class Bones:
    """Poses as directions and lengths of their bones, on which BA and BL act.

    `Bones.of(pose_3d, skeleton).pose_3d` is the pose again, its root at the origin.
    """

    direction: Tensor  # (..., K, 3) unit vectors; zero for a bone of zero length
    length: Tensor  # (..., K) metres
    skeleton: Skeleton

    @classmethod
    def of(cls, pose_3d: Tensor, skeleton: Skeleton) -> Bones:
        """H: poses (..., J, 3) as bones."""
        bones = pose_to_bones(pose_3d, skeleton)
        length = lengths(bones)
        return cls(bones / length.clamp_min(EPS)[..., None], length, skeleton)

    @property
    def pose_3d(self) -> Tensor:
        """H^-1: (..., J, 3), root-relative."""
        return bones_to_pose(self.direction * self.length[..., None], self.skeleton)

    @cached_property
    def axes(self) -> Tensor:
        """(..., 3, 3) the axes of each body, see `body_axes`."""
        return body_axes(self.direction, self.skeleton)

    @property
    def in_body(self) -> Tensor:
        """(..., K, 3) directions along the body's own axes: view, place and size are gone."""
        return self.direction @ self.axes

    def bend(self, gamma_ba: Tensor) -> Bones:
        """BA: unit bones plus `gamma_ba` (..., K, 3), made unit again; lengths are kept.

        A bone that gamma cancels has no direction and stays as it was; so does one of zero length.
        """
        bent = self.direction + gamma_ba
        size = lengths(bent)
        gone = torch.minimum(size, self.length) < EPS
        bent = bent / size.clamp_min(EPS)[..., None]
        return replace(self, direction=torch.where(gone[..., None], self.direction, bent))

    def stretch(self, gamma_bl: Tensor) -> Bones:
        """BL: bone k times 1 + gamma_bl[..., k]; directions are kept.

        Args:
            gamma_bl: (..., K) per bone, or (..., G) per mirror group: left and right share a ratio.
        """
        if gamma_bl.shape[-1] != self.skeleton.num_bones:
            gamma_bl = gather(gamma_bl[..., None], self.skeleton.mirror_group)[..., 0]
        return self._with(self.direction, self.length * (1 + gamma_bl), lambda axes: axes)

    def pick(self, rows: Tensor) -> Bones:
        """The bones (N, ...) of some rows (N,)."""
        return self._each(lambda x: x.index_select(0, rows))

    def frame(self, number: int) -> Bones:
        """The bones (B, ...) of one frame of clips (B, T, ...)."""
        return self._each(lambda x: x[:, number])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Bones:
        return self._with(change(self.direction), change(self.length), change)

    def _with(self, direction: Tensor, length: Tensor, change: Callable[[Tensor], Tensor]) -> Bones:
        made = replace(self, direction=direction, length=length)
        if "axes" in vars(self):  # worked out already
            vars(made)["axes"] = change(self.axes)
        return made
