"""`PoseAugmenter`: hangs PoseAug on a training loop that stays as it is. Wiring only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor, nn

from .augment.augmentation import Augmentation
from .augment.mixing import TWICE, mixed
from .batches.check import CheckReport
from .batches.presets import format_of
from .batches.protocol import EstimatorFormat, Format, check_learnable
from .batches.reader import Intake
from .batches.windows import Windows
from .checkpoint import restore
from .config import PoseAugConfig
from .counters import Tally
from .engine import Engine
from .errors import AttachError, PoseAugError, WindowError
from .events import NEVER_FED, NEVER_STEPPED, Callback, Voice
from .geometry.camera import Camera
from .geometry.pose_batch import PoseBatch
from .geometry.skeleton import Skeleton
from .loop.distributed import all_agree
from .loop.estimator import Estimator, Predict, exact
from .loop.hooks import Attachment, inner_optimizer
from .loop.loader import Deliveries, WatchedLoader, unwrapped
from .schedule import Curriculum

if TYPE_CHECKING:
    from .adversarial.trainer import Trainer

__all__ = ["PoseAugmenter"]

Loader = TypeVar("Loader")
Batch = TypeVar("Batch")


class PoseAugmenter:
    """PoseAug beside the caller's training loop.

    Args:
        model: the estimator in training; never changed, only asked.
        optimizer: the one whose `step()` trains it; a wrapper's inner optimizer is found.
        batch: how batches look: a format's name, a mapping of field names (`BatchFormat`'s
            arguments), a `BatchFormat`, or an object with the methods of
            `batches.protocol.Format`. None: by shape.
        epochs: length of the run, for curriculum and learning rate. None: no schedule.
        config: a `PoseAugConfig`, a preset's name (default, random, paper, released), or a mapping
            of changes to one, e.g. `dict(preset="random", ratio=0.5)`. None: default.
        skeleton: what `Skeleton.of` takes. None: the preset with that many joints, Human3.6M's
            for 16 and 17.
        camera: assumed where batches carry none.
        predict: how to call the estimator, `predict(model, pose_2d)`; default `model(pose_2d)`.
        callbacks: each called with an `Event`.

    Raises:
        AttachError: the optimizer does not train the model, or has an augmenter already; or an
            argument of another kind.
        ConfigError: an unknown name, or an option out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batch: Format | Mapping[str, Any] | str | None = None,
        epochs: int | None = None,
        *,
        config: PoseAugConfig | Mapping[str, Any] | str | None = None,
        skeleton: Any = None,
        camera: Camera | None = None,
        predict: Predict | None = None,
        callbacks: Iterable[Callback] = (),
    ) -> None:
        if epochs is not None and (not isinstance(epochs, int) or epochs < 1):
            raise AttachError(f"epochs={epochs!r} must be a whole number of 1 or more, or None.")
        if camera is not None and not isinstance(camera, Camera):
            raise AttachError(f"camera={camera!r} must be a Camera(f=..., c=...), or None.")
        self.config = PoseAugConfig.of(config)
        fmt = None if batch is None else format_of(batch)
        if fmt is not None and self._uses_feedback:
            check_learnable(fmt)
        self._intake = Intake(
            fmt,
            None if skeleton is None else Skeleton.of(skeleton),
            camera or Camera(),
        )
        self._voice = Voice(callbacks)
        self._estimator = Estimator(model, predict)
        inner = inner_optimizer(optimizer)
        self._estimator.check_optimizer(inner)
        self._curriculum = Curriculum(epochs, self.config.warmup)
        self._engine: Engine | None = None
        self._pending: PoseBatch | None = None
        self._windows: list[Windows] = []
        self._enabled = True
        self._fresh = False  # whether a batch came by since the last step
        self._tally = Tally()
        self._hook: Attachment | None = Attachment(inner, self._after_step)
        if self.config.mix == "alternate" and self._estimator.has_batchnorm:
            self._voice.warn("batchnorm")

    # On and off

    def enable(self) -> None:
        """Augment and train again after `disable()`."""
        self._enabled = True

    def disable(self) -> None:
        """Hand every batch through untouched and train nothing, until `enable()`."""
        self._enabled = False
        self._pending = None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Disabled inside the block, then as before."""
        before = self._enabled, self._pending
        self.disable()
        try:
            yield
        finally:
            self._enabled, self._pending = before

    def detach(self) -> None:
        """Unhook from the optimizer for good; wrapped loaders hand batches through untouched."""
        self.disable()
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
            for windows in reversed(self._windows):
                windows.undo()

    @property
    def active(self) -> bool:
        """Whether a batch passing now would be augmented: enabled, training, gradients on."""
        return self._on and self._estimator.training and torch.is_grad_enabled()

    @property
    def _on(self) -> bool:
        return self._enabled and self._hook is not None and self.config.augments

    @property
    def _trainer(self) -> Trainer | None:
        return None if self._engine is None else self._engine.trainer

    # Batches

    def wrap(self, loader: Loader) -> Loader:
        """The loader with augmented batches; otherwise what it was: length, attributes, sampler.

        An epoch counts when an iterator that handed out augmented batches is exhausted, or was left
        and another is trained on. A generator of VideoPose3D's kind is made to deliver its windows'
        3D (see `windows`). A wrapped loader is taken out of its old wrap first.

        Raises:
            AttachError: no loader, or mix="passes" over what can be iterated once.
        """
        inner: Any = unwrapped(loader)
        if not any(hasattr(inner, name) for name in ("__iter__", "__getitem__", "next_epoch")):
            raise AttachError(f"{inner!r} cannot be iterated; wrap the loader your loop iterates.")
        windows = Windows.of(inner, self._intake.known_format)
        self._windows += [windows] if windows else []
        deliveries = Deliveries(
            self.config.mix,
            windows.split if windows else lambda batch: (batch, batch),
            self._passed_on,
            self._take_turn,
            lambda: self.active,
            lambda: self._tally.counts["steps"],
            self.end_epoch,
        )
        twice = self.config.mix in TWICE
        return cast(Loader, WatchedLoader(inner, deliveries, lambda: 1 + (twice and self.active)))

    def end_epoch(self) -> None:
        """Count an epoch: for loops that call `augmenter(batch)` and iterate no wrapped loader.

        Without it the schedules of ratio, warm-up and learning rate stand at their start.
        """
        self._curriculum.done += 1
        self._voice.tell("epoch", self)

    def __call__(self, batch: Batch) -> Batch:
        """The batch with augmented rows, per `config.mix`; itself where nothing is to be done.

        Of the mixes that hand on each batch twice this gives the augmented one, `wrap` both.
        The first batch is checked and raises; a batch that goes bad later passes untouched, and so
        does a window of 2D whose 3D motion is not in the batch.

        Raises:
            BatchError, DataError, EstimatorError: on the first batch, before anything changed.
        """
        return self._passed_on(batch, batch)

    def _passed_on(self, batch: Batch, full: Any) -> Batch:
        """`batch` augmented; `full` is the same with all the 3D there is."""
        if not self.active:
            return batch
        self._fresh = True
        try:
            with exact(self._estimator.device):
                return cast(Batch, self._augmented(batch, full))
        except Exception as error:  # whatever it is, a batch must not end a run under way
            under_way = self._intake.checked and self._tally.counts["batches"]
            if not under_way and not isinstance(error, WindowError):
                raise
            self._tally.add("bad_batches")
            told = str(error) if isinstance(error, PoseAugError) else repr(error)
            self._voice.warn("bad_batch", told)
            self._voice.tell("bad_batch", self, told)
            return batch

    def _augmented(self, batch: Any, full: Any) -> Any:
        poses, engine = self._read(full)
        learning_alone = not (self.config.prior or self._curriculum.warm)
        if not learning_alone:
            ratio = self._curriculum.between(self.config.ratios)
            before = self._tally.counts["batches"]
            batch, rows, passed = mixed(
                batch, poses, engine.sampler, self._intake.format, ratio, before
            )
            self._tally.rows(rows, passed)
        batches = self._tally.add("batches")
        if batches == NEVER_STEPPED and not self._tally.counts["steps"]:
            self._voice.warn("never_stepped")
        if self.config.trains:
            self._pending = poses
        return batch

    def _read(self, batch: Any) -> tuple[PoseBatch, Engine]:
        """Poses, and what augments them, both where the estimator is now."""
        poses = self._intake.later(batch) if self._intake.checked else self._first(batch)
        device = self._estimator.device
        self._engine = cast(Engine, self._engine).on(device)
        return poses.to(device), self._engine

    @property
    def _uses_feedback(self) -> bool:
        return self.config.trains and self.config.feedback != "off"

    def _first(self, batch: Any) -> PoseBatch:
        poses = self._intake.first(batch)
        config, device = self.config, self._estimator.device
        if self._uses_feedback:
            from .adversarial.objectives import check_estimator

            fmt = cast(EstimatorFormat, self._intake.format)
            check_estimator(self._estimator, fmt, self._intake.skeleton, poses.to(device))
        if config.trains and (config.adv2d or config.feedback == "range") and not poses.has_root:
            self._voice.warn("root" if poses.has_camera else "camera")
        self._engine = self._engine or Engine(self._intake.skeleton, config, device)
        self._intake.checked = True
        return poses

    def preview(self, batch: Any) -> tuple[PoseBatch, Tensor, Augmentation]:
        """What every row of a batch would become now; for looking at, changes nothing.

        Returns:
            The augmented pairs, which of them a camera could have taken (B,) bool, and the
            parameters: `augmentation.apply(pose_3d, skeleton)` gives the same poses again; of
            windows and scenes, whose roots move, with their `path`.
        """
        with exact(self._estimator.device):
            poses, engine = self._read(batch)
            state = engine.sampler.generator.get_state()
            try:
                return engine.sampler.sample(poses)
            finally:
                engine.sampler.generator.set_state(state)

    def check(self, loader: Iterable[Any], batches: int = 3) -> list[CheckReport]:
        """Read the first batches of a loader and report; changes nothing, raises on no finding.

        Returns:
            One `CheckReport` a batch: fields found, joints, units, reprojection residual, problems.

        Raises:
            BatchError: a batch that cannot be read at all.
        """
        inner = unwrapped(loader)
        look = Windows.for_a_look(inner, self._windows, self._intake.known_format)
        with exact(self._estimator.device), look as windows:
            return self._intake.report(inner, batches, windows.split if windows else None)

    # Turns

    def _after_step(self) -> None:
        steps = self._tally.add("steps")
        idle = self._on and not self._fresh and not self._tally.counts["fed_steps"]
        if steps == NEVER_FED and idle:
            self._voice.warn("never_fed")
        self._take_turn()
        self._voice.tell("step", self)

    def _take_turn(self) -> None:
        """On the batch that came by last, if none was taken on it and one is due."""
        poses, self._pending = self._pending, None
        fresh, self._fresh = self._fresh, False
        fed = self._tally.add("fed_steps", fresh)
        due = self.config.trains and fresh and fed % self.config.every == 0
        rows = poses.usable().first(self.config.turn_rows) if due and poses is not None else None
        trainer = self._trainer
        if due and all_agree(bool(rows), self._estimator.device) and rows and trainer:
            with self._estimator.untouched():
                try:
                    verdicts = trainer.turn(
                        rows,
                        self._estimator,
                        cast(EstimatorFormat, self._intake.format),
                        self._curriculum,
                    )
                except Exception as error:  # whatever it is, it must not end the caller's run
                    verdicts = []
                    self._voice.warn("turn", repr(error))
            cure = "restarted" if self.config.repair else "left as it is"
            for verdict in verdicts:
                self._voice.tell("collapse", self, f"{verdict.part} {cure}: {verdict.reason}")

    # Numbers and state

    def stats(self) -> dict[str, float]:
        """Counts and the last turn's measures as floats; asking waits for the device."""
        trainer = self._trainer
        numbers: dict[str, float | Tensor] = {
            **self._tally.numbers(),
            "epochs": self._curriculum.done,
            "turns": 0 if trainer is None else trainer.turns,
            **({} if trainer is None else trainer.measures),
        }
        return {name: float(number) for name, number in numbers.items()}

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimizers, pools, counters, own random stream; never the caller's model."""
        skeleton = self._intake.known_skeleton
        return {
            "skeleton": None if skeleton is None else asdict(skeleton),
            "config": asdict(self.config),
            "epochs_done": self._curriculum.done,
            "counts": dict(self._tally.counts),
            "passed": self._tally.passed,
            "engine": None if self._engine is None else self._engine.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict()` was taken.

        Raises:
            CheckpointError: it is of another skeleton or configuration, damaged, or no such state;
            nothing was changed.
        """
        saved = restore(state, self.config, self._intake.known_skeleton, self._estimator.device)
        self._intake.restart(saved.skeleton)
        self._engine = saved.engine
        self._curriculum.done = saved.epochs_done
        self._tally = saved.tally
        self._pending, self._fresh = None, False
