"""The steps of a sample, one by one: views, groups, acceptance, heights, and what resumes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import H36M, cameras, generator, people, poses_of
from loop_helpers import same, snapshot
from poseaug_plugin import PoseAugConfig
from poseaug_plugin.augment import sampler as sampler_module
from poseaug_plugin.augment.augmentation import Augmentation
from poseaug_plugin.augment.body_measures import BodyMeasures
from poseaug_plugin.augment.sampler import Draft, Proposal, Sampler
from poseaug_plugin.augment.target import Target
from poseaug_plugin.geometry.bones import Bones
from poseaug_plugin.geometry.operators import axis_angle_to_matrix
from poseaug_plugin.geometry.pose_batch import PoseBatch
from poseaug_plugin.geometry.skeleton import Skeleton

CPU, ROWS = torch.device("cpu"), 24
#: A prior that changes nothing but what is named.
STILL: dict[str, Any] = dict(
    **dict(yaw=0.0, tilt=(0.0, 0.0), roll=0.0, upright=False, image_offset=0.0),
    **dict(distance=(5.0, 5.0), focal=(1.0, 1.0), depth=0.5, joint_offset=0.0),
    **dict(bend=0.0, bend_sigma=0.0, stretch=0.0, body_scale=0.0, rare_pose_power=0.0),
    **dict(limb_crossover=False, swap_lengths=False),
)


def sampler_of(target: Target | None = None, **changes: Any) -> Sampler:
    return Sampler(H36M, PoseAugConfig.default(**{**STILL, **changes}), CPU, target)


def roots_2d(poses: PoseBatch) -> Tensor:
    return poses.pose_2d[:, poses.middle, H36M.root]


# Views


def test_people_stand_where_the_offset_from_the_image_centre_says() -> None:
    """With two focal lengths, a centre that is not at 0, and lenses of other lengths."""
    lens = torch.tensor([2.4, 1.7, 0.2, -0.1, 0, 0, 0, 0, 0])
    sampler = sampler_of(image_offset=0.3, distance=(4.0, 8.0), focal=(0.5, 1.0))
    made, _, aug = sampler.sample(poses_of(people(2000), lens))
    offset = roots_2d(made) - lens[2:4]
    for side in (0, 1):
        assert float(offset[:, side].max()) == pytest.approx(0.3, abs=0.005)
        assert float(offset[:, side].min()) == pytest.approx(-0.3, abs=0.005)
        assert float(offset[:, side].abs().mean()) == pytest.approx(0.15, abs=0.01)
    zoom = aug.camera[:, :2] / lens[:2]
    assert torch.allclose(zoom[:, 0], zoom[:, 1])
    assert 0.5 <= float(zoom.min()) < 0.51
    assert 0.99 < float(zoom.max()) <= 1.0001
    assert 4 <= float(made.root[..., 2].min()) < 4.02
    assert 7.98 < float(made.root[..., 2].max()) <= 8


class Networks:
    """What networks propose: turns and places that differ in each row."""

    def __init__(self, bend: Tensor | None = None) -> None:
        self.bend = bend
        self.drafts: list[Draft] = []

    def __call__(self, draft: Draft) -> Proposal:
        self.drafts.append(draft)
        rows = len(draft.bones.length)
        numbers = torch.rand(2, rows, 3, generator=generator(2))
        parameters = {} if self.bend is None else {"gamma_ba": self.bend.expand(rows, -1, -1)}
        return Proposal(parameters, numbers[0], 0.2 * numbers[1])


def test_the_learned_view_is_after_that_of_the_prior() -> None:
    poses = poses_of(people(ROWS))
    sampler = sampler_of(yaw=3.1, image_offset=0.2, learned=True)
    state = sampler.generator.get_state()
    plain = sampler.sample(poses)[2]
    sampler.generator.set_state(state)
    sampler.propose = networks = Networks()
    aug = sampler.sample(poses)[2]
    learned = networks(networks.drafts[0])
    assert learned.axis_angle is not None
    assert learned.t is not None
    assert torch.allclose(aug.R, axis_angle_to_matrix(learned.axis_angle) @ plain.R, atol=1e-6)
    assert torch.allclose(aug.t[:, 2], plain.t[:, 2] * learned.t[:, 2].exp())
    plain_2d, moved_2d = (a.t[:, :2] / a.t[:, 2:] * a.camera[:, :2] for a in (plain, aug))
    assert torch.allclose(moved_2d - plain_2d, learned.t[:, :2], atol=1e-5)
    # The networks see the body as the prior turns it, and its place.
    draft = networks.drafts[0]
    original = Bones.of(poses.pose_3d[:, 0], H36M).direction
    assert torch.allclose(draft.bones.direction, original @ plain.R.mT, atol=1e-5)
    assert draft.place is not None
    assert torch.allclose(draft.place[:, :2], plain_2d, atol=1e-5)
    assert torch.allclose(draft.place[:, 2], plain.t[:, 2].log())


def test_a_learned_bend_is_in_the_body_frame() -> None:
    """The same bend of people who face other ways is the same to each of them."""
    poses = poses_of(people(ROWS))
    sampler = sampler_of(learned=True)
    sampler.propose = Networks(0.3 * torch.randn(15, 3, generator=generator(3)))
    aug, *_ = sampler.augment(poses, Bones.of(poses.pose_3d, H36M))
    axes = Bones.of(poses.pose_3d[:, 0], H36M).axes
    assert aug.gamma_ba is not None
    in_body = aug.gamma_ba @ axes
    assert torch.allclose(in_body, in_body[:1].expand_as(in_body), atol=1e-5)


def test_joints_are_moved_along_the_axes_of_the_body_before_it_was_bent() -> None:
    bones = Bones.of(poses_of(people(4)).pose_3d, H36M)
    bent = bones.bend(0.5 * torch.randn(4, 1, 15, 3, generator=generator()))
    offset = torch.randn(4, 16, 3, generator=generator(1))
    eye = torch.eye(3).repeat(4, 1, 1)
    aug = Augmentation({"offset": offset}, eye, torch.zeros(4, 3), cameras(4))
    moved = aug.place(bent, bones) - bent.pose_3d
    assert torch.allclose(moved[:, 0], offset @ bones.axes[:, 0].mT, atol=1e-5)


def test_a_clip_gets_lengths_that_fit_its_centre_frame() -> None:
    """Those of 3D from a detector differ between frames."""
    pose_3d = people(ROWS, 3)
    pose_3d[:, 0] *= torch.linspace(0.7, 1.3, ROWS).view(-1, 1, 1)
    poses = poses_of(pose_3d)
    old = Bones.of(poses.pose_3d, H36M)
    new, _ = sampler_of(swap_lengths=True).swap_lengths(poses, old)
    swapped, own = new.length[:, 1], old.length[:, 1]
    assert torch.allclose(swapped.sort(0).values, own.sort(0).values, atol=1e-5)
    assert not torch.allclose(swapped, own, atol=1e-2)


def test_paths_are_rotated_with_the_body() -> None:
    pose_3d = people(4, 5)
    poses = poses_of(pose_3d)
    R = axis_angle_to_matrix(torch.randn(4, 3, generator=generator()))
    aug = Augmentation({}, R, torch.ones(4, 3), cameras(4))
    made = aug.apply(poses.pose_3d, H36M, poses.path)
    wanted = (pose_3d - pose_3d[:, 2, 0][:, None, None]) @ R[:, None].mT + 1
    assert torch.allclose(made, wanted, atol=1e-5)


# Groups


def scene(apart: float = 1.0, **changes: Any) -> PoseBatch:
    """Two people in each image, `apart` metres from each other."""
    pose_3d = people(ROWS)
    root = torch.tensor([[-apart / 2, 0.0, 5.0], [apart / 2, 0.0, 5.0]]).repeat(ROWS // 2, 1)
    pose_3d = pose_3d - pose_3d[:, :, :1] + root[:, None, None]
    return poses_of(pose_3d, **{"group": torch.arange(ROWS) // 2, "people": 2, **changes})


@pytest.mark.parametrize("learned", [False, True])
def test_the_people_of_a_scene_have_one_view(learned: bool) -> None:
    sampler = sampler_of(yaw=3.1, image_offset=0.2, distance=(4.0, 9.0), focal=(0.5, 1.0))
    sampler.propose = networks = Networks() if learned else None
    poses = scene()
    made, _, aug = sampler.sample(poses)
    for part in (aug.R, aug.t, aug.camera):
        pairs = part.view(ROWS // 2, 2, -1)
        assert torch.equal(pairs[:, 0], pairs[:, 1])
        assert pairs[:, 0].unique(dim=0).shape[0] == ROWS // 2
    before, after = (p.root[::2] - p.root[1::2] for p in (poses, made))
    assert torch.allclose(before.norm(dim=-1), after.norm(dim=-1), atol=1e-5)
    for draft in networks.drafts if networks else ():  # the networks see this view, too
        assert draft.place is not None
        assert torch.equal(draft.place[::2], draft.place[1::2])


def test_a_scene_is_rejected_if_one_of_its_people_is_outside_but_not_for_padding() -> None:
    wide = scene(apart=9.0)
    sampler = sampler_of()
    assert not sampler.sample(wide)[1].any()  # the leader is in the middle of the image
    alone = replace(wide, valid=torch.arange(ROWS) % 2 == 0)
    accepted = sampler.sample(alone)[1]
    assert torch.equal(accepted, alone.valid)


def test_rows_of_scenes_keep_their_own_poses() -> None:
    sampler = sampler_of(rare_pose_power=20.0)
    poses = scene()
    bones = Bones.of(poses.pose_3d, H36M)
    rows = torch.arange(ROWS)
    assert torch.equal(sampler.source_rows(poses, bones, rows), rows)
    single = replace(poses, group=None)
    assert not torch.equal(sampler.source_rows(single, bones, rows), rows)


@pytest.mark.parametrize("at_a_time", [1, 2, 5, 4096])
def test_contacts_are_found_however_many_pairs_are_compared_at_a_time(
    at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People 1 m apart are put on top of each other in every third scene."""
    monkeypatch.setattr(sampler_module, "CONTACT_PAIRS", at_a_time)
    before = scene()
    after = before.absolute.clone()
    together = torch.arange(ROWS // 2) % 3 == 0
    after[0::2][together] = after[1::2][together]
    touching = sampler_of()._contacts(before, after)
    assert torch.equal(touching.view(-1, 2).any(1), together)
    same_as_before = sampler_of()._contacts(
        replace(before, pose_3d=after * 1, root=0 * before.root), after
    )
    assert not same_as_before.any()  # they came no nearer
    missing = replace(before, valid=torch.arange(ROWS) % 2 == 0)
    assert not sampler_of()._contacts(missing, after).any()


@pytest.mark.parametrize("other", [1, 2, 3])
def test_one_contact_or_one_person_outside_rejects_a_scene_of_four(other: int) -> None:
    pose_3d = people(4)
    root = torch.tensor([[-3.0, 0, 9], [-1.0, 0, 9], [1.0, 0, 9], [3.0, 0, 9]])
    pose_3d = pose_3d - pose_3d[:, :, :1] + root[:, None, None]
    poses = poses_of(pose_3d, group=torch.zeros(4, dtype=torch.long), people=4)
    sampler = sampler_of()
    assert sampler.accepted(poses, poses, pose_3d).all()
    after = pose_3d.clone()
    after[0] = after[other]
    assert sampler._contacts(poses, after).any()
    assert not sampler.accepted(poses, poses, after).any()
    outside = replace(poses, pose_2d=poses.pose_2d.clone())
    outside.pose_2d[other - 1] = 1.5
    assert not sampler.accepted(poses, outside, pose_3d).any()


def test_a_contact_in_one_frame_of_a_clip_counts_and_nearness_is_in_bone_lengths() -> None:
    pose_3d = people(2, 3)
    pose_3d = pose_3d - pose_3d[:, :, :1] + torch.tensor([[[[-1.0, 0, 5]]], [[[1.0, 0, 5]]]])
    poses = poses_of(pose_3d, group=torch.zeros(2, dtype=torch.long))
    once = pose_3d.clone()
    once[0, 2] = once[1, 2]
    assert sampler_of()._contacts(poses, once).any()
    # 8 cm apart is near for adults alone, 16 cm for nobody.
    for shrunk, apart, touch in ((1.0, 0.08, True), (0.2, 0.08, False), (1.0, 0.16, False)):
        beside = shrunk * poses.pose_3d[:1].repeat(2, 1, 1, 1)
        beside[1] = beside[0] * torch.tensor([1.0, 1.0, 0.0]) - torch.tensor([0.0, 0.0, apart])
        beside[0, ..., 2] = 0
        assert bool(sampler_of()._contacts(poses, beside).any()) is touch


# Acceptance


@pytest.mark.parametrize(("height", "of_batch"), [(0.1, 1.0), (None, 0.1), (1.0, 0.1)])
def test_the_height_of_the_image_is_that_of_the_option_else_of_the_batch(
    height: float | None, of_batch: float
) -> None:
    """A whole person does not fit into an image that is a tenth as high as wide."""
    sampler = sampler_of(frame_height=height)
    poses = poses_of(people(ROWS), frame_height=of_batch)
    fits = (height or of_batch) == 1
    assert bool(sampler.sample(poses)[1].all()) is fits
    assert bool(sampler.sample(poses)[1].any()) is fits
    assert sampler.rejections(poses) == (("0%" if fits else "100%"), "0%")


def test_rejections_are_told_by_their_reason() -> None:
    poses = poses_of(people(ROWS))
    assert sampler_of(distance=(0.9, 0.9), depth=3.0).rejections(poses) == ("100%", "100%")
    assert sampler_of(depth=5.5).rejections(poses) == ("0%", "100%")
    some = sampler_of(image_offset=1.0)
    share = float(some.rejections(poses)[0].rstrip("%"))
    assert 0 < share < 100


def test_the_released_check_looks_at_two_sides_of_the_image() -> None:
    poses = poses_of(people(400))
    for quirks in (False, True):
        sampler = sampler_of(image_offset=0.9, released_quirks=quirks)
        made, accepted, _ = sampler.sample(poses)
        beyond_left = (made.pose_2d < -1).flatten(1).any(1)
        assert bool((accepted & beyond_left).any()) is quirks
        assert not (accepted & (made.pose_2d > 1).flatten(1).any(1)).any()


def test_padding_is_neither_replaced_nor_a_source() -> None:
    pose_3d = people(ROWS)
    pose_3d[::3] = 0
    poses = poses_of(pose_3d, valid=torch.arange(ROWS) % 3 != 0)
    poses.pose_2d[::3] = 0
    sampler = sampler_of(rare_pose_power=4.0)
    rows = torch.arange(ROWS)
    for _ in range(5):
        made, accepted = sampler.pairs(poses, rows)
        assert torch.equal(accepted, poses.valid)
        assert made.pose_3d.flatten(1).any(1).all()


def test_a_pose_without_a_bone_is_not_a_rare_one() -> None:
    pose_3d = people(ROWS)
    pose_3d[3, :, 9] = pose_3d[3, :, 8]  # a person without a head
    poses, sampler = poses_of(pose_3d), sampler_of(rare_pose_power=4.0)
    bones = Bones.of(poses.pose_3d, H36M)
    sources = sampler.source_rows(poses, bones, torch.zeros(1000, dtype=torch.int64))
    assert sorted({*sources.tolist()}) == [row for row in range(ROWS) if row != 3]


# Bodies


@pytest.mark.parametrize(
    "changes",
    [{}, dict(stretch=0.2, body_scale=0.2), dict(swap_lengths=True)],
    ids=["still", "stretched", "swapped"],
)
@pytest.mark.parametrize("with_target", [False, True])
def test_the_height_is_that_of_the_option_whatever_else_changes_lengths(
    changes: Any, with_target: bool
) -> None:
    poses = poses_of(people(200))
    target = Target(poses.pose_2d[:, 0], H36M, CPU) if with_target else None
    if target is not None:
        target.log_factor = torch.linspace(-0.2, 0.2, 9)
    sampler = sampler_of(target, body_height=(1.5, 1.9), **changes)
    made, *_ = sampler.sample(poses)
    weights = torch.tensor(BodyMeasures.of(H36M).height)
    height = Bones.of(made.pose_3d[:, 0], H36M).length @ weights
    assert 1.5 - 1e-4 <= float(height.min()) < 1.52
    assert 1.88 < float(height.max()) <= 1.9 + 1e-4


def test_without_changes_of_lengths_a_height_changes_nothing() -> None:
    config = PoseAugConfig.default(body_height=(0.1, 0.2), bl=False)
    Sampler(Skeleton.of("hand_21"), config, CPU)  # no height is measured
    poses = poses_of(people(ROWS))
    made, *_ = sampler_of(body_height=(1.0, 1.1), bl=False).sample(poses)
    old, new = (Bones.of(x.pose_3d, H36M).length for x in (poses, made))
    assert torch.allclose(new, old, atol=1e-4)


def test_the_target_multiplies_the_lengths_that_the_prior_has_drawn() -> None:
    poses = poses_of(people(ROWS))
    target = Target(poses.pose_2d[:, 0], H36M, CPU)
    target.log_factor = torch.linspace(-0.3, 0.3, 9)
    sampler = sampler_of(target, stretch=0.3, body_scale=0.3)
    state = sampler.generator.get_state()
    both = sampler.augment(poses, Bones.of(poses.pose_3d, H36M))[0].gamma_bl
    sampler.target = None
    sampler.generator.set_state(state)
    drawn = sampler.augment(poses, Bones.of(poses.pose_3d, H36M))[0].gamma_bl
    of_target = target.gamma_bl(Bones.of(poses.pose_3d[:, 0], H36M))
    assert both is not None
    assert drawn is not None
    assert torch.allclose(1 + both, (1 + drawn) * (1 + of_target), atol=1e-5)


@pytest.mark.parametrize(("ba", "bl"), [(True, False), (False, True), (False, False)])
def test_joints_are_moved_only_if_angles_and_lengths_may_change(ba: bool, bl: bool) -> None:
    poses = poses_of(people(ROWS))
    target = Target(poses.pose_2d[:, 0], H36M, CPU)
    target.shift = torch.full_like(target.shift, 0.3)
    parameters = sampler_of(target, joint_offset=0.05, ba=ba, bl=bl).sample(poses)[2].parameters
    assert "offset" not in parameters
    assert ("gamma_bl" in parameters) is bl  # the target's proportions
    parameters = sampler_of(target, joint_offset=0.05).sample(poses)[2].parameters
    assert {"offset", "gamma_bl"} <= parameters.keys()


def test_people_appear_as_large_as_in_the_target_through_the_lens_that_was_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    poses = poses_of(people(ROWS))
    target = Target(poses.pose_2d[:, 0], H36M, CPU)
    target.add(poses, poses.valid)
    given, draw_views = [], target.draw_views

    def recorded(camera: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor] | None:
        given.append(camera)
        return draw_views(camera, rng)

    monkeypatch.setattr(target, "draw_views", recorded)
    aug = sampler_of(target, focal=(0.5, 1.0)).sample(poses)[2]
    assert torch.equal(given[0], aug.camera)
    assert not torch.allclose(aug.camera, poses.camera, atol=0.1)


def test_the_parameters_make_the_sample_from_the_original() -> None:
    """Also those of another row's bone lengths."""
    config = dict(yaw=3.1, swap_lengths=True, stretch=0.2, bend=0.5, joint_offset=0.05)
    poses = poses_of(people(ROWS, 3))
    made, _, aug = sampler_of(**config).sample(poses)
    assert torch.allclose(aug.apply(poses.pose_3d, H36M, poses.path), made.absolute, atol=1e-5)
    assert torch.allclose(aug.project(made.absolute), made.pose_2d, atol=1e-5)


def test_rejected_pairs_do_not_count_for_the_target() -> None:
    poses = poses_of(people(ROWS))
    target = Target(1.5 * poses.pose_2d[:, 0], H36M, CPU)
    before = snapshot(target)[0]
    sampler_of(target, distance=(0.9, 0.9), depth=3.0).pairs(poses, torch.arange(ROWS))
    assert same(snapshot(target)[0], before)


# Resuming, and looking


def test_ranges_and_owed_rows_resume() -> None:
    poses = poses_of(people(ROWS) * torch.tensor([1.0, 1.0, 2.0]))
    open_ranges = dict(distance=None, image_offset=None, focal=None, joint_offset=None, depth=None)
    first, second = (sampler_of(**open_ranges) for _ in range(2))
    first.pairs(poses, torch.arange(ROWS))
    first.owed_rows = 0.75
    second.load_state_dict(first.state_dict())
    assert second.owed_rows == 0.75
    for a, b in zip(first.ranges.view, second.ranges.view):
        assert torch.equal(a, b)
    assert not torch.equal(second.ranges.view[0], sampler_of(**open_ranges).ranges.view[0])


def test_the_random_stream_of_another_kind_of_device_gives_other_numbers() -> None:
    """Numbers that depend on the state, not the first ones of a new run."""
    poses, state = poses_of(people(ROWS)), sampler_of().state_dict()
    turned = []
    for number in (None, 0, 1, 1):
        sampler = sampler_of(yaw=3.1)
        if number is not None:
            foreign = torch.full((16,), number, dtype=torch.uint8)
            sampler.load_state_dict({**state, "generator": foreign})
        turned.append(sampler.sample(poses)[2].R)
    assert torch.equal(turned[2], turned[3])
    assert not any(torch.equal(turned[a], turned[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_a_preview_uses_the_ranges_of_the_run_once_there_are_some() -> None:
    near, far = people(ROWS), people(ROWS) + torch.tensor([0.0, 0.0, 60.0])
    sampler = sampler_of(distance=None)
    before = snapshot(sampler), sampler.ranges
    assert float(sampler.preview(poses_of(far))[0].root[..., 2].min()) > 20
    assert same(snapshot(sampler), before[0])
    assert sampler.ranges is before[1]
    sampler.pairs(poses_of(near), torch.arange(ROWS))
    fitted = sampler.ranges
    assert float(sampler.preview(poses_of(far))[0].root[..., 2].max()) < 10
    assert sampler.ranges is fitted
