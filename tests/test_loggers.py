"""The ready callbacks write what `stats()` says, as often as asked, and what went wrong."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from poseaug_plugin import ConfigError, Event, PoseAugmenter, loggers
from poseaug_plugin.data import synthetic
from poseaug_plugin.lifters import SimpleBaseline

SOME = synthetic.make()[0][:8]


def trained(*callbacks: Any, steps: int = 5, epochs: int = 2) -> PoseAugmenter:
    """An augmenter after `epochs` of `steps` steps."""
    torch.manual_seed(0)
    model = SimpleBaseline(width=8)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    augmenter = PoseAugmenter(model, optimizer, "poseaug", epochs, callbacks=callbacks)
    for _ in range(epochs):
        batch = (SOME.pose_3d, SOME.pose_2d, SOME.action, SOME.camera)
        for _ in augmenter.wrap([batch] * steps):
            optimizer.step()
    return augmenter


def test_numbers_come_every_few_steps_and_after_each_epoch() -> None:
    written: list[tuple[int, dict[str, float]]] = []
    augmenter = trained(loggers.StatsLogger(lambda s, step: written.append((step, s)), every=2))
    assert [step for step, _ in written] == [2, 4, 5, 6, 8, 10]
    last = written[-1][1]
    assert last["steps"] == 10
    assert last.keys() == augmenter.stats().keys()


class Writer:
    """As `torch.utils.tensorboard.SummaryWriter`."""

    def __init__(self) -> None:
        self.scalars: dict[tuple[str, int], float] = {}
        self.texts: list[tuple[str, str, int]] = []

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars[name, step] = value

    def add_text(self, name: str, text: str, step: int) -> None:
        self.texts.append((name, text, step))


def test_tensorboard_gets_scalars_and_problems() -> None:
    writer = Writer()
    logger = loggers.TensorBoardLogger(writer, every=5)
    augmenter = trained(logger)
    assert writer.scalars["poseaug/steps", 10] == 10
    assert writer.scalars["poseaug/accepted", 5] > 0
    assert {step for _, step in writer.scalars} == {5, 10}
    logger(Event("collapse", augmenter, "discriminator: it has won"))
    assert writer.texts == [("poseaug/collapse", "discriminator: it has won", 10)]


@pytest.mark.filterwarnings("ignore")  # TensorBoard's own
def test_the_real_tensorboard_reads_them_back(tmp_path: Path) -> None:
    board = pytest.importorskip("torch.utils.tensorboard", exc_type=ImportError)
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with board.SummaryWriter(tmp_path) as writer:
        trained(loggers.TensorBoardLogger(writer, every=5))
    found = events.EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in found.Scalars("poseaug/steps")] == [(5, 5.0), (10, 10.0)]


def test_a_logger_of_the_standard_library(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    logger = loggers.PythonLogger(every=10)
    augmenter = trained(logger)
    assert [text.split(":")[0] for text in caplog.messages] == ["step 5", "step 10"]
    assert " steps=10 " in f" {caplog.messages[-1].split(': ')[1]} "
    logger(Event("bad_batch", augmenter, "it has NaN"))
    assert caplog.records[-1].levelno == logging.WARNING
    assert caplog.messages[-1] == "step 10: bad_batch: it has NaN"
    other = logging.getLogger("mine")
    trained(loggers.PythonLogger(other, every=10, level=logging.DEBUG), epochs=1)
    assert all(record.name == "poseaug_plugin" for record in caplog.records)


def test_csv_has_a_column_per_number(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "today" / "poseaug.csv"
    trained(loggers.CSVLogger(path, every=5))
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["steps"] for row in rows] == ["5.0", "10.0"]
    assert all(float(row["accepted"]) > 0 for row in rows)
    trained(loggers.CSVLogger(path, every=5), epochs=1)
    assert path.read_text().count("steps,") == 2  # the file is continued, with a header


def test_new_numbers_start_a_new_header(tmp_path: Path) -> None:
    logger = loggers.CSVLogger(tmp_path / "x.csv")
    logger.write({"a": 1.0}, 1)
    logger.write({"a": 2.0, "b": 3.0}, 2)
    logger.write({"a": 4.0, "b": 5.0}, 3)
    assert (tmp_path / "x.csv").read_text().split() == ["a", "1.0", "a,b", "2.0,3.0", "4.0,5.0"]


def test_the_progress_line_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    trained(loggers.ProgressLine(every=10))
    err = capsys.readouterr().err
    assert err.splitlines()[-1].startswith("poseaug: step 10, epoch 1, ")
    assert err.splitlines()[-1].endswith(" chosen rows augmented, 0 failures")
    numbers = dict(epochs=2.0, accepted=0.5, rows=8.0, bad_batches=2.0, failed_updates=3.0)
    loggers.ProgressLine().write(numbers, 7)
    line = "poseaug: step 7, epoch 2, 50.0% of 8 chosen rows augmented, 5 failures\n"
    assert capsys.readouterr().err == line
    terminal = SimpleNamespace(text="", isatty=lambda: True, flush=lambda: None)
    terminal.write = lambda text: setattr(terminal, "text", terminal.text + text)
    trained(loggers.ProgressLine(terminal, every=5))  # type: ignore[arg-type]
    assert "\n" not in terminal.text


def test_only_rank_0_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 1)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    written: list[int] = []
    trained(loggers.StatsLogger(lambda _, step: written.append(step), every=1))
    assert written == []


@pytest.mark.parametrize("every", [0, -1, 1.5, None])
def test_a_wrong_interval_raises(every: Any) -> None:
    with pytest.raises(ConfigError, match="every="):
        loggers.ProgressLine(every=every)


def test_logging_changes_nothing(tmp_path: Path) -> None:
    plain = trained().state_dict()
    logged = trained(
        loggers.CSVLogger(tmp_path / "x.csv", every=1), loggers.ProgressLine(io.StringIO(), every=1)
    ).state_dict()
    assert plain["counts"] == logged["counts"]
    a, b = (s["engine"]["sampler"]["generator"] for s in (plain, logged))
    assert torch.equal(a, b)
