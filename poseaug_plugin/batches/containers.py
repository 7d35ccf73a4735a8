"""Gets and sets fields of any batch container and repeats its rows; keeps types and devices."""

from __future__ import annotations

import copy
import dataclasses
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import BatchError

__all__ = [
    "Key",
    "are_rows",
    "as_tensor",
    "describe",
    "describes_rows",
    "device_of",
    "duplicate",
    "get_field",
    "is_dataclass",
    "keys_of",
    "names_of",
    "overwrite",
    "repeat_rows",
    "representable",
    "set_fields",
    "shape_of",
    "stacked_shape",
]

Key = int | str

MOST_FIELDS = 10  # that a message lists


def as_tensor(value: Any, what: str) -> Tensor:
    """A float32 copy of an array, a tensor, or a list of them with equal shapes.

    Args:
        what: name of the field in error messages.

    Raises:
        BatchError: rows of different shapes, or something other than real numbers.
    """
    if value is None:
        raise BatchError(
            f"{what} is None, expected an array or tensor; pass batches that have both 2D and 3D."
        )
    rows = isinstance(value, (list, tuple))
    try:
        if rows and value and isinstance(value[0], Tensor):
            kind = next(filter(None, map(_not_real, value)), "")
            read = None if kind else torch.stack([v.detach() for v in value])
        elif isinstance(value, Tensor):
            kind = _not_real(value)
            read = None if kind else value.detach()
        else:
            array = np.asarray(value)
            kind = "" if array.dtype.kind in "fiuO" else f"{array.dtype} numbers"
            known = not kind and (rows or isinstance(value, np.ndarray))
            read = torch.from_numpy(np.array(array, dtype=np.float32)) if known else None
    except Exception:  # of any kind: the rows may be objects of any class
        kind, read = "", None
    if read is not None:
        return read.to(torch.float32, copy=True)
    shapes = sorted({_shape(v) for v in value}) if rows else []
    if len(shapes) > 1 or "ragged" in shapes:
        raise BatchError(
            f"{what} is {type(value).__name__} with rows of shapes {shapes}; expected one array "
            "or tensor whose rows all have the same shape. Pad or cut the clips to one length. If "
            "these are the fields of one row, let the collate function stack each field of all."
        )
    raise BatchError(
        f"{what} is {type(value).__name__}{kind and f' of {kind}'}; expected one array or tensor "
        "of real numbers, dense and in memory. Convert it before batching, or name another field "
        "in batch=."
    )


def _not_real(value: Tensor) -> str:
    """What a tensor holds instead of real numbers, one after the other in memory; else empty."""
    if value.is_nested or value.layout != torch.strided:
        return "sparse or nested rows"
    if value.is_meta or value.is_quantized or value.is_complex() or value.dtype == torch.bool:
        return f"{value.dtype} on {value.device}"
    return ""


def device_of(value: Any) -> torch.device:
    """The device of a field that `as_tensor` reads."""
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    return first.device if isinstance(first, Tensor) else torch.device("cpu")


def repeat_rows(batch: Any, rows: int, times: int = 2) -> Any:
    """A batch in which each row is repeated `times` times; its copies follow it directly.

    Fields without one entry per row stay as they are. Nested mappings, named tuples and
    dataclasses are batches, too.

    Raises:
        BatchError: a field has an entry for each row, but cannot be repeated.
    """

    def repeated(value: Any) -> Any:
        if isinstance(value, Mapping) or names_of(value) or is_dataclass(value):
            return repeat_rows(value, rows, times)
        if shape_of(value)[:1] == (rows,):
            if isinstance(value, Tensor):
                return value.index_select(0, order.to(value.device))
            if isinstance(value, np.ndarray):
                return value.repeat(times, 0)
        if isinstance(value, (list, tuple)) and len(value) == rows:
            # Copies, since `for row in batch: row -= ...` must not change an object twice.
            return _of_type(value, [duplicate(v) if i else v for v in value for i in range(times)])
        return value

    order = torch.arange(rows).repeat_interleave(times)
    if are_rows(batch) and len(batch) == rows:
        return repeated(batch)
    fields = {}
    for key in keys_of(batch):
        try:
            fields[key] = repeated(get_field(batch, key))
        except BatchError:
            raise
        except Exception as error:  # of any kind: fields may be objects of any class
            raise BatchError(
                f"field {key!r} has an entry for each row but cannot be repeated: {error!r}. "
                "Yield it as an array or tensor, or choose mix='replace'."
            ) from error
    return set_fields(batch, fields)


def duplicate(value: Any) -> Any:
    """A deep copy. Objects that cannot be copied, such as locks, are shared with the original.

    Tensors that were computed from others keep their gradient.
    """
    try:
        return copy.deepcopy(value)
    except Exception:  # of any kind: the value may be an object of any class
        if isinstance(value, Tensor):
            return value.clone()
    try:
        fields = {key: get_field(value, key) for key in keys_of(value)}
    except BatchError:  # no container
        return value
    return set_fields(value, {key: duplicate(field) for key, field in fields.items()})


