"""Training and test data, in small files written here and with synthetic motion."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.reproduction.datasets import (
    Datasets,
    check_folder,
    evenly_spaced_rows,
    find_faults,
    load_datasets,
    main,
)
from benchmarks.training import window_rows
from poseaug_plugin.data import FILE_SOURCES, TEST, TRAIN, Pairs, synthetic
from poseaug_plugin.data.h36m_cameras import cameras, project

SHARED = Path(__file__).parents[3] / "shared" / "data"
SIDES_SWAPPED = [0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 13, 14, 15, 10, 11, 12]
FRAMES = 12  # of each clip


@pytest.fixture(scope="module")
def motion() -> Datasets:
    return load_datasets(None)


@pytest.fixture
def folder(motion: Datasets, tmp_path: Path) -> Path:
    """A clip of each subject in Human3.6M's files, exact and detected, and a cross-dataset test."""
    three, exact, noisy = {}, {}, {}
    rng = np.random.default_rng(0)
    for pairs, subjects in ((motion.train, TRAIN), (motion.tests["source"], TEST)):
        for subject in subjects:
            views = cameras(subject)
            first = pairs[torch.from_numpy(pairs.subject == subject)][:FRAMES]
            world = first.pose_3d.numpy() @ views[0].rotation.T + views[0].position
            screens = []
            for view in views:
                width, height = view.size
                seen = project(view.to_camera(world), view.intrinsics)
                screens.append(np.add(seen, [1, height / width]) * width / 2)
            three[subject] = {"Walking": world.astype(np.float32)}
            exact[subject] = {"Walking": [x.astype(np.float32) for x in screens]}
            noisy[subject] = {"Walking": [x + rng.normal(0, 4, x.shape) for x in screens]}
    np.savez(tmp_path / "data_3d_h36m.npz", positions_3d=three)  # type: ignore[arg-type]
    np.savez(tmp_path / "data_2d_h36m_gt.npz", positions_2d=exact)  # type: ignore[arg-type]
    np.savez(tmp_path / "data_2d_h36m_my.npz", positions_2d=noisy)  # type: ignore[arg-type]
    write(tmp_path / "cross_a.npz", motion.tests["cross"][:50])
    return tmp_path


def write(path: Path, pairs: Pairs) -> None:
    pose_2d, pose_3d, camera = (x.numpy() for x in (pairs.pose_2d, pairs.pose_3d, pairs.camera))
    np.savez(path, pose2d=pose_2d, pose3d=pose_3d, cam=camera, action=pairs.action)


def test_synthetic_motion(motion: Datasets) -> None:
    train, source, cross = synthetic.make(0)
    assert torch.equal(motion.train.pose_2d, train.pose_2d)
    assert torch.equal(motion.rows, torch.arange(len(train)))
    assert list(motion.tests) == ["source", "cross"]
    assert torch.equal(motion.tests["source"].pose_3d, source.pose_3d)
    assert torch.equal(motion.tests["cross"].pose_3d, cross.pose_3d)
    assert motion.missing == {}
    few = load_datasets(None, subjects=["S1", "S7"])
    assert set(few.train.subject) == {"S1", "S7"}
    assert torch.equal(few.tests["source"].pose_2d, source.pose_2d)


def test_a_folder(folder: Path) -> None:
    every = load_datasets(folder, keypoints="my")
    assert len(every.train) == len(every.rows) == 5 * 4 * FRAMES
    assert list(every.tests) == ["source", "cross"]
    assert len(every.tests["source"]) == 2 * 4 * FRAMES
    assert set(every.tests["source"].subject) == set(TEST)
    assert list(every.missing) == ["3dhp", "3dpw"]
    message = every.missing["3dhp"]
    for words in ("mpi_inf_3dhp_valid.npz", "test_3dhp.npz", str(folder), "fetch_data.sh"):
        assert words in message

    write(folder / "test_3dhp.npz", every.tests["cross"][:7])
    write(folder / "test_3dpw.npz", every.tests["cross"][:9])
    (folder / "cross_a.npz").unlink()
    half = load_datasets(folder, subjects=["S5"], fraction=0.5)
    assert {name: len(pairs) for name, pairs in half.tests.items()} == {
        "source": 2 * 4 * FRAMES,
        "3dhp": 7,
        "3dpw": 9,
    }
    assert list(half.missing) == ["cross"]
    assert len(half.train) == 4 * FRAMES
    assert len(half.rows) == 4 * FRAMES // 2


