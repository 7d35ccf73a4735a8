"""The lifters: shapes, connections between joints, and that they learn."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from helpers import H36M, generator, people
from poseaug_plugin.lifters import (
    GraphLifter,
    SimpleBaseline,
    SpatialGraphLifter,
    TemporalLifter,
    VideoPose,
)

SINGLE: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: SimpleBaseline(width=32),
    "videopose": lambda: VideoPose(width=32),
    "semgcn": lambda: GraphLifter(width=16, blocks=2),
    "stgcn": lambda: SpatialGraphLifter(width=16, blocks=2),
}


def poses_2d(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, 16, 2, generator=generator(seed)) * 0.3


def reach(lifter: GraphLifter, convolution: nn.Module, joint: int) -> set[int]:
    """Joints whose features change when one joint's do, by one convolution in evaluation mode."""
    convolution.eval()
    x = torch.randn(16, 1, convolution.weight.shape[1], generator=generator())
    other = x.clone()
    other[joint] += 1
    apart = (convolution(x) - convolution(other)).abs().amax((1, 2))
    return set(apart.gt(1e-6).nonzero()[:, 0].tolist())


@pytest.mark.parametrize("name", SINGLE)
def test_one_pose_in_one_pose_out(name: str) -> None:
    lifter = SINGLE[name]()
    assert lifter(poses_2d(5)).shape == (5, 16, 3)
    lifter.eval()
    x = poses_2d(7)
    assert torch.allclose(lifter(x)[2:4], lifter(x[2:4]), atol=1e-5)  # rows are independent


@pytest.mark.parametrize("name", ["mlp", "videopose"])
def test_the_root_stays_at_the_origin(name: str) -> None:
    assert not SINGLE[name]()(poses_2d(4))[:, 0].any()


@pytest.mark.parametrize("name", SINGLE)
def test_every_parameter_learns(name: str) -> None:
    torch.manual_seed(0)
    lifter = SINGLE[name]()
    lifter(poses_2d(64)).square().mean().backward()
    for path, parameter in lifter.named_parameters():
        # The root's row of VideoPose's last layer is dropped, others are not.
        assert parameter.grad is not None, path
        assert parameter.grad.abs().sum() > 0, path


@pytest.mark.parametrize("name", SINGLE)
def test_it_learns(name: str) -> None:
    torch.manual_seed(0)
    target = people(256)[:, 0]
    x, y = target[..., :2] / target[..., 2:], target - target[:, :1]
    lifter = SINGLE[name]()
    optimizer = torch.optim.Adam(lifter.parameters(), lr=2e-2)
    losses = []
    for _ in range(60):
        loss = (lifter(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.25 * float(y.square().mean())


def test_videopose_is_nine_layers_of_one_frame() -> None:
    lifter = VideoPose()
    convolutions = [m for m in lifter.modules() if isinstance(m, nn.Conv1d)]
    assert len(convolutions) == 10  # nine and the shrinking one
    assert {m.kernel_size for m in convolutions} == {(1,)}
    assert lifter.pad == 0


def test_videopose_is_the_temporal_lifter_on_clips_of_one_frame() -> None:
    lifter = VideoPose(width=32).eval()
    x = poses_2d(6)
    slow = TemporalLifter.forward(lifter, x[:, None])[:, 0]
    assert torch.allclose(lifter(x)[:, 1:], slow[:, 1:], atol=1e-6)


def test_the_temporal_lifter_sees_27_frames() -> None:
    lifter = TemporalLifter(width=32).eval()
    x = torch.randn(2, 2 * lifter.pad + 1, 16, 2, generator=generator()).requires_grad_()
    out = lifter(x)
    assert out.shape == (2, 1, 16, 3)
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum((0, 2, 3)).gt(0).all()


def test_strided_windows_are_a_dilated_clip() -> None:
    lifter = TemporalLifter(width=8).eval()
    for buffer in (b for name, b in lifter.named_buffers() if "running" in name):
        nn.init.uniform_(buffer, 0.5, 1.5)
    clip = torch.randn(2, 31, 16, 2, generator=generator())
    h, step = clip.flatten(2).transpose(1, 2), 1
    for layer, mix in zip([lifter.expand, *lifter.layers], [None, *lifter.mixes]):
        before, (convolution, *rest) = h, layer
        h = nn.functional.conv1d(h, convolution.weight, dilation=step)
        h = nn.Sequential(*rest)(h)
        if mix is not None:
            h = before[:, :, step:-step] + mix(h)
        step *= 3
    slow = lifter.shrink(h).transpose(1, 2).unflatten(-1, (16, 3))
    windows = clip.unfold(1, 27, 1).movedim(-1, 2)  # (2, 5, 27, 16, 2)
    fast = torch.cat([lifter(window) for window in windows.unbind(1)], 1)
    assert fast.shape == slow.shape == (2, 5, 16, 3)
    assert torch.allclose(fast, slow, atol=1e-6)


def test_fewer_output_joints() -> None:
    assert TemporalLifter(width=8, out_joints=15)(torch.zeros(2, 27, 16, 2)).shape == (2, 1, 15, 3)
    torch.manual_seed(0)
    lifter = VideoPose(width=8, out_joints=15).eval()
    pose = lifter(poses_2d(4))
    assert pose.shape == (4, 16, 3)
    assert not pose[:, 0].any()
    assert pose[:, 1:].abs().amin() > 0


def test_a_graph_convolution_mixes_joint_and_neighbours() -> None:
    lifter = GraphLifter(width=16, blocks=1)
    for joint in range(16):
        near = {joint, H36M.parents[joint], *H36M.children[joint]} - {-1}
        assert reach(lifter, lifter.first, joint) == near


def test_a_grouped_convolution_mixes_the_mirror_joint_too() -> None:
    lifter = SpatialGraphLifter(width=16, blocks=1)
    mirror = dict(zip(H36M.left + H36M.right, H36M.right + H36M.left))
    for joint in range(16):
        near = {joint, H36M.parents[joint], *H36M.children[joint], mirror.get(joint, joint)} - {-1}
        assert reach(lifter, lifter.first, joint) == near


def test_groups_share_no_edge_and_each_is_averaged() -> None:
    groups = SpatialGraphLifter.groups(H36M)
    assert groups.sum(0).max() == 1
    assert groups.sum((1, 2)).tolist() == [16, 15, 15, 12]
    assert groups[1, 3, 2]  # the knee is the parent of the ankle
    assert groups[2, 2, 3]
    edges = SpatialGraphLifter(width=4, blocks=1).first.edges().sum(-1)
    assert torch.allclose(edges, groups.any(-1).float())


def test_the_strengths_of_a_joint_sum_to_one() -> None:
    lifter = GraphLifter(width=4, blocks=1)
    nn.init.normal_(lifter.first.strength)
    assert torch.allclose(lifter.first.edges().sum((0, 2)), torch.ones(16))
