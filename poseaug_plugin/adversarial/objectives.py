"""What the augmentor is held to besides fooling its judges: small steps, and pairs worth learning.

Source: PoseAug (CVPR 2021) sections 3.3 and 3.4, L_reg and L_fb; the released code's forms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..augment.sampler import Proposal
from ..batches.protocol import EstimatorFormat
from ..config import PoseAugConfig
from ..errors import BatchError, EstimatorError
from ..geometry.pose_batch import PoseBatch
from ..geometry.skeleton import Skeleton
from ..loop.estimator import Estimator
from ..schedule import EpochSchedule
from .feedback import exp_feedback, ratio_feedback, tier_errors
from .losses import outside_band, past_limit, squared_error, threshold_penalty

__all__ = [
    "PredictPairs",
    "check_estimator",
    "estimator_feedback",
    "make_predict_pairs",
    "regularisation",
]

#: What the estimator answers to a batch, and what it should: metres, root-relative.
PredictPairs = Callable[[PoseBatch], tuple[Tensor, Tensor]]


def regularisation(
    proposal: Proposal, straight: Tensor, bent: Tensor, config: PoseAugConfig
) -> Tensor:
    """L_reg, a scalar: of the learned share alone, for what the prior draws is not its to pay for.

    Args:
        straight, bent: (B, K, 3), unit bones of a pose and of what BA made of it.
    """
    learned_ba, learned_bl = (proposal.parameters.get(n) for n in ("gamma_ba", "gamma_bl"))
    loss = bent.new_zeros(())
    if config.reg == "threshold":
        if learned_ba is not None:
            loss = loss + threshold_penalty(learned_ba, config.reg_ba)
        if learned_bl is not None:
            loss = loss + threshold_penalty(learned_bl, config.reg_bl)
        return loss
    turned = (1 - (straight * bent).sum(-1)).mean(-1)  # (B,)
    loss = loss + outside_band(turned, config.bend_target, config.bend_band)
    return loss if learned_bl is None else loss + past_limit(learned_bl, config.reg_bl)


def make_predict_pairs(
    estimator: Estimator, fmt: EstimatorFormat, skeleton: Skeleton
) -> PredictPairs:
    """How to ask an estimator that answers whole clips, or their centre frames alone."""

    def ask(poses: PoseBatch) -> tuple[Tensor, Tensor]:
        answer = fmt.outputs(estimator(fmt.inputs(poses, poses.pose_2d)), poses, skeleton)
        whole = answer.shape[1] == poses.pose_3d.shape[1]
        return answer, poses.pose_3d if whole else poses.pose_3d[:, poses.middle, None]

    return ask


def check_estimator(
    estimator: Estimator, fmt: EstimatorFormat, skeleton: Skeleton, poses: PoseBatch
) -> None:
    """Call the estimator with two rows, to find a wrong answer before training starts.

    Raises:
        EstimatorError: it raises, or returns something else than predictions of the targets.
    """
    few = poses.first(2)
    pose_2d = fmt.inputs(few, few.pose_2d)
    called = f"{estimator.called} with 2D of shape {tuple(pose_2d.shape)}"
    try:
        with estimator.untouched(), torch.no_grad():
            answer = estimator(pose_2d)
    except Exception as error:
        raise EstimatorError(
            f"{called} raised {type(error).__name__}: {error}. If your loop calls it otherwise, "
            "pass predict=lambda model, x: ... that calls it in the same way."
        ) from error
    if not isinstance(answer, Tensor):
        raise EstimatorError(
            f"{called} returned {type(answer).__name__}, expected a tensor of 3D joints; pass "
            "predict=lambda model, x: the right part of model(x)."
        )
    try:
        predicted = fmt.outputs(answer, few, skeleton)
    except BatchError as error:
        raise EstimatorError(
            f"{called} does not answer in the target's shape: {error} Pass "
            "predict=lambda model, x: ... that returns it in that shape."
        ) from None
    rows, frames, *joints = few.pose_3d.shape
    shapes = [(rows, count, *joints) for count in sorted({1, frames})]
    if tuple(predicted.shape) not in shapes:
        raise EstimatorError(
            f"outputs of batch={type(fmt).__name__} returned a tensor of shape "
            f"{tuple(predicted.shape)}, expected {' or '.join(map(str, shapes))}; return "
            "root-relative metres, (B, T, J, 3)."
        )


def estimator_feedback(
    poses: PoseBatch,
    made: Mapping[str, PoseBatch],
    ask: PredictPairs,
    config: PoseAugConfig,
    schedule: EpochSchedule,
    skeleton: Skeleton,
) -> tuple[Tensor, Tensor]:
    """L_fb and the mean ratio of errors, augmented over original.

    Args:
        poses: what the pairs were made from.
        made: "rt": the whole augmentation; the range form also takes "ba": the bend alone.
    """
    with torch.no_grad():
        original = ask(poses)
    if config.feedback == "exp":
        harder, easier = squared_error(*ask(made["rt"])), squared_error(*original)
        beta = schedule.between(config.beta)
        loss = config.feedback_weight * exp_feedback(harder, easier, beta)
        return loss, (harder.detach().mean() / easier.mean().clamp_min(1e-9)).sqrt()
    tiers = [i for i, tier in enumerate(skeleton.joint_tiers) if tier]
    easier, harder, harder_ba = (
        tier_errors(*pair, skeleton)[:, tiers]
        for pair in (original, ask(made["rt"]), ask(made["ba"]))
    )
    least = {"least": 0.0} if config.released_quirks else {}
    loss = config.rt_weight * ratio_feedback(
        harder, easier, schedule.between(config.rt_ratio), config.rt_band, **least
    ) + config.ba_weight * ratio_feedback(
        harder_ba, easier, schedule.between(config.ba_ratio), config.ba_band, **least
    )
    return loss, harder.detach().mean() / easier.mean().clamp_min(1e-9)
