"""Where augmented poses lie while an estimator is trained on them, and how hard it finds them.

Source, augmented and cross-dataset poses side by side, and how much nearer to the cross-dataset
poses the augmented ones come than the source's do (`variety`, in the examples).
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

from poseaug_plugin.data.h36m import Pairs
from poseaug_plugin.data.loading import Batch
from poseaug_plugin.metrics import mpjpe

from ..environment import markdown
from ..pose_diversity import (
    angles,
    bodies,
    coverage,
    draw,
    nearest,
    palette,
    save,
    some,
    viewpoints,
)
from .runs import Run, train
from .splits import splits

__all__ = [
    "Trace",
    "angles",
    "bodies",
    "coverage",
    "look_closely",
    "nearest",
    "table",
    "viewpoints",
]

SAMPLE = 4000  # poses of each set, at most
PROBE = 512  # training pairs on which the errors are followed
POINTS = 30  # of such a curve
BATCHES = 100  # the last ones, from which augmented pairs are taken


class Trace:
    """What the estimator was trained on, and how hard it found it; a `Look` for `train`.

    Args:
        pairs: the training pairs.
        updates: of the run. The error is asked `POINTS` times, in evaluation mode.

    Attributes:
        errors: (updates done, mm on a fixed sample of training pairs, mm on augmented pairs).
    """

    def __init__(self, pairs: Pairs, updates: int) -> None:
        self._pairs, self._probe = pairs, some(pairs, PROBE, 1)
        self._updates, self._due = updates, 0
        self._made: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=BATCHES)
        self.errors: list[tuple[int, float, float]] = []

    @torch.no_grad()
    def __call__(self, step: int, model: nn.Module, batch: Batch) -> None:
        pose_3d, pose_2d, rows, camera = batch
        changed = (pose_2d != self._pairs.pose_2d[rows]).flatten(1).any(1)
        if not changed.any():  # a pass of real pairs
            return
        if step >= self._due:
            self._due = step + max(1, self._updates // POINTS)
            model.eval()
            original = mpjpe(model(self._probe.pose_2d), self._probe.root_relative)
            y = pose_3d[changed]
            augmented = mpjpe(model(pose_2d[changed]), y - y[:, :1])
            model.train()
            self.errors.append((step, original, augmented))
        self._made.append((pose_2d[changed], pose_3d[changed], camera[changed]))

    def made(self) -> Pairs:
        """The last augmented pairs, `SAMPLE` of them if there were as many.

        Raises:
            ValueError: none was augmented.
        """
        if not self._made:
            raise ValueError("no row was augmented; train longer, or with another recipe")
        pose_2d, pose_3d, camera = (torch.cat(field)[-SAMPLE:] for field in zip(*self._made))
        nobody = np.full(len(pose_2d), "")
        return Pairs(pose_2d, pose_3d, camera, nobody, nobody)


# Pictures


def look_closely(
    runs: Sequence[Run], folder: Path, tick: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Train each run, draw what it was trained on, and say how that covers the cross set.

    Args:
        runs: one estimator and seed, several recipes with a config.
        folder: of the pictures; made.
        tick: called after each update.
    """
    first = runs[0]
    pairs, tests = splits(
        first.data,
        first.seed,
        subjects=first.subjects,
        detections=first.detections,
        validate=first.validate,
    )
    sets = {"source": some(pairs, SAMPLE, 0)}
    traces = {}
    for run in runs:
        trace = traces[run.recipe] = Trace(pairs, run.updates)
        train(run, pairs, tick, trace)
        sets[run.recipe] = trace.made()
    sets["cross"] = some(tests["cross"], SAMPLE, 3)

    draw(sets, folder)
    _draw_traces(traces, folder / "difficulty.png")
    return {
        "coverage": coverage(sets),
        "difficulty": {
            name: dict(zip(("updates", "original", "augmented"), zip(*trace.errors)))
            for name, trace in traces.items()
        },
    }


def table(numbers: Mapping[str, Any]) -> str:
    """Coverage and, at the end of training, difficulty, as Markdown."""
    head = ["poses", "cross pose to nearest, mm", "nearer than source, %"]
    head += ["posture alone, mm", "nearer than source, %", "error augmented / original, mm"]
    rows = []
    for name, row in numbers["coverage"].items():
        curve = numbers["difficulty"].get(name)
        ends = f"{curve['augmented'][-1]:.0f} / {curve['original'][-1]:.0f}" if curve else ""
        numbers_shown = (f"{value:.1f}" if value else "" for value in row.values())
        rows.append([name, *numbers_shown, ends])
    return markdown(head, rows)


def _draw_traces(traces: Mapping[str, Trace], path: Path) -> None:
    figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
    colours = palette(list(traces))
    for name, trace in traces.items():
        updates, original, augmented = zip(*trace.errors)
        axis.plot(updates, augmented, color=colours[name], label=f"{name}, augmented")
        axis.plot(updates, original, "--", color=colours[name], label=f"{name}, original")
    axis.set(xlabel="updates", ylabel="MPJPE on training pairs, mm", ylim=(0, None))
    axis.legend()
    save(figure, path)
