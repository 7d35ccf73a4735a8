"""What is built once the skeleton is known: the sampler, and what learns beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .augment.sampler import Sampler
from .augment.target import Target
from .config import PoseAugConfig
from .geometry.skeleton import Skeleton

if TYPE_CHECKING:
    from .adversarial.trainer import Trainer
    from .adversarial.widening import Widening
    from .augment.lifting import Lifting

__all__ = ["Engine"]


class Engine:
    """The sampler of an augmenter, and everything that learns beside it.

    Args:
        skeleton: the joints of the poses.
        config: all options.
        device: the estimator's device. Sampling and training run on it.
        target: unlabelled 2D poses from where the model will be used.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        config: PoseAugConfig,
        device: torch.device,
        target: Target | None = None,
    ) -> None:
        self.trainer: Trainer | None = None
        self.widening: Widening | None = None
        self.lifting: Lifting | None = None
        with torch.inference_mode(False):  # networks made in inference mode cannot be trained
            self.sampler = Sampler(skeleton, config, device, target)
            if config.trains:
                from .adversarial.trainer import Trainer  # `default` and `random` never import it

                self.trainer = Trainer(self.sampler)
            if self.sampler.own_views is not None:
                from .adversarial.widening import Widening

                hardness = config.widen_views or 0.0
                self.widening = Widening(self.sampler, self.sampler.own_views, hardness)
            if config.lifts:
                from .augment.lifting import Lifting

                self.lifting = Lifting(self.sampler)

    @property
    def learners(self) -> list[Trainer | Widening | Lifting]:
        """All that is updated after a step of the caller's optimizer."""
        learners = self.trainer, self.widening, self.lifting
        return [learner for learner in learners if learner is not None]

    def on(self, device: torch.device) -> Engine:
        """Return the engine itself if it is on the device, else a copy of it there."""
        if device == self.sampler.device:
            return self
        moved = Engine(self.sampler.skeleton, self.sampler.config, device)
        moved.load_state_dict(self.state_dict())
        return moved

    def state_dict(self) -> dict[str, Any]:
        """The states of the sampler and of all learners."""
        return {
            "sampler": self.sampler.state_dict(),
            "trainer": None if self.trainer is None else self.trainer.state_dict(),
            "widening": None if self.widening is None else self.widening.state_dict(),
            "lifting": None if self.lifting is None else self.lifting.state_dict(),
        }

    def example_state(self) -> dict[str, Any]:
        """A state with every entry that training can add, to compare a saved state with.

        Do not use the engine afterwards.
        """
        for learner in (self.trainer, self.widening):
            if learner is not None:
                learner.complete()
        state = self.state_dict()
        state["sampler"]["detected"] = True
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict()` returned."""
        self.sampler.load_state_dict(state["sampler"])
        if self.trainer is not None:
            self.trainer.load_state_dict(state["trainer"])
        if self.widening is not None:
            self.widening.load_state_dict(state["widening"])
        if self.lifting is not None:
            self.lifting.load_state_dict(state["lifting"])
