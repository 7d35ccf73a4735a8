"""BA, BL, RT and joint offsets: what each changes, what it keeps, and its gradient."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor

from helpers import H36M, PRESETS, generator, gradients_are_right, random_poses
from poseaug_plugin.geometry.bones import kcs, lengths, pose_to_bones, unit
from poseaug_plugin.geometry.operators import (
    axis_angle_to_matrix,
    bend,
    mirrored,
    move,
    root_relative,
    rotate_between,
    shift,
    shift_along,
    stretch,
)
from poseaug_plugin.geometry.skeleton import SKELETONS, Skeleton


def noise(*shape: int, seed: int = 1, scale: float = 0.5) -> Tensor:
    uniform = torch.rand(shape, generator=generator(seed), dtype=torch.float64)
    return (2 * uniform - 1) * scale


def cosines(pose: Tensor, skeleton: Skeleton) -> Tensor:
    return kcs(unit(pose_to_bones(pose, skeleton)))


def rotation_by_definition(axis_angle: Tensor) -> Tensor:
    """Rotations (B, 3, 3) as matrix exponentials of the cross product matrices."""
    cross = torch.linalg.cross(axis_angle[:, None], torch.eye(3).to(axis_angle)[None], dim=-1)
    return torch.linalg.matrix_exp(cross.mT)


@pytest.mark.parametrize("name", PRESETS)
def test_each_operator_changes_only_its_own_quantity(name: str) -> None:
    skeleton = SKELETONS[name]
    pose = random_poses(skeleton, 3)
    length = lengths(pose_to_bones(pose, skeleton))
    angle = cosines(pose, skeleton)

    bent = bend(pose, noise(3, skeleton.num_bones, 3), skeleton)
    assert torch.allclose(lengths(pose_to_bones(bent, skeleton)), length)
    assert not torch.allclose(cosines(bent, skeleton), angle, atol=0.1)

    stretched = stretch(pose, noise(3, skeleton.num_groups), skeleton)
    assert torch.allclose(cosines(stretched, skeleton), angle)
    assert not torch.allclose(lengths(pose_to_bones(stretched, skeleton)), length, atol=0.1)

    R, t = axis_angle_to_matrix(noise(3, 3, scale=2.0)), noise(3, 3, scale=2.0)
    moved = move(pose, R, t, skeleton)
    between = functools.partial(torch.cdist, compute_mode="donot_use_mm_for_euclid_dist")
    assert torch.allclose(between(moved, moved), between(pose, pose))
    assert torch.allclose(moved[:, skeleton.root], t)
    for changed in (bent, stretched):
        assert torch.allclose(changed[:, skeleton.root], pose[:, skeleton.root])


def test_bend_adds_to_the_unit_bone() -> None:
    skeleton = Skeleton((-1, 0))
    pose = torch.tensor([[1.0, 1.0, 1.0], [1.0, 3.0, 1.0]])  # a bone of 2 m along y
    bent = bend(pose, torch.tensor([[1.0, 0.0, 0.0]]), skeleton)
    step = 2 / math.sqrt(2)
    assert torch.allclose(bent, torch.tensor([[1.0, 1.0, 1.0], [1 + step, 1 + step, 1.0]]))


def test_bend_keeps_the_directions_of_child_bones() -> None:
    skeleton = Skeleton((-1, 0, 1))
    pose = torch.tensor([[0.0, 0, 0], [0, 1.0, 0], [0, 2.0, 0]])
    bent = bend(pose, torch.tensor([[0.01, -1.0, 0.0], [0.0, 0.0, 0.0]]), skeleton)
    assert torch.allclose(bent, torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [1.0, 1.0, 0]]))


def test_zero_parameters_change_nothing() -> None:
    pose = random_poses(H36M, 2)
    zero = torch.zeros(2, 15, 3, dtype=torch.float64)
    assert torch.allclose(bend(pose, zero, H36M), pose)
    assert torch.allclose(stretch(pose, zero[..., 0], H36M), pose)
    assert torch.allclose(move(pose, torch.eye(3).double(), pose[:, 0], H36M), pose)


def test_bend_keeps_a_cancelled_bone_with_a_finite_gradient() -> None:
    pose = random_poses(H36M, 2, dtype=torch.float32)
    gamma_ba = (-unit(pose_to_bones(pose, H36M))).requires_grad_()
    bent = bend(pose, gamma_ba, H36M)
    assert torch.allclose(bent, pose, atol=1e-6)
    (gradient,) = torch.autograd.grad(bent.square().sum(), gamma_ba)
    assert gradient.isfinite().all()


def test_zero_length_bones_are_kept_with_finite_gradients() -> None:
    pose = torch.zeros(2, 16, 3, requires_grad=True)
    gamma_ba = noise(2, 15, 3).float().requires_grad_()
    gamma_bl = noise(2, 9).float().requires_grad_()
    augmented = stretch(bend(pose, gamma_ba, H36M), gamma_bl, H36M)
    assert torch.equal(augmented, torch.zeros(2, 16, 3))
    for gradient in torch.autograd.grad(augmented.sum(), (pose, gamma_ba, gamma_bl)):
        assert gradient.isfinite().all()


def test_stretch_by_mirror_group_stretches_both_sides_alike() -> None:
    pose, by_group = random_poses(H36M, 4), noise(4, 9)
    by_bone = by_group[:, [0, 1, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 6, 7, 8]]
    stretched = stretch(pose, by_group, H36M)
    assert torch.equal(stretched, stretch(pose, by_bone, H36M))
    ratio = lengths(pose_to_bones(stretched, H36M)) / lengths(pose_to_bones(pose, H36M))
    assert torch.allclose(ratio, 1 + by_bone)


def test_parameters_broadcast_over_the_frames_of_a_clip() -> None:
    clip = random_poses(H36M, 2, 5)
    gamma_ba, gamma_bl = noise(2, 1, 15, 3), noise(2, 1, 9)
    R, t = axis_angle_to_matrix(noise(2, 1, 3, scale=2.0)), noise(2, 1, 3)
    augmented = move(stretch(bend(clip, gamma_ba, H36M), gamma_bl, H36M), R, t, H36M)
    for row in range(2):
        for frame in range(5):
            pose = bend(clip[row, frame], gamma_ba[row, 0], H36M)
            pose = move(stretch(pose, gamma_bl[row, 0], H36M), R[row, 0], t[row, 0], H36M)
            assert torch.allclose(augmented[row, frame], pose)


@pytest.mark.parametrize("name", PRESETS)
def test_shift_moves_single_joints_in_the_body_frame(name: str) -> None:
    skeleton = SKELETONS[name]
    pose = random_poses(skeleton, 5, 2)
    offset = noise(5, 1, skeleton.num_joints, 3, scale=0.05)
    moved = shift(pose, offset, skeleton) - pose
    assert torch.allclose(moved.norm(dim=-1), offset.norm(dim=-1).expand(5, 2, -1))
    of_one_joint = torch.zeros_like(offset)
    of_one_joint[..., 3, :] = offset[..., 3, :]
    others = [j for j in range(skeleton.num_joints) if j != 3]
    assert torch.equal(shift(pose, of_one_joint, skeleton)[..., others, :], pose[..., others, :])
    offset[..., skeleton.root, :] = 0
    R, t = axis_angle_to_matrix(noise(5, 1, 3, scale=3.0)), noise(5, 1, 3)
    shifted_first = move(shift(pose, offset, skeleton), R, t, skeleton)
    assert torch.allclose(shift(move(pose, R, t, skeleton), offset, skeleton), shifted_first)


def test_move_rotates_about_the_root() -> None:
    skeleton = Skeleton((-1, 0))
    quarter_turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # x to y
    moved = move(
        torch.tensor([[5.0, 5, 5], [6, 5, 5]]), quarter_turn, torch.tensor([0.0, 0, 4]), skeleton
    )
    assert torch.equal(moved, torch.tensor([[0.0, 0, 4], [0, 1, 4]]))


def test_root_relative_splits_off_the_root() -> None:
    skeleton = SKELETONS["mpi_inf_3dhp_17"]
    pose = random_poses(skeleton, 2, 3)
    relative, root = root_relative(pose, skeleton)
    assert torch.equal(root, pose[..., 14:15, :])
    assert torch.equal(relative[..., 14, :], torch.zeros(2, 3, 3).double())
    assert torch.allclose(relative + root, pose)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 9.9e-4, 1e-3, 2e-3, 1.0, math.pi - 1e-6, math.pi, 9])
def test_axis_angle_to_matrix_equals_the_matrix_exponential(angle: float) -> None:
    axis = noise(20, 3, scale=1.0)
    axis_angle = angle * axis / axis.norm(dim=-1, keepdim=True)
    R = axis_angle_to_matrix(axis_angle)
    expected = rotation_by_definition(axis_angle)
    assert torch.allclose(R, expected, rtol=0, atol=1e-14 + 1e-14 * angle)
    assert torch.allclose(R @ R.mT, torch.eye(3).double(), atol=1e-12)
    assert torch.allclose(torch.linalg.det(R), torch.ones(20).double())
    assert torch.allclose(axis_angle_to_matrix(axis_angle.float()), R.float(), atol=2e-6)


def test_axis_angle_follows_the_right_hand_rule() -> None:
    R = axis_angle_to_matrix(torch.tensor([0.0, 0.0, math.pi / 2]))
    assert torch.allclose(R @ torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]), atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 1e-5, 9e-4, 0.01, 1.0, math.pi - 1e-5, 4.0])
def test_axis_angle_gradients(angle: float) -> None:
    axis = torch.tensor([2.0, -1.0, 2.0]) / 3
    assert gradients_are_right(axis_angle_to_matrix, angle * axis.double())


def test_operator_gradients() -> None:
    pose, gamma_ba, gamma_bl = random_poses(H36M, 1), noise(1, 15, 3), noise(1, 9)
    R, t = axis_angle_to_matrix(noise(1, 3)), noise(1, 3)
    assert gradients_are_right(lambda p, g: bend(p, g, H36M), pose, gamma_ba)
    assert gradients_are_right(lambda p, g: stretch(p, g, H36M), pose, gamma_bl)
    assert gradients_are_right(lambda p, a, b: move(p, a, b, H36M), pose, R, t)


def test_rotate_between_is_the_smallest_rotation_between_two_directions() -> None:
    start, end = unit(noise(6, 3)), unit(noise(6, 3, seed=2))
    axis = torch.linalg.cross(start, end)
    angle = torch.acos((start * end).sum(-1, keepdim=True))
    R, vector = axis_angle_to_matrix(angle * unit(axis)), noise(6, 3, seed=3)
    assert torch.allclose(rotate_between(vector, start, end), (R @ vector[..., None])[..., 0])
    assert torch.allclose(rotate_between(start, start, end), end)
    assert torch.allclose(rotate_between(vector, start, start), vector)


def test_shift_along_adds_the_offset_along_the_axes() -> None:
    """One axis points down: an offset along it moves the joint down, not up."""
    axes = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])  # columns: y, z, x of the camera
    pose = torch.zeros(1, 2, 3)
    offset = torch.tensor([[0.1, 0.0, 0.0], [0.0, 0.2, 0.3]])
    moved = shift_along(pose, offset, axes[None])[0]
    assert moved.tolist() == [pytest.approx([0, 0.1, 0]), pytest.approx([0.3, 0, 0.2])]


def test_rotate_between_works_on_any_leading_dimensions() -> None:
    start, end, vector = (unit(noise(2, 4, 3, seed=i)) for i in range(3))
    whole = rotate_between(vector, start, end)
    each = [
        [rotate_between(vector[i, j], start[i, j], end[i, j]) for j in range(4)] for i in (0, 1)
    ]
    assert torch.allclose(whole, torch.stack([torch.stack(row) for row in each]))


def test_mirrored_offsets_are_those_of_the_left_and_none_at_the_root() -> None:
    offset = noise(2, 16, 3)
    found = mirrored(offset, H36M)
    left, right = list(H36M.left), list(H36M.right)
    middle = [j for j in range(16) if j not in (*left, *right, H36M.root)]
    assert torch.equal(found[:, left], offset[:, left])
    assert torch.equal(found[:, right], offset[:, left] * torch.tensor([-1, 1, 1]))
    assert torch.equal(found[:, middle], offset[:, middle] * torch.tensor([0, 1, 1]))
    assert not found[:, H36M.root].any()


def test_without_sides_offsets_are_mirrored_nowhere() -> None:
    hand = SKELETONS["hand_21"]
    offset = noise(21, 3)
    found = mirrored(offset, hand)
    fingers = [j for j in range(21) if j != hand.root]
    assert torch.equal(found[fingers], offset[fingers])
    assert not found[hand.root].any()
