"""What a rank sends and makes of the answers; `behaviour/test_distributed` runs real ranks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data.distributed import DistributedSampler

from helpers import H36M
from loop_helpers import attached, loader, same, small, snapshot, train
from poseaug_plugin import AttachError, PoseAugConfig
from poseaug_plugin.adversarial import collapse
from poseaug_plugin.adversarial.collapse import CollapseWatch
from poseaug_plugin.adversarial.trainer import Trainer
from poseaug_plugin.augment.sampler import Sampler
from poseaug_plugin.loop.distributed import (
    all_agree,
    average,
    on_all_ranks,
    rank,
    synchronised,
    world_size,
)

CPU = torch.device("cpu")


class World:
    """Four ranks, of which this one is real; `others` makes the others' messages from its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rank: int = 0) -> None:
        self.messages: list[Tensor] = []
        self.others: Callable[[Tensor], list[Tensor]] = lambda own: [own, own, own]
        for name, value in (("is_initialized", True), ("get_world_size", 4), ("get_rank", rank)):
            monkeypatch.setattr(dist, name, lambda value=value: value)
        monkeypatch.setattr(dist, "all_reduce", self._all_reduce)
        # Another test of the same process may have started accelerate.
        monkeypatch.delitem(sys.modules, "accelerate", raising=False)

    def _all_reduce(self, tensor: Tensor, op: Any = dist.ReduceOp.SUM) -> None:
        self.messages.append(tensor.clone())
        every = torch.stack([tensor, *self.others(tensor.clone())])
        reduced = {dist.ReduceOp.SUM: every.sum(0), dist.ReduceOp.MIN: every.amin(0)}
        tensor.copy_(reduced[op])


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_tensors_are_averaged_in_place_in_one_message(world: World) -> None:
    world.others = lambda own: [own + 3, own + 6, own + 3]
    given = [torch.tensor(1.0), torch.arange(6.0).view(2, 3), torch.arange(6.0).view(2, 3).T]
    before = [tensor.clone() for tensor in given]
    average(tensor for tensor in given)
    assert len(world.messages) == 1
    for old, new in zip(before, given):
        assert torch.equal(new, old + 3)


def test_nothing_is_sent_for_no_tensors_or_in_a_single_process(world: World) -> None:
    average([])
    assert not world.messages
    value = torch.ones(2)
    with synchronised(False):
        average([value])
        assert all_agree(False, CPU) is False
        assert (world_size(), rank()) == (1, 0)
        with synchronised(True):  # what is off outside stays off
            assert world_size() == 1
    assert not world.messages
    assert torch.equal(value, torch.ones(2))
    with pytest.raises(KeyError), synchronised(False):
        raise KeyError
    assert world_size() == 4


@pytest.mark.parametrize("answers", [(1.0, 1.0), (1.0, 0.0)])
@pytest.mark.parametrize("own", [True, False])
def test_a_condition_holds_only_if_it_holds_on_every_rank(
    world: World, own: bool, answers: tuple[float, float]
) -> None:
    world.others = lambda message: [torch.full_like(message, answer) for answer in answers]
    assert all_agree(own, CPU) is (own and min(answers) == 1)
    assert len(world.messages) == 1
    assert world.messages[0].dtype is torch.float32


def test_a_tensor_is_lowered_to_the_smallest_of_all_ranks_in_the_same_message(world: World) -> None:
    world.others = lambda own: [torch.cat([own[:1], own[1:].flip(0)]), own + 1]
    lowest = torch.tensor([[1.0, 5.0], [3.0, 0.5]])
    assert all_agree(True, CPU, lowest)
    assert torch.equal(lowest, torch.tensor([[0.5, 3.0], [3.0, 0.5]]))
    assert len(world.messages) == 1


@pytest.mark.parametrize("fails", ["nowhere", "elsewhere", "here"])
def test_a_result_counts_only_if_no_rank_has_failed(world: World, fails: str) -> None:
    """A rank that fails sends the same message as the others, which wait for it."""
    lowest, given = torch.tensor([2.0, 5.0]), [3] if fails != "here" else []
    world.others = lambda own: [own - torch.tensor([fails == "elsewhere", 1.0, 0.0])] * 3
    if fails == "here":
        with pytest.raises(IndexError):
            on_all_ranks(given.pop, CPU, lowest)
    else:
        assert on_all_ranks(given.pop, CPU, lowest) == (3 if fails == "nowhere" else None)
    (message,) = world.messages
    assert message.tolist() == [float(fails != "here"), 2.0, 5.0]
    assert lowest.tolist() == [1.0, 5.0]


