"""The hook on the optimizer, and the wrapped loader with its epochs."""

from __future__ import annotations

import copy
import gc
import itertools
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from loop_helpers import attached, batch, changed_rows, loader, people, small, train, trained
from poseaug_plugin import AttachError, BatchFormat, PoseAugmenter, PoseAugWarning, plugin
from poseaug_plugin.data import endless
from poseaug_plugin.loop.hooks import Attachment, ForwardHook, StepHook, inner_optimizer
from poseaug_plugin.loop.loader import AugmentedLoader, unwrapped


class Counter:
    def __init__(self) -> None:
        self.calls = 0

    def count(self) -> None:
        self.calls += 1


# The hook


def test_the_hook_calls_its_method_and_keeps_nothing_alive() -> None:
    counter = Counter()
    hook = StepHook(counter.count)
    hook("optimizer", (), {})
    assert counter.calls == 1
    del counter
    gc.collect()
    hook("optimizer", (), {})  # the method's object is gone


@pytest.mark.parametrize(
    "clone", [copy.copy, copy.deepcopy, lambda h: pickle.loads(pickle.dumps(h))]
)
def test_a_copied_hook_does_nothing(clone: Any) -> None:
    counter = Counter()
    hook = StepHook(counter.count)
    clone(hook)()
    assert counter.calls == 0
    hook()
    assert counter.calls == 1


def test_a_forward_hook_passes_on_all_that_it_gets_and_its_copies_pass_on_nothing() -> None:
    class Recorder:
        def __init__(self) -> None:
            self.calls: list[Any] = []

        def record(self, *given: Any) -> None:
            self.calls.append(given)

    recorder = Recorder()
    hook = ForwardHook(recorder.record)
    given = ("module", (1, 2), {"a": 3}, "output")
    hook(*given)
    for clone in (copy.copy(hook), copy.deepcopy(hook), pickle.loads(pickle.dumps(hook))):
        assert isinstance(clone, ForwardHook)
        clone(*given)
    assert recorder.calls == [given]


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_a_copied_attachment_is_attached_to_nothing(clone: Any) -> None:
    counter, optimizer = Counter(), trained()[1]
    attachment = Attachment(optimizer, counter.count)
    copied = clone(attachment)
    assert copied.optimizer is None
    copied.remove()
    optimizer.step()
    assert counter.calls == 1
    with pytest.raises(AttachError, match="Adam has an augmenter already"):
        Attachment(optimizer, counter.count)
    attachment.remove()
    attachment.remove()
    assert attachment.optimizer is None
    optimizer.step()
    assert counter.calls == 1
    Attachment(optimizer, counter.count).remove()


class Wrapper(torch.optim.Optimizer):
    """A wrapper that takes no hooks, because it skips `super().__init__` like Opacus's."""

    def __init__(self, inner: Any, name: str) -> None:
        setattr(self, name, inner)
        self.inner = inner

    def step(self, closure: Any = None) -> None:
        self.inner.step(closure)

    def zero_grad(self) -> None:
        self.inner.zero_grad()


def wrap_optimizer(optimizer: Any, how: str) -> Any:
    for name in reversed(how.split()):
        optimizer = Wrapper(optimizer, name)
    return optimizer


@pytest.mark.parametrize("how", ["optimizer", "original_optimizer", "optimizer original_optimizer"])
def test_the_optimizer_inside_wrappers_is_hooked(how: str) -> None:
    model, inner = trained(norm=False)
    outer = wrap_optimizer(inner, how)
    assert inner_optimizer(outer) is inner
    augmenter = PoseAugmenter(model, outer, "poseaug", config=small())
    train(model, outer, augmenter.wrap(loader()))
    assert augmenter.stats()["updates"] == 2


def test_a_learning_rate_scheduler_may_be_used() -> None:
    augmenter, model, optimizer = attached()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    train(model, optimizer, augmenter.wrap(loader()))
    scheduler.step()
    assert augmenter.stats()["updates"] == 2


# The loader


