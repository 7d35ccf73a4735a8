"""Readers of batches to compare: whole ones from memory, and a row at a time as the field does."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from poseaug_plugin import Skeleton
from poseaug_plugin.augment.prior import swap_lengths
from poseaug_plugin.data.h36m import Pairs
from poseaug_plugin.data.h36m_cameras import project as project_row
from poseaug_plugin.data.loading import Batch
from poseaug_plugin.geometry.bones import Bones, bones_to_pose
from poseaug_plugin.geometry.camera import project
from poseaug_plugin.geometry.operators import stretch

from ..generalization.runs import Batches
from ..overhead.sections import Args

__all__ = ["PerSample", "Reader", "in_memory", "lengthened", "readers", "swapped"]

TREE = Skeleton.of("h36m_16")
Array = NDArray[Any]
Reader = Callable[[], Iterator[Batch]]


def in_memory(pairs: Pairs, rows: int, seed: int, swap: bool) -> Iterator[Batch]:
    """One epoch of whole batches, sliced from tensors."""
    generator = torch.Generator().manual_seed(seed)
    for batch in Batches(pairs, rows, seed):
        yield swapped(batch, generator) if swap else batch


def swapped(batch: Batch, generator: torch.Generator) -> Batch:
    pose_3d, _, rows, camera = batch
    pose_3d = stretch(pose_3d, swap_lengths(Bones.of(pose_3d, TREE), generator), TREE)
    return pose_3d, project(pose_3d, camera), rows, camera


class PerSample(Dataset[tuple[Array, Array, int, Array]]):
    """A row at a time in numpy, which the loader collates: the way of the field's data sets."""

    def __init__(self, pairs: Pairs, swap: bool) -> None:
        fields = (pairs.pose_3d, pairs.pose_2d, pairs.camera)
        self.pose_3d, self.pose_2d, self.camera = (field.numpy() for field in fields)
        self.swap = swap

    def __len__(self) -> int:
        return len(self.pose_3d)

    def __getitem__(self, row: int) -> tuple[Array, Array, int, Array]:
        pose_3d, pose_2d, camera = self.pose_3d[row], self.pose_2d[row], self.camera[row]
        if self.swap:
            pose_3d = lengthened(pose_3d, self.pose_3d[random.randrange(len(self))])
            pose_2d = project_row(pose_3d, camera).astype(np.float32)
        return pose_3d, pose_2d, row, camera


def lengthened(pose: Array, other: Array) -> Array:
    """`pose` (16, 3) with the bone lengths of `other`, averaged over left and right."""
    bones, own = _bones(pose)
    _, others = _bones(other)
    return pose[:1] + _WAY @ (bones * (others / own).astype(np.float32)[_GROUP, None])


def _bones(pose: Array) -> tuple[Array, Array]:
    """(15, 3) and, for each mirror group, the sum of their lengths."""
    bones = pose[_CHILD] - pose[_PARENT]
    return bones, np.bincount(_GROUP, np.sqrt((bones * bones).sum(1)))


_CHILD, _PARENT, _GROUP = (np.array(x) for x in (TREE.child, TREE.parent, TREE.mirror_group))
# (16, 15): whether a bone lies between the root and a joint.
_WAY = bones_to_pose(torch.eye(15)[..., None].expand(-1, -1, 3), TREE)[..., 0].T.numpy()


def readers(pairs: Pairs, args: Args, swap: bool) -> dict[str, tuple[int, Reader]]:
    """Rows of one pass, and how to begin one. Row by row it is a share of an epoch."""
    rows, seed = args.batch_size, args.seed
    epoch = len(pairs) // rows
    made: dict[str, tuple[int, Reader]] = {
        "in memory": (epoch * rows, partial(in_memory, pairs, rows, seed, swap))
    }
    few = max(1, round(args.share * epoch)) * rows
    # Shuffled beforehand, and workers stay for the next pass: neither is counted.
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))[:few]
    for workers in args.workers:
        loader: DataLoader[Any] = DataLoader(
            PerSample(pairs, swap),
            rows,
            sampler=order.tolist(),
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        made[f"row by row, {workers} workers"] = (few, partial(iter, loader))
    return made
