"""The prior: draws fill the configured ranges and do not leave them."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from helpers import H36M, generator, people
from poseaug_plugin.augment.prior import draw, swap_lengths
from poseaug_plugin.augment.ranges import Ranges
from poseaug_plugin.config import PoseAugConfig
from poseaug_plugin.geometry.bones import Bones, lengths, pose_to_bones
from poseaug_plugin.geometry.operators import stretch
from poseaug_plugin.geometry.skeleton import SKELETONS, Skeleton

ROWS = 2000
UP = torch.tensor([0.0, 1.0, 0.0])


def ranges_of(config: PoseAugConfig, skeleton: Skeleton = H36M) -> Ranges:
    return Ranges.of(config, skeleton, torch.device("cpu"))


def drawn(seed: int = 0, rows: int = ROWS, **changes: object) -> SimpleNamespace:
    """The parameters and the view of a draw, by name."""
    config = PoseAugConfig.random(**changes)
    sample = draw(rows, H36M, config, ranges_of(config), generator(seed))
    return SimpleNamespace(**sample.parameters, **vars(sample.view))


def fills(values: Tensor, low: float, high: float) -> bool:
    """Whether all values are in the range, and some are close to each end."""
    tolerance, close = 1e-5, 0.02 * (high - low)
    inside = values.min() >= low - tolerance and values.max() <= high + tolerance
    return bool(inside and values.min() <= low + close and values.max() >= high - close)


def angles(R: Tensor) -> Tensor:
    """The angles of rotations (B, 3, 3), radians."""
    return torch.acos(((R.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1))


def test_bends_have_any_direction_and_a_bounded_length() -> None:
    step = drawn(bend=0.4).gamma_ba
    assert step.shape == (ROWS, 15, 3)
    assert fills(step.norm(dim=-1), 0, 0.4)
    assert float(step.mean((0, 1)).abs().max()) < 0.01
    assert torch.allclose(step.std((0, 1)), step.std(), rtol=0.05)


def test_lengths_are_a_body_factor_times_a_limb_factor() -> None:
    body = drawn(body_scale=0.2, stretch=0.0).gamma_bl
    assert body.shape == (ROWS, 9)
    assert torch.allclose(body, body[:, :1].expand(-1, 9))
    assert fills(body, -0.2, 0.2)
    limbs = drawn(body_scale=0.0, stretch=0.1).gamma_bl
    assert all(fills(limbs[:, group], -0.1, 0.1) for group in range(9))
    assert float(torch.corrcoef(limbs.T).tril(-1).abs().max()) < 0.1
    both = drawn(body_scale=0.2, stretch=0.1).gamma_bl
    assert both.min() >= 0.8 * 0.9 - 1 - 1e-5
    assert both.max() <= 1.2 * 1.1 - 1 + 1e-5
    assert both.max() > 0.25


def test_distance_image_offset_and_focal_fill_their_ranges() -> None:
    view = drawn(distance=(2.0, 8.0), image_offset=0.4, focal=(0.5, 2.0))
    assert fills(view.distance, 2, 8)
    assert float(view.distance.median()) == pytest.approx(5, abs=0.2)
    assert fills(view.image_offset[:, 0], -0.4, 0.4)
    assert fills(view.image_offset[:, 1], -0.4, 0.4)
    assert fills(view.focal, 0.5, 2)
    assert float(view.focal.median()) == pytest.approx(1, abs=0.05)  # its logarithm is uniform


NO_ROTATION = {"yaw": 0.0, "tilt": (0.0, 0.0), "roll": 0.0}


@pytest.mark.parametrize(
    ("name", "limit", "axis"), [("yaw", 0.5, 1), ("tilt", (-0.5, 0.5), 0), ("roll", 0.5, 2)]
)
def test_each_angle_rotates_about_its_own_axis(name: str, limit: object, axis: int) -> None:
    R = drawn(**{**NO_ROTATION, name: limit}).R
    fixed = torch.eye(3)[axis]
    assert torch.allclose(R @ fixed, fixed.expand(ROWS, 3), atol=1e-6)
    assert fills(angles(R), 0, 0.5)
    sine = R[:, (axis + 2) % 3, (axis + 1) % 3]
    assert fills(sine, -math.sin(0.5), math.sin(0.5))


def test_a_positive_tilt_brings_heads_nearer_than_feet() -> None:
    head = drawn(**{**NO_ROTATION, "tilt": (-0.2, 0.6)}).R @ -UP
    assert fills(torch.asin(-head[:, 2]), -0.2, 0.6)


def test_yaw_comes_first_then_tilt_then_roll() -> None:
    """A standing person leans by no more than tilt and roll, whatever the yaw."""
    without_roll = drawn(yaw=math.pi, tilt=(-0.4, 0.4), roll=0.0).R @ UP
    assert float(without_roll[:, 0].abs().max()) < 1e-6  # the tilt moves y in y and z only
    without_yaw = drawn(yaw=0.0, tilt=(-0.4, 0.4), roll=0.3).R[:, :, 0]
    assert float(without_yaw[:, 2].abs().max()) < 1e-6  # the roll moves x in x and y only
    lean = torch.acos((drawn(yaw=math.pi, tilt=(-0.4, 0.4), roll=0.3).R @ UP)[:, 1])
    assert 0.45 < lean.max() <= math.acos(math.cos(0.4) * math.cos(0.3)) + 1e-4
    assert drawn(yaw=math.pi).R[:, 0, 0].min() < -0.99  # people seen from behind


def test_joint_offsets_are_symmetric() -> None:
    for off in ({}, {"bl": False, "joint_offset": 0.03}, {"ba": False, "joint_offset": 0.03}):
        assert not hasattr(drawn(**off), "offset")
    offset = drawn(joint_offset=0.03).offset
    left, right = offset[:, list(H36M.left)], offset[:, list(H36M.right)]
    assert torch.equal(left * torch.tensor([-1.0, 1.0, 1.0]), right)
    middle = offset[:, [7, 8, 9]]
    assert not middle[..., 0].any()
    assert not offset[:, 0].any()
    for free in (left, middle[..., 1:]):
        assert torch.allclose(free.std(0), torch.full_like(free[0], 0.03), rtol=0.1)
        assert float(free.mean(0).abs().max()) < 0.003


@pytest.mark.parametrize("off", ["ba", "bl"])
def test_an_operator_that_is_off_has_no_parameter(off: str) -> None:
    sample = drawn(**{off: False})
    for name in ("ba", "bl"):
        assert hasattr(sample, f"gamma_{name}") == (name != off)


def test_draws_depend_on_the_generator_only() -> None:
    before = torch.get_rng_state()
    first, same, other = (drawn(seed=seed, rows=8, joint_offset=0.02) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    names = {"gamma_ba", "gamma_bl", "offset", "R", "image_offset", "distance", "focal"}
    assert set(vars(first)) == names
    for name in names:
        assert torch.equal(getattr(first, name), getattr(same, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))


def swapped_lengths(pose: Tensor) -> Tensor:
    return swap_lengths(Bones.of(pose, H36M).length, H36M, generator())


def group_lengths(pose: Tensor) -> Tensor:
    """The length of each mirror group, summed over its bones: (B, 9)."""
    length, group = lengths(pose_to_bones(pose, H36M)), torch.tensor(H36M.mirror_group)
    return torch.stack([length[:, group == g].sum(1) for g in range(9)], 1)


def test_swap_gives_each_row_the_lengths_of_another_row() -> None:
    pose = people(20)[:, 0]
    pose[:, 3] += 0.05  # one shin longer than the other
    swapped = stretch(pose, swapped_lengths(pose), H36M)
    distance = torch.cdist(group_lengths(swapped), group_lengths(pose))
    source = distance.argmin(1)
    assert float(distance.amin(1).max()) < 1e-5
    assert sorted(source.tolist()) == list(range(20))
    assert source.tolist() != list(range(20))


def test_swap_of_a_single_row_changes_nothing() -> None:
    assert torch.allclose(swapped_lengths(people(1)[:, 0]), torch.zeros(1, 9))


def test_no_row_gets_the_bones_of_a_padding_row() -> None:
    pose = people(40)[:, 0]
    pose[20:] = 0
    swapped = stretch(pose, swapped_lengths(pose), H36M)[:20]
    assert lengths(pose_to_bones(swapped, H36M)).min() > 0.05
    pose = people(4)[:, 0]
    pose[1] = 0
    ratio = swapped_lengths(pose)
    assert ratio.isfinite().all()
    assert stretch(pose, ratio, H36M).isfinite().all()


def test_swap_ignores_a_bone_missing_on_one_side() -> None:
    """Half of the people have no left upper arm. All swapped lengths are those of some arm."""
    pose = people(64)[:, 0]
    pose[::2, 11:13] = pose[::2, 10:11]
    bones = lengths(pose_to_bones(pose, H36M))
    swapped = stretch(pose, swapped_lengths(pose), H36M)
    upper_arms = [H36M.bone_of[11], H36M.bone_of[14]]  # left and right
    before, after = bones[:, upper_arms], lengths(pose_to_bones(swapped, H36M))[:, upper_arms]
    assert after[after > 1e-4].min() >= before[before > 1e-4].min() - 1e-5
    assert after.max() <= before.max() + 1e-5


def test_joints_of_a_hand_move_along_all_axes() -> None:
    """It has no sides, so no plane of symmetry."""
    hand, config = SKELETONS["hand_21"], PoseAugConfig(joint_offset=0.002)
    drawn = draw(ROWS, hand, config, ranges_of(config, hand), generator())
    offset = drawn.parameters["offset"]
    assert not offset[:, hand.root].any()
    moved = offset[:, list(hand.child)]
    assert torch.allclose(moved.std(0), torch.full((20, 3), 0.002), rtol=0.1)