@pytest.mark.parametrize("preset", ["default", "paper", "released"])
def test_ranks_with_equal_batches_train_as_one(
    preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained() -> list[Any]:
        augmenter, model, optimizer = attached(small(preset))
        train(model, optimizer, augmenter.wrap(loader(rows=32)))
        assert augmenter.stats()["updates"] == 4
        return snapshot(augmenter)[0]["engine"]["trainer"]["nets"]

    alone = trained()
    world = World(monkeypatch)
    together = trained()
    assert len(world.messages) >= 8
    assert same(together, alone)  # bit for bit: sums of four equal numbers are exact


def test_without_sync_ranks_nothing_is_sent_and_every_rank_draws_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def trained() -> list[Any]:
        augmenter, model, optimizer = attached(small(sync_ranks=False))
        train(model, optimizer, augmenter.wrap(loader()))
        return snapshot(augmenter, model)

    alone, world = trained(), World(monkeypatch)
    assert same(trained(), alone)
    assert not world.messages


def test_ranks_start_with_equal_networks_and_other_random_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = PoseAugConfig.default(learned=True, width=8, d_width=8, noise=2)
    nets, numbers, resumed = [], [], []
    state = Sampler(H36M, config, CPU).state_dict()
    for number in range(3):
        World(monkeypatch, number)
        sampler = Sampler(H36M, config, CPU)
        nets.append(snapshot(*Trainer(sampler).nets.values()))
        numbers.append(torch.rand(4, generator=sampler.generator))
        sampler.load_state_dict(state)
        resumed.append(torch.rand(4, generator=sampler.generator))
    assert same(nets[0], nets[1])
    assert same(nets[0], nets[2])
    for drawn in (numbers, resumed):
        assert not any(torch.equal(drawn[a], drawn[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert torch.equal(numbers[0], resumed[0])  # rank 0 goes on where the state was


def test_a_collapse_is_judged_by_the_means_of_all_ranks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collapse, "WINDOW", 2)
    for others, told in ((lambda own: [own, own, own], 0), (lambda own: [own + 20, own, own], 1)):
        world.others = others
        watch = CollapseWatch()
        assert watch.add({"loss_d3d": torch.tensor(0.2)}) == []
        assert len(watch.add({"loss_d3d": torch.tensor(0.2)})) == told


def test_a_world_of_one_rank_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    monkeypatch.setattr(dist, "get_world_size", lambda: 1)
    value = torch.ones(2)
    average([value])
    assert all_agree(True, CPU)
    assert (world_size(), rank()) == (1, 0)
    assert not world.messages


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(4))


@pytest.mark.parametrize(
    ("ready", "refused"),
    [
        ("nothing", True),
        ("prepared", False),
        ("divided", False),
        ("a stream", False),
        ("no DataLoader", False),
        ("accelerate is not in use", False),
    ],
)
def test_a_loader_that_accelerate_has_not_prepared_is_refused(
    ready: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rank would train on all of the data. In a single process it may be unprepared."""
    state = SimpleNamespace(is_initialized=lambda: ready != "accelerate is not in use")
    accelerate = SimpleNamespace(state=state)
    data = loader().dataset
    sampler = DistributedSampler(data, num_replicas=4, rank=0) if ready == "divided" else None
    given: Any = DataLoader(Stream() if ready == "a stream" else data, 8, sampler=sampler)
    if ready == "prepared":
        given._is_accelerate_prepared = True
    if ready == "no DataLoader":
        given = [1, 2]
    augmenter, _, _ = attached(small("random"))
    with monkeypatch.context() as alone:
        alone.setitem(sys.modules, "accelerate", accelerate)
        iter(augmenter.wrap(given))
    World(monkeypatch)
    monkeypatch.setitem(sys.modules, "accelerate", accelerate)
    if refused:
        with pytest.raises(AttachError, match=r"so each of the 4 .*Prepare first"):
            iter(augmenter.wrap(given))
    else:
        iter(augmenter.wrap(given))
