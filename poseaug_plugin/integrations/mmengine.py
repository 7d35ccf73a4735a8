"""mmengine's Runner, and with it mmpose.

In a config: `custom_imports = dict(imports="poseaug_plugin.integrations.mmengine")` and
`custom_hooks = [dict(type="PoseAugHook", skeleton="h36m_17")]`.
"""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor, nn

from ..errors import BatchError
from ..plugin import PoseAugmenter
from . import attach, check_options

__all__ = ["PoseAugHook"]


@HOOKS.register_module()  # type: ignore[untyped-decorator, unused-ignore]
class PoseAugHook(Hook):  # type: ignore[misc, unused-ignore]
    """Augments the batches of a Runner's training, and keeps the augmenter's state in checkpoints.

    Args:
        batch: as for `PoseAugmenter`.
        **options: the other arguments of `PoseAugmenter`, except model, optimizer and epochs, which
            come from the Runner. `predict` defaults to mmpose's
            `model(inputs, None, mode="tensor")`.

    Attributes:
        augmenter: the `PoseAugmenter`, or None before training.

    Raises:
        ConfigError: an option, the batch format or the config is unknown.
    """

    def __init__(self, batch: Any = "mmpose", **options: Any) -> None:
        self.options = check_options(**{"batch": batch, "predict": _predict, **options})
        self.augmenter: PoseAugmenter | None = None
        self._saved: dict[str, Any] | None = None

    def before_train(self, runner: Any) -> None:
        self.after_train(runner)  # if an earlier run failed
        saved, self._saved = self._saved, None
        self.augmenter = attach(
            runner.model, runner.optim_wrapper, runner.max_epochs, self.options, saved
        )

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        # The Runner passes the same object to train_step, so its fields are replaced in place.
        if self.augmenter is None:
            return
        if isinstance(data_batch, dict):
            data_batch.update(self.augmenter(data_batch))
        elif isinstance(data_batch, list):
            data_batch[:] = self.augmenter(data_batch)
        else:
            raise BatchError(
                f"the batch is a {type(data_batch).__name__}, whose fields cannot be replaced; let "
                "the collate function return a dict or a list."
            )

    def after_train_epoch(self, runner: Any) -> None:
        if self.augmenter is not None:
            self.augmenter.end_epoch()

    def after_train(self, runner: Any) -> None:
        if self.augmenter is not None:
            self.augmenter.detach()

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        if self.augmenter is not None:
            checkpoint["poseaug"] = self.augmenter.state_dict()

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        if runner._resume:  # not when load_from loads weights for a new run
            self._saved = checkpoint.get("poseaug")


def _predict(model: nn.Module, inputs: Tensor) -> Any:
    return model(inputs, None, mode="tensor")
