"""The sampler, and beside it what learns, where something does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .augment.sampler import Sampler
from .config import PoseAugConfig
from .geometry.skeleton import Skeleton

if TYPE_CHECKING:
    from .adversarial.trainer import Trainer

__all__ = ["Engine"]


class Engine:
    """All that an augmenter has once it knows its skeleton.

    Args:
        device: where it works; the estimator's.
    """

    def __init__(self, skeleton: Skeleton, config: PoseAugConfig, device: torch.device) -> None:
        self.sampler = Sampler(skeleton, config, device)
        self.trainer: Trainer | None = None
        if config.trains:
            from .adversarial.trainer import Trainer  # `default` and `random` never load it

            self.trainer = Trainer(self.sampler)

    def on(self, device: torch.device) -> Engine:
        """Itself, or its like on the device to which the estimator has moved."""
        if device == self.sampler.device:
            return self
        moved = Engine(self.sampler.skeleton, self.sampler.config, device)
        moved.load_state_dict(self.state_dict())
        return moved

    def state_dict(self) -> dict[str, Any]:
        return {
            "sampler": self.sampler.state_dict(),
            "trainer": None if self.trainer is None else self.trainer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sampler.load_state_dict(state["sampler"])
        if self.trainer is not None:
            self.trainer.load_state_dict(state["trainer"])