def test_invalid_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"subjects are \['S9'\], expected some of S1, S5"):
        load_datasets(None, subjects=["S9"])
    with pytest.raises(ValueError, match=r"subjects are \[\]"):
        load_datasets(None, subjects=[])
    with pytest.raises(ValueError, match=r"subjects are \['S1', 'S1'\]"):
        load_datasets(None, subjects=["S1", "S1"])
    for fraction in (0.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="fraction is"):
            load_datasets(None, fraction=fraction)
    with pytest.raises(ValueError, match="keypoints are 'cpn', but synthetic motion"):
        load_datasets(None, keypoints="cpn")
    with pytest.raises(FileNotFoundError, match=r"no data_3d_h36m.npz"):
        load_datasets(tmp_path)


def slow_windows(pairs: Pairs, frames: int) -> list[list[int]]:
    """Row by row: walk from the centre as long as frame numbers are consecutive."""
    assert pairs.frame is not None
    frame = pairs.frame.tolist()
    found = []
    for row in range(len(pairs)):
        window = [row]
        for _ in range(frames // 2):
            left, right = window[0], window[-1]
            before = left - 1 if left and frame[left - 1] == frame[left] - 1 else left
            last = right + 1 == len(frame) or frame[right + 1] != frame[right] + 1
            window = [before, *window, right if last else right + 1]
        found.append(window)
    return found


def test_windows_stay_in_their_clip(motion: Datasets) -> None:
    pairs = motion.train[:150]
    for frames in (1, 3, 27):
        found = window_rows(pairs, frames)
        assert found.dtype == torch.long
        assert found.tolist() == slow_windows(pairs, frames)
    around = window_rows(motion.train, 9)
    for name in ("subject", "action"):
        column = getattr(motion.train, name)
        assert (column[around.numpy()] == column[:, None]).all()
    assert (motion.train.camera[around] == motion.train.camera[:, None]).all()
    # Neighbouring frames are a tenth of a second apart: nobody moves far.
    steps = motion.train.pose_3d[around[:, 1:]] - motion.train.pose_3d[around[:, :-1]]
    assert steps[:, :, 0].norm(dim=-1).quantile(0.99) < 0.4


def test_windows_of_a_part(motion: Datasets) -> None:
    pairs = motion.train
    whole = pairs[torch.from_numpy(pairs.subject == "S6")]
    inside = window_rows(whole, 5)
    assert torch.equal(
        whole.pose_2d[inside], pairs.pose_2d[window_rows(pairs, 5)][pairs.subject == "S6"]
    )
    alone = torch.arange(0, 100, 2)
    assert torch.equal(window_rows(pairs[alone], 3), torch.arange(50)[:, None].expand(-1, 3))


def test_windows_of_single_frames_repeat_them(motion: Datasets) -> None:
    single = dataclasses.replace(motion.tests["cross"][:6], frame=None)
    assert torch.equal(window_rows(single, 5), torch.arange(6)[:, None].expand(-1, 5))
    assert torch.equal(evenly_spaced_rows(single, 0.1), torch.arange(6))
    assert window_rows(single[:0], 3).shape == (0, 3)
    for frames in (0, 2, -1):
        with pytest.raises(ValueError, match=f"frames is {frames}, expected 1, 3, 5"):
            window_rows(single, frames)


@pytest.mark.parametrize("fraction", [1.0, 0.5, 0.1, 0.001])
def test_a_fraction_is_evenly_spaced_in_every_clip(motion: Datasets, fraction: float) -> None:
    rows = evenly_spaced_rows(motion.train, fraction)
    assert (rows.diff() > 0).all()
    assert motion.train.frame is not None
    clip = torch.cumsum(torch.cat([torch.zeros(1), (motion.train.frame.diff() != 1)]), 0).long()
    length, count = clip.bincount(), clip[rows].bincount(minlength=int(clip[-1]) + 1)
    assert torch.equal(count, (length.double() * fraction).round().long().clamp(min=1))
    for number in (0, 50, int(clip[-1])):
        steps = rows[clip[rows] == number].diff().tolist()
        assert not steps or max(steps) - min(steps) <= 1


def test_the_synthetic_data_is_valid(motion: Datasets) -> None:
    for pairs in (motion.train, *motion.tests.values()):
        assert find_faults(pairs, exact=True) == []


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("pose_3d", lambda x: x * 100, "median thigh length is 4.* m"),
        ("pose_3d", lambda x: x * x.new_tensor([-1, 1, 1]), "of the knee bend is forwards"),
        ("pose_3d", lambda x: x[:, SIDES_SWAPPED], "of the knee bend is forwards"),
        ("pose_2d", lambda x: x * x.new_tensor([1, -1]), "similarity of 2D and 3D is -"),
        ("pose_2d", lambda x: x[:, SIDES_SWAPPED], "2D and 3D are swapped in 100%"),
        ("pose_2d", lambda x: x + 3, "100% of the 2D poses are far outside"),
        ("pose_2d", lambda x: x + 0.006, "up to 4.24 px from"),
        ("pose_2d", lambda x: x * torch.nan, "0.0% of the numbers are finite"),
    ],
)
def test_faults_are_found(
    motion: Datasets, name: str, change: Callable[[Tensor], Tensor], message: str
) -> None:
    some = motion.train[::10]
    fields: dict[str, Any] = {name: change(getattr(some, name))}
    found = find_faults(dataclasses.replace(some, **fields), exact=True)
    assert re.search(message, "; ".join(found)), found


