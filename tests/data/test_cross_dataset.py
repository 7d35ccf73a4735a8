"""MPI-INF-3DHP's test set in SPIN's format, in tiny files written here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from poseaug_plugin.data.cross_dataset import TESTS, load_3dhp, load_cross_dataset, load_test
from poseaug_plugin.data.h36m import FILE_SOURCES, load_pose_npz

# SPIN's indices of pelvis, right leg, left leg, spine, neck, top of the head, left and right arm.
SPIN_JOINTS = [14, 2, 1, 0, 3, 4, 5, 16, 12, 18, 9, 10, 11, 8, 7, 6]
FRAMES = {"TS1": 3, "TS4": 2, "TS5": 2, "TS6": 1}


def spin() -> dict[str, Any]:
    """SPIN's arrays: x of joint j in row n is n + j / 100 metres and 100 n + j pixels."""
    subjects = [name for name, count in FRAMES.items() for _ in range(count)]
    images = [
        f"mpi_inf_3dhp_test_set/{name}/imageSequence/img_{i:06d}.jpg"
        for i, name in enumerate(subjects)
    ]
    row, joint = np.arange(len(subjects))[:, None], np.arange(24)
    seen = np.isin(joint, SPIN_JOINTS) | (joint == 17)  # SPIN annotates 17 of the 24
    part, pose = np.zeros((len(subjects), 24, 3)), np.zeros((len(subjects), 24, 4))
    part[..., 0], part[..., 1], part[..., 2] = 100 * row + joint, 1080 - joint, seen
    pose[..., 0], pose[..., 1], pose[..., 3] = row + joint / 100, -joint, seen
    return {
        "imgname": np.array(images),
        "center": np.zeros((len(subjects), 2)),
        "scale": np.ones(len(subjects)),
        "part": part,
        "S": pose,
    }


def test_joints_subjects_and_picture_sizes(tmp_path: Path) -> None:
    path = tmp_path / "mpi_inf_3dhp_valid.npz"
    np.savez(path, **spin())
    pairs = load_3dhp(path)
    assert list(pairs.subject) == [name for name, count in FRAMES.items() for _ in range(count)]
    assert set(pairs.action) == {""}
    assert pairs.frame is None
    assert torch.isnan(pairs.camera).all()
    assert pairs.pose_2d.dtype == pairs.pose_3d.dtype == torch.float32
    assert pairs.pose_2d.is_contiguous()
    assert pairs.pose_3d.is_contiguous()

    joint = np.array(SPIN_JOINTS)
    for row, name in enumerate(pairs.subject):
        expected = np.stack([row + joint / 100, -joint, 0 * joint], axis=1)
        np.testing.assert_allclose(pairs.pose_3d[row], expected, rtol=1e-6)
        width, height = (1920, 1080) if name in ("TS5", "TS6") else (2048, 2048)
        x, y = 2 * (100 * row + joint) / width - 1, 2 * (1080 - joint) / width - height / width
        np.testing.assert_allclose(pairs.pose_2d[row], np.stack([x, y], axis=1), atol=1e-6)


def test_names_written_by_python_2(tmp_path: Path) -> None:
    arrays = spin()
    np.savez(tmp_path / "poses.npz", **{**arrays, "imgname": arrays["imgname"].astype(np.bytes_)})
    assert list(load_3dhp(tmp_path / "poses.npz").subject[:4]) == ["TS1"] * 3 + ["TS4"]


def test_the_file_prepared_by_poseaug_reads_the_same(tmp_path: Path) -> None:
    arrays = spin()
    np.savez(tmp_path / "mpi_inf_3dhp_valid.npz", **arrays)
    size = np.array([[2048, 2048]] * 5 + [[1920, 1080]] * 3)[:, None]
    pixels = arrays["part"][:, SPIN_JOINTS, :2]
    pose2d = pixels / size[..., :1] * 2 - size / size[..., :1]
    np.savez(tmp_path / "test_3dhp.npz", pose3d=arrays["S"][:, SPIN_JOINTS, :3], pose2d=pose2d)
    ours, theirs = (read(tmp_path / file) for file, read in TESTS["3dhp"].items())
    assert torch.allclose(ours.pose_2d, theirs.pose_2d, rtol=0, atol=1e-6)
    assert torch.equal(ours.pose_3d, theirs.pose_3d)


def test_wrong_contents_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "mpi_inf_3dhp_valid.npz"
    with pytest.raises(FileNotFoundError, match=r"no mpi_inf_3dhp_valid.npz in .*fetch_data.sh"):
        load_3dhp(path)
    good = spin()
    hidden = good["part"].copy()
    hidden[2, 6, 2] = 0
    unsure = good["S"].copy()
    unsure[3, 14, 3] = 0.5
    for change, message in (
        ({"S": good["S"] * [1000, 1000, 1000, 1]}, "S looks like millimetres"),
        ({"S": good["S"][:, :17]}, r"\(8, 17, 4\).*expected S as \(8, 24, 4\)"),
        ({"part": good["part"][:5]}, r"\(5, 24, 3\).*expected part as \(8, 24, 3\)"),
        ({"part": hidden}, r"part: 1 joints are not annotated, the first in row 2, right wrist"),
        ({"S": unsure}, r"S: 1 joints are not annotated, the first in row 3, pelvis"),
        ({"imgname": np.array(["S1/Seq1/a.jpg"] * 8)}, r"image 'S1/Seq1/a.jpg', .*TS1, TS2"),
        ({"imgname": np.array(["TS10/a.jpg"] * 8)}, r"image 'TS10/a.jpg', expected a folder of"),
    ):
        np.savez(path, **{**good, **change})
        with pytest.raises(ValueError, match=rf"^mpi_inf_3dhp_valid\.npz.*{message}"):
            load_3dhp(path)
    np.savez(path, part=good["part"], S=good["S"])
    with pytest.raises(ValueError, match=r"expected part as \('N', 24, 3\), one row per imgname"):
        load_3dhp(path)


def test_every_test_set_has_a_source() -> None:
    for files in TESTS.values():
        assert set(files) <= set(FILE_SOURCES)
    assert TESTS["cross"]["cross_a.npz"] is load_pose_npz


def test_the_first_existing_test_set_is_loaded(tmp_path: Path) -> None:
    arrays = spin()
    pose = {"pose3d": arrays["S"][:, SPIN_JOINTS, :3], "pose2d": np.zeros((8, 16, 2))}
    np.savez(tmp_path / "cross_a.npz", **{name: array[:5] for name, array in pose.items()})
    assert len(load_cross_dataset(tmp_path)) == len(load_test("cross", tmp_path)) == 5
    with pytest.raises(FileNotFoundError, match=r"valid.npz in .*fetch_data.sh.*; no test_3dhp"):
        load_test("3dhp", tmp_path)
    np.savez(tmp_path / "mpi_inf_3dhp_valid.npz", **arrays)  # SPIN's own file
    assert set(load_cross_dataset(tmp_path).subject) == set(FRAMES)


def test_a_folder_without_test_sets_is_an_error_that_lists_the_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no cross-dataset test") as error:
        load_cross_dataset(tmp_path)
    assert all(file in str(error.value) for files in TESTS.values() for file in files)
