"""Detection of collapsed adversarial training."""

from __future__ import annotations

import math

import pytest
import torch

from poseaug_plugin.adversarial.collapse import WINDOW, CollapseReport, CollapseWatch

HEALTHY = {"loss_d3d": 0.2, "loss_d2d": 0.25, "grad_norm": 0.1, "hardness": 1.5, "feedback": 0.3}


def watch(*updates: dict[str, float]) -> list[list[CollapseReport]]:
    """The reports after each update."""
    watcher = CollapseWatch()
    return [watcher.add({k: torch.tensor(v) for k, v in each.items()}) for each in updates]


@pytest.mark.parametrize(
    "measures",
    [
        HEALTHY,
        {},
        {"grad_norm": 1e-3},
        {**HEALTHY, "loss_d3d": 0.003, "hardness": 0.2, "diversity_ba": 0.5, "grad_norm": 1e-6},
        {**HEALTHY, "hardness": 2000.0},
        {**HEALTHY, "evenness_r": 0.6, "evenness_t": 1.0, "model_error": 0.5},
        {**HEALTHY, "loss_augmentor": 12.0},  # a sum of losses, unlike that of a discriminator
    ],
)
def test_healthy_training_gives_no_report(measures: dict[str, float]) -> None:
    assert not any(watch(*[measures] * (2 * WINDOW)))


@pytest.mark.parametrize(
    ("collapsed", "part", "reason"),
    [
        ({"loss_d3d": 1e-4}, "d3d", "its loss is 0.0001, so it recognises every fake"),
        ({"loss_d2d": 0.0}, "d2d", "its loss is 0, so it recognises every fake"),
        ({"loss_d2d": math.nan}, "d2d", "its loss is nan"),
        ({"grad_norm": 0.0}, "augmentor", "its gradient norm is 0"),
        ({"grad_norm": math.nan}, "augmentor", "its gradient norm is nan"),
        ({"hardness": 0.05}, "augmentor", "hardness 0.05 is outside 0.1 to 2500"),
        ({"hardness": 4e3}, "augmentor", "hardness 4e+03 is outside 0.1 to 2500"),
        ({"hardness": math.nan}, "augmentor", "hardness nan is outside"),
        ({"hardness": 0.05, "grad_norm": 0.0}, "augmentor", "hardness 0.05 is outside"),
        ({"diversity_ba": 0.02}, "augmentor", "it bends all rows alike: only 2% of its"),
        ({"diversity_ba": math.nan}, "augmentor", "it bends all rows alike"),
        ({"gamma_ba": math.nan}, "augmentor", "its parameters are not finite"),
        ({"evenness_r": 0.35}, "augmentor", "it turns all rows about one axis"),
        ({"evenness_t": 0.35}, "augmentor", "it moves all rows along one line"),
        ({"model_error": 0.95}, "augmentor", "it learns from the errors of the model"),
        (
            {"model_error": 1e6, "hardness": 1e4},
            "augmentor",
            "it learns from the errors of the model",
        ),
        ({"loss_d3d": 3.0}, "d3d", "its loss is 3, so it has diverged"),
    ],
)
def test_a_collapsed_part_is_reported_once_per_window(
    collapsed: dict[str, float], part: str, reason: str
) -> None:
    reports = watch(*[{**HEALTHY, **collapsed}] * (2 * WINDOW))
    by_update = {update: found for update, found in enumerate(reports) if found}
    assert list(by_update) == [WINDOW - 1, 2 * WINDOW - 1]
    for (report,) in by_update.values():
        assert report.part == part
        assert report.reason.startswith(reason)


def test_several_parts_can_collapse_at_once() -> None:
    collapsed = {**HEALTHY, "loss_d3d": 0.0, "loss_d2d": 0.0, "hardness": 0.0}
    assert {report.part for report in watch(*[collapsed] * WINDOW)[-1]} == {
        "d3d",
        "d2d",
        "augmentor",
    }


def test_the_mean_over_the_window_is_checked() -> None:
    collapsed = {**HEALTHY, "loss_d3d": 0.0, "hardness": 0.05}
    assert not any(watch(*[collapsed, HEALTHY] * (WINDOW // 2)))
    # A measure of every second update is averaged over the updates that have it.
    half = {"loss_d3d": 0.003}
    assert not any(watch(*[half, {}] * (WINDOW // 2)))


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_an_estimator_that_diverges_for_a_while_is_left_out_of_the_mean(wrong: float) -> None:
    low = {**HEALTHY, "hardness": 0.15, "grad_norm": 1.5e-7}  # near their limits
    diverged = {**low, "hardness": wrong, "grad_norm": wrong}
    assert not any(watch(*[low, diverged] * (WINDOW // 2)))


def test_a_new_window_starts_from_zero() -> None:
    collapsed = {**HEALTHY, "grad_norm": math.nan}
    assert not any(watch(*[collapsed] * WINDOW, *[HEALTHY] * WINDOW)[WINDOW:])


def test_a_window_has_the_measures_of_its_own_updates_alone() -> None:
    diverged = {**HEALTHY, "loss_d3d": 100.0, "hardness": 1e5}
    reports = watch(*[diverged] * WINDOW, *[HEALTHY] * WINDOW)
    assert len(reports[WINDOW - 1]) == 2
    assert not any(reports[WINDOW:])
