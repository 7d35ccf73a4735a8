"""What can be measured on a batch of poses, whoever made it: numbers alone, no verdict."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry.bones import lengths, pose_to_bones
from ..geometry.camera import fit_root, project
from ..geometry.pose_batch import PoseBatch
from ..geometry.skeleton import Skeleton

__all__ = ["Measures"]


@dataclass(frozen=True)
class Measures:
    """Of N single poses with a fitted root."""

    longest_bone: float
    asymmetry: float
    residual: float
    residual_placed: float | None  # where the batch itself says root and camera
    residual_behind: float  # with the 3D's z turned round
    aspect: float  # scale of the 2D's y to its x, against the 3D's
    residual_scaled: float  # with both scaled alike
    distance: float
    centred: bool  # every person's 2D about the same point, to the last digit
    positive: bool  # no negative coordinate

    @classmethod
    def of(cls, poses: PoseBatch, skeleton: Skeleton) -> Measures:
        frames, seen = poses.pose_3d.flatten(0, 1), poses.pose_2d.flatten(0, 1)
        camera = poses.camera[:, None].expand(-1, poses.pose_2d.shape[1], 9).flatten(0, 1)
        root = fit_root(seen, frames, camera)
        behind = frames * frames.new_tensor([1, 1, -1])
        flat, screen = (x - x.mean(1, keepdim=True) for x in (frames[..., :2], seen))
        # What the screen would measure at the person's distance; two scales, each by least squares.
        screen = screen / camera[:, None, :2] * root[:, None, 2:]
        x, y = ((flat * screen).sum((0, 1)) / (flat * flat).sum((0, 1)).clamp_min(1e-9)).tolist()
        aspect = y / x if x * y > 0 else 1.0
        square = seen / seen.new_tensor([1.0, aspect])
        box = (seen.amax(1) + seen.amin(1)) / 2
        middles = torch.stack([box, seen.mean(1), seen[:, skeleton.root]])  # (3, N, 2)
        many = len(seen) >= 4 and _spread(seen) > 1e-3
        move = not poses.has_root or _spread(poses.root.flatten(0, 1)) > 1e-3
        longest, asymmetry = _bones(frames, skeleton)
        placed = poses.has_root and poses.has_camera
        return cls(
            longest,
            asymmetry,
            _off(frames + root[:, None], seen, camera),
            _off(poses.absolute.flatten(0, 1), seen, camera) if placed else None,
            _residual(behind, seen, camera),
            aspect,
            _residual(frames, square, camera),
            float(root[:, 2].median()),
            many and move and bool((middles - middles[:, :1]).abs().amax((1, 2)).min() < 1e-5),
            many and bool((seen >= 0).all()),
        )


def _spread(rows: Tensor) -> float:
    """Between the rows furthest apart, in the number that differs most."""
    return float((rows.amax(0) - rows.amin(0)).max())


def _residual(frames: Tensor, seen: Tensor, camera: Tensor) -> float:
    """How far root-relative poses are off at best."""
    return _off(frames + fit_root(seen, frames, camera)[:, None], seen, camera)


def _off(pose_3d: Tensor, seen: Tensor, camera: Tensor) -> float:
    """Root mean square distance on the screen, median over rows."""
    off = project(pose_3d, camera) - seen
    return float(off.square().sum(-1).mean(-1).sqrt().median())


def _bones(frames: Tensor, skeleton: Skeleton) -> tuple[float, float]:
    sizes = lengths(pose_to_bones(frames, skeleton)).median(0).values
    left = [skeleton.bone_of[j] for j in skeleton.left if j != skeleton.root]
    right = [skeleton.bone_of[j] for j in skeleton.right if j != skeleton.root]
    if not left:
        return float(sizes.max()), 0.0
    a, b = sizes[left], sizes[right]
    return float(sizes.max()), float(((a - b).abs() / (a + b).clamp_min(1e-9) * 2).median())
