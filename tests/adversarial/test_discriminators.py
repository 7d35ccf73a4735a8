"""Both judges against slow loops that run one plain network at a time."""

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


def slow_score(judge: Discriminator3d, pose: Tensor, net: int, part: tuple[int, ...]) -> Tensor:
    """One path of one pose: cosines of its own bones only, five plain linear layers."""
    bones = []
    for bone in part:
        child, parent = bone + 1, H36M.parents[bone + 1]  # h36m_16: the root is joint 0
        bones.append((pose[child] - pose[parent]) / (pose[child] - pose[parent]).norm())
    psi = torch.stack([torch.dot(a, b) for a in bones for b in bones])
    firsts = [(layer, path) for layer in judge.first for path in range(len(layer.weight))]
    h1 = F.leaky_relu(linear(*firsts[net], psi))
    h2 = F.leaky_relu(linear(judge.second, net, h1))
    h3 = linear(judge.third, net, h2) + h1
    return linear(judge.score, net, F.leaky_relu(linear(judge.last, net, h3)))[0]


@pytest.mark.parametrize(
    ("kcs", "parts"), [("parts", PUBLISHED_PARTS), ("whole", (tuple(range(15)),))]
)
def test_3d_judge_equals_a_slow_loop(kcs: str, parts: tuple[tuple[int, ...], ...]) -> None:
    judge = Discriminator3d(H36M, generator(), kcs=kcs, width=24)
    pose = people(4)[:, 0]
    scores = judge(unit_bones(pose))
    assert scores.shape == (4, len(parts))
    for row in range(4):
        for net, part in enumerate(parts):
            wanted = slow_score(judge, pose[row], net, part)
            assert torch.allclose(scores[row, net], wanted, atol=1e-5)


def test_3d_judge_has_the_published_sizes() -> None:
    judge = Discriminator3d(H36M, generator())
    first = [(2, 16, 256), (2, 25, 256), (1, 49, 256)]
    assert [tuple(layer.weight.shape) for layer in judge.first] == first
    layers = (judge.second, judge.third, judge.last, judge.score)
    sizes = [(256, 256), (256, 256), (256, 100), (100, 1)]
    assert [tuple(layer.weight.shape) for layer in layers] == [(5, *size) for size in sizes]


def test_each_path_of_the_3d_judge_starts_with_the_spread_of_the_whole_bodys() -> None:
    """As released, where a path takes the KCS of 15 bones with zeros outside its part."""
    judge = Discriminator3d(H36M, generator())
    for layer in judge.first:
        spread, edge = layer.weight.detach().std((1, 2)), layer.bias.detach().abs().amax((1, 2))
        assert torch.allclose(spread, torch.full_like(spread, math.sqrt(2) / 15), rtol=0.03)
        assert torch.allclose(edge, torch.full_like(edge, 1 / 15), rtol=0.05)


def test_3d_judge_looks_at_angles_alone() -> None:
    """Neither the view, nor the place, nor bone lengths change a score."""
    judge = Discriminator3d(H36M, generator())
    pose = people(3)[:, 0]
    R = axis_angle_to_matrix(torch.randn(3, 3, generator=generator(1)))
    other = move(stretch(pose, torch.rand(3, 9, generator=generator(2)), H36M), R, R[:, 0], H36M)
    assert torch.allclose(judge(unit_bones(other)), judge(unit_bones(pose)), atol=1e-4)
    knee = pose.clone()
    knee[:, 3] += 0.2
    changed = (judge(unit_bones(knee)) - judge(unit_bones(pose))).abs().amax(0) > 1e-4
    assert changed.tolist() == [False, False, True, False, False]  # the right leg's path alone


def test_2d_judge_equals_a_slow_loop() -> None:
    judge = Discriminator2d(H36M, generator(), width=12)
    pose = random_poses(H36M, 5, dtype=torch.float32)[..., :2]
    scores = judge(pose)
    assert scores.shape == (5, 1)
    for row in range(5):
        h1 = F.leaky_relu(linear(judge.first, 0, pose[row].flatten()))
        h2 = F.leaky_relu(linear(judge.second, 0, h1))
        h3 = F.leaky_relu(linear(judge.third, 0, h2) + h1)
        last = F.leaky_relu(linear(judge.last, 0, linear(judge.fourth, 0, h3)))
        assert torch.allclose(scores[row], linear(judge.score, 0, last), atol=1e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_both_judge_any_skeleton_and_every_weight_learns(name: str) -> None:
    skeleton = SKELETONS[name]
    pose = random_poses(skeleton, 6, dtype=torch.float32)
    d3d, d2d = Discriminator3d(skeleton, generator()), Discriminator2d(skeleton, generator())
    loss = d3d(unit_bones(pose, skeleton)).square().sum() + d2d(pose[..., :2]).square().sum()
    loss.backward()
    for parameter in (*d3d.parameters(), *d2d.parameters()):
        assert parameter.grad is not None
        assert parameter.grad.flatten(1).ne(0).any(1).all()  # in every path


def test_a_pose_of_zero_bones_is_judged_without_nan() -> None:
    pose = torch.zeros(2, 16, 3, requires_grad=True)
    scores = Discriminator3d(H36M, generator())(unit_bones(pose))
    assert scores.isfinite().all()
    (gradient,) = torch.autograd.grad(scores.sum(), pose)
    assert gradient.isfinite().all()


def test_a_part_of_many_bones_does_not_widen_the_others() -> None:
    """A face of 68 points on the head: each part has weights for its own bones alone."""
    parents = (*H36M.parents, *[9] * 68)
    judge = Discriminator3d(Skeleton(parents, H36M.left, H36M.right), generator(), width=8)
    weights = sum(layer.weight.numel() for layer in judge.first)
    assert weights == 8 * sum(len(part) ** 2 for group in judge.groups for part in group)
