"""Pose statistics: rarity, new poses and the vertical."""

from __future__ import annotations

import pytest
import torch

from helpers import H36M, PRESETS, generator, people, random_poses
from poseaug_plugin.augment.pose_statistics import PoseStatistics
from poseaug_plugin.config import PoseAugConfig
from poseaug_plugin.geometry.bones import directions
from poseaug_plugin.geometry.operators import axis_angle_to_matrix, move, stretch
from poseaug_plugin.geometry.skeleton import SKELETONS, Skeleton

CPU = torch.device("cpu")


def body_directions(pose: torch.Tensor, skeleton: Skeleton = H36M) -> torch.Tensor:
    return directions(pose, skeleton)[0]


def relative(rows: int, seed: int = 0) -> torch.Tensor:
    pose = people(rows, seed=seed)[:, 0].float()
    return pose - pose[:, :1]


def all_valid(rows: int) -> torch.Tensor:
    return torch.ones(rows, dtype=torch.bool)


def estimated(*batches: torch.Tensor) -> PoseStatistics:
    """Statistics of batches of poses (B, 16, 3)."""
    statistics = PoseStatistics(H36M, CPU)
    for batch in batches:
        statistics.add(*directions(batch, H36M), all_valid(len(batch)))
    return statistics


def test_directions_do_not_depend_on_view_position_and_size() -> None:
    pose = relative(5)
    R = axis_angle_to_matrix(torch.randn(5, 3, generator=generator()))
    other = move(stretch(pose, torch.full((5, 9), 0.2), H36M), R, 4 + R[:, 0], H36M)
    assert torch.allclose(body_directions(other), body_directions(pose), atol=1e-5)


def test_directions_distinguish_forward_from_backward() -> None:
    """Cosines between bones would not."""
    pose = relative(1)
    mirrored = pose * torch.tensor([1.0, 1.0, -1.0])
    original, flipped = body_directions(pose), body_directions(mirrored)
    assert torch.allclose(original[..., :2], flipped[..., :2], atol=1e-5)
    assert torch.allclose(original[..., 2], -flipped[..., 2], atol=1e-5)


