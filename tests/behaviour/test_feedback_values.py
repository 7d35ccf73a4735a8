"""What the estimator is asked during an update, and the hardness that follows, without internals.

`predict` sees the two rows of the first check, then the original pairs, the augmented ones, and,
with feedback="range", the pairs after BA alone.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from loop_helpers import Lifter, people, small
from poseaug_plugin import PoseAugmenter

ORIGINAL, AUGMENTED, BENT = 1, 2, 3  # calls of `predict`
FORMAT = dict(pose_3d=0, pose_2d=1, camera=2, root="absolute")
#: The prior leaves every person as he is, but for his place.
NO_TURN = dict(yaw=0.0, tilt=(0.0, 0.0), roll=0.0, swap_lengths=False, bend=0.0)


class Asked:
    """A `predict` that keeps its inputs, and answers with a share of the right poses."""

    def __init__(self, right: Tensor, shares: dict[int, float], centre: bool) -> None:
        self.right, self.shares, self.centre = right, shares, centre
        self.inputs: list[Tensor] = []

    def __call__(self, model: nn.Module, pose_2d: Tensor) -> Tensor:
        share = self.shares.get(len(self.inputs), 0.0)
        self.inputs.append(pose_2d.detach())
        right = self.right[: len(pose_2d)]
        if self.centre:
            right = right[:, right.shape[1] // 2, None]
        return share * right + 0 * pose_2d.sum()  # differentiable


def asked(
    frames: int = 1, shares: Any = (), centre: bool = False, **changes: Any
) -> tuple[Asked, dict[str, float], Tensor]:
    """One update; returns what the estimator was asked, the stats, and the batch's 2D."""
    who = people(8, frames)
    fields = [torch.from_numpy(field) for field in who]
    relative = torch.from_numpy(who.relative)
    if frames == 1:
        fields = [fields[0][:, 0], fields[1][:, 0], fields[2]]
        relative = relative[:, 0]
    model = Lifter(norm=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    predict = Asked(relative, dict(shares), centre)
    config = small("residual", **{**NO_TURN, **changes})
    augmenter = PoseAugmenter(model, optimizer, FORMAT, config=config, predict=predict)
    augmenter(tuple(fields))
    optimizer.step()
    stats = augmenter.stats()
    assert stats["updates"] == 1
    assert stats["failed_updates"] == 0
    return predict, stats, fields[1]


@pytest.mark.parametrize(("frames", "centre"), [(1, False), (5, False), (5, True)])
@pytest.mark.parametrize("k", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("feedback", ["exp", "range"])
def test_hardness_is_how_many_times_larger_the_squared_error_is(
    feedback: str, k: float, frames: int, centre: bool
) -> None:
    """Zeros for the original poses, and 1 - k of the right poses for the same people elsewhere."""
    only_moved = dict(ba=False, bl=False, feedback=feedback)
    _, stats, _ = asked(frames, {AUGMENTED: 1 - k}, centre, **only_moved)
    assert stats["hardness"] == pytest.approx(k**2, rel=1e-3)


@pytest.mark.parametrize("frames", [1, 5])
def test_the_original_pairs_are_those_of_the_batch(frames: int) -> None:
    predict, _, pose_2d = asked(frames, feedback="exp")
    assert torch.allclose(predict.inputs[ORIGINAL], pose_2d, atol=1e-5)
    assert predict.inputs[AUGMENTED].shape == pose_2d.shape
    assert not torch.allclose(predict.inputs[AUGMENTED], pose_2d, atol=1e-2)


@pytest.mark.parametrize("frames", [1, 5])
def test_the_pairs_after_ba_alone_keep_place_camera_and_bone_lengths(frames: int) -> None:
    """Without BA they are the original pairs; if there is nothing else, the augmented ones."""
    predict, _, pose_2d = asked(frames, feedback="range", ba=False, focal=(0.5, 0.6))
    assert torch.allclose(predict.inputs[BENT], pose_2d, atol=1e-4)
    assert not torch.allclose(predict.inputs[AUGMENTED], pose_2d, atol=1e-2)
    alone, _, pose_2d = asked(frames, feedback="range", bl=False, rt=False, bend=0.6)
    assert torch.allclose(alone.inputs[BENT], alone.inputs[AUGMENTED], atol=1e-5)
    assert not torch.allclose(alone.inputs[BENT], pose_2d, atol=1e-2)


def test_discriminators_see_no_difference_between_a_pose_and_its_unchanged_copy() -> None:
    """With BA alone that bends nothing yet, real and fake are the same, in clips too."""
    for frames in (1, 5):
        _, stats, _ = asked(frames, rt=False, bl=False, feedback="off" if frames == 1 else "exp")
        assert stats["d3d_real"] == pytest.approx(stats["d3d_fake"], abs=1e-5)


def test_the_2d_discriminator_sees_places_and_the_3d_one_does_not() -> None:
    _, still, _ = asked(5, rt=False, bl=False, adv2d=1.0)
    assert still["d2d_real"] == pytest.approx(still["d2d_fake"], abs=1e-4)
    _, moved, _ = asked(5, ba=False, bl=False, adv2d=1.0)
    assert moved["d3d_real"] == pytest.approx(moved["d3d_fake"], abs=1e-4)
    assert abs(moved["d2d_real"] - moved["d2d_fake"]) > 1e-3


@pytest.mark.parametrize("released", [True, False])
def test_the_released_code_divides_by_errors_however_small(released: bool) -> None:
    """Otherwise a tier whose weighted error is below a millimetre counts as a millimetre."""
    ratios = dict(rt_ratio=(4.0, 4.0), ba_ratio=(4.0, 4.0), rt_band=0.0, ba_band=0.0)
    weights = dict(rt_weight=1.0, ba_weight=10.0, released_quirks=released, feedback="range")
    shares = {ORIGINAL: 1 - 2e-4, AUGMENTED: 1 - 4e-4, BENT: 1 - 6e-4}
    _, stats, _ = asked(1, shares, ba=False, bl=False, **ratios, **weights)
    if released:
        wanted = (4 - 2) ** 2 + 10 * (4 - 3) ** 2
        assert stats["feedback"] == pytest.approx(wanted, rel=0.05)
    else:  # all ratios are below 1
        assert stats["feedback"] > (4 - 1) ** 2 + 10 * (4 - 1) ** 2
