"""`augmenter.report()`: where a model fails, by circumstance and joint."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import H36M, LAST_ROOT, STANDING, reordered
from loop_helpers import attached, batch, loader, same, seed_all, small, snapshot, step, streams
from poseaug_plugin import DataError, PoseAugmenter, PoseBatch
from poseaug_plugin import report as report_module
from poseaug_plugin.augment.pose_statistics import PoseStatistics
from poseaug_plugin.data import synthetic_hands
from poseaug_plugin.geometry.bones import Bones, bones_to_pose, upright_bones
from poseaug_plugin.geometry.operators import axis_angle_to_matrix
from poseaug_plugin.geometry.skeleton import Skeleton
from poseaug_plugin.report import QUANTITIES, Rows, error_report, measure_rows


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


def test_before_training_the_pairs_are_in_the_ranges_of_the_loader() -> None:
    """Hands are seen from half a metre, not from the metres of Human3.6M."""
    hands = synthetic_hands.make()[0][:64]
    model = nn.Sequential(nn.Flatten(), nn.Linear(42, 63), nn.Unflatten(1, (21, 3)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    augmenter = PoseAugmenter(model, optimizer, "poseaug", skeleton="hand_21")
    batches = [(hands.pose_3d, hands.pose_2d, None, hands.camera)]
    found = augmenter.report(batches).bins["distance"]
    assert max(each.high for each in found) < 2


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


# Rows, measured in the centre frame

#: Rotations about x and y, degrees, of a person who faces the camera: not at all, towards the
#: right and the left of the image, and with the head towards the camera and away from it.
TURNS = [(0, 0), (0, -90), (0, 90), (30, 0), (-30, 0)]


def standing(order: list[int] | None = None) -> PoseBatch:
    """A clip of three frames for each of `TURNS`; all of its frames differ."""
    turns = torch.deg2rad(torch.tensor(TURNS, dtype=torch.float32))
    R = axis_angle_to_matrix(torch.cat([turns, torch.zeros(len(turns), 1)], 1))
    other = axis_angle_to_matrix(torch.tensor([0.3, 1.0, 0.2]))
    bones = torch.stack([STANDING @ other.mT, STANDING, STANDING @ other])
    pose_3d = bones_to_pose(bones @ R[:, None].mT, H36M)[:, :, order or [*range(16)]]
    root = torch.tensor([[1.0, 2.0, 9.0], [0.3, -0.4, 4.0], [1.0, 2.0, 9.0]])
    root = root + torch.arange(len(R))[:, None, None] * torch.tensor([0.0, 0.0, 0.5])
    camera = torch.tensor([2.0, 2, 0, 0, 0, 0, 0, 0, 0]).repeat(len(R), 1)
    absolute = pose_3d + root[:, :, None]
    return PoseBatch(2 * absolute[..., :2] / absolute[..., 2:], pose_3d, root, camera)


class Off:
    """A format and a model whose predictions are off by (row + 1) * (3, 4, 0) cm."""

    def __init__(self, frames: slice = slice(None)) -> None:
        self.frames = frames

    def inputs(self, poses: PoseBatch, pose_2d: Tensor) -> Tensor:
        return pose_2d

    def outputs(self, predicted: Tensor, poses: PoseBatch, skeleton: Skeleton) -> Tensor:
        number = torch.arange(1, len(poses) + 1).view(-1, 1, 1, 1)
        return (poses.pose_3d + number * torch.tensor([0.03, 0.04, 0.0]))[:, self.frames]


def measured(poses: PoseBatch, skeleton: Skeleton = H36M, **changes: Any) -> Rows:
    given = dict(
        augmented=poses,
        accepted=poses.valid,
        estimator=lambda x: x,
        fmt=Off(),
        statistics=PoseStatistics(skeleton, torch.device("cpu")),
    )
    return measure_rows(poses, skeleton=skeleton, **{**given, **changes})


def test_the_view_is_that_of_the_centre_frame() -> None:
    found = measured(standing()).quantities
    assert found["yaw"].tolist() == pytest.approx([0, 90, -90, 0, 0], abs=0.1)
    # The trunk of `STANDING` leans back by 4.8 degrees: to the side if it is seen from the side.
    assert found["tilt"].tolist() == pytest.approx([-4.8, 0, 0, 25.2, -34.8], abs=0.1)
    distance = [4.0, 4.5, 5.0, 5.5, 6.0]
    assert found["distance"].tolist() == pytest.approx(distance)
    assert found["place"].tolist() == pytest.approx([2 * 0.5 / d for d in distance])


def test_shoulders_are_not_hips() -> None:
    """A skeleton whose root is the thorax has no yaw and tilt, as they are defined."""
    order = torch.tensor([8, 9, 10, 11, 12, 13, 14, 15, 7, 0, 1, 2, 3, 4, 5, 6])
    parents = [-1, 0, 0, 2, 3, 0, 5, 6, 0, 8, 9, 10, 11, 9, 13, 14]
    names = [H36M.joint_names[joint] for joint in order]
    thorax = Skeleton(parents, left=[2, 3, 4, 13, 14, 15], right=[5, 6, 7, 10, 11, 12], names=names)
    assert names[2] == "l_shoulder"
    assert not upright_bones(thorax)
    poses = standing()
    pose_3d = poses.pose_3d[:, :, order]
    moved = replace(poses, pose_3d=pose_3d - pose_3d[:, :, :1], pose_2d=poses.pose_2d[:, :, order])
    assert not {"yaw", "tilt"} & measured(moved, thorax).quantities.keys()


def test_the_root_joint_need_not_be_the_first() -> None:
    other = reordered(LAST_ROOT)
    found, wanted = measured(standing(LAST_ROOT), other), measured(standing())
    for name, values in wanted.quantities.items():
        assert torch.allclose(found.quantities[name], values, atol=1e-4), name


@pytest.mark.parametrize("frames", [slice(None), slice(1, 2)], ids=["clip", "centre frame"])
def test_errors_are_those_of_the_accepted_pairs_and_of_the_usable_originals(frames: slice) -> None:
    poses = standing()
    poses.valid[0] = False
    accepted = torch.tensor([False, True, False, True, True])
    found = measured(poses, accepted=accepted, fmt=Off(frames))
    wanted = torch.tensor([50.0, 100.0, 150.0])  # of the first, second and third accepted pair
    assert torch.allclose(found.error, wanted[:, None].expand(-1, 16), atol=1e-2)
    assert torch.allclose(found.original, torch.tensor([50.0, 100.0, 150.0, 200.0]), atol=1e-2)
    assert found.quantities["distance"].tolist() == pytest.approx([4.5, 5.5, 6.0])


def test_the_error_of_a_joint_is_its_mean_distance_over_frames() -> None:
    """Not the root of a mean square: one frame is off by 3 m, two are right."""

    class OneFrame(Off):
        def outputs(self, predicted: Tensor, poses: PoseBatch, skeleton: Skeleton) -> Tensor:
            wrong = poses.pose_3d.clone()
            wrong[:, 0, :, 2] += 3
            return wrong

    assert torch.allclose(measured(standing(), fmt=OneFrame()).error, torch.tensor(1000.0))


def test_how_rare_a_pose_is_does_not_depend_on_the_view() -> None:
    statistics = PoseStatistics(H36M, torch.device("cpu"))
    poses = standing()
    bent = poses.pose_3d + 0.1 * torch.randn(
        5, 3, 16, 3, generator=torch.Generator().manual_seed(0)
    )
    bones = Bones.of(bent[:, 1], H36M)
    statistics.add(bones.body_direction, bones.axes, poses.valid)
    pose = measured(poses, statistics=statistics).quantities["pose"]
    assert torch.allclose(pose, pose[:1].expand(5), rtol=1e-3)


def rows_of(count: int, **quantities: Tensor) -> Rows:
    error = torch.arange(count, dtype=torch.float32)[:, None].expand(-1, 16)
    return Rows(error, torch.tensor([1.0, 2.0, 6.0]), quantities)


def test_bins_have_equal_numbers_of_rows_but_those_of_the_yaw_equal_widths() -> None:
    values = torch.arange(60, dtype=torch.float32)
    yaw = values * 5.9 - 177
    report = error_report([rows_of(60, distance=values, yaw=yaw, tilt=values)], H36M)
    for name in ("distance", "tilt"):
        assert [b.rows for b in report.bins[name]] == [10] * 6
        assert [b.error for b in report.bins[name]] == pytest.approx(
            [4.5 + 10 * i for i in range(6)]
        )
    assert [(b.low, b.high) for b in report.bins["yaw"]] == [
        (low, low + 45) for low in range(-180, 180, 45)
    ]
    assert sum(b.rows for b in report.bins["yaw"]) == 60
    assert (report.error, report.original) == pytest.approx((29.5, 3.0))


def test_an_angle_at_an_edge_is_in_the_lower_bin_and_a_bin_without_rows_has_no_error() -> None:
    yaw = torch.tensor([-180.0, -135.0, 0.0, 1.0, 180.0])
    bins = error_report([rows_of(5, yaw=yaw)], H36M).bins["yaw"]
    assert [b.rows for b in bins] == [2, 0, 0, 1, 1, 0, 0, 1]
    assert [b.error for b in bins if b.rows] == [0.5, 2, 3, 4]
    assert all(math.isnan(b.error) for b in bins if not b.rows)


def test_bars_are_relative_to_the_mean_and_at_most_four_times_as_long() -> None:
    error = torch.tensor([[0.0] * 15 + [160.0]])
    lines = str(error_report([Rows(error, torch.ones(1), {})], H36M)).splitlines()
    assert [line.count("#") for line in lines if "r_wrist" in line] == [40]
    assert "#" * 10 in str(error_report([Rows(0 * error + 7, torch.ones(1), {})], H36M))
    assert "#" not in str(error_report([Rows(0 * error, torch.ones(1), {})], H36M))


def test_a_quantity_that_some_batches_lack_has_no_bins() -> None:
    values = torch.arange(60, dtype=torch.float32)
    report = error_report(
        [rows_of(60, distance=values, pose=values), rows_of(60, distance=values)], H36M
    )
    assert set(report.bins) == {"distance"}


def test_the_worst_joint_and_the_mean_are_told() -> None:
    error = torch.zeros(2, 16)
    error[0, 12], error[1, 3] = 100.0, 40.0
    report = error_report([Rows(error, torch.ones(2), {})], H36M)
    assert report.joints["l_wrist"] == 50
    listed = str(report).split("by joint")[1].split("\n")[1:]
    assert [line.split()[0] for line in listed[:2]] == ["l_wrist", "r_ankle"]
