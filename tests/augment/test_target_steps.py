"""One step of what is learned from a target, and one draw of its views, by their definitions."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from helpers import H36M, generator, people, poses_of
from poseaug_plugin.augment.target import GAIN, GAIN_BATCHES, PERCENTILE, ROWS, Target
from poseaug_plugin.geometry.bones import Bones
from poseaug_plugin.geometry.camera import project
from poseaug_plugin.geometry.pose_batch import PoseBatch

CPU = torch.device("cpu")
LENS = torch.tensor([2.6, 1.8, 0.1, -0.2, 0, 0, 0, 0, 0])


def target_of(rows: int = 300) -> Target:
    pose_2d = project(people(rows, seed=5)[:, 0], LENS)
    return Target(pose_2d * torch.tensor([1.1, 0.9]), H36M, CPU)


def clips(rows: int = 40) -> PoseBatch:
    """Clips that move, seen through a lens with two focal lengths."""
    pose_3d = people(rows, 3)
    pose_3d[:, 0] += torch.tensor([0.0, 0.0, 2.0])
    return poses_of(pose_3d, LENS)


def lengths_and_size(target: Target, poses: PoseBatch) -> tuple[Tensor, Tensor, Tensor]:
    length, place = target.measures.measure(poses.pose_2d[:, 1])
    return length, place, (length * target._weight).sum(1)


@pytest.mark.parametrize("batches", [0, 25])
def test_one_correction(batches: int) -> None:
    """Of the centre frames of accepted rows; unknown groups and places have no part in it."""
    target, poses = target_of(), clips()
    target.known[2], target.known_shift[3] = False, False
    target.batches = batches
    accepted = torch.arange(40) % 4 != 0
    length, place, size = lengths_and_size(target, poses)
    group = torch.tensor(H36M.mirror_group)
    excess = torch.zeros(9)
    for g in range(9):
        below = length[:, group == g] < size[:, None] * target.quantile[g]
        excess[g] = below[accepted].float().mean() - PERCENTILE
    known = torch.arange(9) != 2
    excess = (excess - excess[known].mean()) * known
    gain = GAIN / (1 + batches / GAIN_BATCHES)
    below = (place < size[:, None] * target.median)[accepted].float().mean(0)
    shift = gain / 2 * (below - 0.5) * (torch.arange(6) != 3)
    target.add(poses, accepted)
    assert torch.allclose(target.log_factor, gain * excess, atol=1e-6)
    assert torch.allclose(target.shift, shift, atol=1e-6)
    assert excess.abs().max() > 0.05
    assert shift.abs().max() > 0.005
    assert target.batches == batches + 1


def test_the_reach_is_a_running_mean_and_variance() -> None:
    """Of log(size * distance / focal length), the mean of the two focal lengths."""
    target, poses = target_of(), clips()
    accepted = torch.arange(40) % 2 == 0
    _, _, size = lengths_and_size(target, poses)
    reach = (size * poses.root[:, 1, 2] / 2.2).log()[accepted]
    moments = torch.stack([reach.mean(), reach.var(correction=0)])
    target.add(poses, accepted)
    assert torch.allclose(target.reach, moments, atol=1e-5)
    far = replace(poses, root=poses.root * 2)
    target.add(far, accepted)
    assert torch.allclose(target.reach, moments + torch.tensor([math.log(2) / 2, 0]), atol=1e-5)
    target.batches = 1000
    before = target.reach.clone()
    target.add(far, accepted)
    step = target.reach - before
    assert torch.allclose(
        step, 0.02 * (moments + torch.tensor([math.log(2), 0]) - before), atol=1e-5
    )


@pytest.mark.parametrize("share", [0.0, 0.75, 1.0, 4.0])
def test_views_are_those_of_the_target_through_the_camera(share: float) -> None:
    """What the variance of the reach explains of the sizes is not drawn again."""
    target = target_of()
    target.add(clips(), torch.ones(40, dtype=torch.bool))
    target._jitter = torch.zeros(3)
    variance = float(target._views[:, 2].var(correction=0))
    target.reach[1] = share * variance
    drawn = target.draw_views(LENS.repeat(500, 1), generator())
    assert drawn is not None
    offset, distance = drawn
    place = offset + LENS[2:4]
    gap, row = (place[:, None] - target._views[:, :2]).abs().amax(-1).min(1)
    assert gap.max() < 1e-5
    mean, kept = target._views[:, 2].mean(), math.sqrt(max(0.0, 1 - share))
    log_size = mean + kept * (target._views[row, 2] - mean)
    wanted = 2.2 * (target.reach[0] - log_size).exp()
    assert torch.allclose(distance, wanted, rtol=1e-3)
    assert row.unique().numel() > 100


def test_views_are_spread_by_a_density_estimate_of_as_many_poses_as_there_are() -> None:
    few, many = target_of(100), target_of(5000)
    for target, count in ((few, 100), (many, ROWS)):
        wanted = target._views.std(0, correction=0) * count ** (-1 / 7)
        assert torch.allclose(target._jitter, wanted)
    target = few
    target.add(clips(), torch.ones(40, dtype=torch.bool))
    drawn = target.draw_views(LENS.repeat(4000, 1), generator())
    assert drawn is not None
    spread = (target._views[:, :2].var(0, correction=0) + target._jitter[:2].square()).sqrt()
    assert torch.allclose(drawn[0].std(0), spread, rtol=0.05)


def test_poses_are_thinned_out_evenly_or_repeated() -> None:
    for rows in (100, 5000):
        pose_2d = torch.arange(rows, dtype=torch.float32).view(-1, 1, 1).expand(-1, 16, 2)
        target = Target(pose_2d + torch.rand(rows, 16, 2, generator=generator()), H36M, CPU)
        number = target.pose_2d[:, 0, 0].floor()
        assert torch.equal(number, torch.arange(ROWS) * rows // ROWS)
        assert target.count == rows


def test_a_pose_is_whole_if_its_root_and_the_ends_of_its_limbs_are_visible() -> None:
    pose_2d = project(people(ROWS, seed=5)[:, 0], LENS)
    for row, joint in enumerate((0, 3, 9, 12, 2, 11)):  # the last two are a knee and an elbow
        pose_2d[row, joint] = torch.nan
    target = Target(pose_2d, H36M, CPU)
    assert sorted({*range(ROWS)} - {*target.whole.tolist()}) == [0, 1, 2, 3]


def test_errors_are_those_of_ten_blocks_and_unknown_for_few_poses() -> None:
    assert target_of(19).error.isinf().all()
    target = target_of(20)
    assert target.error.isfinite().all()
    ratio = target.measures.measure(target.pose_2d)[0] / target.size[:, None]
    quantiles = torch.stack([target._quantile(block).log() for block in ratio.chunk(10)])
    assert torch.allclose(target.error, quantiles.std(0) / 10**0.5, rtol=1e-3)


def test_offsets_grow_with_the_person() -> None:
    target = target_of()
    target.shift = torch.linspace(-0.1, 0.1, 6)
    bones = Bones.of(people(3)[:, 0] * torch.tensor([1.0, 2.0, 0.5]).view(3, 1, 1), H36M)
    offset = target.offset(bones) / bones.length.mean(1)[:, None, None]
    assert torch.allclose(offset, target.measures.offset(target.shift).expand_as(offset))


def test_padding_is_not_compared_with_the_target() -> None:
    seen = project(people(200, seed=5)[:, 0], LENS)
    poses = clips(200)
    target = Target(seen, H36M, CPU)
    names = [name for name, _ in target.doubts(poses)]
    poses.pose_2d[100:] = torch.rand(100, 3, 16, 2, generator=generator())
    half = replace(poses, valid=torch.arange(200) < 100)
    assert [name for name, _ in target.doubts(half)] == names


def test_the_same_places_with_another_spread_are_not_the_same() -> None:
    """Nor the same spread at other places."""
    seen, poses = project(people(600, seed=5)[:, 0], LENS), clips(600)
    poses.pose_2d[:, 1] = project(people(600, seed=6)[:, 0], LENS)

    def same(pose_2d: Tensor) -> bool:
        return "target_same" in [name for name, _ in Target(pose_2d, H36M, CPU).doubts(poses)]

    root = seen[:, :1]
    assert same(seen)
    assert not same(seen + 0.5 * (root - root.mean(0)))
    assert not same(seen + torch.tensor([0.1, 0.0]))
