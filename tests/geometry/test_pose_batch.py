"""`PoseBatch`: construction, indexing and checks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import cameras, people
from poseaug_plugin import BatchError, PoseBatch
from poseaug_plugin.geometry.camera import project

ROWS, FRAMES = 6, 3


def arrays() -> dict[str, Tensor]:
    pose_3d, camera = people(ROWS, FRAMES), cameras(ROWS)
    return {
        "pose_2d": project(pose_3d, camera[:, None]),
        "pose_3d": pose_3d - pose_3d[:, :, :1],
        "root": pose_3d[:, :, 0],
        "camera": camera,
    }


def test_four_arrays_are_enough() -> None:
    fields = arrays()
    poses = PoseBatch(*fields.values())
    poses.check(16)
    assert (len(poses), poses.middle) == (ROWS, 1)
    assert poses.valid.dtype == torch.bool
    assert poses.valid.tolist() == [True] * ROWS
    assert (poses.has_root, poses.has_camera) == (True, True)
    assert poses.extra_2d is poses.group is poses.leader is poses.source is None
    assert poses.usable() is poses
    assert torch.equal(poses.absolute, fields["pose_3d"] + fields["root"][:, :, None])
    assert poses.detection_error.abs().max() < 1e-6


def test_optional_fields_are_kept() -> None:
    valid, extra = torch.arange(ROWS) < 4, torch.rand(ROWS, FRAMES, 16, 1)
    poses = PoseBatch(**arrays(), valid=valid, extra_2d=extra, has_root=False, source="mine")
    assert poses.valid is valid
    assert poses.extra_2d is extra
    assert (poses.has_root, poses.path, poses.source) == (False, None, "mine")
    assert len(poses.usable()) == 4
    assert poses.usable().source == "mine"


@dataclass(frozen=True)
class WithBox(PoseBatch):
    """A PoseBatch with a new field."""

    box: Tensor | None = None


@pytest.mark.parametrize(
    ("change", "rows"),
    [
        (lambda p: p.pick(torch.tensor([4, 0, 4])), [4, 0, 4]),
        (lambda p: p.first(2), [0, 1]),
        (lambda p: p.first(None), list(range(ROWS))),
        (lambda p: p.repeat(2), [i for i in range(ROWS) for _ in range(2)]),
        (lambda p: p.usable(), [1, 2, 3, 4, 5]),
        (lambda p: p.to(torch.device("cpu")), list(range(ROWS))),
    ],
    ids=["pick", "first", "first of all", "repeat", "usable", "to"],
)
def test_every_tensor_is_indexed_including_new_fields(change: Any, rows: list[int]) -> None:
    per_row = torch.arange(ROWS)
    poses = WithBox(
        **arrays(),
        valid=per_row > 0,
        extra_2d=torch.rand(ROWS, FRAMES, 16, 1),
        group=per_row // 2,
        source=per_row * 10,
        box=per_row * 100,
    )
    changed = change(poses)
    changed.check(16)
    assert isinstance(changed, WithBox)
    for name, old in vars(poses).items():
        if isinstance(old, Tensor):
            assert torch.equal(getattr(changed, name), old[rows]), name


def test_put_replaces_the_given_rows_only() -> None:
    poses = PoseBatch(**arrays(), source="mine")
    other = poses.projected(poses.absolute + 0.1, poses.camera, 0).pick(torch.tensor([5, 5]))
    changed = poses.put(torch.tensor([1, 3]), other)
    assert torch.equal(changed.pose_2d[[1, 3]], other.pose_2d)
    assert torch.equal(changed.root[[0, 2, 4, 5]], poses.root[[0, 2, 4, 5]])
    assert changed.source == "mine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pose_2d": torch.zeros(6, 16, 2)}, r"pose_2d .*\(6, 16, 2\).*\(B, T, J, 2\)"),
        ({"pose_3d": torch.zeros(6, 3, 17, 3)}, r"pose_3d .*\(6, 3, 17, 3\), .*\(6, 3, 16, 3\)"),
        ({"pose_3d": torch.zeros(6, 1, 16, 3)}, r"pose_3d .*\(6, 1, 16, 3\), .*\(6, 3, 16, 3\)"),
        ({"root": torch.zeros(6, 3)}, r"root .*\(6, 3\), .*\(6, 3, 3\), that is \(B, T, 3\)"),
        ({"camera": torch.zeros(1, 9)}, r"camera .*\(1, 9\), .*\(6, 9\)"),
        ({"valid": torch.ones(5, dtype=torch.bool)}, r"valid .*\(5,\), .*\(6\)"),
        ({"extra_2d": torch.zeros(6, 1, 16, 1)}, r"extra_2d .*\(6, 3, 16, E\)"),
        ({"group": torch.zeros(6, 1)}, r"group .*\(6, 1\), .*\(6\)"),
        ({"camera": [0.0] * 9}, r"camera is a list, expected a tensor"),
        ({"root": torch.zeros(6, 3, 3).double()}, r"root is a torch.float64 .*\.float\(\)"),
        ({"source": torch.zeros(16, 2)}, r"source .*\(16, 2\), expected one row .*6 clips.*tuple"),
    ],
)
def test_check_raises_with_the_name_of_the_wrong_field(change: Any, message: str) -> None:
    poses = replace(PoseBatch(**arrays()), **change)
    with pytest.raises(BatchError, match=f"PoseBatch.{message}"):
        poses.check(16)


def test_the_leader_of_a_group_is_its_first_valid_row() -> None:
    """Of a group of only padding, the first row. Its centre frame is where paths start."""
    group, valid = torch.tensor([7, 7, 7, 3, 3, 7]), torch.tensor([0, 1, 1, 0, 0, 1]).bool()
    poses = PoseBatch(**arrays(), group=group, valid=valid)
    leader = torch.tensor([1, 1, 1, 3, 3, 1])
    assert torch.equal(poses.leader, leader)
    assert torch.equal(poses.path, poses.root - poses.root[leader, 1, None])
    single = replace(poses, root=poses.root[:, :1], pose_2d=poses.pose_2d[:, :1])
    assert torch.equal(single.path, single.root - single.root[leader])


def test_paths_of_clips_start_at_the_centre_frame_and_single_frames_have_none() -> None:
    poses = PoseBatch(**arrays())
    assert torch.equal(poses.path, poses.root - poses.root[:, 1:2])
    assert poses.path.abs().max() > 0.01
    assert replace(poses, root=poses.root[:, :1], pose_2d=poses.pose_2d[:, :1]).path is None


@pytest.mark.parametrize(("frames", "middle"), [(1, 0), (2, 1), (3, 1), (4, 2), (27, 13)])
def test_the_middle_is_the_centre_frame(frames: int, middle: int) -> None:
    pose_2d = torch.zeros(2, frames, 16, 2)
    assert PoseBatch(pose_2d, pose_2d, pose_2d, pose_2d).middle == middle


def test_the_detection_error_is_scaled_to_the_size_of_the_person() -> None:
    """Twice as far away it is half as large; with a longer lens in y it is larger in y."""
    poses = PoseBatch(**arrays())
    off = torch.tensor([0.01, 0.02])
    observed = replace(poses, pose_2d=poses.pose_2d + off)
    lens = poses.camera * torch.tensor([1.0, 3.0, 1, 1, 1, 1, 1, 1, 1])
    made = replace(poses, root=2 * poses.root, camera=lens)
    scaled = made.with_error(observed.detection_error).pose_2d - made.pose_2d
    assert torch.allclose(scaled, (off * torch.tensor([0.5, 1.5])).expand_as(scaled), atol=1e-5)
    metres = off * poses.root[..., None, 2:] / poses.camera[:, None, None, :2]
    assert torch.allclose(observed.detection_error, metres.expand_as(scaled), atol=1e-5)


def test_the_projected_rows_have_the_given_joint_at_their_root() -> None:
    poses = PoseBatch(**arrays())
    moved = poses.projected(poses.absolute + 0.1, 0.9 * poses.camera, root=7)
    assert torch.allclose(moved.root, poses.absolute[:, :, 7] + 0.1)
    assert not moved.pose_3d[:, :, 7].any()
    assert torch.allclose(moved.absolute, poses.absolute + 0.1, atol=1e-6)
    assert torch.allclose(moved.pose_2d, project(moved.absolute, 0.9 * poses.camera[:, None]))


@pytest.mark.parametrize("people_of_an_image", [1, 2, 3])
def test_repeated_entries_follow_directly_with_all_their_people(people_of_an_image: int) -> None:
    poses = PoseBatch(**arrays(), people=people_of_an_image, source=torch.arange(ROWS))
    rows = torch.arange(ROWS).view(-1, people_of_an_image).repeat_interleave(3, 0).flatten()
    assert torch.equal(poses.repeat(3).source, rows)


def test_a_batch_moves_to_another_device_as_a_whole() -> None:
    poses = PoseBatch(**arrays(), group=torch.arange(ROWS), source="mine")
    assert poses.to(torch.device("cpu")) is poses
    moved = poses.to(torch.device("meta"))
    tensors = [value for value in vars(moved).values() if isinstance(value, Tensor)]
    assert len(tensors) == 6
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.source == "mine"
