"""Processes of distributed runs: `python ranks.py FOLDER` runs every case and saves its results.

A process of its own, which imports torch once and forks the ranks.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from loop_helpers import Lifter, attached, batch, loader, seed_all, small, snapshot, train
from poseaug_plugin import AttachError, PoseAugmenter

SIZES = 2, 3  # numbers of ranks
ROWS = 8  # of each rank's batch
#: Configs whose networks equal those of one process: a rank's own rows fit and lend nothing.
EQUAL: dict[str, dict[str, Any]] = {
    "paper": {},
    "residual": dict(distance=(3, 5), image_offset=0.2, focal=(0.8, 1.0), swap_lengths=False),
}
SECONDS = 20  # without an answer, after which a rank gives up


def shares(ranks: int) -> list[list[Any]]:
    """Three batches, each as the shares of the ranks."""
    whole = [batch(rows=ROWS * ranks, seed=i) for i in range(3)]
    return [[tuple(f[ROWS * r :][:ROWS] for f in b) for r in range(ranks)] for b in whole]


def joined(ranks: int) -> list[Any]:
    """The same batches in one piece."""
    return [batch(rows=ROWS * ranks, seed=i) for i in range(3)]


def attach(config: str = "residual", **changes: Any) -> tuple[Any, nn.Module, Any]:
    """An augmenter beside a model that does not change."""
    seed_all()
    model = Lifter(norm=False, dropout=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    return (
        PoseAugmenter(model, optimizer, "poseaug", config=small(config, **changes)),
        model,
        optimizer,
    )


def nets(augmenter: PoseAugmenter) -> Any:
    engine: Any = augmenter.state_dict()["engine"]
    return snapshot(engine["trainer"]["nets"])


@contextlib.contextmanager
def without_chance() -> Iterator[None]:
    """Every draw has the same value, so that the rows of a batch do not depend on its size."""

    def constant(drawn: Tensor, *_: Any, **__: Any) -> Tensor:
        return drawn.fill_(0.37)

    before = Tensor.uniform_, Tensor.normal_
    Tensor.uniform_ = Tensor.normal_ = constant  # type: ignore[method-assign]
    try:
        yield
    finally:
        Tensor.uniform_, Tensor.normal_ = before  # type: ignore[method-assign]


def updated(config: str, batches: list[Any]) -> dict[str, Any]:
    """The networks after an update on each batch."""
    changes = EQUAL[config]
    augmenter, _, optimizer = attach(config, mix="replace", ratio=0.5, pool=1000, **changes)
    augmenter(batches[0])
    parts = augmenter._trainer.optimizers
    for name, own in parts.items():  # Adam would turn a rounding error into a whole step
        parts[name] = torch.optim.SGD(own.param_groups[0]["params"], lr=1e-2)
    augmenter._trainer.config = augmenter.config.replace(lr=1e-2)
    start = nets(augmenter)
    with without_chance():
        for each in batches:
            augmenter(each)
            optimizer.step()
    return {"start": start, "nets": nets(augmenter), "updates": augmenter.stats()["updates"]}


def equal_to_one_process(rank: int, ranks: int, folder: str) -> dict[str, Any]:
    return {config: updated(config, [share[rank] for share in shares(ranks)]) for config in EQUAL}


def faults(rank: int, ranks: int, folder: str) -> dict[str, Any]:
    """The last rank gets a bad batch, then none, is disabled, and its estimator fails twice."""
    augmenter, _, optimizer = attach()
    last, predict = rank == ranks - 1, augmenter._estimator._predict

    def fail(net: Any, pose_2d: Any) -> Any:
        raise RuntimeError("out of memory")

    def fail_backward(net: Any, pose_2d: Any) -> Any:
        predicted = predict(net, pose_2d)
        if predicted.requires_grad:
            predicted.register_hook(lambda _: fail(net, pose_2d))
        return predicted

    failing = {8: fail, 10: fail_backward}
    for number in range(12):
        given = list(batch(seed=10 * rank + number))
        if last and number == 2:
            given[0] = given[0] * float("nan")
        if last and number in (5, 6):
            (augmenter.disable if number == 5 else augmenter.enable)()
        augmenter._estimator._predict = failing.get(number, predict) if last else predict
        if not (last and number == 4):
            augmenter(tuple(given))
        optimizer.step()
    return {"nets": nets(augmenter), "updates": augmenter.stats()["updates"]}


def widened(rank: int, ranks: int, folder: str) -> dict[str, Any]:
    """Ranges of views, with an estimator that fails once on the last rank."""
    augmenter, _, optimizer = attach(widen_views=1.2, learned=False)
    predict = augmenter._estimator._predict

    def fail(net: Any, pose_2d: Any) -> Any:
        raise RuntimeError("out of memory")

    for number in range(6):
        augmenter(batch(rows=64, seed=10 * rank + number))
        failing = number == 3 and rank == ranks - 1
        augmenter._estimator._predict = fail if failing else predict
        optimizer.step()
    shares = augmenter._engine.sampler.own_views.shares
    return {"shares": shares, "updates": augmenter.stats()["updates"]}


def messages(rank: int, ranks: int, folder: str) -> dict[str, Any]:
    """Messages of an update of all networks, without those that end a window of the watch."""
    found = {}
    for config in ("paper", "residual", "released"):
        augmenter, _, optimizer = attach(config, mix="replace", d_every=1, adv2d=1.0)
        augmenter(batch(seed=rank))
        with mock.patch.object(dist, "all_reduce", wraps=dist.all_reduce) as all_reduce:
            optimizer.step()
        found[config] = all_reduce.call_count
    return found


def resumed(rank: int, ranks: int, folder: str) -> dict[str, Any]:
    """All ranks load the state that one process has saved."""
    augmenter, _, optimizer = attach()
    augmenter.load_state_dict(torch.load(f"{folder}/saved.pt", weights_only=False))
    start, drawn = nets(augmenter), augmenter.preview(batch())[0].pose_3d
    for number in range(2):
        augmenter(batch(seed=10 * rank + number))
        optimizer.step()
    if rank == 0:
        torch.save(augmenter.state_dict(), f"{folder}/saved by {ranks}.pt")
    updates = augmenter.stats()["updates"]
    return {"start": start, "drawn": drawn, "nets": nets(augmenter), "updates": updates}


def uneven(rank: int, ranks: int, folder: str) -> dict[str, Any]:
    """Each rank has one batch more than the one before, under DistributedDataParallel's join.

    What learns nothing sends nothing, and needs no switch; nor does lifting the target's poses.
    """
    found = {}
    for config in ("random", "default", "target_2d", "residual"):
        seed_all()
        model = DistributedDataParallel(Lifter(norm=False))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        changes: Any = {"sync_ranks": False} if config == "residual" else {}
        changes |= {"learned": False} if config in ("default", "target_2d") else {}
        target_2d = batch(seed=7, rows=64)[1] if config == "target_2d" else None
        preset = "default" if config == "target_2d" else config
        augmenter = PoseAugmenter(
            model, optimizer, "poseaug", config=small(preset, **changes), target_2d=target_2d
        )
        with model.join():
            train(model, optimizer, augmenter.wrap([batch(seed=i) for i in range(2 + rank)]))
        stats = augmenter.stats()
        found[config] = stats["steps"], stats["updates"], stats["failed_updates"]
    return found


def detached(rank: int, ranks: int, folder: str) -> dict[str, Any]:
    augmenter, _, optimizer = attach(sync_ranks=False)
    for number in range(4):
        augmenter(batch(seed=number))
        optimizer.step()
        if rank == 1 and number == 1:
            augmenter.detach()
    return {"updates": augmenter.stats()["updates"]}


def sharded(rank: int, ranks: int, folder: str) -> dict[str, Any]:
    """FSDP2 equals averaged gradients, with networks that get feedback from the sharded model."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    found = {}
    for how in ("averaged", "sharded"):
        seed_all()
        model: nn.Module = Lifter(norm=False, dropout=0.0)
        if how == "sharded":
            fully_shard(model, mesh=init_device_mesh("cpu", (ranks,)))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        augmenter = PoseAugmenter(model, optimizer, "poseaug", config=small("residual"))
        for each in augmenter.wrap([batch(seed=10 * rank + i) for i in range(3)]):
            optimizer.zero_grad()
            (model(each[1]).clone() - each[0]).square().mean().backward()
            for parameter in model.parameters() if how == "averaged" else ():
                dist.all_reduce(parameter.grad)
                parameter.grad /= ranks
            optimizer.step()
        whole = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]
        found[how] = [p.detach() for p in whole], nets(augmenter), augmenter.stats()["updates"]
    return found


