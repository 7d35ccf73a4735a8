"""The terms of the augmentor's loss besides the discriminators: regularisation and feedback.

Source: PoseAug (CVPR 2021), sections 3.3 and 3.4, L_reg and L_fb; the released code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..augment.sampler import Proposal
from ..batches.protocol import EstimatorFormat, prediction_and_target
from ..config import PoseAugConfig
from ..errors import BatchError, EstimatorError
from ..geometry.constants import index_tensor
from ..geometry.pose_batch import PoseBatch
from ..geometry.skeleton import Skeleton
from ..loop.estimator import Estimator
from ..schedule import EpochSchedule
from .feedback import exp_feedback, log_feedback, log_ratio, ratio_feedback, tier_errors
from .losses import outside_band, past_limit, squared_error, threshold_penalty

__all__ = [
    "PredictPairs",
    "check_estimator",
    "estimator_feedback",
    "judge",
    "make_predict_pairs",
    "model_error",
    "regularisation",
]

#: Returns the estimator's predictions for pairs, and their targets: root-relative, metres.
PredictPairs = Callable[[PoseBatch], tuple[Tensor, Tensor]]


def regularisation(
    proposal: Proposal, original: Tensor, bent: Tensor, config: PoseAugConfig
) -> Tensor:
    """Return L_reg, a scalar.

    With `config.reg="threshold"`, it depends on the learned parameters only, not on those that the
    prior has drawn.

    Args:
        proposal: the learned parameters.
        original: (B, K, 3), unit bones before BA.
        bent: (B, K, 3), unit bones after BA.
        config: the form of the loss and its limits.
    """
    learned_ba, learned_bl = (proposal.parameters.get(n) for n in ("gamma_ba", "gamma_bl"))
    loss = bent.new_zeros(())
    if config.reg == "threshold":
        if learned_ba is not None:
            loss = loss + threshold_penalty(learned_ba, config.reg_ba)
        if learned_bl is not None:
            loss = loss + threshold_penalty(learned_bl, config.reg_bl)
        return loss
    bend = (1 - (original * bent).sum(-1)).mean(-1)  # (B,)
    loss = loss + outside_band(bend, config.bend_target, config.bend_band)
    return loss if learned_bl is None else loss + past_limit(learned_bl, config.reg_bl)


def make_predict_pairs(
    estimator: Estimator, fmt: EstimatorFormat, skeleton: Skeleton
) -> PredictPairs:
    """Return a function that predicts pairs, see `prediction_and_target`."""

    def predict_pairs(poses: PoseBatch) -> tuple[Tensor, Tensor]:
        output = estimator(fmt.inputs(poses, poses.pose_2d))
        return prediction_and_target(output, poses, fmt, skeleton)

    return predict_pairs


def model_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the squared error relative to that of predicting the root for every joint, a scalar.

    Args:
        predicted, target: (B, T, J, 3), root-relative.
    """
    at_root = squared_error(torch.zeros_like(target), target)
    return squared_error(predicted, target).mean() / at_root.mean()


def check_estimator(
    estimator: Estimator,
    fmt: EstimatorFormat,
    skeleton: Skeleton,
    poses: PoseBatch,
    needs_gradient: bool,
) -> None:
    """Call the estimator with two rows, to detect wrong predictions before training starts.

    Args:
        needs_gradient: whether predictions must have a gradient with respect to the 2D.

    Raises:
        EstimatorError: the call raises, does not return predictions of the targets, or gives no
            gradient of them.
    """
    few = poses.first(2)
    with torch.inference_mode(False):  # the caller may only be looking at a batch
        pose_2d = fmt.inputs(few, few.pose_2d).clone().requires_grad_()
    called = f"{estimator.called} with 2D of shape {tuple(pose_2d.shape)}"
    try:
        with estimator.untouched(), torch.inference_mode(False):
            output = estimator(pose_2d)
    except Exception as error:
        cure = "pass predict=lambda model, x: ... that does the same."
        if "in-place" in str(error):
            cure = "as one that changes its input in place, pass predict=lambda m, x: m(x.clone())."
        elif needs_gradient:
            cure += " If it needs more than 2D, as a diffusion model does, set feedback='off'."
        raise EstimatorError(
            f"{called} raised {type(error).__name__}: {error}. If your training loop calls the "
            f"model in another way, {cure}"
        ) from error
    if not isinstance(output, Tensor):
        raise EstimatorError(
            f"{called} returned {type(output).__name__}, expected a tensor of 3D joints; pass "
            "predict=lambda model, x: ... that selects it from the output of the model."
        )
    try:
        predicted = fmt.outputs(output, few, skeleton)
    except BatchError as error:
        raise EstimatorError(
            f"{called} returned a tensor of the wrong shape: {error} Pass "
            "predict=lambda model, x: ... that returns the shape of the 3D targets."
        ) from None
    rows, frames, *joints = few.pose_3d.shape
    shapes = [(rows, count, *joints) for count in sorted({1, frames})]
    if tuple(predicted.shape) not in shapes:
        raise EstimatorError(
            f"outputs of batch={type(fmt).__name__} returned a tensor of shape "
            f"{tuple(predicted.shape)}, expected {' or '.join(map(str, shapes))}; return "
            "root-relative poses (B, T, J, 3) in metres."
        )
    if not needs_gradient:
        return
    try:
        with estimator.untouched(), torch.inference_mode(False):
            torch.autograd.grad(output.sum(), pose_2d)
    except Exception as error:
        raise EstimatorError(
            f"{called} gives no gradient of its prediction with respect to the 2D, which the "
            f"feedback needs ({type(error).__name__}: {error}). Use "
            "torch.utils.checkpoint.checkpoint with use_reentrant=False, call the model without "
            "torch.no_grad and detach, or set feedback='off' in config=."
        ) from error


