"""The bone vector transform H, its inverse, and KCS matrices."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from helpers import (
    H36M,
    PRESETS,
    STANDING,
    generator,
    gradients_are_right,
    people,
    random_poses,
    random_tree,
)
from poseaug_plugin.errors import SkeletonError
from poseaug_plugin.geometry.bones import (
    Bones,
    body_axes,
    bones_to_pose,
    directions,
    index_tensor,
    kcs,
    lengths,
    part_kcs,
    pose_to_bones,
    unit,
    upright_bones,
)
from poseaug_plugin.geometry.constants import constant, group_matrix, identity, matrix
from poseaug_plugin.geometry.operators import euler_to_matrix
from poseaug_plugin.geometry.skeleton import SKELETONS, Skeleton

PUBLISHED_PARTS = (
    *((0, 1, 2, 3, 6), (0, 3, 4, 5, 6)),
    *((7, 9, 10, 11), (7, 12, 13, 14)),
    (0, 3, 6, 7, 8, 9, 12),
)


def assert_inverse(skeleton: Skeleton, seed: int = 0) -> None:
    pose = random_poses(skeleton, 3, 2, seed=seed)
    bones = pose_to_bones(pose, skeleton)
    for k, joint in enumerate(skeleton.child):
        expected = pose[..., joint, :] - pose[..., skeleton.parents[joint], :]
        assert torch.equal(bones[..., k, :], expected)
    restored = bones_to_pose(bones, skeleton)
    assert torch.allclose(restored, pose - pose[..., skeleton.root, None, :], atol=1e-12)
    assert torch.equal(restored[..., skeleton.root, :], torch.zeros(3, 2, 3, dtype=torch.float64))
    assert torch.allclose(pose_to_bones(restored, skeleton), bones, atol=1e-12)


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(0, 10**6))
def test_inverse_of_any_tree(joints: int, seed: int) -> None:
    assert_inverse(Skeleton(tuple(random_tree(joints, seed))), seed)


@pytest.mark.parametrize("name", PRESETS)
def test_inverse_of_presets(name: str) -> None:
    assert_inverse(SKELETONS[name])


@pytest.mark.parametrize("parents", [(-1, *range(40)), (*range(1, 41), -1), (-1, *[0] * 40)])
def test_inverse_of_chains_and_stars(parents: tuple[int, ...]) -> None:
    assert_inverse(Skeleton(parents))


def test_unit_and_lengths() -> None:
    bones = torch.tensor([[3.0, 0.0, 4.0], [0.0, -0.5, 0.0]])
    assert torch.equal(lengths(bones), torch.tensor([5.0, 0.5]))
    assert torch.allclose(unit(bones), torch.tensor([[0.6, 0.0, 0.8], [0.0, -1.0, 0.0]]))


def test_zero_bones_stay_zero_and_finite() -> None:
    bones = torch.zeros(2, 3, requires_grad=True)
    assert torch.equal(unit(bones), torch.zeros(2, 3))
    assert torch.equal(lengths(bones), torch.zeros(2))
    (length_gradient,) = torch.autograd.grad(lengths(bones).sum(), bones)
    (unit_gradient,) = torch.autograd.grad(unit(bones).sum(), bones)
    assert torch.equal(length_gradient, torch.zeros(2, 3))
    assert unit_gradient.isfinite().all()


def test_part_kcs_equals_a_slow_loop_over_the_published_parts() -> None:
    bones = torch.randn(4, 15, 3, generator=generator())
    fast = part_kcs(bones, PUBLISHED_PARTS)
    assert fast.shape == (4, 5, 7, 7)
    slow = torch.zeros(4, 5, 7, 7)
    for row in range(4):
        for number, part in enumerate(PUBLISHED_PARTS):
            for i, first in enumerate(part):
                for j, second in enumerate(part):
                    slow[row, number, i, j] = torch.dot(bones[row, first], bones[row, second])
    assert torch.allclose(fast, slow, atol=1e-6)


def test_kcs_of_unit_bones_has_cosines_and_equals_part_kcs_of_one_part() -> None:
    bones = torch.tensor([[2.0, 0.0, 0.0], [3.0, 3.0, 0.0]])
    cosine = 0.5**0.5
    expected = torch.tensor([[1.0, cosine], [cosine, 1.0]])
    assert torch.allclose(kcs(unit(bones)), expected)
    assert torch.allclose(part_kcs(unit(bones), ((0, 1),))[0], expected)
    assert torch.equal(kcs(bones), torch.tensor([[4.0, 6.0], [6.0, 18.0]]))


@pytest.mark.parametrize(
    "function",
    [
        lambda pose: pose_to_bones(pose, H36M),
        lambda pose: bones_to_pose(pose[..., 1:, :], H36M),
        lambda pose: unit(pose_to_bones(pose, H36M)),
        lambda pose: lengths(pose_to_bones(pose, H36M)),
        kcs,
        lambda pose: part_kcs(pose, PUBLISHED_PARTS),
    ],
    ids=["pose_to_bones", "bones_to_pose", "unit", "lengths", "kcs", "part_kcs"],
)
def test_gradients(function) -> None:
    assert gradients_are_right(function, random_poses(H36M, 1))


@pytest.mark.parametrize("function", [pose_to_bones, bones_to_pose])
@pytest.mark.parametrize("shape", [(5, 17, 3), (5, 16, 2), (3,)])
def test_error_shows_the_given_and_the_expected_shape(function, shape: tuple[int, ...]) -> None:
    with pytest.raises(SkeletonError) as caught:
        function(torch.zeros(shape), H36M)
    expected = "(..., 16, 3)" if function is pose_to_bones else "(..., 15, 3)"
    assert str(shape) in str(caught.value)
    assert expected in str(caught.value)


def test_a_first_call_in_inference_mode_does_not_break_later_training() -> None:
    def loss(pose: Tensor) -> Tensor:
        return pose_to_bones(pose, H36M).square().sum()

    index_tensor.cache_clear()
    with torch.inference_mode():
        loss(random_poses(H36M))
    (gradient,) = torch.autograd.grad(loss(pose := random_poses(H36M).requires_grad_()), pose)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    "make",
    [
        lambda dtype, device: constant((0.25, 71.0), dtype, device),
        lambda dtype, device: identity(7, dtype, device),
        lambda dtype, device: matrix([[1.0, 2.0]], dtype, device, dims=3),
        lambda dtype, device: group_matrix(SKELETONS["humaneva_15"], dtype, device),
    ],
    ids=["constant", "identity", "matrix", "group_matrix"],
)
def test_constants_that_are_first_made_in_inference_mode_take_part_in_autograd(make) -> None:
    with torch.inference_mode():
        made = make(torch.float64, torch.device("cpu"))
    assert not made.is_inference()
    x = torch.ones_like(made, requires_grad=True)
    (x * made).sum().backward()
    assert torch.equal(x.grad, make(torch.float64, torch.device("cpu")))


def test_the_group_matrix_sums_over_mirrored_bones_or_averages() -> None:
    per_bone = torch.arange(15.0)
    sums = per_bone @ group_matrix(H36M, torch.float32, torch.device("cpu"))
    assert sums.tolist() == [3, 5, 7, 6, 7, 8, 21, 23, 25]
    means = per_bone @ group_matrix(H36M, torch.float32, torch.device("cpu"), mean=True)
    assert means.tolist() == [1.5, 2.5, 3.5, 6, 7, 8, 10.5, 11.5, 12.5]


def test_body_axes_of_a_standing_person_point_right_up_and_backward() -> None:
    """The person faces the camera: his right is at the image's left, and y points down."""
    axes = body_axes(unit(STANDING), H36M)
    across, up, backward = axes.unbind(-1)
    assert across.tolist() == pytest.approx([-1, 0, 0], abs=1e-6)
    assert up[1] < -0.99
    assert backward[2] > 0.99


