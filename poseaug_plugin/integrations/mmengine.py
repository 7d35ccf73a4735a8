"""A hook for mmengine's Runner, and so for mmpose.

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
from . import attached, checked

__all__ = ["PoseAugHook"]


@HOOKS.register_module()  # type: ignore[untyped-decorator, unused-ignore]
class PoseAugHook(Hook):  # type: ignore[misc, unused-ignore]
    """`PoseAugmenter` for a Runner: batches on their way in, state in checkpoints.

    Args:
        batch: as for `PoseAugmenter`.
        **options: the rest of its arguments, but model, optimizer and epochs. `predict` is by
            default mmpose's `model(inputs, None, mode="tensor")`.

    Raises:
        ConfigError: an option that it does not take, or an unknown format or config.
    """

    def __init__(self, batch: Any = "mmpose", **options: Any) -> None:
        self.options = checked(**{"batch": batch, "predict": _tensor, **options})
        self.augmenter: PoseAugmenter | None = None
        self._saved: dict[str, Any] | None = None

    def before_train(self, runner: Any) -> None:
        self.after_train(runner)  # an earlier run may have failed
        saved, self._saved = self._saved, None
        self.augmenter = attached(
            runner.model, runner.optim_wrapper, runner.max_epochs, self.options, saved
        )

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        # The batch itself goes on to train_step, so it is changed in place; its fields are new.
        if self.augmenter is None:
            return
        if isinstance(data_batch, dict):
            data_batch.update(self.augmenter(data_batch))
        elif isinstance(data_batch, list):
            data_batch[:] = self.augmenter(data_batch)
        else:
            raise BatchError(
                f"mmengine hands on a {type(data_batch).__name__}, which cannot be changed; let "
                "the collate function make a dict or a list."
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
        if runner._resume:  # weights alone, to be trained anew, come the same way
            self._saved = checkpoint.get("poseaug")


def _tensor(model: nn.Module, inputs: Tensor) -> Any:
    return model(inputs, None, mode="tensor")
