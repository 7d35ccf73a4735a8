"""The wrapped loader: which batches the training loop gets, and when an epoch ends."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch.utils.data import DataLoader, IterableDataset

from ..errors import AttachError
from .distributed import world_size

__all__ = ["DOUBLING_MIXES", "AugmentedLoader", "AugmentsBatches", "unwrapped", "wrap_loader"]

StartIterator = Callable[[], Iterator[Any]]

DOUBLING_MIXES = {"alternate", "passes"}  # mixes that yield every batch twice: real and augmented


class AugmentsBatches(Protocol):
    """What a wrapped loader needs from its augmenter."""

    @property
    def mix(self) -> str:
        """How augmented pairs reach the training loop, see `PoseAugConfig.mix`."""

    @property
    def active(self) -> bool:
        """Whether a batch would be augmented now."""

    @property
    def steps(self) -> int:
        """Steps of the caller's optimizer so far."""

    def split(self, batch: Any) -> tuple[Any, Any]:
        """The batch as the caller's loader yields it, and the batch with all available 3D."""

    def augment(self, batch: Any, full: Any) -> Any:
        """Augment a batch, or return `batch` itself; the arguments are what `split` returned."""

    def update(self) -> None:
        """Update what is learned on the batch that was augmented last."""

    @property
    def epochs(self) -> int:
        """Epochs counted so far."""

    def end_epoch(self, began: int) -> None:
        """Count an epoch, unless another one has ended since `began` were counted."""


@dataclass
class _Iteration:
    """The progress of one iterator over the loader."""

    began: int | None = None  # epochs counted when its first batch was augmented; None before
    steps: int | None = None  # of the optimizer when a batch was last requested
    request: int = 0  # number of that request
    batches: int = 0  # requested so far


class _SharedState:
    """What all iterators of one wrapped loader share."""

    def __init__(self, loader: Any, augmenter: AugmentsBatches) -> None:
        self.augmenter, self._loader = augmenter, loader
        self._requests = 0
        self._single = 0  # iterations of a single batch that the loop trained on
        self._latest: _Iteration | None = None
        self._training: _Iteration | None = None  # the iteration that the loop trains on

    def real_and_augmented(self, batch: Any) -> list[Any]:
        """The batch as the caller's loader yields it, then the augmented one if there is one."""
        real, full = self.augmenter.split(batch)
        augmented = self.augmenter.augment(real, full)
        return [real] if augmented is real else [real, augmented]

    def batches_for(self, batch: Any) -> list[Any]:
        """The batches that the training loop gets for one batch of the caller's loader."""
        if self.augmenter.mix == "passes":
            return [self.augmenter.split(batch)[0]]
        batches = self.real_and_augmented(batch)
        return batches if self.augmenter.mix == "alternate" else batches[-1:]

    def augmented_batches(self, start: StartIterator) -> list[Any]:
        """All augmented batches of an epoch, which mix="passes" yields before the real ones.

        As in the released code, the networks are updated on the whole set before the estimator
        trains on their pairs.
        """
        augmented = []
        for batch in start() if self.augmenter.active else ():
            augmented += self.real_and_augmented(batch)[1:]
            self.augmenter.update()
        return augmented

    def record_request(self, current: _Iteration) -> None:
        """Record the request of a batch, and end an iteration that was left early.

        An iteration that was left early ends when the loop trains on a later one. It does not end
        if a single batch is only looked at, or if two iterators are used side by side.
        """
        if current.batches == 0:
            self._count_single(self._latest)
            self._latest = current
        current.batches += 1
        self._requests += 1
        steps, previous = self.augmenter.steps, self._training
        stepped = current.steps is not None and steps > current.steps
        self._single = 0 if stepped else self._single
        if (
            stepped
            and previous is not current
            and (previous is None or previous.request < current.request)
        ):
            self._training = current
            if previous is not None:
                self.end(previous)
                if current.began is not None:  # it began after that epoch
                    current.began = self.augmenter.epochs
        current.steps, current.request = steps, self._requests

    def _count_single(self, latest: _Iteration | None) -> None:
        """Count an epoch for as many `next(iter(loader))`, each with a step, as it has batches."""
        if latest is None or latest.batches != 1 or latest.request != self._requests:
            return
        self._single += latest.began is not None and self.augmenter.steps > (latest.steps or 0)
        if self._single and self._single >= _length(self._loader):
            self._single = 0
            self.augmenter.end_epoch(self.augmenter.epochs)

    def end(self, iteration: _Iteration) -> None:
        """Count an iteration as an epoch, at most once."""
        began, iteration.began = iteration.began, None
        if began is not None:
            self.augmenter.end_epoch(began)


