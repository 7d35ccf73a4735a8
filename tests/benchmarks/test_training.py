"""The shared training step, batches and predictions."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from benchmarks.training import ShuffledBatches, centre_frame, predict, train_step, window_rows
from helpers import generator
from poseaug_plugin.data import synthetic


class CentreLifter(nn.Module):
    """A linear lifter of the centre frame; (B, T, J, 2) to (B, 1, J, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(2, 3)

    def forward(self, pose_2d: Tensor) -> Tensor:
        out: Tensor = self.map(pose_2d[:, pose_2d.shape[1] // 2][:, None])
        return out


@pytest.mark.parametrize("max_norm", [None, 0.1])
def test_a_step_is_one_update_towards_the_centre_frame(max_norm: float | None) -> None:
    torch.manual_seed(0)
    model = CentreLifter()
    expected = copy.deepcopy(model)
    pose_2d = torch.randn(4, 5, 16, 2, generator=generator())
    pose_3d = torch.randn(4, 5, 16, 3, generator=generator()) + 3
    batch = (pose_3d, pose_2d, torch.arange(4), torch.zeros(4, 9))
    loss = train_step(model, torch.optim.SGD(model.parameters(), lr=0.1), batch, max_norm)

    error = expected(pose_2d)[:, 0] - (pose_3d[:, 2] - pose_3d[:, 2, :1])
    error.square().mean().backward()
    if max_norm is not None:
        nn.utils.clip_grad_norm_(expected.parameters(), max_norm)
    assert not loss.requires_grad
    assert float(loss) == pytest.approx(float(error.detach().square().mean()))
    for ours, theirs in zip(model.parameters(), expected.parameters()):
        assert theirs.grad is not None
        assert torch.allclose(ours, theirs - 0.1 * theirs.grad)


def test_the_centre_frame_of_single_frames_is_the_frame() -> None:
    poses = torch.randn(3, 16, 3)
    assert centre_frame(poses) is poses


def test_batches_depend_on_the_seed_only_and_every_epoch_has_a_new_order() -> None:
    pairs = synthetic.make()[0][:100]
    batches = ShuffledBatches(pairs, 32, seed=1)
    assert len(batches) == 3
    first, second = ([rows for _, _, rows, _ in batches] for _ in range(2))
    again = [rows for _, _, rows, _ in ShuffledBatches(pairs, 32, seed=1)]
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], second[0])
    assert len(torch.cat(first).unique()) == 96


def test_windows_are_in_the_order_of_single_frames() -> None:
    pairs = synthetic.make()[0][:100]
    batches = zip(ShuffledBatches(pairs, 32, seed=1), ShuffledBatches(pairs, 32, seed=1, frames=5))
    for single, window in batches:
        around = window_rows(pairs, 5)[single[2]]
        expected = (pairs.pose_3d[around], pairs.pose_2d[around], *single[2:])
        assert all(map(torch.equal, window, expected))


def test_every_frame_is_predicted_from_its_window() -> None:
    """By a lifter that is told apart in training mode."""
    pairs = synthetic.make()[0][:100]
    model = nn.Sequential(nn.Dropout(0.9), CentreLifter())
    expected = model[1].map(pairs.pose_2d)
    torch.testing.assert_close(predict(model, pairs, frames=5), expected)
