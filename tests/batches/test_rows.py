"""Batches as rows: lists of mappings, columns of nested lists, tuples of mappings, and streams."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import people
from loop_helpers import attached, changed_rows, small, step
from poseaug_plugin import Camera
from poseaug_plugin.batches.containers import get_field, keys_of, repeat_rows, set_fields
from poseaug_plugin.geometry.camera import project

ROWS = 16


def pairs(rows: int = ROWS) -> tuple[Tensor, Tensor]:
    """Absolute 3D (B, 16, 3) and its exact 2D."""
    pose_3d = people(rows)[:, 0]
    return pose_3d, project(pose_3d, Camera().intrinsics)


def as_rows() -> list[dict[str, Any]]:
    """What `collate_fn=lambda rows: rows` yields."""
    return [{"x": x, "y": y, "id": i} for i, (y, x) in enumerate(zip(*pairs()))]


def as_columns() -> dict[str, list[Any]]:
    """What `datasets.Dataset.iter(batch_size)` yields: plain numbers in nested lists."""
    pose_3d, pose_2d = pairs()
    return {"x": pose_2d.tolist(), "y": pose_3d.tolist(), "id": [*range(ROWS)]}


def as_parts() -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs and targets in a mapping each."""
    pose_3d, pose_2d = pairs()
    return {"kp": pose_2d, "id": torch.arange(ROWS)}, {"pose": pose_3d}


BATCHES = {
    "rows": (as_rows, dict(pose_2d="x", pose_3d="y", root="absolute")),
    "rows inferred": (as_rows, None),
    "columns": (as_columns, dict(pose_2d="x", pose_3d="y", root="absolute")),
    "columns inferred": (as_columns, None),
    "parts": (as_parts, dict(pose_2d="0.kp", pose_3d="1.pose", root="absolute")),
}


@pytest.mark.parametrize("mix", ["replace", "append"])
@pytest.mark.parametrize("name", BATCHES)
def test_rows_columns_and_parts_are_augmented_in_their_own_form(name: str, mix: str) -> None:
    make, fmt = BATCHES[name]
    given: Any = make()
    augmenter, _, _ = attached(small("random", mix=mix, ratio=0.5), fmt)
    made = augmenter(given)
    assert type(made) is type(given)
    keys = ("0.kp", "1.pose", "0.id") if name == "parts" else ("x", "y", "id")
    pose_2d, pose_3d = (torch.stack([*map(torch.as_tensor, get_field(made, k))]) for k in keys[:2])
    absolute, observed = pairs()
    rows = torch.as_tensor(get_field(made, keys[2]))
    assert len(pose_2d) == len(pose_3d) == len(rows) == ROWS * (2 if mix == "append" else 1)
    changed = set(changed_rows(pose_2d, observed[rows]))
    assert changed == set(changed_rows(pose_3d, absolute[rows]))
    assert 4 <= len(changed) <= ROWS
    if name.startswith("rows"):
        assert all(isinstance(row, dict) and row["x"].shape == (16, 2) for row in made)
        assert mix == "append" or all(
            (made[i] is given[i]) == (i not in changed) for i in range(ROWS)
        )
    if name.startswith("columns"):
        assert isinstance(made["x"][0][0][0], float)


def test_a_path_may_start_with_an_index_or_enter_every_row() -> None:
    batch: Any = ({"a": 1}, {"a": {"b": 2}})
    assert get_field(batch, "0.a") == 1
    assert get_field(batch, "1.a.b") == 2
    assert get_field(batch, "a") == [1, {"b": 2}]
    made = set_fields(batch, {"1.a.b": 5, "0.a": 6})
    assert made == ({"a": 6}, {"a": {"b": 5}})
    rows = [{"a": {"b": 1, "c": 3}}, {"a": {"b": 2, "c": 4}}]
    assert get_field(rows, "a.b") == [1, 2]
    both = set_fields(rows[0], {"a.b": 5, "a.c": 6})
    assert (both, rows[0]) == ({"a": {"b": 5, "c": 6}}, {"a": {"b": 1, "c": 3}})
    assert set_fields(batch, {"a": [7, 8]}) == ({"a": 7}, {"a": 8})
    assert batch == ({"a": 1}, {"a": {"b": 2}})


def test_one_row_has_the_fields_of_rows() -> None:
    assert keys_of([{"x": 1, "y": 2}]) == ["x", "y"]


def test_rows_are_repeated_as_copies() -> None:
    rows = [{"x": torch.zeros(2)}, {"x": torch.ones(2)}]
    made = repeat_rows(rows, 2)
    assert [float(row["x"][0]) for row in made] == [0, 0, 1, 1]
    made[0]["x"] += 5
    assert float(made[1]["x"][0]) == 0


# Loaders


class Stream:
    """An iterable without a length whose methods return new ones, as webdataset's."""

    def __init__(self, size: int = ROWS) -> None:
        self.size = size

    def batched(self, size: int) -> Stream:
        return Stream(size)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        pose_3d, pose_2d = (field.numpy() for field in pairs(2 * ROWS))
        for start in range(0, 2 * ROWS, self.size):
            rows = slice(start, start + self.size)
            yield {"kp.npy": pose_2d[rows], "pose.npy": pose_3d[rows], "__key__": ["a"] * self.size}


class Indexed:
    """A loader with indices alone."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if index >= 3:
            raise IndexError
        return pairs()


STREAM = dict(pose_2d="kp.npy", pose_3d="pose.npy", root="absolute")


def test_a_stream_is_augmented_and_counts_epochs() -> None:
    augmenter, model, optimizer = attached(small("random", ratio=1.0), STREAM)
    loader = augmenter.wrap(Stream().batched(8))
    plain = [*Stream(8)]
    for _ in range(2):
        for given, batch in zip(plain, loader, strict=True):
            assert changed_rows(given["kp.npy"], batch["kp.npy"])
            assert batch["__key__"] == ["a"] * 8
            step(model, optimizer, (batch["pose.npy"], batch["kp.npy"]))
    assert augmenter.stats()["epochs"] == 2
    assert all(report.ok for report in augmenter.check(loader))


def test_a_loader_with_indices_alone_is_checked_and_augmented() -> None:
    augmenter, _, _ = attached(
        small("random", ratio=1.0), dict(pose_3d=0, pose_2d=1, root="absolute")
    )
    assert len(augmenter.check(Indexed(), batches=2)) == 2  # type: ignore[arg-type]
    batches = [*itertools.islice(augmenter.wrap(Indexed()), 9)]  # type: ignore[call-overload]
    assert len(batches) == 3
    assert all(changed_rows(batch[1], pairs()[1]) for batch in batches)
