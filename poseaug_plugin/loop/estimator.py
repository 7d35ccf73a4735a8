"""The caller's model, asked without leaving a trace on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import AttachError

__all__ = ["Estimator", "full_precision"]

Predict = Callable[[nn.Module, Tensor], Tensor]


def full_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Without the autocast that a caller's loop may be in: geometry takes whole float32."""
    try:
        return torch.autocast(device.type, enabled=False)
    except RuntimeError:  # a device that knows none
        return contextlib.nullcontext()


class Estimator:
    """Asks a model for predictions in evaluation mode and puts every flag back.

    Args:
        model: the caller's; DataParallel and DistributedDataParallel are unwrapped, so that a
            pass of ours neither scatters rows nor broadcasts buffers.
        predict: how to call it, `predict(model, pose_2d)`; by default `model(pose_2d)`.

    Raises:
        AttachError: it has no parameters, or `predict` is nothing to call.
    """

    def __init__(self, model: nn.Module, predict: Predict | None = None) -> None:
        if not isinstance(model, nn.Module):
            raise AttachError(
                f"model is a {type(model).__name__}, expected the torch.nn.Module to be trained."
            )
        if predict is not None and not callable(predict):
            raise AttachError(
                f"predict={predict!r}, expected what to call: predict(model, pose_2d)."
            )
        self.outer = model
        # torch's wrappers, and those that are named after them; a submodule may be called module.
        wraps = any("Parallel" in kind.__name__ for kind in type(model).__mro__)
        inner = getattr(model, "module", None) if wraps else None
        self.model = inner if isinstance(inner, nn.Module) else model
        name = type(self.model).__name__
        self.called = f"predict({name}, pose_2d)" if predict else f"{name}(pose_2d)"
        self.predict = predict or (lambda net, pose_2d: net(pose_2d))
        if next(self.model.parameters(), None) is None:
            raise AttachError(f"{type(model).__name__} has no parameters; nothing to train.")

    @property
    def training(self) -> bool:
        return self.outer.training

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def has_batchnorm(self) -> bool:
        return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.model.modules())

    def check_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Raise AttachError unless the optimizer trains some of the model."""
        own = {id(p) for p in self.model.parameters()}
        if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
            raise AttachError(
                f"the {type(optimizer).__name__} holds none of the parameters of "
                f"{type(self.model).__name__}; pass the optimizer that trains this model."
            )

    def __call__(self, pose_2d: Tensor) -> Any:
        dtype = next(self.model.parameters()).dtype
        return self.predict(self.model, pose_2d.to(dtype))

    @contextlib.contextmanager
    def untouched(self) -> Iterator[None]:
        """Evaluation mode with gradients on, own autocast state, the random stream kept.

        Flags are set and restored module by module: a caller may keep a frozen BatchNorm in
        evaluation mode while the rest trains.
        """
        device = self.device
        cuda = [device] if device.type == "cuda" else []
        modules = list(self.model.modules())
        flags = [m.training for m in modules]
        with torch.random.fork_rng(devices=cuda), full_precision(device):
            try:
                for module in modules:
                    module.training = False
                with torch.enable_grad():
                    yield
            finally:
                for module, flag in zip(modules, flags):
                    module.training = flag
