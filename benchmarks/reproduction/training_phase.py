"""A training loop that can be interrupted: it goes on where it was left, with the same numbers."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from poseaug_plugin.data.loading import Batch

from ..parallel import LOG, Tick

__all__ = ["Phase", "Scores", "centre"]

Scores = dict[str, dict[str, float]]  # test set, metric


class Phase:
    """Updates of a model by mean squared error, kept on disk after each round of the loader.

    Args:
        file: for what is left in the end; until then a checkpoint lies beside it.
        schedule: of the rate, by update.
        parts: whatever else has a state that the numbers hinge on.

    Attributes:
        seconds: of training, `wall` and `cpu`; rounds that were interrupted do not count.
        best: test set by test set, the scores after the round with the least MPJPE.
    """

    def __init__(
        self, file: Path, model: nn.Module, optimizer: Adam, schedule: LambdaLR, **parts: Any
    ) -> None:
        self._file, self._checkpoint = file, file.with_suffix(".part")
        self._model, self._optimizer, self._schedule = model, optimizer, schedule
        self.parts = {"model": model, "optimizer": optimizer, "schedule": schedule, **parts}
        self.seconds = {"wall": 0.0, "cpu": 0.0}
        self.best: Scores = {}
        self._done = 0

    def go(
        self,
        loader: Iterable[Batch],
        updates: int,
        tick: Tick,
        test: Callable[[], Scores] | None = None,
    ) -> None:
        """Round after round of the loader, until so many updates are done.

        Args:
            test: asked after each round, for `best`.
        """
        self._restore()
        tick(self._done / updates)
        while self._done < updates:
            wall, cpu = time.perf_counter(), time.process_time()
            loss = self._round(itertools.islice(loader, updates - self._done), updates, tick)
            self.seconds["wall"] += time.perf_counter() - wall
            self.seconds["cpu"] += time.process_time() - cpu
            LOG.info(_LINE, self._file.stem, self._done, updates, loss, self.seconds["wall"])
            for name, scores in (test() if test else {}).items():
                if scores["MPJPE"] < self.best.get(name, {}).get("MPJPE", math.inf):
                    self.best[name] = scores
            self._save()

    def _round(self, batches: Iterable[Batch], updates: int, tick: Tick) -> float:
        """The mean loss in square metres; NaN where the augmentor learns alone."""
        losses = []
        self._model.train()
        for pose_3d, pose_2d, _, _ in batches:
            target = centre(pose_3d - pose_3d[..., :1, :])
            loss = (self._model(pose_2d).view_as(target) - target).square().mean()
            self._optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self._model.parameters(), max_norm=1)
            self._optimizer.step()
            self._schedule.step()
            self._done += 1
            losses.append(loss.detach())
            tick(1 / updates)
        return float(torch.stack(losses).mean()) if losses else math.nan

    def finish(self, left: Mapping[str, Any]) -> None:
        """Keep what is left in place of the checkpoint."""
        _write(left, self._file)
        self._checkpoint.unlink(missing_ok=True)

    def _save(self) -> None:
        states = {name: part.state_dict() for name, part in self.parts.items()}
        streams = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
        so_far = {"done": self._done, "seconds": self.seconds, "best": self.best}
        _write({"states": states, "streams": streams, **so_far}, self._checkpoint)

    def _restore(self) -> None:
        if not self._checkpoint.exists():
            return
        kept = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(kept["states"][name])
        torch.set_rng_state(kept["streams"]["cpu"])
        torch.cuda.set_rng_state_all(kept["streams"]["cuda"])
        self._done, self.seconds, self.best = kept["done"], kept["seconds"], kept["best"]


_LINE = "%s: %d of %d updates, mean loss %.6f, %.1f s"


def centre(poses: Tensor) -> Tensor:
    """(B, J, C): of windows (B, T, J, C) the centre frames, of single frames all."""
    return poses if poses.ndim == 3 else poses[:, poses.shape[1] // 2]


def _write(content: Mapping[str, Any], file: Path) -> None:
    """In one go: whoever is interrupted leaves the old file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_suffix(f".{os.getpid()}")
    torch.save(content, half)
    half.replace(file)
