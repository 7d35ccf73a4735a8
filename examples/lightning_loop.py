"""A LightningModule and a LightningDataModule with PoseAug: one callback.

    python examples/lightning_loop.py
    python examples/lightning_loop.py --accelerator cpu --devices 2

Validation batches are not augmented. Checkpoints hold the augmenter's state, and the logger gets
its numbers as `poseaug/...`.
"""

from __future__ import annotations

import argparse
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from poseaug_plugin.data import Pairs, load
from poseaug_plugin.integrations.lightning import PoseAugCallback
from poseaug_plugin.lifters import SimpleBaseline
from poseaug_plugin.metrics import mpjpe

Batch = tuple[Tensor, Tensor]  # root-relative 3D, 2D


class PoseData(pl.LightningDataModule):  # type: ignore[misc, unused-ignore]
    """Training pairs, in-domain pairs for validation, cross-dataset pairs for the test."""

    def __init__(self, folder: str | None, batch_size: int, rows: int | None) -> None:
        super().__init__()
        self.folder, self.batch_size, self.rows = folder, batch_size, rows

    def setup(self, stage: str) -> None:
        train, self.val, self.test = load(self.folder)
        chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
        self.train = train[chosen[: self.rows]]

    def loader(self, pairs: Pairs, **options: Any) -> DataLoader[Batch]:
        rows: Any = list(zip(pairs.root_relative, pairs.pose_2d))
        return DataLoader(rows, self.batch_size, **options)

    def train_dataloader(self) -> DataLoader[Batch]:
        return self.loader(self.train, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self.loader(self.val)

    def test_dataloader(self) -> DataLoader[Batch]:
        return self.loader(self.test)


class Lifting(pl.LightningModule):  # type: ignore[misc, unused-ignore]
    """A lifter with its loss and metric."""

    def __init__(self) -> None:
        super().__init__()
        self.lifter = SimpleBaseline()

    def forward(self, pose_2d: Tensor) -> Tensor:
        return self.lifter(pose_2d)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        targets_3d, inputs_2d = batch
        return (self(inputs_2d) - targets_3d).square().mean()

    def validation_step(self, batch: Batch, index: int) -> None:
        self.measure("in-domain", batch)

    def test_step(self, batch: Batch, index: int) -> None:
        self.measure("cross-dataset", batch)

    def measure(self, name: str, batch: Batch) -> None:
        targets_3d, inputs_2d = batch
        error = mpjpe(self(inputs_2d), targets_3d)
        self.log(f"{name} MPJPE", error, batch_size=len(inputs_2d), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help="folder of Human3.6M's files (default: synthetic motion)")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=256, help="rows of each process")
    parser.add_argument("--rows", type=int, help="number of random training rows (default: all)")
    parser.add_argument("--config", default="default", help="preset of the plugin")
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--devices", type=int, default=1)
    args = parser.parse_args(argv)
    pl.seed_everything(0, verbose=False)
    callback = PoseAugCallback(batch=dict(pose_3d=0, pose_2d=1), config=args.config)
    trainer = pl.Trainer(
        max_epochs=args.epochs,
        accelerator=args.accelerator,
        devices=args.devices,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
    )
    module, data = Lifting(), PoseData(args.data, args.batch_size, args.rows)
    trainer.fit(module, data)
    trainer.test(module, data)
    stats = {} if callback.augmenter is None else callback.augmenter.stats()
    if trainer.is_global_zero:
        print(f"{trainer.world_size} processes; {stats}")
    return stats


if __name__ == "__main__":
    main()
