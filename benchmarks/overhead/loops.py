"""What the overhead benchmark runs: a training loop, plain and with the plugin; its insides."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from poseaug_plugin import PoseAugConfig, PoseAugmenter, PoseAugWarning
from poseaug_plugin.adversarial.discriminators import DISCRIMINATORS, DiscriminatorInput
from poseaug_plugin.adversarial.trainer import Trainer
from poseaug_plugin.augment.pose_statistics import YOUNG
from poseaug_plugin.augment.sampler import Sampler
from poseaug_plugin.augment.view_statistics import ENOUGH
from poseaug_plugin.batches.protocol import EstimatorFormat
from poseaug_plugin.data import Batch, Pairs, endless, make_loader
from poseaug_plugin.geometry.bones import Bones
from poseaug_plugin.geometry.pose_batch import PoseBatch
from poseaug_plugin.lifters import SimpleBaseline, VideoPose
from poseaug_plugin.loop.estimator import Estimator
from poseaug_plugin.loop.loader import DOUBLING_MIXES
from poseaug_plugin.schedule import EpochSchedule

from ..training import train_step

__all__ = ["LOADERS", "MODELS", "YOUNG", "Inside", "Loop", "block", "on_device", "steady"]

MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp256": lambda: SimpleBaseline(width=256),
    "mlp1024": lambda: SimpleBaseline(width=1024),
    "videopose1024": lambda: VideoPose(width=1024),
}


def _collated(pairs: Pairs, rows: int) -> DataLoader[Batch]:
    data = TensorDataset(pairs.pose_3d, pairs.pose_2d, torch.arange(len(pairs)), pairs.camera)
    return DataLoader(data, batch_size=rows, shuffle=True, drop_last=True)  # type: ignore[arg-type]


LOADERS = {"sliced": make_loader, "collated": _collated}


def steady(preset: str, seed: int = 0) -> PoseAugConfig | None:
    """A preset past its warm-up: feedback counts from the first turn. None for plain.

    "residual" is the default with its adversarial part switched on.
    """
    if preset == "plain":
        return None
    config = PoseAugConfig.default(learned=True) if preset == "residual" else preset
    return PoseAugConfig.of(config).replace(warmup=0, seed=seed)


def block(presets: Sequence[str]) -> int:
    """Optimizer steps after which every preset has done all that it does, whole times over."""
    made = [steady(preset) for preset in presets]
    # These hand out each batch twice, and take their turn at the first of the two.
    learning = [(c, 1 + (c.mix in DOUBLING_MIXES)) for c in made if c and c.trains]
    return math.lcm(*(c.update_every * c.d_every * twice for c, twice in learning))


def on_device(pairs: Pairs, device: str, rows: int) -> Pairs:
    """On the device; over and over where there are fewer than `rows`."""
    pairs = pairs[torch.arange(max(rows, len(pairs))) % len(pairs)]
    moved = {name: getattr(pairs, name).to(device) for name in ("pose_2d", "pose_3d", "camera")}
    return replace(pairs, **moved)


def attached(
    model: nn.Module, optimizer: torch.optim.Optimizer, config: PoseAugConfig, report: bool = False
) -> PoseAugmenter:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PoseAugWarning)  # of BatchNorm and "alternate"
        return PoseAugmenter(model, optimizer, "poseaug", config=config, report=report)


class Loop:
    """The quickstart's training loop, which can be left and gone on with.

    Args:
        config: the plugin's; None for the plain loop.
        make: the loader's maker.
        report: as for the plugin.
    """

    def __init__(
        self,
        pairs: Pairs,
        rows: int,
        model: nn.Module,
        device: str,
        config: PoseAugConfig | None,
        make: Callable[[Pairs, int], DataLoader[Batch]] = make_loader,
        report: bool = False,
    ) -> None:
        self.model = model.to(device).train()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        loader = make(pairs, rows)
        if config:
            self.augmenter = attached(self.model, self.optimizer, config, report)
            first = next(iter(loader))  # is checked, which takes its time
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PoseAugWarning)  # of a report without a step
                for _ in range(YOUNG + 1):  # until the pose statistics are refreshed less often
                    self.augmenter(first)
            fill_pools(self.augmenter, pairs)
            loader = self.augmenter.wrap(loader)
        self.batches = endless(loader)

    def load(self, batches: int) -> None:
        for _ in range(batches):
            next(self.batches)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            train_step(self.model, self.optimizer, next(self.batches))


@dataclass
class Inside:
    """The plugin's insides after one batch, to be called one by one. The one place that knows them.

    Attributes:
        poses: the whole batch, (B, 1, J, ...).
        few: the rows of it that a turn looks at.
    """

    augmenter: PoseAugmenter
    batch: tuple[Tensor, ...]
    sampler: Sampler
    trainer: Trainer | None
    estimator: Estimator
    fmt: EstimatorFormat
    schedule: EpochSchedule
    poses: PoseBatch
    few: PoseBatch

    @classmethod
    def of(
        cls, pairs: Pairs, rows: int, model: nn.Module, device: str, config: PoseAugConfig
    ) -> Inside:
        model = model.to(device).train()
        optimizer = torch.optim.Adam(model.parameters())
        augmenter = attached(model, optimizer, config)
        few = pairs[:rows]
        batch = (few.pose_3d, few.pose_2d, torch.arange(rows), few.camera)
        augmenter(batch)
        fill_pools(augmenter, pairs)
        poses, engine = augmenter._read(batch)
        return cls(
            augmenter,
            batch,
            engine.sampler,
            engine.trainer,
            augmenter._estimator,
            cast(EstimatorFormat, augmenter._reader.format),
            augmenter._schedule,
            poses,
            poses.first(config.update_rows),
        )

    def update(self) -> None:
        assert self.trainer is not None
        with self.estimator.untouched():
            self.trainer.update(self.few, self.estimator, self.fmt, self.schedule)


def fill_pools(augmenter: PoseAugmenter, pairs: Pairs) -> None:
    """As after some hundred steps: fitted ranges are final; while a pool fills up it costs less."""
    assert augmenter._engine is not None
    augmenter._engine.sampler.view_statistics.rows = ENOUGH
    trainer = augmenter._trainer
    if trainer is None:
        return
    given = DiscriminatorInput(Bones.of(pairs.root_relative, trainer.skeleton), pairs.pose_2d)
    for name, pool in trainer.pools.items():
        seen = DISCRIMINATORS[name].view(given)
        chosen = seen[torch.arange(pool.size) % len(pairs)]
        pool(chosen.to(trainer.device), trainer.sampler.generator)