class Endless:
    """An iterable without a length."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        return itertools.cycle(self.loader)


class ListLoader:
    """A custom loader with an attribute that can be set."""

    def __init__(self, count: int = 3) -> None:
        self.seed = 3
        self.batches = [batch(seed=i) for i in range(count)]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)

    def shuffled(self) -> str:
        return f"by {self.seed}"


def test_attributes_are_those_of_the_loader() -> None:
    augmenter, _, _ = attached()
    plain = ListLoader()
    wrapped: Any = augmenter.wrap(plain)
    assert (len(wrapped), wrapped.seed, wrapped.shuffled()) == (3, 3, "by 3")
    wrapped.seed = 5
    assert (plain.seed, wrapped.shuffled()) == (5, "by 5")
    assert not hasattr(wrapped, "nothing")
    with pytest.raises(AttributeError, match="nothing"):
        wrapped.nothing  # noqa: B018


def test_a_torch_loader_keeps_dataset_and_sampler() -> None:
    augmenter, _, _ = attached()
    data = loader().dataset
    sampler = DistributedSampler(data, num_replicas=1, rank=0, shuffle=True)
    plain = DataLoader(data, batch_size=4, sampler=sampler)
    wrapped: Any = augmenter.wrap(plain)
    assert wrapped.dataset is data
    assert (wrapped.batch_size, len(wrapped)) == (4, 4)
    orders = []
    for epoch in range(2):
        wrapped.sampler.set_epoch(epoch)
        assert plain.sampler.epoch == epoch
        orders.append([each[2] for each in wrapped])
    assert orders[0] != orders[1]


def test_a_loader_without_a_length_raises_in_len_and_is_true() -> None:
    class Endless:
        def __iter__(self) -> Iterator[Any]:
            return iter([batch(), batch()])

    augmenter, _, _ = attached()
    wrapped: Any = augmenter.wrap(Endless())
    with pytest.raises(TypeError, match="len"):
        len(wrapped)
    assert len(list(wrapped)) == 2
    assert wrapped
    assert not augmenter.wrap([])


def test_a_wrapped_loader_can_be_copied() -> None:
    augmenter, _, _ = attached()
    plain = ListLoader()
    copied: Any = copy.deepcopy(augmenter.wrap(plain))
    copied.seed = 9
    assert (plain.seed, len(list(copied))) == (3, 3)


@pytest.mark.parametrize(
    "given", [[1, 2], iter([1, 2]), {1, 2}], ids=["a sequence", "an iterator", "a set"]
)
def test_a_wrapped_loader_has_the_abilities_of_the_loader_also_in_copies(given: Any) -> None:
    wrapped: Any = attached()[0].wrap(given)
    copied = copy.copy(wrapped)
    for each in (wrapped, copied):
        assert unwrapped(each) is given
        assert hasattr(each, "__next__") == hasattr(given, "__next__")
        assert hasattr(each, "__getitem__") == hasattr(given, "__getitem__")
        assert repr(each) == f"AugmentedLoader({given!r}, mix='replace')"
        assert set(dir(given)) <= set(dir(each))
    assert type(copied) is type(wrapped)
    again = attached()[0].wrap(copied)
    assert unwrapped(again) is given  # not a wrapper in a wrapper
    if hasattr(given, "__getitem__"):
        assert wrapped[1] is given[1]  # as it is: it may only be looked at
    if not hasattr(given, "__next__"):
        assert type(pickle.loads(pickle.dumps(wrapped))) is type(given)


class Chunks:
    """Like VideoPose3D's generator: no length, no __iter__, float64 in buffers that are reused."""

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


def test_next_epoch_yields_augmented_batches() -> None:
    augmenter, _, _ = attached(batch=CHUNKS)
    plain = Chunks()
    wrapped: Any = augmenter.wrap(plain)
    assert wrapped.endless is False
    for epoch in (1, 2):
        count = 0
        for (_, pose_3d, _), start in zip(wrapped.next_epoch(), range(0, 100, 4)):
            real = plain.arrays[1][start : start + 4]
            assert pose_3d.dtype == np.float64
            assert 1 <= len(changed_rows(real, pose_3d)) <= 2
            count += 1
        assert count == 3
        assert augmenter.stats()["epochs"] == epoch
    with pytest.raises(TypeError, match="not iterable"):
        iter(wrapped)


