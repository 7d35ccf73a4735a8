"""Exchange of limbs between rows, and bends along kinematic chains."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from helpers import H36M, PRESETS, generator, people, random_poses
from poseaug_plugin.augment import recombine
from poseaug_plugin.geometry.bones import directions, unit
from poseaug_plugin.geometry.skeleton import SKELETONS, Skeleton

TORSO = [0, 3, 6, 7, 8, 9, 12]
LIMBS = [[1, 2], [4, 5], [10, 11], [13, 14]]  # the bones of legs and arms


def exchange_limbs(directions: Tensor, skeleton: Skeleton, rng: torch.Generator) -> Tensor:
    """`recombine.exchange_limbs` with the rows first: (B, K, 3)."""
    exchanged, _ = recombine.exchange_limbs(directions.permute(1, 2, 0), skeleton, rng)
    return exchanged.permute(2, 0, 1)


def bend_chain(directions: Tensor, steps: Tensor, skeleton: Skeleton) -> Tensor:
    """`recombine.bend_chain` with the rows first: (B, K, 3)."""
    rows_last = (x.permute(1, 2, 0) for x in (directions, steps))
    return recombine.bend_chain(*rows_last, skeleton).permute(2, 0, 1)


def body_directions(rows: int, skeleton: Skeleton = H36M, seed: int = 0) -> Tensor:
    """Unit bones (B, K, 3) of plausible or random poses in the body frame, float64."""
    pose = people(rows, seed=seed)[:, 0] if skeleton is H36M else random_poses(skeleton, rows)
    return directions(pose.double(), skeleton)[0]


def steps(like: Tensor, size: float = 0.4) -> Tensor:
    return size * torch.randn(like.shape, generator=generator(3), dtype=torch.float64)


def cosine(directions: Tensor, first: int, second: int) -> Tensor:
    return (directions[:, first] * directions[:, second]).sum(-1)


def test_each_part_is_taken_from_one_row() -> None:
    original = body_directions(30)
    exchanged = exchange_limbs(original, H36M, generator())
    sources = []
    for part in (TORSO, *LIMBS):
        same = (exchanged[:, None, part] == original[None, :, part]).all(-1).all(-1)  # (to, from)
        assert (same.sum(1) == 1).all()
        assert (same.sum(0) == 1).all()  # every part is used once
        sources.append(same.float().argmax(1))
    assert all((a != b).any() for a in sources for b in sources if a is not b)


def test_the_row_of_each_bone_is_told() -> None:
    original = body_directions(30)
    exchanged, rows = recombine.exchange_limbs(original.permute(1, 2, 0), H36M, generator())
    for bone in range(H36M.num_bones):
        assert torch.equal(exchanged[bone].T, original[rows[bone], bone])


@pytest.mark.parametrize("name", PRESETS)
def test_every_bone_is_taken_from_some_row_on_any_skeleton(name: str) -> None:
    skeleton = SKELETONS[name]
    original = body_directions(8, skeleton)
    exchanged = exchange_limbs(original, skeleton, generator())
    for bone in range(skeleton.num_bones):
        same = (exchanged[:, None, bone] == original[None, :, bone]).all(-1)
        assert same.any(1).all()
    bent = bend_chain(exchanged, steps(exchanged), skeleton)
    assert torch.allclose(bent.norm(dim=-1), torch.ones(()).double())


def test_a_single_row_keeps_its_limbs() -> None:
    original = body_directions(1)
    assert torch.equal(exchange_limbs(original, H36M, generator()), original)


def test_zero_steps_change_nothing() -> None:
    original = body_directions(5)
    assert torch.allclose(bend_chain(original, torch.zeros_like(original), H36M), original)


def test_child_bones_rotate_with_a_bent_bone() -> None:
    """If the thigh is bent, the shin rotates with it, and no other bone moves."""
    original = body_directions(20)
    step = torch.zeros_like(original)
    step[:, 1] = steps(original)[:, 1]
    bent = bend_chain(original, step, H36M)
    assert torch.allclose(bent[:, 1], unit(original[:, 1] + step[:, 1]))
    assert (cosine(bent, 1, 2) - cosine(original, 1, 2)).abs().max() < 1e-9
    assert ((bent - original)[:, 2].norm(dim=-1) > 1e-3).all()
    others = [k for k in range(15) if k not in (1, 2)]
    assert torch.allclose(bent[:, others], original[:, others])


def test_child_bones_rotate_by_the_smallest_rotation() -> None:
    """A child bone perpendicular to the bone before and after the bend does not move."""
    chain = Skeleton((-1, 0, 1))
    original = torch.tensor([[[1.0, 0, 0], [0, 0, 1]]], dtype=torch.float64)
    step = torch.tensor([[[-1.0, 1, 0], [9, 9, 9]]], dtype=torch.float64)
    expected = torch.tensor([[[0.0, 1, 0], [0, 0, 1]]], dtype=torch.float64)
    assert torch.allclose(bend_chain(original, step, chain), expected)


def test_head_and_arms_rotate_with_a_bent_spine() -> None:
    original = body_directions(20)
    step = torch.zeros_like(original)
    step[:, 6] = steps(original)[:, 6]
    bent = bend_chain(original, step, H36M)
    upper_body = range(7, 15)
    before = original[:, upper_body] @ original[:, upper_body].mT
    assert torch.allclose(bent[:, upper_body] @ bent[:, upper_body].mT, before)
    assert torch.allclose(bent[:, :6], original[:, :6])


def test_leaf_bones_ignore_their_steps() -> None:
    original = body_directions(20)
    bent = bend_chain(original, steps(original), H36M)
    for leaf, parent in ((2, 1), (5, 4), (11, 10), (14, 13), (8, 7)):
        assert (cosine(bent, leaf, parent) - cosine(original, leaf, parent)).abs().max() < 1e-9


def test_a_bone_of_zero_length_does_not_bend() -> None:
    original, step = body_directions(4), torch.zeros(4, 15, 3).double()
    original[:, 1], step[:, 1] = 0, 1
    assert torch.allclose(bend_chain(original, step, H36M), original)


def test_a_bend_to_the_opposite_direction_is_finite() -> None:
    original = body_directions(4)
    assert bend_chain(original, -2 * original, H36M).isfinite().all()


def test_a_single_row_is_bent_and_the_input_is_not_modified() -> None:
    original = body_directions(1)
    before = original.clone()
    bent = bend_chain(original, steps(original), H36M)
    assert torch.equal(original, before)
    assert not torch.allclose(bent, original)
