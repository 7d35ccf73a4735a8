"""The quickstart: a small lifter, trained plainly and with the plugin, on data it has not seen.

`poseaug-plugin demo` and `examples/quickstart.py` run it. Without data files it uses synthetic
motion.
"""

from __future__ import annotations

import itertools
import math
import statistics
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .data import Batch, Pairs, endless, load, make_loader
from .lifters import SimpleBaseline
from .metrics import evaluate
from .plugin import PoseAugmenter  # 1 of 3
from .progress import Progress, Silent
from .random_streams import restored_streams

__all__ = ["METHODS", "Comparison", "Run", "compare", "train"]

#: The runs that are compared: no plugin, the control, and the plugin as it is by default.
METHODS = "plain", "random", "default"
UPDATES, BATCH_SIZE = 800, 512  # of each run
#: Work of loading and of an evaluation, as a share of a run's updates. For the progress line.
LOADING, EVALUATION = 0.1, 0.05
METRICS = "MPJPE", "PA-MPJPE", "N-MPJPE"  # in the table


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        method: "plain" or the name of a preset.
        seed: Of initial weights, batches and augmentation.
        seconds: Processor time of the training.
        in_domain: Metrics on other people of the training set's studio, see `metrics.report`.
        cross_dataset: Metrics on other people, motion and cameras.
        stats: `PoseAugmenter.stats()`; empty for "plain".
    """

    method: str
    seed: int
    seconds: float
    in_domain: dict[str, float]
    cross_dataset: dict[str, float]
    stats: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """The runs of `compare`; `str()` gives a headline, a table and what they mean.

    Attributes:
        data: Where the data is from.
        updates: Optimizer steps of each run.
        runs: All methods for the first seed, then for the next.
        augmenter: Of the last run, to look at. None if that was plain.
        some: A few training pairs.
    """

    data: str
    updates: int
    runs: tuple[Run, ...]
    augmenter: PoseAugmenter | None
    some: Pairs

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(run.method for run in self.runs))

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(run.seed for run in self.runs))

    def scores(self, method: str, test: str, metric: str) -> list[float]:
        """One metric of a method on a test, "in_domain" or "cross_dataset", for each seed."""
        return [getattr(run, test)[metric] for run in self.runs if run.method == method]

    def __str__(self) -> str:
        seeds = f"seed{'s' * (len(self.seeds) > 1)} {', '.join(map(str, self.seeds))}"
        headline = f"{self.data}; {seeds}; {self.updates} updates each; errors in mm"
        return "\n".join([headline, "", *self._table(), "", *self._meaning()])

    def _table(self) -> list[str]:
        rows = [["", *self.methods]]
        for test, title in (("in_domain", "in-domain"), ("cross_dataset", "cross-dataset")):
            for metric in METRICS:
                cells = [_cell(self.scores(name, test, metric)) for name in self.methods]
                rows.append([f"{title} {metric}", *cells])
        seconds = (
            [run.seconds for run in self.runs if run.method == name] for name in self.methods
        )
        rows.append(["processor time, s", *map(_cell, seconds)])
        widths = [max(map(len, column)) for column in zip(*rows)]
        return [
            "  ".join(f"{cell:{'<' if i == 0 else '>'}{widths[i]}}" for i, cell in enumerate(row))
            for row in rows
        ]

    def _meaning(self) -> list[str]:
        """What the numbers say, in sentences."""
        last, lines = self.methods[-1], []
        mean = {
            (name, test): statistics.mean(self.scores(name, test, "MPJPE"))
            for name in self.methods
            for test in ("in_domain", "cross_dataset")
        }
        for test, where in (
            ("cross_dataset", "On people, motion and cameras that were not in training"),
            ("in_domain", "On other people in the training set's own studio"),
        ):
            others = [
                f"{_change(mean[last, test], mean[name, test])} {meaning}"
                for name, meaning in (
                    ("plain", "plain training"),
                    ("random", "the control `random` (views, bodies and bends at random)"),
                )
                if name in self.methods and name != last
            ]
            if others:
                lines.append(f"{where}, `{last}` has {' and '.join(others)}.")
        if len(self.seeds) == 1:
            lines.append("One seed: do not trust differences of a few percent (--seeds 0 1 2).")
        return [part for line in lines for part in textwrap.wrap(line, 88)]


def compare(
    data: str | Path | None = None,
    *,
    methods: Sequence[str] = METHODS,
    seeds: Sequence[int] = (0,),
    updates: int = UPDATES,
    batch_size: int = BATCH_SIZE,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Comparison:
    """Train a small lifter with each method, and test it in-domain and cross-dataset.

    Global random state is not changed.

    Args:
        data: Folder with Human3.6M's files and a cross-dataset test set, see `data.load`. None:
            synthetic motion, which shows that the plugin works, not how good it is.
        methods: "plain", and names of presets.
        seeds: Each method is trained once with each of them.
        updates: Optimizer steps of a run.
        batch_size: Rows of a batch.
        device: Where to train.
        progress: Told what runs now. Its `total` is set here.

    Raises:
        FileNotFoundError: A file is missing. The message says where to get it.
        ValueError: A file has unexpected contents.
    """
    progress = progress or Silent()
    count = len(seeds) * len(methods)
    progress.total = updates * (LOADING + count * (1 + EVALUATION))
    progress.start("loading the data")
    pairs, test, cross = load(data)
    progress.advance(LOADING * updates)
    runs, augmenter = [], None
    for i, (seed, method) in enumerate(itertools.product(seeds, methods)):
        which = f"{i + 1} of {count}, {method}, seed {seed}"
        progress.start(f"training {which}")
        with restored_streams([torch.device(device)]):
            torch.manual_seed(seed)
            began = time.process_time()
            model, augmenter = train(
                make_loader(pairs, batch_size), method, updates, device, seed, progress
            )
            seconds = time.process_time() - began
        progress.start(f"testing {which}")
        inside, across = (evaluate(model, x.pose_2d, x.pose_3d, device) for x in (test, cross))
        progress.advance(EVALUATION * updates)
        stats = augmenter.stats() if augmenter else {}
        runs.append(Run(method, seed, seconds, inside, across, stats))
    some = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))[:64]
    where = "synthetic motion" if data is None else f"data in {data}"
    return Comparison(where.capitalize(), updates, tuple(runs), augmenter, pairs[some])


def train(
    train_loader: Any,
    method: str,
    updates: int,
    device: str | torch.device = "cpu",
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[SimpleBaseline, PoseAugmenter | None]:
    """Train a small lifter. The plugin adds the three marked lines to the loop.

    Args:
        train_loader: Of batches (absolute 3D, 2D, row number, camera).
        method: "plain", or the name of a preset.
        updates: Optimizer steps.
    """
    model = SimpleBaseline().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-2, total_steps=updates)
    epochs = math.ceil(updates / len(train_loader))

    augmenter = None
    if method != "plain":
        config = {"preset": method, "seed": seed}
        augmenter = PoseAugmenter(model, optimizer, "poseaug", epochs, config=config)  # 2 of 3
        train_loader = augmenter.wrap(train_loader)  # 3 of 3

    model.train()
    batch: Batch
    for batch in itertools.islice(endless(train_loader), updates):
        pose_3d, pose_2d, *_ = batch
        target = (pose_3d - pose_3d[:, :1]).to(device)
        loss = (model(pose_2d.to(device)) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress:
            progress.advance()
    return model, augmenter


def _cell(values: Sequence[float]) -> str:
    """The mean, and the standard deviation of several values."""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def _change(new: float, old: float) -> str:
    """How one error compares with another."""
    percent = round(100 * abs(new / old - 1))
    how = f"{percent} % {'less' if new < old else 'more'}" if percent else "the same"
    return f"{how} error {'than' if percent else 'as'}"
