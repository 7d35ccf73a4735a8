"""Random batches, good and malformed.

A bounded number of cases, always the same, runs with the other tests. `FUZZ_CASES=10000 pytest
tests/behaviour/test_fuzz.py` runs so many new random cases of each test.
"""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import fractions
import os
import threading
import types
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from torch import Tensor

from loop_helpers import attached, batch, small
from poseaug_plugin import BatchFormat, Camera, PoseAugConfig, PoseAugError, PoseAugmenter, Skeleton
from poseaug_plugin.augment.sampler import Sampler
from poseaug_plugin.batches.containers import get_field
from poseaug_plugin.batches.image_space import to_image
from poseaug_plugin.geometry.camera import project

pytestmark = pytest.mark.filterwarnings("ignore")  # of the plugin, and of what builds batches

CASES = int(os.environ.get("FUZZ_CASES", 0))
NAN, INF = float("nan"), float("inf")


def cases(bounded: int) -> Any:
    """So many cases in CI, or the number in FUZZ_CASES."""
    return settings(
        max_examples=CASES or bounded,
        derandomize=not CASES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def fingerprint(value: Any, depth: int = 6) -> Any:
    """What must be equal before and after: identities, types, and every number bit for bit."""
    key: list[Any] = [id(value), type(value).__name__]
    if isinstance(value, Tensor):
        key += [value.dtype, value.layout, tuple(value.shape) if not value.is_nested else None]
        key += [value.requires_grad, value.is_leaf]
        key += [None if value.is_inference() else value._version]
        if value.layout == torch.strided and not value.is_meta and not value.is_nested:
            plain = value.detach()
            plain = plain.int_repr() if plain.is_quantized else plain.resolve_conj().resolve_neg()
            plain = plain.clone(memory_format=torch.contiguous_format).view(-1)
            key += [plain.view(torch.uint8).numpy().tobytes()]
    elif isinstance(value, np.ndarray):
        key += [value.dtype, value.shape, value.strides, value.flags.writeable]
        key += [repr(value) if value.dtype.hasobject else value.tobytes()]
    elif isinstance(value, (str, bytes, int, float, complex, type(None))):
        key += [repr(value) if not isinstance(value, int) else value]
    elif hasattr(value, "__length_hint__"):  # an iterator that must not be used up
        key += [value.__length_hint__()]
    elif isinstance(value, types.GeneratorType):
        key += [value.gi_frame is not None and value.gi_frame.f_lasti]
    elif depth and isinstance(value, collections.abc.Mapping):
        key += [[(repr(k), fingerprint(v, depth - 1)) for k, v in value.items()]]
    elif depth and isinstance(value, (list, tuple)):
        key += [[fingerprint(v, depth - 1) for v in value]]
    elif depth and hasattr(value, "__dict__") and not isinstance(value, type):
        key += [[(k, fingerprint(v, depth - 1)) for k, v in vars(value).items()]]
    return key


def share_not_finite(field: Any) -> float:
    """The share of a field's numbers that are NaN or infinite."""
    if isinstance(field, Tensor):
        return 1 - float(field.detach().to_dense().double().isfinite().double().mean())
    if isinstance(field, (list, tuple)):
        return float(np.mean([share_not_finite(row) for row in field]))
    return 1 - float(np.isfinite(np.asarray(field, np.float64)).mean())


# Malformed batches


class Fields(NamedTuple):
    pose_3d: Any
    pose_2d: Any
    action: Any
    camera: Any


@dataclasses.dataclass
class Data:
    pose_3d: Any
    pose_2d: Any
    action: Any
    camera: Any


@dataclasses.dataclass(frozen=True)
class Frozen:
    pose_3d: Any
    pose_2d: Any
    action: Any
    camera: Any


@dataclasses.dataclass
class Derived:
    """`dataclasses.replace` refuses it: a field that the constructor does not take."""

    pose_3d: Any
    pose_2d: Any
    action: Any
    camera: Any
    rows: int = dataclasses.field(init=False, default=0)


class Pairs(tuple):
    """A tuple that is made from two arguments."""

    def __new__(cls, first: Any, *rest: Any) -> Pairs:
        return super().__new__(cls, (first, *rest))


class Hostile:
    """Everything about it raises."""

    def __len__(self) -> int:
        raise RuntimeError("no length")

    def __getitem__(self, key: Any) -> Any:
        raise RuntimeError("no item")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("no array")

    @property
    def shape(self) -> Any:
        raise RuntimeError("no shape")

    def __deepcopy__(self, memo: Any) -> Any:
        raise RuntimeError("no copy")


class Own(Tensor):
    """A subclass of Tensor."""


def recursive() -> list[Any]:
    rows: list[Any] = []
    rows.append(rows)
    return rows


def locked() -> Any:
    return types.SimpleNamespace(lock=threading.Lock())


#: What a field may be replaced by.
VALUES: dict[str, Any] = {
    "None": lambda: None,
    "text": lambda: "text",
    "text of 8": lambda: "textures",
    "bytes": lambda: b"\0" * 8,
    "object": object,
    "hostile": Hostile,
    "hostile rows": lambda: [Hostile()] * 8,
    "objects": lambda: [object()] * 8,
    "int": lambda: 3,
    "400 digits": lambda: 10**400,
    "400 digits a row": lambda: [[10**400] * 3] * 8,
    "400 digits an array": lambda: np.array([10**400] * 8, object),
    "nan": lambda: NAN,
    "complex": lambda: 1j,
    "list": list,
    "tuple": tuple,
    "dict": dict,
    "set": lambda: {1, 2},
    "empty lists": lambda: [[]] * 8,
    "Nones": lambda: [None] * 8,
    "0-d array": lambda: np.array(1.0),
    "0-d tensor": lambda: torch.tensor(1.0),
    "empty array": lambda: np.empty(0),
    "empty tensor": lambda: torch.empty(0),
    "no columns": lambda: torch.empty(8, 0),
    "iterator": lambda: iter([1.0] * 8),
    "generator": lambda: (x for x in range(8)),
    "lock": threading.Lock,
    "holds a lock": locked,
    "locks": lambda: [locked() for _ in range(8)],
    "function": lambda: len,
    "class": lambda: int,
    "class Tensor": lambda: Tensor,
    "ellipsis": lambda: ...,
    "range": lambda: range(8),
    "recursive": recursive,
    "dict of lists": lambda: {"a": [1] * 8, "b": {"c": np.zeros(8)}},
    "named tuple": lambda: Fields(*range(4)),
    "dataclass": lambda: Data(*range(4)),
    "fractions": lambda: [fractions.Fraction(1, 3)] * 8,
    "decimals": lambda: [decimal.Decimal("1e999")] * 8,
    "dates": lambda: np.array(["2020-01-01"] * 8, "datetime64"),
    "date": lambda: datetime.datetime(2020, 1, 1),
    "strings": lambda: np.array(["a"] * 8),
    "numbers in text": lambda: [["1", "2"]] * 8,
    "records": lambda: np.zeros(8, [("x", "f4"), ("y", "i4")]),
    "memory": lambda: memoryview(bytearray(8)),
    "array.array": lambda: array.array("d", [0.0] * 8),
    "object array": lambda: np.array([object()] * 8, object),
    "many dimensions": lambda: np.zeros([1] * 30),
    "broadcast": lambda: torch.zeros(1).expand(1000, 1000),
    "module": lambda: torch.nn.Linear(2, 2),
    "generator of torch": torch.Generator,
}


def poked(x: Tensor, number: float) -> Tensor:
    x = x.clone()
    x.view(-1)[x.numel() // 2] = number
    return x


def padded(x: Tensor) -> Tensor:
    x = x.clone()
    x[::2] = 0
    return x


def read_only(x: Tensor) -> np.ndarray:
    made = x.numpy().copy()
    made.flags.writeable = False
    return made


def inference(x: Tensor) -> Tensor:
    with torch.inference_mode():
        return x + 0


TORCH_DTYPES = (
    *[torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.uint8, torch.int16],
    *[torch.int32, torch.int64, torch.bool, torch.complex64, torch.complex128],
    *[torch.float8_e4m3fn, torch.float8_e5m2],
    *(getattr(torch, name) for name in ("uint16", "uint64") if hasattr(torch, name)),  # since 2.3
)
NUMPY_DTYPES = (
    *["f2", "f8", ">f4", ">f8", "g", "i1", "u1", "i2", "u2", "u4", "i4", "i8", "u8", "?"],
    *["c8", "c16", "O", "U8", "S8"],
)

#: What a field that is a tensor may be changed to.
CHANGES: dict[str, Any] = {
    "NaN": lambda x: poked(x, NAN),
    "infinite": lambda x: poked(x, -INF),
    "large": lambda x: poked(x, 1e4),
    "huge": lambda x: poked(x, 3e38),
    "denormal": lambda x: x * 1e-42,
    "all NaN": lambda x: x * NAN,
    "all huge": lambda x: x * 1e25,
    "beyond float32": lambda x: x.double() * 1e300,
    "zeros": torch.zeros_like,
    "ones": torch.ones_like,
    "constant": lambda x: x.mean().expand(x.shape),
    "half padding": padded,
    "negated": lambda x: -x,
    "1000 times": lambda x: x * 1000,
    "sparse": lambda x: x.to_sparse(),
    "compressed": lambda x: x.flatten(1).to_sparse_csr(),
    "meta": lambda x: x.to("meta"),
    "quantised": lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8),
    "nested": lambda x: torch.nested.nested_tensor(list(x.unbind(0))),
    "mkldnn": lambda x: x.to_mkldnn(),
    "own class": lambda x: x.as_subclass(Own),
    "parameter": torch.nn.Parameter,
    "requires grad": lambda x: x.clone().requires_grad_(),
    "non-leaf": lambda x: x.clone().requires_grad_() * 1,
    "inference": inference,
    "conjugate": lambda x: torch.complex(x, x).conj(),
    "negative view": lambda x: torch.complex(x, -x).conj().imag,
    "imaginary": lambda x: torch.complex(x, x).imag,
    "numpy": lambda x: x.numpy().copy(),
    "read-only": read_only,
    "Fortran": lambda x: np.asfortranarray(x.numpy()),
    "reversed": lambda x: x.numpy()[::-1],
    "masked": lambda x: np.ma.masked_greater(x.numpy(), 0.5),
    "matrix": lambda x: np.asmatrix(x.flatten(1).numpy()),
    "broadcast": lambda x: np.broadcast_to(x[:1].numpy(), x.shape),
    "expanded": lambda x: x[:1].expand(x.shape),
    "strided": lambda x: torch.stack([x, x], -1)[..., 0],
    "list of tensors": lambda x: list(x),
    "list of arrays": lambda x: [row.numpy() for row in x],
    "tuple of arrays": lambda x: tuple(row.numpy() for row in x),
    "numbers": lambda x: x.tolist(),
    "numbers and tensors": lambda x: [row if i % 2 else row.tolist() for i, row in enumerate(x)],
    "tensors and numbers": lambda x: [row.tolist() if i % 2 else row for i, row in enumerate(x)],
    "arrays and tensors": lambda x: [row if i % 2 else row.numpy() for i, row in enumerate(x)],
    "mixed dtypes": lambda x: [row.double() if i % 2 else row.half() for i, row in enumerate(x)],
    "list with None": lambda x: [*x[1:], None],
    "None first": lambda x: [None, *x[1:]],
    "sparse rows": lambda x: [row.to_sparse() for row in x],
    "list of meta": lambda x: [row.to("meta") for row in x],
    "deque": lambda x: collections.deque(x),
    "iterator of rows": lambda x: iter(list(x)),
    "map of rows": lambda x: map(torch.neg, x),
    "dict of rows": lambda x: dict(enumerate(x)),
    "object array": lambda x: np.array([*x.numpy(), None], object)[:-1],
    "ragged": lambda x: [row[: 1 + i] for i, row in enumerate(x)],
    "ragged object array": lambda x: np.array([*(r[: 1 + i] for i, r in enumerate(x)), 0], object),
    "no rows": lambda x: x[:0],
    "one row": lambda x: x[:1],
    "fewer rows": lambda x: x[:5],
    "more rows": lambda x: torch.cat([x, x]),
    "joints lacking": lambda x: x[:, :-1],
    "joints more": lambda x: torch.cat([x, x[:, :1]], 1),
    "no joints": lambda x: x[:, :0],
    "channels lacking": lambda x: x[..., :-1],
    "channels more": lambda x: torch.cat([x, x[..., :1]], -1),
    "one channel": lambda x: x[..., 0],
    "transposed": lambda x: x.mT if x.ndim > 1 else x,
    "rows last": lambda x: x.movedim(0, -1),
    "flat": lambda x: x.flatten(1),
    "flattest": lambda x: x.flatten(),
    "frames": lambda x: x[:, None],
    "many frames": lambda x: x[:, None].expand(-1, 3, *x.shape[1:]),
    "window": lambda x: x[:, None, None],
    "graph": lambda x: x.mT[:, :, None, :, None] if x.ndim > 2 else x,
    "batch of one": lambda x: x[None],
    "six dimensions": lambda x: x[None, None, None],
    "trailing": lambda x: x[..., None],
    **{f"{dtype}": lambda x, dtype=dtype: x.to(dtype) for dtype in TORCH_DTYPES},
    **{f"numpy {dtype}": lambda x, dtype=dtype: x.numpy().astype(dtype) for dtype in NUMPY_DTYPES},
}

NAMES = Fields._fields
POSEAUG = dict(pose_3d=0, pose_2d=1, camera=3, root="absolute")
BY_NAME = dict(pose_3d="pose_3d", pose_2d="pose_2d", camera="camera", root="absolute")
NESTED = {k: v if k == "root" else f"outer.{v}" for k, v in BY_NAME.items()}
ROWS = {k: v if k == "root" else f"rows.{v}" for k, v in BY_NAME.items()}


def by_name(fields: Any) -> dict[str, Any]:
    return dict(zip((*NAMES, "more", "most"), fields))


#: How fields become a batch, and the format that reads it.
CONTAINERS: dict[str, tuple[Any, Any]] = {
    "tuple": (tuple, POSEAUG),
    "list": (list, POSEAUG),
    "inferred": (tuple, None),
    "inferred dict": (by_name, None),
    "numbered": (lambda f: dict(enumerate(f)), POSEAUG),
    "dict": (by_name, BY_NAME),
    "ordered": (lambda f: collections.OrderedDict(by_name(f)), BY_NAME),
    "default": (lambda f: collections.defaultdict(list, by_name(f)), BY_NAME),
    "default by number": (lambda f: collections.defaultdict(list, enumerate(f)), POSEAUG),
    "counter": (lambda f: collections.UserDict(by_name(f)), BY_NAME),
    "chain": (lambda f: collections.ChainMap({}, by_name(f)), BY_NAME),
    "read-only": (lambda f: types.MappingProxyType(by_name(f)), BY_NAME),
    "named tuple": (lambda f: Fields(*(*f, *[None] * 4)[:4]), BY_NAME),
    "named tuple by index": (lambda f: Fields(*(*f, *[None] * 4)[:4]), POSEAUG),
    "dataclass": (lambda f: Data(*(*f, *[None] * 4)[:4]), BY_NAME),
    "frozen": (lambda f: Frozen(*(*f, *[None] * 4)[:4]), BY_NAME),
    "derived": (lambda f: Derived(*(*f, *[None] * 4)[:4]), BY_NAME),
    "namespace": (lambda f: types.SimpleNamespace(**by_name(f)), BY_NAME),
    "own tuple": (lambda f: Pairs(*f) if f else (), POSEAUG),
    "nested": (lambda f: {"outer": by_name(f), "id": 3}, NESTED),
    "nested read-only": (
        lambda f: types.MappingProxyType({"outer": types.MappingProxyType(by_name(f))}),
        NESTED,
    ),
    "nested tuple": (lambda f: {"outer": Fields(*(*f, *[None] * 4)[:4])}, NESTED),
    "nested frozen": (lambda f: {"outer": Frozen(*(*f, *[None] * 4)[:4])}, NESTED),
    "in rows": (lambda f: {"rows": rows_of(f), "id": 3}, ROWS),
    "in named tuples": (lambda f: {"rows": [Fields(**r) for r in rows_of(f)]}, ROWS),
    "grouped": (tuple, {**POSEAUG, "groups": 2}),
    "list of rows": (lambda f: rows_of(f), BY_NAME),
    "iterator": (iter, POSEAUG),
    "set": (lambda f: {id(v) for v in f}, POSEAUG),
    "wrapped": (lambda f: [tuple(f)], POSEAUG),
    "deque": (collections.deque, POSEAUG),
    "only": (lambda f: f[0] if f else None, POSEAUG),
    "class": (lambda f: Fields, BY_NAME),
    "hostile": (lambda f: Hostile(), BY_NAME),
}
OFTEN = ("tuple", "dict", "named tuple", "dataclass")


def rowwise(fields: Any, rows: int = 8) -> list[tuple[Any, ...]]:
    """The fields of each row."""

    def row(value: Any, i: int) -> Any:
        try:
            return value[i]
        except Exception:
            return value

    fields = (*fields, *[None] * 4)[:4]
    return [tuple(row(value, i) for value in fields) for i in range(rows)]


def rows_of(fields: Any, rows: int = 8) -> list[dict[str, Any]]:
    return [by_name(row) for row in rowwise(fields, rows)]


@st.composite
def malformed(draw: Any, container: str) -> Any:
    """A batch of 8 rows with up to three changes, in a container."""
    fields: list[Any] = list(batch(seed=draw(st.integers(0, 3))))
    for _ in range(draw(st.integers(1, 3))):
        if not fields:
            break
        at = draw(st.integers(0, len(fields) - 1))
        how = draw(st.sampled_from(("change", "change", "change", "value", "value", "place")))
        if how == "value":
            fields[at] = VALUES[draw(st.sampled_from(sorted(VALUES)))]()
        elif how == "change" and type(fields[at]) is Tensor:
            try:
                fields[at] = CHANGES[draw(st.sampled_from(sorted(CHANGES)))](fields[at])
            except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):
                continue  # this change does not go with an earlier one
        elif how == "place":
            place = draw(st.sampled_from(("delete", "insert", "swap", "same")))
            if place == "delete":
                del fields[at]
            elif place == "insert":
                value = VALUES[draw(st.sampled_from(sorted(VALUES)))]()
                fields.insert(draw(st.sampled_from((at, len(fields)))), value)
            elif place == "swap":
                fields[at], fields[-1] = fields[-1], fields[at]
            else:
                fields[at] = fields[0]
    return CONTAINERS[container][0](fields)


