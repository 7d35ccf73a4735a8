"""From a caller's batch to checked poses: recognised and measured once, guarded ever after."""

from __future__ import annotations

import contextlib
import copy
import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import BatchError, EstimatorError
from ..geometry.camera import Camera
from ..geometry.pose_batch import PoseBatch
from ..geometry.skeleton import Skeleton
from ..loop.estimator import Estimator
from .check import CheckReport, inspect
from .format import BatchFormat
from .infer import recognise

__all__ = ["Intake"]

FARTHEST = 1e6  # metres, or screen units; beyond it squares lose all meaning


class Intake:
    """Reads batches.

    Args:
        fmt, skeleton: None where the first batch is to tell.
        camera: assumed where batches carry none.
    """

    def __init__(self, fmt: BatchFormat | None, skeleton: Skeleton | None, camera: Camera) -> None:
        self._format, self._skeleton, self._camera = fmt, skeleton, camera
        self.checked = False

    @property
    def format(self) -> BatchFormat:
        if self._format is None:
            raise BatchError("no batch has been read yet, and no batch= given.")
        return self._format

    @property
    def skeleton(self) -> Skeleton:
        if self._skeleton is None:
            raise BatchError("no batch has been read yet, and no skeleton= given.")
        return self._skeleton

    @property
    def known_format(self) -> BatchFormat | None:
        return self._format

    @property
    def known_skeleton(self) -> Skeleton | None:
        return self._skeleton

    def restart(self, skeleton: Skeleton | None) -> None:
        """Take the skeleton of a saved state, and check the next batch as the first."""
        self._skeleton = skeleton or self._skeleton
        self.checked = False

    def first(self, batch: Any) -> PoseBatch:
        """Read the first batch, recognising what was not given.

        Raises:
            BatchError, DataError: it cannot be read, or does not mean what its format says.
        """
        fmt, skeleton, poses, report = self._inspect(batch)
        report.raise_if_bad()
        self._format, self._skeleton = fmt, skeleton
        return poses

    def later(self, batch: Any) -> PoseBatch:
        """Read any other batch.

        Raises:
            BatchError: it cannot be read, or holds NaN, infinite or absurdly large numbers.
        """
        poses = self.format.read(batch, self.skeleton, self._camera)
        fields = (poses.pose_2d, poses.pose_3d, poses.root, poses.camera)
        if not torch.stack([field.abs().amax() < FARTHEST for field in fields]).all():
            raise BatchError("it has NaN, infinite or absurdly large coordinates.")
        return poses

    def report(
        self, loader: Any, batches: int, split: Callable[[Any], tuple[Any, Any]] | None = None
    ) -> list[CheckReport]:
        """Measure the first batches of a loader, and forget them.

        Args:
            split: gives a batch as the caller sees it, and with all the 3D there is.
        """
        found = []
        with _kept_streams(loader):
            if not hasattr(loader, "__iter__") and hasattr(loader, "next_epoch"):
                loader = loader.next_epoch()
            for given in itertools.islice(as_iterable(loader), batches):
                *_, measured = self._inspect(split(given)[1] if split else given)
                found.append(measured)
        if not found:
            raise BatchError("the loader gave no batch; is its dataset empty, or used up?")
        return found

    def _inspect(self, batch: Any) -> tuple[BatchFormat, Skeleton, PoseBatch, CheckReport]:
        """Recognise what was not given, read, and measure; keeps nothing."""
        if self._format is None:
            fmt, skeleton = recognise(batch, self._skeleton)
        else:
            fmt = self._format
            skeleton = self._skeleton or fmt.guess_skeleton(batch)
        poses = fmt.read(batch, skeleton, self._camera)
        return fmt, skeleton, poses, inspect(batch, poses, fmt, skeleton)

    def try_estimator(self, estimator: Estimator, poses: PoseBatch) -> None:
        """Ask the estimator for two rows, so that a wrong answer shows before training starts.

        Raises:
            EstimatorError: it raises, or answers with no tensor or in another shape.
        """
        few = poses.first(2)
        asked = self.format.inputs(few, few.pose_2d)
        called = f"{estimator.called} with 2D of shape {tuple(asked.shape)}"
        try:
            with estimator.untouched(), torch.no_grad():
                answer = estimator(asked)
        except Exception as error:
            raise EstimatorError(
                f"{called} raised {type(error).__name__}: {error}. If your loop calls it "
                "otherwise, pass predict=lambda model, x: ... that calls it so."
            ) from error
        if not isinstance(answer, Tensor):
            raise EstimatorError(
                f"{called} returned {type(answer).__name__}, expected a tensor of 3D joints; pass "
                "predict=lambda model, x: the right part of model(x)."
            )
        try:
            self.format.outputs(answer, few, self.skeleton)
        except BatchError as error:
            raise EstimatorError(
                f"{called} does not answer in the target's shape: {error} Pass "
                "predict=lambda model, x: ... that returns it so."
            ) from None


@contextlib.contextmanager
def _kept_streams(loader: Any) -> Iterator[None]:
    """The random streams on which a loader draws its order stand afterwards as before."""
    python, array = random.getstate(), np.random.get_state()
    own = getattr(loader, "random_state", None)  # of VideoPose3D's generator
    kept = copy.deepcopy(own()) if callable(own) else None
    holders = (loader, *(getattr(loader, name, None) for name in ("sampler", "batch_sampler")))
    generators = {
        id(found): (found, found.get_state())
        for found in (getattr(holder, "generator", None) for holder in holders)
        if isinstance(found, torch.Generator)
    }
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(array)
        for generator, stood in generators.values():
            generator.set_state(stood)
        if kept is not None:
            loader.set_random_state(kept)


def as_iterable(loader: Any) -> Iterable[Any]:
    if not hasattr(loader, "__iter__"):
        raise BatchError(
            f"{type(loader).__name__} cannot be iterated; pass the loader your loop iterates."
        )
    iterable: Iterable[Any] = loader
    return iterable