def sharded_lifter(rank: int, ranks: int, folder: str) -> dict[str, Any]:
    """Calls of an FSDP2 model wait for all ranks, and one rank has a bad batch for an update."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    seed_all()
    model: nn.Module = Lifter(norm=False, dropout=0.0)
    fully_shard(model, mesh=init_device_mesh("cpu", (ranks,)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    augmenter = PoseAugmenter(
        model,
        optimizer,
        "poseaug",
        config=small(learned=False),
        target_2d=batch(seed=7, rows=64)[1],
    )
    for number in range(4):
        pose_3d, pose_2d, *others = batch(seed=10 * rank + number)
        is_bad = (rank, number) == (1, 2)
        augmenter((pose_3d[:, :5] if is_bad else pose_3d, pose_2d, *others))
        optimizer.zero_grad()
        (model(pose_2d).clone() - pose_3d).square().mean().backward()
        optimizer.step()
    stats = augmenter.stats()
    return {name: stats[name] for name in ("updates", "failed_updates", "steps")}


def recorded(rank: int, ranks: int, folder: str) -> dict[str, Any]:
    """DistributedDataParallel with and without `report=True`, for the model inside and outside."""
    found: dict[str, Any] = {}
    for name in ("inner", "outer"):
        for report in (False, True):
            seed_all()
            inner = Lifter(dropout=0.0)
            outer = DistributedDataParallel(inner)
            optimizer = torch.optim.Adam(outer.parameters())
            model = inner if name == "inner" else outer
            augmenter = PoseAugmenter(model, optimizer, "poseaug", report=report)
            for number in range(3):
                pose_3d, pose_2d, *_ = augmenter(batch(rows=ROWS, seed=10 * rank + number))
                optimizer.zero_grad()
                (outer(pose_2d) - pose_3d).square().mean().backward()
                optimizer.step()
            found[f"{name}, report={report}"] = snapshot(inner, optimizer)
        found[f"{name}, rows"] = augmenter.report().rows, augmenter.stats()["augmented"]
    return found


def prepared(rank: int, ranks: int, folder: str) -> dict[str, Any]:
    """Rows seen by accelerate's ranks if the loader is prepared before, or after, it is wrapped."""
    try:
        from accelerate import Accelerator
    except ImportError:
        return {}
    accelerator, found = Accelerator(cpu=True), {}
    for order in ("prepared first", "wrapped first"):
        augmenter, *_ = attached(small("residual"))
        given: Any = loader(rows=ROWS * ranks * 2)
        if order == "prepared first":
            given = augmenter.wrap(accelerator.prepare(given))
        else:
            given = accelerator.prepare(augmenter.wrap(given))
        try:
            found[order] = [name for each in given for name in each[2]]
        except AttachError as error:
            found[order] = str(error)
        augmenter.detach()
    return found