known_skeletons = st.sampled_from(("h36m_16", None))
containers = st.sampled_from((*OFTEN * 5, *sorted(CONTAINERS)))
configs = st.sampled_from(
    [
        ("random", {"mix": mix, "ratio": 1.0} if mix == "replace" else {"mix": mix})
        for mix in ("replace", "append", "alternate")
    ]
    + [("default", {"mix": "append"}), ("released", {"mix": "replace"})]
)


def adds_no_nan(made: Any, bad: Any, augmenter: PoseAugmenter) -> bool:
    """Whether the poses have no more NaN or infinite numbers than before, since rows may stay."""
    fmt: Any = augmenter._reader.format
    return made is bad or all(
        share_not_finite(get_field(made, key)) <= share_not_finite(get_field(bad, key)) + 1e-9
        for key in (fmt.pose_3d, fmt.pose_2d)
    )


@cases(250)
@given(data=st.data(), config=configs, container=containers, skeleton=known_skeletons)
def test_a_malformed_first_batch_raises_our_error_or_is_augmented(
    data: Any, config: Any, container: str, skeleton: str | None
) -> None:
    augmenter, _, optimizer = attached(
        small(config[0], **config[1]), CONTAINERS[container][1], skeleton=skeleton
    )
    bad = data.draw(malformed(container))
    before = fingerprint(bad)
    try:
        made = augmenter(bad)
    except PoseAugError:
        pass
    else:
        optimizer.step()
        assert adds_no_nan(made, bad, augmenter)
    assert fingerprint(bad) == before


