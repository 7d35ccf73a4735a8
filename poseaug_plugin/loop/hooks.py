"""How the plugin hangs on the caller's optimizer: one hook, that leaves no trace. No maths."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch

from ..errors import AttachError

__all__ = ["Attachment", "StepHook", "inner_optimizer"]

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
