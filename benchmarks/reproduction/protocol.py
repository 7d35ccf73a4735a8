"""One run of the published recipe: pre-train an estimator plain, then train it on with PoseAug.

What the paper leaves open is as in the published code:

- pre-training: mean squared error of root-relative poses, Adam at the estimator's rate, times 0.96
  every 100,000 updates, gradients clipped to norm 1;
- second phase: the pre-trained weights, a new Adam at a rate that falls linearly to 0, the same
  loss and clipping. There the estimator stands still for `WARMUP` epochs, and in each later one
  passes once over augmented pairs and once over the real ones.

**Updates are counted so that recipes can be compared**: with n batches in an epoch, the second
phase is 2n (epochs - WARMUP) updates of the estimator in every recipe. The mixes
"alternate" and "passes" hand out each batch twice and take about `epochs` rounds of the loader for
them (the estimator sees the real pairs while the augmentor warms up, which counts); all others, and
the plain estimator, which trains on as well, 2 (epochs - WARMUP) rounds. An incomplete batch is
dropped.

The last weights are tested. Choosing the best epoch on the test set, as the published code does, is
an extra result under a name of its own, `BEST`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from poseaug_plugin import PoseAugConfig, PoseAugmenter
from poseaug_plugin.augment.mixing import TWICE
from poseaug_plugin.data.h36m import TRAIN, Pairs
from poseaug_plugin.data.loading import Batch
from poseaug_plugin.metrics import report

from ..parallel import Tick
from .datasets import Sets, sets, windows
from .published_lifters import ESTIMATORS, Published
from .training_phase import Phase, Scores, centre

__all__ = ["BEST", "BUDGETS", "WARMUP", "Batches", "Budget", "Run", "Setup", "pretrain", "train"]

BEST = "best-on-test, as the published code reports it"
WARMUP = 2  # epochs of the second phase in which only the augmentor learns
SAMPLE = 4000  # augmented pairs kept of a run, to look at


@dataclass(frozen=True)
class Budget:
    """How large and how long.

    Attributes:
        size: of the estimator: as published, or the same shape narrow.
        pretrain, epochs: of the two phases; the second counts its warm-up.
        batch_size: rows of an update.
        fraction: of the training rows.
    """

    size: Literal["published", "small"]
    pretrain: int
    epochs: int
    batch_size: int
    fraction: float


BUDGETS = {
    "paper": Budget("published", 50, 50, 1024, 1.0),
    "small": Budget("small", 30, 10, 1024, 0.25),  # pre-training is shared, and the cheap part
    "tiny": Budget("small", 1, 4, 64, 0.01),  # for tests: it runs, no more
}


@dataclass(frozen=True)
class Setup:
    """All that pre-trained weights hinge on, but for code and machine."""

    estimator: str = "mlp"
    data: str | None = None  # folder; None: embedded
    keypoints: str = "gt"
    subjects: tuple[str, ...] = TRAIN
    seed: int = 0
    size: Literal["published", "small"] = "published"
    pretrain: int = 50
    batch_size: int = 1024
    fraction: float = 1.0

    @property
    def published(self) -> Published:
        return ESTIMATORS[self.estimator]

    @property
    def settings(self) -> dict[str, Any]:
        """All of it, but of the folder the name alone: its place is the machine's business."""
        return {**asdict(self), "data": self.data and Path(self.data).name}

    @property
    def name(self) -> str:
        """Of its file: short, and another for every other setup."""
        return f"{self.estimator}-{_digest(json.dumps(self.settings))}"

    def model(self, device: str) -> nn.Module:
        """With the weights that the seed gives."""
        torch.manual_seed(self.seed)
        make = self.published.make if self.size == "published" else self.published.small
        return make().to(device)

    def sets(self) -> Sets:
        folder = None if self.data is None else Path(self.data)
        return _sets(folder, self.keypoints, self.subjects, self.fraction, self.seed)


@dataclass(frozen=True)
class Run:
    """All that a run's numbers hinge on, but for code and machine.

    Attributes:
        config: the plugin's; None: the plain estimator trains on.
        best: also test after every round, for `BEST`.
    """

    setup: Setup
    config: PoseAugConfig | None
    epochs: int = 50
    best: bool = False

    def __post_init__(self) -> None:
        if self.epochs <= WARMUP:
            raise ValueError(f"epochs={self.epochs}: more than the warm-up's {WARMUP} are needed")

    @property
    def key(self) -> str:
        """All of it as JSON: what a file of results knows a run by."""
        return json.dumps({**asdict(self), "setup": self.setup.settings})

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.setup.estimator}-{_digest(self.key)}"

    @property
    def rounds(self) -> int:
        """Of the loader, in the second phase."""
        twice = self.config is not None and self.config.mix in TWICE
        return self.epochs if twice else 2 * (self.epochs - WARMUP)


