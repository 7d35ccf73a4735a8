"""Training pairs, both tests, and batches: what a small experiment needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from . import synthetic
from .cross_dataset import load_unseen
from .h36m import TEST, TRAIN, Pairs, load_h36m

__all__ = ["Batch", "endless", "load", "make_loader"]

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def load(folder: Path | str | None, seed: int) -> tuple[Pairs, Pairs, Pairs]:
    """Training pairs, the source's test pairs, and pairs of another studio."""
    if folder is None:
        return synthetic.make(seed)
    folder = Path(folder)
    return load_h36m(folder, TRAIN), load_h36m(folder, TEST), load_unseen(folder)


def make_loader(pairs: Pairs, rows: int) -> DataLoader[Batch]:
    """Batches (pose_3d, pose_2d, row number, camera), sliced from memory in one go."""
    data = TensorDataset(pairs.pose_3d, pairs.pose_2d, torch.arange(len(pairs)), pairs.camera)
    batches = BatchSampler(RandomSampler(data), rows, drop_last=True)
    return DataLoader(data, sampler=batches, batch_size=None)  # type: ignore[arg-type]


def endless(loader: Iterable[Batch]) -> Iterator[Batch]:
    """Batches of one epoch after another."""
    while True:
        yield from loader
