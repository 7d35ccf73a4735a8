"""Past fakes: nothing is invented, nothing is lost before its time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from helpers import generator
from poseaug_plugin.adversarial.fake_pool import FakePool


def numbered(start: int, count: int, *shape: int) -> Tensor:
    """Rows that all differ, each filled with its number."""
    rows = torch.arange(start, start + count, dtype=torch.float32)
    return rows.view(-1, *[1] * len(shape)).expand(count, *shape).clone()


def numbers(rows: Tensor) -> list[int]:
    assert (rows.flatten(1) == rows.flatten(1)[:, :1]).all()  # no row is a mixture
    return [int(n) for n in rows.flatten(1)[:, 0]]


@pytest.mark.parametrize("shape", [(1,), (16, 2), (9, 16, 3)])
def test_fills_first_then_every_row_is_either_out_or_stored(shape: tuple[int, ...]) -> None:
    pool, rng = FakePool(10), generator()
    before = rng.get_state()
    for start in (0, 4):
        assert numbers(pool(numbered(start, 4, *shape), rng)) == [*range(start, start + 4)]
    assert torch.equal(rng.get_state(), before)  # nothing to draw for yet
    assert numbers(pool.items)[:8] == list(range(8))
    assert numbers(pool(numbered(8, 4, *shape), rng))[:2] == [8, 9]  # two more fit
    for start in range(12, 72, 6):
        before = numbers(pool.items)
        out = numbers(pool(numbered(start, 6, *shape), rng))
        assert sorted(out + numbers(pool.items)) == sorted([*before, *range(start, start + 6)])
        # A row that does not pass comes out at its own place, changed for an old one.
        assert all(n == start + i or n in before for i, n in enumerate(out))


def test_when_full_what_goes_in_is_kept_or_comes_out_and_about_half_is_swapped() -> None:
    pool, rng = FakePool(1000), generator()
    pool(numbered(0, 1000, 2), rng)
    rows = numbered(1000, 1000, 2)
    out = pool(rows, rng)
    swapped = (out != rows).any(1)
    assert 0.4 < float(swapped.float().mean()) < 0.6
    assert sorted(numbers(out) + numbers(pool.items)) == list(range(2000))  # none twice, none lost
    places = [n for n in numbers(out) if n < 1000]
    assert places != sorted(places)  # slots are random


def test_a_batch_may_be_larger_than_the_pool() -> None:
    pool, rng = FakePool(3), generator()
    first = pool(numbered(0, 8, 2), rng)
    assert numbers(first)[:3] == [0, 1, 2]
    for start in range(8, 80, 8):
        out = numbers(pool(numbered(start, 8, 2), rng))
        assert len(out) == 8
        assert max(out) < start + 8
    assert min(numbers(pool.items)) > 8  # old rows leave


def test_what_comes_out_is_no_view_of_the_pool() -> None:
    pool, rng = FakePool(4), generator()
    rows = numbered(0, 4, 2)
    out = pool(rows, rng)
    out.fill_(-1.0)
    rows.fill_(-1.0)
    assert sorted(numbers(pool.items)) == [0, 1, 2, 3]


def test_state_round_trip_goes_on_as_if_nothing_happened() -> None:
    one, rng = FakePool(6), generator()
    one(numbered(0, 4, 3), rng)
    two, state = FakePool(6), one.state_dict()
    two.load_state_dict(state, torch.device("cpu"))
    again = generator()
    again.set_state(rng.get_state())
    for start in (4, 9, 14):
        assert torch.equal(one(numbered(start, 5, 3), rng), two(numbered(start, 5, 3), again))


def test_an_empty_pool_saves_and_loads() -> None:
    pool = FakePool(4)
    pool.load_state_dict(FakePool(4).state_dict(), torch.device("cpu"))
    assert torch.equal(pool(numbered(0, 2, 3), generator()), numbered(0, 2, 3))
