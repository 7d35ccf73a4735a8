"""Which rows of a batch become augmented ones: in place of rows, beside them, or all of them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from ..batches.containers import repeat_rows
from ..batches.protocol import Format
from ..geometry.pose_batch import PoseBatch
from ..loop.loader import DOUBLING_MIXES
from .draws import uniform
from .sampler import Sampler

__all__ = ["mix_batch"]


def mix_batch(
    batch: Any, poses: PoseBatch, sampler: Sampler, fmt: Format, ratio: float, before: int
) -> tuple[Any, int, Tensor]:
    """The caller's batch with augmented rows; a pair that no camera could take stays real.

    Args:
        ratio: share of the rows, where they are replaced.
        before: batches that were mixed before. Some give a row more than others, so that the share
            holds over all, be they ever so small.

    Returns:
        The batch, how many rows were tried, and how many of them passed (on the device).
    """
    config, device, rows = sampler.config, sampler.device, len(poses)
    chosen = torch.arange(rows, device=device)
    if config.mix == "replace":
        count = int(ratio * rows * (before + 1) + 1e-6) - int(ratio * rows * before + 1e-6)
        chosen = _choose(poses, count, sampler.generator)
    if not len(chosen):
        return batch, 0, chosen.new_zeros(())
    made, good = sampler.pairs(poses, chosen)
    if config.mix in DOUBLING_MIXES:  # the caller may change the real batch before the twin's turn
        batch = copy.deepcopy(batch)
    if config.mix == "append":  # each twin next to its row: a device of DataParallel gets both
        batch, poses, chosen = repeat_rows(batch, rows), poses.repeat(2), 2 * chosen + 1
    replaced = torch.zeros(len(poses), dtype=torch.bool, device=device)
    replaced[chosen] = good
    written = fmt.write(batch, poses.put(chosen, made), replaced, sampler.skeleton)
    return written, len(made), good.sum()


def _choose(poses: PoseBatch, count: int, generator: torch.Generator) -> Tensor:
    """`count` random rows; with groups, whole groups until there are as many."""
    leader = poses.leader
    if leader is None or not count:
        return torch.randperm(len(poses), generator=generator, device=generator.device)[:count]
    score = uniform(generator, len(poses))[leader]
    return (score <= score.sort().values[count - 1]).nonzero()[:, 0]