def test_body_axes_follow_the_hips_and_the_first_bone_of_the_trunk() -> None:
    """Whatever the upper trunk does, and whatever else hangs on the root in pairs."""
    bent = STANDING.clone()
    bent[7:9] = torch.tensor([[0.0, 0.0, -0.25], [0.25, 0.0, 0.0]])  # leaning forward and aside
    assert torch.allclose(body_axes(unit(bent), H36M), body_axes(unit(STANDING), H36M))
    tilted = STANDING.clone()
    tilted[6] = torch.tensor([0.0, -0.24, -0.24])
    _, up, _ = body_axes(unit(tilted), H36M).unbind(-1)
    assert up.tolist() == pytest.approx([0, -(0.5**0.5), -(0.5**0.5)], abs=1e-6)
    # Pelvis, hips, a pair of wings on the pelvis, spine and shoulders.
    winged = Skeleton([-1, 0, 0, 0, 0, 0, 5, 5], left=(2, 4, 7), right=(1, 3, 6))
    assert upright_bones(winged) == (0, 1, 4)
    assert upright_bones(SKELETONS["coco_17"]) == upright_bones(SKELETONS["hand_21"]) == ()


def test_directions_do_not_depend_on_the_view_and_turn_back_with_the_axes() -> None:
    pose = people(3, 2)
    R = euler_to_matrix(torch.tensor([[2.0, 0.4, -0.3]]))[0]
    found, axes = directions(pose, H36M)
    turned, turned_axes = directions(pose @ R.mT, H36M)
    assert torch.allclose(turned, found, atol=1e-5)
    assert torch.allclose(turned_axes, R @ axes, atol=1e-5)
    assert torch.allclose(found @ axes.mT, unit(pose_to_bones(pose, H36M)), atol=1e-5)
    for frames in (pose, pose[:, 0], pose[0, 0]):  # any leading dimensions
        expected = directions(frames, H36M)[0]
        assert torch.allclose(Bones.of(frames, H36M).body_direction, expected, atol=1e-6)


