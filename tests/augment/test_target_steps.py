"""One step of what is learned from a target, and one draw of its views, by their definitions."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from helpers import H36M, generator, people, poses_of
from poseaug_plugin.augment.target import PERCENTILE, ROWS, Target
from poseaug_plugin.batches.format import BatchFormat
from poseaug_plugin.geometry.bones import Bones
from poseaug_plugin.geometry.camera import project
from poseaug_plugin.geometry.pose_batch import PoseBatch
from poseaug_plugin.geometry.skeleton import SKELETONS

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
    gain = 0.4 / (1 + batches / 10)
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
    pose_2d = few.pose_2d[torch.arange(100) * ROWS // 100]
    pose_2d[::2, 9] = torch.nan  # people without a head do not count
    cut = Target(pose_2d, H36M, CPU)
    for target, count in ((few, 100), (many, ROWS), (cut, 50)):
        wanted = target._views.std(0, correction=0) * count ** (-1 / 7)
        assert torch.allclose(target._jitter, wanted)
    target = few
    target.add(clips(), torch.ones(40, dtype=torch.bool))
    drawn = target.draw_views(LENS.repeat(4000, 1), generator())
    assert drawn is not None
    spread = (target._views[:, :2].var(0, correction=0) + target._jitter[:2].square()).sqrt()
    assert torch.allclose(drawn[0].std(0), spread, rtol=0.05)


@pytest.mark.parametrize(("shown", "enough"), [(90, False), (120, True)])
def test_what_fewer_than_a_twentieth_of_the_poses_show_is_not_used(
    shown: int, enough: bool
) -> None:
    """Bones, places of joints, and, of people who are visible as a whole, views."""
    pose_2d = project(people(ROWS, seed=5)[:, 0], LENS)
    pose_2d[shown:, 9] = torch.nan  # the head
    target = Target(pose_2d, H36M, CPU)
    places = [place.joints for place in target.measures.places]
    assert bool(target.known[H36M.mirror_group[8]]) is enough
    assert bool(target.known_shift[places.index((9,))]) is enough
    assert int(target.known.sum()) == 8 + enough
    assert int(target.known_shift.sum()) == 5 + enough
    assert target.draw_views(LENS.repeat(4, 1), generator()) is None  # before the first batch
    target.add(clips(), torch.ones(40, dtype=torch.bool))
    assert (target.draw_views(LENS.repeat(4, 1), generator()) is not None) is enough


def test_bones_that_are_not_used_do_not_change_the_sizes_of_people() -> None:
    pose_2d = project(people(ROWS, seed=5)[:, 0], LENS)
    pose_2d[:, 9] = torch.nan  # the head
    without = Target(pose_2d, H36M, CPU)
    pose_2d[:90, 9] = 3.0  # far from where it is
    assert torch.equal(Target(pose_2d, H36M, CPU).size, without.size)


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
    pose_2d[6] = pose_2d[6, 0]  # a person without a size
    target = Target(pose_2d, H36M, CPU)
    assert sorted({*range(ROWS)} - {*target.whole.tolist()}) == [0, 1, 2, 3, 6]
    assert target._views.isfinite().all()


def test_places_are_compared_by_their_medians() -> None:
    target = target_of()
    place = target.measures.measure(target.pose_2d)[1] / target.size[:, None]
    for number, median in enumerate(target.median):
        assert float((place[:, number] < median).float().mean()) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("shown", "told"), [(90, ["4.4%"]), (120, [])])
def test_too_few_poses_to_lift_are_told_with_their_share(shown: int, told: list[str]) -> None:
    pose_2d = project(people(5000, seed=5)[:, 0], LENS)
    pose_2d[shown * 5000 // ROWS :, :5] = torch.nan  # 11 joints are left
    target = Target(pose_2d, H36M, CPU)
    fmt = BatchFormat(pose_2d=0, pose_3d=1)
    found = [words for name, words in target.doubts(clips(), fmt) if name == "target_incomplete"]
    assert found == [(share, "") for share in told]
    assert "target_incomplete" not in [name for name, _ in target.doubts(clips())]


def test_bones_that_are_never_seen_are_no_reason_to_doubt_the_others() -> None:
    pose_2d = project(people(ROWS, seed=5)[:, 0], LENS)
    pose_2d[:, [2, 3, 5, 6]] = torch.nan  # knees and ankles, behind tables
    target = Target(pose_2d, H36M, CPU)
    assert "target_few" not in [name for name, _ in target.doubts(clips())]
    assert float(target.stats()["target_error"]) < 0.04


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


def test_hands_may_be_upside_down() -> None:
    hand = SKELETONS["hand_21"]
    pose_3d = (
        0.05 * torch.randn(ROWS, 1, 21, 3, generator=generator()) + torch.arange(21.0)[:, None] / 99
    )
    poses = poses_of(pose_3d + torch.tensor([0.0, 0.0, 1.0]), LENS)
    flipped = poses.pose_2d[:, 0] * torch.tensor([1.0, -1.0])
    found = Target(flipped, hand, CPU).doubts(poses)
    assert "target_strange" not in [name for name, _ in found]


def told() -> Target:
    """A target with known numbers, of which the thighs and the height of the hips are not known."""
    pose_2d = project(people(300, seed=5)[:, 0], LENS)
    pose_2d[::2, 12] = torch.nan  # the left wrist
    target = Target(pose_2d, H36M, CPU)
    target.log_factor, target.shift = torch.linspace(-0.2, 0.3, 9), torch.linspace(-0.1, 0.15, 6)
    target.error = torch.linspace(0.01, 0.09, 9)
    target.known[1], target.known_shift[0] = False, False
    target.fits[: ROWS // 4] = True
    return target


def test_numbers_of_the_target() -> None:
    target = told()
    known = torch.arange(9) != 1
    wanted = {
        "target_poses": 300,
        "target_visible": 1 - 0.5 / 16,
        "target_proportions": float((target.log_factor.exp() - 1).abs()[known].mean()),
        "target_error": float(target.error[known].mean()),
        "target_lifted": 0.25,
        "target_shift": float(target.shift.abs().mean()),
    }
    found = {name: float(value) for name, value in target.stats().items()}
    assert found == pytest.approx(wanted, abs=1e-3)


def test_the_table_of_the_target() -> None:
    lines = [" ".join(line.split()) for line in str(told()).splitlines()]
    assert lines[:4] == [
        "300 unlabelled 2D poses, 0 batches compared, 25% of them lifted",
        "",
        "pelvis - r_hip length x 0.82 +- 0.01",
        "r_hip - r_knee not visible",
    ]
    assert lines[10:15] == [
        "l_elbow - l_wrist length x 1.35 +- 0.09",
        "",
        "l_hip, r_hip not visible",
        "l_hip, r_hip -0.05 mean bone lengths back",
        "l_shoulder, r_shoulder +0.00 mean bone lengths up",
    ]


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
