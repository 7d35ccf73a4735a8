"""Unlabelled 2D is read in every form that `target_2d=` may have, or refused with a cure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import H36M
from poseaug_plugin import BatchFormat, ConfigError
from poseaug_plugin.batches import unlabelled
from poseaug_plugin.batches.presets import FORMATS
from poseaug_plugin.batches.unlabelled import MOST, read_unlabelled

POSES = torch.rand(6, 16, 2, generator=torch.Generator().manual_seed(0)) - 0.5
PLAIN = BatchFormat(pose_2d=0, pose_3d=1)
PIXELS = {"screen": (1000, 800)}


def in_pixels(poses: Tensor) -> Tensor:
    return (poses + torch.tensor([1.0, 0.8])) * 500


def read(source: Any, fmt: Any = PLAIN) -> Tensor:
    return read_unlabelled(source, fmt, H36M)


@pytest.mark.parametrize(
    "source",
    [
        POSES,
        POSES.numpy(),
        POSES.double().numpy(),
        POSES.flatten(1),
        POSES.reshape(2, 3, 16, 2),  # clips
        [POSES[:2], POSES[2:]],  # clips of different lengths, or a loader of arrays
        [(POSES[:2], None), (POSES[2:], None)],  # a loader of batches
        {"pose_2d": in_pixels(POSES), **PIXELS},
        {"pose_2d": torch.cat([POSES, torch.ones(6, 16, 1)], -1)},
    ],
)
def test_forms(source: Any) -> None:
    torch.testing.assert_close(read(source), POSES)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "b.npz"])
def test_files(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "a.npy":
        np.save(path, POSES)
    elif name == "a.npz":
        np.savez(path, anything=POSES)
    else:
        np.savez(path, keypoints=POSES, boxes=np.zeros(3))
    for given in (path, str(path)):
        torch.testing.assert_close(read(given), POSES)


def test_units_and_joints_are_those_of_the_batch() -> None:
    fmt = BatchFormat(pose_2d=0, pose_3d=1, joints_2d=tuple(range(1, 16)), **PIXELS)
    found = read(in_pixels(POSES)[:, 1:], fmt)
    torch.testing.assert_close(found[:, 1:], POSES[:, 1:])
    assert found[:, 0].isnan().all()
    standardised = BatchFormat(pose_2d=0, pose_3d=1, stat_2d=(torch.ones(32), 2 * torch.ones(32)))
    torch.testing.assert_close(read(POSES, standardised), 2 * POSES + 1)
    for other in (fmt, standardised):
        torch.testing.assert_close(read({"pose_2d": POSES}, other), POSES)  # or its own


def test_a_format_of_the_callers_own_has_screen_units() -> None:
    class Own:
        def read(self, batch: Any, skeleton: Any, camera: Any) -> Any: ...

        def write(self, batch: Any, poses: Any, rows: Any, skeleton: Any) -> Any: ...

    torch.testing.assert_close(read(POSES, Own()), POSES)


def test_the_field_of_a_named_format() -> None:
    batches = [(np.zeros((6, 16, 3)), POSES.numpy(), ["action"] * 6)]
    torch.testing.assert_close(read(batches, FORMATS["semgcn"]), POSES)


def test_missing_joints() -> None:
    """NaN, confidence 0, and (0, 0) in the field's own units."""
    confidence = torch.ones(6, 16, 1)
    confidence[0, 5], confidence[0, 6] = 0, 0.01
    poses = torch.cat([in_pixels(POSES), confidence], -1)
    poses[1, 6, :2], poses[2, 7, 0] = 0, torch.nan
    poses[3, 8, 0] = poses[4, 9, 1] = 0  # on the edge of the image
    found = read({"pose_2d": poses, **PIXELS})
    missing = found.isnan().any(-1)
    assert missing.nonzero().tolist() == [[0, 5], [1, 6], [2, 7]]
    assert found[missing].isnan().all()
    wanted = POSES.clone()
    wanted[3, 8, 0], wanted[4, 9, 1] = -1, -0.8
    torch.testing.assert_close(found[~missing], wanted[~missing])


