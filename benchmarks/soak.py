"""A long run without and with the plugin: memory, step time, containers and random streams.

python -m benchmarks.soak                 # 20,000 steps of `default`, 5,000 with networks
"""

from __future__ import annotations

import argparse
import gc
import itertools
import pickle
import random
import statistics
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from poseaug_plugin import PoseAugConfig, PoseAugmenter
from poseaug_plugin.data import Pairs, endless, load, make_loader
from poseaug_plugin.lifters import SimpleBaseline

from .tables import Row, console_table, save_results
from .training import train_step

CONFIGS = {
    "default": PoseAugConfig.default(),
    "learned": PoseAugConfig.default(learned=True, update_every=1, d_every=1, warmup=0),
}
SEGMENTS = 20  # of a run, each measured once
SETTLED = 4  # segments after which memory, time and containers have to be flat
MOST_GROWTH = 0.02  # of memory, from there to the end


@dataclass
class Measured:
    """Measurements after each segment of a run, and the global random streams at its end."""

    seconds: list[float] = field(default_factory=list)  # processor time of a step
    megabytes: list[float] = field(default_factory=list)  # resident
    #: Of all containers with the plugin, settled and at the end.
    entries: list[int] = field(default_factory=list)
    streams: bytes = b""
    stats: dict[str, float] = field(default_factory=dict)


def run(pairs: Pairs, config: PoseAugConfig | None, steps: int, batch_size: int) -> Measured:
    """Train a small lifter; a config adds the plugin."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    model = SimpleBaseline(width=64)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader, augmenter = make_loader(pairs, batch_size), None
    if config is not None:
        epochs = max(1, steps // len(loader))
        augmenter = PoseAugmenter(model, optimizer, "poseaug", epochs, config=config)
        loader = augmenter.wrap(loader)
    found, batches = Measured(), endless(loader)
    for number in track(range(SEGMENTS), description=f"{steps} steps", transient=True):
        start = time.process_time()
        for batch in itertools.islice(batches, steps // SEGMENTS):
            batch[1].add_(random.gauss(0, 1e-4) + np.random.normal(0, 1e-4))
            train_step(model, optimizer, batch)
        found.seconds.append((time.process_time() - start) / (steps // SEGMENTS))
        if augmenter is not None and number in (SETTLED, SEGMENTS - 1):
            found.entries.append(count_entries())
        found.megabytes.append(resident_megabytes())
    states = torch.get_rng_state().tolist(), np.random.get_state(), random.getstate()
    found.streams = pickle.dumps(states)
    if augmenter is not None:
        found.stats = augmenter.stats()
        augmenter.detach()
    return found


def count_entries() -> int:
    """Entries of all containers of the process, after a garbage collection."""
    gc.collect()
    kinds = (list, dict, set, deque)
    return sum(len(x) for x in gc.get_objects() if type(x) in kinds)


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def soak(name: str, steps: int, batch_size: int) -> Row:
    """A row of results; its last column names what was not flat or not equal."""
    pairs = load(None)[0]
    plain = run(pairs, None, steps, batch_size)
    plugin = run(pairs, CONFIGS[name], steps, batch_size)
    early, late = plugin.seconds[SETTLED:-SETTLED], plugin.seconds[-SETTLED:]
    memory = plugin.megabytes[-1] / plugin.megabytes[SETTLED] - 1
    entries = plugin.entries[1] - plugin.entries[0]
    failed = {
        "memory": memory > MOST_GROWTH,
        "containers": entries > 100,  # of several hundred thousand; a step that leaks 1 has 1,000s
        "random streams": plugin.streams != plain.streams,
        "bad batches": plugin.stats["bad_batches"] > 0,
        "failed updates": plugin.stats["failed_updates"] > 0,
        "steps": plugin.stats["steps"] != steps // SEGMENTS * SEGMENTS,
    }
    return {
        "config": name,
        "steps": int(plugin.stats["steps"]),
        "updates": int(plugin.stats["updates"]),
        "augmented rows": int(plugin.stats["augmented"]),
        "MB at a fifth": round(plugin.megabytes[SETTLED], 1),
        "MB at the end": round(plugin.megabytes[-1], 1),
        "more entries": entries,
        "ms a step": 1e3 * statistics.median(early),
        "late / early": statistics.median(late) / statistics.median(early),
        "late / early, plain": (
            statistics.median(plain.seconds[-SETTLED:])
            / statistics.median(plain.seconds[SETTLED:-SETTLED])
        ),
        "failed": ", ".join(what for what, so in failed.items() if so) or "nothing",
        "seconds": plugin.seconds,
        "megabytes": plugin.megabytes,
        "entries": plugin.entries,
    }


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--default-steps", type=int, default=20_000)
    parser.add_argument("--learned-steps", type=int, default=5_000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    args = arguments(argv)
    torch.set_num_threads(1)
    steps = {"default": args.default_steps, "learned": args.learned_steps}
    rows = [soak(name, steps[name], args.batch_size) for name in CONFIGS]
    Console().print(console_table("soak", rows))
    return save_results(args, {"soak": rows}, {"soak": soak})


if __name__ == "__main__":
    results = main()
    sys.exit(any(row["failed"] != "nothing" for row in results["soak"]))
