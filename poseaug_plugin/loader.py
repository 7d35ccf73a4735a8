"""The caller's loader, watched: which batches reach the loop in each mix, when an epoch ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .errors import AttachError

__all__ = ["Deliveries", "WatchedLoader"]

Start = Callable[[], Iterator[Any]]


@dataclass
class Deliveries:
    """What reaches the caller's loop.

    Args:
        mix: of the config.
        split: a batch as it would be without us, and the same with all the 3D there is.
        augment: of those two, the augmented batch, or the first itself.
        take_turn: trains augmentor and discriminators on the batch that was augmented last.
        active: whether a batch passing now would be augmented.
        end_epoch: counts an epoch.
    """

    mix: str
    split: Callable[[Any], tuple[Any, Any]]
    augment: Callable[[Any, Any], Any]
    take_turn: Callable[[], None]
    active: Callable[[], bool]
    end_epoch: Callable[[], None]
    seen_active: bool = False

    def both(self, batch: Any) -> list[Any]:
        """The batch as it would be without us, and its augmented one where there is one."""
        self.seen_active = self.seen_active or self.active()
        bare, full = self.split(batch)
        made = self.augment(bare, full)
        return [bare] if made is bare else [bare, made]

    def see(self, batch: Any) -> list[Any]:
        """What is handed on instead of a batch."""
        if self.mix == "passes":
            return [self.split(batch)[0]]
        both = self.both(batch)
        return both if self.mix == "alternate" else both[-1:]

    def ahead(self, start: Start) -> list[Any]:
        """What is handed on before all batches in "passes": an epoch's augmented ones.

        The released code's order: augmentor and discriminators go over the whole set while the
        estimator stands still; it then trains on what they made, and on the real pairs last.
        """
        made = []
        for batch in start() if self.active() else ():
            made += self.both(batch)[1:]
            self.take_turn()
        return made

    def ended(self) -> None:
        """An iterator is exhausted; it counts if anything was augmented."""
        if self.seen_active:
            self.seen_active = False
            self.end_epoch()


class WatchedLoader:
    """The caller's loader: same length, same attributes, its batches seen on the way out.

    Args:
        loader: any iterable of batches, or an object with `next_epoch()`.
        deliveries: what is handed on. Peeking with next(iter(loader)) ends no epoch.
        times: batches handed on per batch, for `len`.

    Raises:
        AttachError: mix="passes" over what can be iterated once.
    """

    def __init__(
        self,
        loader: Any,
        deliveries: Deliveries,
        times: Callable[[], int],
    ) -> None:
        if deliveries.mix == "passes" and isinstance(loader, Iterator):
            raise AttachError(
                f"mix='passes' goes over the loader twice an epoch, but a {type(loader).__name__} "
                "can be iterated once; pass a DataLoader, or any object that starts anew."
            )
        vars(self).update(_loader=loader, _deliveries=deliveries, _times=times)

    def __iter__(self) -> Iterator[Any]:
        return _WatchedIterator(lambda: iter(self._loader), self._deliveries)

    def __len__(self) -> int:
        return int(len(self._loader) * self._times())

    def __bool__(self) -> bool:
        return bool(self._loader)

    def __getattr__(self, name: str) -> Any:
        if name == "_loader":  # a copy in the making has no loader yet
            raise AttributeError(name)
        value = getattr(self._loader, name)
        if name == "next_epoch" and callable(value):
            return lambda *args, **kwargs: _WatchedIterator(
                lambda: iter(value(*args, **kwargs)), self._deliveries
            )
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._loader, name, value)


class _WatchedIterator:
    """A class, not a generator: a generator's grad mode would leak into the caller's loop."""

    def __init__(self, start: Start, deliveries: Deliveries) -> None:
        self._start, self._deliveries = start, deliveries
        # Two passes: the first comes with the first batch, so that starting is free.
        self._batches = None if deliveries.mix == "passes" else start()
        self._ready: list[Any] = []
        self._live = True

    def __iter__(self) -> _WatchedIterator:
        return self

    def __next__(self) -> Any:
        if self._batches is None:
            self._ready = self._deliveries.ahead(self._start)
            self._batches = self._start()
        if not self._ready:
            try:
                batch = next(self._batches)
            except StopIteration:
                if self._live:
                    self._live = False
                    self._deliveries.ended()
                raise
            self._ready = self._deliveries.see(batch)
        return self._ready.pop(0)