def test_next_epoch_takes_the_arguments_of_the_loader_and_need_not_be_a_method() -> None:
    class Parts:
        def next_epoch(self, first: int, *, last: int) -> Iterator[Any]:
            return iter([batch(seed=i) for i in range(first, last)])

    class Named:
        next_epoch = "a name"

        def __iter__(self) -> Iterator[Any]:
            return iter([])

    augmenter, _, _ = attached()
    wrapped: Any = augmenter.wrap(Parts())
    assert len(list(wrapped.next_epoch(2, last=5))) == 3
    assert augmenter.wrap(Named()).next_epoch == "a name"


# Epochs


def test_an_exhausted_iterator_counts_one_epoch() -> None:
    augmenter, _, _ = attached()
    wrapped = augmenter.wrap(ListLoader())
    batches = iter(wrapped)
    for _ in range(3):
        next(batches)
        assert augmenter.stats()["epochs"] == 0
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(batches)
    assert augmenter.stats()["epochs"] == 1


def test_a_wrapped_iterator_counts_one_epoch() -> None:
    augmenter, _, _ = attached(small("random"))
    wrapped: Any = augmenter.wrap(iter([batch(), batch(seed=1)]))
    for _ in range(2):
        next(wrapped)
    assert augmenter.stats()["epochs"] == 0
    assert next(wrapped, None) is None
    assert augmenter.stats()["epochs"] == 1


def test_single_batches_and_nested_iterators_count_no_epoch() -> None:
    augmenter, _, _ = attached()
    wrapped = augmenter.wrap(ListLoader())
    next(iter(wrapped))
    for _ in wrapped:
        for _ in wrapped:
            break
        next(iter(wrapped))
        assert augmenter.stats()["epochs"] == 0
    assert augmenter.stats()["epochs"] == 1
    for _ in wrapped:
        break
    assert augmenter.stats()["epochs"] == 1


@pytest.mark.parametrize("how", ["disabled", "eval"])
def test_an_iteration_without_augmentation_counts_no_epoch(how: str) -> None:
    augmenter, model, _ = attached()
    wrapped = augmenter.wrap(ListLoader())
    assert len(list(wrapped)) == 3
    assert augmenter.stats()["epochs"] == 1
    if how == "disabled":
        augmenter.disable()
    else:
        model.eval()
    assert len(list(wrapped)) == 3
    assert augmenter.stats()["epochs"] == 1


def test_the_callers_grad_mode_does_not_change_between_batches() -> None:
    augmenter, model, optimizer = attached()
    for i, each in enumerate(augmenter.wrap(ListLoader())):
        assert torch.is_grad_enabled() is (i == 0)
        model(each[1])
        optimizer.step()
        assert torch.is_grad_enabled() is (i == 0)
        torch.set_grad_enabled(False)
    assert not torch.is_grad_enabled()
    torch.set_grad_enabled(True)


def test_a_wrapped_loader_yields_real_and_augmented_batches() -> None:
    ends: list[int] = []

    class TenTimes:
        """An augmenter of batches that are numbers."""

        mix, active, steps, epochs = "alternate", True, 0, 0

        def split(self, batch: int) -> tuple[int, int]:
            return batch, batch

        def augment(self, batch: int, full: int) -> int:
            return 10 * full

        def update(self) -> None:
            raise AssertionError("there is nothing to update")

        def end_epoch(self, began: int) -> None:
            ends.append(began)

    wrapped = AugmentedLoader([1, 2], TenTimes())
    assert len(wrapped) == 4
    batches = iter(wrapped)
    assert (list(batches), ends) == ([1, 10, 2, 20], [0])
    assert next(batches, None) is None
    assert ends == [0]


@pytest.fixture(autouse=True)
def _gradients_on() -> Iterator[None]:
    yield
    torch.set_grad_enabled(True)


# Iterations that are left early, loaders that are wrapped twice


def train_batches(wrapped: Any, model: Any, optimizer: Any, batches: int) -> None:
    """Train on so many batches, as loops with a fixed number of steps per epoch do."""
    for number, each in enumerate(wrapped, 1):
        model(each[1]).square().mean().backward()
        optimizer.step()
        if number == batches:
            break