def keys_of(batch: Any) -> list[Key]:
    """The names or indices of a batch's top-level fields; of a list of rows, their names."""
    if are_rows(batch):
        return list(batch[0])
    if isinstance(batch, Mapping):
        return list(batch)
    if is_dataclass(batch):
        return [field.name for field in dataclasses.fields(batch)]
    if isinstance(batch, (tuple, list)):
        return list(range(len(batch)))
    raise BatchError(
        f"a batch of type {type(batch).__name__} has no fields to read; expected a tuple, list, "
        "mapping, named tuple or dataclass."
    )


def names_of(value: Any) -> tuple[str, ...]:
    """The names of the fields of a named tuple; empty for anything else."""
    return getattr(value, "_fields", ()) if isinstance(value, tuple) else ()


def is_dataclass(value: Any) -> bool:
    """Whether it is an object of a dataclass."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def describe(batch: Any) -> str:
    """A batch's type and fields in one line, for error messages."""
    try:
        keys = keys_of(batch)
    except BatchError:
        return f"a {type(batch).__name__}"
    rows = are_rows(batch)
    parts = []
    for key in keys[:MOST_FIELDS]:
        value = batch[0][key] if rows else get_field(batch, key)
        shape = shape_of(value)
        array = isinstance(value, (Tensor, np.ndarray)) or shape
        size = shape if array else f"len {len(value)}" if _sized(value) else ""
        parts.append(f"{_name(key)}: {type(value).__name__} {size}".strip())
    more = f", and {len(keys) - MOST_FIELDS} more" if len(keys) > MOST_FIELDS else ""
    kind = f"{len(batch)} rows, each a {type(batch[0]).__name__} of" if rows else ""
    return f"a {type(batch).__name__} of {kind}{' ' * rows}{{{', '.join(parts)}{more}}}"


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of an array or tensor; () for anything else, and for nested tensors."""
    try:
        return tuple(value.shape)
    except Exception:  # of any kind: the value may be an object of any class
        return ()


def stacked_shape(value: Any) -> tuple[int, ...]:
    """The shape of an array or tensor, or of a list of rows, as if they were stacked."""
    if not (isinstance(value, (list, tuple)) and value):
        return shape_of(value)
    try:
        return (len(value), *(shape_of(value[0]) or np.shape(value[0])))
    except Exception:  # of any kind: the row may be an object of any class
        return ()


def _shape(value: Any) -> str:
    """The shape of a row of a list, for error messages."""
    try:
        return str(shape_of(value) or tuple(np.shape(value)))
    except ValueError:
        return "ragged"
    except Exception:  # of any kind: the row may be an object of any class
        return "()"


def _name(key: Any) -> str:
    return reprlib.repr(key)


def _sized(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def get_field(batch: Any, key: Key) -> Any:
    """A field by index, key or attribute.

    A path with dots enters fields, and all rows of lists: "data_samples.label" is
    [s.label for s in data_samples], "0.keypoints" is batch[0]["keypoints"], and "keypoints" of a
    list of rows is [row["keypoints"] for row in batch].
    """
    head, path = _split(batch, key)
    if head is None:
        return [get_field(row, path) for row in batch]
    if path:
        return get_field(get_field(batch, head), path)
    if isinstance(head, str) and not isinstance(batch, Mapping):
        return getattr(batch, head)
    if isinstance(batch, Mapping) and head not in batch:
        raise KeyError(head)  # a defaultdict would add it
    return batch[head]


def _split(batch: Any, key: Key) -> tuple[Key | None, str]:
    """The first field of a path and the rest of it; None for a field of every row of a list."""
    if not isinstance(key, str):
        return key, ""
    head, _, path = key.partition(".")
    if isinstance(batch, (list, tuple)) and not names_of(batch):
        return (int(head), path) if head.isdigit() else (None, key)
    named = isinstance(batch, Mapping) and key in batch  # a name with a dot in it
    return (key, "") if named else (head, path)


def are_rows(batch: Any) -> bool:
    """Whether it is a list of mappings with the same keys, one for each row."""
    return (
        isinstance(batch, (list, tuple))
        and bool(batch)
        and all(isinstance(row, Mapping) and row.keys() == batch[0].keys() for row in batch)
    )


def set_fields(batch: Any, new: Mapping[Any, Any]) -> Any:
    """A copy of the container with some fields replaced; all others are shared.

    Containers on the way to a field with dots are copied as well, and so are rows that change.

    Raises:
        BatchError: a container that cannot be copied, or whose fields cannot be set.
    """
    fields: dict[Any, Any] = {}
    for key, value in new.items():
        head, path = _split(batch, key)
        if head is None:
            rows = (
                row if get_field(row, path) is v else set_fields(row, {path: v})
                for row, v in zip(batch, value)
            )
            batch = _of_type(batch, list(rows))
        elif path:
            inner = fields[head] if head in fields else get_field(batch, head)
            fields[head] = set_fields(inner, {path: value})
        else:
            fields[head] = value
    try:
        return _replaced(batch, fields) if fields else batch
    except Exception as error:  # of any kind: the container may be of any class
        raise BatchError(
            f"the fields of a {type(batch).__name__} cannot be replaced: {error!r}. Yield a tuple, "
            "list, dict, named tuple or dataclass."
        ) from error


def _replaced(batch: Any, new: Mapping[Any, Any]) -> Any:
    """A copy of one container with fields replaced."""
    if isinstance(batch, Mapping):
        try:
            # All but the values is copied: the mapping may keep them in another mapping.
            copied: Any = copy.deepcopy(batch, {id(value): value for value in batch.values()})
            for key, value in new.items():
                copied[key] = value
            if getattr(batch, "__dict__", None) is batch:  # its items are its attributes
                copied.__dict__ = copied
        except Exception:  # of any kind: it is read-only, or its class knows no `__deepcopy__`
            return type(batch)({**batch, **new})  # type: ignore[call-arg]
        return copied
    if isinstance(batch, (list, tuple)):
        names, items = list(names_of(batch)), list(batch)
        for key, value in new.items():
            items[names.index(key) if isinstance(key, str) else key] = value
        return _of_type(batch, items)
    if is_dataclass(batch):
        copied = copy.copy(batch)
        for key, value in new.items():
            object.__setattr__(copied, key, value)  # it may be frozen
        return copied
    copied = duplicate(batch)
    copied = copy.copy(batch) if copied is batch else copied
    for key, value in new.items():
        setattr(copied, key, value)
    return copied


def _of_type(old: Any, items: list[Any]) -> Any:
    """A list or tuple of the class of `old`, whatever arguments its constructor takes."""
    if isinstance(old, list):
        copied = copy.copy(old)
        copied[:] = items
        return copied
    copied = tuple.__new__(type(old), items)
    vars(copied).update(vars(old)) if hasattr(old, "__dict__") else None
    return copied


def overwrite(old: Any, new: Tensor, rows: Tensor) -> Any:
    """A copy of `old` with `rows` replaced; same type, dtype and device.

    Args:
        rows: (B,) bool; (B, P) if each entry of `old` holds P people.
    """
    if isinstance(old, np.ndarray):
        out = old.copy()
        out[rows.cpu().numpy()] = _values(new[rows.to(new.device)], old.dtype)
        return out
    if isinstance(old, (list, tuple)):
        if rows.ndim > 1:
            return _of_type(old, [overwrite(*entry) for entry in zip(old, new, rows)])
        triples = zip(old, new, rows.tolist())
        return _of_type(old, [_like(o, n) if take else o for o, n, take in triples])
    keep = rows.to(old.device).view(*rows.shape, *[1] * (old.ndim - rows.ndim))
    new = _rounded(new.detach(), old)
    if new.stride() != old.stride():  # so that the result is laid out in memory as `old`
        new = torch.empty_like(old).copy_(new)
    return _pinned_as(old, torch.where(keep, new, old))


def _pinned_as(old: Tensor, new: Tensor) -> Tensor:
    """A tensor in page-locked memory if `old` is, so that `non_blocking` copies of it work."""
    return new.pin_memory() if old.is_pinned() else new


def describes_rows(value: Any, rows: int) -> bool:
    """Whether a field is an array of measurements, one or more for each row; ids are not."""
    shape = stacked_shape(value)
    if shape[:1] != (rows,):
        return False
    first = value[0] if isinstance(value, (list, tuple)) else value
    dtype = str(getattr(first, "dtype", type(first)))
    return "float" in dtype or ("int" in dtype and len(shape) > 1)


def representable(old: Any, new: Tensor) -> Tensor | None:
    """Rows (B,) bool of `new` whose numbers the dtype of `old` can hold; None for all of them.

    float16 ends at 65504 (60 m in millimetres), and integers at their own bounds.
    """
    first = old[0] if isinstance(old, (list, tuple)) and len(old) else old
    if isinstance(first, Tensor):
        info: Any = torch.finfo if first.is_floating_point() else torch.iinfo
    elif isinstance(first, np.ndarray) and first.dtype.kind in "fiu":
        info = np.finfo if first.dtype.kind == "f" else np.iinfo
    else:
        return None
    low, high = float(info(first.dtype).min), float(info(first.dtype).max)
    if high >= torch.finfo(torch.bfloat16).max:  # with the range of float32
        return None
    return ((new >= low) & (new <= high)).flatten(1).all(1)


def _like(old: Any, new: Tensor) -> Any:
    """One row of a list, in the type and dtype of `old`."""
    if isinstance(old, Tensor):
        return _pinned_as(old, _rounded(new.detach(), old))
    if isinstance(old, np.ndarray):
        return _values(new, old.dtype)
    return new.detach().cpu().numpy().tolist()


def _rounded(new: Tensor, old: Tensor) -> Tensor:
    """Converted to the dtype and device of `old`; rounded for integers."""
    return (new if old.is_floating_point() else new.round()).to(old)


def _values(new: Tensor, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    values = new.detach().cpu().numpy()
    return (values.round() if np.issubdtype(dtype, np.integer) else values).astype(dtype)
