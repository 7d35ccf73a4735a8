"""Processes of training on two ranks: `python two_ranks.py FOLDER` saves the results of each case.

A process of its own, which imports torch once and forks the ranks.
"""

from __future__ import annotations

import itertools
import sys
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from loop_helpers import attached, batch, small, snapshot
from poseaug_plugin.adversarial import collapse
from poseaug_plugin.loop.distributed import all_agree, average

CPU = torch.device("cpu")
CASES = ["plain", "shorter batch on one", "collapse", "bad batch on one", "extra batch on one"]
CASES += ["estimator fails on one", "disabled on one"]


def rank_main(rank: int, folder: str) -> None:
    """Run all cases on one of two ranks, and save their results."""
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=30),
    )
    for case in CASES:
        if case == "collapse":
            make_ranks_disagree(rank)
        torch.save(run(rank, case), f"{folder}/{case} {rank}.pt")
        dist.barrier()
    dist.destroy_process_group()


def make_ranks_disagree(rank: int) -> None:
    """Set the limits so that only the measures of one rank, by themselves, show a collapse."""
    hardness: list[float] = []
    reports = collapse.CollapseWatch._reports
    collapse.WINDOW = 2
    collapse.CollapseWatch._reports = (  # type: ignore[method-assign]
        lambda self, means: hardness.append(means["hardness"]) or []
    )
    run(rank, "plain")
    collapse.CollapseWatch._reports = reports  # type: ignore[method-assign]
    both: list[Any] = [None, None]
    dist.all_gather_object(both, hardness[0])
    limit = collapse.LIMITS["hardness"]
    collapse.LIMITS["hardness"] = limit._replace(low=0.0, high=sum(both) / 2)


def run(rank: int, case: str) -> dict[str, Any]:
    """A loop as with DistributedDataParallel: averaged gradients, and other data on each rank."""
    every = 2 if case == "extra batch on one" else 1
    augmenter, model, optimizer = attached(
        small("residual", adv2d=1.0, lr=1e-3, update_every=every)
    )
    batches = [list(batch(seed=10 * rank + i)) for i in range(4)]
    if case == "bad batch on one" and rank == 1:
        batches[1][0] = batches[1][0] * float("nan")
    if case == "shorter batch on one" and rank == 1:
        batches[1] = [field[:3] for field in batches[1]]
    if case == "extra batch on one" and rank == 1:
        next(iter(augmenter.wrap(batches)))
    if case == "estimator fails on one" and rank == 1:
        calls = itertools.count()
        predict = augmenter._estimator._predict

        def fail_once(net: Any, pose_2d: Any) -> Any:
            if next(calls) == 3:
                raise RuntimeError("out of memory")
            return predict(net, pose_2d)

        augmenter._estimator._predict = fail_once
    result: dict[str, Any] = {}
    for i, each in enumerate(augmenter.wrap(batches)):
        if case == "disabled on one" and rank == 1 and i in (1, 2):
            (augmenter.disable if i == 1 else augmenter.enable)()
        if i == 0:
            result["start"] = snapshot(augmenter)[0]["engine"]["trainer"]["nets"]
            result["sample"] = augmenter.preview(batch())[0].pose_3d
        optimizer.zero_grad()
        model(each[1]).square().mean().backward()
        for p in model.parameters():
            dist.all_reduce(p.grad)
            p.grad /= 2
        optimizer.step()
    mean = torch.tensor([float(rank)])
    average([mean])
    return {
        **result,
        "mean": float(mean),
        "votes": [all_agree(yes, CPU) for yes in (True, rank == 0, False)],
        "nets": snapshot(augmenter)[0]["engine"]["trainer"]["nets"],
        "model": snapshot(model),
        "updates": augmenter.stats()["updates"],
    }


if __name__ == "__main__":
    attached()  # imports what optimizers need, once
    mp.start_processes(rank_main, (sys.argv[1],), nprocs=2, start_method="fork")
