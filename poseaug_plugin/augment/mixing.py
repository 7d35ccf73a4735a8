"""The ways to put augmented pairs into a batch: in place of rows, beside them, or in all rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..batches.containers import duplicate, repeat_rows
from ..batches.protocol import Format
from ..geometry.pose_batch import PoseBatch
from ..loop.loader import DOUBLING_MIXES
from .draws import uniform
from .occlusion import hide_joints
from .sampler import Sampler

__all__ = ["Mixed", "mix_batch"]


@dataclass(frozen=True)
class Mixed:
    """A batch with augmented rows.

    Attributes:
        batch: the batch as the caller's loader yields it.
        tried: number of augmented pairs.
        passed: how many of them were accepted, a scalar on the device.
        real: the original poses of all rows of `batch`. With `mix="append"` the second copy of a
            row is marked as invalid, so that it counts once.
        made: the same rows with every augmented pair put in, accepted or not.
        replaced: (B,) bool, the rows of `batch` that are augmented.
    """

    batch: Any
    tried: int
    passed: Tensor
    real: PoseBatch
    made: PoseBatch
    replaced: Tensor

    @property
    def poses(self) -> PoseBatch:
        """The poses of all rows of `batch`."""
        return self.real.where(self.replaced, self.made)


def mix_batch(batch: Any, poses: PoseBatch, sampler: Sampler, fmt: Format, ratio: float) -> Mixed:
    """Return the caller's batch with augmented rows.

    A row whose augmented pair is rejected stays as it is.

    Args:
        batch: the caller's batch. It is not changed.
        poses: the poses of the batch.
        sampler: makes the augmented pairs.
        fmt: writes them into the batch.
        ratio: share of the rows to replace, for `mix="replace"`. Rounding is made good in later
            batches, so that the share holds on average, even for small batches and large scenes.
    """
    config, device, rows = sampler.config, sampler.device, len(poses)
    if config.mix == "replace":
        chosen = _choose(poses, sampler, ratio)
    elif poses.group is None:
        chosen = torch.arange(rows, device=device)
    else:
        chosen = poses.valid.nonzero()[:, 0]  # scenes may be mostly padding
    if not len(chosen):
        return Mixed(batch, 0, chosen.new_zeros(()), poses, poses, torch.zeros_like(poses.valid))
    real = poses
    augmented, accepted = sampler.pairs(poses, chosen)
    if config.mix in DOUBLING_MIXES:  # the loop may change the real batch before it gets this one
        batch = duplicate(batch)
    if config.mix == "append":  # interleaved, so that a device of DataParallel gets both of a pair
        batch, people = repeat_rows(batch, rows // poses.people), poses.people
        chosen = chosen + (chosen // people + 1) * people
        poses = poses.repeat(2)
        is_copy = torch.arange(len(poses), device=device) // people % 2 == 1
        real = replace(poses, valid=poses.valid & ~is_copy)
    replaced = torch.zeros(len(poses), dtype=torch.bool, device=device)
    replaced[chosen] = accepted
    new = poses.put(chosen, augmented)
    if config.joint_dropout:
        new = hide_joints(new, chosen, config.joint_dropout, sampler.generator)
    written = fmt.write(batch, new, replaced, sampler.skeleton)
    return Mixed(written, len(augmented), accepted.sum(), real, new, replaced)


def _choose(poses: PoseBatch, sampler: Sampler, ratio: float) -> Tensor:
    """Return as many random rows as are owed, rounded down; of groups, whole ones, rounded."""
    leader, generator = poses.leader, sampler.generator
    if leader is None:
        sampler.owed_rows += ratio * len(poses)
        count = min(int(sampler.owed_rows + 1e-6), len(poses))
        chosen = torch.randperm(len(poses), generator=generator, device=generator.device)[:count]
    else:
        score = uniform(generator, len(poses))[leader]
        score = score.where(poses.valid, 2.0).cpu()  # waits for the device only here
        groups, sizes = score[score < 2].unique(return_counts=True)  # ascending: in random order
        counts = [0, *sizes.cumsum(0).tolist()]
        sampler.owed_rows += ratio * counts[-1]
        number = min(range(len(counts)), key=lambda n: abs(counts[n] - sampler.owed_rows))
        of_groups = torch.isin(score, groups[:number]).nonzero()[:, 0]
        chosen = of_groups.to(leader.device, non_blocking=True)
    sampler.owed_rows -= len(chosen)
    return chosen