def test_body_axes_follow_hips_and_spine() -> None:
    pose = torch.zeros(1, 16, 3)
    pose[:, 1, 0], pose[:, 4, 0], pose[:, 7, 1] = -0.1, 0.1, -0.2  # right hip, left hip, spine
    right_hip, spine = body_directions(pose)[0, [0, 6]]
    assert torch.allclose(right_hip.abs(), torch.tensor([1.0, 0.0, 0.0]), atol=1e-5)
    assert torch.allclose(spine, torch.tensor([0.0, 1.0, 0.0]), atol=1e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_results_are_finite_on_any_skeleton(name: str) -> None:
    skeleton = SKELETONS[name]
    zeros = torch.zeros(4, skeleton.num_joints, 3)
    for pose in (random_poses(skeleton, 4, dtype=torch.float32), zeros):
        statistics = PoseStatistics(skeleton, CPU)
        original, axes = directions(pose, skeleton)
        statistics.add(original, axes, all_valid(4))
        assert statistics.rarity(original).isfinite().all()
        assert statistics.new_poses(original, PoseAugConfig(), generator())[0].isfinite().all()
        assert_rotation(statistics.vertical_alignment())


def test_body_axes_of_a_chain_are_those_of_the_camera() -> None:
    chain = Skeleton((-1, 0, 1))
    pose = torch.tensor([[[0.0, 0, 0], [0, 2, 0], [3, 2, 0]]])
    expected = torch.tensor([[[0.0, 1, 0], [1, 0, 0]]])
    assert torch.allclose(body_directions(pose, chain), expected)


def test_rarity_is_mahalanobis_distance_per_dimension() -> None:
    pose = relative(400)
    distance = estimated(pose).rarity(body_directions(pose))
    x = body_directions(pose).flatten(1).double()
    centred = x - x.mean(0)
    cov = centred.T @ centred / len(x) + 1e-3 * torch.eye(45, dtype=torch.float64)
    expected = ((centred @ cov.inverse()) * centred).mean(1).sqrt()
    assert torch.allclose(distance.double(), expected, rtol=1e-3)


def test_an_unusual_pose_is_rare_until_it_is_frequent() -> None:
    walking, kick = relative(300), relative(1, seed=5)
    kick[:, 2:4] += torch.tensor([0.3, -0.5, 0.4])  # a leg in the air
    before = estimated(torch.cat([walking, kick]))
    assert before.rarity(body_directions(kick)) > 2 * before.rarity(body_directions(walking)).mean()
    half_kicks = torch.cat([walking, kick.expand(300, -1, -1)])
    after = estimated(torch.cat([walking, kick]), *[half_kicks] * 100)
    assert after.rarity(body_directions(kick)) < 0.6 * before.rarity(body_directions(kick))


@pytest.mark.parametrize("size", [0.0, 1.0])
def test_invalid_rows_have_no_influence(size: float) -> None:
    pose = relative(50)
    padded = torch.cat([pose, size * torch.randn(10, 16, 3, generator=generator())])
    expected, statistics = estimated(pose), PoseStatistics(H36M, CPU)
    statistics.add(*directions(padded, H36M), torch.arange(60) < 50)
    assert torch.allclose(statistics.mean, expected.mean, atol=1e-6)
    assert torch.allclose(statistics.cov, expected.cov, atol=1e-6)
    assert torch.allclose(statistics.up, expected.up, atol=1e-6)


@pytest.mark.parametrize("bend_sigma", [1.0, 0.5])
def test_each_bone_bends_as_it_varies_in_the_data(bend_sigma: float) -> None:
    """Only the left upper arm varies, forward and backward; the forearm rotates with it."""
    standing = relative(1).expand(500, -1, -1).clone()
    backward = directions(standing, H36M)[1][:, None, :, 2]
    standing[:, 11:13] += 0.08 * torch.randn(500, 1, 1, generator=generator()) * backward
    original, config = (
        body_directions(standing),
        PoseAugConfig(limb_crossover=False, bend_sigma=bend_sigma),
    )
    new, _ = estimated(standing).new_poses(original, config, generator(2))
    change = (new - original).square().mean(0).sqrt()
    arm, others = [10, 11], [k for k in range(15) if k not in (10, 11)]
    assert change[arm].norm(dim=-1).min() > 2 * change[others].norm(dim=-1).max()
    assert change[10, 2] > 2 * change[10, :2].max()
    factor = bend_sigma * 3**-0.5  # root mean square of a uniform number in 0 to bend_sigma
    assert torch.isclose(change[10, 2], factor * original[:, 10, 2].std(), rtol=0.15)


def test_each_row_is_bent_by_a_factor_of_its_own() -> None:
    poses = relative(300)
    original, config = body_directions(poses), PoseAugConfig(limb_crossover=False, bend_sigma=1.0)
    new, _ = estimated(poses).new_poses(original, config, generator(2))
    change = (new - original).norm(dim=-1).mean(1)
    # The standard deviation of a uniform number is 0.58 times its mean.
    assert 0.5 < float(change.std() / change.mean()) < 0.7


def seen_by_rotated_camera(angle: float, axis: int, rows: int = 200) -> torch.Tensor:
    """Upright people, seen by a camera that is rotated about one of its axes."""
    pose = relative(rows)
    axis_angle = torch.zeros(3)
    axis_angle[axis] = angle
    return pose @ estimated(pose).vertical_alignment().T @ axis_angle_to_matrix(axis_angle).T


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize("angle", [0.3, -1.2])
def test_vertical_alignment_undoes_the_rotation_of_the_camera(angle: float, axis: int) -> None:
    pose = seen_by_rotated_camera(angle, axis)
    alignment = estimated(pose).vertical_alignment()
    assert_rotation(alignment)
    up = directions(pose @ alignment.T, H36M)[1][..., 1].mean(0)
    assert torch.allclose(up / up.norm(), torch.tensor([0.0, -1.0, 0.0]), atol=1e-5)
    expected = torch.zeros(3)
    expected[axis] = -angle
    assert torch.allclose(alignment, axis_angle_to_matrix(expected), atol=1e-5)


def test_trunks_without_a_common_direction_do_not_turn_the_camera() -> None:
    """As those of animals on four legs, which walk in any direction."""
    pose = seen_by_rotated_camera(torch.pi / 2, 0)  # bent forward by 90 degrees
    heading = torch.linspace(0, 2 * torch.pi, len(pose) + 1)[1:]
    about_y = axis_angle_to_matrix(heading[:, None] * torch.tensor([0.0, 1.0, 0.0]))
    lying = pose - pose[:, :1]
    walking = lying @ about_y.mT
    assert torch.equal(estimated(walking).vertical_alignment(), torch.eye(3))
    assert not torch.equal(estimated(lying).vertical_alignment(), torch.eye(3))


def test_alignment_is_the_identity_if_the_vertical_is_unknown() -> None:
    assert torch.equal(PoseStatistics(H36M, CPU).vertical_alignment(), torch.eye(3))
    assert torch.equal(
        estimated(seen_by_rotated_camera(torch.pi, 2)).vertical_alignment(), torch.eye(3)
    )


def assert_rotation(R: torch.Tensor) -> None:
    assert torch.allclose(R @ R.T, torch.eye(3), atol=1e-5)
    assert torch.isclose(torch.linalg.det(R), torch.tensor(1.0), atol=1e-5)


def test_poses_are_kept_without_crossover_and_bends() -> None:
    pose, config = relative(40), PoseAugConfig(limb_crossover=False, bend_sigma=0.0)
    kept, sources = estimated(pose).new_poses(body_directions(pose), config, generator())
    assert torch.equal(kept, body_directions(pose))
    assert sources is None


def test_before_the_first_batch_only_limbs_are_exchanged() -> None:
    pose = relative(40)
    fresh, sources = PoseStatistics(H36M, CPU).new_poses(
        body_directions(pose), PoseAugConfig(), generator()
    )
    assert sources is not None
    taken = sources[..., None].expand(-1, -1, 3)
    assert torch.equal(fresh, body_directions(pose).gather(0, taken))
    exchanged, _ = estimated(pose).new_poses(
        body_directions(pose), PoseAugConfig(bend_sigma=0.0), generator()
    )
    assert not torch.equal(fresh, body_directions(pose))
    assert torch.equal(fresh, exchanged)


def test_state_round_trip() -> None:
    first, second = estimated(relative(40)), PoseStatistics(H36M, CPU)
    second.load_state_dict(first.state_dict(), CPU)
    for statistics in (first, second):
        statistics.add(*directions(relative(30, seed=1), H36M), all_valid(30))
    assert torch.equal(*(s.rarity(body_directions(relative(8))) for s in (first, second)))
    assert torch.equal(first.vertical_alignment(), second.vertical_alignment())


@pytest.mark.parametrize("name", ["h36m_17", "humaneva_15", "mpi_inf_3dhp_17", "smpl_24"])
def test_up_is_along_the_trunk_for_any_joint_order(name: str) -> None:
    skeleton = SKELETONS[name]
    pose = torch.zeros(1, skeleton.num_joints, 3)
    for joint in skeleton.child:  # left and right joints to the sides, the others above the root
        side = (joint in skeleton.right) - float(joint in skeleton.left)
        pose[:, joint, :2] = torch.tensor([-0.2 * side, 0.1 if side else -0.5])
    (axes,) = directions(pose, skeleton)[1]
    assert torch.allclose(axes[:, 1], torch.tensor([0.0, -1.0, 0.0]), atol=1e-6)
    assert abs(float(axes[0, 0])) == pytest.approx(1)


@pytest.mark.parametrize("name", ["coco_17", "hand_21"])
def test_a_skeleton_without_a_trunk_at_the_root_has_no_vertical(name: str) -> None:
    skeleton = SKELETONS[name]
    statistics, pose = PoseStatistics(skeleton, CPU), random_poses(skeleton, 9, dtype=torch.float32)
    statistics.add(*directions(pose, skeleton), all_valid(9))
    assert torch.equal(statistics.vertical_alignment(), torch.eye(3))


def test_a_batch_of_padding_only_changes_nothing() -> None:
    statistics, zeros = estimated(relative(50)), torch.zeros(8, 16, 3)
    before = statistics.mean, statistics.cov, statistics.up
    for _ in range(200):
        statistics.add(*directions(zeros, H36M), torch.zeros(8, dtype=torch.bool))
    after = statistics.mean, statistics.cov, statistics.up
    assert all(torch.allclose(one, two, atol=1e-5) for one, two in zip(before, after))


def test_old_batches_lose_weight() -> None:
    """A batch has a weight of 2 % in the long run, in proportion to its rows."""
    statistics, old, new = estimated(*[relative(20)] * 503), relative(20), relative(40, seed=3)
    means = [body_directions(pose).flatten(1).mean(0) for pose in (old, new)]
    statistics.add(*directions(new, H36M), all_valid(40))
    weight = 2 * 0.02 / (2 * 0.02 + 0.98)
    expected = (1 - weight) * means[0] + weight * means[1]
    assert torch.allclose(statistics.mean, expected, atol=1e-5)


@pytest.mark.parametrize("batches", [1, 30, 50, 53])
def test_a_batch_counts_at_once_at_first_and_later_with_every_eighth(batches: int) -> None:
    """A resumed run uses what the saved one used, also between two refreshes."""
    statistics = estimated(*[relative(20)] * batches)
    before = statistics.mean.clone()
    statistics.add(*directions(relative(40, seed=3), H36M), all_valid(40))
    assert torch.equal(statistics.mean, before) is (batches >= 50)
    resumed = PoseStatistics(H36M, CPU)
    resumed.load_state_dict(statistics.state_dict(), CPU)
    for name in ("mean", "cov", "up"):
        assert torch.equal(getattr(resumed, name), getattr(statistics, name))
    while statistics.batches < 56:
        statistics.add(*directions(relative(1), H36M), torch.zeros(1, dtype=torch.bool))
    assert not torch.allclose(statistics.mean, before, atol=1e-4)
