"""Metrics of 3D pose estimation, for any skeleton.

| function | measures | unit |
| --- | --- | --- |
| `mpjpe` | joint positions (protocol 1) | mm |
| `n_mpjpe` | the same after the best scale per pose | mm |
| `pa_mpjpe` | the same after the best rotation, scale and translation per pose (protocol 2) | mm |
| `pck`, `auc` | share of joints within 150 mm; its mean over thresholds up to 150 mm | % |
| `bone_length_error` | bone lengths, i.e. the size of the body | mm |
| `orientation_error` | directions of the bones | degrees |
| `acceleration_error` | jitter of clips | mm / frame² or mm / s² |

Poses are (N, J, 3) float tensors in metres. Align the roots first by subtracting the root joint of
each pose: only `pa_mpjpe` translates poses. A root at (0, 0, 0) counts as one of the J joints, as
in published numbers; drop it for a stricter metric.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .geometry.bones import lengths, pose_to_bones
from .geometry.skeleton import Skeleton

__all__ = [
    "acceleration_error",
    "auc",
    "bone_length_error",
    "evaluate",
    "mpjpe",
    "n_mpjpe",
    "orientation_error",
    "pa_mpjpe",
    "pck",
    "report",
]

MM_PER_METRE = 1000.0
TINY = torch.finfo(torch.float64).tiny  # all is computed in float64
AUC_THRESHOLDS_MM = range(0, 151, 5)  # the 31 thresholds of MPI-INF-3DHP


def mpjpe(predicted: Tensor, target: Tensor) -> float:
    """Mean per-joint position error in millimetres (protocol 1).

    Raises:
        ValueError: The shapes differ, are empty or are not (N, J, 3).
    """
    return float(_errors_mm(predicted, target).mean())


def pa_mpjpe(predicted: Tensor, target: Tensor) -> float:
    """MPJPE in millimetres after the best rotation, scale and translation per pose (protocol 2).

    Reflections are not allowed, so a mirrored pose keeps an error. A prediction collapsed to one
    point is moved to the mean of the target.

    Raises:
        ValueError: The shapes differ, are empty or are not (N, J, 3).
    """
    predicted, target = _checked(predicted, target)
    return float(_errors_mm(_procrustes(predicted, target), target).mean())


def n_mpjpe(predicted: Tensor, target: Tensor) -> float:
    """MPJPE in millimetres after the best scale per pose (Rhodin et al., CVPR 2018).

    It leaves out the size of the body, which a single view does not show. The scale is about the
    origin, so align the roots first.

    Raises:
        ValueError: The shapes differ, are empty or are not (N, J, 3).

    >>> target = torch.rand(2, 16, 3)
    >>> round(n_mpjpe(1.1 * target, target), 3)
    0.0
    """
    predicted, target = _checked(predicted, target)
    size = predicted.square().sum((1, 2), keepdim=True).clamp_min(TINY)
    scale = (predicted * target).sum((1, 2), keepdim=True) / size
    return float(_errors_mm(scale * predicted, target).mean())


def pck(predicted: Tensor, target: Tensor, threshold_mm: float = 150.0) -> float:
    """Percentage of correct keypoints: joints less than ``threshold_mm`` from the target.

    The comparison is strict, as in MPI-INF-3DHP's evaluation. NaN counts as incorrect.

    Raises:
        ValueError: The shapes differ, are empty or are not (N, J, 3).
    """
    return 100.0 * float((_errors_mm(predicted, target) < threshold_mm).double().mean())


def auc(predicted: Tensor, target: Tensor) -> float:
    """Area under the PCK curve: mean PCK in percent over the thresholds 0, 5, ..., 150 mm.

    No error is less than 0 mm, so a perfect prediction scores 30 / 31 = 96.8.

    Raises:
        ValueError: The shapes differ, are empty or are not (N, J, 3).
    """
    scores = [pck(predicted, target, threshold) for threshold in AUC_THRESHOLDS_MM]
    return sum(scores) / len(scores)


def bone_length_error(predicted: Tensor, target: Tensor, skeleton: Skeleton | str) -> float:
    """Mean absolute error of bone lengths in millimetres.

    Args:
        predicted, target: (N, J, 3) in metres.
        skeleton: A `Skeleton`, or the name of a preset.

    Raises:
        ValueError: The shapes differ, are empty or are not (N, J, 3).
        SkeletonError: The poses do not have the skeleton's joints.
    """
    a, b = (lengths(bones) for bones in _bones(predicted, target, skeleton))
    return MM_PER_METRE * float((a - b).abs().mean())


def orientation_error(predicted: Tensor, target: Tensor, skeleton: Skeleton | str) -> float:
    """Mean angle between the predicted and the true directions of the bones, in degrees.

    Independent of position and size. Bones without length are left out.

    Args:
        predicted, target: (N, J, 3) in metres.
        skeleton: A `Skeleton`, or the name of a preset.

    Returns:
        0 to 180; NaN if a coordinate is NaN, or if no bone has a length.

    Raises:
        ValueError: The shapes differ, are empty or are not (N, J, 3).
        SkeletonError: The poses do not have the skeleton's joints.
    """
    a, b = _bones(predicted, target, skeleton)
    # atan2 is exact for small angles, where acos of the scalar product is not.
    sine = torch.linalg.vector_norm(torch.linalg.cross(a, b), dim=-1)
    angle = torch.atan2(sine, (a * b).sum(-1))
    return float(angle[(lengths(a) != 0) & (lengths(b) != 0)].mean().rad2deg())


def acceleration_error(predicted: Tensor, target: Tensor, fps: float | None = None) -> float:
    """Mean norm of the difference of joint accelerations, a measure of jitter.

    The acceleration is the second difference of three consecutive frames.

    Args:
        predicted, target: (T, J, 3) or (B, T, J, 3) in metres, T of 3 or more.
        fps: Frames per second. None: the unit is mm / frame², as in most tables. With it, mm / s².

    Raises:
        ValueError: The shapes differ, are empty or are no clips.

    >>> still = torch.zeros(5, 16, 3)
    >>> moving = still + torch.arange(5.0)[:, None, None] ** 2 * torch.tensor([0.001, 0, 0])
    >>> round(acceleration_error(moving, still), 3), round(acceleration_error(moving, still, 50))
    (2.0, 5000)
    """
    shape = tuple(predicted.shape)
    good = len(shape) in (3, 4) and shape[-1] == 3 and 0 not in shape and shape[-3] >= 3
    if shape != tuple(target.shape) or not good:
        raise ValueError(
            f"predicted {shape} and target {tuple(target.shape)}: expected the same (T, J, 3) or "
            "(B, T, J, 3) with at least three frames; pass whole clips, in order"
        )
    a, b = (p.detach().cpu().double() for p in (predicted, target))
    acceleration = (a - b).diff(n=2, dim=-3)
    per_frame = MM_PER_METRE * float(torch.linalg.vector_norm(acceleration, dim=-1).mean())
    return per_frame if fps is None else per_frame * fps**2


def report(
    predicted: Tensor, target: Tensor, skeleton: Skeleton | str | None = None
) -> dict[str, float]:
    """All metrics of single frames.

    Args:
        predicted, target: (N, J, 3) in metres, relative to the root.
        skeleton: A `Skeleton` or the name of a preset, for the metrics of bones.

    Returns:
        ``MPJPE``, ``PA-MPJPE`` and ``N-MPJPE`` in mm, ``PCK`` (150 mm) and ``AUC`` in percent. With
        a skeleton also ``bone lengths`` in mm and ``orientation`` in degrees.

    Raises:
        ValueError: The shapes differ, are empty or are not (N, J, 3).
        SkeletonError: The poses do not have the skeleton's joints.
    """
    scores = {
        "MPJPE": mpjpe(predicted, target),
        "PA-MPJPE": pa_mpjpe(predicted, target),
        "N-MPJPE": n_mpjpe(predicted, target),
        "PCK": pck(predicted, target),
        "AUC": auc(predicted, target),
    }
    if skeleton is not None:
        scores["bone lengths"] = bone_length_error(predicted, target, skeleton)
        scores["orientation"] = orientation_error(predicted, target, skeleton)
    return scores


def _errors_mm(predicted: Tensor, target: Tensor) -> Tensor:
    """(N, J) distances in millimetres."""
    predicted, target = _checked(predicted, target)
    distances: Tensor = torch.linalg.vector_norm(predicted - target, dim=-1)
    return distances * MM_PER_METRE


def _bones(predicted: Tensor, target: Tensor, skeleton: Skeleton | str) -> tuple[Tensor, Tensor]:
    """Bone vectors (N, K, 3) of both."""
    tree = Skeleton.of(skeleton)
    predicted, target = _checked(predicted, target)
    return pose_to_bones(predicted, tree), pose_to_bones(target, tree)


def _procrustes(predicted: Tensor, target: Tensor) -> Tensor:
    """Align ``predicted`` (N, J, 3) to ``target`` by least squares; float64 in and out."""
    target_mean = target.mean(dim=1, keepdim=True)
    source = predicted - predicted.mean(dim=1, keepdim=True)
    covariance = source.mT @ (target - target_mean)
    # One NaN would fail the decomposition of the whole batch. It still affects its own row below.
    left, stretch, right = torch.linalg.svd(covariance.nan_to_num())
    # Where the best orthogonal matrix is a reflection, flip the weakest axis to get a rotation.
    sign = torch.ones_like(stretch)
    sign[:, 2] = torch.where(torch.linalg.det(left @ right) < 0, -1.0, 1.0)
    rotation = (left * sign[:, None]) @ right
    size = source.square().sum(dim=(1, 2)).clamp_min(TINY)
    scale = (stretch * sign).sum(dim=1) / size
    aligned: Tensor = scale[:, None, None] * (source @ rotation) + target_mean
    return aligned


def _checked(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both detached, in float64, on the CPU because some accelerators have no float64."""
    shape = tuple(predicted.shape)
    if shape != tuple(target.shape) or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise ValueError(
            f"predicted {shape} and target {tuple(target.shape)}: expected the same (N, J, 3) with "
            "at least one pose; reshape clips to single frames and use the same joints in both"
        )
    return predicted.detach().cpu().double(), target.detach().cpu().double()


@torch.no_grad()
def evaluate(
    model: nn.Module,
    pose_2d: Tensor,
    pose_3d: Tensor,
    device: str | torch.device = "cpu",
    batch_size: int = 8192,
    skeleton: Skeleton | str | None = None,
) -> dict[str, float]:
    """Evaluate a lifter of single frames with the metrics of `report`, relative to the root.

    The model is set to evaluation mode and stays in it.

    Args:
        model: Lifter from (B, J, 2) to root-relative (B, J, 3) in metres.
        pose_2d: (N, J, 2) inputs.
        pose_3d: (N, J, 3) targets in metres, absolute or relative.
        device: Device of the model.
        batch_size: Number of poses per forward pass.
        skeleton: A `Skeleton` or the name of a preset. It says which joint is the root, and adds
            the metrics of bones. None: the root is joint 0.
    """
    model.eval()
    root = 0 if skeleton is None else Skeleton.of(skeleton).root
    predicted = torch.cat([model(x.to(device)).cpu() for x in pose_2d.split(batch_size)])
    return report(predicted, pose_3d - pose_3d[:, root, None], skeleton)
