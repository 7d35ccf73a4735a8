"""What is learned from unlabelled 2D: proportions (known here), places and sizes."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from torch import Tensor

from helpers import H36M, PRESETS
from poseaug_plugin import ConfigError, Skeleton
from poseaug_plugin.augment.ranges import Ranges
from poseaug_plugin.augment.sampler import Sampler
from poseaug_plugin.augment.target import Target
from poseaug_plugin.config import PoseAugConfig
from poseaug_plugin.data import Pairs, synthetic
from poseaug_plugin.geometry.bones import Bones, bones_to_pose, lengths
from poseaug_plugin.geometry.camera import project
from poseaug_plugin.geometry.operators import shift, stretch
from poseaug_plugin.geometry.pose_batch import PoseBatch
from poseaug_plugin.geometry.skeleton import SKELETONS

CPU = torch.device("cpu")
ROOT, LEGS = 0, [2, 3, 5, 6]
#: Another data set's proportions: wide hips, long heads, short thighs and forearms.
FACTOR = torch.tensor([1.3, 0.9, 1.0, 0.9, 1.1, 1.3, 0.9, 1.0, 0.85])


@lru_cache
def training() -> Pairs:
    return synthetic.make()[0]


def batch_of(pairs: Pairs) -> PoseBatch:
    root = pairs.pose_3d[:, None, ROOT]
    return PoseBatch(
        pairs.pose_2d[:, None], pairs.root_relative[:, None], root, pairs.camera.clone()
    )


#: Offsets of its trunk joints, metres: hips 5 cm lower, spine 4 cm and shoulders 3 cm further back.
OFFSET = torch.zeros(16, 3)
OFFSET[[1, 4], 1], OFFSET[7, 2], OFFSET[[10, 13], 2] = -0.05, 0.04, 0.03


@lru_cache
def deployment(rows: int = 1500) -> Tensor:
    """2D of the test people of the same motion, on other proportions, (rows, 16, 2)."""
    people = synthetic.make()[1]
    chosen = people[torch.linspace(0, len(people) - 1, rows).long()]
    changed = stretch(chosen.pose_3d, (FACTOR - 1).expand(rows, -1), H36M)
    return project(changed, chosen.camera)


@lru_cache
def other_definition() -> Tensor:
    """The same people with joints at other points of the body, (1500, 16, 2)."""
    people = synthetic.make()[1]
    chosen = people[torch.linspace(0, len(people) - 1, 1500).long()]
    return project(shift(chosen.pose_3d, OFFSET, H36M), chosen.camera)


def sampler_with(pose_2d: Tensor, batches: int = 60, rows: int = 256, **changes: object) -> Sampler:
    """A sampler after some batches with that target."""
    options = {"joint_offset": 0.0, "image_offset": 0.0, **changes}
    target = Target(pose_2d, H36M, CPU)
    sampler = Sampler(H36M, PoseAugConfig.default(**options), CPU, target)
    generator = torch.Generator().manual_seed(0)
    for _ in range(batches):
        chosen = training()[torch.randint(len(training()), (rows,), generator=generator)]
        sampler.pairs(batch_of(chosen), torch.arange(rows))
    return sampler


def learned_factor(sampler: Sampler) -> Tensor:
    """The factors (G,) that were learned, for an average person, with the size of `FACTOR`."""
    bones = Bones.of(training().pose_3d[::50], H36M)
    factor = 1 + sampler.target.gamma_bl(bones).mean(0)
    group = list(H36M.mirror_group)
    mean = bones.length.mean(0)
    return factor * (mean * FACTOR[group]).sum() / (mean * factor[group]).sum()


def off(factor: Tensor) -> float:
    return float((factor / FACTOR - 1).abs().mean())


def augmented(sampler: Sampler) -> Tensor:
    """2D (B, J, 2) of accepted pairs."""
    pairs, accepted, _ = sampler.sample(batch_of(training()[::20]))
    return pairs.pose_2d[accepted, 0]


def sizes(pose_2d: Tensor) -> Tensor:
    return lengths(pose_2d[:, H36M.child] - pose_2d[:, H36M.parent]).mean(1)


def test_proportions_are_learned_and_total_length_is_kept() -> None:
    sampler = sampler_with(deployment())
    assert off(torch.ones(9)) > 0.1
    assert off(learned_factor(sampler)) < 0.035
    bones = Bones.of(training().pose_3d[:100], H36M)
    stretched = bones.stretch(sampler.target.gamma_bl(bones)).length
    torch.testing.assert_close(stretched.sum(1), bones.length.sum(1))


def test_joints_are_moved_to_where_the_target_has_them() -> None:
    target = sampler_with(other_definition(), batches=100).target
    mean = float(Bones.of(training().pose_3d, H36M).length.mean())
    found = mean * target.measures.offset(target.shift)
    for joint, axis in ((1, 1), (7, 2), (10, 2)):  # hips, spine and shoulders
        assert float(found[joint, axis]) == pytest.approx(float(OFFSET[joint, axis]), abs=0.015)
    assert float((found - OFFSET).abs().max()) < 0.025
    assert float((found - OFFSET).abs().mean()) < 0.3 * float(OFFSET.abs().mean())


def test_joints_are_not_moved_at_random_where_a_target_tells_where_they_are() -> None:
    for given, moved in ((None, 0.0), (0.02, 0.02)):
        sampler = sampler_with(other_definition(), batches=4, joint_offset=given)
        assert float(sampler.ranges.joint_offset) == pytest.approx(moved)
        poses = batch_of(training()[:64])
        _, _, augmentation = sampler.sample(poses)
        of_target = sampler.target.offset(Bones.of(poses.pose_3d[:, 0], H36M))
        at_random = augmentation.offset - of_target
        assert float(at_random[:, 1:].std()) == pytest.approx(moved, rel=0.2, abs=1e-3)


def test_without_hips_no_target_tells_where_joints_are() -> None:
    config, hand = PoseAugConfig.default(), SKELETONS["hand_21"]
    ranges = Ranges.of(config, hand, CPU)
    assert ranges.with_target(config, hand).joint_offset == ranges.joint_offset > 0


def test_the_same_proportions_stay() -> None:
    people = synthetic.make()[1]
    sampler = sampler_with(people.pose_2d)
    assert float(sampler.target.log_factor.exp().sub(1).abs().mean()) < 0.03


def test_people_stand_where_the_target_stands_and_appear_as_large() -> None:
    """A crowd in the upper left corner, half as large as in training."""
    crowd = 0.5 * (deployment() - deployment()[:, :1]) + torch.tensor([-0.4, -0.3])
    crowd = crowd + 0.1 * torch.randn(len(crowd), 1, 2, generator=torch.Generator().manual_seed(1))
    made = augmented(sampler_with(crowd))
    for wanted, found in zip(crowd[:, ROOT].T, made[:, ROOT].T):
        assert float(found.mean()) == pytest.approx(float(wanted.mean()), abs=0.03)
        assert float(found.std()) == pytest.approx(float(wanted.std()), rel=0.2)
    wanted, found = sizes(crowd).log(), sizes(made).log()
    assert float(found.mean()) == pytest.approx(float(wanted.mean()), abs=0.1)
    assert float(found.std()) == pytest.approx(float(wanted.std()), rel=0.25)


def test_missing_joints_do_not_change_what_is_learned() -> None:
    generator = torch.Generator().manual_seed(2)
    missing = torch.rand(len(deployment()), 16, 1, generator=generator) < 0.3
    holes = torch.where(missing, torch.nan, deployment())
    assert off(learned_factor(sampler_with(holes))) < 0.045


def test_detection_errors_of_a_few_pixels_hardly_change_it() -> None:
    generator = torch.Generator().manual_seed(3)
    noise = 0.008 * torch.randn(len(deployment()), 16, 2, generator=generator)  # 4 of 1000 pixels
    assert off(learned_factor(sampler_with(deployment() + noise))) < 0.06


def test_half_bodies_tell_proportions_of_what_is_visible_only() -> None:
    half = deployment().clone()
    half[:, LEGS] = torch.nan
    sampler = sampler_with(half)
    target = sampler.target
    assert target.known.tolist() == [True, False, False, *[True] * 6]
    assert target.log_factor[[1, 2]].tolist() == [0, 0]
    ratio = learned_factor(sampler)[[0, 3, 4, 5, 6, 7, 8]] / FACTOR[[0, 3, 4, 5, 6, 7, 8]]
    assert float((ratio / ratio.mean() - 1).abs().mean()) < 0.04
    # Where these people stand is no place for a whole body, so the prior draws the views.
    assert target.draw_views(training().camera[:4], sampler.generator) is None


def test_one_person_before_one_camera() -> None:
    people = synthetic.make()[1]
    one = (people.subject == "S9") & (people.camera == people.camera[0]).all(1).numpy()
    chosen = people[torch.from_numpy(one)]
    pose_3d = stretch(chosen.pose_3d, (FACTOR - 1).expand(len(chosen), -1), H36M)
    sampler = sampler_with(project(pose_3d, chosen.camera))
    assert off(learned_factor(sampler)) < 0.06


def test_what_nobody_looks_like_stays_within_limits() -> None:
    noise = 0.3 * torch.randn(500, 16, 2, generator=torch.Generator().manual_seed(4))
    target = sampler_with(noise, batches=80).target
    assert target.log_factor.abs().max() <= 0.7
    assert target.shift.abs().max() <= 0.6
    made = augmented(sampler_with(noise, batches=40))
    assert made.isfinite().all()


def test_the_standard_error_shrinks_with_the_number_of_poses() -> None:
    errors = [
        float(Target(deployment()[:: len(deployment()) // rows], H36M, CPU).error.mean())
        for rows in (30, 300)
    ]
    assert errors[0] > 1.5 * errors[1] > 0


def test_the_standard_error_of_bones_that_only_some_clips_show() -> None:
    poses = deployment().clone()
    poses[: len(poses) // 2, 1:7] = torch.nan  # behind a table
    assert float(Target(poses, H36M, CPU).error.max()) < 0.04
    poses[: int(0.93 * len(poses)), 1:7] = torch.nan  # one block is left
    assert Target(poses, H36M, CPU).error.isinf().any()


def test_a_target_without_a_bone_to_compare_has_finite_measures() -> None:
    poses = torch.full_like(deployment(), torch.nan)
    poses[::40, :2] = deployment()[::40, :2]
    target = Target(poses, H36M, CPU)
    assert not target.known.any()
    assert target.stats()["target_proportions"] == 0
    assert doubts(poses) == ["target_few"]


def test_rejected_pairs_are_not_compared() -> None:
    target = Target(deployment(), H36M, CPU)
    poses = batch_of(training()[:64])
    none = torch.zeros(64, dtype=torch.bool)
    wild = replace(poses, pose_2d=poses.pose_2d * 1e30, root=-poses.root)
    target.add(wild, none)
    assert target.log_factor.tolist() == [0] * 9
    assert target.reach.isfinite().all()
    target.add(poses, ~none)
    assert target.log_factor.any()


def test_a_first_batch_without_an_accepted_pair_leaves_no_trace() -> None:
    poses, every = batch_of(training()[:64]), torch.ones(64, dtype=torch.bool)
    first, late = (Target(deployment(), H36M, CPU) for _ in range(2))
    late.add(poses, ~every)
    for target in (first, late):
        target.add(poses, every)
    assert torch.equal(first.reach, late.reach)
    assert torch.equal(first.log_factor, late.log_factor)


def doubts(pose_2d: Tensor) -> list[str]:
    poses = batch_of(training()[::40])
    return [name for name, _ in Target(pose_2d, H36M, CPU).doubts(poses)]


def test_doubts() -> None:
    assert doubts(deployment()) == []
    assert doubts(deployment()[:5]) == ["target_few"]
    assert doubts(deployment() * torch.tensor([1.0, -1.0])) == ["target_strange"]
    assert doubts(deployment().roll(5, 1)) == ["target_strange"]  # joints in another order
    assert doubts(training().pose_2d[7::31]) == ["target_same"]
    assert doubts((deployment() + 1) / 2) == ["target_positive"]
    training_2d = batch_of(training()[::40])
    positive = replace(training_2d, pose_2d=(training_2d.pose_2d + 1) / 2)  # as the target
    assert Target((deployment() + 1) / 2, H36M, CPU).doubts(positive) == []


def test_normalised_poses_have_their_root_at_0_and_mean_bones_of_1() -> None:
    cut = deployment().clone()
    cut[::2, 9] = torch.nan  # without the head
    cut[1::4, 11] = torch.nan  # an inner joint, here an elbow, is put at the root
    target = Target(cut, H36M, CPU)
    hidden = ~target.visible[target.whole]
    assert hidden.any(0).nonzero().tolist() == [[11]]
    assert not target.normalised[hidden].any()
    assert target.normalised.shape == (1024, 16, 2)
    assert not target.normalised[:, ROOT].any()
    torch.testing.assert_close(
        sizes(target.normalised[~hidden.any(1)]).mean(), torch.tensor(1.0), atol=0.02, rtol=0
    )


def test_other_poses_are_normalised_likewise_each_by_its_own_size() -> None:
    target = Target(deployment(), H36M, CPU)
    factor = torch.linspace(0.5, 2.0, len(target.pose_2d))[:, None, None]
    found = target.normalise(factor * target.pose_2d + 0.3)
    torch.testing.assert_close(found, target.normalised, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", PRESETS)
def test_every_skeleton(name: str) -> None:
    skeleton = SKELETONS[name]
    bones = torch.randn(64, 1, skeleton.num_bones, 3, generator=torch.Generator().manual_seed(0))
    pose_3d = bones_to_pose(0.15 * bones, skeleton)
    root, camera = torch.tensor([0.0, 0, 4]), training().camera[:64].clone()
    pose_2d = project(pose_3d + root, camera[:, None])
    poses = PoseBatch(pose_2d, pose_3d, root.expand(64, 1, 3), camera)
    sampler = Sampler(skeleton, PoseAugConfig(), CPU, Target(poses.pose_2d[:, 0], skeleton, CPU))
    for _ in range(3):
        made, accepted = sampler.pairs(poses, torch.arange(64))
    assert accepted.any()
    assert made.pose_2d[accepted].isfinite().all()
    assert all(torch.as_tensor(x).isfinite() for x in sampler.target.stats().values())
    assert str(sampler.target).count("length x") == skeleton.num_groups


def test_a_table_for_the_user() -> None:
    text = str(sampler_with(deployment(), batches=3).target)
    assert "1500 unlabelled 2D poses, 3 batches compared" in text
    assert "thorax - head" in text
    assert text.count("length x") == 9
    assert text.count("mean bone lengths") == 6


def test_state() -> None:
    sampler = sampler_with(deployment(40), batches=4)
    restored = Target.restored(sampler.target.state_dict(), H36M, CPU)
    assert vars(restored).keys() == vars(sampler.target).keys()
    for name, value in vars(sampler.target).items():
        same = getattr(restored, name)
        assert torch.equal(value, same) if isinstance(value, Tensor) else value == same, name


def heights(pose_3d: Tensor) -> Tensor:
    """From ankles to head along the bones of 16 joints, metres."""
    length = lengths(pose_3d[:, H36M.child] - pose_3d[:, H36M.parent])
    legs = (length[:, [1, 2]] + length[:, [4, 5]]).sum(1) / 2
    return legs + length[:, [6, 7, 8]].sum(1)


@pytest.mark.parametrize("target", [None, "deployment"])
def test_body_height_is_drawn_from_its_range(target: str | None) -> None:
    config = PoseAugConfig.default(body_height=(1.2, 1.4), joint_offset=0.0)
    found = Target(deployment(), H36M, CPU) if target else None
    sampler = Sampler(H36M, config, CPU, found)
    poses = batch_of(training()[::40])
    made, _, augmentation = sampler.sample(poses)
    height = heights(made.pose_3d[:, 0])
    assert float(height.min()) == pytest.approx(1.2, abs=0.01)
    assert float(height.max()) == pytest.approx(1.4, abs=0.01)
    assert float(height.mean()) == pytest.approx(1.3, abs=0.01)
    again = augmentation.apply(poses.pose_3d, H36M)
    torch.testing.assert_close(again, made.absolute, atol=1e-5, rtol=0)


def test_body_height_needs_a_body() -> None:
    config = PoseAugConfig.default(body_height=(0.1, 0.2))
    with pytest.raises(ConfigError, match=r"body_height=\(0.1, 0.2\) needs a skeleton with hips"):
        Sampler(Skeleton.of("hand_21"), config, CPU)
