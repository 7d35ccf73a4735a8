"""The soak command finds nothing in the plugin, and finds a leak and a drawn random number."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from benchmarks import soak
from poseaug_plugin.data.synthetic import make

SHORT = ["--default-steps", "40", "--learned-steps", "20", "--batch-size", "16"]


pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = make(0)[0][:256]
    monkeypatch.setattr(soak, "load", lambda folder: (pairs, pairs, pairs))
    monkeypatch.setattr(soak, "MOST_GROWTH", 0.2)  # memory is settled later than after 16 steps


def test_nothing_is_found_and_the_results_are_written(tmp_path: Path) -> None:
    soak.main([*SHORT, "--json", str(tmp_path / "soak.json")])
    rows = json.loads((tmp_path / "soak.json").read_text())["soak"]
    assert [(row["config"], row["steps"], row["updates"], row["failed"]) for row in rows] == [
        ("default", 40, 0, "nothing"),
        ("learned", 20, 20, "nothing"),
    ]
    assert all(len(row[name]) == 20 for row in rows for name in ("seconds", "megabytes"))


FAULTS = {
    "containers": lambda kept: kept.extend([0.0] * 10),
    "random streams": lambda _: random.random(),
}


@pytest.mark.parametrize("failed", FAULTS)
def test_a_fault_of_the_plugin_is_found(failed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    step, kept = soak.PoseAugmenter._after_step, list[float]()

    def faulty(self: Any) -> None:
        FAULTS[failed](kept)
        step(self)

    monkeypatch.setattr(soak.PoseAugmenter, "_after_step", faulty)
    assert soak.soak("default", 80, 16)["failed"] == failed
