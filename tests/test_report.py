"""`augmenter.report()`: where a model fails, by circumstance and joint."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from loop_helpers import attached, batch, loader, same, seed_all, small, snapshot, step, streams
from poseaug_plugin import DataError, PoseAugmenter, PoseBatch
from poseaug_plugin import report as report_module
from poseaug_plugin.report import QUANTITIES


class FarWrist(nn.Module):
    """Predicts the left wrist 5 m away, and all other joints at the root."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, pose_2d: torch.Tensor) -> torch.Tensor:
        pose = torch.zeros(len(pose_2d), 16, 3)
        pose[:, 12, 0] = 5.0
        return self.scale * pose


def test_it_groups_the_errors_and_names_the_joints() -> None:
    augmenter, model, optimizer = attached(small("default"))
    for i in range(3):
        step(model, optimizer, augmenter(batch(rows=64, seed=i)))
    report = augmenter.report(loader(rows=256, size=64), batches=4)
    assert set(report.bins) == set(QUANTITIES)
    assert 100 < report.rows <= 256
    for name, bins in report.bins.items():
        assert sum(b.rows for b in bins) == report.rows, name
        mean = sum(b.rows * b.error for b in bins if b.rows) / report.rows
        assert mean == pytest.approx(report.error, rel=1e-4)
        assert all(a.high == b.low for a, b in itertools.pairwise(bins))
    assert sum(report.joints.values()) / 16 == pytest.approx(report.error, rel=1e-4)
    assert report.joints["pelvis"] == pytest.approx(0.0, abs=1e-3)
    assert "by yaw" in str(report)
    assert "by joint" in str(report)


def test_it_finds_the_joint_that_is_wrong() -> None:
    model = FarWrist()
    optimizer = torch.optim.Adam(model.parameters())
    augmenter = PoseAugmenter(model, optimizer, "poseaug")
    report = augmenter.report(loader(rows=64, size=32))
    assert max(report.joints, key=lambda name: report.joints[name]) == "l_wrist"


def test_it_finds_the_view_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model fails on people who are seen from behind: the right hip is right in the image."""

    def errors(poses: PoseBatch, *_: Any) -> torch.Tensor:
        behind = poses.pose_2d[:, 0, 1, 0] > poses.pose_2d[:, 0, 4, 0]
        return 100.0 * behind[:, None].expand(-1, 16)

    monkeypatch.setattr(report_module, "_errors", errors)
    augmenter, _, _ = attached(small("random", tilt=(0.0, 0.0), roll=0.0, image_offset=0.0))
    report = augmenter.report(loader(rows=256, size=64))
    facing = [b.error for b in report.bins["yaw"] if b.rows and b.low >= -45 and b.high <= 45]
    behind = [b.error for b in report.bins["yaw"] if b.rows and (b.high <= -135 or b.low >= 135)]
    assert max(facing) < 10
    assert min(behind) > 90


def test_nothing_changes() -> None:
    augmenter, model, optimizer = attached(small("residual"), norm=True)
    shuffled = loader(rows=32, shuffle=True)
    step(model, optimizer, augmenter(batch()))
    seed_all()
    before = snapshot(model, optimizer, augmenter), streams()
    augmenter.report(augmenter.wrap(shuffled))
    assert same(snapshot(model, optimizer, augmenter), before[0])
    assert streams() == before[1]
    assert model.training
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_without_a_pair_in_frame_an_error_says_so() -> None:
    augmenter, _, _ = attached(small("random", distance=(900.0, 900.0), depth=100.0))
    report = augmenter.report(loader())
    assert math.isfinite(report.error)
    augmenter, _, _ = attached(small("random", distance=(2.0, 2.0), depth=90.0))
    with pytest.raises(DataError, match="no augmented pair"):
        augmenter.report(loader())


def test_the_picture_has_a_panel_for_each_quantity(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from poseaug_plugin.plots import plot_report

    augmenter, _, _ = attached(small("random"))
    figure = plot_report(augmenter.report(loader(rows=64)), tmp_path / "report.png")
    titles = {axis.get_title() for axis in figure.axes}
    assert {"by yaw", "by tilt", "by distance", "by place", "by joint"} <= titles
    assert (tmp_path / "report.png").stat().st_size > 10_000


def test_a_saved_report_is_read_back(tmp_path: Path) -> None:
    augmenter, *_ = attached(small("default"))
    report = augmenter.report(loader(rows=64, size=32))
    report.save(tmp_path / "run" / "report.json")
    again = report_module.ErrorReport.load(tmp_path / "run" / "report.json")
    assert str(again) == str(report)
    assert again.joints == report.joints
    for text in ("{}", "[]", "text", '{"bins": {"yaw": [{}]}}'):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(ValueError, match=r"x\.json was not written by ErrorReport\.save"):
            report_module.ErrorReport.load(tmp_path / "x.json")
