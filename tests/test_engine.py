"""What is built once the skeleton is known, what of it is restored, and copies on other devices."""

from __future__ import annotations

import torch

from helpers import H36M, people, poses_of
from loop_helpers import same, small, snapshot
from poseaug_plugin.augment.target import Target
from poseaug_plugin.engine import Engine

CPU = torch.device("cpu")


def engine_of() -> Engine:
    """One with everything that is updated after a step."""
    config = small("default", widen_views=1.5, lifted_poses=0.3)
    return Engine(H36M, config, CPU, Target(poses_of(people(300)).pose_2d[:, 0], H36M, CPU))


def used() -> Engine:
    """One whose parts have all changed."""
    engine = engine_of()
    assert None not in (engine.trainer, engine.widening, engine.lifting)
    assert engine.learners == [engine.trainer, engine.widening, engine.lifting]
    for number, learner in enumerate(engine.learners, 3):
        learner.updates = number
    engine.sampler.own_views.shares.fill_(0.4)
    engine.sampler.pairs(poses_of(people(20)), torch.arange(20))
    return engine


def test_all_parts_are_restored() -> None:
    first, second = used(), engine_of()
    assert not same(snapshot(first), snapshot(second))
    second.load_state_dict(first.state_dict())
    assert same(snapshot(first), snapshot(second))
    assert [learner.updates for learner in second.learners] == [3, 4, 5]


def test_an_example_has_the_entries_of_a_state_and_a_known_kind_of_2d() -> None:
    state, example = used().state_dict(), engine_of().example_state()
    assert state["sampler"].keys() == example["sampler"].keys()
    assert type(example["sampler"]["detected"]) is type(state["sampler"]["detected"]) is bool


def test_a_copy_on_another_device_continues() -> None:
    engine = used()
    assert engine.on(CPU) is engine
    moved = engine.on(torch.device("cpu", 0))  # to torch, not the same device
    assert moved is not engine
    assert same(snapshot(moved), snapshot(engine))


def test_the_target_of_widening_is_that_of_the_option_and_networks_can_be_trained() -> None:
    with torch.inference_mode():
        engine = engine_of()
    assert engine.widening._hardness == 1.5
    nets = engine.trainer.nets.values()
    assert not any(p.is_inference() for net in nets for p in net.parameters())
