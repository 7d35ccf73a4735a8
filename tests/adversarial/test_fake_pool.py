"""The pool of past fakes: it returns rows that were put in, and loses none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from helpers import generator
from poseaug_plugin.adversarial.fake_pool import FakePool


def numbered(start: int, count: int, *shape: int) -> Tensor:
    """Rows (count, *shape), each filled with its own number."""
    rows = torch.arange(start, start + count, dtype=torch.float32)
    return rows.view(-1, *[1] * len(shape)).expand(count, *shape).clone()


def numbers(rows: Tensor) -> list[int]:
    assert (rows.flatten(1) == rows.flatten(1)[:, :1]).all()  # no row is a mixture
    return [int(n) for n in rows.flatten(1)[:, 0]]


@pytest.mark.parametrize("shape", [(1,), (16, 2), (9, 16, 3)])
def test_the_pool_is_filled_and_then_rows_are_swapped(shape: tuple[int, ...]) -> None:
    pool, rng = FakePool(10), generator()
    before = rng.get_state()
    for start in (0, 4):
        assert numbers(pool(numbered(start, 4, *shape), rng)) == [*range(start, start + 4)]
    assert torch.equal(rng.get_state(), before)  # no random numbers before the pool is full
    assert numbers(pool.items)[:8] == list(range(8))
    assert numbers(pool(numbered(8, 4, *shape), rng))[:2] == [8, 9]  # the pool had two free slots
    for start in range(12, 72, 6):
        before = numbers(pool.items)
        out = numbers(pool(numbered(start, 6, *shape), rng))
        assert sorted(out + numbers(pool.items)) == sorted([*before, *range(start, start + 6)])
        # Each row is returned at its own index, or an old row in its place.
        assert all(n == start + i or n in before for i, n in enumerate(out))


def test_a_full_pool_swaps_about_half_of_the_rows() -> None:
    pool, rng = FakePool(1000), generator()
    pool(numbered(0, 1000, 2), rng)
    rows = numbered(1000, 1000, 2)
    out = pool(rows, rng)
    swapped = (out != rows).any(1)
    assert 0.4 < float(swapped.float().mean()) < 0.6
    assert sorted(numbers(out) + numbers(pool.items)) == list(
        range(2000)
    )  # no row twice, none lost
    returned = [n for n in numbers(out) if n < 1000]
    assert returned != sorted(returned)  # slots are random


def test_a_batch_may_be_larger_than_the_pool() -> None:
    pool, rng = FakePool(3), generator()
    first = pool(numbered(0, 8, 2), rng)
    assert numbers(first)[:3] == [0, 1, 2]
    for start in range(8, 80, 8):
        out = numbers(pool(numbered(start, 8, 2), rng))
        assert len(out) == 8
        assert max(out) < start + 8
    assert min(numbers(pool.items)) > 8  # old rows leave


def test_the_result_is_not_a_view_of_the_pool() -> None:
    pool, rng = FakePool(4), generator()
    rows = numbered(0, 4, 2)
    out = pool(rows, rng)
    out.fill_(-1.0)
    rows.fill_(-1.0)
    assert sorted(numbers(pool.items)) == [0, 1, 2, 3]


def test_state_round_trip() -> None:
    first, rng = FakePool(6), generator()
    first(numbered(0, 4, 3), rng)
    second, state = FakePool(6), first.state_dict()
    second.load_state_dict(state, torch.device("cpu"))
    copied_rng = generator()
    copied_rng.set_state(rng.get_state())
    for start in (4, 9, 14):
        rows = numbered(start, 5, 3)
        assert torch.equal(first(rows, rng), second(rows, copied_rng))


def test_a_loaded_state_is_not_changed_by_the_pool() -> None:
    first, rng = FakePool(4), generator()
    first(numbered(0, 4, 3), rng)
    state, pool = first.state_dict(), FakePool(4)
    pool.load_state_dict(state, torch.device("cpu"))
    pool(numbered(50, 8, 3), rng)
    assert sorted(numbers(state["items"])) == [0, 1, 2, 3]
    assert max(numbers(pool.items)) >= 50


def test_a_state_is_loaded_onto_the_device_of_the_networks() -> None:
    first, second = FakePool(4), FakePool(4)
    first(numbered(0, 4, 3), generator())
    second.load_state_dict(first.state_dict(), torch.device("meta"))
    assert second.items.device.type == "meta"


def test_state_round_trip_of_an_empty_pool() -> None:
    pool = FakePool(4)
    pool.load_state_dict(FakePool(4).state_dict(), torch.device("cpu"))
    assert torch.equal(pool(numbered(0, 2, 3), generator()), numbered(0, 2, 3))


def test_rows_that_no_longer_fit_are_swapped_in_the_same_call() -> None:
    pool, rng = FakePool(4), generator()
    pool(numbered(0, 3, 2), rng)
    out = numbers(pool(numbered(3, 200, 2), rng))
    assert out[0] == 3  # the last free slot
    assert sum(n != 3 + i for i, n in enumerate(out)) > 50
    assert sorted(out + numbers(pool.items)) == sorted([*range(203), 3])  # none is lost
