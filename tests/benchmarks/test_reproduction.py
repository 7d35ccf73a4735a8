"""The paper's four experiments run end to end, resume, and report their settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import pose_diversity
from benchmarks.parallel import OnProgress
from benchmarks.reproduction import cli, datasets, protocol, questions
from benchmarks.reproduction.protocol import (
    BEST,
    BUDGETS,
    WARMUP,
    Run,
    Setup,
    WindowBatches,
    pretrain,
    train,
)
from benchmarks.reproduction.questions import ABLATIONS, PAPER, PRESETS, QUESTIONS
from h36m_helpers import pixels, world, write
from poseaug_plugin import PoseAugConfig
from poseaug_plugin.data import Pairs
from poseaug_plugin.data.synthetic import make

TINY = BUDGETS["tiny"]


def few(seed: int = 0) -> tuple[Pairs, Pairs, Pairs]:
    """A little synthetic motion: two frames of every sixth clip, and few test pairs."""
    train, source, cross = make(seed)
    return train[torch.arange(len(train)) % 132 < 2], source[::80], cross[::80]


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.synthetic, "make", few)
        protocol._load_datasets.cache_clear()
        yield
    protocol._load_datasets.cache_clear()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all experiments, which share runs."""
    return tmp_path_factory.mktemp("out")


def execute(out: Path, line: str) -> tuple[dict[str, Any], str]:
    """The results and the report."""
    argv = [*line.split(), "--budget", "tiny", "--out", str(out), "--device", "cpu"]
    results = cli.main(argv)
    question = line.split()[0]
    assert json.loads((out / f"{question}.json").read_text()) == json.loads(json.dumps(results))
    return results, (out / f"{question}.md").read_text()


def setup(**changes: Any) -> Setup:
    settings = {"pretrain": 1, "size": "small", "batch_size": 64, "fraction": 0.01, **changes}
    return Setup(**settings)


def run(config: str | None = None, **changes: Any) -> Run:
    return Run(setup(), config and PoseAugConfig.of(config), **{"epochs": 4, **changes})


def rows(text: str) -> list[list[str]]:
    """Cells of the first table, without its two heading lines."""
    table = text.split("\n\n")[1].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


# The experiments


@pytest.mark.slow
def test_q1_compares_estimators_and_methods_on_every_test_set(out: Path) -> None:
    results, text = execute(out, "q1 --epochs 3")
    table = rows(text)
    assert [row[0] for row in table] == [name for name in PAPER_ORDER for _ in range(6)]
    assert [row[3] for row in table[:6]] == ["pre-trained", *PRESETS]
    head = text.splitlines()[2]
    for test in ("source", "cross"):
        for metric in ("MPJPE", "PA-MPJPE", "PCK", "AUC"):
            assert f"| {test} {metric} |" in head
    assert "for reference" in head
    assert table[0][-1] == "43.3 / 85.3"
    assert table[1][-1] == ""  # the paper has no continued training without PoseAug
    assert table[2][-1] == "39.4 / 76.2"
    assert len(results["runs"]) == 4 * len(PRESETS)


PAPER_ORDER = ["mlp", "semgcn", "stgcn", "videopose"]


@pytest.mark.slow
def test_q2_plots_and_measures_diversity(out: Path) -> None:
    results, text = execute(out, "q2 --epochs 3")
    plots = {file.stem for file in (out / "q2").glob("*.png")}
    assert plots == {"viewpoints", "places", "bodies", "angles"}
    assert set(results["coverage"]) == {"source", *PRESETS[1:]}
    assert results["test"] == "cross"
    assert "| random |" in text.split("Plots")[1]


def test_a_test_set_without_roots_and_cameras_is_plotted_too(tmp_path: Path) -> None:
    _, source, cross = few()
    relative = replace(
        cross, pose_3d=cross.root_relative, camera=torch.full_like(cross.camera, torch.nan)
    )
    sets = {"source": source, "cross": relative}
    pose_diversity.plot_all(sets, tmp_path)
    assert len(list(tmp_path.glob("*.png"))) == 4
    assert pose_diversity.position_and_size(relative)["distance, m"].isnan().all()
    assert (pose_diversity.viewpoints(relative) - pose_diversity.viewpoints(cross))[
        :, 1
    ].abs().max() < 30
    assert pose_diversity.coverage(sets)["source"]["mm"] > 0


@pytest.mark.slow
def test_q3_reports_missing_2d_and_counts_the_rows(out: Path) -> None:
    results, text = execute(out, "q3 --estimators mlp --epochs 3 --batch-size 16")
    assert set(results["absent"]) == {"2D cpn", "2D detectron", "2D hr"}
    assert "missing: 2D cpn: synthetic motion has exact 2D only" in text
    trained = {row[2]: int(row[8]) for row in rows(text)}
    assert list(trained) == ["S1,S5,S6,S7,S8", "S1", "S1,S5"]
    assert trained["S1"] < trained["S1,S5"] < trained["S1,S5,S6,S7,S8"]
    assert {row[3] for row in rows(text)} == {"pre-trained", "plain", "released"}


