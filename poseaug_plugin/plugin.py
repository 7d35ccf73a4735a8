"""`PoseAugmenter`: connects the parts of the plugin to a training loop. Wiring only."""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .augment.augmentation import Augmentation
from .augment.mixing import Mixed, mix_batch
from .augment.ranges import Ranges
from .augment.sampler import Sampler
from .augment.target import Target
from .batches.check import CheckReport
from .batches.containers import get_field
from .batches.format import BatchFormat
from .batches.presets import resolve_format
from .batches.protocol import EstimatorFormat, Format, check_learnable
from .batches.reader import BatchReader, as_iterable, restored_order
from .batches.unlabelled import read_unlabelled
from .batches.windows import Windows
from .checkpoint import restore
from .config import PoseAugConfig
from .counters import Counters
from .engine import Engine
from .errors import (
    AttachError,
    ConfigError,
    DataError,
    EstimatorError,
    PoseAugError,
    SkeletonError,
    WindowError,
)
from .events import (
    BATCHES_TO_JUDGE,
    BATCHES_WITHOUT_EPOCH,
    BATCHES_WITHOUT_STEP,
    FEW_ACCEPTED,
    FEW_LIFTED,
    STEPS_WITHOUT_BATCH,
    UPDATES_TO_JUDGE,
    Callback,
    Notifier,
)
from .geometry.camera import Camera
from .geometry.pose_batch import PoseBatch
from .geometry.skeleton import SKELETONS, Skeleton
from .loop.distributed import all_agree, synchronised, world_size
from .loop.estimator import Estimator, Predict, full_precision
from .loop.hooks import Attachment, ForwardHook, inner_optimizer
from .loop.loader import DOUBLING_MIXES, unwrapped, wrap_loader
from .recorder import ErrorRecorder
from .report import ErrorReport, error_report, measure_rows
from .schedule import EpochSchedule
from .stats import described

if TYPE_CHECKING:
    from .adversarial.trainer import Trainer

__all__ = ["PoseAugmenter"]

Loader = TypeVar("Loader")
Batch = TypeVar("Batch")


