"""One run of the benchmark: an estimator, a recipe, so many updates; then the tests, once."""

from __future__ import annotations

import functools
import itertools
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from poseaug_plugin import PoseAugConfig, PoseAugmenter
from poseaug_plugin.data.h36m import TRAIN, Pairs
from poseaug_plugin.data.loading import Batch, endless
from poseaug_plugin.lifters import GraphLifter, SimpleBaseline, SpatialGraphLifter, VideoPose
from poseaug_plugin.metrics import evaluate

from ..environment import circumstances
from .splits import splits

__all__ = ["ESTIMATORS", "ORACLE", "RECIPES", "Batches", "Look", "Run", "compete", "train"]

Look = Callable[[int, nn.Module, Batch], None]

#: How to make each estimator, and its peak learning rate: about the best of those tried for recipe
#: `random` on the validation split, seed 0 (`RESULTS.md`).
ESTIMATORS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "mlp": (SimpleBaseline, 2e-2),
    "videopose": (VideoPose, 2e-2),
    "semgcn": (functools.partial(GraphLifter, width=64, blocks=3), 2e-1),
    "stgcn": (SpatialGraphLifter, 1e-1),
}

_residual = functools.partial(PoseAugConfig.default, learned=True)

#: The plugin's config in each recipe; None: without the plugin.
RECIPES: dict[str, PoseAugConfig | None] = {
    "plain": None,
    "random": PoseAugConfig.random(),
    "default": PoseAugConfig.default(),
    "residual": _residual(),  # an adversarial augmentor on top of the default
    "paper": PoseAugConfig.paper(),
    "released": PoseAugConfig.released(),
    "even-ratio": PoseAugConfig.default(ratio=0.5),
    "no-balance": PoseAugConfig.default(balance=0.0),
    "no-flex": PoseAugConfig.default(flex=0.0),
    "no-crossover": PoseAugConfig.default(crossover=False),
    "no-upright": PoseAugConfig.default(upright=False),
    "no-shift": PoseAugConfig.default(shift=0.0),
    "random-shift": PoseAugConfig.random(shift=0.025),  # that part alone, nothing learned
    "no-ba": PoseAugConfig.default(ba=False),
    "no-bl": PoseAugConfig.default(bl=False),
    "no-rt": PoseAugConfig.default(rt=False),
    "residual-no-d3d": _residual(adv3d=0.0),
    "residual-with-d2d": _residual(adv2d=1.0),
    "residual-no-feedback": _residual(feedback="off"),
    "residual-whole-kcs": _residual(kcs="whole"),
}

#: The name of a plain run on `splits.known`, of which the tests to choose by hold nothing new.
ORACLE = "oracle"

# What a real batch becomes: its rows as a share of an update's, and the updates it is good for.
_ROWS = {"replace": 1.0, "append": 0.5, "alternate": 1.0, "passes": 1.0}
_UPDATES = {"replace": 1, "append": 1, "alternate": 2, "passes": 2}


@dataclass(frozen=True)
class Run:
    """All that a run's numbers hinge on, but for code and machine."""

    estimator: str = "mlp"
    recipe: str = "plain"  # as tables name it, overrides included
    config: PoseAugConfig | None = None  # of the recipe, overrides applied
    data: str | None = None  # folder; None: embedded
    detections: str = "gt"
    subjects: tuple[str, ...] = TRAIN
    validate: bool = False
    seed: int = 0
    updates: int = 1500
    batch_size: int = 512  # rows of an update

    @property
    def key(self) -> str:
        """All of it as JSON: what a file of results knows a run by."""
        return json.dumps({**asdict(self), "peak": ESTIMATORS[self.estimator][1]})

    @property
    def mix(self) -> str:
        return self.config.mix if self.config else "replace"


class Batches:
    """Real rows (pose_3d, pose_2d, row number, camera), an order for each epoch from a seed.

    Raises:
        ValueError: fewer pairs than rows.
    """

    def __init__(self, pairs: Pairs, rows: int, seed: int) -> None:
        if rows > len(pairs):
            raise ValueError(f"{len(pairs)} pairs make no batch of {rows} rows")
        self._data, self._rows = (pairs.pose_3d, pairs.pose_2d, pairs.camera), rows
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self._data[0]) // self._rows

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self._data[0]), generator=self._generator)
        for rows in order.split(self._rows)[: len(self)]:
            pose_3d, pose_2d, camera = (field[rows] for field in self._data)
            yield pose_3d, pose_2d, rows, camera


def train(
    run: Run, pairs: Pairs, tick: Callable[[], None] = lambda: None, look: Look | None = None
) -> tuple[nn.Module, PoseAugmenter | None]:
    """An estimator after `run.updates` updates of `run.batch_size` rows each.

    Every recipe starts from the same weights and draws the same real rows in the same order.

    Args:
        tick: called after each update.
        look: called before each update with the updates done, the estimator and the batch.
    """
    torch.manual_seed(run.seed)
    make, peak = ESTIMATORS[run.estimator]
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=run.updates)
    loader = Batches(pairs, round(_ROWS[run.mix] * run.batch_size), run.seed)
    epochs = math.ceil(run.updates / (_UPDATES[run.mix] * len(loader)))

    augmenter = None
    if run.config is not None:
        with warnings.catch_warnings():  # the published pass, BatchNorm and all
            warnings.filterwarnings("ignore", message="mix='alternate'")
            augmenter = PoseAugmenter(model, optimizer, "poseaug", epochs, config=run.config)
        loader = augmenter.wrap(loader)

    model.train()
    for step, batch in enumerate(itertools.islice(endless(loader), run.updates)):
        pose_3d, pose_2d, _, _ = batch
        if look:
            look(step, model, batch)
        loss = (model(pose_2d) - (pose_3d - pose_3d[:, :1])).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        tick()
    return model, augmenter


def compete(run: Run, tick: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Train, test once, and say all that is needed to repeat it."""
    torch.set_num_threads(1)  # steps are too small to share
    pairs, tests = _splits(
        run.data,
        run.seed,
        subjects=run.subjects,
        detections=run.detections,
        validate=run.validate,
        oracle=run.recipe == ORACLE,
    )
    wall, cpu = time.perf_counter(), time.process_time()
    model, augmenter = train(run, pairs, tick)
    seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    return {
        "settings": json.loads(run.key),
        "tests": {name: evaluate(model, test, "cpu") for name, test in tests.items()},
        "seconds": seconds,
        "rows": {"training": len(pairs), **{name: len(test) for name, test in tests.items()}},
        "stats": augmenter.stats() if augmenter else {},
        "circumstances": circumstances(),
    }


_splits = functools.lru_cache(maxsize=1)(splits)  # runs of one split follow each other
