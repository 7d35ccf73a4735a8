"""What the plugin says: events to callbacks, and each warning once."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .errors import PoseAugWarning

if TYPE_CHECKING:
    from .plugin import PoseAugmenter

__all__ = ["Callback", "Event", "Voice"]


@dataclass(frozen=True)
class Event:
    """What happened. `augmenter.stats()` gives the numbers; only asking for them costs time."""

    kind: str  # "step" after each estimator step, "epoch", "collapse", "bad_batch"
    augmenter: PoseAugmenter
    message: str = ""


class Callback(Protocol):
    """Anything that takes an event."""

    def __call__(self, event: Event, /) -> object: ...


class Voice:
    """Tells callbacks, and warns about each matter once."""

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        self._callbacks = list(callbacks)
        self._warned: set[str] = set()

    def tell(self, kind: str, augmenter: PoseAugmenter, message: str = "") -> None:
        event = Event(kind, augmenter, message)
        for callback in self._callbacks:
            callback(event)

    def warn(self, matter: str, message: str) -> None:
        if matter not in self._warned:
            self._warned.add(matter)
            warnings.warn(message, PoseAugWarning, stacklevel=4)
