"""When the game is called dead."""

from __future__ import annotations

import math

import pytest
import torch

from poseaug_plugin.adversarial.collapse import WINDOW, CollapseReport, CollapseWatch

HEALTHY = {"loss_d3d": 0.2, "loss_d2d": 0.25, "grad_norm": 0.1, "hardness": 1.5, "feedback": 0.3}


def watch(*updates: dict[str, float]) -> list[list[CollapseReport]]:
    """What each turn answers."""
    watcher = CollapseWatch()
    return [watcher.add({k: torch.tensor(v) for k, v in turn.items()}) for turn in updates]


@pytest.mark.parametrize(
    "measures",
    [
        HEALTHY,
        {},
        {"grad_norm": 1e-3},
        {**HEALTHY, "loss_d3d": 0.003, "hardness": 0.4, "grad_norm": 1e-6},
        {**HEALTHY, "hardness": 45.0},
    ],
)
def test_a_healthy_game_is_left_alone(measures: dict[str, float]) -> None:
    assert not any(watch(*[measures] * (2 * WINDOW)))


@pytest.mark.parametrize(
    ("sick", "part", "reason"),
    [
        ({"loss_d3d": 1e-4}, "d3d", "its loss is 0.0001: it tells every fake apart"),
        ({"loss_d2d": 0.0}, "d2d", "its loss is 0: it tells every fake apart"),
        ({"loss_d2d": math.nan}, "d2d", "its loss is nan"),
        ({"grad_norm": 0.0}, "augmentor", "its gradient is 0"),
        ({"grad_norm": math.nan}, "augmentor", "its gradient is nan"),
        ({"hardness": 0.1}, "augmentor", "hardness 0.1 is outside 0.3 to 50"),
        ({"hardness": 80.0}, "augmentor", "hardness 80 is outside 0.3 to 50"),
        ({"hardness": math.nan}, "augmentor", "hardness nan is outside"),
        ({"hardness": 0.1, "grad_norm": 0.0}, "augmentor", "hardness 0.1 is outside"),
    ],
)
def test_a_dead_part_is_named_once_a_window(sick: dict[str, float], part: str, reason: str) -> None:
    answers = watch(*[{**HEALTHY, **sick}] * (2 * WINDOW))
    spoken = {turn: found for turn, found in enumerate(answers) if found}
    assert list(spoken) == [WINDOW - 1, 2 * WINDOW - 1]
    for (report,) in spoken.values():
        assert report.part == part
        assert report.reason.startswith(reason)


def test_several_parts_can_die_at_once() -> None:
    sick = {**HEALTHY, "loss_d3d": 0.0, "loss_d2d": 0.0, "hardness": 0.0}
    assert {v.part for v in watch(*[sick] * WINDOW)[-1]} == {"d3d", "d2d", "augmentor"}


def test_the_mean_over_the_window_counts() -> None:
    moment = {**HEALTHY, "loss_d3d": 0.0, "hardness": 0.1}
    assert not any(watch(*[moment, HEALTHY] * (WINDOW // 2)))
    # A measure taken every second turn is averaged over the updates that took it.
    rare = {"loss_d3d": 0.003}
    assert not any(watch(*[rare, {}] * (WINDOW // 2)))


def test_a_new_window_forgets_the_old_one() -> None:
    dead = {**HEALTHY, "grad_norm": math.nan}
    assert not any(watch(*[dead] * WINDOW, *[HEALTHY] * WINDOW)[WINDOW:])