def test_an_iteration_left_early_counts_when_the_next_one_is_trained_on() -> None:
    augmenter, model, optimizer = attached()
    wrapped = augmenter.wrap(ListLoader(5))
    for epoch in range(4):
        train_batches(wrapped, model, optimizer, 3)
        assert augmenter.stats()["epochs"] == epoch


@pytest.mark.parametrize("known", [True, False], ids=["length", "no length"])
def test_a_batch_from_each_iterator_counts_an_epoch_for_as_many_as_there_are(known: bool) -> None:
    """`next(iter(loader))` for each step."""
    augmenter, model, optimizer = attached()
    loader = ListLoader(4)
    wrapped = augmenter.wrap(loader if known else Endless(loader))
    for number in range(13):
        assert augmenter.stats()["epochs"] == (max(0, number - 1) // 4 if known else 0)
        each = next(iter(wrapped))
        model(each[1]).square().mean().backward()
        optimizer.step()


def test_an_empty_loader_ends_no_epoch() -> None:
    augmenter, _, _ = attached()
    wrapped = augmenter.wrap([])
    for _ in range(3):
        assert list(wrapped) == []
    assert augmenter.stats()["epochs"] == 0


def test_looking_at_single_batches_ends_no_epoch() -> None:
    augmenter, model, optimizer = attached()
    wrapped = augmenter.wrap(ListLoader(4))
    for each in wrapped:
        next(iter(wrapped))
        model(each[1]).square().mean().backward()
        next(iter(wrapped))
        optimizer.step()
        next(iter(wrapped))
    assert augmenter.stats()["epochs"] == 1


def take(wrapped: Any, optimizer: Any, batches: int = 1) -> None:
    """A step on the first batches of a new iterator."""
    for _ in itertools.islice(wrapped, batches):
        pass
    optimizer.step()


def test_single_batches_count_an_epoch_only_in_a_row() -> None:
    augmenter, _, optimizer = attached(small("random"))
    wrapped = augmenter.wrap(ListLoader(4))
    for _ in range(3):
        take(wrapped, optimizer)
    for _ in wrapped:  # this epoch begins anew
        optimizer.step()
    for epochs in (1, 1, 1, 1, 2):
        take(wrapped, optimizer)
        assert augmenter.stats()["epochs"] == epochs


@pytest.mark.parametrize("how", ["two batches for each step", "without augmentation"])
def test_iterations_that_are_no_augmented_single_batches_count_no_epoch(how: str) -> None:
    augmenter, _, optimizer = attached(small("random"))
    wrapped = augmenter.wrap(ListLoader(3))
    if how == "without augmentation":
        augmenter.disable()
    for _ in range(5):
        take(wrapped, optimizer, 1 if how == "without augmentation" else 2)
    assert augmenter.stats()["epochs"] == 0


def test_a_look_inside_an_epoch_of_one_batch_is_not_counted_as_another() -> None:
    augmenter, _, optimizer = attached(small("random"))
    wrapped = augmenter.wrap(ListLoader(1))
    for epoch in range(1, 4):
        for _ in wrapped:
            next(iter(wrapped))
        optimizer.step()
        assert augmenter.stats()["epochs"] == epoch


def test_two_iterators_side_by_side_do_not_end_each_other() -> None:
    augmenter, model, optimizer = attached()
    wrapped = augmenter.wrap(ListLoader(4))
    for a, b in zip(wrapped, wrapped):
        (model(a[1]) - model(b[1])).square().mean().backward()
        optimizer.step()
    assert augmenter.stats()["epochs"] == 1


@pytest.mark.parametrize("sizes", [(3, 4), (4, 3), (3, 3)])
def test_loaders_side_by_side_count_one_epoch(sizes: tuple[int, int]) -> None:
    augmenter, model, optimizer = attached()
    first, second = (augmenter.wrap(ListLoader(size)) for size in sizes)
    for epoch in range(1, 4):
        for a, b in zip(first, second):
            (model(a[1]) - model(b[1])).square().mean().backward()
            optimizer.step()
        assert augmenter.stats()["epochs"] == epoch


def test_a_shorter_loader_that_starts_again_beside_a_longer_one_is_told() -> None:
    augmenter, model, optimizer = attached()
    longer, shorter = augmenter.wrap(ListLoader(6)), augmenter.wrap(ListLoader(2))

    def loop() -> None:
        for a, b in zip(longer, endless(shorter)):
            (model(a[1]) - model(b[1])).square().mean().backward()
            optimizer.step()

    with pytest.warns(PoseAugWarning, match=r"several wrapped loaders.*wrap only that one"):
        loop()


def test_loaders_one_after_the_other_count_each() -> None:
    """A loop may also make a new loader for each epoch, which is the same to the plugin."""
    augmenter, model, optimizer = attached()
    for epoch in range(1, 4):
        train(model, optimizer, augmenter.wrap(ListLoader()))
        assert augmenter.stats()["epochs"] == epoch


@pytest.mark.parametrize(("epochs", "warmup", "told"), [(5, 0, 1), (None, 2, 1), (None, 0, 0)])
def test_epochs_that_are_never_counted_are_told_once(
    epochs: int | None, warmup: int, told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "BATCHES_WITHOUT_EPOCH", 5)
    augmenter, _, optimizer = attached(small(warmup=warmup), epochs=epochs)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in range(12):
            augmenter(batch(seed=number))
            optimizer.step()
    assert ["end_epoch" in str(each.message) for each in caught] == [True] * told


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pose_3d, pose_2d: (pose_3d, (pose_2d + 1) * 500), "2D is in pixels"),
        (lambda pose_3d, pose_2d: (pose_3d, pose_2d * torch.tensor([1.0, -1.0])), "y flipped"),
        (lambda pose_3d, pose_2d: (pose_3d - pose_3d[:, :1], pose_2d), "root='relative'"),
        (lambda pose_3d, pose_2d: (pose_3d, pose_2d), ""),
    ],
    ids=["pixels", "y up", "relative", "the same"],
)
def test_another_loader_of_another_kind_is_told_once(change: Any, words: str) -> None:
    """As in training on two data sets, together or one after the other."""
    fmt = BatchFormat(pose_3d=0, pose_2d=1, root="absolute")
    augmenter, _, optimizer = attached(small("random"), fmt, skeleton="h36m_16")
    first = [batch(seed=seed)[:2] for seed in range(2)]
    other = [change(*fields) for fields in first]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for loader in (first, other, first, other):
            for _ in augmenter.wrap(loader):
                optimizer.step()
    told = [str(w.message) for w in caught if "the first batch of another loader" in str(w.message)]
    assert len(told) == bool(words)
    assert all(words in text for text in told)


