"""The published training protocol: pre-train an estimator, then continue with PoseAug.

Details that the paper does not specify follow the published code:

- Pre-training: mean squared error of root-relative poses, Adam at the estimator's learning rate,
  multiplied by 0.96 every 100,000 updates, gradients clipped to norm 1.
- Second phase: the pre-trained weights, a new Adam with a learning rate that falls linearly to 0,
  the same loss and clipping. In the published code the estimator is frozen for `WARMUP` epochs. In
  each later epoch it is trained once on the augmented and once on the real pairs.

**All methods get the same number of updates.** With n batches in an epoch, the second phase has
2n (epochs - WARMUP) updates of the estimator. The mixes "alternate" and "passes" yield each batch
twice, so they take about `epochs` passes of the loader. During the augmentor's warm-up the
estimator is trained on the real pairs, which counts. All other methods take 2 (epochs - WARMUP)
passes, and so does the plain estimator, whose training continues as well. The last incomplete batch
is dropped.

The last weights are tested. The published code selects the best epoch on the test set. This is
available as an additional result with its own name, `BEST`.
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
from poseaug_plugin.data import TRAIN, Batch, Pairs
from poseaug_plugin.loop.loader import DOUBLING_MIXES
from poseaug_plugin.metrics import report

from ..parallel import OnProgress
from ..training import centre_frame, predict, window_rows
from .datasets import Datasets, load_datasets
from .published_lifters import ESTIMATORS, PublishedLifter
from .resumable_training import ResumableTraining, Scores

__all__ = [
    "BEST",
    "BUDGETS",
    "WARMUP",
    "Budget",
    "Run",
    "Setup",
    "WindowBatches",
    "pretrain",
    "train",
]

BEST = "best-on-test, as the published code reports it"
WARMUP = 2  # epochs of the second phase in which only the augmentor is trained
SAMPLE = 4000  # augmented pairs saved with a run


@dataclass(frozen=True)
class Budget:
    """Size and length of training.

    Attributes:
        size: Size of the estimator: as published, or the same architecture with fewer channels.
        pretrain: Epochs of pre-training.
        epochs: Epochs of the second phase, warm-up included.
        batch_size: Rows per update.
        fraction: Share of the training rows.
    """

    size: Literal["published", "small"]
    pretrain: int
    epochs: int
    batch_size: int
    fraction: float


BUDGETS = {
    "paper": Budget("published", 50, 50, 1024, 1.0),
    "small": Budget("small", 30, 10, 1024, 0.25),  # pre-training is shared by all methods
    "tiny": Budget("small", 1, 4, 64, 0.01),  # only for tests
}


@dataclass(frozen=True)
class Setup:
    """Everything that pre-trained weights depend on, except code and machine."""

    estimator: str = "mlp"
    data: str | None = None  # folder, None for synthetic motion
    keypoints: str = "gt"
    subjects: tuple[str, ...] = TRAIN
    seed: int = 0
    size: Literal["published", "small"] = "published"
    pretrain: int = 50
    batch_size: int = 1024
    fraction: float = 1.0

    @property
    def lifter(self) -> PublishedLifter:
        return ESTIMATORS[self.estimator]

    @property
    def settings(self) -> dict[str, Any]:
        """All settings. Only the folder's name is included, its path depends on the machine."""
        return {**asdict(self), "data": self.data and Path(self.data).name}

    @property
    def name(self) -> str:
        """Name of the file of pre-trained weights, unique to the settings."""
        return f"{self.estimator}-{_digest(json.dumps(self.settings))}"

    def model(self, device: str) -> nn.Module:
        """Create the model with initial weights from the seed."""
        torch.manual_seed(self.seed)
        make = self.lifter.make if self.size == "published" else self.lifter.small
        return make().to(device)

    def load_datasets(self) -> Datasets:
        folder = None if self.data is None else Path(self.data)
        return _load_datasets(folder, self.keypoints, self.subjects, self.fraction, self.seed)


@dataclass(frozen=True)
class Run:
    """Everything that the numbers of a run depend on, except code and machine.

    Attributes:
        setup: Settings of the pre-training.
        config: The plugin's config. None continues training without the plugin.
        epochs: Epochs of the second phase, warm-up included.
        best: Also test after every pass, for `BEST`.
    """

    setup: Setup
    config: PoseAugConfig | None
    epochs: int = 50
    best: bool = False

    def __post_init__(self) -> None:
        if self.epochs <= WARMUP:
            raise ValueError(
                f"epochs={self.epochs}, expected more than the {WARMUP} epochs of warm-up"
            )

    @property
    def key(self) -> str:
        """All settings as JSON. It identifies the run in a file of results."""
        return json.dumps({**asdict(self), "setup": self.setup.settings})

    @property
    def name(self) -> str:
        """Name of the file of the run."""
        return f"{self.setup.estimator}-{_digest(self.key)}"

    @property
    def passes(self) -> int:
        """Passes of the loader in the second phase."""
        twice = self.config is not None and self.config.mix in DOUBLING_MIXES
        return self.epochs if twice else 2 * (self.epochs - WARMUP)


