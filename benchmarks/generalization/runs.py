"""One run of the benchmark: train an estimator with a method, then test it once."""

from __future__ import annotations

import functools
import itertools
import json
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from poseaug_plugin import PoseAugConfig, PoseAugmenter
from poseaug_plugin.data import TRAIN, Batch, Pairs, endless
from poseaug_plugin.lifters import (
    GraphLifter,
    SimpleBaseline,
    SpatialGraphLifter,
    TemporalLifter,
    VideoPose,
)
from poseaug_plugin.metrics import acceleration_error, report

from ..environment import environment_info
from ..training import ShuffledBatches, clip_bounds, predict, train_step
from .splits import splits, unlabelled
from .temporal_lifters import TemporalLifter81, TemporalLifter243, TemporalTransformer

__all__ = [
    "ESTIMATORS",
    "METHODS",
    "ORACLE",
    "WITH_TARGET",
    "Estimator",
    "OnBatch",
    "Run",
    "scores",
    "train",
    "train_and_test",
]

OnBatch = Callable[[int, nn.Module, Batch], None]  # number of past updates, estimator, batch


class Estimator(NamedTuple):
    """A lifter of single frames (B, 16, 2), or of windows (B, frames, 16, 2)."""

    make: Callable[[], nn.Module]
    peak: float  # peak learning rate
    frames: int = 1


#: The peak rates are about the best of those tried for the method `random` on the validation split
#: with seed 0 (`EXPERIMENTS.md`).
ESTIMATORS: dict[str, Estimator] = {
    "mlp": Estimator(SimpleBaseline, 2e-2),
    "videopose": Estimator(VideoPose, 2e-2),
    "semgcn": Estimator(functools.partial(GraphLifter, width=64, blocks=3), 2e-1),
    "stgcn": Estimator(SpatialGraphLifter, 1e-1),
    "tcn27": Estimator(TemporalLifter, 2e-2, frames=27),
    "tcn81": Estimator(TemporalLifter81, 2e-2, frames=81),
    "tcn243": Estimator(TemporalLifter243, 2e-2, frames=243),
    "transformer27": Estimator(TemporalTransformer, 3e-3, frames=27),
    "transformer81": Estimator(functools.partial(TemporalTransformer, 81), 3e-3, frames=81),
}

_residual = functools.partial(PoseAugConfig.default, learned=True)

#: The plugin's config of each method. None is training without the plugin.
METHODS: dict[str, PoseAugConfig | None] = {
    "plain": None,
    "random": PoseAugConfig.random(),
    "default": PoseAugConfig.default(),
    "target_2d": PoseAugConfig.default(),
    "residual": _residual(),  # an adversarial augmentor on top of the default
    # Nothing is known of views.
    "widening": PoseAugConfig.default(
        widen_views=1.1, tilt=(-math.pi / 2, math.pi / 2), roll=math.pi / 2
    ),
    "paper": PoseAugConfig.paper(),
    "released": PoseAugConfig.released(),
    "even-ratio": PoseAugConfig.default(ratio=0.5),
    "no-rare-poses": PoseAugConfig.default(rare_pose_power=0.0),
    "no-bends": PoseAugConfig.default(bend_sigma=0.0),
    "no-limb-crossover": PoseAugConfig.default(limb_crossover=False),
    "no-upright": PoseAugConfig.default(upright=False),
    "no-joint-offset": PoseAugConfig.default(joint_offset=0.0),
    "random-joint-offset": PoseAugConfig.random(joint_offset=0.025),
    "no-ba": PoseAugConfig.default(ba=False),
    "no-bl": PoseAugConfig.default(bl=False),
    "no-rt": PoseAugConfig.default(rt=False),
    "residual-no-d3d": _residual(adv3d=0.0),
    "residual-with-d2d": _residual(adv2d=1.0),
    "residual-no-feedback": _residual(feedback="off"),
    "residual-whole-kcs": _residual(kcs="whole"),
}

#: Methods that get the 2D of `splits.unlabelled`. Another protocol than that of the others: they
#: know the place of the test, though none of its labels and none of its poses.
WITH_TARGET = ("target_2d",)

#: Name of a plain run on `splits.oracle_training_set`, which covers the validation tests.
ORACLE = "oracle"

# For each mix, the rows of a real batch as a share of an update's rows, and updates per real batch.
_ROWS = {"replace": 1.0, "append": 0.5, "alternate": 1.0, "passes": 1.0}
_UPDATES = {"replace": 1, "append": 1, "alternate": 2, "passes": 2}


