"""Batches and the training step of a lifter, shared by the benchmarks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from poseaug_plugin.data import Batch, Pairs

__all__ = ["ShuffledBatches", "centre_frame", "train_step"]


class ShuffledBatches:
    """Batches (pose_3d, pose_2d, row number, camera) in an order that depends only on the seed.

    Every iteration is an epoch in a new order. The last incomplete batch is dropped.

    Raises:
        ValueError: There are fewer pairs than the batch size.
    """

    def __init__(self, pairs: Pairs, batch_size: int, seed: int) -> None:
        if batch_size > len(pairs):
            raise ValueError(f"{len(pairs)} pairs are fewer than the batch size {batch_size}")
        self._fields, self._batch_size = (pairs.pose_3d, pairs.pose_2d, pairs.camera), batch_size
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self._fields[0]) // self._batch_size

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self._fields[0]), generator=self._generator)
        for rows in order.split(self._batch_size)[: len(self)]:
            pose_3d, pose_2d, camera = (field[rows] for field in self._fields)
            yield pose_3d, pose_2d, rows, camera


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, max_norm: float | None = None
) -> Tensor:
    """Update a lifter once by the mean squared error of root-relative poses.

    Args:
        model: Lifter of single frames (B, J, 2) or of windows (B, T, J, 2).
        optimizer: Optimizer of the model.
        batch: (pose_3d, pose_2d, ...). The target of a window is its centre frame.
        max_norm: If given, gradients are clipped to this norm.

    Returns:
        The detached loss, in square metres.
    """
    pose_3d, pose_2d, *_ = batch
    target = centre_frame(pose_3d - pose_3d[..., :1, :])
    loss = (model(pose_2d).view_as(target) - target).square().mean()
    optimizer.zero_grad()
    loss.backward()
    if max_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return loss.detach()


def centre_frame(poses: Tensor) -> Tensor:
    """Centre frames (B, J, C) of windows (B, T, J, C). Single frames are returned unchanged."""
    return poses if poses.ndim == 3 else poses[:, poses.shape[1] // 2]
