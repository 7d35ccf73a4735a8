"""How far off a lifter is: MPJPE, PA-MPJPE, PCK and AUC.

Every function takes (N, J, 3) float tensors in metres and answers in millimetres or percent. Align
the roots first (subtract joint 0 of each): only ``pa_mpjpe`` moves anything. A root that is always
(0, 0, 0) counts as one of the J joints, as in the published numbers; drop it to be stricter.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .data.h36m import Pairs

MM_PER_METRE = 1000.0
AUC_THRESHOLDS_MM = range(0, 151, 5)  # the 31 thresholds of MPI-INF-3DHP


def mpjpe(predicted: Tensor, target: Tensor) -> float:
    """Mean per-joint position error in millimetres (protocol 1).

    Raises:
        ValueError: the two shapes are unequal, empty or not (N, J, 3).
    """
    return float(_errors_mm(predicted, target).mean())


def pa_mpjpe(predicted: Tensor, target: Tensor) -> float:
    """MPJPE in millimetres after the best rotation, scale and translation per pose (protocol 2).

    A mirrored pose stays wrong: reflections are no rotations. A prediction collapsed into one point
    is placed on the target's mean.

    Raises:
        ValueError: the two shapes are unequal, empty or not (N, J, 3).
    """
    predicted, target = _checked(predicted, target)
    return float(_errors_mm(_procrustes(predicted, target), target).mean())


def pck(predicted: Tensor, target: Tensor, threshold_mm: float = 150.0) -> float:
    """Percentage of joints less than ``threshold_mm`` away from the target.

    Strictly less, as in MPI-INF-3DHP's own evaluation; NaN counts as wrong.

    Raises:
        ValueError: the two shapes are unequal, empty or not (N, J, 3).
    """
    return 100.0 * float((_errors_mm(predicted, target) < threshold_mm).double().mean())


def auc(predicted: Tensor, target: Tensor) -> float:
    """Mean PCK in percent over the thresholds 0, 5, ..., 150 mm of MPI-INF-3DHP.

    Nothing is less than 0 mm away, so a perfect prediction scores 30 / 31 = 96.8.

    Raises:
        ValueError: the two shapes are unequal, empty or not (N, J, 3).
    """
    scores = [pck(predicted, target, threshold) for threshold in AUC_THRESHOLDS_MM]
    return sum(scores) / len(scores)


def report(predicted: Tensor, target: Tensor) -> dict[str, float]:
    """All four: ``MPJPE`` and ``PA-MPJPE`` in millimetres, ``PCK`` (150 mm) and ``AUC`` in percent.

    Raises:
        ValueError: the two shapes are unequal, empty or not (N, J, 3).
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
    """``predicted`` (N, J, 3) moved onto ``target`` by least squares; float64 in and out."""
    goal = target.mean(dim=1, keepdim=True)
    source = predicted - predicted.mean(dim=1, keepdim=True)
    covariance = source.mT @ (target - goal)
    # One NaN would stop the decomposition of the whole batch; it still reaches its own row below.
    left, stretch, right = torch.linalg.svd(covariance.nan_to_num())
    # Flipping the weakest axis where the best orthogonal matrix is a reflection gives a rotation.
    sign = torch.ones_like(stretch)
    sign[:, 2] = torch.where(torch.linalg.det(left @ right) < 0, -1.0, 1.0)
    rotation = (left * sign[:, None]) @ right
    size = source.square().sum(dim=(1, 2))
    scale = (stretch * sign).sum(dim=1) / size.clamp_min(torch.finfo(size.dtype).tiny)
    moved: Tensor = scale[:, None, None] * (source @ rotation) + goal
    return moved


def _checked(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both without gradients, in float64, on the CPU: some accelerators have no float64."""
    shape = tuple(predicted.shape)
    if shape != tuple(target.shape) or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise ValueError(
            f"predicted {shape} and target {tuple(target.shape)}: expected the same (N, J, 3) with "
            "at least one pose; reshape clips to single frames and keep the same joints in both"
        )
    return predicted.detach().cpu().double(), target.detach().cpu().double()


@torch.no_grad()
def evaluate(model: nn.Module, pairs: Pairs, device: str) -> dict[str, float]:
    """MPJPE and the rest on root-relative poses, in evaluation mode."""
    model.eval()
    answers = torch.cat([model(x.to(device)).cpu() for x in pairs.pose_2d.split(8192)])
    return report(answers, pairs.root_relative)
