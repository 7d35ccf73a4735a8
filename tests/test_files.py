"""Pose files in every layout are read, checked and augmented without a training loop."""

from __future__ import annotations

import dataclasses
import io
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from h36m_helpers import write
from helpers import H36M, STANDING
from poseaug_plugin import BatchError, ConfigError, DataError, files, plugin
from poseaug_plugin.data import TRAIN, load_pose_npz, synthetic
from poseaug_plugin.data.h36m_cameras import cameras, project
from poseaug_plugin.geometry.bones import bones_to_pose
from poseaug_plugin.progress import Progress

SOME = synthetic.make()[0][::400]
ROWS = {
    "pose2d": SOME.pose_2d.numpy(),
    "pose3d": SOME.pose_3d.numpy(),
    "cam": SOME.camera.numpy(),
    "action": SOME.action,
}


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return saved(tmp_path / "plain.npz", **ROWS, note=np.array("not a row"))


# Reading and checking


def test_arrays_are_told_apart_by_their_shapes(plain: Path) -> None:
    file = files.read_poses(plain)
    assert (file.layout, len(file)) == ("arrays", len(SOME))
    assert set(file.rows) == set(ROWS)
    assert set(file.others) == {"note"}
    assert repr(file.format) == (
        "BatchFormat(pose_2d='pose2d', pose_3d='pose3d', camera='cam', root='absolute')"
    )
    report, *_ = files.check(file)
    assert report.ok
    assert report.residual < 0.01


def test_rows_are_what_most_arrays_have(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", **ROWS, table=np.zeros(5000), few=np.zeros(3))
    file = files.read_poses(path)
    assert (set(file.rows), set(file.others)) == (set(ROWS), {"table", "few"})


def test_names_and_units_can_be_given(tmp_path: Path) -> None:
    pixels = (ROWS["pose2d"] + 1) * 500
    path = saved(
        tmp_path / "mine.npz", kp=pixels, detected=pixels, xyz=SOME.root_relative.numpy() * 1000
    )
    with pytest.raises(BatchError, match=r"candidates \['kp', 'detected'\] for 2D"):
        files.read_poses(path)
    settings = dict(pose_2d="kp", pose_3d="xyz", unit=0.001)
    (first, *_) = files.check(files.read_poses(path, settings))
    assert "the 2D is in pixels" in first.problems[0]
    file = files.read_poses(path, {**settings, "screen": (1000, 1000)})
    assert (file.format.root, file.format.unit) == ("relative", 0.001)  # type: ignore[attr-defined]
    assert all(report.ok for report in files.check(file))
    assert files.read_poses(path, {**settings, "root": "relative"}).skeleton.num_joints == 16
    with pytest.raises(ConfigError, match="units"):
        files.read_poses(path, dict(units=0.001))


def test_human36m_files_are_found_from_any_of_them(tmp_path: Path) -> None:
    folder = h36m_folder(tmp_path)
    for path in (folder, folder / "data_3d_h36m.npz", folder / "data_2d_h36m_gt.npz"):
        file = files.read_poses(path)
        assert "data_2d_h36m_gt.npz" in file.layout
        assert file.format.camera == "cam"  # type: ignore[attr-defined]
        assert all(report.ok for report in files.check(file))
        assert set(file.rows) == {"pose2d", "pose3d", "cam", "subject", "action"}
    with pytest.raises(ConfigError, match="fixed layout"):
        files.read_poses(folder, dict(unit=0.001))


def test_without_exact_2d_the_first_of_several_detections_is_read(tmp_path: Path) -> None:
    folder = h36m_folder(tmp_path)
    for kind in ("hr", "cpn_ft_h36m_dbb"):
        shutil.copy(folder / "data_2d_h36m_gt.npz", folder / f"data_2d_h36m_{kind}.npz")
    assert "data_2d_h36m_gt.npz" in files.read_poses(folder).layout
    (folder / "data_2d_h36m_gt.npz").unlink()
    assert "data_2d_h36m_cpn_ft_h36m_dbb.npz" in files.read_poses(folder).layout
    assert "data_2d_h36m_hr.npz" in files.read_poses(folder / "data_2d_h36m_hr.npz").layout


def h36m_folder(folder: Path) -> Path:
    """A person who stands still in the room, in VideoPose3D's files."""
    standing = bones_to_pose(STANDING, H36M).numpy()
    world = standing[:, [0, 2, 1]] * [1, 1, -1] + [0, 0, 1]
    positions_3d = {name: {"Walk": np.stack([world] * 3).astype(np.float32)} for name in TRAIN}
    positions_2d: dict[str, Any] = {}
    for name, actions in positions_3d.items():
        views = []
        for view in cameras(name):
            seen = project(view.to_camera(actions["Walk"]), view.intrinsics)
            width, height = view.size
            views.append((seen + np.array([1, height / width])) * width / 2)
        positions_2d[name] = {"Walk": views}
    return write(folder, positions_3d, positions_2d)


def test_spins_file_of_mpi_inf_3dhp_has_no_camera(tmp_path: Path) -> None:
    count = 12
    path = saved(
        tmp_path / "mpi_inf_3dhp_valid.npz",
        imgname=np.array([f"TS{1 + i % 6}/{i}.jpg" for i in range(count)]),
        part=np.concatenate([np.random.rand(count, 24, 2) * 1000, np.ones((count, 24, 1))], -1),
        S=np.concatenate([np.random.rand(count, 24, 3), np.ones((count, 24, 1))], -1),
    )
    file = files.read_poses(path)
    assert "MPI-INF-3DHP" in file.layout
    assert "cam" not in file.rows
    assert len(file) == count


def test_arrays_with_spins_names_are_read_plainly_if_they_are_named(tmp_path: Path) -> None:
    spin = dict(imgname=ROWS["action"], part=ROWS["pose2d"], S=ROWS["pose3d"])
    file = files.read_poses(
        saved(tmp_path / "mine.npz", **spin), dict(pose_2d="part", pose_3d="S", root="absolute")
    )
    assert (file.layout, len(file)) == ("arrays", len(SOME))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "has no rows"),
        ({"a": np.array([{}], dtype=object)}, r"\['a'\] are object arrays"),
        ({"a": np.zeros((5, 7))}, "cannot tell which field is what"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, BatchError), match=message):
        files.read_poses(saved(tmp_path / "x.npz", **arrays))


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no .*x\.npz"):
        files.read_poses(tmp_path / "x.npz")
    (tmp_path / "y.npz").write_text("text")
    with pytest.raises(ValueError, match=r"y\.npz is no \.npz archive"):
        files.read_poses(tmp_path / "y.npz")


