"""Limbs change bodies whole, and a bend takes along what hangs on the bone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from helpers import H36M, PRESETS, generator, people, random_poses
from poseaug_plugin.augment import recombine
from poseaug_plugin.geometry.bones import directions, unit
from poseaug_plugin.geometry.skeleton import SKELETONS, Skeleton

TORSO = [0, 3, 6, 7, 8, 9, 12]
LIMBS = [[1, 2], [4, 5], [10, 11], [13, 14]]  # bones of legs and arms


def exchange_limbs(directions: Tensor, skeleton: Skeleton, draws: torch.Generator) -> Tensor:
    """Of (B, K, 3), as the rest of the package has them."""
    return recombine.exchange_limbs(directions.permute(1, 2, 0), skeleton, draws).permute(2, 0, 1)


def bend_chain(directions: Tensor, steps: Tensor, skeleton: Skeleton) -> Tensor:
    """The same for bends."""
    rows_last = (x.permute(1, 2, 0) for x in (directions, steps))
    return recombine.bend_chain(*rows_last, skeleton).permute(2, 0, 1)


def held(rows: int, skeleton: Skeleton = H36M, seed: int = 0) -> Tensor:
    """Directions of random poses, float64."""
    pose = people(rows, seed=seed)[:, 0] if skeleton is H36M else random_poses(skeleton, rows)
    return directions(pose.double(), skeleton)[0]


def steps(like: Tensor, size: float = 0.4) -> Tensor:
    drawn = torch.randn(like.shape, generator=generator(3), dtype=torch.float64)
    return size * drawn


def angle(directions: Tensor, first: int, second: int) -> Tensor:
    return (directions[:, first] * directions[:, second]).sum(-1)


def test_each_piece_comes_whole_from_one_row() -> None:
    given = held(30)
    made = exchange_limbs(given, H36M, generator())
    sources = []
    for piece in (TORSO, *LIMBS):
        same = (made[:, None, piece] == given[None, :, piece]).all(-1).all(-1)  # (to, from)
        assert (same.sum(1) == 1).all()
        assert (same.sum(0) == 1).all()  # no row's limb is lost
        sources.append(same.float().argmax(1))
    assert all((a != b).any() for a in sources for b in sources if a is not b)


@pytest.mark.parametrize("name", PRESETS)
def test_on_any_skeleton_every_bone_has_a_source(name: str) -> None:
    skeleton = SKELETONS[name]
    given = held(8, skeleton)
    made = exchange_limbs(given, skeleton, generator())
    for bone in range(skeleton.num_bones):
        rows = (made[:, None, bone] == given[None, :, bone]).all(-1)
        assert rows.any(1).all()
    bent = bend_chain(made, steps(made), skeleton)
    assert torch.allclose(bent.norm(dim=-1), torch.ones(()).double())


def test_one_row_keeps_its_limbs() -> None:
    given = held(1)
    assert torch.equal(exchange_limbs(given, H36M, generator()), given)


def test_no_step_no_bend() -> None:
    given = held(5)
    assert torch.allclose(bend_chain(given, torch.zeros_like(given), H36M), given)


def test_what_hangs_on_a_bone_turns_with_it() -> None:
    """A bent thigh takes the shin along, and nothing else moves."""
    given = held(20)
    step = torch.zeros_like(given)
    step[:, 1] = steps(given)[:, 1]
    bent = bend_chain(given, step, H36M)
    assert torch.allclose(bent[:, 1], unit(given[:, 1] + step[:, 1]))
    assert (angle(bent, 1, 2) - angle(given, 1, 2)).abs().max() < 1e-9
    assert ((bent - given)[:, 2].norm(dim=-1) > 1e-3).all()
    others = [k for k in range(15) if k not in (1, 2)]
    assert torch.allclose(bent[:, others], given[:, others])


def test_the_turn_is_the_smallest() -> None:
    """A direction at right angles to both ends of a bend stays where it is."""
    chain = Skeleton((-1, 0, 1))
    given = torch.tensor([[[1.0, 0, 0], [0, 0, 1]]], dtype=torch.float64)
    step = torch.tensor([[[-1.0, 1, 0], [9, 9, 9]]], dtype=torch.float64)
    wanted = torch.tensor([[[0.0, 1, 0], [0, 0, 1]]], dtype=torch.float64)
    assert torch.allclose(bend_chain(given, step, chain), wanted)


def test_a_bent_trunk_takes_head_and_arms_along() -> None:
    given = held(20)
    step = torch.zeros_like(given)
    step[:, 6] = steps(given)[:, 6]
    bent = bend_chain(given, step, H36M)
    above = range(7, 15)
    before = given[:, above] @ given[:, above].mT
    assert torch.allclose(bent[:, above] @ bent[:, above].mT, before)
    assert torch.allclose(bent[:, :6], given[:, :6])


def test_last_bones_have_no_step_of_their_own() -> None:
    given = held(20)
    bent = bend_chain(given, steps(given), H36M)
    for last, before in ((2, 1), (5, 4), (11, 10), (14, 13), (8, 7)):
        assert (angle(bent, last, before) - angle(given, last, before)).abs().max() < 1e-9


def test_a_bone_without_length_bends_nothing() -> None:
    given, step = held(4), torch.zeros(4, 15, 3).double()
    given[:, 1], step[:, 1] = 0, 1
    assert torch.allclose(bend_chain(given, step, H36M), given)


def test_a_bend_to_the_opposite_side_is_finite() -> None:
    given = held(4)
    assert bend_chain(given, -2 * given, H36M).isfinite().all()


def test_one_row_bends_as_well_and_is_not_written_to() -> None:
    given = held(1)
    before = given.clone()
    made = bend_chain(given, steps(given), H36M)
    assert torch.equal(given, before)
    assert not torch.allclose(made, given)
