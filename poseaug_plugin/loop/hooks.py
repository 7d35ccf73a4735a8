"""The hooks on the caller's optimizer and model."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch

from ..errors import AttachError

__all__ = ["Attachment", "ForwardHook", "StepHook", "inner_optimizer"]

_ATTACHED: weakref.WeakKeyDictionary[torch.optim.Optimizer, weakref.WeakMethod[Any]]
_ATTACHED = weakref.WeakKeyDictionary()

_is_compiling: Callable[[], bool]
if hasattr(torch.compiler, "is_compiling"):
    _is_compiling = torch.compiler.is_compiling
else:  # before torch 2.3
    _is_compiling = lambda: torch._dynamo.is_compiling()  # noqa: E731


class _Hook:
    """Calls a bound method through a weak reference.

    A copied or unpickled hook does nothing. A bound method as the hook would be copied, with its
    object, whenever the optimizer or model is copied or pickled.
    """

    def __init__(self, method: Callable[..., None] | None = None) -> None:
        self._method = None if method is None else weakref.WeakMethod(method)

    def _call_method(self, *args: Any) -> None:
        method = self._method() if self._method else None
        if method is not None:
            method(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Hook:
        return type(self)()

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return type(self), ()


class StepHook(_Hook):
    """Calls a bound method without arguments after each optimizer step."""

    def __init__(self, method: Callable[[], None] | None = None) -> None:
        super().__init__(method)
        # torch.compile of a whole training step would trace the hook with it.
        self._call: Callable[[], None] = torch.compiler.disable(self._call_method)

    def __call__(self, *_: Any) -> None:
        self._call()


class ForwardHook(_Hook):
    """Calls a bound method after each forward pass: module, args, kwargs and output.

    Not in code that torch.compile traces: the break in the graph could change its numbers.
    """

    def __call__(self, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        if not _is_compiling():
            self._call_method(module, args, kwargs, output)


class Attachment:
    """Calls a bound method after each step of an optimizer, until `remove()`.

    Args:
        optimizer: the optimizer. It is not kept alive.
        method: the bound method. Its object is not kept alive.

    Raises:
        AttachError: the optimizer has an attachment already.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, method: Callable[[], None]) -> None:
        other = _ATTACHED.get(optimizer)
        if other is not None and other() is not None:
            raise AttachError(
                f"the {type(optimizer).__name__} has an augmenter already; call its detach() "
                "before you create another PoseAugmenter."
            )
        #: Whether an earlier one was dropped without `remove()`.
        self.follows_another = other is not None
        self._handle: Any = optimizer.register_step_post_hook(StepHook(method))
        self._optimizer: weakref.ref[torch.optim.Optimizer] | None = weakref.ref(optimizer)
        _ATTACHED[optimizer] = weakref.WeakMethod(method)

    @property
    def optimizer(self) -> torch.optim.Optimizer | None:
        """The optimizer, or None if it was garbage-collected, or in a copy."""
        return None if self._optimizer is None else self._optimizer()

    def remove(self) -> None:
        """Remove the hook."""
        optimizer = self.optimizer
        if optimizer is not None:
            self._handle.remove()
            _ATTACHED.pop(optimizer, None)
        self._optimizer = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Attachment:
        """Return an attachment to nothing: the optimizer has the original's hook."""
        return _unattached()

    def __reduce__(self) -> tuple[Callable[[], Attachment], tuple[()]]:
        return _unattached, ()


def _unattached() -> Attachment:
    attachment = Attachment.__new__(Attachment)
    attachment._handle = attachment._optimizer = None
    return attachment


def inner_optimizer(optimizer: Any) -> torch.optim.Optimizer:
    """The torch optimizer inside wrappers that do not take hooks (accelerate, Opacus, mmengine).

    Raises:
        AttachError: there is no torch optimizer.
    """
    for name in ("optimizer", "original_optimizer"):
        inner = getattr(optimizer, name, None)
        if isinstance(inner, torch.optim.Optimizer):
            return inner_optimizer(inner)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise AttachError(
            f"optimizer is a {type(optimizer).__name__}, expected a torch.optim.Optimizer or a "
            "wrapper with one in its attribute `optimizer`. Pass optimizer= the one that trains "
            "the model."
        )
    return optimizer