@dataclass(frozen=True)
class Run:
    """Everything that the numbers of a run depend on, except code and machine."""

    estimator: str = "mlp"
    method: str = "plain"  # the name in tables, overrides included
    config: PoseAugConfig | None = None  # config of the method, overrides applied
    data: str | None = None  # folder, None for synthetic motion
    detections: str = "gt"
    subjects: tuple[str, ...] = TRAIN
    validate: str | None = None  # a split of `validation`, None: the tests
    seed: int = 0
    updates: int = 1500
    batch_size: int = 512  # rows per update
    target_2d: bool = False  # whether the method gets unlabelled 2D
    peak: float | None = None  # peak learning rate, None: the estimator's

    @property
    def key(self) -> str:
        """All settings as JSON. It identifies the run in a file of results."""
        return json.dumps({**asdict(self), "peak": self.peak_rate})

    @property
    def peak_rate(self) -> float:
        """Peak learning rate."""
        return ESTIMATORS[self.estimator].peak if self.peak is None else self.peak

    @property
    def frames(self) -> int:
        """Number of frames that the estimator sees at a time."""
        return ESTIMATORS[self.estimator].frames

    @property
    def mix(self) -> str:
        return self.config.mix if self.config else "replace"

    def splits(self) -> tuple[Pairs, dict[str, Pairs]]:
        """The training pairs and the tests by name."""
        return _splits(
            self.data,
            self.seed,
            subjects=self.subjects,
            detections=self.detections,
            validate=self.validate,
            oracle=self.method == ORACLE,
            clips=self.frames > 1,
        )

    def unlabelled(self) -> Tensor | None:
        """The 2D poses (N, 16, 2) for `target_2d=`, of the same kind as the training 2D."""
        if not self.target_2d:
            return None
        return unlabelled(
            self.data,
            self.seed,
            validate=self.validate,
            detections=self.detections,
            clips=self.frames > 1,
        )


def train(
    run: Run,
    pairs: Pairs,
    on_update: Callable[[], None] = lambda: None,
    on_batch: OnBatch | None = None,
) -> tuple[nn.Module, PoseAugmenter | None]:
    """Train an estimator for `run.updates` updates of `run.batch_size` rows each.

    All methods start from the same weights and use the same real rows in the same order.

    Args:
        run: Settings of the run.
        pairs: Training pairs.
        on_update: Called after each update.
        on_batch: Called before each update with the number of past updates, the estimator and the
            batch.
    """
    torch.manual_seed(run.seed)
    make, _, frames = ESTIMATORS[run.estimator]
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    one_cycle = torch.optim.lr_scheduler.OneCycleLR
    schedule = one_cycle(optimizer, run.peak_rate, total_steps=run.updates)
    loader = ShuffledBatches(pairs, round(_ROWS[run.mix] * run.batch_size), run.seed, frames)
    epochs = math.ceil(run.updates / (_UPDATES[run.mix] * len(loader)))

    augmenter = None
    if run.config is not None:
        with warnings.catch_warnings():  # BatchNorm sees separate passes, as in the published code
            warnings.filterwarnings("ignore", message="mix='alternate'")
            augmenter = PoseAugmenter(
                model, optimizer, "poseaug", epochs, config=run.config, target_2d=run.unlabelled()
            )
        loader = augmenter.wrap(loader)

    model.train()
    for step, batch in enumerate(itertools.islice(endless(loader), run.updates)):
        if on_batch:
            on_batch(step, model, batch)
        train_step(model, optimizer, batch)
        schedule.step()
        on_update()
    return model, augmenter


def train_and_test(run: Run, on_update: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Train, test once, and return the scores with everything needed to repeat the run."""
    torch.set_num_threads(1)  # steps are too small to benefit from more
    pairs, tests = run.splits()
    wall, cpu = time.perf_counter(), time.process_time()
    model, augmenter = train(run, pairs, on_update)
    seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    return {
        "settings": json.loads(run.key),
        "tests": {name: scores(model, pairs, run.frames) for name, pairs in tests.items()},
        "seconds": seconds,
        "rows": {"training": len(pairs), **{name: len(test) for name, test in tests.items()}},
        "stats": augmenter.stats() if augmenter else {},
        "environment": environment_info(),
    }


def scores(model: nn.Module, pairs: Pairs, frames: int = 1) -> dict[str, float]:
    """The metrics of `report` for every frame.

    With windows also ``acceleration``, the mean acceleration error of root-relative clips in
    mm / frame².
    """
    predicted, target = predict(model, pairs, frames), pairs.root_relative
    found = report(predicted, target, "h36m_16")
    if frames > 1:
        lengths = clip_bounds(pairs)[1].tolist()
        clips = [c for c in zip(predicted.split(lengths), target.split(lengths)) if len(c[0]) > 2]
        total = sum((len(a) - 2) * acceleration_error(a, b) for a, b in clips)
        found["acceleration"] = total / sum(len(a) - 2 for a, _ in clips)
    return found


_splits = functools.lru_cache(maxsize=1)(splits)  # consecutive runs often share a split
