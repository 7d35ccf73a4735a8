"""Gets and sets fields of any batch container and repeats its rows; keeps types and devices."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import BatchError

__all__ = [
    "Key",
    "as_tensor",
    "describe",
    "describes_rows",
    "device_of",
    "get_field",
    "keys_of",
    "overwrite",
    "repeat_rows",
    "representable",
    "set_fields",
]

Key = int | str

MOST_FIELDS = 10  # that a message lists


def as_tensor(value: Any, what: str) -> Tensor:
    """A float32 copy of an array, a tensor, or a list of them with equal shapes.

    Args:
        what: name of the field in error messages.

    Raises:
        BatchError: rows of different shapes, or something other than numbers.
    """
    if value is None:
        raise BatchError(
            f"{what} is None, expected an array or tensor; pass batches that have both 2D and 3D."
        )
    if isinstance(value, Tensor):
        return value.detach().to(torch.float32, copy=True)
    try:
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], Tensor):
            return torch.stack([v.detach() for v in value]).to(torch.float32)
        return torch.from_numpy(np.array(value, dtype=np.float32))
    except (ValueError, TypeError, RuntimeError):
        shapes = sorted({_shape(v) for v in value}) if _sized(value) else "none"
        raise BatchError(
            f"{what} is {type(value).__name__} with rows of shapes {shapes}; expected one array "
            "or tensor whose rows all have the same shape. Pad or cut the clips to one length."
        ) from None


def device_of(value: Any) -> torch.device:
    """The device of a field that `as_tensor` reads."""
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    return first.device if isinstance(first, Tensor) else torch.device("cpu")


def repeat_rows(batch: Any, rows: int, times: int = 2) -> Any:
    """A batch in which each row is repeated `times` times; its copies follow it directly.

    Fields without one entry per row stay as they are. Nested mappings and named tuples are
    batches, too.
    """

    def repeated(value: Any) -> Any:
        if isinstance(value, Mapping) or hasattr(value, "_fields"):
            return repeat_rows(value, rows, times)
        if isinstance(value, Tensor) and value.ndim and len(value) == rows:
            return value.repeat_interleave(times, 0)
        if isinstance(value, np.ndarray) and value.ndim and len(value) == rows:
            return value.repeat(times, 0)
        if isinstance(value, (list, tuple)) and len(value) == rows:
            # Copies, since `for row in batch: row -= ...` must not change an object twice.
            return type(value)(copy.deepcopy(v) if i else v for v in value for i in range(times))
        return value

    return set_fields(batch, {key: repeated(get_field(batch, key)) for key in keys_of(batch)})


def keys_of(batch: Any) -> list[Key]:
    """The names or indices of a batch's top-level fields."""
    if isinstance(batch, Mapping):
        return list(batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return [field.name for field in dataclasses.fields(batch)]
    if isinstance(batch, (tuple, list)):
        return list(range(len(batch)))
    raise BatchError(
        f"a batch of type {type(batch).__name__} has no fields to read; expected a tuple, list, "
        "mapping, named tuple or dataclass."
    )


def describe(batch: Any) -> str:
    """A batch's type and fields in one line, for error messages."""
    try:
        keys = keys_of(batch)
    except BatchError:
        return f"a {type(batch).__name__}"
    parts = []
    for key in keys[:MOST_FIELDS]:
        value = get_field(batch, key)
        shape = tuple(value.shape) if hasattr(value, "shape") else None
        size = shape if shape is not None else f"len {len(value)}" if _sized(value) else ""
        parts.append(f"{key!r}: {type(value).__name__} {size}".strip())
    more = f", and {len(keys) - MOST_FIELDS} more" if len(keys) > MOST_FIELDS else ""
    told = f"a {type(batch).__name__} of {{{', '.join(parts)}{more}}}"
    if isinstance(batch, (list, tuple)) and batch and isinstance(batch[0], Mapping):
        fields = ", ".join(map(repr, list(batch[0])[:MOST_FIELDS]))
        told += (
            f" (rows are mappings with {fields}: collate them into one mapping of arrays, e.g. by "
            "torch.utils.data.default_collate)"
        )
    return told


def _shape(value: Any) -> str:
    try:
        return str(tuple(np.shape(value)))
    except ValueError:
        return "ragged"


def _sized(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def get_field(batch: Any, key: Key) -> Any:
    """A field by index, key or attribute.

    A path with dots enters lists: "data_samples.label" is [s.label for s in data_samples].
    """
    if _dotted(batch, key):
        head, path = str(key).split(".", 1)
        rows = get_field(batch, head)
        if isinstance(rows, (list, tuple)):
            return [get_field(row, path) for row in rows]
        return get_field(rows, path)
    if isinstance(key, str) and not isinstance(batch, Mapping):
        return getattr(batch, key)
    return batch[key]


def _dotted(batch: Any, key: Key) -> bool:
    """Whether a key is a path, rather than a field's name with a dot in it."""
    named = isinstance(batch, Mapping) and key in batch
    return isinstance(key, str) and "." in key and not named


def set_fields(batch: Any, new: Mapping[Any, Any]) -> Any:
    """A copy of the container with some fields replaced; objects in its lists are copied."""
    dotted = {key: value for key, value in new.items() if _dotted(batch, key)}
    if dotted:
        plain = {key: value for key, value in new.items() if key not in dotted}
        for key, value in dotted.items():
            head, path = key.split(".", 1)
            plain[head] = _set_inside(plain.get(head, get_field(batch, head)), path, value)
        return set_fields(batch, plain)
    if isinstance(batch, Mapping):
        made: Any = copy.copy(batch)
        for key, value in new.items():
            made[key] = value
        return made
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return dataclasses.replace(batch, **{str(k): v for k, v in new.items()})
    names = getattr(batch, "_fields", None)
    if names:  # a named tuple
        return batch._replace(**{k if isinstance(k, str) else names[k]: new[k] for k in new})
    items = list(batch)
    for key, value in new.items():
        items[key] = value
    return type(batch)(items)


def _set_inside(rows: Any, path: str, value: Any) -> Any:
    """The rows with new values at a path; rows that change are deep-copied."""
    if not isinstance(rows, (list, tuple)):
        return _set_attribute(rows, path, value)
    return type(rows)(
        row if get_field(row, path) is new else _set_attribute(row, path, new)
        for row, new in zip(rows, value)
    )


def _set_attribute(row: Any, path: str, value: Any) -> Any:
    made = copy.deepcopy(row)
    *way, last = path.split(".")
    at = made
    for step in way:
        at = get_field(at, step)
    if isinstance(at, Mapping):
        at[last] = value  # type: ignore[index]
    else:
        setattr(at, last, value)
    return made


def overwrite(old: Any, new: Tensor, rows: Tensor) -> Any:
    """A copy of `old` with `rows` (B,) bool replaced; same type, dtype and device."""
    if isinstance(old, np.ndarray):
        out = old.copy()
        out[rows.cpu().numpy()] = _values(new[rows.to(new.device)], old.dtype)
        return out
    if isinstance(old, (list, tuple)):
        return type(old)(
            _like(o, n) if taken else o for o, n, taken in zip(old, new, rows.tolist())
        )
    keep = rows.to(old.device).view(-1, *[1] * (old.ndim - 1))
    return torch.where(keep, _rounded(new.detach(), old), old)


def describes_rows(value: Any, rows: int) -> bool:
    """Whether a field is an array of measurements, one or more for each row; ids are not."""
    shape, dtype = tuple(getattr(value, "shape", ())), str(getattr(value, "dtype", ""))
    if shape[:1] != (rows,):
        return False
    return "float" in dtype or ("int" in dtype and len(shape) > 1)


def representable(old: Any, new: Tensor) -> Tensor | None:
    """Rows (B,) bool of `new` whose numbers the dtype of `old` can hold; None for all of them.

    float16 ends at 65504 (60 m in millimetres), and integers at their own bounds.
    """
    first = old[0] if isinstance(old, (list, tuple)) and len(old) else old
    if not isinstance(first, (Tensor, np.ndarray)):
        return None
    dtype = first.dtype if isinstance(first, Tensor) else torch.from_numpy(first[:0].copy()).dtype
    if dtype in (torch.float32, torch.float64, torch.bfloat16):
        return None
    limits = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
    return ((new >= limits.min) & (new <= limits.max)).flatten(1).all(1)


def _like(old: Any, new: Tensor) -> Any:
    """One row of a list, in the type and dtype of `old`."""
    if isinstance(old, Tensor):
        return _rounded(new.detach(), old)
    if isinstance(old, np.ndarray):
        return _values(new, old.dtype)
    return new.detach().cpu().numpy().tolist()


def _rounded(new: Tensor, old: Tensor) -> Tensor:
    """Converted to the dtype and device of `old`; rounded for integers."""
    return (new if old.is_floating_point() else new.round()).to(old)


def _values(new: Tensor, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    values = new.detach().cpu().numpy()
    return (values.round() if np.issubdtype(dtype, np.integer) else values).astype(dtype)
