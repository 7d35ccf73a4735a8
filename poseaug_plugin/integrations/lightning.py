"""Lightning: `Trainer(callbacks=[PoseAugCallback(batch="semgcn")])`."""

from __future__ import annotations

from typing import Any

try:
    from lightning.pytorch import Callback
except ImportError:  # the older package name
    from pytorch_lightning import Callback  # type: ignore[assignment, unused-ignore]

from ..plugin import PoseAugmenter
from . import attach, check_options

__all__ = ["PoseAugCallback"]


class PoseAugCallback(Callback):  # type: ignore[misc, unused-ignore]
    """Augments the batches of a fit, and keeps the augmenter's state in checkpoints.

    Batches are augmented just before `training_step`: on the device, after the data hooks. The
    model is the LightningModule; feedback, `widen_views` and `target_2d` call it as
    `module(pose_2d)`, or as `predict` says. The optimizer is the first of the trainer's optimizers.

    Args:
        batch: as for `PoseAugmenter`.
        log: log `stats()` as `poseaug/...`, as often as the trainer logs (`log_every_n_steps`).
        **options: the other arguments of `PoseAugmenter`, except model, optimizer and epochs, which
            come from Lightning.

    Attributes:
        augmenter: the `PoseAugmenter`, or None before the first fit.

    Raises:
        ConfigError: an option, the batch format or the config is unknown.
    """

    def __init__(self, batch: Any = None, log: bool = True, **options: Any) -> None:
        self.logs = log
        self.options = check_options(batch=batch, **options)
        self.augmenter: PoseAugmenter | None = None
        self._saved: dict[str, Any] | None = None
        self._fitting = False

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._fitting = stage == "fit"

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        optimizer, epochs = trainer.optimizers[0], trainer.max_epochs
        saved, self._saved = self._saved, None
        if saved is None and self.augmenter is not None and trainer.current_epoch:
            saved = self.augmenter.state_dict()  # fit() again, with more epochs
        augmenter = attach(pl_module, optimizer, epochs, self.options, saved)
        move = trainer.strategy.batch_to_device
        # Callbacks cannot replace a batch, so the strategy's method that moves it is replaced.
        trainer.strategy.batch_to_device = lambda *args, **named: augmenter(move(*args, **named))
        self.augmenter = augmenter

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *of_the_batch: Any) -> None:
        due = trainer.log_every_n_steps if self.logs and trainer.loggers else 0
        if due and self.augmenter is not None and trainer.global_step % due == 0:
            stats = {f"poseaug/{name}": value for name, value in self.augmenter.stats().items()}
            pl_module.log_dict(stats, on_step=True, on_epoch=False, batch_size=1)

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
        if self._fitting:  # not when a checkpoint is loaded for validation
            self._saved = state_dict
