"""A CUDA device for machines without one: its tensors say `cuda:0` and compute on the CPU.

Inside `with SimulatedCuda() as cuda:` the ordinary calls work: `model.cuda()`, `x.to("cuda")`,
`torch.zeros(3, device="cuda")`, `torch.Generator("cuda")`, `torch.autocast("cuda")`.

What it checks, as a real device does:

- An operation on tensors of both devices raises. CPU scalars and CPU indices are allowed.
- A generator must be on the device of the tensor. The random state of the device is not that of
  the CPU, and the state of a generator has 16 bytes.
- A tensor on the device has no `numpy()`.
- With `torch.use_deterministic_algorithms(True)`, operations without a deterministic kernel raise.

It also counts what makes the program wait, in `cuda.waits`: copies that are not `non_blocking`, and
reads of values by the host, such as `bool(x)`, `x.nonzero()` and `x[mask]`.

What it cannot check: the numbers of CUDA kernels, TF32, time, memory, streams, graphs, NCCL, and
whether a non-blocking copy from memory that is not pinned waits in the driver. Autocast of the
device also acts on CPU tensors. A copy between the devices has no gradient.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock
from weakref import WeakValueDictionary

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["SimulatedCuda"]

CUDA, CPU = torch.device("cuda:0"), torch.device("cpu")
PACKAGE = str(Path(__file__).parent.parent / "poseaug_plugin")

#: Operations of which the host reads a value or the size of the result.
READS = {
    *("_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select"),
    *("_unique2", "unique_dim", "unique_consecutive", "repeat_interleave"),
}
#: Operations without a deterministic kernel; a cumsum of floats is another one.
UNSTABLE = {"kthvalue", "median.dim", "histc", "put_"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}


class SimulatedTensor(torch.Tensor):
    """A tensor on the device. C++ takes it for a CPU tensor without memory."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    @staticmethod
    def __new__(cls, host: Tensor) -> SimulatedTensor:
        layout = dict(strides=host.stride(), storage_offset=host.storage_offset())
        made = Tensor._make_wrapper_subclass(
            cls, host.shape, dtype=host.dtype, device=CPU, **layout
        )
        made.host = host
        return made

    def __repr__(self) -> str:
        return f"{self.host!r} on {CUDA}"

    def __deepcopy__(self, memo: dict[int, Any]) -> SimulatedTensor:
        made = SimulatedTensor(self.host.clone()).requires_grad_(self.requires_grad)
        return memo.setdefault(id(self), made)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} on a tensor of the simulated device, which is off")


class Generator(torch.Generator):
    """A generator on either device; that of CUDA has a seed and an offset as its state."""

    #: By address, since C++ hands over a generator in a new Python object.
    known: ClassVar[WeakValueDictionary[int, Generator]] = WeakValueDictionary()

    def __new__(cls, device: Any = "cpu") -> Generator:
        made = super().__new__(cls)
        made.on_cuda, made.seed_, made.offset = torch.device(device).type == "cuda", 0, 0
        cls.known[made._cdata] = made
        return made

    def __init__(self, device: Any = "cpu") -> None:
        super().__init__()

    @property
    def device(self) -> torch.device:
        return CUDA if self.on_cuda else CPU

    def manual_seed(self, seed: int) -> Generator:
        self.seed_, self.offset = seed, 0
        super().manual_seed(seed)
        return self

    def get_state(self) -> Tensor:
        numbers = np.array([self.seed_, self.offset])
        return torch.from_numpy(numbers.view(np.uint8)) if self.on_cuda else super().get_state()

    def set_state(self, state: Tensor) -> Generator:
        if not self.on_cuda:
            return super().set_state(state)
        if isinstance(state, SimulatedTensor) or state.shape != (16,):
            raise RuntimeError(f"RNG state of shape {tuple(state.shape)} on {state.device}")
        self.seed_, self.offset = map(int, state.numpy().view(np.int64))
        return self

    def advance(self) -> Tensor:
        """Seed the numbers of the next draw by seed and offset; return the CPU's state for them."""
        self.offset += 4
        super().manual_seed((self.seed_ * 1_000_003 + self.offset) % 2**63)
        return super().get_state()


