"""Ranges: what the options say stays; what they leave open follows the data."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from augment.test_view_statistics import batch_of
from helpers import H36M, generator
from poseaug_plugin import PoseAugConfig, PoseAugmenter
from poseaug_plugin.augment.ranges import Ranges
from poseaug_plugin.augment.view_statistics import ENOUGH, ViewStatistics
from poseaug_plugin.data import synthetic

CPU = torch.device("cpu")
SYNTHETIC = synthetic.make()[0]
SOME = SYNTHETIC[torch.randperm(len(SYNTHETIC), generator=generator())[:2048]]


def batch(rows: slice = slice(None), scale: float = 1.0) -> tuple[Any, ...]:
    """A batch of people and cameras `scale` times as large, with the same 2D."""
    some = SOME[rows]
    return scale * some.pose_3d, some.pose_2d, some.action, some.camera


def augmenter_of(**changes: Any) -> PoseAugmenter:
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    config = PoseAugConfig.default(ratio=1.0, **changes)
    return PoseAugmenter(model, optimizer, "poseaug", config=config)


def test_people_of_a_room_get_the_ranges_that_suit_human36m() -> None:
    augmenter = augmenter_of()
    augmenter(batch())
    stats = augmenter.stats()
    assert stats["distance_low"] == pytest.approx(2.5, rel=0.1)
    assert stats["distance_high"] == pytest.approx(6.5, rel=0.1)
    assert stats["joint_offset"] == pytest.approx(0.025, rel=0.15)
    assert stats["depth"] == pytest.approx(0.2 * stats["distance_low"])
    assert (stats["focal_low"], stats["focal_high"]) == pytest.approx((0.5, 1.0), rel=0.1)
    assert stats["image_offset_y_low"] == pytest.approx(-0.3)
    assert stats["image_offset_x_high"] == pytest.approx(0.3, abs=0.1)


@pytest.mark.filterwarnings("ignore:the first batch is unusual")  # for its size
@pytest.mark.parametrize("scale", [0.1, 1.6])
def test_the_unit_of_the_world_does_not_matter(scale: float) -> None:
    """Dolls in a doll's house get the same 2D as people in a room."""
    people, dolls = augmenter_of()(batch()), augmenter_of()(batch(scale=scale))
    error_2d = (people[1] - dolls[1]).abs().amax((1, 2))
    error_3d = (people[0] - dolls[0] / scale).abs().amax((1, 2))
    # A few rows at the edge of the image are accepted in one world and rejected in the other.
    assert float((error_2d > 0.02).float().mean()) < 0.01
    assert float((error_3d > 0.1).float().mean()) < 0.01
    assert float((people[1] != SOME.pose_2d).flatten(1).all(1).float().mean()) > 0.9


def test_an_option_that_is_given_stays() -> None:
    given = dict(distance=(2.0, 3.0), focal=(0.8, 2.0), image_offset=0.1, joint_offset=0.01)
    augmenter = augmenter_of(**given)
    augmenter(batch(scale=0.5))
    stats = augmenter.stats()
    assert (stats["distance_low"], stats["distance_high"]) == (2, 3)
    assert (stats["image_offset_x_low"], stats["image_offset_y_high"]) == pytest.approx((-0.1, 0.1))
    assert (stats["focal_low"], stats["focal_high"]) == pytest.approx((0.8, 2.0))
    assert (stats["joint_offset"], stats["depth"]) == pytest.approx((0.01, 0.4))
    assert not augmenter.config.uses_view_statistics
    augmenter = augmenter_of(distance=(2.0, 3.0), depth=0.1)
    augmenter(batch(scale=0.5))
    stats = augmenter.stats()
    assert (stats["distance_low"], stats["depth"]) == pytest.approx((2, 0.1))
    assert stats["joint_offset"] == pytest.approx(0.0125, rel=0.15)


def test_ranges_that_are_fitted_leave_those_of_the_options_alone() -> None:
    """They are shared by all augmenters with these options."""
    ranges = Ranges.of(PoseAugConfig.default(), H36M, CPU)
    before = [end.clone() for end in ranges.view]
    statistics = ViewStatistics(CPU)
    statistics.add(batch_of(torch.full((100,), 50.0), x=0.9))
    fitted = ranges.fitted(PoseAugConfig.default(), statistics)
    assert all(map(torch.equal, ranges.view, before))
    assert not any(map(torch.equal, ranges.view, fitted.view))


def test_the_smallest_depth_follows_the_distance_that_is_given() -> None:
    """Also if something else is fitted to the data."""
    config = PoseAugConfig(distance=(2.0, 3.0))
    far = batch_of(torch.full((64,), 16.0))
    assert float(Ranges.of(config, H36M, CPU).depth) == pytest.approx(0.4)
    assert float(Ranges.for_batch(config, H36M, far).depth) == pytest.approx(0.4)
    assert float(Ranges.for_batch(PoseAugConfig(), H36M, far).depth) > 1


