"""A resumed run equals an uninterrupted one bit for bit; a state that does not fit raises."""

from __future__ import annotations

import copy
import io
import random
from typing import Any

import numpy as np
import pytest
import torch

from loop_helpers import (
    Lifter,
    attached,
    batch,
    loader,
    same,
    seed_all,
    small,
    snapshot,
    step,
    streams,
    train,
    trained,
)
from poseaug_plugin import CheckpointError, PoseAugConfig, PoseAugmenter, Skeleton
from poseaug_plugin.adversarial import collapse


def new_run(config: PoseAugConfig) -> tuple[PoseAugmenter, Any, Any]:
    model, optimizer = trained(norm=config.mix != "alternate")
    return PoseAugmenter(model, optimizer, "poseaug", 4, config=config), model, optimizer


def saved(*things: Any) -> io.BytesIO:
    """Save states to a file, as a script does."""
    file = io.BytesIO()
    torch.save([thing.state_dict() for thing in things], file)
    file.seek(0)
    return file


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("preset", ["default", "random", "paper", "released"])
def test_a_resumed_run_equals_an_uninterrupted_one(preset: str, every: int, at: int) -> None:
    config = small(preset, update_every=every, d_every=2, warmup=1, pool=12)
    batches = [batch(seed=i) for i in range(4)]

    def halves(augmenter: PoseAugmenter, model: Any, optimizer: Any, part: list[Any]) -> None:
        for each in augmenter.wrap(part):
            step(model, optimizer, each)

    whole = new_run(config)
    halves(*whole, batches[:at])
    halves(*whole, batches[at:])
    expected = [snapshot(*whole), streams(), whole[0].stats()]

    first = new_run(config)
    halves(*first, batches[:at])
    file, global_streams = saved(*first), (torch.get_rng_state(), np.random.get_state())
    python_stream = random.getstate()

    seed_all(99)
    second = new_run(config)
    for thing, state in zip(second, torch.load(file)):
        thing.load_state_dict(state)
    torch.set_rng_state(global_streams[0])
    np.random.set_state(global_streams[1])
    random.setstate(python_stream)
    halves(*second, batches[at:])
    assert (expected[2]["updates"] > 0) is (preset != "random")
    assert same(snapshot(*second), expected[0])
    assert same(streams(), expected[1])
    counted = second[0].stats()  # measures of earlier updates are not saved
    assert counted == {name: expected[2][name] for name in counted}
    assert {"batches", "steps", "rows", "augmented", "epochs", "updates"} <= set(counted)


def test_a_state_saved_before_the_first_batch_loads() -> None:
    first, second = attached()[0], attached()[0]
    second.load_state_dict(first.state_dict())
    second(batch())
    assert second.stats()["batches"] == 1


def test_loading_a_state_from_before_the_first_batch_restarts_the_run() -> None:
    augmenter, model, optimizer = attached()
    beginning = copy.deepcopy(augmenter.state_dict())
    train(model, optimizer, augmenter.wrap(loader()))
    first = snapshot(augmenter)
    augmenter.load_state_dict(beginning)
    assert augmenter.stats()["updates"] == 0
    seed_all()
    again, optimizer_again = trained(norm=False)
    model.load_state_dict(again.state_dict())
    optimizer.load_state_dict(optimizer_again.state_dict())
    train(model, optimizer, augmenter.wrap(loader()))
    assert same(snapshot(augmenter), first)


def test_loading_an_earlier_state_restores_it() -> None:
    augmenter, model, optimizer = attached()
    train(model, optimizer, augmenter.wrap(loader()))
    state = copy.deepcopy(augmenter.state_dict())
    train(model, optimizer, augmenter.wrap(loader()))
    assert augmenter.stats()["epochs"] == 2
    augmenter.load_state_dict(state)
    assert same(snapshot(augmenter), snapshot(state))
    assert augmenter.stats()["epochs"] == 1
    augmenter(batch())
    assert augmenter.stats()["batches"] == 3


@pytest.mark.parametrize("back", [1, 2])
def test_steps_repeated_after_loading_an_earlier_state_are_equal(back: int) -> None:
    augmenter, _, optimizer = attached()
    given = [batch(seed=i) for i in range(1 + back)]

    def steps(batches: list[Any]) -> Any:
        for each in batches:
            augmenter(each)
            optimizer.step()  # without gradients, the model does not change
        return [snapshot(augmenter), augmenter.stats()]

    steps(given[:1])
    state = copy.deepcopy(augmenter.state_dict())
    first = steps(given[1:])
    augmenter.load_state_dict(state)
    assert same(steps(given[1:]), first)


def test_a_batch_from_before_a_loaded_state_does_not_count_after_it() -> None:
    augmenter, _, optimizer = attached(small("residual"))
    state = augmenter.state_dict()
    augmenter(batch())
    augmenter.load_state_dict(state)
    optimizer.step()
    stats = augmenter.stats()
    assert [stats[name] for name in ("steps", "steps_with_batch", "updates")] == [1, 0, 0]


