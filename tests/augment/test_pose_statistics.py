"""Rare poses are told from common ones, new ones follow the data, and people stand upright."""

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


def held(pose: torch.Tensor, skeleton: Skeleton = H36M) -> torch.Tensor:
    return directions(pose, skeleton)[0]


def relative(rows: int, seed: int = 0) -> torch.Tensor:
    pose = people(rows, seed=seed)[:, 0].float()
    return pose - pose[:, :1]


def everyone(rows: int) -> torch.Tensor:
    return torch.ones(rows, dtype=torch.bool)


def learned(*batches: torch.Tensor) -> PoseStatistics:
    made = PoseStatistics(H36M, CPU)
    for batch in batches:
        made.add(*directions(batch, H36M), everyone(len(batch)))
    return made


def test_directions_turn_with_the_body_and_know_no_size() -> None:
    pose = relative(5)
    R = axis_angle_to_matrix(torch.randn(5, 3, generator=generator()))
    other = move(stretch(pose, torch.full((5, 9), 0.2), H36M), R, 4 + R[:, 0], H36M)
    assert torch.allclose(held(other), held(pose), atol=1e-5)


def test_directions_tell_forward_from_backward() -> None:
    """As cosines between bones would not."""
    pose = relative(1)
    mirrored = pose * torch.tensor([1.0, 1.0, -1.0])
    here, there = held(pose), held(mirrored)
    assert torch.allclose(here[..., :2], there[..., :2], atol=1e-5)
    assert torch.allclose(here[..., 2], -there[..., 2], atol=1e-5)