def test_a_batch_of_a_wrapped_loader_is_not_augmented_again() -> None:
    augmenter, _, optimizer = attached(small("random", ratio=0.5))
    wrapped = iter(augmenter.wrap([batch(seed=seed, rows=16) for seed in range(4)]))
    made = next(wrapped)
    with pytest.warns(PoseAugWarning, match="augmented already"):
        assert augmenter(made) is made
    for made in wrapped:
        optimizer.step()
        assert augmenter(made) is made
    assert augmenter.stats()["batches"] == 4
    assert augmenter.stats()["rows"] == 32


def test_a_tensor_that_the_loop_yields_again_is_augmented_again() -> None:
    """With ratio=0 a batch comes back with the tensors that it had."""
    given = batch(rows=16)
    augmenter, *_ = attached(small("random", ratio=0.5))
    for _ in range(3):
        augmenter(given)
    assert augmenter.stats()["rows"] == 24


def test_an_augmenter_that_is_created_in_each_epoch_is_told() -> None:
    model, optimizer = trained()

    def train_one_epoch() -> None:
        augmenter = PoseAugmenter(model, optimizer, "poseaug", epochs=3)
        train(model, optimizer, augmenter.wrap([batch()]))

    train_one_epoch()
    gc.collect()
    with pytest.warns(PoseAugWarning, match="create it once, before the epochs"):
        train_one_epoch()