class WindowBatches:
    """Batches (pose_3d, pose_2d, row number, camera) in an order that depends only on the seed.

    Poses are (B, 16, C), or (B, T, 16, C) for estimators of T frames.

    Raises:
        ValueError: There are fewer rows than the batch size.
    """

    def __init__(self, data: Datasets, setup: Setup, device: str) -> None:
        if setup.batch_size > len(data.rows):
            raise ValueError(
                f"{len(data.rows)} rows are fewer than the batch size {setup.batch_size}"
            )
        pairs = data.train
        self._fields = [x.to(device) for x in (pairs.pose_3d, pairs.pose_2d, pairs.camera)]
        self._windows = window_rows(pairs, setup.lifter.frames).to(device)
        self._rows, self._size = data.rows, setup.batch_size
        self._order = torch.Generator().manual_seed(setup.seed)

    def __len__(self) -> int:
        return len(self._rows) // self._size

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self._rows), generator=self._order)
        yield from map(self.batch, self._rows[order].split(self._size)[: len(self)])

    def batch(self, rows: Tensor) -> Batch:
        """Batch of the given rows of the training set."""
        pose_3d, pose_2d, camera = self._fields
        rows = rows.to(camera.device)
        frames = self._windows[rows].squeeze(1)
        return pose_3d[frames], pose_2d[frames], rows, camera[rows]

    def sample(self) -> Batch:
        """One batch of up to `SAMPLE` rows, the same each time."""
        order = torch.randperm(len(self._rows), generator=torch.Generator().manual_seed(0))
        return self.batch(self._rows[order[:SAMPLE]])

    def state_dict(self) -> dict[str, Tensor]:
        return {"order": self._order.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._order.set_state(state["order"])


# The two phases


def pretrain(
    setup: Setup, out: Path, device: str = "cpu", on_progress: OnProgress = lambda _: None
) -> dict[str, Any]:
    """Pre-train, or load the result from `out` if it exists: weights, scores and seconds."""
    file = out / "pretrained" / f"{setup.name}.pt"
    if not file.exists():
        data = setup.load_datasets()
        model, batches = setup.model(device), WindowBatches(data, setup, device)
        optimizer = Adam(model.parameters(), lr=setup.lifter.lr)
        schedule = LambdaLR(optimizer, lambda done: 0.96 ** (done // 100_000))
        training = ResumableTraining(file, model, optimizer, schedule, batches=batches)
        training.run(batches, setup.pretrain * len(batches), on_progress)
        tests = _scores(model, data.tests, setup, device)
        training.finish({"model": model.state_dict(), "tests": tests, "seconds": training.seconds})
    result: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
    return result


def train(
    run: Run, out: Path, device: str = "cpu", on_progress: OnProgress = lambda _: None
) -> dict[str, Any]:
    """Run the second phase and the tests. An interrupted run is resumed.

    Args:
        run: Settings of the run.
        out: Folder of pre-trained weights, checkpoints and results. The result has the last weights
            and, as `augmented`, a sample of augmented pairs.
        device: Device of the training.
        on_progress: Called with the share of updates done since the last call.

    Returns:
        Settings, scores of the pre-trained and the last weights, updates, seconds and rows.
    """
    setup, data = run.setup, run.setup.load_datasets()
    pretrained = pretrain(setup, out, device)
    model, batches = setup.model(device), WindowBatches(data, setup, device)
    model.load_state_dict(pretrained["model"])
    updates = 2 * len(batches) * (run.epochs - WARMUP)
    optimizer = Adam(model.parameters(), lr=setup.lifter.lr_poseaug)
    schedule = LambdaLR(optimizer, lambda done: 1 - done / updates)
    file = out / "runs" / f"{run.name}.pt"
    training = ResumableTraining(file, model, optimizer, schedule, batches=batches)

    train_loader, augmenter = batches, None
    if run.config is not None:
        with warnings.catch_warnings():  # BatchNorm sees separate passes, as in the published code
            warnings.filterwarnings("ignore", message="mix=")
            augmenter = PoseAugmenter(model, optimizer, "poseaug", run.passes, config=run.config)
        train_loader = augmenter.wrap(train_loader)
        training.parts["augmenter"] = augmenter

    test = functools.partial(_scores, model, data.tests, setup, device)
    training.run(train_loader, updates, on_progress, test if run.best else None)
    record = {
        "settings": json.loads(run.key),
        "tests": test(),
        **({BEST: training.best} if run.best else {}),
        "pretrained": pretrained["tests"],
        "updates": updates,
        "seconds": {"pretrain": pretrained["seconds"], "train": training.seconds},
        "rows": {"training": len(data.rows), **{name: len(t) for name, t in data.tests.items()}},
        "missing": {
            k: message.replace(str(setup.data), "the folder") for k, message in data.missing.items()
        },
        "stats": augmenter.stats() if augmenter else {},
    }
    augmented = _augment(augmenter, batches.sample()) if augmenter else None
    training.finish({"model": model.state_dict(), "augmented": augmented})
    return record


def _augment(augmenter: PoseAugmenter, batch: Batch) -> dict[str, Tensor]:
    """Augmented pairs of a batch that are fully visible. Windows are reduced to centre frames."""
    poses, accepted, _ = augmenter.preview(batch)
    fields = {
        "pose_3d": centre_frame(poses.absolute),
        "pose_2d": centre_frame(poses.pose_2d),
        "camera": poses.camera,
    }
    return {name: field[accepted].cpu() for name, field in fields.items()}


def _scores(model: nn.Module, tests: Mapping[str, Pairs], setup: Setup, device: str) -> Scores:
    """`metrics.report` of root-relative poses in evaluation mode, without test-time flips."""
    frames = setup.lifter.frames
    return {
        name: report(predict(model, pairs, frames, device), pairs.root_relative)
        for name, pairs in tests.items()
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@functools.lru_cache(maxsize=2)
def _load_datasets(
    folder: Path | None, keypoints: str, subjects: tuple[str, ...], fraction: float, seed: int
) -> Datasets:
    return load_datasets(
        folder, keypoints=keypoints, subjects=list(subjects), fraction=fraction, seed=seed
    )