def test_the_axes_are_hips_and_spine() -> None:
    pose = torch.zeros(1, 16, 3)
    pose[:, 1, 0], pose[:, 4, 0], pose[:, 7, 1] = -0.1, 0.1, -0.2  # right, left, up on the screen
    found = held(pose)[0]
    assert torch.allclose(found[0].abs(), torch.tensor([1.0, 0.0, 0.0]), atol=1e-5)
    assert torch.allclose(found[6], torch.tensor([0.0, 1.0, 0.0]), atol=1e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_any_skeleton_has_finite_numbers(name: str) -> None:
    skeleton = SKELETONS[name]
    nobody = torch.zeros(4, skeleton.num_joints, 3)
    for pose in (random_poses(skeleton, 4, dtype=torch.float32), nobody):
        found = PoseStatistics(skeleton, CPU)
        given, axes = directions(pose, skeleton)
        found.add(given, axes, everyone(4))
        assert found.rarity(given).isfinite().all()
        assert found.new_poses(given, PoseAugConfig(), generator()).isfinite().all()
        assert_rotation(found.vertical_alignment())


def test_a_chain_has_the_cameras_axes() -> None:
    chain = Skeleton((-1, 0, 1))
    pose = torch.tensor([[[0.0, 0, 0], [0, 2, 0], [3, 2, 0]]])
    wanted = torch.tensor([[[0.0, 1, 0], [1, 0, 0]]])
    assert torch.allclose(held(pose, chain), wanted)


def test_rarity_is_mahalanobis_distance_per_dimension() -> None:
    pose = relative(400)
    distance = learned(pose).rarity(held(pose))
    x = held(pose).flatten(1).double()
    spread = x - x.mean(0)
    cov = spread.T @ spread / len(x) + 1e-3 * torch.eye(45, dtype=torch.float64)
    wanted = ((spread @ cov.inverse()) * spread).mean(1).sqrt()
    assert torch.allclose(distance.double(), wanted, rtol=1e-3)


def test_a_pose_unlike_the_others_is_rare_and_becomes_common_when_seen_often() -> None:
    walking, kick = relative(300), relative(1, seed=5)
    kick[:, 2:4] += torch.tensor([0.3, -0.5, 0.4])  # a leg in the air
    before = learned(torch.cat([walking, kick]))
    assert before.rarity(held(kick)) > 2 * before.rarity(held(walking)).mean()
    crowd = torch.cat([walking, kick.expand(300, -1, -1)])
    after = learned(torch.cat([walking, kick]), *[crowd] * 100)
    assert after.rarity(held(kick)) < 0.6 * before.rarity(held(kick))


def test_rows_that_do_not_count_move_nothing() -> None:
    pose = relative(50)
    padded = torch.cat([pose, torch.zeros(10, 16, 3)])
    alone, among = learned(pose), PoseStatistics(H36M, CPU)
    among.add(*directions(padded, H36M), torch.arange(60) < 50)
    assert torch.allclose(among.mean, alone.mean, atol=1e-6)
    assert torch.allclose(among.cov, alone.cov, atol=1e-6)
    assert torch.allclose(among.up, alone.up, atol=1e-6)


def test_each_bone_bends_as_it_moves_in_the_data() -> None:
    """The left upper arm alone, fore and aft: so do the bends, and the forearm goes with it."""
    standing = relative(1).expand(500, -1, -1).clone()
    ahead = directions(standing, H36M)[1][:, None, :, 2]
    standing[:, 11:13] += 0.08 * torch.randn(500, 1, 1, generator=generator()) * ahead
    given, config = held(standing), PoseAugConfig(limb_crossover=False, bend_sigma=1.0)
    found = (
        (learned(standing).new_poses(given, config, generator(2)) - given).square().mean(0).sqrt()
    )
    arm, others = [10, 11], [k for k in range(15) if k not in (10, 11)]
    assert found[arm].norm(dim=-1).min() > 2 * found[others].norm(dim=-1).max()
    assert found[10, 2] > 2 * found[10, :2].max()
    share = 3**-0.5  # root mean square of a share between 0 and 1
    assert torch.isclose(found[10, 2], share * given[:, 10, 2].std(), rtol=0.15)


def leaning(angle: float, about: int, rows: int = 200) -> torch.Tensor:
    """People as a camera sees them that is turned by `angle` about one of its axes."""
    pose = relative(rows)
    axis = torch.zeros(3)
    axis[about] = angle
    return pose @ learned(pose).vertical_alignment().T @ axis_angle_to_matrix(axis).T


@pytest.mark.parametrize("about", [0, 2])
@pytest.mark.parametrize("angle", [0.3, -1.2])
def test_people_stand_upright_before_a_camera_that_does_not(angle: float, about: int) -> None:
    pose = leaning(angle, about)
    level = learned(pose).vertical_alignment()
    assert_rotation(level)
    upright = directions(pose @ level.T, H36M)[1][..., 1].mean(0)
    assert torch.allclose(upright / upright.norm(), torch.tensor([0.0, -1.0, 0.0]), atol=1e-5)
    wanted = torch.zeros(3)
    wanted[about] = -angle  # nothing but the camera's own turn is undone
    assert torch.allclose(level, axis_angle_to_matrix(wanted), atol=1e-5)


def test_views_stay_as_they_are_where_nobody_knows_which_way_is_up() -> None:
    assert torch.equal(PoseStatistics(H36M, CPU).vertical_alignment(), torch.eye(3))
    assert torch.equal(learned(leaning(torch.pi, 2)).vertical_alignment(), torch.eye(3))


def assert_rotation(R: torch.Tensor) -> None:
    assert torch.allclose(R @ R.T, torch.eye(3), atol=1e-5)
    assert torch.isclose(torch.linalg.det(R), torch.tensor(1.0), atol=1e-5)


def test_nothing_varies_that_is_switched_off() -> None:
    pose, config = relative(40), PoseAugConfig(limb_crossover=False, bend_sigma=0.0)
    assert torch.equal(learned(pose).new_poses(held(pose), config, generator()), held(pose))


def test_before_the_first_batch_limbs_alone_are_exchanged() -> None:
    pose = relative(40)
    fresh = PoseStatistics(H36M, CPU).new_poses(held(pose), PoseAugConfig(), generator())
    exchanged = learned(pose).new_poses(held(pose), PoseAugConfig(bend_sigma=0.0), generator())
    assert not torch.equal(fresh, held(pose))
    assert torch.equal(fresh, exchanged)


def test_it_goes_on_where_it_was_saved() -> None:
    first, second = learned(relative(40)), PoseStatistics(H36M, CPU)
    second.load_state_dict(first.state_dict(), CPU)
    for one in (first, second):
        one.add(*directions(relative(30, seed=1), H36M), everyone(30))
    assert torch.equal(*(one.rarity(held(relative(8))) for one in (first, second)))
    assert torch.equal(first.vertical_alignment(), second.vertical_alignment())


@pytest.mark.parametrize("name", ["h36m_17", "humaneva_15", "mpi_inf_3dhp_17", "smpl_24"])
def test_up_is_along_the_trunk_whatever_the_order_of_joints(name: str) -> None:
    skeleton = SKELETONS[name]
    pose = torch.zeros(1, skeleton.num_joints, 3)
    for joint in skeleton.child:  # sides to their sides, everybody in the middle above
        side = (joint in skeleton.right) - float(joint in skeleton.left)
        pose[:, joint, :2] = torch.tensor([-0.2 * side, 0.1 if side else -0.5])
    (axes,) = directions(pose, skeleton)[1]
    assert torch.allclose(axes[:, 1], torch.tensor([0.0, -1.0, 0.0]), atol=1e-6)
    assert abs(float(axes[0, 0])) == pytest.approx(1)


@pytest.mark.parametrize("name", ["coco_17", "hand_21"])
def test_a_skeleton_without_a_trunk_on_its_root_says_not_which_way_is_up(name: str) -> None:
    skeleton = SKELETONS[name]
    found = PoseStatistics(skeleton, CPU)
    found.add(*directions(random_poses(skeleton, 9, dtype=torch.float32), skeleton), everyone(9))
    assert torch.equal(found.vertical_alignment(), torch.eye(3))


def test_a_batch_of_padding_alone_teaches_nothing() -> None:
    found, nobody = learned(relative(50)), torch.zeros(8, 16, 3)
    before = found.state_dict()
    found.add(*directions(nobody, H36M), torch.zeros(8, dtype=torch.bool))
    assert all(
        torch.equal(before[name], found.state_dict()[name]) for name in ("mean", "cov", "up")
    )
