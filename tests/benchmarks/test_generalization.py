"""The generalization benchmark is fair: same rows, same updates, validation apart from tests."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks import pose_diversity
from benchmarks.generalization import cli, diversity
from benchmarks.generalization.runs import (
    ESTIMATORS,
    METHODS,
    ORACLE,
    Run,
    scores,
    train,
    train_and_test,
)
from benchmarks.generalization.splits import (
    HELD_OUT,
    action_names,
    rarest_actions,
    splits,
    unlabelled,
)
from benchmarks.generalization.splits import validation as validation_split
from benchmarks.generalization.temporal_lifters import TemporalTransformer
from benchmarks.options import names_among
from benchmarks.training import clip_bounds
from h36m_helpers import pixels, world, write
from helpers import H36M, STANDING
from poseaug_plugin import PoseAugConfig
from poseaug_plugin.data import TEST, TRAIN, Batch, Pairs
from poseaug_plugin.data.h36m_cameras import project
from poseaug_plugin.data.synthetic import make
from poseaug_plugin.geometry import camera as camera_module
from poseaug_plugin.geometry.bones import bones_to_pose, lengths, pose_to_bones

SMALL = ["--estimators", "mlp", "--updates", "4", "--batch-size", "32", "--seeds", "0"]


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    return make(0)[0][:640]


def run(method: str = "plain", **changes: Any) -> Run:
    settings = {"updates": 8, "batch_size": 64, "config": METHODS[method], **changes}
    return Run(method=method, **settings)


def record_batches(run: Run, pairs: Pairs) -> tuple[list[Tensor], list[Tensor], list[int]]:
    """Row numbers of each batch, the weights before the first, and the size of each batch."""
    rows: list[Tensor] = []
    weights: list[Tensor] = []
    sizes: list[int] = []

    def on_batch(step: int, model: nn.Module, batch: Batch) -> None:
        if not step:
            weights.extend(p.detach().clone() for p in model.parameters())
        rows.append(batch[2])
        sizes.append(len(batch[0]))

    train(run, pairs, on_batch=on_batch)
    return rows, weights, sizes


# Fairness


@pytest.mark.parametrize("method", [name for name in METHODS if name != "plain"])
def test_every_method_has_the_same_initial_weights_and_real_rows(method: str, pairs: Pairs) -> None:
    plain_rows, plain_weights, _ = record_batches(run(), pairs)
    rows, weights, sizes = record_batches(run(method), pairs)
    assert all(map(torch.equal, weights, plain_weights))
    assert sizes == [64] * 8
    new = [r for i, r in enumerate(rows) if not i or not torch.equal(r, rows[i - 1])]
    assert all(map(torch.equal, new, plain_rows))  # alternate yields each batch twice


@pytest.mark.parametrize("mix", ["replace", "append", "alternate", "passes"])
def test_updates_and_their_rows_are_the_same_in_every_mix(mix: str, pairs: Pairs) -> None:
    updates: list[int] = []
    config = PoseAugConfig.random(mix=mix)
    _, augmenter = train(run(config=config), pairs, lambda: updates.append(1))
    assert len(updates) == 8
    assert augmenter is not None
    assert augmenter.stats()["steps"] == 8
    assert record_batches(run(config=config), pairs)[2] == [64] * 8


def test_another_seed_draws_other_rows(pairs: Pairs) -> None:
    assert not torch.equal(
        record_batches(run(), pairs)[0][0], record_batches(run(seed=1), pairs)[0][0]
    )


def test_more_rows_than_there_are_is_an_error(pairs: Pairs) -> None:
    with pytest.raises(ValueError, match="640 pairs are fewer than the batch size 641"):
        train(run(batch_size=641), pairs)


# Splits


@pytest.fixture(scope="module")
def validation() -> tuple[Pairs, dict[str, Pairs]]:
    return splits(None, 0, validate="actions")


def test_validation_tests_are_not_trained_on(validation: tuple[Pairs, dict[str, Pairs]]) -> None:
    train, tests = validation
    assert set(train.subject) == set(TRAIN) - {HELD_OUT}
    known, held_out = set(action_names(train)), set(action_names(tests["cross"]))
    assert len(known) == len(held_out) == 4
    assert not known & held_out
    assert set(action_names(tests["studio"])) == held_out
    assert set(action_names(tests["views"])) == set(action_names(tests["source"])) == known
    assert set(tests["source"].subject) == set(tests["views"].subject) == {HELD_OUT}


def test_a_split_by_subject_trains_on_all_actions_and_tests_on_one_subject(
    validation: tuple[Pairs, dict[str, Pairs]],
) -> None:
    train, tests = splits(None, 0, validate="subject")
    _, usual = validation
    assert set(train.subject) == set(TRAIN) - {HELD_OUT}
    assert list(tests) == list(usual)
    for test in tests.values():
        assert set(test.subject) == {HELD_OUT}
        assert len(test) > 100
    assert set(action_names(train)) == set(action_names(tests["source"]))
    assert set(action_names(usual["cross"])) < set(action_names(train))
    assert not torch.equal(tests["views"].pose_2d[:100], tests["cross"].pose_2d[:100])
    poses, target = unlabelled(None, 0, validate="subject"), tests["target"].pose_2d
    assert len(poses) == pytest.approx(len(target), rel=0.3)
    assert torch.cdist(poses.flatten(1), target.flatten(1)).min() > 0


def test_the_oracle_has_the_held_out_actions_but_not_the_subject(
    validation: tuple[Pairs, dict[str, Pairs]],
) -> None:
    _, tests = validation
    oracle, same = splits(None, 0, validate="actions", oracle=True)
    assert set(action_names(oracle)) == set(action_names(tests["source"])) | set(
        action_names(tests["cross"])
    )
    assert set(oracle.subject) == set(TRAIN) - {HELD_OUT}
    assert len(oracle) > 3 * len(same["cross"])  # rendered several times
    assert all(torch.equal(same[name].pose_2d, tests[name].pose_2d) for name in tests)
    with pytest.raises(ValueError, match="the oracle needs --validate"):
        splits(None, 0, oracle=True)


def test_the_rarest_actions_have_unusual_poses(pairs: Pairs) -> None:
    """A hand stand among ordinary poses."""
    odd = pairs[:160]
    upside_down = odd.pose_3d[:, :1] - odd.root_relative
    upside_down[:, 7:] += 2 * odd.root_relative[:, 7:]  # only the legs are upside down
    names = np.array(["Standing 1", "Jumping", "Hand stand", "Standing 2"]).repeat(160)
    order = torch.randperm(480, generator=torch.Generator().manual_seed(0))
    given = replace(
        pairs,
        pose_3d=torch.cat([pairs.pose_3d[160:][order][:320], upside_down, odd.pose_3d]),
        action=names,
    )
    assert rarest_actions(given) == ["Hand stand"]


def test_rerendered_poses_have_new_bodies_and_views(
    validation: tuple[Pairs, dict[str, Pairs]],
) -> None:
    _, tests = validation
    source, views = tests["source"], tests["views"]
    assert views.pose_2d.abs().max() <= 1
    assert len(views.camera.unique(dim=0)) > 50
    for row in range(0, len(views), 97):
        projected = project(views.pose_3d[row], views.camera[row])
        np.testing.assert_allclose(views.pose_2d[row], projected, atol=1e-5)
    before, after = (lengths(pose_to_bones(p.root_relative, H36M)) for p in (source, views))
    assert (before.std(0) / before.mean(0)).max() < 0.01
    assert (after.std(0) / after.mean(0)).min() > 0.05
    assert (after / before[:1] - 1).abs().max() < 1.12 * 1.08 - 1 + 1e-3


def test_the_split_is_the_same_every_time(validation: tuple[Pairs, dict[str, Pairs]]) -> None:
    again = splits(None, 0, validate="actions")[1]
    for name, test in validation[1].items():
        assert torch.equal(test.pose_2d, again[name].pose_2d)


def mean_lengths(pairs: Pairs) -> Tensor:
    length = lengths(pose_to_bones(pairs.root_relative, H36M)).mean(0)
    return length / length.mean()


def test_the_target_has_another_skeleton_and_other_takes_without_labels(
    validation: tuple[Pairs, dict[str, Pairs]],
) -> None:
    train, tests = validation
    target, other = tests["target"], splits(None, 1, validate="actions")[1]["target"]
    assert set(action_names(target)) <= set(action_names(tests["cross"]))
    for found in (target, other):
        change = (mean_lengths(found) / mean_lengths(train) - 1).abs().mean()
        assert 0.05 < change < 0.25
    assert (mean_lengths(target) / mean_lengths(other) - 1).abs().mean() > 0.05
    poses = unlabelled(None, 0, validate="actions")
    assert len(poses) == pytest.approx(len(target), rel=0.3)
    assert torch.cdist(poses.flatten(1), target.pose_2d.flatten(1)).min() > 0


def test_the_unlabelled_poses_of_a_test_are_not_those_of_the_test(folder: Path) -> None:
    synthetic = unlabelled(None, 0)
    assert torch.cdist(synthetic[::10].flatten(1), make(0)[2].pose_2d.flatten(1)).min() > 0
    clips = np.random.default_rng(0).normal(size=(3, 5, 16, 2))
    rest = {"pose3d": np.ones((3, 5, 16, 3)), "cam": np.ones((3, 9)), "action": np.array([""] * 3)}
    np.savez(folder / "cross_a_clips.npz", pose2d=clips, pose2d_det=clips + 1, **rest)
    exact, seen = (unlabelled(str(folder), 0, detections=kind) for kind in ("gt", "det"))
    assert exact.shape == (15, 16, 2)
    torch.testing.assert_close(seen, exact + 1)
    with pytest.raises(ValueError, match="exact only"):
        unlabelled(None, 0, detections="det")


@pytest.fixture(scope="module")
def clips() -> tuple[Pairs, dict[str, Pairs]]:
    return splits(None, 0, validate="actions", clips=True)


@pytest.mark.parametrize("name", ["views", "cross", "studio", "target"])
def test_rerendered_clips_have_one_body_and_one_camera_and_no_gaps(
    name: str, clips: tuple[Pairs, dict[str, Pairs]]
) -> None:
    pairs = clips[1][name]
    length = lengths(pose_to_bones(pairs.root_relative, H36M))[:, [2, 5, 11, 14]]
    cameras = set()  # shins and forearms have no joint that is offset in the body frame
    assert clip_bounds(pairs)[1].median() == 22  # source clips, some of which have less in view
    for first, frames in zip(*(bounds.tolist() for bounds in clip_bounds(pairs))):
        clip = slice(first, first + frames)
        assert len(set(pairs.action[clip])) == len(set(pairs.subject[clip])) == 1
        assert length[clip].std(0).max() < 1e-5
        # A tenth of a second apart: nobody moves far.
        assert pairs.pose_3d[clip].diff(dim=0).norm(dim=-1).median() < 0.3
        cameras.add(tuple(pairs.camera[first].tolist()))
        assert (pairs.camera[clip] == pairs.camera[first]).all()
    assert len(cameras) == len(clip_bounds(pairs)[0]) > 10


def test_clips_are_split_as_single_frames(
    clips: tuple[Pairs, dict[str, Pairs]], validation: tuple[Pairs, dict[str, Pairs]]
) -> None:
    for ours, single in zip(
        (clips[0], clips[1]["source"]), (validation[0], validation[1]["source"])
    ):
        assert torch.equal(ours.pose_2d, single.pose_2d)
    for name in ("views", "cross", "studio", "target"):
        ours, single = clips[1][name], validation[1][name]
        assert set(ours.action) == set(single.action)
        assert set(ours.subject) == set(single.subject)


def test_the_cross_dataset_clips_are_tested_with_exact_and_detected_2d(folder: Path) -> None:
    rng = np.random.default_rng(0)
    file = {
        "pose3d": rng.normal([0, 0, 3], 0.3, (3, 5, 16, 3)),
        "pose2d": rng.normal(size=(3, 5, 16, 2)),
        "pose2d_det": rng.normal(size=(3, 5, 16, 2)),
        "cam": rng.normal(size=(3, 9)),
        "action": np.array(["run", "bow", "run"]),
    }
    np.savez(folder / "cross_a_clips.npz", **file)
    poses = rng.normal([0, 0, 3], 0.3, (7, 16, 3))
    np.savez(folder / "cross_a.npz", pose3d=poses, pose2d=poses[..., :2])
    _, tests = splits(str(folder), 0, clips=True)
    assert list(tests) == ["source", "cross", "cross det"]
    for name, kind in (("cross", "pose2d"), ("cross det", "pose2d_det")):
        test = tests[name]
        assert clip_bounds(test)[1].tolist() == [5, 5, 5]
        np.testing.assert_allclose(test.pose_2d.reshape(3, 5, 16, 2), file[kind], rtol=1e-6)
        np.testing.assert_allclose(test.pose_3d.reshape(3, 5, 16, 3), file["pose3d"], rtol=1e-6)
        np.testing.assert_allclose(test.camera[::5], file["cam"], rtol=1e-6)
        assert test.action.tolist() == ["run"] * 5 + ["bow"] * 5 + ["run"] * 5
    for kind in ("gt", "det"):  # other poses of the same studio
        found = unlabelled(str(folder), 0, detections=kind, clips=True)
        np.testing.assert_allclose(found, poses[..., :2], rtol=1e-6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four actions of every subject, exact and detected 2D, and a cross-dataset test."""
    folder = tmp_path_factory.mktemp("data")
    actions = ["Eating", "Posing 1", "Sitting", "Walking 2"]
    motion = {s: {a: world(6, seed=i) for i, a in enumerate(actions)} for s in [*TRAIN, *TEST]}
    for seed, kind in enumerate(("gt", "det")):
        seen = {s: {a: [pixels(6, seed=seed)] * 4 for a in actions} for s in motion}
        write(folder, motion, seen, kind)
    points = world(9, 16) + np.float32([0, 0, 3])
    np.savez(folder / "test_3dhp.npz", pose3d=points, pose2d=points[..., :2] / points[..., 2:])
    return folder


