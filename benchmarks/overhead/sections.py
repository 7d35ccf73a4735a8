"""Sections of the overhead benchmark. Each function yields the rows of one table."""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import torch

from poseaug_plugin import PoseAugConfig
from poseaug_plugin.data import Pairs, load

from ..environment import ROOT
from ..tables import Row
from ..timing import (
    Times,
    Work,
    count_flops,
    growth_exponent,
    peak_bytes,
    processor_clock,
    quartiles,
    ratios,
    time_interleaved,
)
from .components import operators, works
from .loops import LOADERS, MODELS, YOUNG, Inside, Loop, block, on_device, steady
from .operations import OperationCounter, profiled_operations
from .published_step import PublishedStep
from .scaling import AXES, FixedBatchLoop
from .windows import WINDOWS, WindowLoop

__all__ = ["BASIC", "SECTIONS"]

Args = argparse.Namespace
FOLDERS = ("batches", "geometry", "augment", "adversarial", "plugin")


def loops(args: Args) -> Iterator[Row]:
    """Training loops per optimizer step, compared with the plain loop of the same round."""
    steps = block(args.methods)
    for device, model, rows, pairs in cases(args):
        training = {
            name: Loop(pairs, rows, MODELS[model](), device, steady(name, args.seed))
            for name in ("plain", *args.methods)
        }
        for name in args.methods if args.report else ():
            config = steady(name, args.seed)
            training[f"{name}, report=True"] = Loop(
                pairs, rows, MODELS[model](), device, config, report=True
            )
        blocks: dict[str, Work] = {
            name: partial(loop.run, steps) for name, loop in training.items()
        }
        times = time_interleaved(
            blocks, args.rounds, device, f"{model}, {rows} rows, {device}", processor_clock(device)
        )
        operations = {name: count_flops(work) / steps for name, work in blocks.items()}
        for name in blocks:
            yield {
                **dict(device=device, model=model, rows=rows, method=name),
                **compare(times, name, "plain", steps),
                "of arithmetic": operations[name] / operations["plain"],
                **arithmetic(operations[name], times[name], steps),
            }


def windows(args: Args) -> Iterator[Row]:
    """Training loops on windows of frames, compared with the plain loop of the same round."""
    steps = block(args.methods)
    for device in args.device:
        for model, (make, rows, frames) in WINDOWS.items():
            torch.manual_seed(args.seed)
            training = {
                name: WindowLoop(make(), rows, frames, device, steady(name, args.seed))
                for name in ("plain", *args.methods)
            }
            blocks: dict[str, Work] = {
                name: partial(loop.run, steps) for name, loop in training.items()
            }
            title = f"{model}, {rows} windows of {frames}, {device}"
            times = time_interleaved(blocks, args.rounds, device, title, processor_clock(device))
            for name in blocks:
                yield {
                    **dict(device=device, model=model, windows=rows, frames=frames, method=name),
                    **compare(times, name, "plain", steps),
                }


def loaders(args: Args) -> Iterator[Row]:
    """Loading alone, per batch, on the CPU. Without optimizer steps there are no updates."""
    for device in args.device:
        for rows in args.batches:
            pairs = on_device(data(args.data, args.seed), "cpu", rows)
            for kind, make in LOADERS.items():
                blocks: dict[str, Work] = {}
                for name in ("plain", *args.methods):
                    config = steady(name, args.seed)
                    loop = Loop(pairs, rows, MODELS["mlp256"](), device, config, make)
                    blocks[name] = partial(loop.load, 8)
                times = time_interleaved(
                    blocks,
                    args.rounds,
                    device,
                    f"{kind}, {rows} rows, {device}",
                    processor_clock(device),
                )
                for name in blocks:
                    yield {
                        **dict(device=device, loader=kind, rows=rows, method=name),
                        **compare(times, name, "plain", 8),
                    }


def memory(args: Args) -> Iterator[Row]:
    """Peak memory of creating and running a loop, without the data set."""
    steps = block(args.methods)
    for device, model, rows, pairs in cases(args):
        peaks = {}
        for name in ("warm-up", "plain", *args.methods):
            config = steady("plain" if name == "warm-up" else name, args.seed)
            work = partial(create_and_run, pairs, rows, model, device, config, steps)
            peaks[name] = peak_bytes(work, device) / 2**20
        del peaks["warm-up"]  # includes memory that torch allocates only once
        for name, size in peaks.items():
            yield {
                **dict(device=device, model=model, rows=rows, method=name, MiB=size),
                "over plain": size - peaks["plain"],
            }