@cases(150)
@given(data=st.data(), config=configs, container=containers)
def test_a_malformed_later_batch_never_raises(data: Any, config: Any, container: str) -> None:
    make, fmt = CONTAINERS[container]
    try:
        augmenter, model, optimizer = attached(
            small(config[0], **config[1]), fmt, skeleton="h36m_16"
        )
        first = make(list(batch()))
        augmenter(first)
    except PoseAugError:  # a container that is no batch
        augmenter, model, optimizer = attached(small(config[0], **config[1]), skeleton="h36m_16")
        first = batch()
        augmenter(first)
    bad = data.draw(malformed(container))
    before = fingerprint(bad)
    optimizer.step()
    made = augmenter(bad)
    optimizer.step()
    assert adds_no_nan(made, bad, augmenter)
    assert fingerprint(bad) == before
    again = augmenter(first)  # the run goes on
    optimizer.step()
    assert model.training
    assert again is not first
    assert all(np.isfinite(number) for number in augmenter.stats().values())


# Good batches

#: From (B, T, J, C); the first two hold single frames.
LAYOUTS: dict[str, Any] = {
    "flat": lambda x: x[:, 0].flatten(1),
    "joints": lambda x: x[:, 0],
    "frames": lambda x: x,
    "window": lambda x: x[:, None],
    "columns": lambda x: x.flatten(2).mT,
    "graph": lambda x: x.permute(0, 3, 1, 2)[..., None],
}
FLOATS = torch.float32, torch.float64, torch.float16, torch.bfloat16
INTS = torch.int32, torch.int64, torch.int16

