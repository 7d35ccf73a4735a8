"""Losses, against loops, numbers calculated by hand and finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from helpers import generator, gradients_are_right, random_poses
from poseaug_plugin.adversarial.losses import (
    lsgan_discriminator,
    lsgan_generator,
    outside_band,
    past_limit,
    squared_error,
    threshold_penalty,
)
from poseaug_plugin.geometry.skeleton import SKELETONS


def scores(seed: int) -> Tensor:
    return torch.randn(6, 5, generator=generator(seed))


def test_lsgan_losses_equal_a_loop() -> None:
    real, fake = scores(0), scores(1)
    total = 0.0
    for row in range(6):
        for path in range(5):
            total += (float(real[row, path]) - 1) ** 2 / 2 + float(fake[row, path]) ** 2 / 2
    assert float(lsgan_discriminator(real, fake)) == pytest.approx(total / 30)
    total = sum((s - 1) ** 2 / 2 for s in fake.flatten().tolist())
    assert float(lsgan_generator(fake)) == pytest.approx(total / 30)


def test_lsgan_losses_are_zero_for_perfect_scores() -> None:
    assert lsgan_discriminator(torch.ones(4, 5), torch.zeros(3, 5)) == 0
    assert lsgan_discriminator(torch.zeros(4, 5), torch.ones(3, 5)) == 1
    assert lsgan_generator(torch.ones(4, 5)) == 0


def test_threshold_penalty_is_zero_for_rows_below_the_threshold() -> None:
    # The row means of |gamma| are 0.25, 0.5 and 3.5, and the norms of the last two are 1 and 5.
    gamma = torch.tensor([[0.5, 0.0], [0.0, -1.0], [3.0, -4.0]])
    assert float(threshold_penalty(gamma, 0.3)) == pytest.approx((0 + 1 + 5) / 3)
    assert float(threshold_penalty(gamma, 4.0)) == 0
    assert float(threshold_penalty(gamma[:, :, None], 0.3)) == pytest.approx(2)


def test_threshold_penalty_of_zeros_has_a_finite_gradient() -> None:
    gamma = torch.zeros(3, 4, requires_grad=True)
    for threshold in (0.0, 0.1):
        (gradient,) = torch.autograd.grad(threshold_penalty(gamma, threshold), gamma)
        assert torch.equal(gradient, torch.zeros(3, 4))


def test_outside_band_is_the_squared_distance_from_the_target() -> None:
    value = torch.tensor([3.0, 4.5, 5.5, 0.0])  # distances 0, 1.5, 2.5 and 3 from the target 3
    assert float(outside_band(value, 3.0, 2.0)) == pytest.approx((2.5**2 + 3**2) / 4)
    assert float(outside_band(value[:2], 3.0, 2.0)) == 0
    assert float(outside_band(torch.tensor([5.0]), 3.0, 2.0)) == 0  # the edge is inside


def test_past_limit_applies_to_both_signs() -> None:
    gamma = torch.tensor([0.05, -0.2, 0.3, 0.0])
    assert float(past_limit(gamma, 0.1)) == pytest.approx((0.04 + 0.09) / 4)


def test_squared_error_is_per_row_and_sums_over_xyz() -> None:
    target = torch.zeros(2, 3, 4, 3)  # 2 rows, 3 frames, 4 joints
    predicted = target.clone()
    predicted[1, 2, 3] = torch.tensor([1.0, 2.0, 2.0])
    assert squared_error(predicted, target).tolist() == pytest.approx([0, 9 / 12])
    assert squared_error(predicted[:, 2], target[:, 2]).tolist() == pytest.approx([0, 9 / 4])


def test_gradients() -> None:
    real, fake = scores(0), scores(1)
    assert gradients_are_right(lsgan_discriminator, real, fake)
    assert gradients_are_right(lsgan_generator, fake)
    assert gradients_are_right(lambda g: threshold_penalty(g, 0.5), scores(2))
    assert gradients_are_right(lambda g: outside_band(g, 1.0, 0.5), scores(3))
    assert gradients_are_right(lambda g: past_limit(g, 0.1), scores(4))
    skeleton = SKELETONS["humaneva_15"]
    poses = random_poses(skeleton, 2, 2), random_poses(skeleton, 2, 2, seed=1)
    assert gradients_are_right(squared_error, *poses)