def test_a_loader_is_checked_without_a_model() -> None:
    batch = (SOME.pose_3d, SOME.pose_2d, SOME.action, SOME.camera)
    assert [report.ok for report in files.check([batch] * 5, "poseaug")] == [True] * 3
    assert not files.check([(SOME.pose_3d * 1000, *batch[1:])], "poseaug")[0].ok
    with pytest.raises(BatchError, match="no batch"):
        files.check([], "poseaug")


# Augmenting


def test_an_augmented_file_has_the_rows_and_then_their_copies(plain: Path, tmp_path: Path) -> None:
    target, count = tmp_path / "out.npz", len(SOME)
    counts = files.augment_file(plain, target, copies=2)
    with np.load(target) as arrays:
        out = dict(arrays)
    assert set(out) == {*ROWS, "note"}
    assert str(out["note"]) == "not a row"
    for name, array in ROWS.items():
        assert out[name].dtype == array.dtype
        assert np.array_equal(out[name][:count], array)
    assert np.array_equal(out["action"], np.tile(ROWS["action"], 3))
    new = (out["pose2d"] != np.tile(ROWS["pose2d"], (3, 1, 1))).any((1, 2))
    assert new.sum() == counts["augmented"]
    assert counts["rows"] == 3 * count
    assert new[count:].mean() == pytest.approx(counts["accepted"], abs=1e-6)
    assert counts["accepted"] > 0.8
    assert not np.allclose(out["pose3d"][count : 2 * count], out["pose3d"][2 * count :])
    again = load_pose_npz(target)  # the same layout
    assert all(report.ok for report in files.check(files.read_poses(target)))
    assert len(again) == 3 * count
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.parametrize("stop", [1, 3])
def test_an_interrupted_file_goes_on_with_equal_results(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    monkeypatch.setattr(files, "BATCH", 8)
    monkeypatch.setattr(files, "PART", 2)
    whole, half = tmp_path / "whole.npz", tmp_path / "half.npz"
    files.augment_file(plain, whole, copies=2)
    write = files._Parts.add

    def interrupted(self: Any, number: int, *args: Any) -> None:
        if number == stop:
            raise KeyboardInterrupt
        write(self, number, *args)

    monkeypatch.setattr(files._Parts, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.augment_file(plain, half, copies=2)
    assert not half.exists()
    monkeypatch.setattr(files._Parts, "add", write)
    with pytest.raises(FileExistsError, match="with other arguments"):
        files.augment_file(plain, half, copies=2, config="random")
    stream = io.StringIO()
    files.augment_file(plain, half, copies=2, progress=Progress(1, stream))
    assert [line[-6:] for line in stream.getvalue().splitlines()] == ["1 of 2", "2 of 2"]
    with np.load(whole) as a, np.load(half) as b:
        assert all(np.array_equal(a[name], b[name]) for name in a)


def test_each_copy_mixes_all_rows_and_takes_a_step_for_each_batch(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neighbouring rows of a file are alike. Steps without batches or the reverse are warned of."""
    monkeypatch.setattr(files, "BATCH", 8)
    monkeypatch.setattr(plugin, "BATCHES_WITHOUT_STEP", 2)
    taken: list[Any] = []
    take = files.PoseFile.take
    monkeypatch.setattr(
        files.PoseFile, "take", lambda file, rows: taken.append(rows) or take(file, rows)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in (0, 1):
            config = dict(preset="random", seed=seed)
            files.augment_file(plain, tmp_path / f"{seed}.npz", copies=2, config=config)
    orders = np.split(np.concatenate(taken), 4)
    for order in orders:
        assert sorted(order) == [*range(len(SOME))]
        assert (np.diff(order) == 1).mean() < 0.3
    assert len({tuple(order) for order in orders}) == 4


def test_the_seed_of_a_preview_says_which_rows_are_shown(plain: Path, tmp_path: Path) -> None:
    pages = []
    for seed in (0, 0, 1):
        files.preview_file(plain, page=tmp_path / "page.html", seed=seed)
        pages.append((tmp_path / "page.html").read_text())
    assert pages[0] == pages[1] != pages[2]


def test_the_progress_counts_rows(plain: Path, tmp_path: Path) -> None:
    stream = io.StringIO()
    progress = Progress(1, stream)
    files.augment_file(plain, tmp_path / "out.npz", copies=3, progress=progress)
    assert progress.done == progress.total == 3 * len(SOME)
    told = [line.split("  ")[1] for line in stream.getvalue().splitlines()]
    assert told == [f"augmenting {len(SOME)} rows, copy {i} of 3" for i in (1, 2, 3)]


def test_clips_stay_clips(tmp_path: Path) -> None:
    """Two people who stand still for seven frames."""
    clips = {name: np.repeat(ROWS[name][:2, None], 7, 1) for name in ("pose2d", "pose3d")}
    path = saved(tmp_path / "clips.npz", cam=ROWS["cam"][:2], action=ROWS["action"][:2], **clips)
    files.augment_file(path, tmp_path / "out.npz", config="random")
    with np.load(tmp_path / "out.npz") as out:
        assert out["pose3d"].shape == (4, 7, 16, 3)


def test_human36m_becomes_plain_arrays(tmp_path: Path) -> None:
    folder = h36m_folder(tmp_path)
    files.augment_file(folder, tmp_path / "out.npz", config="random")
    pairs = load_pose_npz(tmp_path / "out.npz")
    assert len(pairs) == 2 * len(files.read_poses(folder))


def test_wrong_calls_change_nothing(plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npz"
    with pytest.raises(ConfigError, match="learned networks"):
        files.augment_file(plain, out, config="paper")
    with pytest.raises(ConfigError, match="copies=0"):
        files.augment_file(plain, out, copies=0)
    wrong = saved(tmp_path / "mm.npz", **{**ROWS, "pose3d": ROWS["pose3d"] * 1000})
    with pytest.raises(DataError, match="unit"):
        files.augment_file(wrong, out)
    assert {path.name for path in tmp_path.iterdir()} == {"plain.npz", "mm.npz"}
    with pytest.raises(FileExistsError, match="exists; delete it"):
        files.augment_file(plain, wrong)


def test_a_pose_file_is_immutable(plain: Path) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        files.read_poses(plain).layout = "x"  # type: ignore[misc]
