"""How the plugin hangs on the caller's objects: an optimizer hook, a watched loader. No maths."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch

from .errors import AttachError

__all__ = ["Attachment", "StepHook", "WatchedLoader", "inner_optimizer"]

_ATTACHED: weakref.WeakKeyDictionary[torch.optim.Optimizer, weakref.WeakMethod[Any]]
_ATTACHED = weakref.WeakKeyDictionary()


class StepHook:
    """Calls a bound method after each optimizer step, and keeps nothing alive.

    A bound method would travel with every copy of its optimizer; a copy or a pickle of this is
    dead and does nothing.
    """

    def __init__(self, method: Callable[[], None] | None = None) -> None:
        self._method = None if method is None else weakref.WeakMethod(method)

    def __call__(self, *_: Any) -> None:
        method = self._method() if self._method else None
        if method is not None:
            method()

    def __deepcopy__(self, memo: dict[int, Any]) -> StepHook:
        return StepHook()

    def __reduce__(self) -> tuple[type[StepHook], tuple[()]]:
        return StepHook, ()


class Attachment:
    """One hook on one optimizer, which has no other of ours.

    Raises:
        AttachError: it has one already.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, method: Callable[[], None]) -> None:
        other = _ATTACHED.get(optimizer)
        if other is not None and other() is not None:
            raise AttachError(
                "this optimizer has an augmenter already; call its detach() before attaching "
                "another."
            )
        self._handle = optimizer.register_step_post_hook(StepHook(method))
        self._optimizer = weakref.ref(optimizer)
        _ATTACHED[optimizer] = weakref.WeakMethod(method)

    def remove(self) -> None:
        self._handle.remove()
        optimizer = self._optimizer()
        if optimizer is not None:
            _ATTACHED.pop(optimizer, None)


def inner_optimizer(optimizer: Any) -> torch.optim.Optimizer:
    """The torch optimizer inside wrappers that refuse hooks (accelerate, Opacus, mmengine)."""
    for name in ("optimizer", "original_optimizer"):
        inner = getattr(optimizer, name, None)
        if isinstance(inner, torch.optim.Optimizer):
            return inner_optimizer(inner)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise AttachError(
            f"optimizer is a {type(optimizer).__name__}, expected the torch optimizer that trains "
            "the model, or a wrapper with it in .optimizer."
        )
    return optimizer


class WatchedLoader:
    """The caller's loader: same length, same attributes, its batches seen on the way out.

    Args:
        loader: any iterable of batches, or an object with `next_epoch()`.
        see: takes a batch, returns the batches to hand on instead of it.
        ended: called when an iterator is exhausted; peeking with next(iter(loader)) is free.
        times: batches handed on per batch, for `len`.
    """

    def __init__(
        self,
        loader: Any,
        see: Callable[[Any], list[Any]],
        ended: Callable[[], None],
        times: Callable[[], int],
    ) -> None:
        vars(self).update(_loader=loader, _see=see, _ended=ended, _times=times)

    def __iter__(self) -> Iterator[Any]:
        return _WatchedIterator(iter(self._loader), self._see, self._ended)

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
                iter(value(*args, **kwargs)), self._see, self._ended
            )
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._loader, name, value)


class _WatchedIterator:
    """A class, not a generator: a generator's grad mode would leak into the caller's loop."""

    def __init__(
        self, batches: Iterator[Any], see: Callable[[Any], list[Any]], ended: Callable[[], None]
    ) -> None:
        self._batches, self._see, self._ended = batches, see, ended
        self._ready: list[Any] = []
        self._live = True

    def __iter__(self) -> _WatchedIterator:
        return self

    def __next__(self) -> Any:
        if not self._ready:
            try:
                batch = next(self._batches)
            except StopIteration:
                if self._live:
                    self._live = False
                    self._ended()
                raise
            self._ready = self._see(batch)
        return self._ready.pop(0)