def test_a_test_set_without_cameras_is_checked_otherwise(motion: Datasets) -> None:
    cross = motion.tests["cross"]
    unknown = torch.full_like(cross.camera, torch.nan)
    relative = dataclasses.replace(cross, pose_3d=cross.root_relative, camera=unknown)
    assert find_faults(relative, exact=True) == []
    mirrored = dataclasses.replace(relative, pose_3d=relative.pose_3d[:, SIDES_SWAPPED])
    found = "; ".join(find_faults(mirrored, exact=True))
    assert re.search("0% of the knee.*2D and 3D are swapped in 100%", found), found


def test_detections_may_have_a_small_error(motion: Datasets) -> None:
    some = motion.train[::10]
    for offset, fits in ((0.02, True), (0.06, False)):
        beside = dataclasses.replace(some, pose_2d=some.pose_2d + offset)
        assert (find_faults(beside, exact=False) == []) == fits


def test_a_folder_is_checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {file.name: file for file in check_folder(folder)}
    assert set(files) == set(FILE_SOURCES) | {"data_2d_h36m_my.npz"}
    there = {name: file.size for name, file in files.items() if file.size}
    assert there == {
        "data_3d_h36m.npz": f"{7 * FRAMES} x 16",
        "data_2d_h36m_gt.npz": f"{7 * 4 * FRAMES} x 16",
        "data_2d_h36m_my.npz": f"{7 * 4 * FRAMES} x 16",
        "cross_a.npz": "50 x 16",
    }
    assert {files[name].verdict for name in there} == {
        "checked together with each 2D file",
        "valid",
    }
    assert files["data_2d_h36m_hr.npz"].verdict == FILE_SOURCES["data_2d_h36m_hr.npz"]
    assert files["data_2d_h36m_cpn_ft_h36m_dbb.npz"].purpose == "2D cpn"
    assert not any(file.invalid for file in files.values())
    assert main([str(folder)]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in files)

    (folder / "data_2d_h36m_my.npz").rename(folder / "data_2d_h36m_hr.npz")
    (folder / "data_2d_h36m_my.npz").write_bytes((folder / "cross_a.npz").read_bytes())
    (folder / "test_3dpw.npz").write_bytes(b"not an archive")
    files = {file.name: file for file in check_folder(folder)}
    assert not files["data_2d_h36m_hr.npz"].invalid
    assert "no 'positions_2d'" in files["data_2d_h36m_my.npz"].verdict
    assert {name for name, file in files.items() if file.invalid} == {
        "data_2d_h36m_my.npz",
        "test_3dpw.npz",
    }
    assert main([str(folder)]) == 1


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not published")
def test_the_shared_files_are_valid() -> None:
    files = [file for file in check_folder(SHARED) if file.size]
    assert len(files) >= 4
    assert not any(file.invalid for file in files)
