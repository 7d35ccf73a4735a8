"""The hook keeps nothing alive and dies in copies; the loader stays what it was."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from loop_helpers import attached, batch, changed_rows, loader, people, small, train, trained
from poseaug_plugin import PoseAugmenter
from poseaug_plugin.loop.hooks import StepHook, inner_optimizer
from poseaug_plugin.loop.loader import AugmentedLoader


class Counter:
    def __init__(self) -> None:
        self.calls = 0

    def count(self) -> None:
        self.calls += 1


# The hook


def test_the_hook_calls_and_keeps_nothing_alive() -> None:
    counter = Counter()
    hook = StepHook(counter.count)
    hook("optimizer", (), {})
    assert counter.calls == 1
    del counter
    gc.collect()
    hook("optimizer", (), {})  # nobody is there any more


@pytest.mark.parametrize(
    "clone", [copy.copy, copy.deepcopy, lambda h: pickle.loads(pickle.dumps(h))]
)
def test_a_copied_hook_is_dead(clone: Any) -> None:
    counter = Counter()
    hook = StepHook(counter.count)
    clone(hook)()
    assert counter.calls == 0
    hook()
    assert counter.calls == 1


class Wrapper(torch.optim.Optimizer):
    """Refuses hooks, for it skips `super().__init__` as accelerate's and Opacus's do."""

    def __init__(self, inner: Any, name: str) -> None:
        setattr(self, name, inner)
        self.inner = inner

    def step(self, closure: Any = None) -> None:
        self.inner.step(closure)

    def zero_grad(self) -> None:
        self.inner.zero_grad()


def wrapped(optimizer: Any, how: str) -> Any:
    for name in reversed(how.split()):
        optimizer = Wrapper(optimizer, name)
    return optimizer


@pytest.mark.parametrize("how", ["optimizer", "original_optimizer", "optimizer original_optimizer"])
def test_the_optimizer_inside_wrappers_is_hooked(how: str) -> None:
    model, inner = trained(norm=False)
    outer = wrapped(inner, how)
    assert inner_optimizer(outer) is inner
    augmenter = PoseAugmenter(model, outer, "poseaug", config=small())
    train(model, outer, augmenter.wrap(loader()))
    assert augmenter.stats()["updates"] == 2


def test_a_scheduler_is_no_obstacle() -> None:
    augmenter, model, optimizer = attached()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    train(model, optimizer, augmenter.wrap(loader()))
    scheduler.step()
    assert augmenter.stats()["updates"] == 2


# The loader


class Batches:
    """A loader of one's own, with state to read and to set."""

    def __init__(self, count: int = 3) -> None:
        self.seed = 3
        self.batches = [batch(seed=i) for i in range(count)]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)

    def shuffled(self) -> str:
        return f"by {self.seed}"


def test_attributes_are_the_loaders() -> None:
    augmenter, _, _ = attached()
    plain = Batches()
    seen: Any = augmenter.wrap(plain)
    assert (len(seen), seen.seed, seen.shuffled()) == (3, 3, "by 3")
    seen.seed = 5
    assert (plain.seed, seen.shuffled()) == (5, "by 5")
    assert not hasattr(seen, "nothing")
    with pytest.raises(AttributeError, match="nothing"):
        seen.nothing  # noqa: B018


def test_a_torch_loader_keeps_dataset_and_sampler() -> None:
    augmenter, _, _ = attached()
    data = loader().dataset
    sampler = DistributedSampler(data, num_replicas=1, rank=0, shuffle=True)
    plain = DataLoader(data, batch_size=4, sampler=sampler)
    seen: Any = augmenter.wrap(plain)
    assert seen.dataset is data
    assert (seen.batch_size, len(seen)) == (4, 4)
    orders = []
    for epoch in range(2):
        seen.sampler.set_epoch(epoch)
        assert plain.sampler.epoch == epoch
        orders.append([each[2] for each in seen])
    assert orders[0] != orders[1]


def test_a_loader_without_a_length_has_none_and_is_true() -> None:
    class Endless:
        def __iter__(self) -> Iterator[Any]:
            return iter([batch(), batch()])

    augmenter, _, _ = attached()
    seen: Any = augmenter.wrap(Endless())
    with pytest.raises(TypeError, match="len"):
        len(seen)
    assert len(list(seen)) == 2
    assert seen
    assert not augmenter.wrap([])


def test_a_wrapped_loader_can_be_copied() -> None:
    augmenter, _, _ = attached()
    plain = Batches()
    twin: Any = copy.deepcopy(augmenter.wrap(plain))
    twin.seed = 9
    assert (plain.seed, len(list(twin))) == (3, 3)


class Chunks:
    """VideoPose3D's generator: no length, no __iter__, float64 in buffers used again and again."""

    def __init__(self) -> None:
        who = people(12)
        slot = who.relative.copy()
        slot[:, :, 0] = who.pose_3d[:, :, 0]
        self.arrays = [a.astype(np.float64) for a in (who.camera, slot, who.pose_2d)]
        self.buffers = [np.empty((4, *a.shape[1:])) for a in self.arrays]
        self.endless = False

    def next_epoch(self) -> Iterator[Any]:
        for start in range(0, 12, 4):
            for buffer, array in zip(self.buffers, self.arrays):
                buffer[:] = array[start : start + 4]
            yield tuple(self.buffers)


CHUNKS = dict(camera=0, pose_3d=1, pose_2d=2, root="slot")