@pytest.mark.parametrize("x", [50.0, -50.0])
def test_people_far_outside_the_image_are_placed_near_it(x: float) -> None:
    numbers = Ranges.for_batch(PoseAugConfig(), H36M, batch_of(torch.full((64,), 4.0), x=x))
    low, high = (float(numbers.numbers()[f"image_offset_x_{end}"]) for end in ("low", "high"))
    assert (low, high) == pytest.approx((-0.3, 2.0) if x > 0 else (-2.0, 0.3))


def test_options_that_are_zero_are_not_options_that_are_left_open() -> None:
    config = PoseAugConfig(image_offset=0.0, joint_offset=0.0)
    for ranges in (
        Ranges.of(config, H36M, CPU),
        Ranges.for_batch(config, H36M, batch_of(torch.full((64,), 4.0), x=0.6)),
    ):
        numbers = ranges.numbers()
        assert float(numbers["joint_offset"]) == 0
        assert float(numbers["image_offset_x_low"]) == float(numbers["image_offset_y_high"]) == 0


def test_a_distance_that_the_people_have_is_not_doubted_and_one_beside_them_is() -> None:
    """Without translation, nobody is placed at any distance."""
    poses = batch_of(torch.linspace(4, 6, 64))
    fitted = Ranges.for_batch(PoseAugConfig(), H36M, poses).numbers()
    near, far = float(fitted["distance_low"]), float(fitted["distance_high"])
    for distance, doubted in (
        ((near / 4, 0.9 * near), True),
        ((near / 4, 1.1 * near), False),
        ((0.9 * far, 4 * far), False),
        ((1.1 * far, 4 * far), True),
    ):
        config = PoseAugConfig(distance=distance)
        assert bool(Ranges.of(config, H36M, CPU).doubts(config, H36M, poses)) is doubted
        still = config.replace(rt=False)
        assert not Ranges.of(still, H36M, CPU).doubts(still, H36M, poses)


def test_without_a_usable_row_the_ranges_are_those_of_human36m() -> None:
    config = PoseAugConfig()
    of_options = Ranges.of(config, H36M, CPU)
    padding = batch_of(torch.full((8,), -1.0))
    fitted = Ranges.for_batch(config, H36M, padding)
    for before, after in zip(of_options.view, fitted.view):
        assert torch.allclose(before, after)
    assert torch.allclose(fitted.joint_offset, torch.tensor(0.025))
    assert torch.allclose(fitted.depth, torch.tensor(0.5))


def test_people_at_the_edge_of_the_image_are_placed_there() -> None:
    """But those who are always in the middle are placed elsewhere, too."""
    config = PoseAugConfig()
    for x, wanted in ((0.6, (-0.3, 0.56)), (-0.6, (-0.56, 0.3)), (0.0, (-0.3, 0.3))):
        ranges = Ranges.for_batch(config, H36M, batch_of(torch.full((64,), 4.0), x=x))
        numbers = ranges.numbers()
        found = numbers["image_offset_x_low"], numbers["image_offset_x_high"]
        assert tuple(map(float, found)) == pytest.approx(wanted, abs=0.02)


def test_small_people_are_also_seen_through_longer_lenses() -> None:
    """Until they appear as large as on Human3.6M, 0.191; large ones are not made larger."""
    config, far = PoseAugConfig(), torch.full((64,), 16.0)
    for distance, wanted in ((far, 3.2), (far / 4, 1.0), (far / 8, 1.0)):
        numbers = Ranges.for_batch(config, H36M, batch_of(distance)).numbers()
        assert float(numbers["focal_low"]) == pytest.approx(0.5)
        assert float(numbers["focal_high"]) == pytest.approx(wanted, rel=0.15)


def test_ranges_are_final_after_enough_rows() -> None:
    augmenter = augmenter_of()
    for _ in range(ENOUGH // len(SOME)):
        augmenter(batch())
    before = augmenter.stats()["distance_high"]
    augmenter(batch(scale=0.5))
    assert augmenter.stats()["distance_high"] == before


def test_a_preview_before_the_first_batch_is_fitted_to_its_rows() -> None:
    augmenter = augmenter_of()
    before, _, _ = augmenter.preview(batch(scale=0.5))
    assert 1.0 < float(before.root[..., 2].min()) < float(before.root[..., 2].max()) < 3.5
    assert augmenter._engine is not None
    assert augmenter._engine.sampler.view_statistics.rows == 0
    augmenter(batch())
    assert augmenter.stats()["distance_low"] == pytest.approx(2.5, rel=0.1)
