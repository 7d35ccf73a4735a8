"""Rare poses are told from common ones, whatever the view, the place and the body."""

from __future__ import annotations

import pytest
import torch

from helpers import H36M, PRESETS, generator, people, random_poses
from poseaug_plugin.operators import axis_angle_to_matrix, move, stretch
from poseaug_plugin.rarity import Rarity, body_directions
from poseaug_plugin.skeleton import SKELETONS, Skeleton


def relative(rows: int, seed: int = 0) -> torch.Tensor:
    pose = people(rows, seed=seed)[:, 0].float()
    return pose - pose[:, :1]


def everyone(rows: int) -> torch.Tensor:
    return torch.ones(rows, dtype=torch.bool)


def test_directions_turn_with_the_body_and_know_no_size() -> None:
    pose = relative(5)
    R = axis_angle_to_matrix(torch.randn(5, 3, generator=generator()))
    other = move(stretch(pose, torch.full((5, 9), 0.2), H36M), R, 4 + R[:, 0], H36M)
    assert torch.allclose(body_directions(other, H36M), body_directions(pose, H36M), atol=1e-5)


def test_directions_tell_forward_from_backward() -> None:
    """As cosines between bones would not."""
    pose = relative(1)
    mirrored = pose * torch.tensor([1.0, 1.0, -1.0])
    here, there = body_directions(pose, H36M), body_directions(mirrored, H36M)
    assert (here[..., :2] - there[..., :2]).abs().max() < 1e-5
    assert torch.allclose(here[..., 2], -there[..., 2], atol=1e-5)


def test_the_axes_are_hips_and_spine() -> None:
    pose = torch.zeros(1, 16, 3)
    pose[:, 1, 0], pose[:, 4, 0], pose[:, 7, 1] = -0.1, 0.1, -0.2  # right, left, up on the screen
    found = body_directions(pose, H36M)[0]
    assert torch.allclose(found[0].abs(), torch.tensor([1.0, 0.0, 0.0]), atol=1e-5)
    assert torch.allclose(found[6], torch.tensor([0.0, 1.0, 0.0]), atol=1e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_any_skeleton_has_finite_directions(name: str) -> None:
    skeleton = SKELETONS[name]
    for pose in (
        random_poses(skeleton, 4, dtype=torch.float32),
        torch.zeros(4, skeleton.num_joints, 3),
    ):
        assert body_directions(pose, skeleton).isfinite().all()


def test_a_chain_has_the_cameras_directions() -> None:
    chain = Skeleton((-1, 0, 1))
    pose = torch.tensor([[[0.0, 0, 0], [0, 2, 0], [3, 2, 0]]])
    wanted = torch.tensor([[[0.0, 1, 0], [1, 0, 0]]])
    assert torch.allclose(body_directions(pose, chain), wanted)


def test_first_batch_is_whitened_by_its_own_moments() -> None:
    pose = relative(400)
    distance = Rarity(H36M)(pose, everyone(400))
    x = body_directions(pose, H36M).flatten(1).double()
    spread = x - x.mean(0)
    cov = spread.T @ spread / len(x) + 1e-3 * torch.eye(45, dtype=torch.float64)
    wanted = ((spread @ cov.inverse()) * spread).mean(1).sqrt()
    assert torch.allclose(distance.double(), wanted, rtol=1e-3)


def test_a_pose_unlike_the_others_is_rare_and_becomes_common_when_seen_often() -> None:
    walking, kick = relative(300), relative(1, seed=5)
    kick[:, 2:4] += torch.tensor([0.3, -0.5, 0.4])  # a leg in the air
    rarity = Rarity(H36M)
    first = rarity(torch.cat([walking, kick]), everyone(301))
    assert first[-1] > 2 * first[:-1].mean()
    crowd = torch.cat([walking, kick.expand(300, -1, -1)])
    for _ in range(100):
        later = rarity(crowd, everyone(600))
    assert later[-1] < 0.6 * first[-1]


def test_rows_that_do_not_count_are_zero_and_move_nothing() -> None:
    pose = relative(50)
    padded = torch.cat([pose, torch.zeros(10, 16, 3)])
    valid = torch.arange(60) < 50
    alone, among = Rarity(H36M), Rarity(H36M)
    wanted, found = alone(pose, everyone(50)), among(padded, valid)
    assert torch.allclose(found[:50], wanted, rtol=1e-4)
    assert (found[50:] == 0).all()
    assert torch.allclose(among.mean, alone.mean, atol=1e-6)


def test_it_goes_on_where_it_was_saved() -> None:
    first = Rarity(H36M)
    first(relative(40), everyone(40))
    second = Rarity(H36M)
    second.load_state_dict(first.state_dict())
    more = relative(30, seed=1)
    assert torch.equal(first(more, everyone(30)), second(more, everyone(30)))