#: How a field lies in memory.
STORAGE: dict[str, Any] = {
    "contiguous": lambda x: x.contiguous(),
    "strided": lambda x: torch.stack([x, x], -1)[..., 0],
    "every other row": lambda x: torch.stack([x, x], 1).flatten(0, 1)[::2],
    "requires grad": lambda x: x.clone().requires_grad_(x.is_floating_point()),
    "non-leaf": lambda x: x.clone().requires_grad_(x.is_floating_point()) * 1,
    "list": lambda x: list(x.clone()),
    "numpy": lambda x: x.numpy().copy(),
    "read-only": read_only,
    "reversed": lambda x: x.flip(0).numpy()[::-1],
    "Fortran": lambda x: np.asfortranarray(x.numpy()),
    "big-endian": lambda x: x.numpy().astype(x.numpy().dtype.newbyteorder(">")),
    "list of arrays": lambda x: list(x.numpy().copy()),
    "numbers": lambda x: x.double().tolist(),
}
TYPES = {"tuple", "list", "numbered", "dict", "ordered", "default", "counter", "chain"}
GOOD = sorted(
    TYPES
    | {"read-only", "named tuple", "dataclass", "frozen", "derived", "own tuple", "nested"}
    | {"nested read-only", "nested tuple", "nested frozen", "in rows", "in named tuples"}
)


