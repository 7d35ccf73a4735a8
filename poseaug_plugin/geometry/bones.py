"""The bone vector transform H and its inverse, bone lengths, unit bones and KCS matrices.

Poses are (..., J, 3) and bones (..., K, 3) with K = J - 1, in any unit and with any leading
dimensions.

Source: PoseAug (Gong, Zhang, Feng; CVPR 2021), section 3. The kinematic chain space (KCS) is from
RepNet (Wandt and Rosenhahn, CVPR 2019); PoseAug splits it into body parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    "rotate_between",
    "unit",
    "upright_bones",
]

EPS = 1e-6  # metres; a shorter bone has no direction. Keeps values and gradients finite.


def gather(points: Tensor, index: tuple[int, ...]) -> Tensor:
    """Select entries of the second last dimension: (..., N, C) to (..., len(index), C)."""
    return points.index_select(-2, index_tensor(index, points.device))


def _check(points: Tensor, expected: int, name: str) -> None:
    if points.ndim < 2 or points.shape[-2] != expected or points.shape[-1] != 3:
        raise SkeletonError(
            f"{name} has shape {tuple(points.shape)}, expected (..., {expected}, 3) for this "
            "skeleton; pass the skeleton of your data."
        )


def pose_to_bones(pose_3d: Tensor, skeleton: Skeleton) -> Tensor:
    """H: convert poses (..., J, 3) to bone vectors (..., K, 3), each from parent to child.

    Raises:
        SkeletonError: the shape does not fit the skeleton.

    >>> arm = Skeleton(parents=[-1, 0, 1])
    >>> pose_to_bones(torch.tensor([[0.0, 0, 4], [2, 0, 4], [2, 1, 4]]), arm)
    tensor([[2., 0., 0.],
            [0., 1., 0.]])
    """
    _check(pose_3d, skeleton.num_joints, "pose_3d")
    return _multiply(pose_3d, _pose_to_bones_matrix(skeleton, pose_3d.dtype, pose_3d.device))


def bones_to_pose(bones: Tensor, skeleton: Skeleton) -> Tensor:
    """H^-1: convert bone vectors (..., K, 3) to poses (..., J, 3) with the root at the origin.

    Raises:
        SkeletonError: the shape does not fit the skeleton.

    >>> arm = Skeleton(parents=[-1, 0, 1])
    >>> bones_to_pose(torch.tensor([[2.0, 0, 0], [0, 1, 0]]), arm)
    tensor([[0., 0., 0.],
            [2., 0., 0.],
            [2., 1., 0.]])
    """
    _check(bones, skeleton.num_bones, "bones")
    return _multiply(bones, _bones_to_pose_matrix(skeleton, bones.dtype, bones.device))


def _multiply(points: Tensor, factor: Tensor) -> Tensor:
    """Multiply points (..., N, 3), as rows of 3 N numbers, by (3 N, 3 M): (..., M, 3)."""
    product = torch.mm(points.reshape(-1, len(factor)), factor)
    return product.view(*points.shape[:-2], -1, 3)


@lru_cache(maxsize=64)
def _pose_to_bones_matrix(skeleton: Skeleton, dtype: torch.dtype, device: torch.device) -> Tensor:
    """H as a matrix (3 J, 3 K): 1 at the child of each bone and -1 at its parent."""
    rows = [[0.0] * skeleton.num_joints for _ in skeleton.child]
    for row, child, parent in zip(rows, skeleton.child, skeleton.parent):
        row[child], row[parent] = 1.0, -1.0
    return matrix([*zip(*rows)], dtype, device, dims=3)


@lru_cache(maxsize=64)
def _bones_to_pose_matrix(skeleton: Skeleton, dtype: torch.dtype, device: torch.device) -> Tensor:
    """H^-1 as a matrix (3 K, 3 J): 1 for each bone between the root and the joint."""
    rows = [[0.0] * skeleton.num_bones for _ in skeleton.parents]
    for joint, row in enumerate(rows):
        while joint != skeleton.root:
            row[skeleton.bone_of[joint]] = 1.0
            joint = skeleton.parents[joint]
    return matrix([*zip(*rows)], dtype, device, dims=3)


def lengths(bones: Tensor) -> Tensor:
    """Return the lengths (..., K) of bones. The gradient at a bone of zero length is 0."""
    return torch.linalg.vector_norm(bones, dim=-1)


def unit(bones: Tensor) -> Tensor:
    """Return the unit directions (..., K, 3) of bones. A bone of zero length stays zero."""
    return F.normalize(bones, dim=-1, eps=EPS)


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


@lru_cache(maxsize=64)
def upright_bones(skeleton: Skeleton) -> tuple[int, ...]:
    """Return the bones to the right hip and the left hip, and the first bone of the trunk.

    They define the body axes and which way is up. The result is empty for a skeleton without
    sides or without a root between two hips, such as `coco_17` and `hand_21`. A root between two
    joints that are named shoulders is not one.
    """
    hips = [
        (skeleton.bone_of[right], skeleton.bone_of[left])
        for left, right in zip(skeleton.left, skeleton.right)
        if skeleton.parents[left] == skeleton.parents[right] == skeleton.root
        and "shoulder" not in skeleton.joint_names[left].lower()
    ]
    return (*hips[0], skeleton.trunk[0]) if hips and skeleton.trunk else ()


def body_axes(bones: Tensor, skeleton: Skeleton) -> Tensor:
    """Return the axes of each body frame, as the columns of (..., 3, 3) matrices.

    The axes are orthonormal and rotate with the body. The first points from the left hip to the
    right hip, the second up along the trunk, the third backward. On a skeleton without hips and
    trunk (see `upright_bones`), the bones of the root replace them: the first axis points from the
    second bone to the first, the second axis along the last bone, or along the sum of the two if
    there are no more. If the root has a single bone, the axes are those of the camera.

    Args:
        bones: (..., K, 3), unit bones in the camera frame.
    """
    root_bones = (skeleton.bone_of[joint] for joint in skeleton.children[skeleton.root])
    first, *others = upright_bones(skeleton) or root_bones
    if not others:
        return identity(3, bones.dtype, bones.device).expand(*bones.shape[:-2], 3, 3)
    right, left = bones[..., first, :], bones[..., others[0], :]
    across = right - left
    up = bones[..., others[-1], :] if len(others) > 1 else right + left
    backward = torch.linalg.cross(across, up, dim=-1)
    up = torch.linalg.cross(backward, across, dim=-1)
    # Stacked as rows, since norms of columns are twenty times slower on a CPU.
    return F.normalize(torch.stack([across, up, backward], -2), dim=-1, eps=EPS**3).mT


def directions(pose_3d: Tensor, skeleton: Skeleton) -> tuple[Tensor, Tensor]:
    """Return unit bones in the body frame, and the axes of the body frame.

    The unit bones do not depend on the view, the position or the bone lengths.
    `directions @ axes.mT` gives the unit bones in the camera frame.

    Args:
        pose_3d: (..., J, 3), camera frame.

    Returns:
        Unit bones (..., K, 3) and axes (..., 3, 3), see `body_axes`.
    """
    bones = unit(pose_to_bones(pose_3d, skeleton))
    axes = body_axes(bones, skeleton)
    return bones @ axes, axes


def kcs(bones: Tensor) -> Tensor:
    """Return the kinematic chain space matrix B B^T: (..., K, 3) to (..., K, K).

    The diagonal holds the squared lengths, the other entries the inner products of two bones. For
    unit bones, the entries are the cosines of the angles between bones. RepNet uses bone vectors,
    PoseAug unit bones.

    >>> kcs(torch.tensor([[2.0, 0, 0], [0, 1, 0]]))
    tensor([[4., 0.],
            [0., 1.]])
    """
    return bones @ bones.transpose(-1, -2)


def part_kcs(bones: Tensor, parts: tuple[tuple[int, ...], ...]) -> Tensor:
    """Return the KCS matrix of each of P body parts, in one batched product.

    Args:
        bones: (..., K, 3); unit bones for the part-aware KCS of PoseAug.
        parts: the bones of each part, for example `skeleton.parts`.

    Returns:
        (..., P, M, M), where M is the number of bones of the largest part. The rows and columns
        that a smaller part does not use are zero.

    >>> bones = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 2, 0]])
    >>> part_kcs(bones, ((1, 2), (0,)))
    tensor([[[1., 2.],
             [2., 4.]],
    <BLANKLINE>
            [[1., 0.],
             [0., 0.]]])
    """
    largest = max(len(part) for part in parts)
    zero_bone = bones.shape[-2]  # index of a bone that is appended below to pad smaller parts
    padded = tuple(bone for part in parts for bone in (*part, *[zero_bone] * (largest - len(part))))
    rows = gather(F.pad(bones, (0, 0, 0, 1)), padded)
    return kcs(rearrange(rows, "... (p m) c -> ... p m c", m=largest))


@dataclass(frozen=True)
class Bones:
    """Poses as directions and lengths of their bones, the form on which BA and BL act.

    Attributes:
        direction: (..., K, 3), unit bones in the camera frame; zero for a bone of zero length.
        length: (..., K), metres.
        skeleton: the skeleton of the poses.

    >>> arm = Skeleton(parents=[-1, 0, 1])
    >>> bones = Bones.of(torch.tensor([[0.0, 0, 0], [2, 0, 0], [2, 1, 0]]), arm)
    >>> bones.length
    tensor([2., 1.])
    >>> bones.stretch(torch.tensor([0.5, 0.0])).pose_3d
    tensor([[0., 0., 0.],
            [3., 0., 0.],
            [3., 1., 0.]])
    """

    direction: Tensor
    length: Tensor
    skeleton: Skeleton

    @classmethod
    def of(cls, pose_3d: Tensor, skeleton: Skeleton) -> Bones:
        """Return the bones of poses (..., J, 3).

        Raises:
            SkeletonError: the shape does not fit the skeleton.
        """
        bones = pose_to_bones(pose_3d, skeleton)
        length = lengths(bones)
        return cls(bones / length.clamp_min(EPS)[..., None], length, skeleton)

    @property
    def pose_3d(self) -> Tensor:
        """The poses (..., J, 3) with the root at the origin, metres."""
        return bones_to_pose(self.direction * self.length[..., None], self.skeleton)

    @cached_property
    def axes(self) -> Tensor:
        """The axes (..., 3, 3) of each body frame, see `body_axes`."""
        return body_axes(self.direction, self.skeleton)

    @property
    def body_direction(self) -> Tensor:
        """The unit bones (..., K, 3) in the body frame, see `directions`."""
        if self.direction.ndim == 3:  # in a third of the operations of the general product
            return torch.bmm(self.direction, self.axes)
        return self.direction @ self.axes

    def bend(self, gamma_ba: Tensor) -> Bones:
        """BA: add `gamma_ba` (..., K, 3) to the unit bones and normalise; lengths are kept.

        A bone that `gamma_ba` cancels has no direction any more, so it stays unchanged. So does a
        bone of zero length.
        """
        bent = self.direction + gamma_ba
        norm = torch.linalg.vector_norm(bent, dim=-1, keepdim=True)
        undefined = torch.minimum(norm, self.length[..., None]) < EPS
        bent = torch.where(undefined, self.direction, bent / norm.clamp_min(EPS))
        return Bones(bent, self.length, self.skeleton)

    def bend_clip(self, gamma_ba: Tensor, frame: int) -> Bones:
        """BA for clips: bend one frame, and rotate the bones of the others likewise.

        Each bone gets one rotation in the body frame, the smallest that does to its direction in
        that frame what `bend` does. Its motion in the body frame is rotated with it.

        Args:
            gamma_ba: (B, K, 3), camera frame, added to the unit bones of the frame.
            frame: index of the frame.
        """
        if self.direction.shape[1] == 1:
            return self.bend(gamma_ba[:, None])
        before, axes = self.frame(frame), self.axes
        start, end = (bones.direction @ axes[:, frame] for bones in (before, before.bend(gamma_ba)))
        rotated = rotate_between(self.body_direction, start[:, None], end[:, None])
        return Bones(rotated @ axes.mT, self.length, self.skeleton)

    def stretch(self, gamma_bl: Tensor) -> Bones:
        """BL: multiply the length of bone k by 1 + gamma_bl[..., k]; directions are kept.

        Args:
            gamma_bl: (..., K), one per bone, or (..., G), one per mirror group, so that left and
                right keep the same ratio.
        """
        if gamma_bl.shape[-1] != self.skeleton.num_bones:
            group = index_tensor(self.skeleton.mirror_group, gamma_bl.device)
            gamma_bl = gamma_bl.index_select(-1, group)
        length = torch.addcmul(self.length, self.length, gamma_bl)
        return self._replace(self.direction, length, lambda axes: axes)

    def pick(self, rows: Tensor) -> Bones:
        """Return the bones (N, ...) of the rows with the given indices (N,)."""
        return self._map(lambda x: x.index_select(0, rows))

    def frame(self, number: int) -> Bones:
        """Return the bones (B, ...) of one frame of clips (B, T, ...)."""
        return self._map(lambda x: x[:, number])

    def _map(self, fn: Callable[[Tensor], Tensor]) -> Bones:
        """Apply a function to each tensor."""
        return self._replace(fn(self.direction), fn(self.length), fn)

    def _replace(self, direction: Tensor, length: Tensor, fn: Callable[[Tensor], Tensor]) -> Bones:
        """Return a copy with new tensors. If the axes are cached, the copy caches `fn(axes)`."""
        copy = Bones(direction, length, self.skeleton)
        if "axes" in vars(self):  # where `cached_property` stores them
            vars(copy)["axes"] = fn(self.axes)
        return copy
