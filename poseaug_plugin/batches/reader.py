"""Reads the caller's batches: infers and checks what they are once, then only reads."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import BatchError
from ..geometry.camera import Camera
from ..geometry.constants import constant
from ..geometry.pose_batch import PoseBatch
from ..geometry.skeleton import Skeleton
from ..random_streams import restored_streams
from .check import FARTHEST, CheckReport, further_doubts, inspect, intact
from .infer import infer_format
from .protocol import Format, guess_skeleton

__all__ = ["BatchReader", "as_iterable", "restored_order"]


class BatchReader:
    """Reads batches.

    Args:
        fmt, skeleton: None to infer it from the first batch.
        camera: the camera of batches that have none. None: that of the format.
    """

    def __init__(
        self, fmt: Format | None, skeleton: Skeleton | None, camera: Camera | None
    ) -> None:
        self._format, self._skeleton = fmt, skeleton
        self._camera = camera or getattr(fmt, "default_camera", None) or Camera()
        self.checked = False
        self._longest_bone = float("inf")  # metres, of the first batch

    @property
    def format(self) -> Format:
        """The format.

        Raises:
            BatchError: none was passed, and no batch has been read.
        """
        if self._format is None:
            raise BatchError("the format is not known before the first batch; pass batch=.")
        return self._format

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton.

        Raises:
            BatchError: none was passed, and no batch has been read.
        """
        if self._skeleton is None:
            raise BatchError("the skeleton is not known before the first batch; pass skeleton=.")
        return self._skeleton

    @property
    def known_format(self) -> Format | None:
        """The format, or None before the first batch."""
        return self._format

    @property
    def known_skeleton(self) -> Skeleton | None:
        """The skeleton, or None before the first batch."""
        return self._skeleton

    def restart(self, skeleton: Skeleton | None) -> None:
        """Use the skeleton of a saved state, and check the next batch like a first one."""
        self._skeleton = skeleton or self._skeleton
        self.checked = False

    def first(self, batch: Any) -> tuple[PoseBatch, Tensor, tuple[str, ...]]:
        """Read the first batch; infer what was not passed, and check the data.

        Returns:
            What `later` returns, and doubts about the data. Rows with NaN, infinite or huge
            coordinates raise an error.

        Raises:
            BatchError: the batch cannot be read.
            DataError: its numbers do not mean what the format says.
        """
        fmt, skeleton, poses, report = self._inspect(batch)
        report.raise_if_bad()
        self._format, self._skeleton = fmt, skeleton
        self._longest_bone = report.longest_bone
        return (*self._without_bad_rows(poses), report.doubts)

    def later(self, batch: Any) -> tuple[PoseBatch, Tensor]:
        """Read a later batch, without waiting for its device.

        Rows with NaN, infinite or huge coordinates, or bones far longer or shorter than usual, are
        not valid, and their 3D is 0, so that they have no influence on other rows.

        Returns:
            The poses, and the number of such rows, a scalar on the device of the batch.

        Raises:
            BatchError: it cannot be read.
        """
        return self._without_bad_rows(self.format.read(batch, self.skeleton, self._camera))

    def inspect(self, batch: Any) -> CheckReport:
        """Check a batch; nothing of it is kept.

        Raises:
            BatchError: it cannot be read.
        """
        *_, report = self._inspect(batch)
        return report

    def _without_bad_rows(self, poses: PoseBatch) -> tuple[PoseBatch, Tensor]:
        fields = [x.flatten(1) for x in (poses.pose_2d, poses.absolute, poses.camera)]
        zero, farthest = (
            constant((x,), torch.float32, poses.pose_3d.device) for x in (0.0, FARTHEST)
        )
        good = torch.linalg.vector_norm(torch.cat(fields, 1), dim=1) < farthest  # False for NaN
        good &= intact(poses, self.skeleton, self._longest_bone)
        pose_3d = torch.where(good.view(-1, 1, 1, 1), poses.pose_3d, zero)
        valid = poses.valid & good
        return replace(poses, valid=valid, pose_3d=pose_3d), (poses.valid ^ valid).sum()

    def report(
        self,
        loader: Any,
        batches: int,
        split: Callable[[Any], tuple[Any, Any]] | None = None,
        complete: Callable[[CheckReport, PoseBatch, Skeleton], CheckReport] | None = None,
    ) -> list[CheckReport]:
        """Check the first batches of a loader; nothing of them is kept.

        Args:
            split: see `Windows.split`.
            complete: adds to each report.

        Raises:
            BatchError: a batch cannot be read, or there is none.
        """
        found, used_up = [], tuple[str, ...]()
        if isinstance(loader, Iterator):
            used_up = (
                "it is an iterator, and its batches that were checked are used up: make a new one "
                "for training",
            )
        with restored_order(loader):
            for given in itertools.islice(as_iterable(loader), batches):
                given = split(given)[1] if split else given
                fmt, skeleton, poses, measured = self._inspect(given)
                if measured.ok:
                    more = further_doubts(given, poses, fmt, skeleton, measured.longest_bone)
                    measured = replace(measured, doubts=(*measured.doubts, *more))
                measured = replace(measured, doubts=(*measured.doubts, *used_up))
                found.append(complete(measured, poses, skeleton) if complete else measured)
        if not found:
            raise BatchError(
                "the loader yielded no batch; is its dataset empty, or an iterator used up?"
            )
        return found

    def _inspect(self, batch: Any) -> tuple[Format, Skeleton, PoseBatch, CheckReport]:
        """Infer what was not passed, read the batch, and check it; changes nothing."""
        fmt: Format
        if self._format is None:
            fmt, skeleton = infer_format(batch, self._skeleton)
        else:
            fmt = self._format
            skeleton = self._skeleton or guess_skeleton(fmt, batch)
        poses = fmt.read(batch, skeleton, self._camera)
        if not isinstance(poses, PoseBatch):
            raise BatchError(
                f"read of batch={type(fmt).__name__} returned {type(poses).__name__}, expected a "
                "PoseBatch; return PoseBatch(pose_2d, pose_3d, root, camera)."
            )
        poses.check(skeleton.num_joints)
        return fmt, skeleton, poses, inspect(batch, poses, fmt, skeleton)


@contextlib.contextmanager
def restored_order(loader: Any) -> Iterator[None]:
    """Context manager that restores the random streams a loader draws its order from."""
    own = getattr(loader, "random_state", None)  # of VideoPose3D's generator
    own_state = copy.deepcopy(own()) if callable(own) else None
    owners = (loader, *(getattr(loader, name, None) for name in ("sampler", "batch_sampler")))
    generators = {
        id(found): (found, found.get_state())
        for found in (getattr(owner, "generator", None) for owner in owners)
        if isinstance(found, torch.Generator)
    }
    try:
        with restored_streams():
            yield
    finally:
        for generator, state in generators.values():
            generator.set_state(state)
        if own_state is not None:
            loader.set_random_state(own_state)


def as_iterable(loader: Any) -> Iterable[Any]:
    """What iterates a loader: itself, or its `next_epoch()`; a sequence needs no `__iter__`.

    Raises:
        BatchError: it cannot be iterated.
    """
    if not hasattr(loader, "__iter__") and hasattr(loader, "next_epoch"):
        loader = loader.next_epoch()
    if not hasattr(loader, "__iter__") and not hasattr(loader, "__getitem__"):
        raise BatchError(
            f"{type(loader).__name__} cannot be iterated; pass the loader your loop iterates."
        )
    iterable: Iterable[Any] = loader
    return iterable
