"""Batches for a small experiment."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from h36m_helpers import pixels, world, write
from poseaug_plugin.data import endless, load, loading, make_loader
from poseaug_plugin.data.h36m import Pairs


def pairs(rows: int = 50) -> Pairs:
    """With other numbers in each row."""
    numbers = torch.arange(float(rows))
    tensors = (numbers.view(-1, *[1] * len(s)).expand(-1, *s) for s in ((16, 2), (16, 3), (9,)))
    return Pairs(*tensors, *[np.array([""] * rows)] * 2)


def test_a_loader_yields_the_rows_in_random_order_and_drops_what_is_left() -> None:
    data, orders = pairs(), []
    torch.manual_seed(0)
    loader = make_loader(data, 16)
    assert len(loader) == 3
    for _ in range(2):
        batches = [*loader]
        assert [len(batch[2]) for batch in batches] == [16] * 3
        for pose_3d, pose_2d, row, camera in batches:
            assert torch.equal(pose_3d, data.pose_3d[row])
            assert torch.equal(pose_2d, data.pose_2d[row])
            assert torch.equal(camera, data.camera[row])
        orders.append(torch.cat([batch[2] for batch in batches]).tolist())
        assert len(set(orders[-1])) == 48
        assert orders[-1] != sorted(orders[-1])
    assert orders[0] != orders[1]


def test_an_endless_loader_starts_again() -> None:
    assert [*itertools.islice(endless([1, 2]), 5)] == [1, 2, 1, 2, 1]  # type: ignore[list-item]


def test_the_seed_is_that_of_synthetic_motion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading.synthetic, "make", lambda seed: (seed, seed, seed))
    assert load(None, 3) == (3, 3, 3)
    assert load(None) == (0, 0, 0)


def test_a_folder_gives_training_subjects_test_subjects_and_another_data_set(
    tmp_path: Path,
) -> None:
    subjects = "S1", "S5", "S6", "S7", "S8", "S9", "S11"
    motion = {subject: {"Walking": world(2)} for subject in subjects}
    screens = {subject: {"Walking": [pixels(2)] * 4} for subject in subjects}
    write(tmp_path, motion, screens)
    np.savez(tmp_path / "test_3dpw.npz", pose3d=world(3, 16), pose2d=np.zeros((3, 16, 2)))
    train, test, cross = load(str(tmp_path))
    assert sorted({*train.subject}) == ["S1", "S5", "S6", "S7", "S8"]
    assert sorted({*test.subject}) == ["S11", "S9"]
    assert (len(cross), cross.subject[0]) == (3, "test_3dpw")