def test_next_epoch_is_watched() -> None:
    augmenter, _, _ = attached(batch=CHUNKS)
    plain = Chunks()
    seen: Any = augmenter.wrap(plain)
    assert seen.endless is False
    for epoch in (1, 2):
        taken = 0
        for (_, pose_3d, _), start in zip(seen.next_epoch(), range(0, 100, 4)):
            real = plain.arrays[1][start : start + 4]
            assert pose_3d.dtype == np.float64
            assert 1 <= len(changed_rows(real, pose_3d)) <= 2
            taken += 1
        assert taken == 3
        assert augmenter.stats()["epochs"] == epoch
    with pytest.raises(TypeError, match="not iterable"):
        iter(seen)


# Epochs


def test_an_epoch_counts_when_the_iterator_is_exhausted_and_once() -> None:
    augmenter, _, _ = attached()
    seen = augmenter.wrap(Batches())
    batches = iter(seen)
    for _ in range(3):
        next(batches)
        assert augmenter.stats()["epochs"] == 0
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(batches)
    assert augmenter.stats()["epochs"] == 1


def test_peeking_breaking_and_nesting_count_no_epoch() -> None:
    augmenter, _, _ = attached()
    seen = augmenter.wrap(Batches())
    next(iter(seen))
    for _ in seen:
        for _ in seen:
            break
        next(iter(seen))
        assert augmenter.stats()["epochs"] == 0
    assert augmenter.stats()["epochs"] == 1
    for _ in seen:
        break
    assert augmenter.stats()["epochs"] == 1


@pytest.mark.parametrize("how", ["disabled", "eval"])
def test_a_pass_without_augmentation_counts_no_epoch(how: str) -> None:
    augmenter, model, _ = attached()
    seen = augmenter.wrap(Batches())
    assert len(list(seen)) == 3
    assert augmenter.stats()["epochs"] == 1
    if how == "disabled":
        augmenter.disable()
    else:
        model.eval()
    assert len(list(seen)) == 3
    assert augmenter.stats()["epochs"] == 1


def test_the_callers_grad_mode_is_not_touched_between_batches() -> None:
    augmenter, model, optimizer = attached()
    for i, each in enumerate(augmenter.wrap(Batches())):
        assert torch.is_grad_enabled() is (i == 0)
        model(each[1])
        optimizer.step()
        assert torch.is_grad_enabled() is (i == 0)
        torch.set_grad_enabled(False)
    assert not torch.is_grad_enabled()
    torch.set_grad_enabled(True)


def test_a_watched_loader_hands_on_all_that_is_delivered() -> None:
    ends: list[int] = []

    class TenTimes:
        """An augmenter of numbers."""

        mix, active, steps = "alternate", True, 0

        def split(self, batch: int) -> tuple[int, int]:
            return batch, batch

        def augment(self, batch: int, full: int) -> int:
            return 10 * full

        def update(self) -> None:
            raise AssertionError("no network here")

        def end_epoch(self) -> None:
            ends.append(1)

    seen = AugmentedLoader([1, 2], TenTimes())
    assert len(seen) == 4
    batches = iter(seen)
    assert (list(batches), ends) == ([1, 10, 2, 20], [1])
    assert next(batches, None) is None
    assert ends == [1]


@pytest.fixture(autouse=True)
def _gradients_on() -> Iterator[None]:
    yield
    torch.set_grad_enabled(True)


# Epochs that are not run to the end, loaders that are wrapped again


def some(seen: Any, model: Any, optimizer: Any, batches: int) -> None:
    """So many batches, as loops with a number of steps an epoch take them."""
    for number, each in enumerate(seen, 1):
        model(each[1]).square().mean().backward()
        optimizer.step()
        if number == batches:
            break


def test_an_epoch_that_was_left_early_counts_when_the_next_one_trains() -> None:
    augmenter, model, optimizer = attached()
    seen = augmenter.wrap(Batches(5))
    for epoch in range(4):
        some(seen, model, optimizer, 3)
        assert augmenter.stats()["epochs"] == epoch


def test_a_look_in_between_leaves_no_epoch() -> None:
    augmenter, model, optimizer = attached()
    seen = augmenter.wrap(Batches(4))
    for each in seen:
        next(iter(seen))
        model(each[1]).square().mean().backward()
        next(iter(seen))
        optimizer.step()
        next(iter(seen))
    assert augmenter.stats()["epochs"] == 1


def test_two_passes_side_by_side_do_not_leave_each_other() -> None:
    augmenter, model, optimizer = attached()
    seen = augmenter.wrap(Batches(4))
    for a, b in zip(seen, seen):
        (model(a[1]) - model(b[1])).square().mean().backward()
        optimizer.step()
    assert augmenter.stats()["epochs"] <= 2


def test_a_pass_in_evaluation_mode_after_a_look_counts_no_epoch() -> None:
    augmenter, model, _ = attached()
    seen = augmenter.wrap(Batches())
    next(iter(seen))
    model.eval()
    list(seen)
    assert augmenter.stats()["epochs"] == 0


@pytest.mark.parametrize("again", ["the same", "another"])
def test_a_loader_wrapped_again_is_augmented_once(again: str) -> None:
    augmenter, model, optimizer = attached(small(ratio=0.25))
    seen = augmenter.wrap(Batches())
    if again == "another":  # a loop over seeds
        augmenter, model, optimizer = attached(small(ratio=0.25))
    seen = augmenter.wrap(seen)
    train(model, optimizer, seen)
    stats = augmenter.stats()
    assert (stats["batches"], stats["epochs"], stats["rows"]) == (3, 1, 6)
    assert all(len(changed_rows(a[0], b[0])) <= 2 for a, b in zip(Batches(), seen))


def test_a_pause_between_batch_and_step_keeps_the_turn() -> None:
    augmenter, model, optimizer = attached()
    for each in augmenter.wrap(Batches()):
        with augmenter.paused():
            augmenter(each)
        model(each[1]).square().mean().backward()
        optimizer.step()
    assert augmenter.stats()["updates"] == 3