def test_body_axes_of_few_root_bones() -> None:
    """Two bones: the second axis is along their sum. One: the axes are those of the camera."""
    two = torch.tensor([[1.0, -1.0, 0.0], [-1.0, -1.0, 0.0]])
    across, up, backward = body_axes(unit(two), Skeleton([-1, 0, 0])).unbind(-1)
    assert across.tolist() == pytest.approx([1, 0, 0])
    assert up.tolist() == pytest.approx([0, -1, 0])
    assert backward.tolist() == pytest.approx([0, 0, -1])
    chain = Skeleton([-1, 0, 1])
    axes = body_axes(torch.randn(5, 4, 2, 3, dtype=torch.float64), chain)
    assert torch.equal(axes, torch.eye(3, dtype=torch.float64).expand(5, 4, 3, 3))


def test_body_axes_use_the_last_of_several_root_bones() -> None:
    wrist = Skeleton([-1, 0, 0, 0])
    bones = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0], [0, 0, 1.0]])
    _, up, _ = body_axes(bones, wrist).unbind(-1)
    assert up.tolist() == pytest.approx([0, 0, 1])


def test_copies_of_bones_have_their_own_axes() -> None:
    """Axes are cached: those of picked rows and single frames are picked with them."""
    bones = Bones.of(people(4, 3), H36M)
    fresh = Bones.of(people(4, 3)[[2, 0]], H36M)
    assert torch.allclose(bones.pick(torch.tensor([2, 0])).axes, fresh.axes)
    assert bones.axes is bones.axes
    assert torch.allclose(bones.pick(torch.tensor([2, 0])).axes, fresh.axes)
    assert torch.allclose(bones.frame(1).axes, bones.axes[:, 1])
    bent = bones.bend(torch.full((4, 1, 15, 3), 0.7))
    assert not torch.allclose(bent.axes, bones.axes)


def test_a_bone_of_zero_length_is_not_bent_and_one_that_is_cancelled_stays() -> None:
    """In the other bones, steps are added and the result has unit length."""
    chain = Skeleton([-1, 0, 1, 2])
    bones = Bones.of(torch.tensor([[0.0, 0, 4], [0, 2, 4], [0, 2, 4], [0, 2, 5]]), chain)
    bent = bones.bend(torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, -1]]))
    diagonal = 0.5**0.5
    wanted = torch.tensor([[diagonal, diagonal, 0], [0, 0, 0], [0, 0, 1]])
    assert torch.allclose(bent.direction, wanted)
    assert bent.length is bones.length
