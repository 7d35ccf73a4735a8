"""Memory and speed of loading as many poses as Human3.6M has, whole batches against row by row.

python -m benchmarks.data_loading                              # 1.5 million poses, four minutes
python -m benchmarks.data_loading --poses 100_000 --steps 10   # one minute

The poses are repeated synthetic motion, written in Human3.6M's file format and read by
`poseaug_plugin.data`. "Swapped" batches give each row another person's bone lengths and project it
again.
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

from poseaug_plugin.data import TRAIN, Batch, Pairs, load_h36m, synthetic
from poseaug_plugin.data.h36m_cameras import cameras, project

from ..options import comma_separated
from ..overhead.loops import MODELS
from ..tables import Row, console_table, save_results
from ..timing import Work, quartiles, ratios, time_interleaved
from ..training import train_step
from .loaders import MakeIterator, in_memory, loaders

__all__ = ["SECTIONS", "main", "write_files"]

Args = argparse.Namespace

P = ParamSpec("P")
T = TypeVar("T")


# Files


def write_files(folder: Path, poses: int, seed: int, takes: int = 30) -> None:
    """Write at least `poses` poses of five subjects in `takes` clips, seen by four cameras."""
    pairs = synthetic.make(seed)[0]
    positions_3d, positions_2d = {}, {}
    for subject in TRAIN:
        first, *_ = views = cameras(subject)
        seen = (pairs.camera == torch.tensor(first.intrinsics).float()).all(1).numpy()
        pose_3d = pairs.pose_3d.numpy()[seen & (pairs.subject == subject)]
        world = pose_3d @ first.rotation.T + first.position
        pixels = []
        for view in views:
            image = project(view.to_camera(world), view.intrinsics)
            width, height = view.size
            pixels.append((image + np.array([1, height / width])) * width / 2)
        frames = np.arange(math.ceil(poses / len(TRAIN) / len(views))) % len(world)
        clips = {f"Take {n}": rows for n, rows in enumerate(np.array_split(frames, takes))}
        positions_3d[subject] = {name: np.float32(world[rows]) for name, rows in clips.items()}
        positions_2d[subject] = {
            name: [np.float32(view[rows]) for view in pixels] for name, rows in clips.items()
        }
    np.savez(folder / "data_3d_h36m.npz", positions_3d=np.array(positions_3d))
    np.savez(folder / "data_2d_h36m_gt.npz", positions_2d=np.array(positions_2d))


@cache
def load_cached(folder: Path) -> Pairs:
    return load_h36m(folder, TRAIN)


# Sections


def memory(args: Args, folder: Path) -> Iterator[Row]:
    """Peak resident memory of a fresh process in each stage. Epochs are of swapped batches."""
    yield from run_in_process(memory_by_stage, folder, args.batch_size, args.seed, args.epochs)


def memory_by_stage(folder: Path, batch_size: int, seed: int, epochs: int) -> list[Row]:
    torch.set_num_threads(1)
    stages: list[Row] = []

    def stage(name: str, work: Callable[[], T]) -> T:
        reset_peak()
        start = time.perf_counter()
        result = work()
        stages.append({"stage": name, "MiB": peak_mib(), "s": time.perf_counter() - start})
        return result

    stages.append({"stage": "libraries alone", "MiB": peak_mib(), "s": 0.0})
    pairs = stage("files read", lambda: load_h36m(folder, TRAIN))
    for epoch in range(epochs):
        batches = in_memory(pairs, batch_size, seed + epoch, swap=True)
        stage(f"epoch {epoch + 1}", partial(consume, batches))
    size = sum(field.nbytes for field in (pairs.pose_3d, pairs.pose_2d, pairs.camera))
    stages.append({"stage": "the poses themselves", "MiB": size / 2**20, "s": 0.0})
    return stages


def peak_mib() -> float:
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS: bytes, Linux: KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def reset_peak() -> None:
    """Release free memory and reset the peak, where the system supports it."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def run_in_process(function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Call a function in a fresh process. A forked one would inherit its parent's peak memory."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *args, **named).result()


def consume(batches: Iterable[Batch]) -> None:
    for _ in batches:
        pass


def speed(args: Args, folder: Path) -> Iterator[Row]:
    """Loading alone, per epoch. Row by row, a share of an epoch is timed and extrapolated."""
    pairs = load_cached(folder)
    for swap, kind in KINDS.items():
        compared = loaders(pairs, args, swap)
        functions: dict[str, Work] = {
            name: lambda start=start: consume(start())  # type: ignore[misc]
            for name, (_, start) in compared.items()
        }
        times = time_interleaved(functions, args.rounds, title=kind)
        epoch_rows, _ = compared["in memory"]
        epochs = {
            name: [seconds * epoch_rows / rows for seconds in times[name]]
            for name, (rows, _) in compared.items()
        }
        for name, (rows, _) in compared.items():
            yield {
                **dict(batches=kind, loader=name, rows=rows),
                "s per epoch": quartiles(epochs[name]),
                "of in memory": quartiles(ratios(epochs[name], epochs["in memory"])),
                "rounds": epochs[name],
            }


def waiting(args: Args, folder: Path) -> Iterator[Row]:
    """Training steps, and the part of each that waits for its batch."""
    pairs = load_cached(folder)
    for model in args.models:
        for swap, kind in KINDS.items():
            for name, (_, start) in loaders(pairs, args, swap).items():
                torch.manual_seed(args.seed)
                lifter = MODELS[model]().train()
                steps = track(
                    timed_steps(lifter, start, args.steps),
                    f"{model}, {kind}, {name}",
                    args.steps,
                    transient=True,
                )
                waits, totals = zip(*steps)
                yield {
                    **dict(model=model, batches=kind, loader=name),
                    "ms per step": quartiles([1e3 * total for total in totals]),
                    "ms waiting": quartiles([1e3 * wait for wait in waits]),
                    "waiting %": quartiles([100 * share for share in ratios(waits, totals)]),
                }


def timed_steps(
    model: nn.Module, start_epoch: MakeIterator, steps: int
) -> Iterator[tuple[float, float]]:
    """Yield the seconds until the batch is ready and of the whole step, after a warm-up step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    batches = itertools.chain.from_iterable(start_epoch() for _ in itertools.count())
    for step in range(steps + 1):
        start = time.perf_counter()
        batch = next(batches)
        ready = time.perf_counter()
        train_step(model, optimizer, batch)
        if step:
            yield ready - start, time.perf_counter() - start


KINDS = {False: "unchanged", True: "swapped"}
SECTIONS: dict[str, Callable[[Args, Path], Iterator[Row]]] = {
    "memory": memory,
    "speed": speed,
    "waiting": waiting,
}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.data_loading", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--poses", type=int, default=1_500_000)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=3, help="epochs of the memory section")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds of the speed section")
    parser.add_argument(
        "--share", type=float, default=0.02, help="share of an epoch that is loaded row by row"
    )
    parser.add_argument("--workers", type=comma_separated(int), default=[0, 2])
    parser.add_argument("--models", type=comma_separated(str), default=["mlp256", "mlp1024"])
    parser.add_argument(
        "--steps", type=int, default=60, help="training steps of the waiting section"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    args, console = arguments(argv), Console()
    torch.set_num_threads(1)  # timings with more threads depend on other load
    results: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with console.status(f"writing {args.poses:,} poses"):
            run_in_process(write_files, folder, args.poses, args.seed)
        for section, measure in SECTIONS.items():  # memory first, while this process is small
            results[section] = list(measure(args, folder))
            console.print(console_table(section, results[section]))
    return save_results(args, results, SECTIONS)
