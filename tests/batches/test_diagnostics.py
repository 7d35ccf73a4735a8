"""Each measurement of `check` on poses of which it is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import H36M, people
from poseaug_plugin import PoseBatch
from poseaug_plugin.batches.diagnostics import Diagnostics
from poseaug_plugin.geometry.camera import project

ROWS = 8
LENS = torch.tensor([2.4, 1.6, 0.1, -0.05, 0, 0, 0, 0, 0])


def poses(rows: int = ROWS, frames: int = 1, **changes: Any) -> PoseBatch:
    """People seen through a lens with two focal lengths."""
    pose_3d, camera = people(rows, frames), LENS.repeat(rows, 1)
    made = PoseBatch(
        project(pose_3d, camera[:, None]), pose_3d - pose_3d[:, :, :1], pose_3d[:, :, 0], camera
    )
    return replace(made, **changes)


def measured(given: PoseBatch) -> Diagnostics:
    return Diagnostics.of(given, H36M)


def test_right_data_fits_with_two_focal_lengths() -> None:
    found = measured(poses())
    assert found.aspect == pytest.approx(1, abs=0.05)
    for residual in (found.residual, found.residual_placed, found.residual_scaled):
        assert residual < 0.01
    assert found.residual_behind > 0.01
    assert found.distance == pytest.approx(float(poses().root[..., 2].median()), rel=1e-3)


@pytest.mark.parametrize("factor", [0.6, 1.4])
def test_the_aspect_is_the_scale_of_y_relative_to_x(factor: float) -> None:
    right = poses()
    centre = right.pose_2d.mean(2, keepdim=True)
    scaled = centre + (right.pose_2d - centre) * torch.tensor([1.0, factor])
    found = measured(replace(right, pose_2d=scaled))
    assert found.aspect == pytest.approx(factor, rel=0.05)
    assert found.residual_scaled < found.residual / 2


def test_the_aspect_does_not_depend_on_how_far_away_people_are() -> None:
    """Half of them lie, near the camera; the others stand, far away."""
    pose_3d = people(ROWS, 1)
    root = pose_3d[:, :, :1]
    pose_3d = pose_3d - root
    pose_3d[::2] = pose_3d[::2][..., [1, 0, 2]]
    root[:, 0, 0, 2] = torch.tensor([3.0, 12.0]).repeat(ROWS // 2)
    pose_2d = project(pose_3d + root, LENS)
    found = measured(poses(pose_2d=pose_2d, pose_3d=pose_3d, root=root[:, :, 0]))
    assert found.aspect == pytest.approx(1, abs=0.05)


def test_a_mirrored_axis_has_no_aspect() -> None:
    right = poses()
    assert measured(replace(right, pose_2d=right.pose_2d * torch.tensor([1.0, -1.0]))).aspect == 1


def test_a_residual_from_the_own_place_needs_root_and_camera() -> None:
    for missing in ("has_root", "has_camera"):
        assert measured(poses(**{missing: False})).residual_placed is None
    right = poses()
    moved = replace(right, root=right.root + torch.tensor([0.5, 0.0, 0.0]))
    assert measured(moved).residual < 0.01
    assert measured(moved).residual_placed == pytest.approx(0.5 * 2.4 / 4.5, rel=0.2)


def with_centre(kind: str, rows: int = ROWS) -> PoseBatch:
    """Poses whose box, mean or root is at the same point in every row."""
    right = poses(rows)
    x = right.pose_2d
    centre = {
        "box": (x.amax(2, keepdim=True) + x.amin(2, keepdim=True)) / 2,
        "mean": x.mean(2, keepdim=True),
        "root": x[:, :, :1],
    }[kind]
    return replace(right, pose_2d=x - centre + 0.2)


@pytest.mark.parametrize("kind", ["box", "mean", "root"])
def test_people_are_centred_if_one_of_three_centres_stays(kind: str) -> None:
    assert measured(with_centre(kind)).centred
    assert not measured(with_centre(kind, rows=3)).centred  # too few to tell
    assert measured(with_centre(kind, rows=4)).centred
    assert not measured(poses()).centred


def test_a_person_who_stands_still_is_not_centred_by_that() -> None:
    given = with_centre("root")
    still = replace(given, root=given.root[:1].expand(ROWS, -1, -1))
    assert not measured(still).centred
    assert measured(replace(still, has_root=False)).centred  # the fitted root tells nothing


def test_the_same_pose_in_all_rows_is_not_centred() -> None:
    given = poses()
    same: Tensor = given.pose_2d[:1].expand(ROWS, -1, -1, -1)
    assert not measured(replace(given, pose_2d=same)).centred


def test_a_frame_is_outside_if_most_of_its_joints_are() -> None:
    given = poses(frame_height=0.5)
    pose_2d = torch.zeros(ROWS, 1, 16, 2)
    pose_2d[0, 0, :9, 0] = -1.01
    pose_2d[1, 0, :8, 0] = 1.01  # half of them
    pose_2d[2, 0, :, 1] = 0.51
    pose_2d[3, 0, :, 1] = -0.49
    assert measured(replace(given, pose_2d=pose_2d)).outside == 2 / ROWS


def test_2d_is_positive_if_no_coordinate_is_below_zero() -> None:
    pose_2d = torch.rand(ROWS, 1, 16, 2, generator=torch.Generator().manual_seed(0))
    pose_2d[0, 0, 0] = 0
    assert measured(poses(pose_2d=pose_2d)).positive
    pose_2d[0, 0, 0, 1] = -1e-3
    assert not measured(poses(pose_2d=pose_2d)).positive


def test_sizes_and_steps_of_clips() -> None:
    frames, size = 5, torch.tensor([1.0, 1.1, 1.3, 1.1, 1.0])
    root = torch.arange(frames).view(1, -1, 1) * torch.tensor([0.03, 0.0, 0.04])
    given = poses(frames=frames)
    pose_3d = given.pose_3d[:, :1] * size.view(1, -1, 1, 1)
    absolute = pose_3d + (given.root[:, :1] + root)[:, :, None]
    given = replace(
        given,
        pose_3d=pose_3d,
        root=absolute[:, :, 0],
        pose_2d=project(absolute, given.camera[:, None]),
    )
    found = measured(given)
    assert found.length_spread == pytest.approx(0.3 / 1.1, rel=1e-3)
    assert found.root_step == pytest.approx(0.05, rel=0.02)
    assert measured(poses()).root_step == 0
    assert measured(poses()).length_spread == 0
    large = replace(given, pose_3d=3 * pose_3d)
    assert measured(large).length_spread == pytest.approx(0.3 / 1.1, rel=1e-3)


def test_medians_ignore_a_few_rows() -> None:
    given = poses()
    given.pose_2d[0], given.camera[0, :2], given.camera[1, :2] = 900.0, 1000.0, 0.3
    found = measured(given)
    assert found.size_2d < 1
    assert found.focal in (pytest.approx(1.6), pytest.approx(2.4))
