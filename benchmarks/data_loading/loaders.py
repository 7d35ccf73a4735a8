"""Loaders to compare: whole batches sliced from memory, and rows collated by a DataLoader."""

from __future__ import annotations

import argparse
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
from poseaug_plugin.data import Batch, Pairs
from poseaug_plugin.data.h36m_cameras import project as project_row
from poseaug_plugin.geometry.bones import Bones, bones_to_pose
from poseaug_plugin.geometry.camera import project
from poseaug_plugin.geometry.operators import stretch

from ..training import ShuffledBatches

__all__ = ["MakeIterator", "RowDataset", "in_memory", "loaders", "swap_batch", "with_bone_lengths"]

SKELETON = Skeleton.of("h36m_16")
Array = NDArray[Any]
MakeIterator = Callable[[], Iterator[Batch]]  # starts one pass over the batches


def in_memory(pairs: Pairs, batch_size: int, seed: int, swap: bool) -> Iterator[Batch]:
    """One epoch of batches sliced from tensors."""
    generator = torch.Generator().manual_seed(seed)
    for batch in ShuffledBatches(pairs, batch_size, seed):
        yield swap_batch(batch, generator) if swap else batch


def swap_batch(batch: Batch, generator: torch.Generator) -> Batch:
    pose_3d, _, rows, camera = batch
    length = Bones.of(pose_3d, SKELETON).length
    pose_3d = stretch(pose_3d, swap_lengths(length, SKELETON, generator), SKELETON)
    return pose_3d, project(pose_3d, camera), rows, camera


class RowDataset(Dataset[tuple[Array, Array, int, Array]]):
    """A data set of numpy rows, which the DataLoader collates, as in most public codebases."""

    def __init__(self, pairs: Pairs, swap: bool) -> None:
        fields = (pairs.pose_3d, pairs.pose_2d, pairs.camera)
        self.pose_3d, self.pose_2d, self.camera = (field.numpy() for field in fields)
        self.swap = swap

    def __len__(self) -> int:
        return len(self.pose_3d)

    def __getitem__(self, row: int) -> tuple[Array, Array, int, Array]:
        pose_3d, pose_2d, camera = self.pose_3d[row], self.pose_2d[row], self.camera[row]
        if self.swap:
            pose_3d = with_bone_lengths(pose_3d, self.pose_3d[random.randrange(len(self))])
            pose_2d = project_row(pose_3d, camera).astype(np.float32)
        return pose_3d, pose_2d, row, camera


def with_bone_lengths(pose: Array, other: Array) -> Array:
    """`pose` (16, 3) with the bone lengths of `other`, the mean of left and right."""
    bones, own = _bones(pose)
    _, others = _bones(other)
    return pose[:1] + _PATHS @ (bones * (others / own).astype(np.float32)[_GROUP, None])


def _bones(pose: Array) -> tuple[Array, Array]:
    """Bone vectors (15, 3) and the sum of lengths in each mirror group."""
    bones = pose[_CHILD] - pose[_PARENT]
    return bones, np.bincount(_GROUP, np.sqrt((bones * bones).sum(1)))


_CHILD, _PARENT, _GROUP = (
    np.array(x) for x in (SKELETON.child, SKELETON.parent, SKELETON.mirror_group)
)
# (16, 15): whether a bone lies on the path from the root to a joint.
_PATHS = bones_to_pose(torch.eye(15)[..., None].expand(-1, -1, 3), SKELETON)[..., 0].T.numpy()


def loaders(
    pairs: Pairs, args: argparse.Namespace, swap: bool
) -> dict[str, tuple[int, MakeIterator]]:
    """Number of rows of one pass, and a function that starts one.

    In memory a pass is an epoch. Row by row it is the share `args.share` of an epoch.
    """
    batch_size, seed = args.batch_size, args.seed
    epoch = len(pairs) // batch_size
    found: dict[str, tuple[int, MakeIterator]] = {
        "in memory": (epoch * batch_size, partial(in_memory, pairs, batch_size, seed, swap))
    }
    rows = max(1, round(args.share * epoch)) * batch_size
    # Shuffling and starting the workers are not timed.
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))[:rows]
    for workers in args.workers:
        loader: DataLoader[Any] = DataLoader(
            RowDataset(pairs, swap),
            batch_size,
            sampler=order.tolist(),
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        found[f"row by row, {workers} workers"] = (rows, partial(iter, loader))
    return found
