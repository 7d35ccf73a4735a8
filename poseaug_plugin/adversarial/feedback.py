"""Feedback losses: how hard an augmented pair is for the estimator, and how hard it should be.

There are three forms: the exponential one of the paper, on whole poses; that of the released code,
on ratios of weighted joint errors in three tiers; and one on the logarithm of the hardness, which
raises it to its target. All compare an augmented pair with the pair from which it was made.

The hardness is L(X') / L(X), where L is the mean squared error of the estimator over a batch: the
quantity whose target is beta.

Source: PoseAug (CVPR 2021), section 3.4, the equation of L_fb; the released code.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.bones import gather
from ..geometry.constants import constant
from ..geometry.skeleton import Skeleton
from .losses import outside_band

__all__ = [
    "exp_feedback",
    "log_feedback",
    "log_ratio",
    "raising_slope",
    "ratio_feedback",
    "steer",
    "tier_errors",
]

TIER_WEIGHT = 5.0, 2.0, 1.0  # hips and shoulders, knees and elbows, ankles and wrists
MAX_EXPONENT = 10.0  # keeps the loss finite for pairs that are far too hard
TOLERANCE = math.log(1.2)  # deviation of the log hardness at which `log_feedback` has full slope
MIN_LOSS = 1e-8  # square metres, below which a loss counts as this large
MIN_BETA = 1e-8  # keeps the logarithm finite: beta may be 0


def log_ratio(augmented: Tensor, original: Tensor) -> Tensor:
    """Return log(L(X') / L(X)): losses in square metres of any shape to the same shape."""
    return augmented.clamp_min(MIN_LOSS).log() - original.clamp_min(MIN_LOSS).log()


def log_feedback(log_hardness: Tensor, beta: float) -> Tensor:
    """Return the Huber loss of log(hardness / beta) where that is below 0, else 0; a scalar.

    Its slope is -1 where the hardness is below its target by more than 20 %, and fades to 0 at the
    target. Pairs that are harder than that are left alone: what makes a pair easier for the
    estimator is a pose or body as it believes them to be, and it would learn its own errors.
    """
    gap = _gap(log_hardness, beta).clamp(max=0)
    return F.huber_loss(gap, torch.zeros_like(gap), delta=TOLERANCE) / TOLERANCE


def raising_slope(log_hardness: Tensor, beta: float) -> Tensor:
    """Return the derivative of `log_feedback` with respect to the log hardness: -1 to 0."""
    return steer(log_hardness, beta).clamp(max=0)


def steer(log_hardness: Tensor, beta: float) -> Tensor:
    """Return how far the hardness is off its target: -1 to 1, from 20 % below to 20 % above."""
    return (_gap(log_hardness, beta) / TOLERANCE).clamp(-1, 1)


def _gap(log_hardness: Tensor, beta: float) -> Tensor:
    return log_hardness - math.log(max(beta, MIN_BETA))


def exp_feedback(augmented: Tensor, original: Tensor, beta: float) -> Tensor:
    """Return |1 - exp(L(X') - beta L(X))|, where L is the loss of the whole batch, a scalar.

    A term for each pair would not reach beta: pairs that are too hard have the larger gradients,
    so the others would be held back with them.

    The exponent is clamped to at most 10, so that the loss stays finite with an untrained
    estimator.

    Args:
        augmented, original: scalars, L(X') and L(X), square metres.
        beta: target ratio of the two losses.
    """
    exponent = (augmented - beta * original).clamp(max=MAX_EXPONENT)
    return (1 - torch.exp(exponent)).abs()


def tier_errors(predicted: Tensor, target: Tensor, skeleton: Skeleton) -> Tensor:
    """Return weighted joint errors, averaged over frames and over each tier of joints.

    The weights of the three tiers of limb joints are 5, 2 and 1, that of other joints, such as the
    head, is 1. The error of a tier without joints is 0.

    Args:
        predicted, target: (B, T, J, 3), metres.
        skeleton: its `joint_tiers` are the tiers.

    Returns:
        (B, 3), metres.
    """
    error = torch.linalg.vector_norm(predicted - target, dim=-1).mean(1)  # (B, J)
    limb_joints = {skeleton.child[bone] for limb in skeleton.limbs for bone in limb}
    columns = []
    for tier, weight in zip(skeleton.joint_tiers, TIER_WEIGHT):
        numbers = tuple(weight if joint in limb_joints else 1.0 for joint in tier)
        weights = constant(numbers, error.dtype, error.device)
        errors = gather(error[..., None], tier)[..., 0] if tier else error[:, :0]
        columns.append((errors * weights).sum(-1) / max(1, len(tier)))
    return torch.stack(columns, -1)


def ratio_feedback(
    augmented: Tensor, original: Tensor, target: float, band: float, min_error: float = 1e-3
) -> Tensor:
    """Return the mean of (augmented / original - target)^2, zero inside the band; a scalar.

    Args:
        augmented, original: (B, 3), results of `tier_errors` for the two pairs.
        target: target of the ratio.
        band: deviation from the target that costs nothing.
        min_error: smallest divisor, metres, so that a perfect estimator gives a finite loss.
    """
    return outside_band(augmented / original.clamp_min(min_error), target, band)
