"""`joint_dropout`: joints of augmented rows are hidden, with their confidence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import generator, people
from loop_helpers import attached, changed_rows, small
from poseaug_plugin import Camera, ConfigError, PoseBatch
from poseaug_plugin.augment.occlusion import hide_joints
from poseaug_plugin.geometry.camera import project

ROWS = 2000
WHERE = dict(pose_2d=0, pose_3d=1, root="absolute")


def batch(rows: int, frames: int = 1) -> tuple[Tensor, Tensor]:
    """2D with a confidence of 0.25 to 1, and absolute 3D."""
    pose_3d = people(rows, frames)
    confidence = torch.linspace(0.25, 1, rows)[:, None, None, None].expand(-1, frames, 16, 1)
    return torch.cat([project(pose_3d, Camera().intrinsics), confidence], -1), pose_3d


def poses(rows: int, frames: int = 1) -> PoseBatch:
    pose_2d, pose_3d = batch(rows, frames)
    root = pose_3d[:, :, 0]
    camera = Camera().intrinsics.repeat(rows, 1)
    return PoseBatch(
        pose_2d[..., :2], pose_3d - root[:, :, None], root, camera, extra_2d=pose_2d[..., 2:]
    )


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_the_share_of_joints_is_hidden_alone_or_beyond_a_line(share: float) -> None:
    given = poses(ROWS)
    rows = torch.arange(1, ROWS)
    made = hide_joints(given, rows, share, generator())
    assert made.extra_2d is not None
    hidden = made.extra_2d[:, 0, :, 0] == 0
    assert not hidden[0].any()
    assert float(hidden.float().mean()) == pytest.approx(share, abs=0.02)
    assert torch.equal(hidden, (made.pose_2d[:, 0] == 0).all(-1))
    shown = ~hidden[:, None, :, None]
    assert torch.equal(made.pose_2d * shown, given.pose_2d * shown)
    assert torch.equal(made.pose_3d, given.pose_3d)
    # Many rows lose both feet and keep the head, or the other way round: half bodies.
    legs, head = hidden[:, [2, 3, 5, 6]].all(1), hidden[:, [8, 9]].all(1)
    if share >= 0.3:
        assert float((legs & ~hidden[:, 9]).float().mean()) > 0.03
        assert float((head & ~hidden[:, [3, 6]].any(1)).float().mean()) > 0.02


def test_lines_hide_every_side() -> None:
    given = poses(ROWS)
    given = replace(given, pose_2d=torch.randn(ROWS, 1, 16, 2, generator=generator(1)))
    made = hide_joints(given, torch.arange(ROWS), 0.5, generator())
    hidden = (made.pose_2d == 0).all(-1, keepdim=True)
    side = (given.pose_2d * hidden).sum((1, 2)) - (given.pose_2d * ~hidden).sum((1, 2))
    quarter = 2 * (side[:, 0] > 0) + (side[:, 1] > 0)
    assert (quarter.bincount(minlength=4) / ROWS).tolist() == pytest.approx([0.25] * 4, abs=0.04)


def test_a_clip_loses_the_same_joints_in_every_frame() -> None:
    made = hide_joints(poses(64, 5), torch.arange(64), 0.4, generator())
    assert made.extra_2d is not None
    hidden = made.extra_2d[..., 0] == 0
    assert hidden.any()
    assert torch.equal(hidden, hidden[:, :1].expand_as(hidden))


def test_what_a_line_hides_is_judged_in_the_centre_frame() -> None:
    """Wherever the joints are in the other frames."""
    clip = poses(200, 3)
    clip.pose_2d[:, 0] = clip.pose_2d[:, 0].flip(1)
    clip.pose_2d[:, 2] += torch.randn(200, 16, 2, generator=generator(1))
    frame = PoseBatch(
        *(x[:, 1:2] for x in (clip.pose_2d, clip.pose_3d, clip.root)),
        clip.camera,
        extra_2d=None if clip.extra_2d is None else clip.extra_2d[:, 1:2],
    )
    rows = torch.arange(200)
    of_clip, of_frame = (hide_joints(x, rows, 0.4, generator()) for x in (clip, frame))
    assert torch.equal(of_clip.pose_2d[:, 1], of_frame.pose_2d[:, 0])


@pytest.mark.parametrize("mix", ["replace", "append"])
def test_only_augmented_rows_lose_joints(mix: str) -> None:
    given = batch(64)
    config = small("random", mix=mix, ratio=0.5, joint_dropout=0.3)
    augmenter, _, _ = attached(config, WHERE)
    made = augmenter(given)
    if mix == "append":
        assert torch.equal(made[0][::2], given[0])
        made = tuple(field[1::2] for field in made)
    changed = changed_rows(made[1], given[1])
    assert len(changed) >= 20
    assert changed_rows(made[0], given[0]) == changed
    hidden = made[0][..., 2] == 0
    assert set(hidden.flatten(1).any(1).nonzero()[:, 0].tolist()) <= set(changed)
    assert hidden.any()
    assert made[0][hidden].abs().max() == 0
    assert torch.equal(made[0][~hidden][:, 2], given[0][~hidden][:, 2])  # confidences are kept


def test_joints_that_the_2d_lacks_are_no_problem() -> None:
    pose_2d, pose_3d = batch(32)
    joints = (3, 2, 1, *range(4, 16))
    fmt: Any = {**WHERE, "joints_2d": joints, "skeleton": "h36m_16"}
    augmenter, _, _ = attached(small("random", ratio=1.0, joint_dropout=0.3), fmt)
    made = augmenter((pose_2d[:, :, list(joints)], pose_3d))[0]
    hidden = made[..., 2] == 0
    assert 0.15 < float(hidden.float().mean()) < 0.45
    assert made[hidden].abs().max() == 0
    assert (made[~hidden][:, :2] != 0).all()


def test_off_it_draws_nothing() -> None:
    results = [
        attached(small("random", ratio=1.0, joint_dropout=share), WHERE)[0](batch(16))[1]
        for share in (0.0, 0.5)
    ]
    assert torch.equal(*results)  # poses are drawn first


def test_without_a_confidence_it_is_refused() -> None:
    pose_2d, pose_3d = batch(8)
    augmenter, _, _ = attached(small("random", joint_dropout=0.2), WHERE)
    with pytest.raises(ConfigError, match=r"joint_dropout=0.2 needs a confidence.*Yield 2D with"):
        augmenter((pose_2d[..., :2], pose_3d))
