"""The ways to put augmented pairs into a batch: in place of rows, beside them, or in all rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..batches.containers import duplicate, repeat_rows
from ..batches.protocol import Format
from ..geometry.pose_batch import PoseBatch
from ..loop.loader import DOUBLING_MIXES
from .draws import uniform
from .sampler import Sampler

__all__ = ["mix_batch"]


def mix_batch(
    batch: Any, poses: PoseBatch, sampler: Sampler, fmt: Format, ratio: float
) -> tuple[Any, int, Tensor]:
    """Return the caller's batch with augmented rows.

    A row whose augmented pair is rejected stays as it is.

    Args:
        batch: the caller's batch. It is not changed.
        poses: the poses of the batch.
        sampler: makes the augmented pairs.
        fmt: writes them into the batch.
        ratio: share of the rows to replace, for `mix="replace"`. Rounding is made good in later
            batches, so that the share holds on average, even for small batches and large scenes.

    Returns:
        The batch, the number of augmented pairs, and how many of them were accepted, on the
        device.
    """
    config, device, rows = sampler.config, sampler.device, len(poses)
    if config.mix == "replace":
        sampler.owed_rows += ratio * rows
        chosen = _choose(poses, sampler.owed_rows, sampler.generator)
        sampler.owed_rows -= len(chosen)
    else:
        chosen = torch.arange(rows, device=device)
    if not len(chosen):
        return batch, 0, chosen.new_zeros(())
    augmented, accepted = sampler.pairs(poses, chosen)
    if config.mix in DOUBLING_MIXES:  # the loop may change the real batch before it gets this one
        batch = duplicate(batch)
    if config.mix == "append":  # interleaved, so that a device of DataParallel gets both of a pair
        batch, poses, chosen = repeat_rows(batch, rows), poses.repeat(2), 2 * chosen + 1
    replaced = torch.zeros(len(poses), dtype=torch.bool, device=device)
    replaced[chosen] = accepted
    written = fmt.write(batch, poses.put(chosen, augmented), replaced, sampler.skeleton)
    return written, len(augmented), accepted.sum()


def _choose(poses: PoseBatch, owed: float, generator: torch.Generator) -> Tensor:
    """Return as many random rows as are owed, rounded down; of groups, whole ones, rounded."""
    leader = poses.leader
    if leader is None:
        count = min(int(owed + 1e-6), len(poses))
        return torch.randperm(len(poses), generator=generator, device=generator.device)[:count]
    score = uniform(generator, len(poses))[leader].cpu()  # waits for the device only here
    groups, sizes = score.unique(return_counts=True)  # ascending: in random order
    counts = [0, *sizes.cumsum(0).tolist()]
    number = min(range(len(counts)), key=lambda n: abs(counts[n] - owed))
    chosen = torch.isin(score, groups[:number]).nonzero()[:, 0]
    return chosen.to(leader.device, non_blocking=True)