class Feedback(NamedTuple):
    """What the errors of an estimator say of a batch, of which other ranks may have other rows.

    Attributes:
        steered: a mean over rows, whose gradient is that of L_fb up to a factor, see `judge`.
        means: (5,), means over rows: the losses of augmented and of original pairs that are
            accepted, and 1 for each of them; and the losses of all augmented and original pairs.
        model_error: the mean squared error on original pairs, relative to that of a model that
            predicts the root for every joint; a scalar.
    """

    steered: Tensor
    means: Tensor
    model_error: Tensor


class Judgement(NamedTuple):
    """L_fb from the means of all ranks.

    Attributes:
        loss: L_fb, a scalar.
        slope: the derivative of L_fb, or of the log hardness, with respect to `Feedback.steered`.
        log_hardness: logarithm of the hardness, a scalar; 0 if no pair is accepted.
        hardness: a scalar; 0 if no pair is accepted.
    """

    loss: Tensor
    slope: Tensor
    log_hardness: Tensor
    hardness: Tensor


def judge(feedback: Feedback, means: Tensor, form: str, beta: float) -> Judgement:
    """Return the feedback loss and the hardness.

    Args:
        feedback: of this rank.
        means: `feedback.means`, averaged over the ranks.
        form: `config.feedback`.
        beta: the target of the hardness.
    """
    augmented, original, share, *losses = means.detach()
    some = share.clamp_min(1e-6)
    log_hardness = torch.where(share > 0, log_ratio(augmented / some, original / some), 0.0)
    hardness = log_hardness, torch.where(share > 0, log_hardness.exp(), 0.0)
    if form == "log":
        slope = torch.where(share > 0, 1 / augmented.clamp_min(1e-12), 0.0)
        return Judgement(log_feedback(log_hardness, beta), slope, *hardness)
    if form == "exp":
        with torch.enable_grad():
            augmented, original = losses[0].clone().requires_grad_(), losses[1]
            loss = exp_feedback(augmented, original, beta)
            (slope,) = torch.autograd.grad(loss, augmented)
        return Judgement(loss.detach(), slope, *hardness)
    return Judgement(feedback.steered.detach(), torch.ones_like(share), *hardness)


def estimator_feedback(
    poses: PoseBatch,
    augmented: Mapping[str, PoseBatch],
    accepted: Tensor,
    predict_pairs: PredictPairs,
    config: PoseAugConfig,
    schedule: EpochSchedule,
    skeleton: Skeleton,
) -> Feedback:
    """Return the errors of the estimator on a batch, and those that it is steered by.

    Args:
        poses: the original pairs.
        augmented: under "rt", the augmented pairs. With `config.feedback="range"`, also under
            "ba" the pairs after BA alone.
        accepted: (B,) bool, the rows of which the hardness is the mean.
        predict_pairs: predicts pairs with the estimator, see `make_predict_pairs`.
        config: the form of the feedback and its options.
        schedule: the epoch, on which the targets depend.
        skeleton: the skeleton of the poses.
    """
    with torch.no_grad():
        original = predict_pairs(poses)
    predicted = predict_pairs(augmented["rt"])
    loss_rt, loss = squared_error(*predicted), squared_error(*original)
    chosen, chosen_rt = (torch.where(accepted, x, 0.0).mean() for x in (loss, loss_rt))
    share, mean_rt = accepted.to(loss).mean(), loss_rt.mean()
    means = torch.stack([chosen_rt, chosen, share, mean_rt, loss.mean()]).detach()
    measures = means, model_error(*original)
    if config.feedback == "log":
        return Feedback(chosen_rt, *measures)
    if config.feedback == "exp":
        return Feedback(mean_rt, *measures)
    joints = tuple(i for i, tier in enumerate(skeleton.joint_tiers) if tier)
    tiers = index_tensor(joints, original[0].device)
    error, error_rt, error_ba = (
        tier_errors(*pair, skeleton).index_select(1, tiers)
        for pair in (original, predicted, predict_pairs(augmented["ba"]))
    )
    # The released code divides by the error of the original pair, even if that is 0.
    options = {"min_error": 0.0} if config.released_quirks else {}
    feedback_rt = ratio_feedback(
        error_rt, error, schedule.between(config.rt_ratio), config.rt_band, **options
    )
    feedback_ba = ratio_feedback(
        error_ba, error, schedule.between(config.ba_ratio), config.ba_band, **options
    )
    feedback = config.rt_weight * feedback_rt + config.ba_weight * feedback_ba
    return Feedback(feedback, *measures)
