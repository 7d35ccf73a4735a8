"""Errors of the model on the plugin's pairs, from the forward passes of training itself."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from .augment.pose_statistics import PoseStatistics
from .batches.protocol import EstimatorFormat
from .batches.reader import BatchReader
from .geometry.pose_batch import PoseBatch
from .loop.estimator import Estimator, first_tensor, full_precision
from .report import Rows, circumstances, joint_errors

__all__ = ["ErrorRecorder"]

ROWS_KEPT = 20_000  # of the latest batches
CLOSE = 0.02  # largest norm of the difference of rows that are still the same, of their norm
MOST_AHEAD = 8  # batches that a loop may read before it calls the model with the first of them

_NOT_CALLED = (
    "the model that was passed to PoseAugmenter was not called with a batch in training mode, or "
    "only from compiled code or a CUDA graph, which call no hook (pass the compiled model)"
)
_OTHER_ROWS = (
    "the model's inputs are not the 2D of the batch, e.g. because they are normalised, cropped, "
    "flipped or of an earlier batch"
)


@dataclass
class _Measured:
    """Rows of a batch with the errors of the model, and their centre frames.

    Attributes:
        error: (B, J), mm.
        seen: (B,) bool, the rows whose error is known.
        augmented: (B,) bool, the rows that are augmented.
        pose_3d: (B, J, 3), relative to the root, metres.
        root: (B, 3), camera frame, metres.
        root_2d: (B, 2), screen units.
    """

    error: Tensor
    seen: Tensor
    augmented: Tensor
    pose_3d: Tensor
    root: Tensor
    root_2d: Tensor


@dataclass
class _Expected:
    """Rows with which the model may be called.

    Attributes:
        poses: their poses.
        augmented: (B,) bool, the rows that are augmented.
        counted: (B,) bool, the rows whose error is of interest.
        measured: their errors, once the model was called with them.
    """

    poses: PoseBatch
    augmented: Tensor
    counted: Tensor
    measured: _Measured | None = None


class ErrorRecorder:
    """Records the errors of the latest rows, from calls of the model that the caller makes.

    It never waits for the device, except in `reason` and `rows`. Rows are recognised by their 2D:
    the same number of rows as in the batch, in the same order, each equal up to rounding and small
    noise. The first call with a row counts, others (a second view, gradient checkpointing) do not.

    Args:
        estimator: the model, and how it is called.
        reader: knows format and skeleton.

    Attributes:
        batches: number of batches so far.
    """

    def __init__(self, estimator: Estimator, reader: BatchReader) -> None:
        self._estimator, self._reader = estimator, reader
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.batches = 0
        self._expected: list[list[_Expected]] = []  # of each batch, the latest last
        self._uncalled = 0  # batches since the last call
        self._ahead = 1  # batches that calls may be of: more if the loop reads ahead
        self._kept: deque[_Measured] = deque()
        self._rows = 0  # of those
        self._reason = _NOT_CALLED

    def expect(self, poses: PoseBatch, replaced: Tensor) -> None:
        """Expect calls with the rows of a new batch, and no longer those of old ones.

        Args:
            poses: the rows that the caller gets.
            replaced: (B,) bool, which of them are augmented.
        """
        self.batches += 1
        self._uncalled += 1
        if self._uncalled > 1:  # one more, since the call with the oldest may be on its way
            self._ahead = max(self._ahead, min(self._uncalled + 1, MOST_AHEAD))
        # A new list: a thread that reads ahead may be here while another is in `record`.
        batch = [_Expected(poses, replaced, poses.valid)]
        self._expected = [*self._expected, batch][-self._ahead :]

    def expect_real(self, poses: PoseBatch) -> None:
        """Expect calls with the real rows of the same batch as well, which count once."""
        batch = self._expected[-1]
        (augmented,) = batch
        augmented.counted = augmented.counted & augmented.augmented
        batch.append(_Expected(poses, torch.zeros_like(poses.valid), poses.valid))

    def close(self) -> None:
        """Expect no more calls."""
        self._expected = []

    @torch.no_grad()
    def record(self, arguments: Any, output: Any) -> None:
        """Record the errors of a call of the model, if it is one with the expected rows.

        Args:
            arguments: what the model was called with. It is only read.
            output: what it returned. It is only read.
        """
        self._uncalled = 0
        for expected in itertools.chain.from_iterable(self._expected):
            device = expected.poses.pose_2d.device
            if _is_capturing(device):
                return  # each replay of a CUDA graph would overwrite what is kept here
            with full_precision(device):
                try:
                    self._record(expected, arguments, output)
                except Exception as error:  # of any kind: it must not end the caller's run
                    self._reason = f"the call of the model cannot be read: {error!r}"

    def _record(self, expected: _Expected, arguments: Any, output: Any) -> None:
        poses, skeleton = expected.poses, self._reader.skeleton
        fmt = cast(EstimatorFormat, self._reader.format)
        passed, predicted = self._estimator.replay(output, fmt.inputs(poses, poses.pose_2d))
        given = first_tensor(arguments)
        pair = None if passed is None or given is None else _aligned(given, passed)
        if pair is None or len(pair[1]) != len(poses):
            self._reason = (
                f"the model's input is {_shape(given)}, but the 2D of the batch gives "
                f"{_shape(passed)}"
            )
            return
        if not isinstance(predicted, Tensor):
            self._reason = (
                f"the model's call gives a {type(predicted).__name__}, not the 3D; pass "
                "predict=lambda model, pose_2d: ... that returns it, unless the model computes the "
                "loss itself"
            )
            return
        predicted = predicted.to(poses.pose_2d.device, non_blocking=True)
        error = joint_errors(predicted, poses, fmt, skeleton).float()
        seen, measured = _close(*pair) & expected.counted, expected.measured
        if measured is None:
            self._reason = _OTHER_ROWS
            expected.measured = _measured(expected, error, seen, skeleton.root)
            self._keep(expected.measured)
        else:
            new = seen & ~measured.seen
            measured.error = torch.where(new[:, None], error, measured.error)
            measured.seen = measured.seen | new

    def _keep(self, measured: _Measured) -> None:
        self._kept.append(measured)
        self._rows += len(measured.seen)
        while self._rows - len(self._kept[0].seen) >= ROWS_KEPT:
            self._rows -= len(self._kept.popleft().seen)

    # What was recorded

    def reason(self) -> str | None:
        """Return why no row was recorded, or None if there is one. This waits for the device."""
        return None if any(bool(kept.seen.any()) for kept in self._kept) else self._reason

    @torch.no_grad()
    def rows(self, statistics: PoseStatistics) -> Rows | None:
        """Return the rows so far, or None if none of them is augmented.

        Args:
            statistics: of the original poses, for the rarity of a pose.
        """
        if not self._kept:
            return None
        device = statistics.mean.device
        error, seen, augmented, *places = (
            torch.cat([getattr(kept, name).to(device) for kept in self._kept])
            for name in ("error", "seen", "augmented", "pose_3d", "root", "root_2d")
        )
        chosen = (seen & augmented).nonzero()[:, 0]
        if not len(chosen):
            return None
        pose_3d, root, root_2d = (x.index_select(0, chosen) for x in places)
        with full_precision(device):
            found = circumstances(pose_3d, root, root_2d, self._reader.skeleton, statistics)
        return Rows(error[chosen], error[seen & ~augmented].mean(1), found)


def _is_capturing(device: torch.device) -> bool:
    on_gpu = device.type == "cuda" and torch.backends.cuda.is_built()
    return on_gpu and torch.cuda.is_current_stream_capturing()


def _measured(expected: _Expected, error: Tensor, seen: Tensor, root: int) -> _Measured:
    poses, middle = expected.poses, expected.poses.middle
    places = poses.pose_3d[:, middle], poses.root[:, middle], poses.pose_2d[:, middle, root]
    if poses.pose_2d.shape[1] > 1:  # else a view would keep whole clips
        places = places[0].clone(), places[1].clone(), places[2].clone()
    return _Measured(error, seen, expected.augmented, *places)


def _aligned(given: Tensor, expected: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return two inputs in the same shape, or None if they have different numbers of rows.

    If one of them has further channels such as a confidence, they are left out.
    """
    given = given.detach().to(expected.device, torch.float32, non_blocking=True)
    if given.ndim > 2 and given.shape[:-1] == expected.shape[:-1]:
        channels = min(given.shape[-1], expected.shape[-1])
        return given[..., :channels], expected[..., :channels]
    if given.numel() == expected.numel():
        return given.reshape(expected.shape), expected
    return None


def _close(given: Tensor, expected: Tensor) -> Tensor:
    """Return which rows (B,) are equal up to rounding and small noise; none with NaN is."""
    given, expected = given.flatten(1), expected.flatten(1)
    size = torch.linalg.vector_norm(expected, dim=1)
    return torch.linalg.vector_norm(given - expected, dim=1) <= CLOSE * size


def _shape(x: Tensor | None) -> str:
    return "no tensor" if x is None else f"of shape {tuple(x.shape)}"
