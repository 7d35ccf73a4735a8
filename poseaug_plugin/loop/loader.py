"""The caller's loader, wrapped: which batches reach the loop, and when an epoch ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import AttachError

__all__ = ["DOUBLING_MIXES", "AugmentedLoader", "AugmentsBatches", "unwrapped"]

Start = Callable[[], Iterator[Any]]

DOUBLING_MIXES = {"alternate", "passes"}  # which deliver every batch twice, real and augmented


class AugmentsBatches(Protocol):
    """What a wrapped loader needs of the augmenter it belongs to."""

    @property
    def mix(self) -> str:
        """How augmented pairs reach the loop, see `PoseAugConfig.mix`."""

    @property
    def active(self) -> bool:
        """Whether a batch that passes now would be augmented."""

    @property
    def steps(self) -> int:
        """Steps of the caller's optimizer so far."""

    def split(self, batch: Any) -> tuple[Any, Any]:
        """The batch as the caller's loader yields it, and the same with all the 3D there is."""

    def augment(self, batch: Any, full: Any) -> Any:
        """The augmented batch, or `batch` itself, from the two that `split` returns."""

    def update(self) -> None:
        """Train the networks on the batch that was augmented last."""

    def end_epoch(self) -> None:
        """Count an epoch."""


@dataclass
class _Pass:
    """One iterator's way through the loader."""

    counts: bool = False  # as an epoch when it ends: something was augmented
    steps: int | None = None  # of the optimizer when a batch was last requested
    request: int = 0  # the number of that request


class _Deliveries:
    """What all iterators of one wrapped loader share."""

    def __init__(self, augmenter: AugmentsBatches) -> None:
        self.augmenter = augmenter
        self._requests = 0
        self._trained: _Pass | None = None  # the pass whose batches are being trained on

    def both(self, batch: Any) -> list[Any]:
        """The batch as the caller's loader yields it, then its augmented one if there is one."""
        plain, full = self.augmenter.split(batch)
        augmented = self.augmenter.augment(plain, full)
        return [plain] if augmented is plain else [plain, augmented]

    def deliver(self, batch: Any) -> list[Any]:
        """What reaches the loop instead of a batch."""
        if self.augmenter.mix == "passes":
            return [self.augmenter.split(batch)[0]]
        both = self.both(batch)
        return both if self.augmenter.mix == "alternate" else both[-1:]

    def augmented_pass(self, start: Start) -> list[Any]:
        """All augmented batches of an epoch, which come first with mix="passes".

        This is the released code's order: the networks go over the whole set while the estimator
        stands still. It then trains on what they made, and on the real pairs last.
        """
        made = []
        for batch in start() if self.augmenter.active else ():
            made += self.both(batch)[1:]
            self.augmenter.update()
        return made

    def request(self, current: _Pass) -> None:
        """Note that a pass is asked for a batch.

        A pass that was left early ends when another one is trained on. Taking a single batch to
        look at it ends nothing, and neither do two passes that are iterated side by side.
        """
        self._requests += 1
        steps, before = self.augmenter.steps, self._trained
        stepped = current.steps is not None and steps > current.steps
        if (
            stepped
            and before is not current
            and (before is None or before.request < current.request)
        ):
            self._trained = current
            if before is not None:
                self.finish(before)
        current.steps, current.request = steps, self._requests

    def finish(self, finished: _Pass) -> None:
        """Count a pass as an epoch, once."""
        if finished.counts:
            finished.counts = False
            self.augmenter.end_epoch()


class AugmentedLoader:
    """The caller's loader with augmented batches; otherwise what it was: length and attributes.

    Args:
        loader: any iterable of batches, or an object with `next_epoch()`.
        augmenter: whose batches it delivers. Peeking with `next(iter(loader))` ends no epoch.

    Raises:
        AttachError: mix="passes" with a loader that can be iterated only once.
    """

    def __init__(self, loader: Any, augmenter: AugmentsBatches) -> None:
        if augmenter.mix == "passes" and isinstance(loader, Iterator):
            raise AttachError(
                f"a {type(loader).__name__} can be iterated only once, but mix='passes' goes over "
                "the loader twice per epoch; pass a DataLoader, or any object that starts anew."
            )
        vars(self).update(_loader=loader, _deliveries=_Deliveries(augmenter))

    def __iter__(self) -> Iterator[Any]:
        return _AugmentedIterator(lambda: iter(self._loader), self._deliveries)

    def __len__(self) -> int:
        augmenter = self._deliveries.augmenter
        return len(self._loader) * (
            2 if augmenter.mix in DOUBLING_MIXES and augmenter.active else 1
        )

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self._loader)})

    def __repr__(self) -> str:
        return f"AugmentedLoader({self._loader!r}, mix={self._deliveries.augmenter.mix!r})"

    def __bool__(self) -> bool:
        return bool(self._loader)

    def __getattr__(self, name: str) -> Any:
        if name == "_loader":  # a copy in the making has no loader yet
            raise AttributeError(name)
        value = getattr(self._loader, name)
        if name == "next_epoch" and callable(value):
            return lambda *args, **kwargs: _AugmentedIterator(
                lambda: iter(value(*args, **kwargs)), self._deliveries
            )
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._loader, name, value)


def unwrapped(loader: Any) -> Any:
    """The caller's own loader, whatever it was wrapped in."""
    return vars(loader)["_loader"] if isinstance(loader, AugmentedLoader) else loader


class _AugmentedIterator:
    """A class, not a generator: a generator's grad mode would leak into the caller's loop."""

    def __init__(self, start: Start, deliveries: _Deliveries) -> None:
        self._start, self._deliveries = start, deliveries
        # Two passes: the first comes with the first batch, so that starting is free.
        self._batches = None if deliveries.augmenter.mix == "passes" else start()
        self._ready: list[Any] = []
        self._pass = _Pass()

    def __iter__(self) -> _AugmentedIterator:
        return self

    def __next__(self) -> Any:
        self._deliveries.request(self._pass)
        if self._batches is None:
            self._ready = self._deliveries.augmented_pass(self._start)
            self._batches = self._start()
        if not self._ready:
            try:
                batch = next(self._batches)
            except StopIteration:
                self._deliveries.finish(self._pass)
                raise
            self._pass.counts = self._pass.counts or self._deliveries.augmenter.active
            self._ready = self._deliveries.deliver(batch)
        return self._ready.pop(0)