@pytest.mark.slow
def test_q4_runs_all_ablations(out: Path) -> None:
    results, text = execute(out, "q4 --base paper --epochs 3")
    assert [row[3] for row in rows(text)] == ["pre-trained", "plain", *ABLATIONS]
    found = {run["labels"][3]: (run["tests"], run["stats"]) for run in results["runs"]}
    assert found["BA + BL + RT"] == found["D2d and D3d"] == found["part-aware KCS"]  # one run
    assert found["no KCS"] == found["D2d alone"] != found["whole-body KCS"]
    assert "ablations change the preset `paper`" in text


def test_experiments_share_runs(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "--estimators mlp --methods plain,released --epochs 3"
    execute(out, f"q1 {line}")
    capsys.readouterr()
    execute(out, f"q3 {line} --subjects all")
    assert "2 runs, 0 to execute" in capsys.readouterr().out


# Reports


def test_a_report_has_data_protocol_seeds_budget_and_environment(tmp_path: Path) -> None:
    results, text = execute(tmp_path, "q1 --estimators mlp --methods plain --seeds 0,1 --epochs 3")
    for fact in (
        "- data: synthetic motion; tests source (",
        "- protocol: pre-trained without PoseAug, then trained further",
        "the last weights",
        "- budget: size small, pretrain 1, epochs 3, batch size 64, fraction 0.01",
        "- seeds: 0, 1",
        f"torch {torch.__version__}",
    ):
        assert fact in text
    assert " ± " in text
    assert {r["settings"]["setup"]["seed"] for r in results["runs"]} == {0, 1}
    assert results["runs"][0]["environment"]["commit"]
    assert results["command"].startswith("python -m benchmarks.reproduction q1")
    assert "updates" in (tmp_path / "log.txt").read_text()


def test_missing_tests_and_2d_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "h36m"
    folder.mkdir()
    (folder / "data_2d_h36m_gt.npz").touch()
    request = cli.make_request(cli.arguments(["q3", "--data", str(folder)]))
    available, absent = cli.drop_missing_keypoints(request)
    assert available.keypoints == ("gt",)
    assert "no data_2d_h36m_hr.npz (PoseAug's DATASETS.md" in absent["2D hr"]
    with pytest.raises(FileNotFoundError, match="no data_2d_h36m_cpn_ft_h36m_dbb"):
        cli.drop_missing_keypoints(
            cli.make_request(cli.arguments(["q1", "--data", str(folder), "--keypoints", "cpn"]))
        )
    record = {**train(run(), tmp_path), "environment": {}}
    labels = ("mlp", "gt", "S1", "plain")
    records = {labels: [{**record, "missing": {"3dhp": "ask"}}]}
    report = questions.format_report(available, records, absent)
    assert "- missing: 3dhp: ask" in report
    assert "- data: folder h36m; tests source" in report
    assert str(tmp_path) not in report


def test_the_best_pass_by_test_error_is_an_additional_row(tmp_path: Path) -> None:
    line = "q1 --estimators mlp --methods released"
    last, plain_text = execute(tmp_path, line)
    both, text = execute(tmp_path, f"{line} --best-on-test")
    assert BEST == "best-on-test, as the published code reports it"
    assert BEST not in plain_text + json.dumps(last)
    assert both["runs"][0]["tests"] == last["runs"][0]["tests"]
    for name, scores in both["runs"][0][BEST].items():
        assert scores["MPJPE"] <= both["runs"][0]["tests"][name]["MPJPE"]
    assert [row[3] for row in rows(text)] == ["pre-trained", "released", f"released, {BEST}"]


# The protocol


class Interrupted(Exception):
    pass


def interrupted_after(share: float) -> OnProgress:
    done = 0.0

    def on_progress(newly_done: float) -> None:
        nonlocal done
        done += newly_done
        if done > share:
            raise Interrupted

    return on_progress


@pytest.mark.parametrize("config", [None, "default", "released"])
def test_a_resumed_run_has_the_same_numbers(config: str | None, tmp_path: Path) -> None:
    whole = train(run(config, best=True), tmp_path / "whole")
    for share in (0.4, 0.8):
        with pytest.raises(Interrupted):
            train(run(config, best=True), tmp_path / "parts", on_progress=interrupted_after(share))
    assert list(tmp_path.glob("parts/runs/*.part"))
    parts = train(run(config, best=True), tmp_path / "parts")
    assert not list(tmp_path.glob("parts/runs/*.part"))
    for record in (whole, parts):
        del record["seconds"]
    assert parts == whole
    left = (torch.load(next(tmp_path.glob(f"{at}/runs/*.pt"))) for at in ("whole", "parts"))
    assert all(map(torch.equal, *(one["model"].values() for one in left)))


def test_pre_training_is_shared_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = pretrain(setup(pretrain=3), tmp_path / "alone")
    with pytest.raises(Interrupted):
        pretrain(setup(pretrain=3), tmp_path, on_progress=interrupted_after(0.5))
    resumed = pretrain(setup(pretrain=3), tmp_path)
    assert resumed["tests"] == alone["tests"]

    pretrain(setup(), tmp_path)
    monkeypatch.setattr(protocol.Setup, "load_datasets", lambda _: pytest.fail("trained again"))
    assert pretrain(setup(), tmp_path)["tests"]
    assert len(list((tmp_path / "pretrained").iterdir())) == 2


@pytest.mark.parametrize("other", [{"seed": 1}, {"subjects": ("S1",)}, {"size": "published"}])
def test_other_settings_have_other_files(other: dict[str, Any]) -> None:
    assert setup(**other).name != setup().name
    assert run().name != run("random").name != Run(setup(**other), PoseAugConfig.random(), 4).name


@pytest.mark.parametrize("config", [None, *PRESETS[1:]])
def test_every_method_makes_the_same_number_of_updates(config: str | None, tmp_path: Path) -> None:
    record = train(run(config, epochs=3), tmp_path)
    batches = record["rows"]["training"] // 64
    assert record["updates"] == 2 * batches * (3 - WARMUP)
    if config:
        assert record["stats"]["steps"] == record["updates"]


def test_no_epoch_after_the_warm_up_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected more than the 2 epochs of warm-up"):
        run(epochs=2)


def test_batches_have_the_chosen_rows_and_windows_of_all_frames() -> None:
    one = setup(batch_size=32)
    data = one.load_datasets()
    for frames, estimator in ((1, "mlp"), (27, "videopose27")):
        batches = WindowBatches(data, setup(estimator=estimator, batch_size=32), "cpu")
        pose_3d, pose_2d, chosen, camera = next(iter(batches))
        window = () if frames == 1 else (frames,)
        assert pose_2d.shape == (32, *window, 16, 2)
        assert pose_3d.shape == (32, *window, 16, 3)
        assert camera.shape == (32, 9)
        assert set(chosen.tolist()) <= set(data.rows.tolist())
    with pytest.raises(ValueError, match="rows are fewer than the batch size 100000"):
        WindowBatches(data, setup(batch_size=100_000), "cpu")


def test_windows_are_trained_on(tmp_path: Path) -> None:
    record = train(Run(setup(estimator="videopose27"), PoseAugConfig.random(), 3), tmp_path)
    augmented = torch.load(next(tmp_path.glob("runs/*.pt")))["augmented"]
    assert record["stats"]["steps"] == record["updates"]
    assert augmented["pose_3d"].shape[1:] == (16, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random poses in Human3.6M's format. Only the plain method accepts them."""
    folder = tmp_path_factory.mktemp("data")
    everyone = [*datasets.TRAIN, *datasets.TEST]
    motion = {subject: {"Eating": world(16, seed=i)} for i, subject in enumerate(everyone)}
    seen = {subject: {"Eating": [pixels(16, seed=1)] * 4} for subject in everyone}
    write(folder, motion, seen)
    points = world(9, 16) + np.float32([0, 0, 3])
    np.savez(folder / "cross_a.npz", pose3d=points, pose2d=points[..., :2] / points[..., 2:])
    return folder


@pytest.mark.slow
def test_parallel_runs_have_the_same_numbers(tmp_path: Path, folder: Path) -> None:
    line = f"q1 --data {folder} --estimators mlp --methods plain --fraction 1"
    alone, text = execute(tmp_path / "alone", line)
    parallel, _ = execute(tmp_path / "parallel", f"{line} --jobs 2")
    assert [r["tests"] for r in parallel["runs"]] == [r["tests"] for r in alone["runs"]]
    assert "missing: 3dpw: no test_3dpw.npz in the folder (" in text
    assert str(folder) not in text + json.dumps(alone)


# The command line


def test_the_command_line_overrides_the_budget_and_the_grid() -> None:
    line = (
        "q3 --budget paper --epochs 7 --fraction 0.5 --subjects S1 S1,S5 --seeds 3 --methods paper"
    )
    request = cli.make_request(cli.arguments(line.split()))
    assert (request.budget.epochs, request.budget.pretrain) == (7, 50)
    assert request.budget.fraction == 0.5
    runs = [run for group in questions.grid(request).values() for run in group]
    assert {run.setup.subjects for run in runs} == {("S1",), ("S1", "S5")}
    assert {run.setup.estimator for run in runs} == set(QUESTIONS["q3"].estimators)
    assert {run.config for run in runs} == {PoseAugConfig.paper(seed=3)}
    with pytest.raises(SystemExit):
        cli.arguments(["q1", "--estimators", "mlq"])


def test_every_ablation_is_a_config_of_its_base() -> None:
    for base in ("released", "paper"):
        configs = {name: questions._config(name, base, 0) for name in ABLATIONS}
        assert configs["BA + BL + RT"] == PoseAugConfig.of(base)
        assert len(set(map(str, configs.values()))) >= len(ABLATIONS) - 6
    assert set(PAPER) == set(QUESTIONS["q1"].estimators)
