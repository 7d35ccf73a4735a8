"""Events for callbacks, and warnings that are each issued once."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .errors import ConfigError, PoseAugWarning

if TYPE_CHECKING:
    from .plugin import PoseAugmenter

__all__ = [
    "BATCHES_TO_JUDGE",
    "BATCHES_WITHOUT_EPOCH",
    "BATCHES_WITHOUT_STEP",
    "FEW_ACCEPTED",
    "FEW_LIFTED",
    "STEPS_WITHOUT_BATCH",
    "UPDATES_TO_JUDGE",
    "WARNINGS",
    "Callback",
    "Event",
    "Notifier",
]

STEPS_WITHOUT_BATCH = 20  # optimizer steps in a row without a new batch before a warning
BATCHES_TO_JUDGE = 20  # batches after which the share of accepted pairs is looked at
FEW_ACCEPTED = 0.1  # a smaller share of accepted pairs gets a warning
UPDATES_TO_JUDGE = 500  # updates after which the share of lifted poses is looked at
FEW_LIFTED = 0.01  # a smaller share of lifted poses gets a warning
BATCHES_WITHOUT_STEP = 200  # batches in a row without an optimizer step before a warning
BATCHES_WITHOUT_EPOCH = 10_000  # batches without the end of an epoch before a warning

#: All warnings. An augmenter issues each of them at most once, "collapse" once for each part.
WARNINGS = {
    "batchnorm": "mix='alternate' is used with a model that has BatchNorm: real and augmented "
    "batches are normalised by their own statistics in training, but by a blend of both in "
    "evaluation, which costs accuracy. Set mix='replace' or mix='append' in config=, or keep "
    "'alternate' to reproduce the paper.",
    "no_root": "the batch has no root position, so the root is fitted to the 2D. Only the 2D "
    "discriminator and the bone-angle feedback use it. If your 3D has the root position, pass "
    "root='absolute' or root='slot' in batch=.",
    "no_camera": "the batch has no root position and no camera, so the root is fitted to the 2D "
    "with the camera passed as camera=, or the default one. Only the 2D discriminator and the "
    "bone-angle feedback use it. If your 3D has the root position, pass root='absolute' or "
    "root='slot' in batch=.",
    "created_again": "the optimizer had another augmenter, which was dropped without detach(). If "
    "the loop creates an augmenter in each epoch, its schedules, statistics and networks start "
    "anew each time: create it once, before the epochs.",
    "no_batches": f"the training loop took {STEPS_WITHOUT_BATCH} optimizer steps without a new "
    "augmented batch: it does not iterate the loader that augmenter.wrap(loader) returned, repeats "
    "batches that it has kept (as itertools.cycle and list do), or has the model in evaluation "
    "mode. Iterate the wrapped loader anew in each epoch, and call model.train() before that. If "
    "these steps are on other data on purpose, all is well.",
    "no_steps": f"{BATCHES_WITHOUT_STEP} batches were augmented without a step of the optimizer "
    "that was passed to PoseAugmenter. Pass optimizer= the one that the loop steps: what "
    "learned=True, widen_views= and target_2d= learn is updated after its steps. If the loop has "
    "made a new optimizer, call detach(), create another PoseAugmenter with that one, and load "
    "this one's state_dict(). If the steps are replayed from a CUDA graph, which calls no hook, "
    "ignore this unless you use one of these options.",
    "no_epochs": f"{BATCHES_WITHOUT_EPOCH:,} batches were augmented and no epoch has ended, so "
    "the schedules (ratio, warm-up, feedback, learning rate) stay at their start. Call "
    "augmenter.end_epoch() after each epoch if the loop calls augmenter(batch) itself, or if its "
    "loader never ends. If your epochs are longer than that, all is well.",
    "many_epochs": "{} epochs have ended, twice the {} of epochs=, so the schedules (ratio, "
    "warm-up, feedback, learning rate) reached their end half-way. Call end_epoch() after each "
    "epoch and not after each batch, and not at all if the loader is wrapped. If the loop iterates "
    "the loader twice per epoch, as for two models, pass twice the number as epochs=. If it goes "
    "on for longer than was planned, all is well.",
    "several_loaders": "several wrapped loaders of different lengths are iterated side by side, "
    "and an epoch is counted whenever the shortest of them ends. If your epochs are those of a "
    "longer one, wrap only that one, and pass the batches of the others to augmenter(batch).",
    "few_accepted": "almost no augmented pair can be used, so training is nearly plain: {} of them "
    "leave the image and {} have a joint nearer than depth=. Leave distance=, focal=, depth= and "
    "image_offset= out of config=, so that they are fitted to your people, or set them so that "
    "people of that size fit into the image (distances are in metres); set frame_height= if the "
    "image is higher. With target_2d, people stand and appear as large as there: check its units. "
    "A scene of several people is used if all of them fit and none comes into contact with "
    "another.",
    "nothing_to_report": "report=True has recorded nothing: {}. Use augmenter.report(loader), "
    "which calls the model itself.",
    "target_few": "the {} poses of target_2d are too few or too much alike: the proportions of the "
    "people there are uncertain {}. Pass a hundred poses or more of different people and moments.",
    "target_strange": "target_2d does not look like the 2D of the training data: its people are "
    "upside down, or its joints are in another order. Use y downwards and the joints of the "
    "training batches, or name them in target_2d=dict(pose_2d=poses, joints_2d=...).",
    "target_same": "target_2d looks like the training data: same proportions, places and sizes. "
    "Pass 2D poses from where the model will be used, or leave it out.",
    "target_positive": "no coordinate of target_2d is negative, as some of the training data are: "
    "the centre of the image seems to be at 0.5 instead of 0. Augmented people stand and appear as "
    "large as there, so pass pixels, with target_2d=dict(pose_2d=poses, screen=(w, h)), or screen "
    "units, which go from -1 to 1 across the image.",
    "target_incomplete": "only {} of the poses of target_2d show three quarters of the joints{}, "
    "and the model does not lift the others: augmented people get proportions, joint positions, "
    "places and sizes from all of them, but poses from these alone. Pass more poses that show the "
    "whole person, or set lifted_poses=0 in config=.",
    "few_lifted": "the model lifts {:.1%} of the poses of target_2d to 3D that fits them, so "
    "hardly any augmented row takes a pose from there. Either it has learned little yet, which "
    'stats()["target_lifted"] will show, or its answers are in another order of joints or other '
    "axes than the 3D of the batch; then pass predict=lambda model, x: ... that converts them, or "
    "set lifted_poses=0 in config=.",
    "doubts": "the first batch is unusual, which may be right: {}.",
    "other_loader": "the first batch of another loader, or of a later epoch, is not what the "
    "format says, and is misread: {}. A loader of another kind must yield what the first one "
    "yields: the same fields, units and frame.",
    "augmented_twice": "augmenter(batch) was called with a batch that is augmented already, and "
    "returns it as it is. Either wrap the loader, or call augmenter(batch), not both.",
    "bad_batch": "a batch is passed on unchanged because it could not be augmented: {}",
    "bad_rows": "{}",
    "collapse": "what is learned has collapsed: {}.",
    "update_failed": "an update of what is learned (networks, ranges of views, lifted poses of "
    "target_2d) failed and was skipped: {}",
}


@dataclass(frozen=True)
class Event:
    """What callbacks receive.

    Args:
        kind: ``"step"`` after each step of the optimizer, ``"epoch"`` after each epoch,
            ``"collapse"`` if one of the plugin's networks collapsed, ``"bad_batch"`` if a batch
            or rows of it could not be augmented, ``"failed_update"`` if an update raised an error.
        augmenter: the augmenter. Its `stats()` waits for the device; the event itself does not.
        message: which network collapsed and why, or why the batch could not be augmented.
    """

    kind: str
    augmenter: PoseAugmenter
    message: str = ""


class Callback(Protocol):
    """Any callable that takes an `Event`."""

    def __call__(self, event: Event, /) -> object: ...


class Notifier:
    """Calls the callbacks, and issues each warning once.

    Raises:
        ConfigError: `callbacks` is not an iterable of callables.
    """

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        if not isinstance(callbacks, Iterable) or not all(map(callable, found := [*callbacks])):
            raise ConfigError(
                f"callbacks={callbacks!r} is not a list of callables; pass e.g. "
                "callbacks=[lambda event: ...]."
            )
        self._callbacks = found
        self._warned: set[tuple[str, str]] = set()

    def emit(self, kind: str, augmenter: PoseAugmenter, message: str = "") -> None:
        """Call every callback with an `Event`."""
        event = Event(kind, augmenter, message)
        for callback in self._callbacks:
            callback(event)

    def warn(self, name: str, *details: object, about: str = "") -> None:
        """Issue the warning of that name in `WARNINGS`, unless it was issued before.

        Args:
            details: what replaces the placeholders in its text.
            about: what it is about. It is issued once for each.
        """
        if (name, about) not in self._warned:
            self._warned.add((name, about))
            message = WARNINGS[name].format(*details)
            warnings.warn(message, PoseAugWarning, stacklevel=_stacklevel())


def _stacklevel() -> int:
    """The `stacklevel` that makes the function calling this one warn at the user's line.

    An optimizer calls its hooks from frames of torch.
    """
    level, frame, passed = 1, sys._getframe(1), (f"{__package__}.", "torch.")
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(passed):
        level, frame = level + 1, frame.f_back
    return level