def test_a_loaded_state_is_copied() -> None:
    first, model, optimizer = attached()
    train(model, optimizer, first.wrap(loader()))
    state = first.state_dict()
    before = snapshot(state)
    second, other, stepper = attached()
    second.load_state_dict(state)
    train(other, stepper, second.wrap(loader()))
    assert same(snapshot(state), before)


def test_the_state_does_not_contain_the_callers_model() -> None:
    augmenter, model, optimizer = attached()
    train(model, optimizer, augmenter.wrap(loader()))
    shapes: set[tuple[int, ...]] = set()

    def walk(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            shapes.add(tuple(value.shape))
        for each in value.values() if isinstance(value, dict) else ():
            walk(each)

    walk(augmenter.state_dict())
    assert shapes
    assert not shapes & {tuple(p.shape) for p in model.parameters()}


# What does not fit


def state_of(**changes: Any) -> dict[str, Any]:
    augmenter, model, optimizer = attached(small(**changes))
    train(model, optimizer, augmenter.wrap(loader()))
    return copy.deepcopy(augmenter.state_dict())


def assert_load_raises(state: Any, pattern: str, **kwargs: Any) -> None:
    """Loading raises, and does not change the augmenter."""
    augmenter, model, optimizer = attached(**kwargs)
    train(model, optimizer, augmenter.wrap(loader()) if not kwargs else [])
    before, stats = snapshot(augmenter), augmenter.stats()
    with pytest.raises(CheckpointError, match=pattern):
        augmenter.load_state_dict(state)
    assert same(snapshot(augmenter), before)
    assert augmenter.stats() == stats


def test_a_state_of_another_config_raises_with_the_difference() -> None:
    assert_load_raises(state_of(lr=0.002), r"saved with \{'lr': 0.002\}.*has \{'lr': 0.001\}")


def test_a_state_of_another_seed_raises() -> None:
    assert_load_raises(state_of(seed=1), r"saved with \{'seed': 1\}.*has \{'seed': 0\}")


def test_names_of_joints_do_not_matter_to_a_state() -> None:
    own = Skeleton.of("h36m_16")
    augmenter, _, _ = attached(small("random"), skeleton=Skeleton(own.parents, own.left, own.right))
    saved, model, optimizer = attached(small("random"), skeleton=own)
    train(model, optimizer, saved.wrap(loader()))
    augmenter.load_state_dict(saved.state_dict())
    assert augmenter.stats() == saved.stats()


def test_a_state_of_another_skeleton_raises() -> None:
    assert_load_raises(state_of(), r"parents \(-1, 0, 1, 2, 0", skeleton="h36m_17")


@pytest.mark.parametrize("change", ["sides exchanged", "right in another order", "no sides"])
def test_a_state_of_a_skeleton_with_other_sides_raises(change: str) -> None:
    own = Skeleton.of("h36m_16")
    other = {
        "sides exchanged": lambda: Skeleton(own.parents, own.right, own.left),
        "right in another order": lambda: Skeleton(
            own.parents, (*own.left[3:], *own.left[:3]), (*own.right[3:], *own.right[:3])
        ),
        "no sides": lambda: Skeleton(own.parents),
    }[change]()
    assert_load_raises(state_of(), "skeleton with parents", skeleton=other)


@pytest.mark.filterwarnings("ignore:what is learned has collapsed")
def test_a_state_saved_inside_a_collapse_window_detects_the_collapse_at_the_same_update(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collapse, "WINDOW", 6)
    limit = collapse.LIMITS["hardness"]._replace(low=0.0, high=1e-9)
    monkeypatch.setitem(collapse.LIMITS, "hardness", limit)

    def run(saved_after: int | None) -> list[int]:
        reported: list[int] = []

        def note(event: Any) -> None:
            if event.kind == "collapse":
                reported.append(int(event.augmenter.stats()["updates"]))

        augmenter, _, optimizer = attached(small("residual"), callbacks=[note])
        for number in range(8):
            if number == saved_after:
                state = augmenter.state_dict()
                augmenter.detach()
                augmenter, _, optimizer = attached(small("residual"), callbacks=[note])
                augmenter.load_state_dict(state)
            augmenter(batch(seed=number))
            optimizer.step()
        return reported

    assert run(None) == run(2) == run(5) == [6]


@pytest.mark.parametrize(
    "state",
    [{}, {"skeleton": None}, [], "latest.pt", None, 3, Lifter().state_dict()],
    ids=["empty", "half", "list", "path", "None", "number", "a model's"],
)
def test_something_that_is_no_state_raises(state: Any) -> None:
    assert_load_raises(state, r"augmenter\.state_dict\(\)")


@pytest.mark.parametrize("damage", ["no nets", "other nets", "config", "skeleton"])
def test_a_damaged_state_raises_before_anything_is_changed(damage: str) -> None:
    state = state_of()
    if damage == "no nets":
        del state["engine"]["trainer"]["nets"]
    elif damage == "other nets":
        state["engine"]["trainer"]["nets"]["augmentor"] = Lifter().state_dict()
    else:
        state[damage] = "?"
    assert_load_raises(state, "state")