class AugmentedLoader:
    """A loader that yields augmented batches; length and attributes are the inner loader's.

    Args:
        loader: any iterable of batches, or an object with `next_epoch()`.
        augmenter: augments the batches.

    Raises:
        AttachError: mix="passes" with a loader that can be iterated only once.
    """

    def __init__(self, loader: Any, augmenter: AugmentsBatches) -> None:
        if augmenter.mix == "passes" and isinstance(loader, Iterator):
            raise AttachError(
                f"a {type(loader).__name__} can be iterated only once, but mix='passes' iterates "
                "the loader twice per epoch; wrap a DataLoader or another iterable that can be "
                "started again."
            )
        vars(self).update(_loader=loader, _shared=_SharedState(loader, augmenter))

    def __iter__(self) -> Iterator[Any]:
        _check_prepared(self._loader)
        return _AugmentedIterator(lambda: iter(self._loader), self._shared)

    def __len__(self) -> int:
        augmenter = self._shared.augmenter
        return len(self._loader) * (
            2 if augmenter.mix in DOUBLING_MIXES and augmenter.active else 1
        )

    def __copy__(self) -> AugmentedLoader:
        copied = object.__new__(type(self))
        vars(copied).update(vars(self))
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> AugmentedLoader:
        copied = object.__new__(type(self))
        vars(copied).update(copy.deepcopy(vars(self), memo))
        return copied

    def __reduce__(self) -> tuple[Callable[[Any], Any], tuple[Any]]:
        """Pickle the loader alone: the augmenter belongs to this process's model."""
        return _same, (self._loader,)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self._loader)})

    def __repr__(self) -> str:
        return f"AugmentedLoader({self._loader!r}, mix={self._shared.augmenter.mix!r})"

    def __bool__(self) -> bool:
        return bool(self._loader)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._loader, name)
        if name == "next_epoch" and callable(value):
            return lambda *args, **kwargs: _AugmentedIterator(
                lambda: iter(value(*args, **kwargs)), self._shared
            )
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._loader, name, value)


class AugmentedSequence(AugmentedLoader):
    """A wrapped loader with indices, which give its batches as they are."""

    def __getitem__(self, index: Any) -> Any:
        return self._loader[index]


class AugmentedIterator(AugmentedLoader):
    """A wrapped iterator, for `next()`."""

    def __next__(self) -> Any:
        if "_iterator" not in vars(self):
            vars(self)["_iterator"] = iter(self)
        return next(vars(self)["_iterator"])


def _length(loader: Any) -> float:
    """Number of batches; infinite if it is not known."""
    try:
        return len(loader)
    except TypeError:
        return float("inf")


def wrap_loader(loader: Any, augmenter: AugmentsBatches) -> AugmentedLoader:
    """Return the loader with augmented batches, with the abilities that it has itself."""
    kind = AugmentedLoader
    if isinstance(loader, Iterator):
        kind = AugmentedIterator
    elif hasattr(loader, "__getitem__"):
        kind = AugmentedSequence
    return kind(loader, augmenter)


def _same(loader: Any) -> Any:
    return loader


def _check_prepared(loader: Any) -> None:
    """Refuse a DataLoader that accelerate does not know: its `prepare` passes over wrapped ones.

    Raises:
        AttachError: accelerate runs several processes, and each would get all of the data.
    """
    accelerate = sys.modules.get("accelerate")
    if accelerate is None or not isinstance(loader, DataLoader) or world_size() == 1:
        return
    prepared = getattr(loader, "_is_accelerate_prepared", False)
    samplers = (getattr(loader, name, None) for name in ("sampler", "batch_sampler"))
    divided = any(hasattr(sampler, "num_replicas") for sampler in samplers)
    iterable = isinstance(loader.dataset, IterableDataset)  # may divide its data itself
    if accelerate.state.is_initialized() and not (prepared or divided or iterable):
        raise AttachError(
            f"the DataLoader was not prepared by accelerate, so each of the {world_size()} "
            "processes would train on all of the data: accelerator.prepare passes over a wrapped "
            "loader. Prepare first: loader = augmenter.wrap(accelerator.prepare(loader))."
        )


def unwrapped(loader: Any) -> Any:
    """The caller's loader inside an `AugmentedLoader`; any other loader is returned as it is."""
    return vars(loader)["_loader"] if isinstance(loader, AugmentedLoader) else loader


class _AugmentedIterator:
    """An iterator over augmented batches.

    It is not a generator, because a generator's grad mode would leak into the caller's loop.
    """

    def __init__(self, start: StartIterator, shared: _SharedState) -> None:
        self._start, self._shared = start, shared
        # mix="passes" iterates the loader only when the first batch is requested.
        self._batches = None if shared.augmenter.mix == "passes" else start()
        self._ready: list[Any] = []
        self._iteration = _Iteration()

    def __iter__(self) -> _AugmentedIterator:
        return self

    def __next__(self) -> Any:
        self._shared.record_request(self._iteration)
        if self._batches is None:
            self._ready = self._shared.augmented_batches(self._start)
            self._batches = self._start()
        if not self._ready:
            try:
                batch = next(self._batches)
            except StopIteration:
                self._shared.end(self._iteration)
                raise
            if self._iteration.began is None and self._shared.augmenter.active:
                self._iteration.began = self._shared.augmenter.epochs
            self._ready = self._shared.batches_for(batch)
        return self._ready.pop(0)