class PoseAugmenter:
    """Augments the batches of a training loop, and trains PoseAug's networks beside it.

    The loop itself stays as it is: it iterates the loader that `wrap` returns, and steps its
    optimizer. The augmenter changes neither the model, nor the optimizer, nor any global random
    state. `detach` undoes everything.

    Args:
        model: the model in training, a 2D-to-3D pose lifter.
        optimizer: the optimizer that trains the model. It may be wrapped, as by accelerate, Opacus
            or mmengine.
        batch: how a batch is laid out. The name of a format (`"semgcn"`, `"videopose3d"`, ...), a
            mapping of `BatchFormat`'s arguments, a `BatchFormat`, or an object with the methods of
            `batches.protocol.Format`. None: inferred from the shapes of the first batch.
        epochs: length of the run, for the schedules of `ratio`, feedback and learning rate. None:
            they have their end values from the start.
        config: a `PoseAugConfig`, the name of a preset (`"default"`, `"random"`, `"paper"`,
            `"released"`), or a mapping of changes to a preset, e.g.
            `dict(preset="random", ratio=0.5)`. None: `"default"`.
        skeleton: a `Skeleton` or anything that `Skeleton.of` takes. None: the preset with as many
            joints as the first batch; Human3.6M's for 16 and 17 joints.
        camera: the camera to assume where batches have none.
        predict: how to call the model, `predict(model, pose_2d)`. Default: `model(pose_2d)`. Only
            modes that learn from the model's errors, `target_2d`, and reports call it.
        callbacks: callables that each get an `Event`.
        target_2d: unlabelled 2D poses from where the model will be used: an array or tensor
            (N, J, 2), also with a confidence as third channel, the name of a .npy or .npz file, or
            a loader. Its units and joints are those of the training batches; otherwise
            `dict(pose_2d=poses, screen=(w, h), joints_2d=...)`. Joints that are NaN, at (0, 0) or
            of confidence 0 are missing. A hundred poses of different moments are enough.
            Augmented people get the proportions and joint positions there, stand where people stand
            there, and appear as large; half of them take poses from there, which the model itself
            lifts to 3D. See `augment.target`.
        report: record the model's errors on augmented rows in the forward passes of training, for
            `report()` without a loader. It changes nothing else. Not with `mix="passes"`.

    Raises:
        AttachError: the optimizer does not train the model, or has an augmenter already.
        ConfigError: an argument is of a wrong type, unknown or out of range.
        SkeletonError: `skeleton` is no skeleton.

    Example:
        >>> import torch
        >>> from poseaug_plugin import PoseAugmenter
        >>> from poseaug_plugin.data.synthetic import make
        >>> pairs = make()[0][:64]
        >>> loader = [(pairs.root_relative, pairs.pose_2d)]  # one batch
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Flatten(), torch.nn.Linear(32, 48), torch.nn.Unflatten(1, (16, 3))
        ... )
        >>> optimizer = torch.optim.Adam(model.parameters())
        >>> augmenter = PoseAugmenter(model, optimizer, dict(pose_3d=0, pose_2d=1), epochs=2)
        >>> for pose_3d, pose_2d in augmenter.wrap(loader):
        ...     loss = (model(pose_2d) - pose_3d).square().mean()
        ...     optimizer.zero_grad()
        ...     loss.backward()
        ...     optimizer.step()
        >>> augmenter.stats()["steps"]
        1.0
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
        target_2d: Any = None,
        report: bool = False,
    ) -> None:
        if epochs is not None and (
            not isinstance(epochs, (int, Integral)) or isinstance(epochs, bool) or epochs < 1
        ):
            raise ConfigError(
                f"epochs={epochs!r} is not a whole number of 1 or more; pass epochs= the length "
                "of the run, or None."
            )
        if camera is not None and not isinstance(camera, Camera):
            raise ConfigError(
                f"camera={camera!r} is not a Camera; pass camera=Camera(f=..., c=...), or None."
            )
        self.config = PoseAugConfig.of(config)
        self._target_2d = target_2d  # as it was passed, until the first batch is read
        fmt = None if batch is None else resolve_format(batch)
        if fmt is not None and (self._calls_model or report):
            check_learnable(fmt)
        if report and self.config.mix == "passes":
            raise ConfigError(
                "report=True cannot follow mix='passes', which makes all augmented batches before "
                "the first of them is trained on; use augmenter.report(loader), or another mix."
            )
        self._reader = BatchReader(
            fmt,
            None if skeleton is None else Skeleton.of(skeleton),
            camera,
        )
        self._notifier = Notifier(callbacks)
        self._estimator = Estimator(model, predict)
        inner = inner_optimizer(optimizer)
        self._estimator.check_optimizer(inner)
        self._schedule = EpochSchedule(
            epochs, self.config.warmup, warmup_steps=self.config.warmup_steps
        )
        self._engine: Engine | None = None
        self._pending: PoseBatch | None = None  # the batch that the next update uses
        self._made: weakref.ref[Any] | None = None  # the 2D of the latest augmented batch
        self._windows: list[Windows] = []
        self._enabled = True
        self._has_new_batch = False  # since the last step
        # Of this process, unlike the counts, which are saved:
        self._augmented_batches = 0
        self._steps_without_batch = 0  # in a row, as the next
        self._batches_without_step = 0
        self._batches_at_epoch: int | None = None  # when a wrapped loader last counted an epoch
        self._counters = Counters()
        self._hook: Attachment | None = Attachment(inner, self._after_step)
        if self._hook.follows_another:
            self._notifier.warn("created_again")
        self._recorder: ErrorRecorder | None = None
        self._forward_handle: RemovableHandle | None = None
        if report:
            self._recorder = ErrorRecorder(self._estimator, self._reader)
            self._forward_handle = model.register_forward_hook(
                ForwardHook(self._after_forward), with_kwargs=True
            )
        if self.config.mix == "alternate" and self._estimator.has_batchnorm:
            self._notifier.warn("batchnorm")

    def __repr__(self) -> str:
        """What the augmenter is attached to, how it is set, and what it has done so far."""
        optimizer = None if self._hook is None else self._hook.optimizer
        skeleton, counted = self._reader.known_skeleton, self._counters.numbers()
        presets = (name for name, preset in SKELETONS.items() if preset == skeleton)
        joints = skeleton and f"{skeleton.num_joints} joints"
        lines = {
            "model": type(self._estimator.model).__name__,
            "optimizer": "detached" if optimizer is None else type(optimizer).__name__,
            "batch": self._reader.known_format or "not known yet",
            "config": self.config,
            "skeleton": next(presets, joints) or "not known yet",
            "steps": counted["steps"],
            "augmented": f"{counted['accepted']:.1%} of {counted['rows']} chosen rows",
        }
        text = "".join(f"\n({name}): {value}" for name, value in lines.items())
        return "PoseAugmenter(" + text.replace("\n", "\n  ") + "\n)"

    # On and off

    def enable(self) -> None:
        """Augment batches and update the networks again, after `disable()`."""
        self._enabled = True

    def disable(self) -> None:
        """Return every batch unchanged and update nothing, until `enable()`."""
        self._enabled = False
        self._pending = None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Context manager that disables the augmenter, and then restores its state."""
        before = self._enabled, self._pending
        self.disable()
        try:
            yield
        finally:
            self._enabled, self._pending = before

    def detach(self) -> None:
        """Remove the hooks from optimizer and model, for good.

        Wrapped loaders then yield their batches unchanged. Another augmenter may be attached.
        Calling it again has no effect. In a distributed run with `learned=True`, detach on all
        ranks after the same step, or set `sync_ranks=False`.
        """
        self.disable()
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
            if self._forward_handle is not None:
                self._forward_handle.remove()
            if self._recorder is not None:
                self._recorder.close()
            for windows in reversed(self._windows):
                windows.undo()

    @property
    def active(self) -> bool:
        """Whether a batch would be augmented now.

        That is, the augmenter is attached and enabled, the model is in training mode, and gradients
        are on.
        """
        return self._on and self._estimator.training and torch.is_grad_enabled()

    @property
    def _on(self) -> bool:
        return self._enabled and self._hook is not None and self.config.augments

    @property
    def _trainer(self) -> Trainer | None:
        return None if self._engine is None else self._engine.trainer

    # Batches

    def wrap(self, loader: Loader) -> Loader:
        """Wrap a loader, so that it yields augmented batches.

        Attributes, sampler and length are those of the loader; with mix="alternate" or "passes" the
        length is twice as large while batches are augmented. In evaluation mode and without
        gradients its batches are unchanged. An epoch is counted when an iteration with augmented
        batches is exhausted, or was left early and a later one is trained on. Of loaders that are
        iterated side by side, the one that ends first counts.

        A generator like VideoPose3D's, with the 3D of the centre frame alone, is changed so that
        it provides the 3D of whole windows, see `batches.windows`; `detach()` undoes that.

        Args:
            loader: any iterable of batches, or an object with `next_epoch()`. If it is wrapped
                already, the loader inside is wrapped.

        Returns:
            The wrapped loader.

        Raises:
            AttachError: `loader` cannot be iterated, or only once and `config.mix` is `"passes"`.
        """
        inner: Any = unwrapped(loader)
        if not any(hasattr(inner, name) for name in ("__iter__", "__getitem__", "next_epoch")):
            raise AttachError(
                f"loader={inner!r} cannot be iterated; wrap the loader that your loop iterates."
            )
        windows = Windows.of(inner, self._reader.known_format)
        self._windows += [windows] if windows else []
        return cast(Loader, wrap_loader(inner, _LoaderAdapter(self, windows)))

    def end_epoch(self) -> None:
        """Count an epoch.

        Call it after each epoch if the loop calls `augmenter(batch)` itself. A wrapped loader
        counts its own epochs: a call after one of those, before another batch, counts nothing.
        Without it, the schedules of `ratio`, warm-up and learning rate stay at their start.
        """
        if self._batches_at_epoch != self._counters.counts["batches"]:
            self._count_epoch()

    def _count_epoch(self) -> None:
        self._schedule.done += 1
        if self._schedule.epochs is not None and self._schedule.done == 2 * self._schedule.epochs:
            self._notifier.warn("many_epochs", self._schedule.done, self._schedule.epochs)
        self._report_bad_rows()
        self._notifier.emit("epoch", self)

    def __call__(self, batch: Batch) -> Batch:
        """Augment a batch.

        The first batch is checked, and an error is raised. A later batch that cannot be augmented
        is returned unchanged, with a warning; so is a batch of 2D windows without their 3D.

        Args:
            batch: what the loader yields. It is not changed.

        Returns:
            A batch with augmented rows, see `config.mix`, or `batch` itself if the augmenter is not
            `active`. With the mixes that yield every batch twice, it is the augmented batch.

        Raises:
            BatchError: the first batch cannot be read.
            DataError: its numbers do not mean what the format says.
            EstimatorError: the model cannot be called, or its output does not fit.
            SkeletonError: no preset skeleton has its joints.
        """
        made = None if self._made is None else self._made()
        if self.active and made is not None and made is self._field_2d(batch):
            self._notifier.warn("augmented_twice")
            return batch
        return self._augment_or_return(batch, batch)

    def _field_2d(self, batch: Any) -> Any:
        """The 2D of a batch, or None where it is not known or cannot be referred to weakly."""
        fmt = self._reader.known_format
        try:
            field = get_field(batch, fmt.pose_2d) if isinstance(fmt, BatchFormat) else None
        except Exception:  # of any kind: reading the batch raises the error
            return None
        return field if isinstance(field, (Tensor, np.ndarray)) else None

    def _augment_or_return(self, batch: Batch, full: Any) -> Batch:
        """Augment `batch`, or return it; `full` is the same batch with all available 3D."""
        if not self.active:
            return batch
        self._has_new_batch = True
        self._schedule.steps = self._counters.counts["steps_with_batch"]
        try:
            with full_precision(self._estimator.device):
                made = self._augment(batch, full)
            field = self._field_2d(made)
            is_new = field is not None and field is not self._field_2d(batch)
            self._made = weakref.ref(field) if is_new else None
            return cast(Batch, made)
        except Exception as error:  # of any kind: a single batch must not end a long run
            has_started = self._reader.checked and self._counters.counts["batches"]
            if not has_started and not isinstance(error, WindowError):
                raise
            self._counters.add("bad_batches")
            message = str(error) if isinstance(error, PoseAugError) else repr(error)
            self._notifier.warn("bad_batch", message)
            self._notifier.emit("bad_batch", self, message)
            return batch

    def _look_at(self, batch: Any) -> None:
        """Check the first batch of another loader than the first; it must not end the run."""
        if not self.active or not self._reader.checked:
            return
        with contextlib.suppress(Exception), full_precision(self._estimator.device):
            report = self._reader.inspect(batch)
            if not report.ok:
                self._notifier.warn("other_loader", "; ".join(report.problems))

    def _augment(self, batch: Any, full: Any) -> Any:
        poses, engine = self._read(full)
        if self.config.prior or self._schedule.warm:  # without a prior, networks warm up first
            ratio = self._schedule.between(self.config.ratios)
            mixed = mix_batch(batch, poses, engine.sampler, self._reader.format, ratio)
            batch = mixed.batch
            self._counters.add_rows(mixed.tried, mixed.passed)
            if mixed.tried:
                self._judge_acceptance(engine.sampler, poses)
            if self._recorder is not None:
                self._expect_calls(self._recorder, mixed, poses)
        batches = self._counters.add("batches")
        self._batches_without_step += 1
        # mix="passes" makes the augmented batches of a whole epoch before the first step.
        if self._batches_without_step == BATCHES_WITHOUT_STEP and self.config.mix != "passes":
            self._notifier.warn("no_steps")
        unlimited = self._schedule.epochs is None and self._schedule.warm
        if batches == BATCHES_WITHOUT_EPOCH and not self._schedule.done and not unlimited:
            self._notifier.warn("no_epochs")
        if self._learns:
            self._pending = poses
        return batch

    def _judge_acceptance(self, sampler: Sampler, poses: PoseBatch) -> None:
        """Warn if almost no pair of the first augmented batches was accepted."""
        self._augmented_batches += 1
        is_time = self._augmented_batches == BATCHES_TO_JUDGE
        if is_time and self._counters.numbers()["accepted"] < FEW_ACCEPTED:
            self._notifier.warn("few_accepted", *sampler.rejections(poses))

    def _judge_lifting(self, engine: Engine) -> None:
        """Warn if the model has lifted almost no pose of the target."""
        lifting, target = engine.lifting, engine.sampler.target
        if lifting is None or target is None or lifting.updates != UPDATES_TO_JUDGE:
            return
        if (share := float(target.lifted_share)) < FEW_LIFTED:
            self._notifier.warn("few_lifted", share)

    def _expect_calls(self, recorder: ErrorRecorder, mixed: Mixed, poses: PoseBatch) -> None:
        if recorder.batches == BATCHES_TO_JUDGE and (reason := recorder.reason()):
            self._notifier.warn("nothing_to_report", reason)
        recorder.expect(mixed.poses, mixed.replaced)
        if self.config.mix in DOUBLING_MIXES:
            recorder.expect_real(poses)

    def _after_forward(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        # Not in evaluation, nor for the plugin's own calls, nor for a replica of DataParallel.
        is_training = self.active and module.training and module is self._estimator.outer
        if self._recorder is not None and is_training:
            self._recorder.record((args, kwargs), output)

    def _read(self, batch: Any) -> tuple[PoseBatch, Engine]:
        """The poses of a batch and the engine, on the estimator's current device."""
        device = self._estimator.device
        if self._reader.checked:
            poses, bad = self._reader.later(batch)
        else:
            poses, bad = self._read_first(batch)
        self._counters.add_bad_rows(bad)
        if bad.device.type == "cpu":  # on a GPU it would wait; `end_epoch` and `stats` report
            self._report_bad_rows()
        self._engine = cast(Engine, self._engine).on(device)
        return poses.to(device), self._engine

    def _report_bad_rows(self) -> None:
        """Report the bad rows since the last report. This waits for the device."""
        number = self._counters.read_bad_rows()
        if number:
            message = (
                f"{number} rows have NaN, infinite or huge coordinates, or bones several times as "
                "long or as short as those of the first batch, e.g. from missing joints that are "
                "set to 0, or 3D in another unit. They are returned unchanged, and the plugin uses "
                "them for nothing; drop or repair them, since your loop trains on them."
            )
            self._notifier.warn("bad_rows", message)
            self._notifier.emit("bad_batch", self, message)

    def _read_first(self, batch: Any) -> tuple[PoseBatch, Tensor]:
        """Read the first batch, check it and the estimator, and build the engine."""
        poses, bad, doubts = self._reader.first(batch)
        config, device = self.config, self._estimator.device
        if config.joint_dropout and poses.extra_2d is None:
            raise ConfigError(
                f"joint_dropout={config.joint_dropout:g} needs a confidence, the third channel of "
                "the 2D, which is 0 for hidden joints: without it, a lifter cannot tell a hidden "
                "joint from one in the centre of the image. Yield 2D with a confidence (1 for "
                "exact 2D), or set joint_dropout=0."
            )
        if self._calls_model:
            from .adversarial.objectives import check_estimator

            fmt = cast(EstimatorFormat, self._reader.format)
            try:
                check_estimator(
                    self._estimator,
                    fmt,
                    self._reader.skeleton,
                    poses.to(device),
                    needs_gradient=self._uses_feedback,
                )
            except EstimatorError as error:
                if config.learns:
                    raise
                raise EstimatorError(
                    f"{error} The model lifts the poses of target_2d; set lifted_poses=0 in "
                    "config= to use them without it."
                ) from error.__cause__
        if config.trains and (config.adv2d or config.feedback == "range") and not poses.has_root:
            self._notifier.warn("no_root" if poses.has_camera else "no_camera")
        self._engine = self._engine or self._new_engine(poses)
        self._reader.checked = True
        if doubts:
            self._notifier.warn("doubts", "; ".join(doubts))
        return poses, bad

    def _new_engine(self, poses: PoseBatch) -> Engine:
        """The engine of a new run, whose first batch is `poses`."""
        skeleton, device, target = self._reader.skeleton, self._estimator.device, None
        if self._target_2d is not None:
            with restored_order(self._target_2d):
                pose_2d = read_unlabelled(self._target_2d, self._reader.format, skeleton)
            target = Target(pose_2d, skeleton, device)
            lifted_as = self._reader.format if self._lifts else None
            for name, details in target.doubts(poses.to(device), lifted_as):
                self._notifier.warn(name, *details)
        return Engine(skeleton, self.config, device, target)

    @property
    def target(self) -> Target | None:
        """What was learned from `target_2d`; None without it, or before the first batch.

        `print(augmenter.target)` shows the factors on bone lengths and their standard errors.
        """
        return None if self._engine is None else self._engine.sampler.target

    @property
    def _uses_feedback(self) -> bool:
        return self.config.trains and self.config.feedback != "off"

    @property
    def _calls_model(self) -> bool:
        return self.config.widens or self._lifts or self._uses_feedback

    @property
    def _lifts(self) -> bool:
        return self.config.lifts and self._target_2d is not None

    @property
    def _learns(self) -> bool:
        return self.config.learns or self._lifts

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton of the poses.

        Raises:
            SkeletonError: no `skeleton=` was passed, and no batch has been read yet.
        """
        known = self._reader.known_skeleton
        if known is None:
            raise SkeletonError("no batch has been read yet; pass skeleton=, or read a batch.")
        return known

    def read(self, batch: Any) -> PoseBatch:
        """Return a batch as the plugin understands it, in metres and screen units.

        Args:
            batch: what the loader yields. It is not changed.

        Returns:
            Its poses, on the device of the model.

        Raises:
            PoseAugError: the batch cannot be read, as in `augmenter(batch)`.
        """
        poses, _ = self._read(batch)
        return poses

    def preview(self, batch: Any) -> tuple[PoseBatch, Tensor, Augmentation]:
        """Augment every row of a batch, to look at; networks and random state do not change.

        As in training, limbs are exchanged between rows. Unlike in training, rare poses are not
        preferred, and no pose of `target_2d` is used. Before the first batch there are no pose
        statistics, so bends and the vertical are missing, and ranges are fitted to this batch.

        Args:
            batch: what the loader yields. It is not changed.

        Returns:
            The augmented poses; a (B,) bool tensor, True where the pair passes the visibility test
            and would be used; and the `Augmentation`. `augmentation.apply(pose_3d, skeleton)`
            computes the same poses again. For windows and scenes, whose roots move, pass it the
            batch's `path` as well.

        Raises:
            PoseAugError: the batch cannot be read, as in `augmenter(batch)`.
        """
        with full_precision(self._estimator.device):
            poses, engine = self._read(batch)
            return engine.sampler.preview(poses)

    def check(self, loader: Iterable[Any], batches: int = 3) -> list[CheckReport]:
        """Check the first batches of a loader; problems are reported, not raised.

        Nothing of the augmenter is changed. The global random streams, and those of the loader and
        its samplers, are restored, but not one that a dataset or a worker keeps to itself. An
        iterator cannot be rewound: a doubt says that its batches are used up.

        Args:
            loader: the loader, wrapped or not.
            batches: number of batches to check.

        Returns:
            A `CheckReport` for each batch: fields, joints, bone lengths, reprojection residual, the
            ranges that the prior would have, and the problems found.

        Raises:
            BatchError: a batch cannot be read, or there is none.
        """
        inner = unwrapped(loader)
        temporary = Windows.for_a_look(inner, self._reader.known_format)
        with full_precision(self._estimator.device), temporary as windows:
            split = windows.split if windows else None
            return self._reader.report(inner, batches, split, self._with_ranges)

    def _with_ranges(
        self, report: CheckReport, poses: PoseBatch, skeleton: Skeleton
    ) -> CheckReport:
        """Add the ranges that the prior has, or would have after this batch."""
        if not self.config.prior or self.config.widens:
            return report
        ranges = Ranges.for_batch(self.config, skeleton, poses)
        doubts = () if report.problems else ranges.doubts(self.config, skeleton, poses)
        if self._engine is not None and self._counters.counts["batches"]:
            ranges = self._engine.sampler.ranges
        elif self._target_2d is not None:
            ranges = ranges.with_target(self.config, skeleton)
        numbers = {name: float(number) for name, number in ranges.numbers().items()}
        return replace(report, ranges=numbers, doubts=(*report.doubts, *doubts))

    def report(self, loader: Iterable[Any] | None = None, batches: int = 8) -> ErrorReport:
        """Measure where the model fails: by yaw, tilt, distance, place, pose and joint.

        With a loader, the rows of some batches are augmented, and the model predicts them in
        evaluation mode. Nothing is changed, and the random states are restored.

        Without one, the report is of the latest rows that training has seen (about 20,000, of
        this process), for an augmenter with `report=True`. These errors are those of the model in
        training mode, with dropout, at the time of each row. They are not part of `state_dict()`.

        Args:
            loader: the training loader, wrapped or not. None: report what training has seen.
            batches: number of batches of the loader to measure.

        Returns:
            An `ErrorReport`. `print(report)` shows it as text, `plots.plot_report(report)` as a
            picture.

        Raises:
            PoseAugError: the batches cannot be read, there is none, or no augmented pair is in
                frame.
            ConfigError: the batch format has no `inputs` and `outputs`, or there is no loader and
                the augmenter has no `report=True`.
            DataError: no augmented row was recorded.
        """
        if loader is None:
            return self._recorded_report()
        inner = unwrapped(loader)
        temporary = Windows.for_a_look(inner, self._reader.known_format)
        measured, restore_draws = [], contextlib.ExitStack()
        with (
            full_precision(self._estimator.device),
            temporary as windows,
            restored_order(inner),
            restore_draws,
        ):
            for batch in itertools.islice(as_iterable(inner), batches):
                poses, engine = self._read(windows.split(batch)[1] if windows else batch)
                check_learnable(self._reader.format)
                sampler = engine.sampler
                generator = sampler.generator
                restore_draws.callback(generator.set_state, generator.get_state())
                with sampler.fitted_to(poses):
                    augmented, accepted, _ = sampler.sample(poses)
                if not accepted.any():
                    continue
                with self._estimator.untouched():
                    rows = measure_rows(
                        poses,
                        augmented,
                        accepted,
                        self._estimator,
                        cast(EstimatorFormat, self._reader.format),
                        self._reader.skeleton,
                        sampler.pose_statistics,
                    )
                measured.append(rows)
        return error_report(measured, self._reader.skeleton)

    def _recorded_report(self) -> ErrorReport:
        recorder = self._recorder
        if recorder is None:
            raise ConfigError(
                "report() without a loader reports what training has seen, which is recorded only "
                "with PoseAugmenter(..., report=True); set it, or use report(loader)."
            )
        rows = None
        if self._engine is not None:
            rows = recorder.rows(self._engine.sampler.pose_statistics)
        if rows is None:
            reason = recorder.reason() or "it has only seen original rows"
            raise DataError(
                f"training has seen no augmented row yet: {reason}. Train on a batch first, or use "
                "report(loader)."
            )
        return error_report([rows], self._reader.skeleton)

    # Updates

    def _after_step(self) -> None:
        self._counters.add("steps")
        self._batches_without_step = 0
        self._steps_without_batch += self._on
        if self._has_new_batch:
            self._steps_without_batch = 0
        if self._steps_without_batch == STEPS_WITHOUT_BATCH and (
            self.config.mix != "passes" or not self._counters.counts["batches"]
        ):
            self._notifier.warn("no_batches")
        self._update()
        self._notifier.emit("step", self)

    def _update(self) -> None:
        """Update the networks on the last batch, if it is new and an update is due."""
        with synchronised(self.config.sync_ranks):
            self._update_on_all_ranks()

    def _update_on_all_ranks(self) -> None:
        poses, self._pending = self._pending, None
        is_new, self._has_new_batch = self._has_new_batch, False
        steps = self._counters.add("steps_with_batch", is_new)
        if not self._learns:
            return
        due = is_new and steps % self.config.update_every == 0
        rows, reports, engine = None, [], self._engine
        try:  # an error of any kind must not end the caller's run
            if due and poses is not None:
                rows = poses.usable().first(self.config.update_rows)
        except Exception as error:
            self._report_failed_update(error)
        # Every rank votes at every step: a rank without a batch, or disabled, must not be waited
        # for in vain. Lifting poses alone waits for nobody, unless a call of the model does.
        waits = self.config.learns or self._estimator.is_sharded
        if waits and not all_agree(bool(rows), self._estimator.device):
            return
        if not rows or not engine:
            return
        with self._estimator.untouched():
            for learner in engine.learners:
                try:
                    reports += learner.update(
                        rows,
                        self._estimator,
                        cast(EstimatorFormat, self._reader.format),
                        self._schedule,
                    )
                except Exception as error:
                    self._report_failed_update(error)
                    if learner.is_reducing and world_size() > 1:
                        raise  # the other ranks wait for this one, and would wait for ever
        self._judge_lifting(engine)
        for report in reports:
            self._notifier.warn("collapse", report, about=report.part)
            self._notifier.emit("collapse", self, str(report))

    def _report_failed_update(self, error: Exception) -> None:
        self._counters.add("failed_updates")
        self._notifier.warn("update_failed", repr(error))
        self._notifier.emit("failed_update", self, repr(error))

    # Numbers and state

    def stats(self) -> dict[str, float]:
        """Return counts and measures as floats; this waits for the device."""
        learners = [] if self._engine is None else self._engine.learners
        self._report_bad_rows()
        numbers: dict[str, float | Tensor] = {
            **self._counters.numbers(),
            "epochs": self._schedule.done,
            "updates": max((learner.updates for learner in learners), default=0),
            **self._ranges(),
            **{name: value for learner in learners for name, value in learner.measures.items()},
            **({} if self.target is None else self.target.stats()),
        }
        return {name: float(number) for name, number in numbers.items()}

    def _ranges(self) -> dict[str, Tensor]:
        if self._engine is None or not self.config.prior:
            return {}
        numbers = self._engine.sampler.ranges.numbers()
        if self.config.widens:  # views have ranges of their own for each row
            return {name: numbers[name] for name in ("joint_offset", "depth")}
        return numbers

    def state_dict(self) -> dict[str, Any]:
        """Return the augmenter's state, to resume a run.

        Returns:
            Networks, optimizers, pools, pose statistics, counts and random state of the plugin, and
            the poses of `target_2d`. The model and its optimizer are not part of it.
        """
        skeleton = self._reader.known_skeleton
        self._report_bad_rows()
        return {
            "skeleton": None if skeleton is None else asdict(skeleton),
            "config": asdict(self.config),
            "epochs_done": self._schedule.done,
            "counts": dict(self._counters.counts),
            "passed": self._counters.passed,
            "engine": None if self._engine is None else self._engine.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state, so that training continues as if it had not been interrupted.

        Args:
            state: what `state_dict()` returned. It is copied.

        Raises:
            CheckpointError: `state` is damaged, no such state, or was saved with another skeleton
                or config, or only one of the two has a `target_2d`. The augmenter is unchanged
                then.
        """
        saved = restore(
            state,
            self.config,
            self._reader.known_skeleton,
            self._estimator.device,
            has_target=self._target_2d is not None,
        )
        self._reader.restart(saved.skeleton)
        self._engine = saved.engine
        self._schedule.done = saved.epochs_done
        self._counters = saved.counters
        self._pending, self._has_new_batch, self._batches_at_epoch = None, False, None
        if self._recorder is not None:
            self._recorder.clear()


PoseAugmenter.stats.__doc__ = f"{PoseAugmenter.stats.__doc__}\n{described()}\n"


@dataclass
class _LoaderAdapter:
    """Implements `loop.loader.AugmentsBatches` for one wrapped loader of an augmenter."""

    augmenter: PoseAugmenter
    windows: Windows | None
    has_begun: bool = False

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
        if not self.has_begun:
            self.has_begun = True
            self.augmenter._look_at(full)
        return self.augmenter._augment_or_return(batch, full)

    def update(self) -> None:
        self.augmenter._update()

    @property
    def epochs(self) -> int:
        return self.augmenter._schedule.done

    def end_epoch(self, began: int) -> None:
        meanwhile = self.epochs - began
        if not meanwhile:
            self.augmenter._count_epoch()
            self.augmenter._batches_at_epoch = self.augmenter._counters.counts["batches"]
        elif meanwhile > 1:  # it is longer than what is counted as epochs
            self.augmenter._notifier.warn("several_loaders")
