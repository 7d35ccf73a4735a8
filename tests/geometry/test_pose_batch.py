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
    assert poses.detection_error(poses).abs().max() < 1e-6


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
