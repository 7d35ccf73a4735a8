"""Every entry of a saved state, damaged in every way: refused, or it resumes and is finite."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from loop_helpers import attached, loader, same, small, snapshot, train
from poseaug_plugin import CheckpointError
from poseaug_plugin.saved_state import check_like

Path = tuple[Any, ...]


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    """Paths to everything in a state that is no container, and to the containers themselves."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, (list, tuple)) else items
    for key, inner in items:
        yield from leaves(inner, (*path, key))


def at(state: Any, path: Path) -> Any:
    for key in path:
        state = state[key]
    return state


def is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


DELETED = object()
DAMAGES: dict[str, Callable[[Any], Any]] = {
    "deleted": lambda value: DELETED,
    "None": lambda value: None,
    "text": lambda value: "x",
    "negative": lambda value: (
        -value if isinstance(value, Tensor) and value.is_floating_point() else -1
    ),
    "reshaped": lambda value: value[None] if isinstance(value, Tensor) else [value],
    "NaN": lambda value: value * math.nan if is_float(value) else math.nan,
    "huge": lambda value: value + math.inf if is_float(value) else 10**30,
}


def damaged(state: Any, path: Path, damage: str) -> Any:
    """The state with one entry damaged. All that the damage leaves alone is that of `state`."""
    made, key = copy.copy(state), path[0]
    if len(path) > 1:
        made[key] = damaged(state[key], path[1:], damage)
        return made
    value = DAMAGES[damage](state[key])
    if value is DELETED:
        del made[key]
    else:
        made[key] = value
    return made


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    for inner in value.values() if isinstance(value, dict) else ():
        yield from tensors(inner)


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("preset", ["random", "residual"])
def test_every_entry_damaged_is_refused_or_resumes(preset: str, damage: str) -> None:
    config = small(preset, d_every=1, pool=12, width=4, d_width=4)
    augmenter, model, optimizer = attached(config)
    train(model, optimizer, augmenter.wrap(loader()), epochs=2)
    state = copy.deepcopy(augmenter.state_dict())
    other, model, optimizer = attached(config)
    train(model, optimizer, other.wrap(loader()))
    before, refused, accepted = snapshot(other), 0, []
    for path in leaves(state):
        if isinstance(at(state, path[:-1]), tuple):
            continue  # the container above is damaged in its turn
        try:
            other.load_state_dict(damaged(state, path, damage))
        except CheckpointError:
            refused += 1
            assert same(snapshot(other), before), path
        else:
            accepted.append(path)
            before = snapshot(other)
    for paths in together(state, accepted):
        wrong = state
        for path in reversed(paths):  # so that the places in a list stay the same
            wrong = damaged(wrong, path, damage)
        other, model, optimizer = attached(config)
        other.load_state_dict(wrong)
        train(model, optimizer, other.wrap(loader()))
        stats = other.stats()
        assert stats["bad_batches"] == state["counts"]["bad_batches"], paths
        engine = other.state_dict()["engine"]
        (engine["trainer"] or {}).pop("watch", None)  # measures may be anything
        for tensor in tensors(engine):
            assert not tensor.is_floating_point() or tensor.isfinite().all(), paths
    assert refused > 20
    assert refused > len(accepted), len(accepted)


def together(state: Any, paths: list[Path]) -> list[list[Path]]:
    """The paths, where those to numbers and text of the same part are in one list."""
    groups: dict[tuple[bool, Path], list[Path]] = {}
    for path in paths:
        is_container = isinstance(at(state, path), (dict, list, tuple))
        groups.setdefault((is_container, path if is_container else path[:-1][:4]), []).append(path)
    return list(groups.values())


NAMED = {
    "a moment of another shape": (("optimizers", "augmentor", "state", 0, "exp_avg"), "reshaped"),
    "a step that is no number": (("optimizers", "augmentor", "state", 0, "step"), "NaN"),
    "a negative step": (("optimizers", "augmentor", "state", 0, "step"), "negative"),
    "text for a number": (("updates",), "text"),
    "a network of NaN": (("nets", "d3d", "score.weight"), "NaN"),
    "a pool of another shape": (("pools", "d3d", "items"), "reshaped"),
}


@pytest.mark.parametrize("name", NAMED)
def test_the_entry_is_named(name: str) -> None:
    inner, damage = NAMED[name]
    augmenter, model, optimizer = attached(small("residual"))
    train(model, optimizer, augmenter.wrap(loader()), epochs=2)
    wrong = damaged(augmenter.state_dict(), ("engine", "trainer", *inner), damage)
    with pytest.raises(CheckpointError) as caught:
        attached(small("residual"))[0].load_state_dict(wrong)
    assert ".".join(map(str, inner)) in str(caught.value)


@pytest.mark.parametrize("key", ["steps", "steps_with_batch", "batches"])
def test_a_missing_count_is_named(key: str) -> None:
    augmenter, model, optimizer = attached(small("random"))
    train(model, optimizer, augmenter.wrap(loader()))
    state = copy.deepcopy(augmenter.state_dict())
    del state["counts"][key]
    with pytest.raises(CheckpointError, match=f"counts lacks .'{key}'"):
        augmenter.load_state_dict(state)


