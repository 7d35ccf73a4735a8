"""What the overhead benchmark measures: one function a section, one row a recipe."""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from poseaug_plugin import PoseAugConfig
from poseaug_plugin.data.h36m import Pairs
from poseaug_plugin.data.loading import load

from ..environment import ROOT
from ..timing import Times, Work, flops, interleaved, peak_bytes, quartiles, ratios, slope
from .components import operators, works
from .loops import LOADERS, MODELS, Inside, Loop, block, on_device, steady
from .published_step import Published
from .scaling import AXES, Fed

__all__ = ["BASIC", "SECTIONS", "Row"]

Row = dict[str, Any]  # a list in it is for the file alone
Args = argparse.Namespace


def loops(args: Args) -> Iterator[Row]:
    """Training loops, per optimizer step, against the plain loop in the same round."""
    steps = block(args.recipes)
    for device, model, rows, pairs in cases(args):
        made = {
            name: Loop(pairs, rows, MODELS[model](), device, steady(name, args.seed))
            for name in ("plain", *args.recipes)
        }
        blocks: dict[str, Work] = {name: partial(loop.run, steps) for name, loop in made.items()}
        times = interleaved(blocks, args.rounds, device, f"{model}, {rows} rows, {device}")
        done = {name: flops(work) / steps for name, work in blocks.items()}
        for name in blocks:
            yield {
                **dict(device=device, model=model, rows=rows, recipe=name),
                **compared(times, name, "plain", steps),
                "of arithmetic": done[name] / done["plain"],
                **speed(done[name], times[name], steps),
            }


def loaders(args: Args) -> Iterator[Row]:
    """Batches alone, per batch: no optimizer steps and so no turns. On the CPU, as loaders are."""
    for device in args.device:
        for rows in args.batches:
            pairs = on_device(data(args.data, args.seed), "cpu", rows)
            for kind, make in LOADERS.items():
                blocks: dict[str, Work] = {}
                for name in ("plain", *args.recipes):
                    config = steady(name, args.seed)
                    loop = Loop(pairs, rows, MODELS["mlp256"](), device, config, make)
                    blocks[name] = partial(loop.load, 8)
                times = interleaved(blocks, args.rounds, device, f"{kind}, {rows} rows, {device}")
                for name in blocks:
                    yield {
                        **dict(device=device, loader=kind, rows=rows, recipe=name),
                        **compared(times, name, "plain", 8),
                    }


def memory(args: Args) -> Iterator[Row]:
    """The most that making a loop and running it held at once; the data set is not in it."""
    steps = block(args.recipes)
    for device, model, rows, pairs in cases(args):
        held = {}
        for name in ("warm-up", "plain", *args.recipes):
            config = steady("plain" if name == "warm-up" else name, args.seed)
            work = partial(make_and_run, pairs, rows, model, device, config, steps)
            held[name] = peak_bytes(work, device) / 2**20
        del held["warm-up"]  # it holds what torch makes once for all
        for name, size in held.items():
            yield {
                **dict(device=device, model=model, rows=rows, recipe=name, MiB=size),
                "over plain": size - held["plain"],
            }


def make_and_run(
    pairs: Pairs, rows: int, model: str, device: str, config: PoseAugConfig | None, steps: int
) -> None:
    Loop(pairs, rows, MODELS[model](), device, config).run(steps)


def imports(args: Args) -> Iterator[Row]:
    """Fresh interpreters, in seconds."""
    bare, own = "import torch", "import poseaug_plugin"
    clock = f"{bare}, time; t = time.perf_counter(); {own}; print(time.perf_counter() - t)"
    inside: list[float] = []
    processes: dict[str, Work] = {
        bare: lambda: fresh(bare),
        f"{bare}; {own}": lambda: fresh(f"{bare}; {own}"),
        "clocked": lambda: inside.append(float(fresh(clock))),
    }
    times = interleaved(processes, args.rounds, title="imports")
    first, both, _ = times.values()
    rows = {
        **dict(list(times.items())[:2]),
        "the second over the first": [b - a for a, b in zip(first, both)],
        f"{own}, by its own clock": inside[1:],
    }
    for name, seconds in rows.items():
        yield {"process": name, "s": quartiles(seconds), "rounds": seconds}


def fresh(code: str) -> str:
    return subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)


def parts(args: Args) -> Iterator[Row]:
    """The plugin's parts and a plain step, per run of each."""
    for device, model, rows, pairs in cases(args):
        plain = Loop(pairs, rows, MODELS[model](), device, None)
        for preset in args.recipes:
            config = steady(preset, args.seed)
            assert config is not None
            inside = Inside.of(pairs, rows, MODELS[model](), device, config)
            found: dict[str, Work] = {"plain step": partial(plain.run, 1), **works(inside)}
            counts = {name: config.d_every * repeats(work) for name, work in found.items()}
            blocks = {name: partial(repeat, work, counts[name]) for name, work in found.items()}
            title = f"{preset}, {model}, {rows} rows, {device}"
            times = interleaved(blocks, args.rounds, device, title)
            for name, work in found.items():
                done = flops(partial(repeat, work, config.d_every)) / config.d_every
                each = [1e3 * seconds / counts[name] for seconds in times[name]]
                yield {
                    **dict(device=device, model=model, rows=rows, recipe=preset, part=name),
                    **{"ms": quartiles(each), "rounds": each},
                    **speed(done, times[name], counts[name]),
                }


