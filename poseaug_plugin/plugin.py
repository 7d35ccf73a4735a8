"""`PoseAugmenter`: hangs PoseAug on a training loop that stays as it is. Wiring only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor, nn

from .augment.augmentation import Augmentation
from .augment.mixing import mix_batch
from .batches.check import CheckReport
from .batches.presets import resolve_format
from .batches.protocol import EstimatorFormat, Format, check_learnable
from .batches.reader import BatchReader
from .batches.windows import Windows
from .checkpoint import restore
from .config import PoseAugConfig
from .counters import Counters
from .engine import Engine
from .errors import AttachError, PoseAugError, WindowError
from .events import BATCHES_WITHOUT_STEP, STEPS_WITHOUT_BATCH, Callback, Notifier
from .geometry.camera import Camera
from .geometry.pose_batch import PoseBatch
from .geometry.skeleton import Skeleton
from .loop.distributed import all_agree
from .loop.estimator import Estimator, Predict, full_precision
from .loop.hooks import Attachment, inner_optimizer
from .loop.loader import AugmentedLoader, unwrapped
from .schedule import EpochSchedule

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
        fmt = None if batch is None else resolve_format(batch)
        if fmt is not None and self._uses_feedback:
            check_learnable(fmt)
        self._reader = BatchReader(
            fmt,
            None if skeleton is None else Skeleton.of(skeleton),
            camera or Camera(),
        )
        self._notifier = Notifier(callbacks)
        self._estimator = Estimator(model, predict)
        inner = inner_optimizer(optimizer)
        self._estimator.check_optimizer(inner)
        self._schedule = EpochSchedule(epochs, self.config.warmup)
        self._engine: Engine | None = None
        self._pending: PoseBatch | None = None
        self._windows: list[Windows] = []
        self._enabled = True
        self._fresh = False  # whether a batch came by since the last step
        self._counters = Counters()
        self._hook: Attachment | None = Attachment(inner, self._after_step)
        if self.config.mix == "alternate" and self._estimator.has_batchnorm:
            self._notifier.warn("batchnorm")

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
        windows = Windows.of(inner, self._reader.known_format)
        self._windows += [windows] if windows else []
        return cast(Loader, AugmentedLoader(inner, _LoaderSide(self, windows)))

    def end_epoch(self) -> None:
        """Count an epoch: for loops that call `augmenter(batch)` and iterate no wrapped loader.

        Without it the schedules of ratio, warm-up and learning rate stand at their start.
        """
        self._schedule.done += 1
        self._notifier.emit("epoch", self)

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
            with full_precision(self._estimator.device):
                return cast(Batch, self._augmented(batch, full))
        except Exception as error:  # whatever it is, a batch must not end a run under way
            under_way = self._reader.checked and self._counters.counts["batches"]
            if not under_way and not isinstance(error, WindowError):
                raise
            self._counters.add("bad_batches")
            told = str(error) if isinstance(error, PoseAugError) else repr(error)
            self._notifier.warn("bad_batch", told)
            self._notifier.emit("bad_batch", self, told)
            return batch

    def _augmented(self, batch: Any, full: Any) -> Any:
        poses, engine = self._read(full)
        learning_alone = not (self.config.prior or self._schedule.warm)
        if not learning_alone:
            ratio = self._schedule.between(self.config.ratios)
            before = self._counters.counts["batches"]
            batch, rows, passed = mix_batch(
                batch, poses, engine.sampler, self._reader.format, ratio, before
            )
            self._counters.rows(rows, passed)
        batches = self._counters.add("batches")
        if batches == BATCHES_WITHOUT_STEP and not self._counters.counts["steps"]:
            self._notifier.warn("never_stepped")
        if self.config.trains:
            self._pending = poses
        return batch

    def _read(self, batch: Any) -> tuple[PoseBatch, Engine]:
        """Poses, and what augments them, both where the estimator is now."""
        poses = self._reader.later(batch) if self._reader.checked else self._first(batch)
        device = self._estimator.device
        self._engine = cast(Engine, self._engine).on(device)
        return poses.to(device), self._engine

    @property
    def _uses_feedback(self) -> bool:
        return self.config.trains and self.config.feedback != "off"

    def _first(self, batch: Any) -> PoseBatch:
        poses = self._reader.first(batch)
        config, device = self.config, self._estimator.device
        if self._uses_feedback:
            from .adversarial.objectives import check_estimator

            fmt = cast(EstimatorFormat, self._reader.format)
            check_estimator(self._estimator, fmt, self._reader.skeleton, poses.to(device))
        if config.trains and (config.adv2d or config.feedback == "range") and not poses.has_root:
            self._notifier.warn("root" if poses.has_camera else "camera")
        self._engine = self._engine or Engine(self._reader.skeleton, config, device)
        self._reader.checked = True
        return poses

    def preview(self, batch: Any) -> tuple[PoseBatch, Tensor, Augmentation]:
        """What every row of a batch would become now; for looking at, changes nothing.

        Returns:
            The augmented pairs, which of them a camera could have taken (B,) bool, and the
            parameters: `augmentation.apply(pose_3d, skeleton)` gives the same poses again; of
            windows and scenes, whose roots move, with their `path`.
        """
        with full_precision(self._estimator.device):
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
        look = Windows.for_a_look(inner, self._windows, self._reader.known_format)
        with full_precision(self._estimator.device), look as windows:
            return self._reader.report(inner, batches, windows.split if windows else None)

    # Turns

    def _after_step(self) -> None:
        steps = self._counters.add("steps")
        idle = self._on and not self._fresh and not self._counters.counts["steps_with_batch"]
        if steps == STEPS_WITHOUT_BATCH and idle:
            self._notifier.warn("never_fed")
        self._update()
        self._notifier.emit("step", self)

    def _update(self) -> None:
        """On the batch that came by last, if none was taken on it and one is due."""
        poses, self._pending = self._pending, None
        fresh, self._fresh = self._fresh, False
        fed = self._counters.add("steps_with_batch", fresh)
        due = self.config.trains and fresh and fed % self.config.update_every == 0
        rows = poses.usable().first(self.config.update_rows) if due and poses is not None else None
        trainer = self._trainer
        if due and all_agree(bool(rows), self._estimator.device) and rows and trainer:
            with self._estimator.untouched():
                try:
                    reports = trainer.update(
                        rows,
                        self._estimator,
                        cast(EstimatorFormat, self._reader.format),
                        self._schedule,
                    )
                except Exception as error:  # whatever it is, it must not end the caller's run
                    reports = []
                    self._notifier.warn("turn", repr(error))
            cure = "restarted" if self.config.repair else "left as it is"
            for report in reports:
                self._notifier.emit("collapse", self, f"{report.part} {cure}: {report.reason}")

    # Numbers and state

    def stats(self) -> dict[str, float]:
        """Counts and the last turn's measures as floats; asking waits for the device."""
        trainer = self._trainer
        numbers: dict[str, float | Tensor] = {
            **self._counters.numbers(),
            "epochs": self._schedule.done,
            "updates": 0 if trainer is None else trainer.updates,
            **({} if trainer is None else trainer.measures),
        }
        return {name: float(number) for name, number in numbers.items()}

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimizers, pools, counters, own random stream; never the caller's model."""
        skeleton = self._reader.known_skeleton
        return {
            "skeleton": None if skeleton is None else asdict(skeleton),
            "config": asdict(self.config),
            "epochs_done": self._schedule.done,
            "counts": dict(self._counters.counts),
            "passed": self._counters.passed,
            "engine": None if self._engine is None else self._engine.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict()` was taken.

        Raises:
            CheckpointError: it is of another skeleton or configuration, damaged, or no such state;
            nothing was changed.
        """
        saved = restore(state, self.config, self._reader.known_skeleton, self._estimator.device)
        self._reader.restart(saved.skeleton)
        self._engine = saved.engine
        self._schedule.done = saved.epochs_done
        self._counters = saved.counters
        self._pending, self._fresh = None, False


@dataclass(frozen=True)
class _LoaderSide:
    """The augmenter as one of its wrapped loaders knows it, see `loop.loader.AugmentsBatches`."""

    augmenter: PoseAugmenter
    windows: Windows | None

    @property
    def mix(self) -> str:
        return self.augmenter.config.mix

    @property
    def active(self) -> bool:
        return self.augmenter.active

    @property
    def steps(self) -> int:
        return self.augmenter._counters.counts["steps"]

    def split(self, batch: Any) -> tuple[Any, Any]:
        return self.windows.split(batch) if self.windows else (batch, batch)

    def augment(self, batch: Any, full: Any) -> Any:
        return self.augmenter._passed_on(batch, full)

    def update(self) -> None:
        self.augmenter._update()

    def end_epoch(self) -> None:
        self.augmenter.end_epoch()
