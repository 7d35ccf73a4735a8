"""Replicas of public training scripts, with the three lines: off, as `default`, and learned.

`test_scripts.py` tries all mixes with networks; here each config is what a user would pass.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from replicas import SCRIPTS
from test_scripts import RecordingLoader, Run, rows_changed

from loop_helpers import same, seed_all, small, snapshot, streams
from poseaug_plugin import PoseAugConfig, PoseAugmenter, PoseAugWarning
from poseaug_plugin.batches.presets import resolve_format

CONFIGS: dict[str, Any] = {
    "off": PoseAugConfig.default(ratio=0.0),
    "default": PoseAugConfig.default(),
    "learned": small(),
}
each_script = pytest.mark.parametrize("script", SCRIPTS)
each_config = pytest.mark.parametrize("config", CONFIGS)
each_augmenting = pytest.mark.parametrize("config", ["default", "learned"])


@pytest.fixture(autouse=True)
def _gradients_on() -> Iterator[None]:
    yield
    torch.set_grad_enabled(True)


@functools.cache
def one_epoch(name: str, config: str = "plain") -> Run:
    seed_all()
    script = SCRIPTS[name]()
    before, augmenter = snapshot(script.model), None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if config != "plain":
            augmenter = PoseAugmenter(
                script.model,
                script.optimizer,
                script.format,
                4,
                config=CONFIGS[config],
                predict=script.predict,
            )
            script.loader = augmenter.wrap(script.loader)
        recorder = script.loader = RecordingLoader(script, overwrite_used=False)
        lrs: list[float] = []
        groups = script.optimizer.param_groups
        script.optimizer.register_step_post_hook(lambda *_: lrs.append(groups[0]["lr"]))
        seed_all(1)
        script.train()
    messages = [str(w.message) for w in caught if issubclass(w.category, PoseAugWarning)]
    moved = not same(snapshot(script.model), before)
    ends = [streams()]
    return Run(script, augmenter, moved, recorder.recorded, recorder.kinds, lrs, [], ends, messages)


@each_script
def test_check_finds_no_problem(script: str) -> None:
    replica = SCRIPTS[script]()
    augmenter = PoseAugmenter(replica.model, replica.optimizer, replica.format)
    reports = augmenter.check(replica.loader)
    assert all(report.ok for report in reports), str(reports[0])


@each_config
@each_script
def test_steps_and_streams_equal_those_of_the_plain_script(script: str, config: str) -> None:
    plain, hosted = one_epoch(script), one_epoch(script, config)
    assert hosted.lrs == plain.lrs
    assert hosted.streams == plain.streams
    assert hosted.moved
    assert hosted.warnings == []
    assert hosted.augmenter is not None
    stats = hosted.augmenter.stats()
    assert stats["bad_batches"] == stats["failed_updates"] == 0
    assert stats["updates"] == (len(plain.lrs) if config == "learned" else 0)
    if config == "off":
        for given, batch in zip(plain.recorded, hosted.recorded, strict=True):
            assert same(snapshot(*given), snapshot(*batch))
        assert same(snapshot(hosted.script.model), snapshot(plain.script.model))


@each_augmenting
@each_script
def test_augmented_rows_are_consistent_pairs(script: str, config: str) -> None:
    """2D is the projection of its own label, and all fields of a pose change together."""
    plain, hosted = one_epoch(script), one_epoch(script, config)
    fmt = resolve_format(hosted.script.format)
    changed_count = rows_count = 0
    for given, batch in zip(plain.recorded, hosted.recorded, strict=True):
        changed = rows_changed(given, batch)
        rows = max(changed, key=len)
        assert sum(found == rows for found in changed) >= 2  # 2D and 3D
        assert all(found in ([], rows) for found in changed), (fmt, changed)
        assert hosted.script.off(batch)[rows].max(initial=0) < 2e-5
        changed_count += len(rows)
        rows_count += len(given[-1])
    share = changed_count / rows_count
    assert (0.5 if config == "default" else 0.2) < share <= 0.95
