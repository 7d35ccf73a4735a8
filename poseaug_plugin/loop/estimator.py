"""Calls the caller's model without changing it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import AttachError, ConfigError
from ..random_streams import restored_streams

__all__ = ["Estimator", "Predict", "first_tensor", "full_precision"]

Predict = Callable[[nn.Module, Tensor], Tensor]


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Context manager without the caller's autocast and TF32: geometry needs float32."""
    try:
        no_autocast: contextlib.AbstractContextManager[Any]
        no_autocast = torch.autocast(device.type, enabled=False)
    except RuntimeError:  # a device without autocast
        no_autocast = contextlib.nullcontext()
    with no_autocast, _full_matmul_precision():
        yield


@contextlib.contextmanager
def _full_matmul_precision() -> Iterator[None]:
    matmuls: list[Any] = [
        torch.backends.cuda.matmul,
        getattr(torch.backends.mkldnn, "matmul", None),
    ]
    # Not `hasattr(cuda.matmul, ...)`: in older torch it raises an AssertionError.
    has_setting = hasattr(torch.backends, "fp32_precision")
    backends = [matmul for matmul in matmuls if has_setting and matmul is not None]
    before = [backend.fp32_precision for backend in backends]
    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError:  # the caller has set `fp32_precision`, which does not mix with this
        precision = ""
    if precision == "highest":
        yield
        return
    if precision:
        torch.set_float32_matmul_precision("highest")
    else:
        for backend in backends:
            backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        if precision:
            torch.set_float32_matmul_precision(precision)
        for backend, own in zip(backends, before):
            backend.fp32_precision = own


@contextlib.contextmanager
def _without_cudnn(condition: bool) -> Iterator[None]:
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = before and not condition
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


class _Replay:
    """Stands in for the model in a call of `predict`, and returns an output it has returned.

    Attributes:
        passed: the arguments of each call.
    """

    def __init__(self, model: nn.Module, output: Any) -> None:
        self._model, self._output = model, output
        self.passed: list[tuple[Any, ...]] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.passed.append((*args, *kwargs.values()))
        return self._output

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


