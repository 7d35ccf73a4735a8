"""Metrics of 3D pose estimation: MPJPE, PA-MPJPE, PCK and AUC.

The metrics take (N, J, 3) float tensors in metres and return millimetres or percent. Align the
roots first by subtracting joint 0 of each pose: only ``pa_mpjpe`` aligns poses. A root at (0, 0, 0)
counts as one of the J joints, as in published numbers; drop it for a stricter metric.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MM_PER_METRE = 1000.0
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


def report(predicted: Tensor, target: Tensor) -> dict[str, float]:
    """All four metrics: ``MPJPE`` and ``PA-MPJPE`` in mm, ``PCK`` (150 mm) and ``AUC`` in percent.

    Raises:
        ValueError: The shapes differ, are empty or are not (N, J, 3).
    """
    return {
        "MPJPE": mpjpe(predicted, target),
        "PA-MPJPE": pa_mpjpe(predicted, target),
        "PCK": pck(predicted, target),
        "AUC": auc(predicted, target),
    }


def _errors_mm(predicted: Tensor, target: Tensor) -> Tensor:
    """(N, J) distances in millimetres."""
    predicted, target = _checked(predicted, target)
    distances: Tensor = torch.linalg.vector_norm(predicted - target, dim=-1)
    return distances * MM_PER_METRE


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
    size = source.square().sum(dim=(1, 2))
    scale = (stretch * sign).sum(dim=1) / size.clamp_min(torch.finfo(size.dtype).tiny)
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
) -> dict[str, float]:
    """Evaluate a lifter of single frames with all four metrics, relative to the root.

    The model is set to evaluation mode and stays in it.

    Args:
        model: Lifter from (B, J, 2) to root-relative (B, J, 3) in metres.
        pose_2d: (N, J, 2) inputs.
        pose_3d: (N, J, 3) targets in metres, joint 0 the root, absolute or relative.
        device: Device of the model.
        batch_size: Number of poses per forward pass.
    """
    model.eval()
    predicted = torch.cat([model(x.to(device)).cpu() for x in pose_2d.split(batch_size)])
    return report(predicted, pose_3d - pose_3d[:, :1])