def test_missing_joints_of_standardised_poses_are_those_that_are_0_in_the_array() -> None:
    poses = POSES.clone()
    poses[1, 6] = 0
    found = read({"pose_2d": poses, "stat_2d": (torch.ones(32), 2 * torch.ones(32))})
    assert found.isnan().any(-1).nonzero().tolist() == [[1, 6]]


def test_poses_without_a_visible_bone_are_left_out() -> None:
    poses = POSES.clone()
    poses[1], poses[2, 1:] = 0, torch.nan
    assert len(read(poses)) == 4


def test_pixels_are_told_by_the_poses_that_are_there() -> None:
    poses = torch.cat([in_pixels(POSES), torch.zeros(9, 16, 2)])
    with pytest.raises(ConfigError, match="is in pixels"):
        read(poses)


def test_joints_far_outside_the_image_are_missing() -> None:
    poses = POSES.clone()
    poses[1], poses[2, 3] = 1e30 * poses[1], 50.0
    found = read(poses)
    assert len(found) == 5
    assert found.isnan().any(-1).nonzero().tolist() == [[1, 3]]


def test_single_poses_and_scenes() -> None:
    scenes = BatchFormat(pose_2d=0, pose_3d=1, scenes=True, root="absolute")
    for given, fmt in (
        (list(POSES), FORMATS["semgcn"]),  # of a data set
        ([(None, pose.numpy()) for pose in POSES], FORMATS["semgcn"]),
        (POSES, scenes),
        (POSES.view(3, 2, 16, 2), scenes),
    ):
        torch.testing.assert_close(read(given, fmt), POSES)


def test_an_endless_loader_is_read_in_part() -> None:
    def endless() -> Any:
        while True:
            yield torch.cat([POSES] * 5000)

    assert len(read(endless())) == MOST


def test_poses_without_a_bone_do_not_count_towards_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unlabelled, "MOST", 9)
    found = read(torch.cat([0 * POSES, POSES, POSES]))
    torch.testing.assert_close(found, torch.cat([POSES, POSES[:3]]))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (7, "target_2d is a int, expected 2D poses"),
        (POSES[:, :14], r"cannot be read: .*\(6, 14, 2\).*pass target_2d=dict"),
        (torch.zeros(0, 16, 2), "no rows"),
        (torch.zeros(4, 16, 2), "no pose with a visible bone, of 4 poses"),
        ([], "no pose with a visible bone, of 0 poses"),
        (in_pixels(POSES), r"in pixels \(coordinates are about \d+\).*screen=\(w, h\)"),
        ({"pose_2d": POSES, **PIXELS}, r"is not in pixels .*dict\(pose_2d=poses\)"),
        (1e30 * POSES, "in pixels"),
        ({"poses": POSES}, "expected pose_2d and any of"),
        ({"pose_2d": POSES, "unit": 1.0}, "expected pose_2d and any of"),
        ("nowhere.npy", "'nowhere.npy' cannot be loaded"),
        ([{"image": 1}], "yields dict without the field 0"),
    ],
)
def test_errors_name_the_cure(source: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(source)


def test_an_archive_of_many_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", one=POSES, two=POSES)
    with pytest.raises(ConfigError, match=r"has the arrays \['one', 'two'\]"):
        read(tmp_path / "a.npz")


def test_confidences_of_some_joints_hide_only_them() -> None:
    joints = tuple(range(1, 16))
    observed = torch.cat([POSES[:, 1:], torch.ones(6, 15, 1)], -1)
    observed[:, 2, 2] = 0  # joint 3
    fmt = BatchFormat(pose_2d=0, pose_3d=1, joints_2d=joints)
    assert read(observed, fmt).isnan().any(-1).any(0).nonzero()[:, 0].tolist() == [0, 3]