Case = Callable[[int, int, str], dict[str, Any]]
CASES: list[Case] = [
    equal_to_one_process,
    faults,
    messages,
    widened,
    resumed,
    uneven,
    detached,
    sharded,
    sharded_lifter,
    recorded,
    prepared,
]


def rank_main(rank: int, ranks: int, folder: str, port: int) -> None:
    where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in where.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "true"}
    dist.init_process_group("gloo", timeout=timedelta(seconds=SECONDS))
    for case in CASES:
        try:
            result = case(rank, ranks, folder)
        except Exception:
            result = {"error": traceback.format_exc()}
        torch.save(result, f"{folder}/{case.__name__} {rank} of {ranks}.pt")
        dist.barrier()
    dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def main(folder: str) -> None:
    with contextlib.suppress(ImportError):
        import accelerate  # noqa: F401  once, before the ranks are forked
    augmenter, _, optimizer = attach()
    for number in range(2):
        augmenter(batch(seed=number))
        optimizer.step()
    torch.save(augmenter.state_dict(), f"{folder}/saved.pt")
    for ranks in SIZES:
        whole = {config: updated(config, joined(ranks)) for config in EQUAL}
        torch.save(whole, f"{folder}/one process for {ranks}.pt")
    for ranks in SIZES:
        mp.start_processes(
            rank_main, (ranks, folder, free_port()), nprocs=ranks, start_method="fork"
        )


if __name__ == "__main__":
    main(sys.argv[1])
