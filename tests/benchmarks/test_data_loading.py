"""The data loading benchmark: its files, its loaders and its tables."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import environment
from benchmarks.data_loading import cli, loaders
from helpers import H36M, cameras, generator, people
from poseaug_plugin.data import TRAIN, Pairs
from poseaug_plugin.geometry.bones import lengths, pose_to_bones
from poseaug_plugin.geometry.camera import project
from poseaug_plugin.geometry.operators import stretch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    cli.write_files(folder, poses=900, seed=0, takes=3)
    return folder


@pytest.fixture(scope="module")
def pairs(folder: Path) -> Pairs:
    return cli.load_cached(folder)


def test_files_hold_the_requested_poses_and_their_projections(pairs: Pairs) -> None:
    assert 900 <= len(pairs) < 900 + 4 * len(TRAIN)
    assert set(pairs.subject) == set(TRAIN)
    assert set(pairs.action) == {"Take 0", "Take 1", "Take 2"}
    assert torch.allclose(project(pairs.pose_3d, pairs.camera), pairs.pose_2d, atol=1e-5)


def test_bone_lengths_of_a_row_are_swapped_as_in_a_batch() -> None:
    pose_3d = people(2)[:, 0]
    bones = lengths(pose_to_bones(pose_3d, H36M))
    groups = torch.tensor(H36M.mirror_group)
    person = torch.zeros(2, H36M.num_groups).index_add_(1, groups, bones)
    batch = stretch(pose_3d[:1], (person[1] / person[0] - 1)[None], H36M)[0]
    row = loaders.with_bone_lengths(*pose_3d.numpy())
    assert row.dtype == np.float32
    assert np.allclose(row, batch.numpy(), atol=1e-6)


@pytest.mark.parametrize("swap", [False, True])
def test_every_loader_yields_rows_in_the_same_format(pairs: Pairs, swap: bool) -> None:
    args = cli.arguments(["--batch-size", "32", "--share", "0.1", "--workers", "0"])
    found = loaders.loaders(pairs, args, swap)
    assert {name: rows for name, (rows, _) in found.items()} == {
        "in memory": len(pairs) // 32 * 32,
        "row by row, 0 workers": 3 * 32,
    }
    for rows, start in found.values():
        batches = list(start())
        assert len(batches) == rows / 32
        for pose_3d, pose_2d, number, camera in batches:
            shapes = [tuple(x.shape) for x in (pose_3d, pose_2d, number, camera)]
            assert shapes == [(32, 16, 3), (32, 16, 2), (32,), (32, 9)]
            assert {x.dtype for x in (pose_3d, pose_2d, camera)} == {torch.float32}
            assert torch.allclose(project(pose_3d, camera), pose_2d, atol=1e-5)
            assert torch.equal(pose_3d[:, 0], pairs.pose_3d[number, 0])
            assert torch.allclose(pose_3d, pairs.pose_3d[number], atol=1e-6) != swap
        seen = torch.cat([number for _, _, number, _ in batches])
        assert len(seen.unique()) == rows


def test_swapping_leaves_the_batch_unchanged() -> None:
    pose_3d = people(8)[:, 0]
    batch = (pose_3d, torch.zeros(8, 16, 2), torch.arange(8), cameras(8))
    before = pose_3d.clone()
    after, _, _, _ = loaders.swap_batch(batch, generator())
    assert torch.equal(pose_3d, before)
    ours, theirs = (lengths(pose_to_bones(x, H36M)).sum(1) for x in (after, before))
    assert torch.allclose(ours.sort().values, theirs.sort().values, rtol=0.02)
    assert not torch.allclose(ours, theirs, rtol=1e-3)


def test_run_in_process_uses_another_process() -> None:
    assert cli.run_in_process(os.getpid) != os.getpid()


def test_the_file_holds_all_results_and_the_tables_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "run_in_process", lambda function, *args: function(*args))
    file, page = tmp_path / "r.json", tmp_path / "r.md"
    sizes = ["--poses", "600", "--batch-size", "32", "--share", "0.1", "--workers", "0,1"]
    few = ["--epochs", "2", "--rounds", "2", "--models", "mlp256", "--steps", "2"]
    cli.main([*sizes, *few, "--json", str(file), "--markdown", str(page)])
    found = json.loads(file.read_text())
    assert set(found) == {"arguments", "environment", *cli.SECTIONS}
    assert set(found["environment"]) == set(environment.environment_info())

    stages = [row["stage"] for row in found["memory"]]
    assert stages == [
        *("libraries alone", "files read", "epoch 1", "epoch 2"),
        "the poses themselves",
    ]
    assert found["memory"][-1]["MiB"] == 600 * (48 + 32 + 9) * 4 / 2**20
    assert all(row["MiB"] > 50 for row in found["memory"][:-1])

    names = ["in memory", "row by row, 0 workers", "row by row, 1 workers"]
    both = [(kind, name) for kind in cli.KINDS.values() for name in names]
    assert [(row["batches"], row["loader"]) for row in found["speed"]] == both
    assert [(row["batches"], row["loader"]) for row in found["waiting"]] == both
    for row in found["speed"]:
        assert len(row["rounds"]) == 2
        assert row["rows"] == (576 if row["loader"] == "in memory" else 64)
        if row["loader"] == "in memory":
            assert row["of in memory"] == [1, 1, 1]
    for row in found["waiting"]:
        assert 0 < row["ms waiting"][1] < row["ms per step"][1]
        assert 0 < row["waiting %"][1] < 100
    for text in (capsys.readouterr().out, page.read_text()):
        assert all(section in text for section in cli.SECTIONS)
