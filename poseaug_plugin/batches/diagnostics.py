"""Measurements on a batch of poses; `check` judges them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry.bones import lengths, pose_to_bones, upright_bones
from ..geometry.camera import fit_root, project
from ..geometry.pose_batch import PoseBatch
from ..geometry.skeleton import Skeleton

__all__ = ["RESIDUAL", "Diagnostics"]

RESIDUAL = 0.05  # screen units; larger ones are wrong


@dataclass(frozen=True)
class Diagnostics:
    """Measurements on all frames of a batch.

    Residuals are root mean square distances of observed and projected 2D, median over frames,
    screen units. Unless said otherwise, poses are projected from the root position that fits best.
    """

    longest_bone: float  # metres, median over frames
    asymmetry: float  # median difference of left and right bone lengths, relative to their mean
    residual: float
    residual_placed: float | None  # from the batch's own root and camera, if it has both
    centre: tuple[float, float]  # of the image that fits the batch's root, if there is no camera
    focal_factor: float  # likewise, the focal length that fits, relative to the assumed one
    share_off: float  # share of frames that do not project onto their 2D
    upside_down: bool  # whether three quarters of the trunks point down in the image
    residual_behind: float  # with the 3D's z negated
    aspect: float  # scale of the 2D's y relative to that of its x
    residual_scaled: float  # with `aspect` divided out
    distance: float  # metres to the fitted root, median
    centred: bool  # whether every person's 2D is centred on the same point
    positive: bool  # whether no 2D coordinate is negative
    outside: float  # share of frames with most joints outside the image
    middle: tuple[float, float]  # of all 2D, screen units
    size_2d: float  # absolute 2D coordinate, median over joints and frames
    focal: float  # the cameras' focal length, median
    image_space: float  # root mean square distance of root-relative 2D and the 3D's x and y
    length_spread: float  # relative spread of body size within a clip, median over clips
    certainty: tuple[float, float]  # of the third channel of the 2D; (0, 1) without one
    root_step: float  # metres between the roots of neighbouring frames, median; 0 without clips

    @classmethod
    def of(cls, poses: PoseBatch, skeleton: Skeleton) -> Diagnostics:
        """Measure a batch."""
        frames, pose_2d = poses.pose_3d.flatten(0, 1), poses.pose_2d.flatten(0, 1)
        camera = poses.camera[:, None].expand(-1, poses.pose_2d.shape[1], 9).flatten(0, 1)
        root = fit_root(pose_2d, frames, camera)
        behind = frames * frames.new_tensor([1, 1, -1])
        flat, screen = (x - x.mean(1, keepdim=True) for x in (frames[..., :2], pose_2d))
        # The 2D in metres at the person's distance. Its scale in x and in y, by least squares:
        screen = screen / camera[:, None, :2] * root[:, None, 2:]
        x, y = ((flat * screen).sum((0, 1)) / (flat * flat).sum((0, 1)).clamp_min(1e-9)).tolist()
        aspect = y / x if x * y > 0 else 1.0
        square = pose_2d / pose_2d.new_tensor([1.0, aspect])
        box = (pose_2d.amax(1) + pose_2d.amin(1)) / 2
        middles = torch.stack([box, pose_2d.mean(1), *pose_2d.unbind(1)])  # (2 + J, N, 2)
        many = len(pose_2d) >= 4 and _spread(pose_2d) > 1e-3
        move = not poses.has_root or _spread(poses.root.flatten(0, 1)) > 1e-3
        longest, asymmetry = _bones(frames, skeleton)
        placed = poses.has_root and poses.has_camera
        spread = (middles - middles[:, :1]).abs().amax((1, 2))
        residuals = _residuals(frames + root[:, None], pose_2d, camera)
        centre, focal_factor = (0.0, 0.0), 1.0
        if poses.has_root and not poses.has_camera:
            centre, focal_factor = _lens(poses)
        return cls(
            longest_bone=longest,
            asymmetry=asymmetry,
            residual=float(residuals.median()),
            residual_placed=_off(poses.absolute.flatten(0, 1), pose_2d, camera) if placed else None,
            centre=centre,
            focal_factor=focal_factor,
            share_off=float((residuals > RESIDUAL).float().mean()),
            upside_down=_upside_down(pose_2d, skeleton),
            residual_behind=_residual(behind, pose_2d, camera),
            aspect=aspect,
            residual_scaled=_residual(frames, square, camera),
            distance=float(root[:, 2].median()),
            centred=many and move and bool(spread.min() < 1e-5),
            positive=many and bool((pose_2d >= 0).all()),
            outside=_outside(pose_2d, poses.frame_height),
            middle=tuple(pose_2d.mean((0, 1)).tolist()),
            size_2d=float(pose_2d.abs().median()),
            focal=float(poses.camera[:, :2].median()),
            image_space=float(
                _rms(_relative(frames, skeleton)[..., :2] - _relative(pose_2d, skeleton)).median()
            ),
            length_spread=_length_spread(poses.pose_3d, skeleton),
            certainty=_range(poses.extra_2d),
            root_step=_root_step(root.view(*poses.pose_3d.shape[:2], 3)),
        )


def _range(extra_2d: Tensor | None) -> tuple[float, float]:
    """The smallest and the largest number of further channels of the 2D."""
    if extra_2d is None:
        return 0.0, 1.0
    known = extra_2d.nan_to_num(0.0)
    return float(known.min()), float(known.max())


def _upside_down(pose_2d: Tensor, skeleton: Skeleton) -> bool:
    """Whether three quarters of the trunks point down in the image: y points up, or people hang."""
    if not upright_bones(skeleton):
        return False
    top = skeleton.child[skeleton.trunk[-1]]
    return bool((pose_2d[:, top, 1] > pose_2d[:, skeleton.root, 1]).float().mean() > 0.75)


def _lens(poses: PoseBatch) -> tuple[tuple[float, float], float]:
    """The camera of 2D = f x / z + c, by least squares.

    Returns:
        Where points on the optical axis appear, and the focal length relative to the assumed one.
    """
    absolute, pose_2d = poses.absolute.flatten(0, 2), poses.pose_2d.flatten(0, 2)
    ray = absolute[:, :2] / absolute[:, 2:].clamp_min(1e-3)
    off = ray - ray.mean(0)
    focal = (off * pose_2d).sum(0) / (off * off).sum(0).clamp_min(1e-9)
    x, y = (pose_2d.mean(0) - focal * ray.mean(0)).tolist()
    return (x, y), float((focal / poses.camera[:, :2].mean(0)).mean())


def _outside(pose_2d: Tensor, height: float) -> float:
    off = (pose_2d.abs() > pose_2d.new_tensor([1.0, height])).any(-1)
    return float((off.float().mean(1) > 0.5).float().mean())


def _spread(rows: Tensor) -> float:
    """Largest difference between two rows in any coordinate."""
    return float((rows.amax(0) - rows.amin(0)).max())


def _residual(frames: Tensor, pose_2d: Tensor, camera: Tensor) -> float:
    """Residual of root-relative poses (N, J, 3) from the root position that fits best."""
    return _off(frames + fit_root(pose_2d, frames, camera)[:, None], pose_2d, camera)


def _off(pose_3d: Tensor, pose_2d: Tensor, camera: Tensor) -> float:
    """Median of `_residuals`."""
    return float(_residuals(pose_3d, pose_2d, camera).median())


def _residuals(pose_3d: Tensor, pose_2d: Tensor, camera: Tensor) -> Tensor:
    """Residual of each absolute pose (N, J, 3) against its 2D (N, J, 2), screen units."""
    return _rms(project(pose_3d, camera) - pose_2d)


def _rms(off: Tensor) -> Tensor:
    """Root mean square length of vectors (N, J, 2) over joints, (N,)."""
    return off.square().sum(-1).mean(-1).sqrt()


def _relative(points: Tensor, skeleton: Skeleton) -> Tensor:
    return points - points[:, skeleton.root, None]


def _length_spread(pose_3d: Tensor, skeleton: Skeleton) -> float:
    """Of clips (B, T, J, 3)."""
    size = lengths(pose_to_bones(pose_3d, skeleton)).sum(-1)  # (B, T)
    spread = (size.amax(1) - size.amin(1)) / size.mean(1).clamp_min(1e-9)
    return float(spread.median())


def _root_step(root: Tensor) -> float:
    """Of root positions (B, T, 3)."""
    steps = (root[:, 1:] - root[:, :-1]).norm(dim=-1)
    return float(steps.median()) if steps.numel() else 0.0


def _bones(frames: Tensor, skeleton: Skeleton) -> tuple[float, float]:
    """Longest bone, metres, and asymmetry."""
    ordered = lengths(pose_to_bones(frames, skeleton)).sort(0).values
    # Not `median(0)`, which raises on a GPU if the caller wants deterministic algorithms.
    sizes = ordered[(len(ordered) - 1) // 2]
    left = [skeleton.bone_of[j] for j in skeleton.left if j != skeleton.root]
    right = [skeleton.bone_of[j] for j in skeleton.right if j != skeleton.root]
    if not left:
        return float(sizes.max()), 0.0
    a, b = sizes[left], sizes[right]
    return float(sizes.max()), float(((a - b).abs() / (a + b).clamp_min(1e-9) * 2).median())
