"""Both forms of the feedback, against numbers calculated by hand."""

from __future__ import annotations

import math

import pytest
import torch

from helpers import H36M, generator, gradients_are_right, random_poses
from poseaug_plugin.adversarial.feedback import (
    exp_feedback,
    log_ratio,
    ratio_feedback,
    tier_errors,
)
from poseaug_plugin.geometry.skeleton import SKELETONS


def test_exp_feedback_equals_the_formula_of_the_paper() -> None:
    loss = abs(1 - math.exp(0.4 - 1.5 * 0.2))
    augmented, original = torch.tensor(0.4), torch.tensor(0.2)
    assert float(exp_feedback(augmented, original, 1.5)) == pytest.approx(loss, abs=1e-6)
    assert float(exp_feedback(augmented, original, 2.0)) == pytest.approx(0, abs=1e-6)


def test_exp_feedback_of_a_very_large_error_is_finite() -> None:
    augmented = torch.tensor(1e6, requires_grad=True)
    loss = exp_feedback(augmented, torch.ones(()), 2.0)
    assert loss.item() == pytest.approx(math.exp(10) - 1, rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, augmented)
    assert gradient.isfinite().all()


def test_the_log_ratio_counts_errors_down_to_a_tenth_of_a_millimetre() -> None:
    augmented, original = torch.tensor([9e-8, 4e-4, 1e-20]), torch.tensor([1e-8, 1e-4, 0.0])
    found = log_ratio(augmented, original).exp()
    assert found.tolist() == pytest.approx([9, 4, 1], rel=1e-4)


def test_tier_errors_equal_a_loop_with_the_published_weights_and_tiers() -> None:
    weights = [1, 5, 2, 1, 5, 2, 1, 1, 1, 1, 5, 2, 1, 5, 2, 1]
    tiers = [1, 4, 10, 13], [2, 5, 9, 11, 14], [3, 6, 12, 15]
    target, predicted = random_poses(H36M, 3, 2), random_poses(H36M, 3, 2, seed=1)
    fast = tier_errors(predicted, target, H36M)
    assert fast.shape == (3, 3)
    for row in range(3):
        for column, tier in enumerate(tiers):
            total = 0.0
            for frame in range(2):
                for joint in tier:
                    ends = predicted[row, frame, joint], target[row, frame, joint]
                    total += weights[joint] * math.dist(*(end.tolist() for end in ends))
            assert float(fast[row, column]) == pytest.approx(total / len(tier) / 2)


@pytest.mark.parametrize("name", ["hand_21", "coco_17", "smpl_24"])
def test_tier_errors_of_other_skeletons_grow_with_the_error(name: str) -> None:
    skeleton = SKELETONS[name]
    target, offset = random_poses(skeleton, 2, 1), random_poses(skeleton, 2, 1, seed=1)
    small, large = (tier_errors(target + s * offset, target, skeleton) for s in (0.1, 0.2))
    assert small.isfinite().all()
    assert torch.allclose(large, 2 * small)


def test_an_empty_tier_is_zero() -> None:
    star = SKELETONS["h36m_16"].of([-1, 0, 0, 0])  # three limbs of one bone: all in the first tier
    target = random_poses(star, 2, 1)
    errors = tier_errors(target + 1, target, star)
    assert torch.allclose(errors[:, 0], torch.full((2,), 5 * math.sqrt(3)).double())
    assert torch.equal(errors[:, 1:], torch.zeros(2, 2).double())


def test_ratio_feedback_is_zero_inside_the_band() -> None:
    original = torch.tensor([[1.0, 2.0, 0.1]])
    assert float(ratio_feedback(4 * original, original, 3.0, 2.0)) == 0
    assert float(ratio_feedback(6 * original, original, 3.0, 2.0)) == pytest.approx(9, rel=1e-5)
    assert float(ratio_feedback(0 * original, original, 3.0, 2.0)) == pytest.approx(9)


def test_ratio_feedback_of_a_perfect_estimator_is_finite() -> None:
    augmented = torch.full((1, 3), 0.002)
    assert float(ratio_feedback(augmented, torch.zeros(1, 3), 5.0, 1.0)) == pytest.approx(9)


def test_gradients() -> None:
    errors = torch.rand(2, 4, 3, generator=generator()) + 0.5
    assert gradients_are_right(lambda a, o: exp_feedback(a.mean(), o.mean(), 2.0), *errors)
    assert gradients_are_right(lambda a, o: ratio_feedback(a, o, 4.0, 0.5), *errors)
    predicted, target = random_poses(H36M, 1, 2), random_poses(H36M, 1, 2, seed=1)
    assert gradients_are_right(lambda p, t: tier_errors(p, t, H36M), predicted, target)
