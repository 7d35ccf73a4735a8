"""Diversity of augmented poses during training, and their difficulty for the estimator.

Compares source, augmented and cross-dataset poses with the measures of `pose_diversity`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn

from poseaug_plugin.data import Batch, Pairs
from poseaug_plugin.metrics import mpjpe

from ..pose_diversity import colours, coverage, plot_all, sample_pairs, save_figure
from ..tables import markdown_table
from .runs import Run, train

__all__ = ["TrainingRecorder", "analyse", "results_table"]

SAMPLE = 4000  # maximum number of poses of each set
PROBE = 512  # training pairs on which errors are recorded
POINTS = 30  # points of an error curve
BATCHES = 100  # augmented pairs are taken from so many last batches


class TrainingRecorder:
    """Records augmented pairs and errors of the estimator. An `on_batch` callback of `train`.

    Args:
        pairs: The training pairs.
        updates: Number of updates of the run. Errors are measured `POINTS` times in evaluation
            mode.

    Attributes:
        errors: (past updates, mm on a fixed sample of training pairs, mm on augmented pairs).
    """

    def __init__(self, pairs: Pairs, updates: int) -> None:
        self._pairs, self._probe = pairs, sample_pairs(pairs, PROBE, 1)
        self._updates, self._next_step = updates, 0
        self._augmented: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=BATCHES)
        self.errors: list[tuple[int, float, float]] = []

    @torch.no_grad()
    def __call__(self, step: int, model: nn.Module, batch: Batch) -> None:
        pose_3d, pose_2d, rows, camera = batch
        changed = (pose_2d != self._pairs.pose_2d[rows]).flatten(1).any(1)
        if not changed.any():  # a batch of real pairs
            return
        if step >= self._next_step:
            self._next_step = step + max(1, self._updates // POINTS)
            model.eval()
            original = mpjpe(model(self._probe.pose_2d), self._probe.root_relative)
            y = pose_3d[changed]
            augmented = mpjpe(model(pose_2d[changed]), y - y[:, :1])
            model.train()
            self.errors.append((step, original, augmented))
        self._augmented.append((pose_2d[changed], pose_3d[changed], camera[changed]))

    def augmented_pairs(self) -> Pairs:
        """The last augmented pairs, at most `SAMPLE`.

        Raises:
            ValueError: No row was augmented.
        """
        if not self._augmented:
            raise ValueError("no row was augmented: train longer or with another method")
        pose_2d, pose_3d, camera = (torch.cat(field)[-SAMPLE:] for field in zip(*self._augmented))
        unknown = np.full(len(pose_2d), "")
        return Pairs(pose_2d, pose_3d, camera, unknown, unknown)


# Plots


def analyse(
    runs: Sequence[Run], folder: Path, on_update: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Train each run, plot its augmented pairs, and measure how they cover the cross-dataset poses.

    Args:
        runs: Runs of one estimator and seed. Every method has a config.
        folder: Folder of the plots. It is created.
        on_update: Called after each update.
    """
    first = runs[0]
    pairs, tests = first.splits()
    sets = {"source": sample_pairs(pairs, SAMPLE, 0)}
    recorders = {}
    for run in runs:
        recorder = recorders[run.method] = TrainingRecorder(pairs, run.updates)
        train(run, pairs, on_update, recorder)
        sets[run.method] = recorder.augmented_pairs()
    sets["cross"] = sample_pairs(tests["cross"], SAMPLE, 3)

    plot_all(sets, folder)
    _plot_errors(recorders, folder / "difficulty.png")
    return {
        "coverage": coverage(sets),
        "difficulty": {
            name: dict(zip(("updates", "original", "augmented"), zip(*recorder.errors)))
            for name, recorder in recorders.items()
        },
    }


def results_table(numbers: Mapping[str, Any]) -> str:
    """Format coverage, and difficulty at the end of training."""
    head = ["poses", "cross pose to nearest, mm", "nearer than source, %"]
    head += ["posture alone, mm", "nearer than source, %", "error augmented / original, mm"]
    rows = []
    for name, row in numbers["coverage"].items():
        curve = numbers["difficulty"].get(name)
        ends = f"{curve['augmented'][-1]:.0f} / {curve['original'][-1]:.0f}" if curve else ""
        cells = (f"{value:.1f}" if value else "" for value in row.values())
        rows.append([name, *cells, ends])
    return markdown_table(head, rows)


def _plot_errors(recorders: Mapping[str, TrainingRecorder], path: Path) -> None:
    figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
    colour = colours(list(recorders))
    for name, recorder in recorders.items():
        updates, original, augmented = zip(*recorder.errors)
        axis.plot(updates, augmented, color=colour[name], label=f"{name}, augmented")
        axis.plot(updates, original, "--", color=colour[name], label=f"{name}, original")
    axis.set(xlabel="updates", ylabel="MPJPE on training pairs, mm", ylim=(0, None))
    axis.legend()
    save_figure(figure, path)