@st.composite
def skeletons(draw: Any) -> Skeleton:
    """A random tree of 2 to 30 joints in random order, with or without sides."""
    parents, mirror = [-1], {}
    for _ in range(draw(st.integers(1, 14))):
        at = draw(st.integers(0, len(parents) - 1))
        if draw(st.booleans()):  # a pair of limbs
            left, right = len(parents), len(parents) + 1
            parents += [at, mirror.get(at, at)]
            mirror.update({left: right, right: left})
        elif at not in mirror:
            parents.append(at)
        else:
            parents.append(0)
    order = draw(st.permutations(range(len(parents))))  # the new number of each joint
    moved = [0] * len(parents)
    for old, parent in enumerate(parents):
        moved[order[old]] = -1 if parent < 0 else order[parent]
    left = [joint for joint in mirror if joint < mirror[joint]]
    sides = [order[j] for j in left], [order[mirror[j]] for j in left]
    return Skeleton(moved, *(sides if draw(st.booleans()) else ((), ())))


class Good(NamedTuple):
    batch: Any
    fmt: BatchFormat
    skeleton: Skeleton
    quantum: tuple[float, float]  # by how much the dtypes round 2D and 3D


@st.composite
def good_batches(draw: Any) -> Good:
    def pick(*values: Any) -> Any:
        return draw(st.sampled_from(values))

    skeleton = draw(skeletons())
    joints, rows, frames = skeleton.num_joints, draw(st.integers(1, 5)), pick(1, 1, 3)
    rng = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    space, has_camera = pick("metric", "metric", "image"), draw(st.booleans())
    root = pick("absolute", "relative", *["slot"] * (space == "metric"))
    screen, matrix = pick(None, (1000, 900), (1920, 1080)), draw(st.booleans())
    unit = 1.0 if space == "image" else pick(1.0, 0.001, 0.01)
    pose_3d = torch.randn((rows, frames, joints, 3), generator=rng) * 0.3
    pose_3d[..., 2] += 5
    lens = Camera().intrinsics.repeat(rows, 1)
    if has_camera:
        lens[:, :4] += 0.05 * torch.randn((rows, 4), generator=rng)
        if not matrix and space == "metric":
            lens[:, 4:] = 0.01 * torch.randn((rows, 5), generator=rng)
    pose_2d = project(pose_3d, lens[:, None])
    place = pose_3d[:, :, skeleton.root, None]
    if space == "image":
        pose_3d = to_image(pose_3d, lens, skeleton.root)
        place = pose_3d[:, :, skeleton.root, None]
    if root != "absolute":
        pose_3d = pose_3d - place
    if root == "slot":
        pose_3d[:, :, skeleton.root] = place[:, :, 0]
    fields, stats, quantum = [], [], []
    for x, scale, offset in (
        (pose_3d, unit, 0.0),
        (pose_2d, 2 / screen[0], (-1.0, -screen[1] / screen[0])) if screen else (pose_2d, 1.0, 0.0),
    ):
        x = (x - torch.tensor(offset)) / scale
        stat, spread = None, 1.0
        dtype = pick(*FLOATS, *INTS[: 3 if scale < 0.003 else 0])
        if dtype not in INTS and pick(False, False, True):
            mean = torch.randn(joints * x.shape[-1], generator=rng) / scale
            std = (torch.rand(joints * x.shape[-1], generator=rng) + 0.5) / scale
            stat, spread = (mean.numpy(), std), float(std.max())
            x = (x - mean.view(joints, -1)) / std.view(joints, -1)
        layout = pick(*list(LAYOUTS)[2 if frames > 1 else 0 :])
        if x.shape[-1] == 2 and layout not in ("flat", "columns") and pick(False, True):
            x = torch.cat([x, torch.rand((*x.shape[:-1], 1), generator=rng)], -1)
        ways = [way for way in STORAGE if dtype != torch.bfloat16 or list(STORAGE).index(way) < 6]
        ways = [way for way in ways if dtype not in INTS or way != "numbers"]
        x = LAYOUTS[layout](x if dtype not in INTS else x.round()).to(dtype)
        step = 0.5 if dtype in INTS else torch.finfo(dtype).eps * 30 / scale / min(spread, 1.0)
        quantum.append(max(step, 1e-6 * 30 / scale) * scale * spread * 3)
        fields.append(STORAGE[pick(*ways)](x))
        stats.append(stat)
    camera = lens
    if screen:
        camera = lens.clone()
        camera[:, :4] = (lens[:, :4] + torch.tensor([0, 0, 1, screen[1] / screen[0]])) * (
            screen[0] / 2
        )
    if matrix:
        made = torch.eye(3).repeat(rows, 1, 1)
        made[:, [0, 1], [0, 1]], made[:, :2, 2] = camera[:, :2], camera[:, 2:4]
        camera = made
    camera = STORAGE[pick(*STORAGE)](camera.to(pick(torch.float32, torch.float64)))
    groups = draw(st.booleans()) and root != "relative"
    names = pick([f"action {i // 2}" for i in range(rows)], torch.arange(rows) // 2)
    container = pick(*GOOD)
    make, keys = CONTAINERS[container]
    if "in " in container:  # rows keep their own parts
        given = rows_of((*fields, names, camera), rows)
        given = {"rows": [Fields(**row) for row in given] if "tuples" in container else given}
    else:
        given = make([*fields, names, camera])
    action = keys["pose_2d"].replace("pose_2d", "action") if keys is not POSEAUG else 2
    fmt = BatchFormat(
        pose_2d=keys["pose_2d"],
        pose_3d=keys["pose_3d"],
        camera=keys["camera"] if has_camera else None,
        root=root,
        space=space,
        unit=unit,
        screen=screen,
        stat_3d=stats[0],
        stat_2d=stats[1],
        groups=action if groups else None,
    )
    return Good(given, fmt, skeleton, (quantum[1], quantum[0]))


def kinds(value: Any) -> Any:
    """Types, dtypes, shapes and devices of everything in a batch."""
    if isinstance(value, Tensor):
        return type(value), value.dtype, value.shape, value.device
    if isinstance(value, np.ndarray):
        return type(value), value.dtype, value.shape
    if isinstance(value, collections.abc.Mapping):
        return type(value), {key: kinds(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [kinds(v) for v in value]
    return type(value), kinds(vars(value)) if hasattr(value, "__dict__") else None


def row(field: Any, i: int) -> bytes:
    part = field[i]
    part = part.detach() if isinstance(part, Tensor) else torch.tensor(np.array(part).tolist())
    return part.double().numpy().tobytes()


@cases(150)
@given(good=good_batches(), seed=st.integers(0, 100))
def test_augmented_poses_are_written_into_good_batches(good: Good, seed: int) -> None:
    given, fmt, skeleton, quantum = good
    before = fingerprint(given)
    poses = fmt.read(given, skeleton, Camera())
    poses.check(skeleton.num_joints)
    config = PoseAugConfig.random(seed=seed)
    augmented, accepted, _ = Sampler(skeleton, config, torch.device("cpu")).sample(poses)
    written = fmt.write(given, augmented, accepted, skeleton)
    event(f"accepted: {int(10 * accepted.float().mean())}0 %")
    assert fingerprint(given) == before
    assert kinds(written) == kinds(given)
    again = fmt.read(written, skeleton, Camera())
    keys = [key for key in (fmt.pose_2d, fmt.pose_3d, fmt.camera) if key is not None]
    fields = [(get_field(given, key), get_field(written, key)) for key in keys]
    for i, taken in enumerate(accepted.tolist()):
        if all(row(old, i) == row(new, i) for old, new in fields):
            assert not taken or min(quantum) > 1e-3  # beyond the range of a narrow dtype
            continue
        assert taken
        assert all(share_not_finite(new) == 0 for _, new in fields)
        off = (again.pose_2d - augmented.pose_2d)[i].abs().max()
        assert off <= quantum[0], (off, quantum)
        if fmt.space == "metric":
            off = (again.pose_3d - augmented.pose_3d)[i].abs().max()
            assert off <= quantum[1], (off, quantum)
        if fmt.camera is not None:
            assert torch.allclose(again.camera[i], augmented.camera[i], atol=1e-4)
