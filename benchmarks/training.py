"""Windows, batches, the training step and predictions of a lifter, shared by the benchmarks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from poseaug_plugin.data import Batch, Pairs

__all__ = [
    "ShuffledBatches",
    "centre_frame",
    "clip_bounds",
    "predict",
    "train_step",
    "window_rows",
]


class ShuffledBatches:
    """Batches (pose_3d, pose_2d, row number, camera) in an order that depends only on the seed.

    Every iteration is an epoch in a new order. The last incomplete batch is dropped.

    Args:
        pairs: The training pairs.
        batch_size: Number of rows of a batch.
        seed: Seed of the order.
        frames: 1 for poses (B, 16, C). T for the windows (B, T, 16, C) around the rows, see
            `window_rows`.

    Raises:
        ValueError: There are fewer pairs than the batch size, or `frames` is even.
    """

    def __init__(self, pairs: Pairs, batch_size: int, seed: int, frames: int = 1) -> None:
        if batch_size > len(pairs):
            raise ValueError(f"{len(pairs)} pairs are fewer than the batch size {batch_size}")
        self._pairs, self._batch_size = pairs, batch_size
        self._windows = window_rows(pairs, frames)
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self._pairs) // self._batch_size

    def __iter__(self) -> Iterator[Batch]:
        pairs = self._pairs
        order = torch.randperm(len(pairs), generator=self._generator)
        for rows in order.split(self._batch_size)[: len(self)]:
            frames = self._windows[rows].squeeze(1)
            yield pairs.pose_3d[frames], pairs.pose_2d[frames], rows, pairs.camera[rows]


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


@torch.no_grad()
def predict(model: nn.Module, pairs: Pairs, frames: int = 1, device: str = "cpu") -> Tensor:
    """Predict the pose (N, 16, 3) of every row, in evaluation mode and without test-time flips.

    Args:
        model: Lifter of single frames (B, 16, 2), or of windows (B, frames, 16, 2) whose centre
            frame it predicts.
        pairs: The rows. Windows are padded as in `window_rows`.
        frames: Number of frames of a window.
        device: Device of the model.
    """
    model.eval()
    pose_2d = pairs.pose_2d.to(device)
    chunks = window_rows(pairs, frames).to(device).split(4096)
    predicted = torch.cat([model(pose_2d[rows.squeeze(1)]).cpu() for rows in chunks])
    return predicted.view_as(pairs.pose_3d)


def window_rows(pairs: Pairs, frames: int) -> Tensor:
    """(N, frames) long: rows of the window around each row, padded by repeating the clip's ends.

    Windows of single frames repeat the frame. ``pairs.pose_2d[rows]`` is (N, frames, 16, 2); index
    batch by batch to save memory.

    Raises:
        ValueError: ``frames`` is not a positive odd number.
    """
    if frames < 1 or frames % 2 == 0:
        raise ValueError(f"frames is {frames}, expected 1, 3, 5, ...: the row is the centre frame")
    start, length = clip_bounds(pairs)
    first = start.repeat_interleave(length)[:, None]
    last = (start + length - 1).repeat_interleave(length)[:, None]
    around = torch.arange(frames) - frames // 2
    return (torch.arange(len(pairs))[:, None] + around).clamp_(first, last)


def clip_bounds(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """First row and length of each clip. Single frames are clips of length 1."""
    if pairs.frame is None:
        return torch.arange(len(pairs)), torch.ones(len(pairs), dtype=torch.long)
    new = torch.ones(len(pairs), dtype=torch.bool)
    new[1:] = pairs.frame.diff() != 1
    start = new.nonzero()[:, 0]
    return start, start.diff(append=torch.tensor([len(pairs)]))
