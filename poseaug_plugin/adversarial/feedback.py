"""How hard an augmented pair is for the caller's estimator, against how hard it should be.

Two forms: the paper's exponential one on whole poses, and the released one on the ratio of
weighted joint errors in three tiers. Both compare each pair with the pair it was made from.

Source: PoseAug (CVPR 2021) section 3.4, equation of L_fb; the released code's hard-ratio loss.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry.bones import gather
from ..geometry.skeleton import Skeleton
from .losses import outside_band

__all__ = ["exp_feedback", "ratio_feedback", "tier_errors"]

TIER_WEIGHT = 5.0, 2.0, 1.0  # hips and shoulders, knees and elbows, ankles and wrists


def exp_feedback(harder: Tensor, easier: Tensor, beta: float) -> Tensor:
    """Mean of |1 - exp(L(X') - beta L(X))|.

    Args:
        harder, easier: (B,) losses of the augmented and of the original pair, square metres.
        beta: wanted ratio, above 1. The exponent is cut at 10: a pair that far off, from an
            untrained estimator, must not make the loss infinite.
    """
    return (1 - torch.exp((harder - beta * easier).clamp(max=10.0))).abs().mean()


def tier_errors(predicted: Tensor, target: Tensor, skeleton: Skeleton) -> Tensor:
    """Weighted joint errors averaged in tiers: (B, T, J, 3) to (B, 3), metres.

    Joints near the trunk weigh 5, the next 2, the far ones and the head 1. A tier without
    joints is 0.
    """
    error = torch.linalg.vector_norm(predicted - target, dim=-1).mean(1)  # (B, J)
    sided = {skeleton.child[b] for limb in skeleton.limbs for b in limb}
    columns = []
    for tier, weight in zip(skeleton.joint_tiers, TIER_WEIGHT):
        factors = error.new_tensor([weight if joint in sided else 1.0 for joint in tier])
        picked = gather(error[..., None], tier)[..., 0] if tier else error[:, :0]
        columns.append((picked * factors).sum(-1) / max(1, len(tier)))
    return torch.stack(columns, -1)


def ratio_feedback(
    harder: Tensor, easier: Tensor, target: float, band: float, least: float = 1e-3
) -> Tensor:
    """Mean squared distance of harder / easier from the target, zero inside the band.

    Args:
        harder, easier: (B, 3) from `tier_errors`.
        least: metres that the original's counts for at least, where it divides.
    """
    return outside_band(harder / easier.clamp_min(least), target, band)