def test_detections_are_used_for_the_source_only(folder: Path) -> None:
    exact, exact_tests = splits(str(folder), 0)
    train, tests = splits(str(folder), 0, detections="det")
    assert not torch.equal(train.pose_2d, exact.pose_2d)
    assert not torch.equal(tests["source"].pose_2d, exact_tests["source"].pose_2d)
    assert torch.equal(tests["cross"].pose_2d, exact_tests["cross"].pose_2d)


def test_with_detections_there_is_a_cross_dataset_test_with_detected_2d(folder: Path) -> None:
    file = {name: np.zeros((3, 7, 16, size)) for name, size in (("pose2d", 2), ("pose3d", 3))}
    seen = np.arange(3 * 7 * 16 * 2).reshape(3, 7, 16, 2)
    rest = {"cam": np.ones((3, 9)), "action": np.array(["run"] * 3)}
    np.savez(folder / "cross_a_clips.npz", **file, pose2d_det=seen, **rest)
    tests = splits(str(folder), 0, detections="det")[1]
    expected = torch.from_numpy(seen.reshape(21, 16, 2)[::10]).float()
    assert torch.equal(tests["cross det"].pose_2d, expected)
    assert "cross det" not in splits(str(folder), 0)[1]


def test_the_detected_validation_poses_have_errors_of_the_held_out_subject(
    validation: tuple[Pairs, dict[str, Pairs]],
) -> None:
    error = 0.01 * torch.randn(len(make(0)[0]), 16, 2, generator=torch.Generator().manual_seed(0))
    pairs = replace(make(0)[0], pose_2d=make(0)[0].pose_2d + error)
    tests = validation_split(pairs, ["S1", "S5"], detected=True)[1]
    assert torch.equal(tests["cross"].pose_2d, validation[1]["cross"].pose_2d)
    known, exact, detected = (tests[name] for name in ("source", "cross", "cross det"))

    def metres(error: Tensor, pairs: Pairs) -> Tensor:
        return (error * pairs.pose_3d[:, :1, 2:] / pairs.camera[:, None, :2]).flatten(1)

    used = metres(detected.pose_2d - exact.pose_2d, exact)
    own = metres(known.pose_2d - camera_module.project(known.pose_3d, known.camera), known)
    assert torch.cdist(used, own).amin(1).max() < 1e-3
    assert used.std() == pytest.approx(float(own.std()), rel=0.1)


