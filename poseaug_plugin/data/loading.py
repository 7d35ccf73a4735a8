"""Training pairs, test pairs and batches for a small experiment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from . import synthetic
from .cross_dataset import load_cross_dataset
from .h36m import TEST, TRAIN, Pairs, load_h36m

__all__ = ["Batch", "endless", "load", "make_loader"]

Batch = tuple[Tensor, Tensor, Tensor, Tensor]  # pose_3d, pose_2d, row number, camera


def load(folder: Path | str | None, seed: int = 0) -> tuple[Pairs, Pairs, Pairs]:
    """Load training pairs, in-domain test pairs and cross-dataset test pairs.

    Args:
        folder: Folder with Human3.6M's files and a cross-dataset test set. If None, synthetic
            motion is generated instead.
        seed: Seed of the synthetic motion. Unused with a folder.

    Raises:
        FileNotFoundError: A file is missing. The message says where to get it.
        ValueError: A file has unexpected contents.
    """
    if folder is None:
        return synthetic.make(seed)
    folder = Path(folder)
    return load_h36m(folder, TRAIN), load_h36m(folder, TEST), load_cross_dataset(folder)


def make_loader(pairs: Pairs, batch_size: int) -> DataLoader[Batch]:
    """Make a shuffled loader of batches (pose_3d, pose_2d, row number, camera).

    A batch is sliced from the tensors in memory at once, which is much faster than collating rows.
    The last incomplete batch of an epoch is dropped.
    """
    data = TensorDataset(pairs.pose_3d, pairs.pose_2d, torch.arange(len(pairs)), pairs.camera)
    batches = BatchSampler(RandomSampler(data), batch_size, drop_last=True)
    return DataLoader(data, sampler=batches, batch_size=None)  # type: ignore[arg-type]


def endless(loader: Iterable[Batch]) -> Iterator[Batch]:
    """Iterate over the loader again and again, one epoch after another."""
    while True:
        yield from loader