class Autocast(torch.autocast):
    """Autocast of the device is that of the CPU, on which it computes."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


def _leaves(value: dict[Any, Any] | list[Any] | tuple[Any, ...]) -> list[Any]:
    """The values of nested lists, tuples and dicts."""
    found: list[Any] = []
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, (dict, list, tuple)):
            found += _leaves(item)
        else:
            found.append(item)
    return found


def _map(change: Any, value: Any) -> Any:
    """The same nested lists and tuples with changed values."""
    if isinstance(value, (list, tuple)):
        return type(value)([_map(change, item) for item in value])
    return change(value)


def _host(value: Any) -> Any:
    return value.host if isinstance(value, SimulatedTensor) else value


class _Operations(TorchDispatchMode):
    """Runs each operation on the CPU, after the checks."""

    def __init__(self, cuda: SimulatedCuda) -> None:
        super().__init__()
        self.cuda = cuda

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # nothing is compiled here, and skipping takes long
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name.removeprefix("aten::")
        leaves = [*_leaves(args), *_leaves(kwargs)]
        ours = [x for x in leaves if isinstance(x, SimulatedTensor)]
        on_cuda = bool(ours)
        if kwargs.get("device") is not None:
            # In a backward pass, and for copies, C++ asks for the CPU: it takes us for that.
            taken_for_cpu = self.cuda.in_backward or (on_cuda and name == "_to_copy")
            on_cuda = torch.device(kwargs["device"]).type == "cuda" or taken_for_cpu
            kwargs["device"] = CPU
        generator = _generator(func, kwargs.get("generator"), on_cuda)
        if not on_cuda:
            return func(*args, **kwargs)
        if name == "copy_" and len(ours) < 2:
            self.cuda.add_copy(ours[0] is args[0], bool(args[2:] and args[2]), name)
        else:
            self._check(func, name, args, [x for x in leaves if isinstance(x, Tensor)])
        kwargs = {key: _map(_host, value) for key, value in kwargs.items()}
        if generator is None and torch.Tag.nondeterministic_seeded in func.tags:
            with torch.random.fork_rng(devices=[]):
                torch.random.default_generator.set_state(self.cuda.generator.advance())
                made = func(*_map(_host, args), **kwargs)
        else:
            made = func(*_map(_host, args), **kwargs)
        known = {id(x.host): x for x in ours}  # results of operations in place

        def wrapped(value: Any) -> Any:
            if not isinstance(value, Tensor) or isinstance(value, SimulatedTensor):
                return value
            return known[id(value)] if id(value) in known else SimulatedTensor(value)

        return _map(wrapped, made)

    def _check(self, func: Any, name: str, args: Any, tensors: list[Tensor]) -> None:
        indices = [i for i in args[1] if i is not None] if name in INDEXING else []
        free = {id(index) for index in indices}  # may be on the CPU
        allowed = (isinstance(x, SimulatedTensor) or x.ndim == 0 or id(x) in free for x in tensors)
        if not self.cuda.in_backward and not all(allowed):
            where = ", ".join(f"{tuple(t.shape)} on {t.device}" for t in tensors)
            raise RuntimeError(f"{func}: expected all tensors on the same device: {where}")
        for index in indices:
            if not isinstance(index, SimulatedTensor):
                self.cuda.add("to device", f"{name} by an index on the CPU")
            if index.dtype in (torch.bool, torch.uint8):
                self.cuda.add("read", f"{name} by a mask")
        if name in READS:
            self.cuda.add("read", name)
        if torch.are_deterministic_algorithms_enabled():
            floats = name == "cumsum" and args[0].is_floating_point()
            if floats or str(func).removeprefix("aten.").removesuffix(".default") in UNSTABLE:
                raise RuntimeError(f"{func} does not have a deterministic implementation")


def _generator(func: Any, given: Any, on_cuda: bool) -> Generator | None:
    """The generator that is passed to an operation, ready for its next numbers."""
    if given is None:
        return None
    own = Generator.known.get(given._cdata)
    if on_cuda != (own is not None and own.on_cuda):
        wanted, found = (CUDA, CPU) if on_cuda else (CPU, CUDA)
        raise RuntimeError(f"{func}: expected a {wanted} generator, found one on {found}")
    if on_cuda:
        own.advance()
    return own


class _Calls(TorchFunctionMode):
    """Handles the Python calls that name a device or leave the device."""

    def __init__(self, cuda: SimulatedCuda) -> None:
        super().__init__()
        self.cuda = cuda
        self.table = {
            Tensor.to: self._to,
            Tensor.cuda: lambda x, device=None, **kwargs: self._to(x, CUDA, **kwargs),
            Tensor.cpu: lambda x: self._to(x, CPU),
            Tensor.numpy: lambda x, **kwargs: _on_host(x).numpy(**kwargs),
            Tensor.__array__: lambda x, *args: _on_host(x).__array__(*args),
            Tensor.tolist: lambda x: self._to(x, CPU).tolist(),
            Tensor.new_tensor: lambda x, data, **kwargs: self._new(
                torch.tensor, data, **{"dtype": x.dtype, "device": x.device, **kwargs}
            ),
            Tensor.pin_memory: _pinned,
            Tensor.is_pinned: lambda x: getattr(x, "pinned", False),
            torch.tensor: lambda data, **kwargs: self._new(torch.tensor, data, **kwargs),
            torch.as_tensor: lambda data, **kwargs: self._new(torch.as_tensor, data, **kwargs),
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.autograd.grad, Tensor.backward, torch.autograd.backward):
            ours = any(isinstance(x, SimulatedTensor) for x in _leaves((args, kwargs)))
            with mock.patch.object(self.cuda, "in_backward", ours):
                return func(*args, **kwargs)
        return self.table.get(func, func)(*args, **kwargs)

    def _to(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
        flags = [value for value in args if isinstance(value, bool)]
        flags = dict(zip(("non_blocking", "copy"), flags)) | kwargs
        for value in (*args, kwargs.pop("other", None)):
            if isinstance(value, Tensor):
                device, dtype = value.device, value.dtype
            elif isinstance(value, torch.dtype):
                dtype = value
            elif isinstance(value, (str, torch.device)):
                device = value
        device = x.device if device is None else torch.device(device)
        dtype = x.dtype if dtype is None else dtype
        if device.type == x.device.type:
            return Tensor.to(x, dtype, copy=flags.get("copy", False))
        if x.requires_grad and torch.is_grad_enabled():
            raise NotImplementedError("a copy to another device has no gradient here")
        if x.numel():
            self.cuda.add_copy(device.type == "cuda", flags.get("non_blocking", False), "to")
        copied = _host(x.detach()).to(dtype, copy=True)
        return SimulatedTensor(copied) if device.type == "cuda" else copied

    def _new(self, make: Any, data: Any, device: Any = None, **kwargs: Any) -> Tensor:
        made = data if isinstance(data, Tensor) else make(data, **kwargs)
        return self._to(made, device=device, dtype=kwargs.get("dtype"))


def _pinned(x: Tensor) -> Tensor:
    made = x.clone()
    made.pinned = True
    return made


def _on_host(x: Tensor) -> Tensor:
    if isinstance(x, SimulatedTensor):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()")
    return x


class SimulatedCuda(ExitStack):
    """Context manager that makes the device available.

    Attributes:
        waits: what has made the program wait so far: "to device", "to host" or "read", with the
            operation and the innermost line of the package, or "" if the test itself waits.
        generator: the device's random numbers for calls without a generator.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.in_backward = False
        self.generator = Generator("cuda").manual_seed(0)

    def __enter__(self) -> SimulatedCuda:
        if not hasattr(torch.__future__, "set_swap_module_params_on_conversion"):
            pytest.skip("the simulated device needs torch 2.3 or newer")
        functions = {
            "is_available": lambda: True,
            "get_rng_state": lambda device=None: self.generator.get_state(),
            "set_rng_state": lambda state, device=None: self.generator.set_state(state),
            "manual_seed_all": self.generator.manual_seed,
            "_lazy_init": lambda: None,
        }
        for name, function in functions.items():
            self.enter_context(mock.patch.object(torch.cuda, name, function))
        self.enter_context(mock.patch.object(torch, "Generator", Generator))
        self.enter_context(mock.patch.object(torch, "autocast", Autocast))
        # So that a module that moves keeps its parameters, which the optimizer holds.
        swaps = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        self.callback(torch.__future__.set_swap_module_params_on_conversion, swaps)
        self.enter_context(_Operations(self))
        self.enter_context(_Calls(self))
        return self

    def add(self, kind: str, operation: str) -> None:
        """Record a wait."""
        frame: Any = sys._getframe(1)
        while frame and not frame.f_code.co_filename.startswith(PACKAGE):
            frame = frame.f_back
        where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame else ""
        self.waits.append(f"{kind}: {operation} {where}")

    def add_copy(self, to_cuda: bool, non_blocking: bool, operation: str) -> None:
        """Record a copy between the devices, if it waits."""
        if non_blocking and not to_cuda:
            raise RuntimeError("a non-blocking copy to the host can be read before it is there")
        if not non_blocking:
            self.add("to device" if to_cuda else "to host", operation)