def test_an_empty_config_and_unknown_entries_are_refused() -> None:
    augmenter, model, optimizer = attached(small("random"))
    train(model, optimizer, augmenter.wrap(loader()))
    state = augmenter.state_dict()
    with pytest.raises(CheckpointError, match=r"state\.config"):
        augmenter.load_state_dict({**state, "config": {}})
    with pytest.raises(CheckpointError, match=r"unknown .'more'"):
        augmenter.load_state_dict({**state, "more": 1})


def test_a_state_loaded_in_inference_mode_can_be_trained_on() -> None:
    augmenter, model, optimizer = attached(small("residual"))
    train(model, optimizer, augmenter.wrap(loader()))
    other, model, optimizer = attached(small("residual"))
    with torch.inference_mode():
        other.load_state_dict(augmenter.state_dict())
    before = other.stats()["updates"]
    train(model, optimizer, other.wrap(loader()))
    assert other.stats()["updates"] > before


def test_optimizer_options_of_another_torch_version_are_not_loaded() -> None:
    augmenter, model, optimizer = attached(small("residual"))
    train(model, optimizer, augmenter.wrap(loader()))
    state = copy.deepcopy(augmenter.state_dict())
    for saved in state["engine"]["trainer"]["optimizers"].values():
        for group in saved["param_groups"]:
            del group["fused"]
            group["option of tomorrow"] = 1
    other, model, optimizer = attached(small("residual"))
    other.load_state_dict(state)
    train(model, optimizer, other.wrap(loader()))
    assert other.stats()["updates"] == 2 * augmenter.stats()["updates"]
    own = other.state_dict()["engine"]["trainer"]["optimizers"]["augmentor"]["param_groups"]
    assert "fused" in own[0]
    assert "option of tomorrow" not in own[0]


# Each kind of entry, on both sides of what is allowed

ONES, WHOLE = torch.ones(3), torch.ones(3, dtype=torch.int64)
#: Name of the entry, its example, entries that are as good, and entries that are refused.
ENTRIES: list[tuple[str, Any, list[Any], list[Any]]] = [
    ("epochs_done", 0, [0, 7, 2**62 - 1], [-1, 2**62, True, 1.0, "1", None, ONES[0]]),
    ("weight", 0.0, [0.0, 3, 1e300], [-1e-9, math.inf, math.nan, True, "1", None]),
    ("owed_rows", 0.0, [-2.5, 0.0], [-math.inf, math.nan]),
    ("repair", True, [False], [1, 0.0, None]),
    ("text", "a", ["b"], [1, None]),
    (
        "mean",
        ONES,
        [-ONES, 0 * ONES],
        [ONES[:2], ONES[None], WHOLE, ONES.double(), [1.0] * 3, None],
    ),
    ("mean", ONES, [], [ONES / 0, ONES * math.nan, ONES.to_sparse(), ONES.to("meta")]),
    ("a.sums.b", ONES, [ONES / 0, ONES * math.nan, -ONES], [ONES[:2], ONES.to_sparse()]),
    ("step", ONES, [0 * ONES], [-ONES, ONES - 2 * torch.eye(3)[1]]),
    ("exp_avg_sq", ONES, [0 * ONES], [-ONES]),
    ("exp_avg", ONES, [-ONES], []),
    ("passed", WHOLE, [0 * WHOLE, None], [-WHOLE]),
    ("counts", WHOLE, [0 * WHOLE], [-WHOLE]),
    ("items", ONES, [None], [ONES[:2]]),
    ("engine", {"a": 1}, [None], [1, {"a": -1}, {"a": 1, "b": 2}]),
    ("detected", True, [None, False], [1]),
    ("generator", WHOLE, [WHOLE[:1], -WHOLE], [None, [1]]),
    ("param_groups", [{"lr": 1.0}], [[], [{"other": "x"}]], [None, ({"lr": 1.0},)]),
    ("pair", [1, 2], [[3, 4], (5, 6)], [[1], [1, 2, 3], [1, -1], 1, None]),
    ("nets", {"a": 1, "b": 2}, [{"b": 0, "a": 0}], [{"a": 1}, {"a": 1, "b": 2, "c": 3}, [1, 2]]),
    ("state", {"a": 1, "b": 2}, [{}, {"a": 1}], [{"c": 3}, {"a": -1}]),
    ("a.sums", {"a": ONES}, [{}], [{"b": ONES}]),
    ("a.watch.counts", {"a": 1}, [{}], [{"b": 1}, {"a": -1}]),
    ("a.counts", {"a": 1}, [{"a": 2}], [{}]),
]


@pytest.mark.parametrize(("name", "example", "good", "bad"), ENTRIES)
def test_what_an_entry_may_be(name: str, example: Any, good: list[Any], bad: list[Any]) -> None:
    for saved in (example, *good):
        check_like(saved, example, f"state.{name}")
    for saved in bad:
        with pytest.raises(CheckpointError, match=rf"state\.{name}"):
            check_like(saved, example, f"state.{name}")
