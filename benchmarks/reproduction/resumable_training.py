"""A training loop that can be interrupted and resumed with identical numbers."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from poseaug_plugin.data import Batch

from ..parallel import LOG, OnProgress
from ..training import train_step

__all__ = ["ResumableTraining", "Scores"]

Scores = dict[str, dict[str, float]]  # test set: metric: value


class ResumableTraining:
    """Trains a model by mean squared error and saves a checkpoint after each pass of the loader.

    Args:
        file: File of the final result. The checkpoint is saved beside it until then.
        model: The model to train.
        optimizer: Optimizer of the model.
        schedule: Learning-rate schedule, stepped after each update.
        parts: Further objects with a state that the numbers depend on.

    Attributes:
        seconds: Training time, `wall` and `cpu`. Interrupted passes do not count.
        best: For each test set, the scores after the pass with the lowest MPJPE.
    """

    def __init__(
        self, file: Path, model: nn.Module, optimizer: Adam, schedule: LambdaLR, **parts: Any
    ) -> None:
        self._file, self._checkpoint = file, file.with_suffix(".part")
        self._model, self._optimizer, self._schedule = model, optimizer, schedule
        self.parts = {"model": model, "optimizer": optimizer, "schedule": schedule, **parts}
        self.seconds = {"wall": 0.0, "cpu": 0.0}
        self.best: Scores = {}
        self._updates = 0

    def run(
        self,
        loader: Iterable[Batch],
        updates: int,
        on_progress: OnProgress,
        test: Callable[[], Scores] | None = None,
    ) -> None:
        """Iterate over the loader again and again until the number of updates is reached.

        Args:
            loader: Training batches.
            updates: Total number of updates, those before an interruption included.
            on_progress: Called with the share of updates done since the last call.
            test: Called after each pass to update `best`.
        """
        self._load_checkpoint()
        on_progress(self._updates / updates)
        while self._updates < updates:
            wall, cpu = time.perf_counter(), time.process_time()
            batches = itertools.islice(loader, updates - self._updates)
            loss = self._train_pass(batches, updates, on_progress)
            self.seconds["wall"] += time.perf_counter() - wall
            self.seconds["cpu"] += time.process_time() - cpu
            LOG.info(_LINE, self._file.stem, self._updates, updates, loss, self.seconds["wall"])
            for name, scores in (test() if test else {}).items():
                if scores["MPJPE"] < self.best.get(name, {}).get("MPJPE", math.inf):
                    self.best[name] = scores
            self._save_checkpoint()

    def _train_pass(self, batches: Iterable[Batch], updates: int, on_progress: OnProgress) -> float:
        """Train on the batches. Returns the mean loss, NaN if only the augmentor was updated."""
        losses = []
        self._model.train()
        for batch in batches:
            losses.append(train_step(self._model, self._optimizer, batch, max_norm=1))
            self._schedule.step()
            self._updates += 1
            on_progress(1 / updates)
        return float(torch.stack(losses).mean()) if losses else math.nan

    def finish(self, result: Mapping[str, Any]) -> None:
        """Save the final result and delete the checkpoint."""
        _save(result, self._file)
        self._checkpoint.unlink(missing_ok=True)

    def _save_checkpoint(self) -> None:
        states = {name: part.state_dict() for name, part in self.parts.items()}
        random = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
        progress = {"updates": self._updates, "seconds": self.seconds, "best": self.best}
        _save({"states": states, "random": random, **progress}, self._checkpoint)

    def _load_checkpoint(self) -> None:
        if not self._checkpoint.exists():
            return
        saved = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(saved["states"][name])
        torch.set_rng_state(saved["random"]["cpu"])
        torch.cuda.set_rng_state_all(saved["random"]["cuda"])
        self._updates, self.seconds, self.best = saved["updates"], saved["seconds"], saved["best"]


_LINE = "%s: %d of %d updates, mean loss %.6f, %.1f s"


def _save(content: Mapping[str, Any], file: Path) -> None:
    """Save atomically: an interruption leaves the old file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}")
    torch.save(content, temporary)
    temporary.replace(file)