def test_an_augmenter_after_one_that_was_detached_is_not_told() -> None:
    model, optimizer = trained()
    for _ in range(2):
        PoseAugmenter(model, optimizer, "poseaug", epochs=3).detach()


def test_two_loops_over_the_loader_in_an_epoch_are_told() -> None:
    """As in a script that trains two models in turns, with the epochs of one of them."""
    augmenter, model, optimizer = attached(epochs=3)
    loader = augmenter.wrap(ListLoader())
    for _ in range(5):
        train(model, optimizer, loader)
    with pytest.warns(PoseAugWarning, match="6 epochs have ended, twice the 3 of epochs="):
        train(model, optimizer, loader)


def test_an_epoch_that_was_counted_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "BATCHES_WITHOUT_EPOCH", 5)
    augmenter, _, optimizer = attached(small("random"), epochs=5)
    for number in range(12):
        augmenter(batch(seed=number))
        optimizer.step()
        if number == 2:
            augmenter.end_epoch()


def test_an_iteration_in_evaluation_mode_after_a_look_counts_no_epoch() -> None:
    augmenter, model, _ = attached()
    wrapped = augmenter.wrap(ListLoader())
    next(iter(wrapped))
    model.eval()
    list(wrapped)
    assert augmenter.stats()["epochs"] == 0


@pytest.mark.parametrize("again", ["the same", "another"])
def test_a_loader_wrapped_twice_is_augmented_once(again: str) -> None:
    augmenter, model, optimizer = attached(small(ratio=0.25))
    wrapped = augmenter.wrap(ListLoader())
    if again == "another":  # another augmenter, as in a loop over seeds
        augmenter, model, optimizer = attached(small(ratio=0.25))
    wrapped = augmenter.wrap(wrapped)
    train(model, optimizer, wrapped)
    stats = augmenter.stats()
    assert (stats["batches"], stats["epochs"], stats["rows"]) == (3, 1, 6)
    assert all(len(changed_rows(a[0], b[0])) <= 2 for a, b in zip(ListLoader(), wrapped))


def test_a_pause_between_batch_and_step_keeps_the_update() -> None:
    augmenter, model, optimizer = attached()
    for each in augmenter.wrap(ListLoader()):
        with augmenter.paused():
            augmenter(each)
        model(each[1]).square().mean().backward()
        optimizer.step()
    assert augmenter.stats()["updates"] == 3


@pytest.mark.parametrize("mix", ["alternate", "passes"])
def test_without_augmentation_a_doubling_loader_has_its_own_length_and_is_read_once(
    mix: str,
) -> None:
    class Read(ListLoader):
        starts = 0

        def __iter__(self) -> Iterator[Any]:
            self.starts += 1
            return super().__iter__()

    plain = Read()
    augmenter, _, _ = attached(small("random", mix=mix))
    wrapped = augmenter.wrap(plain)
    assert len(wrapped) == 6
    assert len(list(wrapped)) == 6
    assert plain.starts == (2 if mix == "passes" else 1)
    augmenter.disable()
    plain.starts = 0
    assert len(wrapped) == 3
    assert len(list(wrapped)) == 3
    assert plain.starts == 1


def test_an_optimizer_is_free_again_when_its_augmenter_is_gone() -> None:
    augmenter, model, optimizer = attached(small("random"))
    with pytest.raises(AttachError, match="has an augmenter already"):
        PoseAugmenter(model, optimizer, "poseaug")
    del augmenter
    gc.collect()
    with pytest.warns(PoseAugWarning, match="dropped without detach"):
        again = PoseAugmenter(model, optimizer, "poseaug")
    again.detach()
    PoseAugmenter(model, optimizer, "poseaug").detach()


def test_an_epoch_of_a_wrapped_loader_is_counted_once_if_the_loop_counts_it_too() -> None:
    augmenter, model, optimizer = attached(small(learned=False), epochs=9)
    wrapped = augmenter.wrap(loader())
    for epoch in range(3):
        train(model, optimizer, wrapped)
        augmenter.end_epoch()
        assert augmenter.stats()["epochs"] == epoch + 1
    augmenter(batch())
    augmenter.end_epoch()
    assert augmenter.stats()["epochs"] == 4
