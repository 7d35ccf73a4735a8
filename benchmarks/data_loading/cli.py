"""Reading as many poses as Human3.6M has: memory, speed beside reading row by row, and waiting.

python -m benchmarks.data_loading                              # 1.5 million poses, four minutes
python -m benchmarks.data_loading --poses 100_000 --steps 10   # one minute

The poses are the embedded motion over and over, in files of Human3.6M's form that the examples'
reader reads. "Swapped": each row gets another person's bone lengths and is projected again.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import itertools
import math
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import nn

from poseaug_plugin.data import synthetic as embedded
from poseaug_plugin.data.h36m import TRAIN, Pairs, load_h36m
from poseaug_plugin.data.h36m_cameras import cameras
from poseaug_plugin.data.h36m_cameras import project as project_row
from poseaug_plugin.data.loading import Batch

from ..overhead.cli import kept, numbers, shown
from ..overhead.loops import MODELS
from ..overhead.sections import Args, Row
from ..timing import Work, interleaved, quartiles, ratios
from .loaders import Reader, in_memory, readers

__all__ = ["SECTIONS", "main", "write"]

P = ParamSpec("P")
T = TypeVar("T")


# The files


def write(folder: Path, poses: int, seed: int, takes: int = 30) -> None:
    """So many poses, or a few more, of five subjects in `takes` clips before four cameras."""
    pairs = embedded.make(seed)[0]
    motion, screens = {}, {}
    for subject in TRAIN:
        first, *_ = views = cameras(subject)
        filmed = (pairs.camera == torch.tensor(first.intrinsics).float()).all(1).numpy()
        pose_3d = pairs.pose_3d.numpy()[filmed & (pairs.subject == subject)]
        world = pose_3d @ first.rotation.T + first.position
        pixels = []
        for view in views:
            screen = project_row(view.to_camera(world), view.intrinsics)
            width, height = view.size
            pixels.append((screen + np.array([1, height / width])) * width / 2)
        frames = np.arange(math.ceil(poses / len(TRAIN) / len(views))) % len(world)
        clips = {f"Take {n}": rows for n, rows in enumerate(np.array_split(frames, takes))}
        motion[subject] = {name: np.float32(world[rows]) for name, rows in clips.items()}
        screens[subject] = {
            name: [np.float32(seen[rows]) for seen in pixels] for name, rows in clips.items()
        }
    np.savez(folder / "data_3d_h36m.npz", positions_3d=np.array(motion))
    np.savez(folder / "data_2d_h36m_gt.npz", positions_2d=np.array(screens))


@cache
def read(folder: Path) -> Pairs:
    return load_h36m(folder, TRAIN)


# What is measured


def memory(args: Args, folder: Path) -> Iterator[Row]:
    """Resident memory of a fresh process, at most in each stage; epochs of swapped batches."""
    yield from apart(footprint, folder, args.batch_size, args.seed, args.epochs)


def footprint(folder: Path, rows: int, seed: int, epochs: int) -> list[Row]:
    torch.set_num_threads(1)
    found: list[Row] = []

    def stage(name: str, work: Callable[[], T]) -> T:
        forget_peak()
        start = time.perf_counter()
        result = work()
        found.append({"stage": name, "MiB": peak_mib(), "s": time.perf_counter() - start})
        return result

    found.append({"stage": "libraries alone", "MiB": peak_mib(), "s": 0.0})
    pairs = stage("files read", lambda: load_h36m(folder, TRAIN))
    for epoch in range(epochs):
        batches = in_memory(pairs, rows, seed + epoch, swap=True)
        stage(f"epoch {epoch + 1}", partial(consume, batches))
    kept = sum(field.nbytes for field in (pairs.pose_3d, pairs.pose_2d, pairs.camera))
    found.append({"stage": "the poses themselves", "MiB": kept / 2**20, "s": 0.0})
    return found


def peak_mib() -> float:
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def forget_peak() -> None:
    """And give back what is free, else it could hide what comes. Where the system lets it."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def apart(function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """In a fresh process. Linux counts its parent's memory at the start as its own peak."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *args, **named).result()


def consume(batches: Iterable[Batch]) -> None:
    for _ in batches:
        pass


def speed(args: Args, folder: Path) -> Iterator[Row]:
    """An epoch's batches alone; row by row, a share of it is timed and the rest reckoned."""
    pairs = read(folder)
    for swap, kind in KINDS.items():
        found = readers(pairs, args, swap)
        works: dict[str, Work] = {
            name: lambda begin=begin: consume(begin())  # type: ignore[misc]
            for name, (_, begin) in found.items()
        }
        times = interleaved(works, args.rounds, title=kind)
        whole, _ = found["in memory"]
        epochs = {
            name: [seconds * whole / rows for seconds in times[name]]
            for name, (rows, _) in found.items()
        }
        for name, (rows, _) in found.items():
            yield {
                **dict(batches=kind, reader=name, rows=rows),
                "s an epoch": quartiles(epochs[name]),
                "of in memory": quartiles(ratios(epochs[name], epochs["in memory"])),
                "rounds": epochs[name],
            }


def waiting(args: Args, folder: Path) -> Iterator[Row]:
    """Training steps, and the part of each before its batch is there."""
    pairs = read(folder)
    for model in args.models:
        for swap, kind in KINDS.items():
            for name, (_, begin) in readers(pairs, args, swap).items():
                torch.manual_seed(args.seed)
                made = MODELS[model]().train()
                steps = track(
                    clocked(made, begin, args.steps),
                    f"{model}, {kind}, {name}",
                    args.steps,
                    transient=True,
                )
                waits, totals = zip(*steps)
                yield {
                    **dict(model=model, batches=kind, reader=name),
                    "ms a step": quartiles([1e3 * total for total in totals]),
                    "ms waiting": quartiles([1e3 * wait for wait in waits]),
                    "waiting %": quartiles([100 * share for share in ratios(waits, totals)]),
                }


def clocked(model: nn.Module, begin: Reader, steps: int) -> Iterator[tuple[float, float]]:
    """Seconds until the batch, and of the whole step, after one step to warm up."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    batches = itertools.chain.from_iterable(begin() for _ in itertools.count())
    for step in range(steps + 1):
        start = time.perf_counter()
        pose_3d, pose_2d, *_ = next(batches)
        there = time.perf_counter()
        loss = (model(pose_2d) - (pose_3d - pose_3d[:, :1])).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step:
            yield there - start, time.perf_counter() - start


KINDS = {False: "as they are", True: "swapped"}
SECTIONS: dict[str, Callable[[Args, Path], Iterator[Row]]] = {
    "memory": memory,
    "speed": speed,
    "waiting": waiting,
}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--poses", type=int, default=1_500_000)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=3, help="of the memory's measurement")
    parser.add_argument("--rounds", type=int, default=5, help="of readers, beside one to warm up")
    parser.add_argument("--share", type=float, default=0.02, help="of an epoch, read row by row")
    parser.add_argument("--workers", type=numbers, default=[0, 2])
    names = partial(str.split, sep=",")
    parser.add_argument("--models", type=names, default=["mlp256", "mlp1024"])
    parser.add_argument("--steps", type=int, default=60, help="of training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    args, console = arguments(argv), Console()
    torch.set_num_threads(1)  # what two cores would do at once, a busy neighbour undoes
    results: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with console.status(f"writing {args.poses:,} poses"):
            apart(write, folder, args.poses, args.seed)
        for section, measure in SECTIONS.items():  # memory first, while this process is small
            results[section] = list(measure(args, folder))
            console.print(shown(section, results[section]))
    return kept(args, results, SECTIONS)
