"""The quickstart with several seeds: no seed with the plugin may end worse than plain ones do.

python -m benchmarks.seeds                      # plain, default and learned, ten seeds each
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from poseaug_plugin import PoseAugConfig, PoseAugmenter
from poseaug_plugin.data import endless, load, make_loader
from poseaug_plugin.lifters import SimpleBaseline
from poseaug_plugin.metrics import evaluate

from .tables import Row, console_table, save_results
from .training import train_step

METHODS = {
    "plain": None,
    "default": PoseAugConfig.default(),
    "learned": PoseAugConfig.default(learned=True),
}
TESTS = "in-domain", "cross-dataset"


def errors(method: str, seed: int, updates: int, data: Any) -> dict[str, float]:
    """MPJPE of one run in mm, in-domain and cross-dataset. The loop is that of the quickstart."""
    pairs, *tests = data
    torch.manual_seed(seed)
    model = SimpleBaseline()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-2, total_steps=updates)
    loader, config = make_loader(pairs, 512), METHODS[method]
    if config is not None:
        epochs, config = math.ceil(updates / len(loader)), config.replace(seed=seed)
        loader = PoseAugmenter(model, optimizer, "poseaug", epochs, config=config).wrap(loader)
    model.train()
    for batch in itertools.islice(endless(loader), updates):
        train_step(model, optimizer, batch)
        schedule.step()
    return {
        name: evaluate(model, test.pose_2d, test.pose_3d, "cpu")["MPJPE"]
        for name, test in zip(TESTS, tests)
    }


def seeds(found: dict[str, list[dict[str, float]]]) -> list[Row]:
    """Errors in mm over the seeds. The limit is the largest error of plain training plus the spread
    (largest minus smallest) of its errors. Data and seeds are the same for all methods.
    """
    rows = []
    for test in TESTS:
        plain = [run[test] for run in found["plain"]]
        limit = max(plain) + (max(plain) - min(plain))
        for method, runs in found.items():
            values = [run[test] for run in runs]
            rows.append(
                {
                    "test": test,
                    "method": method,
                    "mean": statistics.fmean(values),
                    "best": min(values),
                    "worst": max(values),
                    "limit": limit,
                    "seeds above": sum(value > limit for value in values),
                    "errors": values,
                }
            )
    return rows


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--updates", type=int, default=800, help="optimizer steps of each run")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    args = arguments(argv)
    torch.set_num_threads(1)
    data, found = load(None), dict[str, list[dict[str, float]]]()
    tasks = [(method, seed) for seed in range(args.seeds) for method in METHODS]
    for method, seed in track(tasks, description="runs", transient=True):
        found.setdefault(method, []).append(errors(method, seed, args.updates, data))
    rows = seeds(found)
    Console().print(console_table("quickstart", rows))
    return save_results(args, {"seeds": rows}, {"seeds": seeds})


if __name__ == "__main__":
    main()
