"""The caller's loader, watched: which batches reach the loop in each mix, when an epoch ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import AttachError

__all__ = ["Deliveries", "WatchedLoader", "unwrapped"]

Start = Callable[[], Iterator[Any]]


@dataclass
class Pass:
    """One iterator's way through the loader."""

    counts: bool = False  # as an epoch, once it is over: something was augmented
    steps: int | None = None  # of the optimizer when it was last asked for a batch
    turn: int = 0  # when that was


@dataclass
class Deliveries:
    """What reaches the caller's loop.

    Args:
        mix: of the config.
        split: a batch as it would be without us, and the same with all the 3D there is.
        augment: of those two, the augmented batch, or the first itself.
        take_turn: trains augmentor and discriminators on the batch that was augmented last.
        active: whether a batch passing now would be augmented.
        steps: of the caller's optimizer so far.
        end_epoch: counts an epoch.
    """

    mix: str
    split: Callable[[Any], tuple[Any, Any]]
    augment: Callable[[Any, Any], Any]
    take_turn: Callable[[], None]
    active: Callable[[], bool]
    steps: Callable[[], int]
    end_epoch: Callable[[], None]
    trained: Pass | None = None  # whose batches steps follow
    turns: int = 0

    def both(self, batch: Any) -> list[Any]:
        """The batch as it would be without us, and its augmented one where there is one."""
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

    def asked(self, one: Pass) -> None:
        """Before each batch: a pass that was left early is over once another is trained on.

        Peeking leaves nothing: who takes a single batch is not asked again. Nor do two that are
        gone through side by side leave each other.
        """
        self.turns += 1
        steps, before = self.steps(), self.trained
        stepped = one.steps is not None and steps > one.steps
        if stepped and before is not one and (before is None or before.turn < one.turn):
            self.trained = one
            if before is not None:
                self.over(before)
        one.steps, one.turn = steps, self.turns

    def over(self, one: Pass) -> None:
        """Count a pass as an epoch, once."""
        if one.counts:
            one.counts = False
            self.end_epoch()


class WatchedLoader:
    """The caller's loader: same length, same attributes, its batches seen on the way out.

    Args:
        loader: any iterable of batches, or an object with `next_epoch()`.
        deliveries: what is handed on. Peeking with next(iter(loader)) ends no epoch.
        times: batches handed on per batch now, for `len`.

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


def unwrapped(loader: Any) -> Any:
    """The caller's own loader, whatever it was wrapped in."""
    return vars(loader)["_loader"] if isinstance(loader, WatchedLoader) else loader


class _WatchedIterator:
    """A class, not a generator: a generator's grad mode would leak into the caller's loop."""

    def __init__(self, start: Start, deliveries: Deliveries) -> None:
        self._start, self._deliveries = start, deliveries
        # Two passes: the first comes with the first batch, so that starting is free.
        self._batches = None if deliveries.mix == "passes" else start()
        self._ready: list[Any] = []
        self._pass = Pass()

    def __iter__(self) -> _WatchedIterator:
        return self

    def __next__(self) -> Any:
        self._deliveries.asked(self._pass)
        if self._batches is None:
            self._ready = self._deliveries.ahead(self._start)
            self._batches = self._start()
        if not self._ready:
            try:
                batch = next(self._batches)
            except StopIteration:
                self._deliveries.over(self._pass)
                raise
            self._pass.counts = self._pass.counts or self._deliveries.active()
            self._ready = self._deliveries.see(batch)
        return self._ready.pop(0)
