"""Both discriminators, against loops that run one network at a time."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers import H36M, PRESETS, generator, people, random_poses, unit_bones
from poseaug_plugin.adversarial.discriminators import Discriminator2d, Discriminator3d
from poseaug_plugin.adversarial.layers import ParallelLinear
from poseaug_plugin.geometry.operators import axis_angle_to_matrix, move, stretch
from poseaug_plugin.geometry.skeleton import SKELETONS, Skeleton

PUBLISHED_PARTS = (  # in order of size
    *((7, 9, 10, 11), (7, 12, 13, 14)),
    *((0, 1, 2, 3, 6), (0, 3, 4, 5, 6)),
    (0, 3, 6, 7, 8, 9, 12),
)


def linear(layer: ParallelLinear, net: int, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight[net].T, layer.bias[net, 0])


def slow_score(d3d: Discriminator3d, pose: Tensor, net: int, part: tuple[int, ...]) -> Tensor:
    """The score of one part of one pose, with five linear layers on the cosines of its bones."""
    bones = []
    for bone in part:
        child, parent = bone + 1, H36M.parents[bone + 1]  # h36m_16: the root is joint 0
        bones.append((pose[child] - pose[parent]) / (pose[child] - pose[parent]).norm())
    psi = torch.stack([torch.dot(a, b) for a in bones for b in bones])
    firsts = [(layer, path) for layer in d3d.first for path in range(len(layer.weight))]
    h1 = F.leaky_relu(linear(*firsts[net], psi))
    h2 = F.leaky_relu(linear(d3d.second, net, h1))
    h3 = linear(d3d.third, net, h2) + h1
    return linear(d3d.score, net, F.leaky_relu(linear(d3d.last, net, h3)))[0]


@pytest.mark.parametrize(
    ("kcs", "parts"), [("parts", PUBLISHED_PARTS), ("whole", (tuple(range(15)),))]
)
def test_3d_discriminator_equals_a_loop(kcs: str, parts: tuple[tuple[int, ...], ...]) -> None:
    d3d = Discriminator3d(H36M, generator(), kcs=kcs, width=24)
    pose = people(4)[:, 0]
    scores = d3d(unit_bones(pose))
    assert scores.shape == (4, len(parts))
    for row in range(4):
        for net, part in enumerate(parts):
            expected = slow_score(d3d, pose[row], net, part)
            assert torch.allclose(scores[row, net], expected, atol=1e-5)


def test_3d_discriminator_has_the_published_sizes() -> None:
    d3d = Discriminator3d(H36M, generator())
    first = [(2, 16, 256), (2, 25, 256), (1, 49, 256)]
    assert [tuple(layer.weight.shape) for layer in d3d.first] == first
    layers = (d3d.second, d3d.third, d3d.last, d3d.score)
    sizes = [(256, 256), (256, 256), (256, 100), (100, 1)]
    assert [tuple(layer.weight.shape) for layer in layers] == [(5, *size) for size in sizes]


def test_initial_weights_have_the_scale_of_the_whole_kcs_matrix() -> None:
    """In the released code, the input of each path is the KCS matrix of all 15 bones."""
    d3d = Discriminator3d(H36M, generator())
    for layer in d3d.first:
        spread, edge = layer.weight.detach().std((1, 2)), layer.bias.detach().abs().amax((1, 2))
        assert torch.allclose(spread, torch.full_like(spread, math.sqrt(2) / 15), rtol=0.03)
        assert torch.allclose(edge, torch.full_like(edge, 1 / 15), rtol=0.05)


def test_3d_discriminator_sees_bone_angles_only() -> None:
    """The view, the position and bone lengths do not change a score."""
    d3d = Discriminator3d(H36M, generator())
    pose = people(3)[:, 0]
    R = axis_angle_to_matrix(torch.randn(3, 3, generator=generator(1)))
    other = move(stretch(pose, torch.rand(3, 9, generator=generator(2)), H36M), R, R[:, 0], H36M)
    assert torch.allclose(d3d(unit_bones(other)), d3d(unit_bones(pose)), atol=1e-4)
    knee = pose.clone()
    knee[:, 3] += 0.2
    changed = (d3d(unit_bones(knee)) - d3d(unit_bones(pose))).abs().amax(0) > 1e-4
    assert changed.tolist() == [False, False, True, False, False]  # only that of the right leg


def test_2d_discriminator_equals_a_loop() -> None:
    d2d = Discriminator2d(H36M, generator(), width=12)
    pose = random_poses(H36M, 5, dtype=torch.float32)[..., :2]
    scores = d2d(pose)
    assert scores.shape == (5, 1)
    for row in range(5):
        h1 = F.leaky_relu(linear(d2d.first, 0, pose[row].flatten()))
        h2 = F.leaky_relu(linear(d2d.second, 0, h1))
        h3 = F.leaky_relu(linear(d2d.third, 0, h2) + h1)
        last = F.leaky_relu(linear(d2d.last, 0, linear(d2d.fourth, 0, h3)))
        assert torch.allclose(scores[row], linear(d2d.score, 0, last), atol=1e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_every_weight_has_a_gradient_on_any_skeleton(name: str) -> None:
    skeleton = SKELETONS[name]
    pose = random_poses(skeleton, 6, dtype=torch.float32)
    d3d, d2d = Discriminator3d(skeleton, generator()), Discriminator2d(skeleton, generator())
    loss = d3d(unit_bones(pose, skeleton)).square().sum() + d2d(pose[..., :2]).square().sum()
    loss.backward()
    for parameter in (*d3d.parameters(), *d2d.parameters()):
        assert parameter.grad is not None
        assert parameter.grad.flatten(1).ne(0).any(1).all()  # in every path


def test_scores_and_gradients_of_zero_bones_are_finite() -> None:
    pose = torch.zeros(2, 16, 3, requires_grad=True)
    scores = Discriminator3d(H36M, generator())(unit_bones(pose))
    assert scores.isfinite().all()
    (gradient,) = torch.autograd.grad(scores.sum(), pose)
    assert gradient.isfinite().all()


def test_a_part_of_many_bones_does_not_enlarge_the_others() -> None:
    """With 68 face landmarks, each part still has weights for its own bones only."""
    parents = (*H36M.parents, *[9] * 68)
    d3d = Discriminator3d(Skeleton(parents, H36M.left, H36M.right), generator(), width=8)
    weights = sum(layer.weight.numel() for layer in d3d.first)
    assert weights == 8 * sum(len(part) ** 2 for group in d3d.groups for part in group)