def create_and_run(
    pairs: Pairs, rows: int, model: str, device: str, config: PoseAugConfig | None, steps: int
) -> None:
    Loop(pairs, rows, MODELS[model](), device, config).run(steps)


def imports(args: Args) -> Iterator[Row]:
    """Import time in fresh interpreters, in seconds."""
    torch_only, own = "import torch", "import poseaug_plugin"
    clock = f"{torch_only}, time; t = time.perf_counter(); {own}; print(time.perf_counter() - t)"
    measured: list[float] = []
    processes: dict[str, Work] = {
        torch_only: lambda: run_python(torch_only),
        f"{torch_only}; {own}": lambda: run_python(f"{torch_only}; {own}"),
        "measured": lambda: measured.append(float(run_python(clock))),
    }
    times = time_interleaved(processes, args.rounds, title="imports")
    first, both, _ = times.values()
    rows = {
        **dict(list(times.items())[:2]),
        "difference": [b - a for a, b in zip(first, both)],
        f"{own}, measured inside": measured[1:],
    }
    for name, seconds in rows.items():
        yield {"process": name, "s": quartiles(seconds), "rounds": seconds}


def run_python(code: str) -> str:
    return subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)


def components(args: Args) -> Iterator[Row]:
    """The plugin's components and a plain training step, per call of each."""
    for device, model, rows, pairs in cases(args):
        plain = Loop(pairs, rows, MODELS[model](), device, None)
        for method in args.methods:
            config = steady(method, args.seed)
            assert config is not None
            inside = Inside.of(pairs, rows, MODELS[model](), device, config)
            calls: dict[str, Work] = {"plain step": partial(plain.run, 1), **works(inside)}
            counts = {name: config.d_every * choose_repeats(work) for name, work in calls.items()}
            blocks = {name: partial(repeat, work, counts[name]) for name, work in calls.items()}
            title = f"{method}, {model}, {rows} rows, {device}"
            times = time_interleaved(blocks, args.rounds, device, title, processor_clock(device))
            for name, work in calls.items():
                operations = count_flops(partial(repeat, work, config.d_every)) / config.d_every
                each = [1e3 * seconds / counts[name] for seconds in times[name]]
                yield {
                    **dict(device=device, model=model, rows=rows, method=method, component=name),
                    **{"ms": quartiles(each), "rounds": each},
                    **arithmetic(operations, times[name], counts[name]),
                }


def choose_repeats(work: Work, seconds: float = 0.01) -> int:
    """Number of calls that take about so many seconds, at least 1."""
    work()
    start = time.perf_counter()
    work()
    return max(1, round(seconds / (time.perf_counter() - start)))


def repeat(work: Work, times: int) -> None:
    for _ in range(times):
        work()


def profiles(args: Args) -> Iterator[Row]:
    """Operators of an update, ordered by their own time."""
    for device, model, rows, pairs in cases(args):
        for method in args.methods:
            config = steady(method, args.seed)
            if config is None or not config.trains:
                continue
            inside = Inside.of(pairs, rows, MODELS[model](), device, config)
            for row in operators(inside.update, config.d_every, device):
                yield {**dict(device=device, model=model, rows=rows, method=method), **row}


def scaling(args: Args) -> Iterator[Row]:
    """`augmenter(batch)` with its share of updates, per batch, compared with linear scaling."""
    steps = block(args.methods)
    for device in args.device:
        for method in args.methods:
            for name, axis in AXES.items():
                config = steady(method, args.seed)
                assert config is not None
                sizes = axis.sizes[: args.sizes]
                timed = {str(n): FixedBatchLoop(*axis.shape(n), config, device) for n in sizes}
                blocks: dict[str, Work] = {n: partial(x.run, steps) for n, x in timed.items()}
                title = f"{name}, {method}, {device}"
                times = time_interleaved(
                    blocks, args.rounds, device, title, processor_clock(device)
                )
                medians = [quartiles(seconds).median for seconds in times.values()]
                for n in sizes:
                    compared = compare(times, str(n), str(sizes[0]), steps)
                    yield {
                        **dict(device=device, method=method, axis=name, size=n),
                        **compared,
                        "of linear": compared["ratio"].median * sizes[0] / n,
                        "exponent": growth_exponent(sizes, medians),
                        "exponent at the end": growth_exponent(sizes[-2:], medians[-2:]),
                    }