class Batches:
    """Training rows (pose_3d, pose_2d, row number, camera) in an order that a seed gives.

    Poses are (B, 16, C), or (B, T, 16, C) for estimators of T frames.

    Raises:
        ValueError: fewer rows than a batch takes.
    """

    def __init__(self, data: Sets, setup: Setup, device: str) -> None:
        if setup.batch_size > len(data.rows):
            raise ValueError(f"{len(data.rows)} rows make no batch of {setup.batch_size}")
        pairs = data.train
        self._fields = [x.to(device) for x in (pairs.pose_3d, pairs.pose_2d, pairs.camera)]
        self._around = windows(pairs, setup.published.frames).to(device)
        self._rows, self._size = data.rows, setup.batch_size
        self._order = torch.Generator().manual_seed(setup.seed)

    def __len__(self) -> int:
        return len(self._rows) // self._size

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self._rows), generator=self._order)
        yield from map(self.batch, self._rows[order].split(self._size)[: len(self)])

    def batch(self, rows: Tensor) -> Batch:
        """Of these rows of the training set."""
        pose_3d, pose_2d, camera = self._fields
        rows = rows.to(camera.device)
        seen = self._around[rows].squeeze(1)
        return pose_3d[seen], pose_2d[seen], rows, camera[rows]

    def sample(self) -> Batch:
        """Some of the rows, the same each time, as one batch."""
        order = torch.randperm(len(self._rows), generator=torch.Generator().manual_seed(0))
        return self.batch(self._rows[order[:SAMPLE]])

    def state_dict(self) -> dict[str, Tensor]:
        return {"order": self._order.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._order.set_state(state["order"])


# The two phases


def pretrain(
    setup: Setup, out: Path, device: str = "cpu", tick: Tick = lambda _: None
) -> dict[str, Any]:
    """The pre-trained weights, their scores and seconds; from `out` if they are there already."""
    file = out / "pretrained" / f"{setup.name}.pt"
    if not file.exists():
        data = setup.sets()
        model, batches = setup.model(device), Batches(data, setup, device)
        optimizer = Adam(model.parameters(), lr=setup.published.lr)
        schedule = LambdaLR(optimizer, lambda done: 0.96 ** (done // 100_000))
        phase = Phase(file, model, optimizer, schedule, batches=batches)
        phase.go(batches, setup.pretrain * len(batches), tick)
        tests = _scores(model, data.tests, setup, device)
        phase.finish({"model": model.state_dict(), "tests": tests, "seconds": phase.seconds})
    found: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
    return found


def train(run: Run, out: Path, device: str = "cpu", tick: Tick = lambda _: None) -> dict[str, Any]:
    """The second phase and then the tests; goes on where an interrupted run was left.

    Args:
        out: keeps the pre-trained weights; a checkpoint after each round of the loader; in the end
            the weights and, as `made`, what the augmentor does to a sample of the rows.

    Returns:
        Settings; scores of the pre-trained and of the last weights; updates, seconds, rows.
    """
    setup, data = run.setup, run.setup.sets()
    start = pretrain(setup, out, device)
    model, batches = setup.model(device), Batches(data, setup, device)
    model.load_state_dict(start["model"])
    updates = 2 * len(batches) * (run.epochs - WARMUP)
    optimizer = Adam(model.parameters(), lr=setup.published.lr_poseaug)
    schedule = LambdaLR(optimizer, lambda done: 1 - done / updates)
    phase = Phase(out / "runs" / f"{run.name}.pt", model, optimizer, schedule, batches=batches)

    train_loader, augmenter = batches, None
    if run.config is not None:
        with warnings.catch_warnings():  # the published passes, BatchNorm and all
            warnings.filterwarnings("ignore", message="mix=")
            augmenter = PoseAugmenter(model, optimizer, "poseaug", run.rounds, config=run.config)
        train_loader = augmenter.wrap(train_loader)
        phase.parts["augmenter"] = augmenter

    test = functools.partial(_scores, model, data.tests, setup, device)
    phase.go(train_loader, updates, tick, test if run.best else None)
    record = {
        "settings": json.loads(run.key),
        "tests": test(),
        **({BEST: phase.best} if run.best else {}),
        "pretrained": start["tests"],
        "updates": updates,
        "seconds": {"pretrain": start["seconds"], "train": phase.seconds},
        "rows": {"training": len(data.rows), **{name: len(t) for name, t in data.tests.items()}},
        "missing": {
            k: how.replace(str(setup.data), "the folder") for k, how in data.missing.items()
        },
        "stats": augmenter.stats() if augmenter else {},
    }
    made = _made(augmenter, batches.sample()) if augmenter else None
    phase.finish({"model": model.state_dict(), "made": made})
    return record


def _made(augmenter: PoseAugmenter, batch: Batch) -> dict[str, Tensor]:
    """Augmented pairs of a batch, those that a camera could have taken; windows' centre frames."""
    poses, good, _ = augmenter.preview(batch)
    made = {
        "pose_3d": centre(poses.absolute),
        "pose_2d": centre(poses.pose_2d),
        "camera": poses.camera,
    }
    return {name: field[good].cpu() for name, field in made.items()}


@torch.no_grad()
def _scores(model: nn.Module, tests: Mapping[str, Pairs], setup: Setup, device: str) -> Scores:
    """What `metrics.report` says of root-relative poses, in evaluation mode, without flips."""
    model.eval()
    made = {}
    for name, pairs in tests.items():
        pose_2d = pairs.pose_2d.to(device)
        around = windows(pairs, setup.published.frames).to(device).split(4096)
        answers = torch.cat([model(pose_2d[seen.squeeze(1)]).cpu() for seen in around])
        made[name] = report(answers.view_as(pairs.pose_3d), pairs.root_relative)
    return made


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@functools.lru_cache(maxsize=2)
def _sets(
    folder: Path | None, keypoints: str, subjects: tuple[str, ...], fraction: float, seed: int
) -> Sets:
    return sets(folder, keypoints=keypoints, subjects=list(subjects), fraction=fraction, seed=seed)
