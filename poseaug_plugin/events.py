"""What the plugin says: events to callbacks, and each warning once."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .errors import AttachError, PoseAugWarning

if TYPE_CHECKING:
    from .plugin import PoseAugmenter

__all__ = [
    "BATCHES_WITHOUT_STEP",
    "STEPS_WITHOUT_BATCH",
    "WARNINGS",
    "Callback",
    "Event",
    "Notifier",
]

STEPS_WITHOUT_BATCH = 20  # optimizer steps without a batch before the caller is told
BATCHES_WITHOUT_STEP = 200  # batches without a step

#: All that is ever warned about, each once.
WARNINGS = {
    "batchnorm": "mix='alternate' feeds real and augmented batches in turn: BatchNorm normalises "
    "each by its own statistics but evaluates with a blend, which costs accuracy. Use "
    "mix='replace' or 'append', or keep it to reproduce the paper.",
    "root": "the batch tells no root: it is fitted to the 2D. Only the 2D discriminator and the "
    "bone-angle feedback see it.",
    "camera": "the batch tells no root: it is fitted to the 2D, with the camera given or assumed. "
    "Only the 2D discriminator and the bone-angle feedback see it.",
    "never_fed": f"{STEPS_WITHOUT_BATCH} optimizer steps and no batch came by: the loop iterates "
    "another loader than augmenter.wrap(loader) returned, or the model is in evaluation "
    "mode. Nothing is augmented.",
    "never_stepped": f"{BATCHES_WITHOUT_STEP} batches came by and no step of the optimizer that "
    "was given: the loop steps another one, made later perhaps. Give the augmenter the one that "
    "the loop steps: what it learns, it learns after steps.",
    "bad_batch": "a batch passes through untouched: {}",
    "turn": "a turn of the augmentor was skipped: {}",
}


@dataclass(frozen=True)
class Event:
    """What happened. `augmenter.stats()` gives the numbers; only asking for them costs time."""

    kind: str  # "step" after each estimator step, "epoch", "collapse", "bad_batch"
    augmenter: PoseAugmenter
    message: str = ""


class Callback(Protocol):
    """Anything that takes an event."""

    def __call__(self, event: Event, /) -> object: ...


class Notifier:
    """Tells callbacks, and warns about each matter once."""

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        if not isinstance(callbacks, Iterable) or not all(map(callable, found := [*callbacks])):
            raise AttachError(f"callbacks={callbacks!r} must be a list of callables of an Event.")
        self._callbacks = found
        self._warned: set[str] = set()

    def emit(self, kind: str, augmenter: PoseAugmenter, message: str = "") -> None:
        event = Event(kind, augmenter, message)
        for callback in self._callbacks:
            callback(event)

    def warn(self, matter: str, *facts: object) -> None:
        """Of one of `WARNINGS`, its gaps filled by the facts."""
        if matter not in self._warned:
            self._warned.add(matter)
            told, depth = WARNINGS[matter].format(*facts), _callers_depth()
            warnings.warn(told, PoseAugWarning, stacklevel=depth)


def _callers_depth() -> int:
    """How far up the stack of whom this is called from the first frame outside the package is."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(f"{__package__}."):
        depth, frame = depth + 1, frame.f_back
    return depth