def published(args: Args) -> Iterator[Row]:
    """An iteration of the published loop compared with our update and sample, on its estimator.

    "our lifter" is this package's lifter of the same size, which can be faster.
    """
    config, steps = steady("released", args.seed), 4
    assert config is not None
    for device, model, rows, pairs in cases(args):
        fields = (pairs.pose_3d, pairs.pose_2d, pairs.camera)
        batches = list(zip(*(field.split(rows) for field in fields)))[: len(pairs) // rows]
        kind, width = model.rstrip("0123456789"), int(model.lstrip("abcdefghijklmnopqrstuvwxyz"))
        theirs = PublishedStep(args.published, kind, width, batches, device)
        plain = Loop(pairs, rows, copy.deepcopy(theirs.estimator), device, None)
        inside = Inside.of(pairs, rows, copy.deepcopy(theirs.estimator), device, config)
        on_ours = Inside.of(pairs, rows, MODELS[model](), device, config)
        sample = partial(inside.augmenter, inside.batch)
        blocks: dict[str, Work] = {
            "plain": partial(plain.run, steps),
            "published": partial(theirs.run, steps),
            "update": partial(repeat, inside.update, steps),
            "sample": partial(repeat, sample, steps),
            "update, our lifter": partial(repeat, on_ours.update, steps),
        }
        times = time_interleaved(blocks, args.rounds, device, f"published, {model}, {rows} rows")
        times["update and sample"] = [a + b for a, b in zip(times["update"], times["sample"])]
        operations = {name: count_flops(work) / steps for name, work in blocks.items()}
        operations["update and sample"] = operations["update"] + operations["sample"]
        for name in times:
            yield {
                **dict(device=device, model=model, rows=rows, measured=name),
                **compare(times, name, "published", steps),
                "of plain": quartiles(ratios(times[name], times["plain"])).median,
                **arithmetic(operations[name], times[name], steps),
            }


def counted_operations(args: Args) -> Iterator[Row]:
    """Operations of one `augmenter(batch)`, by folder of the package; the same for any rows."""
    for device in args.device:
        pairs = on_device(data(args.data, args.seed), device, 64)
        for name in args.methods:
            config = steady(name, args.seed)
            assert config is not None
            inside = Inside.of(pairs, 64, MODELS["mlp256"](), device, config)
            call = partial(inside.augmenter, inside.batch)
            repeat(call, YOUNG + 1)  # until the pose statistics are refreshed less often
            with OperationCounter() as counter:
                call()
            folders: Counter[str] = Counter()
            for module, count in counter.by_module.items():
                folders[module.split("/")[0] if "/" in module else "plugin"] += count
            yield {
                **dict(device=device, method=name),
                "no views": counter.total,
                **{folder: folders[folder] for folder in FOLDERS},
                "all, by the profiler": profiled_operations(call),
            }


SECTIONS: dict[str, Callable[[Args], Iterator[Row]]] = {
    "loops": loops,
    "windows": windows,
    "loaders": loaders,
    "memory": memory,
    "imports": imports,
    "operations": counted_operations,
    "components": components,
    "profile": profiles,
    "scaling": scaling,
    "published": published,
}


BASIC = ["loops", "loaders", "memory", "imports"]  # the default sections


def cases(args: Args) -> Iterator[tuple[str, str, int, Pairs]]:
    """Device, model, batch size, and training pairs on the device."""
    for device in args.device:
        for model in args.models:
            for rows in args.batches:
                torch.manual_seed(args.seed)
                yield device, model, rows, on_device(data(args.data, args.seed), device, rows)


@cache
def data(folder: Path | None, seed: int) -> Pairs:
    return load(folder, seed)[0]


def compare(times: Times, name: str, to: str, steps: int) -> Row:
    """Milliseconds per step, and the ratio to another function."""
    each = [1e3 * seconds / steps for seconds in times[name]]
    ratio = quartiles(ratios(times[name], times[to]))
    return {"ms": quartiles(each), "ratio": ratio, "rounds": each}


def arithmetic(operations: float, seconds: Sequence[float], steps: int) -> Row:
    """Arithmetic operations of a step and their rate."""
    rate = operations * steps / quartiles(seconds).median
    return {"MFLOP": operations / 1e6, "GFLOP/s": rate / 1e9}
