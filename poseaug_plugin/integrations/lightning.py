"""A callback for Lightning: `Trainer(callbacks=[PoseAugCallback(batch="semgcn")])`."""

from __future__ import annotations

from typing import Any

try:
    from lightning.pytorch import Callback
except ImportError:  # the same under its other name
    from pytorch_lightning import Callback  # type: ignore[assignment, unused-ignore]

from ..plugin import PoseAugmenter
from . import attached, checked

__all__ = ["PoseAugCallback"]


class PoseAugCallback(Callback):  # type: ignore[misc, unused-ignore]
    """`PoseAugmenter` for a fit: batches on their way in, state in checkpoints.

    Batches are augmented as `training_step` would get them: on the device, behind the data hooks.
    The model is the whole LightningModule, asked as `module(pose_2d)`, or as `predict` says; the
    optimizer the first of its optimizers.

    Args:
        batch: as for `PoseAugmenter`.
        **options: the rest of its arguments, but model, optimizer and epochs.

    Raises:
        ConfigError: an option that it does not take, or an unknown format or config.
    """

    def __init__(self, batch: Any = None, **options: Any) -> None:
        self.options = checked(batch=batch, **options)
        self.augmenter: PoseAugmenter | None = None
        self._saved: dict[str, Any] | None = None
        self._fitting = False

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._fitting = stage == "fit"

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        optimizer, epochs = trainer.optimizers[0], trainer.max_epochs
        saved, self._saved = self._saved, None
        if saved is None and self.augmenter is not None and trainer.current_epoch:
            saved = self.augmenter.state_dict()  # the trainer goes on, with more epochs
        augmenter = attached(pl_module, optimizer, epochs, self.options, saved)
        move = trainer.strategy.batch_to_device
        # A callback may look at a batch but not exchange it: the strategy hands it on.
        trainer.strategy.batch_to_device = lambda *args, **named: augmenter(move(*args, **named))
        self.augmenter = augmenter

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self.augmenter is not None:
            self.augmenter.end_epoch()

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        if self.augmenter is not None:
            self.augmenter.detach()
            vars(trainer.strategy).pop("batch_to_device", None)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.on_fit_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.augmenter is None else self.augmenter.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._fitting:  # a checkpoint that is validated comes the same way
            self._saved = state_dict