def repeats(work: Work, least: float = 0.01) -> int:
    """How often to run it for so many seconds."""
    work()
    start = time.perf_counter()
    work()
    return max(1, round(least / (time.perf_counter() - start)))


def repeat(work: Work, times: int) -> None:
    for _ in range(times):
        work()


def profiles(args: Args) -> Iterator[Row]:
    """The operators of a turn, by their own time."""
    for device, model, rows, pairs in cases(args):
        for preset in args.recipes:
            config = steady(preset, args.seed)
            if config is None or not config.trains:
                continue
            inside = Inside.of(pairs, rows, MODELS[model](), device, config)
            for row in operators(inside.turn, config.d_every, device):
                yield {**dict(device=device, model=model, rows=rows, recipe=preset), **row}


def growth(args: Args) -> Iterator[Row]:
    """`augmenter(batch)` and its share of turns, per batch, against growth in proportion."""
    steps = block(args.recipes)
    for device in args.device:
        for preset in args.recipes:
            for name, axis in AXES.items():
                config = steady(preset, args.seed)
                assert config is not None
                sizes = axis.sizes[: args.sizes]
                fed = {str(n): Fed(*axis.shape(n), config, device) for n in sizes}
                blocks: dict[str, Work] = {n: partial(f.run, steps) for n, f in fed.items()}
                times = interleaved(blocks, args.rounds, device, f"{name}, {preset}, {device}")
                medians = [quartiles(seconds).middle for seconds in times.values()]
                for n in sizes:
                    found = compared(times, str(n), str(sizes[0]), steps)
                    yield {
                        **dict(device=device, recipe=preset, grows=name, size=n),
                        **found,
                        "of linear": found["ratio"].middle * sizes[0] / n,
                        "exponent": slope(sizes, medians),
                        "exponent at the end": slope(sizes[-2:], medians[-2:]),
                    }


def published(args: Args) -> Iterator[Row]:
    """A round of the published loop against our turn and sample, on its own estimator.

    "our lifter" is ours of the same size, which can be faster than its estimator.
    """
    config, steps = steady("released", args.seed), 4
    assert config is not None
    for device, model, rows, pairs in cases(args):
        fields = (pairs.pose_3d, pairs.pose_2d, pairs.camera)
        batches = list(zip(*(field.split(rows) for field in fields)))[: len(pairs) // rows]
        kind, width = model.rstrip("0123456789"), int(model.lstrip("abcdefghijklmnopqrstuvwxyz"))
        theirs = Published(args.published, kind, width, batches, device)
        plain = Loop(pairs, rows, copy.deepcopy(theirs.estimator), device, None)
        inside = Inside.of(pairs, rows, copy.deepcopy(theirs.estimator), device, config)
        on_ours = Inside.of(pairs, rows, MODELS[model](), device, config)
        sample = partial(inside.augmenter, inside.batch)
        blocks: dict[str, Work] = {
            "plain": partial(plain.run, steps),
            "published": partial(theirs.run, steps),
            "turn": partial(repeat, inside.turn, steps),
            "sample": partial(repeat, sample, steps),
            "turn, our lifter": partial(repeat, on_ours.turn, steps),
        }
        times = interleaved(blocks, args.rounds, device, f"published, {model}, {rows} rows")
        times["turn and sample"] = [a + b for a, b in zip(times["turn"], times["sample"])]
        done = {name: flops(work) / steps for name, work in blocks.items()}
        done["turn and sample"] = done["turn"] + done["sample"]
        for name in times:
            yield {
                **dict(device=device, model=model, rows=rows, what=name),
                **compared(times, name, "published", steps),
                "of plain": quartiles(ratios(times[name], times["plain"])).middle,
                **speed(done[name], times[name], steps),
            }


SECTIONS: dict[str, Callable[[Args], Iterator[Row]]] = {
    "loops": loops,
    "loaders": loaders,
    "memory": memory,
    "imports": imports,
    "parts": parts,
    "profile": profiles,
    "growth": growth,
    "published": published,
}


BASIC = ["loops", "loaders", "memory", "imports"]  # run where no section is asked for


def cases(args: Args) -> Iterator[tuple[str, str, int, Pairs]]:
    """Device, model, rows of a batch, and the training pairs there."""
    for device in args.device:
        for model in args.models:
            for rows in args.batches:
                torch.manual_seed(args.seed)
                yield device, model, rows, on_device(data(args.data, args.seed), device, rows)


@cache
def data(folder: Path | None, seed: int) -> Pairs:
    return load(folder, seed)[0]


def compared(times: Times, name: str, to: str, steps: int) -> Row:
    """Milliseconds a step, and the ratio to another's."""
    each = [1e3 * seconds / steps for seconds in times[name]]
    ratio = quartiles(ratios(times[name], times[to]))
    return {"ms": quartiles(each), "ratio": ratio, "rounds": each}


def speed(done: float, seconds: Sequence[float], steps: int) -> Row:
    """Arithmetic of a step, and how fast it went."""
    return {"MFLOP": done / 1e6, "GFLOP/s": done * steps / quartiles(seconds).middle / 1e9}
