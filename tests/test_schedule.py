"""Schedules over epochs."""

from __future__ import annotations

import pytest

from poseaug_plugin.schedule import EpochSchedule


@pytest.mark.parametrize(("done", "value"), [(0, 1.75), (1, 2.0), (3, 2.5), (5, 3.0), (9, 3.0)])
def test_between_interpolates_over_epochs_and_has_its_end_in_the_last(
    done: int, value: float
) -> None:
    assert EpochSchedule(6, 2, done).between((1.5, 3.0)) == pytest.approx(value)


def test_between_may_decrease() -> None:
    assert EpochSchedule(4, 0, 0).between((5.0, 3.0)) == pytest.approx(4.5)


@pytest.mark.parametrize(
    ("done", "factor"), [(0, 1.0), (1, 10 / 11), (9, 2 / 11), (11, 0), (20, 0)]
)
def test_the_learning_rate_decays_linearly(done: int, factor: float) -> None:
    assert EpochSchedule(10, 2, done).lr_factor == pytest.approx(factor)


@pytest.mark.parametrize("done", [0, 100])
def test_a_run_of_unknown_length_has_the_end_values(done: int) -> None:
    schedule = EpochSchedule(None, 2, done)
    assert schedule.between((1.5, 3.0)) == 3.0
    assert schedule.lr_factor == 1.0


@pytest.mark.parametrize(("done", "warmup", "warm"), [(1, 2, False), (2, 2, True), (0, 0, True)])
def test_the_warm_up_ends_after_its_epochs(done: int, warmup: float, warm: bool) -> None:
    assert EpochSchedule(10, warmup, done).warm is warm


@pytest.mark.parametrize(("steps", "warm"), [(0, False), (2, False), (3, True), (9, True)])
def test_a_warm_up_in_steps_does_not_depend_on_epochs(steps: int, warm: bool) -> None:
    for done in (0, 5):
        assert EpochSchedule(10, 2, done, warmup_steps=3, steps=steps).warm is warm
