"""Compares a saved state with one that this augmenter would save, entry by entry."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from .errors import CheckpointError

__all__ = ["check_like"]

# Entries that training adds; absent or None before.
GROWING = ("sums", "watch counts", "state", "items", "passed", "engine", "detected")
LARGEST = 2**62  # whole number that a count can reach
# Entries whose content depends on the torch version or the device.
FREE = ("generator", "param_groups")


def check_like(saved: Any, example: Any, path: str = "state") -> None:
    """Check that a saved entry has the keys, types, shapes and ranges of an example.

    Args:
        example: the same entry of a state with every entry that training can add.
        path: where the entry is, for messages.

    Raises:
        CheckpointError: the first entry that differs, by name.
    """
    for where, problem in _differences(saved, example, path):
        raise CheckpointError(
            f"{where} {problem}: the state is damaged, or of another version or config; load an "
            "earlier checkpoint."
        )


def _differences(saved: Any, example: Any, path: str) -> Iterator[tuple[str, str]]:
    name = path.rsplit(".", 1)[-1]
    name = "watch counts" if path.endswith(".watch.counts") else name
    if saved is None and name in GROWING:
        return
    if name in FREE:
        if type(saved) is not type(example):
            yield path, f"is {_kind(saved)}, expected {_kind(example)}"
    elif isinstance(example, Tensor):
        yield from _tensor_differences(saved, example, path)
    elif isinstance(example, Mapping):
        if not isinstance(saved, Mapping):
            yield path, f"is {_kind(saved)}, expected {_kind(example)}"
            return
        missing, unknown = ([*set(a) - set(b)] for a, b in ((example, saved), (saved, example)))
        if unknown or (missing and name not in GROWING):
            yield (
                path,
                f"lacks {sorted(map(str, missing))} and has unknown {sorted(map(str, unknown))}",
            )
        for key in example:
            if key in saved:
                yield from _differences(saved[key], example[key], f"{path}.{key}")
    elif isinstance(example, (list, tuple)):
        if not isinstance(saved, (list, tuple)) or len(saved) != len(example):
            yield path, f"is {_kind(saved)}, expected {_kind(example)}"
            return
        for number, (one, other) in enumerate(zip(saved, example)):
            yield from _differences(one, other, f"{path}.{number}")
    elif isinstance(example, int) and not isinstance(example, bool):
        if not isinstance(saved, int) or isinstance(saved, bool):
            yield path, f"is {_kind(saved)}, expected a whole number"
        elif not 0 <= saved < LARGEST:
            yield path, f"is {saved}, expected 0 to {LARGEST:.0e}"
    elif isinstance(example, float):
        low = -LARGEST if name == "owed_rows" else 0
        if type(saved) not in (int, float) or not low <= saved < math.inf:
            yield path, f"is {saved!r}, expected a finite number of {low} or more"
    elif type(saved) is not type(example):
        yield path, f"is {_kind(saved)}, expected {_kind(example)}"


def _tensor_differences(saved: Any, example: Tensor, path: str) -> Iterator[tuple[str, str]]:
    if not isinstance(saved, Tensor) or (saved.shape, saved.dtype) != (
        example.shape,
        example.dtype,
    ):
        yield path, f"is {_kind(saved)}, expected {_kind(example)}"
    elif saved.layout != torch.strided or saved.is_meta:
        yield path, f"is a {saved.layout} tensor on {saved.device}, expected a dense one"
    elif ".sums." in path:  # measures of a part that has collapsed may be anything
        return
    elif not saved.isfinite().all():
        yield path, "has numbers that are not finite"
    elif path.endswith((".step", ".exp_avg_sq", ".passed", ".counts")) and (saved < 0).any():
        yield path, "has negative numbers"


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a {value.dtype} tensor of shape {tuple(value.shape)}"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"