class Estimator:
    """The caller's model, as the plugin calls it.

    Args:
        model: the model in training. DataParallel and DistributedDataParallel are unwrapped, so
            that a call neither scatters rows nor broadcasts buffers.
        predict: how to call the model, `predict(model, pose_2d)`. Default: `model(pose_2d)`.

    Attributes:
        outer: the model as it was passed, which the training loop calls.
        called: the call as text, for error messages.

    Raises:
        AttachError: `model` is not a module, or has no parameters.
        ConfigError: `predict` is not callable.
    """

    def __init__(self, model: nn.Module, predict: Predict | None = None) -> None:
        if not isinstance(model, nn.Module):
            cure = "pass PoseAugmenter(model, optimizer, ...) in this order"
            if isinstance(model, Mapping):
                names = [name for name, part in model.items() if isinstance(part, nn.Module)]
                cure = f"pass the one that is trained, of {names}"
            raise AttachError(
                f"model is a {type(model).__name__}, expected the torch.nn.Module to be trained; "
                f"{cure}."
            )
        if predict is not None and not callable(predict):
            raise ConfigError(
                f"predict={predict!r} is not callable; pass predict=lambda model, pose_2d: ... "
                "that calls the model, or None."
            )
        self.outer = model
        self._callers_flag: bool | None = None  # training flag of the caller, inside `untouched()`
        # torch's wrappers, and other libraries' that are named like them. The name is checked
        # because an ordinary model may have a submodule called `module`.
        wraps = any("Parallel" in kind.__name__ for kind in type(model).__mro__)
        inner = getattr(model, "module", None) if wraps else None
        self.model = inner if isinstance(inner, nn.Module) else model
        name = type(self.model).__name__
        self.called = f"predict({name}, pose_2d)" if predict else f"{name}(pose_2d)"
        self._is_default = predict is None
        self._predict = predict or (lambda net, pose_2d: net(pose_2d))
        if next(self.model.parameters(), None) is None:
            raise AttachError(
                f"{type(model).__name__} has no parameters, so there is nothing to train; pass "
                "model= the module that the optimizer trains."
            )

    @property
    def training(self) -> bool:
        """Whether the caller has the model in training mode.

        A loader may be iterated by another thread while the plugin calls the model.
        """
        flag = self._callers_flag
        return self.outer.training if flag is None else flag

    @property
    def device(self) -> torch.device:
        """The device of the model's parameters."""
        return next(self.model.parameters()).device

    @property
    def has_batchnorm(self) -> bool:
        """Whether the model has a BatchNorm layer."""
        return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.model.modules())

    @cached_property  # asked after every step
    def is_sharded(self) -> bool:
        """Whether its parameters are divided among the ranks, as by FSDP2.

        Each call then gathers them, so all ranks have to call the model equally often.
        """
        return any(hasattr(p, "full_tensor") for p in self.model.parameters())

    def check_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Check that the optimizer trains the model, or a part of it.

        Raises:
            AttachError: it has none of the model's parameters.
        """
        own = {id(p) for p in self.model.parameters()}
        if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
            raise AttachError(
                f"the {type(optimizer).__name__} holds none of the parameters of "
                f"{type(self.model).__name__}; pass optimizer= the one that trains this model."
            )

    def __call__(self, pose_2d: Tensor) -> Any:
        """Call the model, in the dtype of its parameters."""
        dtype = next(self.model.parameters()).dtype
        return self._predict(self.model, pose_2d.to(dtype))

    @torch.no_grad()
    def replay(self, output: Any, pose_2d: Tensor) -> tuple[Tensor | None, Any]:
        """Return what a call would have given if the model had returned `output`.

        The model is not called, and `output` is not changed.

        Args:
            output: what the model returned in the training loop.
            pose_2d: as in a call.

        Returns:
            The first tensor that the call passes to the model, and the prediction in float32.

        Raises:
            ConfigError: `predict` does not call the model once.
        """
        stand_in = _Replay(self.model, _copied(output))
        draws = contextlib.nullcontext() if self._is_default else restored_streams([pose_2d.device])
        with draws:
            predicted = self._predict(cast(nn.Module, stand_in), pose_2d)
        if len(stand_in.passed) != 1:
            raise ConfigError(f"{self.called} calls the model {len(stand_in.passed)} times")
        return first_tensor(stand_in.passed[0]), predicted

    @contextlib.contextmanager
    def untouched(self) -> Iterator[None]:
        """Context manager in which the model can be called without changing it.

        Inside, the model is in evaluation mode, gradients are on, and autocast is off. Afterwards
        its training flags, buffers and attributes, such as the state of a recurrent lifter, and
        the global random streams are as before. Flags are set and restored for each module,
        because a caller may keep a frozen BatchNorm in evaluation mode.
        """
        device = self.device
        modules = list(self.model.modules())
        flags = [m.training for m in modules]
        # Not parameters and submodules, which FSDP exchanges in a call.
        registries = [d for m in modules for d in (vars(m), m._buffers) if isinstance(d, dict)]
        kept = [dict(registry) for registry in registries]
        copies = _copies_of_buffers(modules)
        self._callers_flag = self.outer.training
        # The RNN kernels of cuDNN have no backward pass in evaluation mode; those of torch have.
        slow_rnn = device.type == "cuda" and any(isinstance(m, nn.RNNBase) for m in modules)
        with restored_streams([device]), full_precision(device), _without_cudnn(slow_rnn):
            try:
                for module in modules:
                    module.training = False
                with torch.enable_grad():
                    yield
            finally:
                for registry, before in zip(registries, kept):
                    _restore(registry, before)
                for module, flag in zip(modules, flags):
                    module.training = flag
                for buffer, version, copy in copies:
                    if buffer._version != version:  # else a graph may still need it
                        with torch.no_grad():
                            buffer.copy_(copy)
                self._callers_flag = None


def _restore(registry: dict[str, Any], before: dict[str, Any]) -> None:
    """Give a mapping the keys and the very values that it had before."""
    for name in registry.keys() - before.keys():
        del registry[name]
    for name, value in before.items():
        if registry.get(name) is not value:
            registry[name] = value


def _copies_of_buffers(modules: Iterable[nn.Module]) -> list[tuple[Tensor, int, Tensor]]:
    """Buffers with their versions and copies; not those of norms, fixed in evaluation mode."""
    return [
        (buffer, buffer._version, buffer.clone())
        for module in modules
        if not isinstance(module, nn.modules.batchnorm._NormBase)
        for buffer in module._buffers.values()
        if buffer is not None and not buffer.is_inference()
    ]


def first_tensor(values: Any) -> Tensor | None:
    """Return the first tensor in nested lists, tuples and mappings, if there is one."""
    if isinstance(values, Tensor):
        return values
    if isinstance(values, Mapping):
        values = values.values()
    elif not isinstance(values, (list, tuple)):
        return None
    return next((x for value in values if (x := first_tensor(value)) is not None), None)


def _copied(output: Any) -> Any:
    """Return an output with copies of its tensors in float32, without their graph."""
    if isinstance(output, Tensor):
        return output.detach().to(torch.float32, copy=True)
    if isinstance(output, Mapping):
        return {name: _copied(value) for name, value in output.items()}
    if isinstance(output, (list, tuple)):
        copies = [_copied(value) for value in output]
        return type(output)(*copies) if hasattr(output, "_fields") else type(output)(copies)
    return output
