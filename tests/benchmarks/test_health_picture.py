"""`python -m benchmarks.health`."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

from benchmarks import health
from benchmarks.training import ShuffledBatches, train_step
from poseaug_plugin import PoseAugConfig
from poseaug_plugin.data.synthetic import make
from poseaug_plugin.lifters import SimpleBaseline


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        health, "ShuffledBatches", lambda pairs, rows, seed: ShuffledBatches(pairs, 64, seed)
    )


@pytest.mark.usefixtures("small_batches")
def test_a_frozen_estimator_stays_as_it_is() -> None:
    pairs, model = make(0)[0][:640], SimpleBaseline(width=16)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for batch in ShuffledBatches(pairs, 64, 0):
        train_step(model, optimizer, batch)
    before = copy.deepcopy(model.state_dict())
    config = PoseAugConfig.default(learned=True, warmup_steps=2, update_every=1)
    history = health.measure(config, pairs, 4, model=model, every=2)
    assert history[-1]["updates"] == 4
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.slow
@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("frozen", [False, True])
def test_it_records_and_plots_each_preset(tmp_path: Path, frozen: bool) -> None:
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