def test_subjects_and_numbered_actions(folder: Path) -> None:
    train, tests = splits(str(folder), 0, subjects=["S5"])
    assert set(train.subject) == {"S5"}
    assert set(action_names(train)) == {"Eating", "Posing", "Sitting", "Walking"}
    assert set(tests["source"].subject) == set(TEST)
    train, tests = splits(str(folder), 0, subjects=["S5", "S8"], validate="actions")
    assert set(train.subject) == {"S5"}
    assert len(set(action_names(train))) == 2  # of four


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subjects": ["S9"]}, "expected some of"),
        ({"subjects": ["S8"], "validate": "actions"}, "select another training subject"),
        ({"detections": "det"}, "needs --data"),
    ],
)
def test_an_invalid_split_is_an_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        splits(None, 0, **settings)


# Runs and their results


def test_the_peak_learning_rate_can_be_set(pairs: Pairs) -> None:
    argv = [*SMALL, "--methods", "random"]
    usual, still = (
        cli.make_runs(cli.arguments(argv + more))[0] for more in ([], ["--peak", "0.0"])
    )
    assert usual.peak_rate == ESTIMATORS["mlp"].peak
    assert usual.key != still.key
    start = record_batches(still, pairs)[1]
    model, _ = train(still, pairs)
    assert all(map(torch.equal, model.parameters(), start))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_is_trained_and_tested(
    estimator: str, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = pairs, {"source": pairs[:220], "cross": pairs[220:330]}
    monkeypatch.setattr("benchmarks.generalization.runs._splits", lambda *_, **options: few)
    record = train_and_test(run("random", estimator=estimator, updates=2, batch_size=32))
    assert set(record["tests"]) == {"source", "cross"}
    for found in record["tests"].values():
        assert 0 < found["PA-MPJPE"] < found["MPJPE"] < float("inf")
        assert 0 <= found["AUC"] <= found["PCK"] <= 100
        assert ("acceleration" in found) == (ESTIMATORS[estimator].frames > 1)
    assert record["seconds"]["wall"] > 0
    assert json.loads(json.dumps(record)) == record


def test_the_method_with_unlabelled_poses_gets_them() -> None:
    argv = "--methods default,target_2d --estimators mlp --seeds 0 --updates 2 --batch-size 64"
    runs = cli.make_runs(cli.arguments(argv.split()))
    assert [each.target_2d for each in runs] == [False, True]
    stats = [train_and_test(each)["stats"] for each in runs]
    assert stats[1]["target_poses"] == len(unlabelled(None, 0))
    assert "target_poses" not in stats[0]


class Copy(nn.Module):
    """Predicts the 3D of the centre frame from three coordinates instead of two."""

    def forward(self, pose: Tensor) -> Tensor:
        return pose[:, pose.shape[1] // 2]


def test_acceleration_is_measured_inside_clips_only(pairs: Pairs) -> None:
    start, length = (bounds[:3].tolist() for bounds in clip_bounds(pairs))
    target = pairs[: start[2] + 2]  # two clips and two frames of a third
    assert length[2] > 2
    inputs = target.root_relative.clone()
    inputs[start[1] :, 5] += 0.1  # another constant offset in each clip
    object.__setattr__(target, "pose_2d", inputs)
    assert scores(Copy(), target, 3)["acceleration"] == pytest.approx(0, abs=1e-3)
    inputs[5, 5, 0] += 0.016  # one joint of 16 jumps: 1, -2, 1
    frames = length[0] + length[1] - 4
    expected = (1 + 2 + 1) * 16 / 16 / frames
    assert scores(Copy(), target, 3)["acceleration"] == pytest.approx(expected, rel=1e-3)


def test_the_transformer_reads_all_frames_in_their_order() -> None:
    torch.manual_seed(0)
    model = TemporalTransformer(frames=9)
    window = torch.randn(4, 9, 16, 2, requires_grad=True)
    out = model(window)
    assert out.shape == (4, 1, 16, 3)
    out.square().sum().backward()
    assert window.grad is not None
    assert (window.grad.abs().amax((0, 2, 3)) > 1e-4).all()
    assert not torch.allclose(model(window.flip(1)), out, atol=1e-2)


def test_a_run_is_repeatable() -> None:
    first, second = (train_and_test(run("random", updates=3))["tests"] for _ in range(2))
    assert first == second


def test_the_oracle_is_an_additional_method_for_validation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*SMALL, "--methods", "plain", "--oracle", "--results", str(tmp_path / "r.jsonl")]
    argv += ["--subjects", "S1"]
    plain, oracle = cli.main([*argv, "--validate"])
    assert [r["settings"]["validate"] for r in (plain, oracle)] == ["actions"] * 2
    assert (plain["settings"]["method"], oracle["settings"]["method"]) == ("plain", ORACLE)
    assert oracle["rows"]["training"] > plain["rows"]["training"]
    with pytest.raises(SystemExit):
        cli.main(argv)
    assert "--oracle needs --validate" in capsys.readouterr().err


def test_finished_runs_are_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results, numbers, table = (tmp_path / name for name in ("r.jsonl", "n.json", "sub/t.md"))
    argv = [*SMALL, "--methods", "plain,random", "--results", str(results)]
    argv += ["--json", str(numbers), "--markdown", str(table)]
    first = cli.main(argv)
    assert len(results.read_text().splitlines()) == 2

    monkeypatch.setattr(cli, "train_and_test", lambda *_: pytest.fail("ran again"))
    assert cli.main(argv) == first
    saved = json.loads(numbers.read_text())
    assert saved["runs"] == first
    assert "-m benchmarks.generalization --estimators mlp" in saved["command"]
    assert f"{first[1]['tests']['cross']['MPJPE']:.1f}" in table.read_text()
    assert "2 runs, 0 to execute" in capsys.readouterr().out


def test_runs_are_identified_by_their_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run("random")
    record = {"settings": json.loads(done.key), "environment": {"commit": "1234567"}}
    results = tmp_path / "r.jsonl"
    results.write_text(json.dumps(record) + "\n")
    assert list(cli.read_results(results)) == [done.key]
    for other in (run("random", seed=1), run("random", updates=9), run(), run("no-ba")):
        assert other.key not in cli.read_results(results)
    for commit, found in (("1234567", 1), ("7654321", 0), ("1234567+", 0)):
        monkeypatch.setattr(cli, "environment_info", lambda c=commit: {"commit": c})
        assert len(cli.read_results(results, fresh=True)) == found
        assert len(cli.read_results(results)) == 1


def test_overrides_apply_to_every_method_with_a_config() -> None:
    argv = "--methods plain,random --estimators mlp --seeds 3 --set distance=(2,8) bend=0.25"
    plain, random = cli.make_runs(cli.arguments(argv.split()))
    assert plain.method == "plain"
    assert plain.config is None
    assert random.method == "random distance=(2, 8) bend=0.25"
    assert random.config == PoseAugConfig.random(distance=(2, 8), bend=0.25, seed=3)


@pytest.mark.parametrize(
    ("text", "value"), [("ratio=0.5", 0.5), ("mix=append", "append"), ("ba=False", False)]
)
def test_an_override_is_a_literal_or_a_string(text: str, value: Any) -> None:
    assert cli.parse_override(text) == (text.split("=")[0], value)


def test_windows_are_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(cli.arguments([]).estimators) == ["mlp", "videopose", "semgcn", "stgcn"]
    assert "tcn27" in cli.arguments(["--estimators", "all"]).estimators
    with pytest.raises(SystemExit):
        cli.arguments(["--estimators", "tcn27", "--pictures", "folder"])
    assert "--pictures shows single frames" in capsys.readouterr().err


def test_invalid_options_are_errors() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not name=value"):
        cli.parse_override("bend")
    with pytest.raises(
        argparse.ArgumentTypeError, match="unknown name mlq, expected some of mlp, or all"
    ):
        names_among(["mlp"])("mlp,mlq")


def test_the_table_is_mean_and_deviation_over_seeds() -> None:
    def record(method: str, cross: float) -> dict[str, Any]:
        names = ("MPJPE", "PA-MPJPE", "N-MPJPE", "bone lengths", "PCK", "AUC")
        scores = dict.fromkeys(names, cross)
        return {
            "settings": {"estimator": "mlp", "method": method},
            "tests": {"source": scores, "cross": scores},
            "seconds": {"cpu": 1.0, "wall": 2.0},
        }

    records = [record(*r) for r in (("random", 100), ("random", 110), ("default", 84))]
    _, _, random, default = cli.results_table(records).splitlines()
    assert "105.0 ± 7.1" in random
    assert "| 1.000 |" in random
    assert "| 84.0 |" in default
    assert "| 0.800 |" in default


# Diversity


def standing(yaw: float = 0.0) -> Pairs:
    """A person 4 m away who faces the camera, rotated by `yaw` degrees about the vertical."""
    angle = torch.deg2rad(torch.tensor(yaw))
    zero, one = torch.zeros(()), torch.ones(())
    rows = [[angle.cos(), zero, angle.sin()], [zero, one, zero], [-angle.sin(), zero, angle.cos()]]
    R = torch.stack([torch.stack(row) for row in rows])
    pose = bones_to_pose(STANDING[None], H36M) @ R.T + torch.tensor([0.0, 0, 4])
    unknown = np.array([""])
    return Pairs(pose[..., :2] / pose[..., 2:], pose, torch.ones(1, 9), unknown, unknown)


def test_the_viewpoint_is_relative_to_the_body() -> None:
    for yaw in (0, 60, -100):
        azimuth, elevation = pose_diversity.viewpoints(standing(yaw))[0].tolist()
        assert abs(azimuth) == pytest.approx(abs(yaw), abs=1)
        assert abs(elevation) < 8  # the spine leans a little
    to_its_left = (
        pose_diversity.viewpoints(standing(60))[0, 0]
        * pose_diversity.viewpoints(standing(-60))[0, 0]
    )
    assert to_its_left < 0


def test_yaw_does_not_change_the_posture() -> None:
    sets = {"source": standing(), "random": standing(90), "cross": standing(90)}
    numbers = pose_diversity.coverage(sets)
    assert numbers["source"]["mm"] > 100
    assert numbers["random"]["mm"] == pytest.approx(0, abs=1)
    assert numbers["random"]["nearer"] == 100
    assert numbers["source"]["posture mm"] == pytest.approx(0, abs=1)


def test_nearest_equals_a_slow_loop() -> None:
    poses, others = torch.randn(5, 16, 3), torch.randn(7, 16, 3)
    poses[:, 0] = others[:, 0] = 0
    slow = [min(float((p - q).norm(dim=-1)[1:].mean()) for q in others) for p in poses]
    assert pose_diversity.nearest_distance(poses, others).tolist() == pytest.approx(slow, rel=1e-4)


def test_joint_angles_and_bones_of_a_known_pose() -> None:
    angles = pose_diversity.joint_angles(standing())
    bones = pose_diversity.bone_lengths(standing())
    assert angles["knee"].tolist() == pytest.approx([5.78, 5.78], abs=0.02)
    assert angles["trunk to thigh"].max() < 15
    assert bones["hip to knee"].tolist() == pytest.approx([441, 441], abs=1)


def test_plots_of_augmented_pairs(tmp_path: Path) -> None:
    runs = [run(name, updates=6, batch_size=256) for name in ("random", "released")]
    with pytest.raises(ValueError, match="no row was augmented"):
        diversity.analyse(runs, tmp_path)  # the first epochs of released are plain
    numbers = diversity.analyse(runs[:1], tmp_path)
    plots = {file.stem for file in tmp_path.glob("*.png")}
    assert plots == {"viewpoints", "places", "bodies", "angles", "difficulty"}
    assert numbers["difficulty"]["random"]["updates"] == (0, 1, 2, 3, 4, 5)
    assert "| random |" in diversity.results_table(numbers)


def test_recording_does_not_change_training(pairs: Pairs) -> None:
    recorded, _ = train(run("random"), pairs, on_batch=diversity.TrainingRecorder(pairs, 8))
    alone, _ = train(run("random"), pairs)
    for a, b in zip(recorded.state_dict().values(), alone.state_dict().values()):
        assert torch.equal(a, b)
