"""`python -m benchmarks.health`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import health
from benchmarks.training import ShuffledBatches


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_it_records_and_plots_each_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frozen: bool
) -> None:
    monkeypatch.setattr(
        health, "ShuffledBatches", lambda pairs, rows, seed: ShuffledBatches(pairs, 64, seed)
    )
    out = tmp_path / "health.png"
    arguments = ["--updates", "20", "--warmup", "8", "--out", str(out), *["--frozen"] * frozen]
    histories = health.main(arguments)
    assert set(histories) == set(health.PRESETS)
    assert out.stat().st_size > 10_000
    assert json.loads(out.with_suffix(".json").read_text())["runs"] == histories
    for history in histories.values():
        assert [row["step"] for row in history] == [10.0, 20.0]
        assert history[-1]["hardness"] > 0
    assert histories["learned"][-1]["diversity_ba"] > 0.9
