"""Where people are in the data so far: quantiles, padding, when they are final, all ranks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from helpers import cameras, generator, people
from poseaug_plugin.augment.view_statistics import ENOUGH, ON_H36M, QUANTILES, ViewStatistics
from poseaug_plugin.geometry.pose_batch import PoseBatch

CPU = torch.device("cpu")


def batch_of(distance: Tensor, x: float = 0.0, scale: float = 1.0) -> PoseBatch:
    """People at given distances (B,), whose root is at `x` on the screen, enlarged by `scale`."""
    pose_3d = people(len(distance))
    camera = cameras(len(distance))
    root = torch.stack([x * distance / camera[:, 0], 0.1 * distance, distance], -1)[:, None]
    relative = scale * (pose_3d - pose_3d[:, :, :1])
    return PoseBatch(relative[..., :2], relative, root, camera)


def quantile(statistics: ViewStatistics, measure: str, share: float) -> float:
    names = [(q.measure, q.share) for q in QUANTILES]
    return float(statistics.quantiles[names.index((measure, share))])


def test_quantiles_are_those_of_all_rows() -> None:
    distance = 0.3 + 20 * torch.rand(1000, generator=generator()) ** 2
    statistics = ViewStatistics(CPU)
    for rows in distance.split(150):
        statistics.add(batch_of(rows, x=-0.4))
    for share in (0.05, 0.95):
        found = 10 ** quantile(statistics, "log10_distance", share)
        assert found == pytest.approx(float(distance.quantile(share)), rel=0.02)
    for share in (0.1, 0.9):
        assert quantile(statistics, "image_offset_x", share) == pytest.approx(-0.4, abs=0.02)
        assert quantile(statistics, "image_offset_y", share) == pytest.approx(0.229, abs=0.02)


def test_the_body_size_is_in_metres_and_ignores_where_people_are() -> None:
    sizes = []
    for scale, distance in ((1.0, 3.0), (1.0, 20.0), (0.1, 0.5)):
        statistics = ViewStatistics(CPU)
        poses = batch_of(torch.full((200,), distance), scale=scale)
        poses.pose_3d[:] += distance  # the root need not be in the middle of the joints
        statistics.add(poses)
        sizes.append(10 ** quantile(statistics, "log10_size", 0.5))
    assert 0.4 < sizes[0] < 0.5
    assert sizes == pytest.approx([sizes[0], sizes[0], sizes[0] / 10], rel=0.03)


def test_clips_are_measured_in_their_centre_frame_through_their_own_lens() -> None:
    """Two focal lengths; the first frame is elsewhere, and its body is another one."""
    single = batch_of(torch.full((200,), 4.0), x=0.3)
    camera = single.camera * torch.tensor([1.0, 0.5, 1, 1, 1, 1, 1, 1, 1])
    other = batch_of(torch.full((200,), 9.0), scale=0.3)
    clip = PoseBatch(
        *(
            torch.cat([getattr(p, name) for p in (other, single, other)], 1)
            for name in ("pose_2d", "pose_3d", "root")
        ),
        camera,
    )
    statistics = ViewStatistics(CPU)
    statistics.add(clip)
    size = single.pose_3d[:, 0] - single.pose_3d[:, 0].mean(1, keepdim=True)
    size = float(size.square().sum(-1).mean(1).sqrt().median())
    found = {q.measure: quantile(statistics, q.measure, q.share) for q in QUANTILES}
    assert 10 ** found["log10_distance"] == pytest.approx(4, rel=0.02)
    assert 10 ** found["log10_size"] == pytest.approx(size, rel=0.02)
    apparent = float(camera[0, 0]) * size / 4
    assert 10 ** found["log10_apparent_size"] == pytest.approx(apparent, rel=0.02)
    assert found["image_offset_x"] == pytest.approx(0.3, abs=0.02)
    assert found["image_offset_y"] == pytest.approx(0.1 * float(camera[0, 1]), abs=0.02)


def test_rows_without_a_place_are_ignored() -> None:
    """Padding, people behind the camera, and roots that could not be fitted."""
    poses = batch_of(torch.full((8,), 4.0))
    poses.root[1, 0, 2], poses.root[2, 0, 0], poses.root[3, 0, 2] = -3.0, math.nan, 0.0
    poses.valid[4] = False
    poses.pose_3d[5] = 0
    statistics = ViewStatistics(CPU)
    statistics.add(poses)
    assert float(statistics.counts[0, -1]) == 3
    assert 10 ** quantile(statistics, "log10_distance", 0.95) == pytest.approx(4, rel=0.04)
    empty = ViewStatistics(CPU)
    empty.add(batch_of(torch.full((8,), -1.0)))
    assert empty.quantiles.tolist() == pytest.approx(ON_H36M)


def test_they_are_final_after_enough_rows() -> None:
    statistics = ViewStatistics(CPU)
    few = batch_of(torch.full((1024,), 4.0))
    # Quantiles are computed each time that the number of rows has doubled.
    assert [statistics.add(few) for _ in range(5)] == [True, True, False, True, False]
    assert statistics.rows == ENOUGH == 4096
    before = statistics.counts
    assert not statistics.add(batch_of(torch.full((1024,), 9.0)))
    assert statistics.counts is before


def test_the_state_resumes() -> None:
    statistics, other = ViewStatistics(CPU), ViewStatistics(CPU)
    statistics.add(batch_of(torch.linspace(2, 6, 100)))
    state = statistics.state_dict()
    other.load_state_dict(state, CPU)
    for each in (statistics, other):
        each.add(batch_of(torch.linspace(3, 9, 100)))
    assert other.state_dict()["rows"] == 200
    assert torch.equal(other.counts, statistics.counts)
    assert torch.equal(other.quantiles, statistics.quantiles)
    assert not torch.equal(state["counts"], statistics.counts)  # the state is a copy
