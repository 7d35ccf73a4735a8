"""No option is without effect: another value changes the batches or what the networks learn."""

from __future__ import annotations

import functools
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from loop_helpers import attached, batch, small, step
from poseaug_plugin import PoseAugConfig

Base = tuple[str, dict[str, Any]]  # a preset, and what is changed of it

PRIOR: Base = ("default", dict(learned=False))
LEARNED: Base = ("residual", dict(adv2d=0.5, beta=(1e3, 1e3)))
RANGE: Base = (
    "residual",
    dict(feedback="range", reg="range", ba_band=0.1, rt_band=0.1, rt_ratio=(2.0, 2.0)),
)
PAPER: Base = ("paper", {})
RELEASED: Base = ("released", {})

#: For each option, the config in which it matters, and other values than there.
OPTIONS: dict[str, tuple[Base, Any]] = {
    "mix": (PRIOR, "append"),
    "ratio": (PRIOR, 0.3),
    "depth": (PRIOR, 3.0),
    "frame_height": (PRIOR, 0.3),
    "ba": (PRIOR, False),
    "bl": (PRIOR, False),
    "rt": (PRIOR, False),
    "prior": (LEARNED, False),
    "yaw": (PRIOR, 0.5),
    "upright": (PRIOR, False),
    "tilt": (PRIOR, (-0.1, 0.1)),
    "roll": (PRIOR, 0.5),
    "distance": (PRIOR, (3.0, 3.5)),
    "image_offset": (PRIOR, 0.05),
    "focal": (PRIOR, (0.9, 1.3)),
    "widen_views": (PRIOR, 1.2),
    "bend": (PRIOR, 0.4),
    "bend_sigma": (PRIOR, 1.0),
    "stretch": (PRIOR, 0.3),
    "body_scale": (PRIOR, 0.3),
    "body_height": (PRIOR, (1.4, 1.6)),
    "joint_offset": (PRIOR, 0.1),
    "swap_lengths": (PRIOR, False),
    "released_quirks": (RELEASED, True),
    "rare_pose_power": (PRIOR, 1.0),
    "limb_crossover": (PRIOR, False),
    "learned": (PRIOR, True),
    "networks": (LEARNED, "separate"),
    "width": (LEARNED, 40),
    "noise": (LEARNED, 7),
    "limit_ba": (LEARNED, 0.01),
    "limit_bl": (LEARNED, 0.01),
    "limit_r": (LEARNED, 0.01),
    "limit_t": (LEARNED, 0.01),
    "freeze_trunk": (LEARNED, False),
    "d_width": (LEARNED, 20),
    "normalize_gradients": (LEARNED, False),
    "adv3d": (LEARNED, 0.3),
    "adv2d": (LEARNED, 2.0),
    "kcs": (LEARNED, "whole"),
    "feedback": (LEARNED, "off"),
    "feedback_weight": (LEARNED, 5.0),
    "beta": (LEARNED, (1e-3, 1e-3)),
    "ba_ratio": (RANGE, (30.0, 30.0)),
    "ba_band": (RANGE, 5.0),
    "ba_weight": (RANGE, 3.0),
    "rt_ratio": (RANGE, (40.0, 40.0)),
    "rt_band": (RANGE, 50.0),
    "rt_weight": (RANGE, 3.0),
    "reg": (LEARNED, "range"),
    "reg_weight": (RANGE, 10.0),
    "reg_angles": (LEARNED, 9.0),
    "reg_ba": (LEARNED, 0.0),
    "reg_bl": (LEARNED, 0.0),
    "bend_target": (RANGE, 0.9),
    "bend_band": (RANGE, 0.01),
    "lr": (LEARNED, 0.02),
    "clip": (LEARNED, 1e-3),
    "update_every": (LEARNED, 2),
    "update_rows": (LEARNED, 5),
    "d_every": (LEARNED, 2),
    "warmup_steps": (LEARNED, 4),
    "warmup": (LEARNED, 1.0),
    "pool": (LEARNED, 3),
    "seed": (PRIOR, 5),
}
#: They matter with detected 2D, a target, hidden joints, a collapse or ranks, and have other tests.
ELSEWHERE = {"keep_detection_error", "lifted_poses", "joint_dropout", "repair", "sync_ranks"}
#: These have an effect in the networks of `paper` too, whose gradients are combined otherwise.
IN_PAPER = ("adv3d", "adv2d", "feedback_weight", "beta", "lr", "kcs", "noise")


def results(config: PoseAugConfig) -> list[Tensor]:
    """The batches of seven steps and all weights of the plugin's networks after them."""
    augmenter, model, optimizer = attached(config, epochs=3)
    found = []
    for i in range(7):
        augmented = augmenter(batch(rows=24, seed=i))
        found += [field for field in augmented if isinstance(field, Tensor)]
        step(model, optimizer, augmented)
        if i == 3:
            augmenter.end_epoch()
    trainer = augmenter.state_dict()["engine"]["trainer"]
    for state in trainer["nets"].values() if trainer else ():
        found += [value for value in state.values() if isinstance(value, Tensor)]
    return found


@functools.cache
def unchanged(preset: str, changes: tuple[tuple[str, Any], ...]) -> list[Tensor]:
    return results(small(preset, **dict(changes)))


def differs(base: Base, **changes: Any) -> bool:
    """Whether the results differ by more than rounding."""
    preset, own = base
    old, new = unchanged(preset, tuple(own.items())), results(small(preset, **{**own, **changes}))
    return len(old) != len(new) or any(
        a.shape != b.shape or not torch.allclose(a, b, rtol=1e-3, atol=1e-5)
        for a, b in zip(old, new)
    )


@pytest.mark.parametrize("base", [PRIOR, LEARNED, PAPER], ids=lambda base: base[0])
def test_the_same_config_gives_the_same_results(base: Base) -> None:
    assert not differs(base)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_has_an_effect(name: str) -> None:
    base, value = OPTIONS[name]
    assert differs(base, **{name: value})


@pytest.mark.parametrize("name", IN_PAPER)
def test_an_option_has_an_effect_in_paper(name: str) -> None:
    assert differs(PAPER, **{name: OPTIONS[name][1]})


def test_every_option_is_tried() -> None:
    assert OPTIONS.keys() | ELSEWHERE == {field.name for field in fields(PoseAugConfig)}
