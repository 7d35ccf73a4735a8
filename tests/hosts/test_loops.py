"""Every loop of `loops.py`: as without the plugin if it is off, undisturbed if it is on."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from loops import LOOPS

from loop_helpers import same, small, snapshot, streams
from poseaug_plugin import DataError, PoseAugConfig, PoseAugmenter
from poseaug_plugin.loop.loader import unwrapped

CONFIGS = {
    "default": PoseAugConfig.default(ratio=0.5),
    "released": small("released", mix="replace"),
    "learned": small("default"),
}
SLOW = {"a spawned worker", "compiled model", "compiled step"}
LONG = "takes seconds, and is tried with the other configs"
NOT_TRIED = {(name, "released"): LONG for name in SLOW}
NOT_TRIED["one row a batch", "released"] = "BatchNorm of one row gives every pose the same view"
#: Loops whose loader's own threads or processes draw from the global streams at any time.
OWN_STREAMS = {"a thread that prefetches"}
each_loop = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in LOOPS]
)


class Attached:
    """Attaches an augmenter, or nothing if `config` is None, and keeps what it attached."""

    def __init__(
        self, config: PoseAugConfig | None, enabled: bool = True, report: bool = False
    ) -> None:
        self.config, self.enabled, self.report = config, enabled, report
        self.augmenters: list[PoseAugmenter] = []

    def __call__(
        self, model: Any, optimizer: Any, loader: Any, config_changes: Any = None, **options: Any
    ) -> Any:
        if self.config is None:
            return loader
        for augmenter in self.augmenters:
            if augmenter._hook is not None and augmenter._hook.optimizer is optimizer:
                return augmenter.wrap(unwrapped(loader))
        config = self.config.replace(**(config_changes or {}))
        options |= {"report": True} if self.report else {}
        augmenter = PoseAugmenter(model, optimizer, "poseaug", 2, config=config, **options)
        if not self.enabled:
            augmenter.disable()
        self.augmenters.append(augmenter)
        return augmenter.wrap(loader)


def outcome(name: str, attach: Attached) -> tuple[list[Any], Any]:
    """What the loop returns, copied, and the random streams at its end."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Anomaly Detection")
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # torch.compile's own
        found = LOOPS[name](attach)
    return snapshot(*(found if isinstance(found, tuple) else (found,))), streams()


@functools.cache
def plain(name: str) -> tuple[list[Any], Any]:
    return outcome(name, Attached(None))


@functools.cache
def augmented(name: str, config: str) -> tuple[list[Any], Any, Attached]:
    attach = Attached(CONFIGS[config])
    return *outcome(name, attach), attach


@each_loop
def test_with_the_plugin_off_a_loop_equals_the_plain_one(name: str) -> None:
    assert same(outcome(name, Attached(CONFIGS["learned"], enabled=False)), plain(name))


@pytest.mark.parametrize("config", CONFIGS)
@each_loop
def test_a_loop_is_augmented_and_not_disturbed(name: str, config: str) -> None:
    if reason := NOT_TRIED.get((name, config)):
        pytest.skip(reason)
    found, drawn, attach = augmented(name, config)
    assert name in OWN_STREAMS or same(drawn, plain(name)[1])
    assert not same(found, plain(name)[0])
    for augmenter in attach.augmenters:
        stats = augmenter.stats()
        assert stats["bad_batches"] == stats["failed_updates"] == 0
        assert stats["augmented"] > 0
        assert (stats["updates"] > 0) == augmenter.config.trains
        if augmenter.config.trains:  # one update for each step after a new batch
            assert stats["updates"] == stats["steps_with_batch"] <= stats["batches"]
    assert all(value.isfinite().all() for value in floats(found))


@each_loop
def test_a_report_is_recorded_and_changes_nothing(name: str) -> None:
    attach = Attached(CONFIGS["default"], report=True)
    assert same(outcome(name, attach), augmented(name, "default")[:2])
    for augmenter in attach.augmenters:
        if name == "compiled step":
            with pytest.raises(DataError, match="only from compiled code"):
                augmenter.report()
        elif name != "a thread that prefetches":  # which may be a batch ahead of the loop
            # `step` adds noise to the 2D, by which a few rows are not recognised.
            assert augmenter.report().rows >= 0.7 * augmenter.stats()["augmented"]


def floats(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield from [value] if value.is_floating_point() else []
    elif isinstance(value, (dict, list, tuple)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from floats(inner)
