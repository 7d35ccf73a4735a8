"""The 3D of whole windows, from generators that yield it for the centre frame alone.

VideoPose3D's and PoseFormer's generator slices, pads, shuffles and flips `poses_2d` by itself. Give
it 2D and 3D side by side there, and it delivers the window's 3D with the same care; the caller gets
the 2D alone, bit for bit what it would have got.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .containers import get_field, set_fields
from .format import BatchFormat

__all__ = ["Windows"]


class Windows:
    """Packs a generator's 3D beside its 2D, through its public attributes; `undo` unpacks.

    Args:
        generator: with `poses_2d`, `poses_3d` (lists of clips), `batch_2d`, `batch_3d` (buffers).
        fmt: where its batches keep 2D and 3D.
    """

    def __init__(self, generator: Any, fmt: BatchFormat) -> None:
        self.generator, self._fmt = generator, fmt
        _unpack(generator)  # whose augmenter was dropped without `detach()`
        self._kept = generator.poses_2d, generator.batch_2d
        self._channels = generator.batch_2d.shape[-1]
        clips = zip(generator.poses_2d, generator.poses_3d)
        generator.poses_2d = [np.concatenate(pair, -1) for pair in clips]
        shape = (*generator.batch_2d.shape[:-1], self._channels + 3)
        generator.batch_2d = np.empty(shape, generator.batch_2d.dtype)

    @classmethod
    def of(cls, loader: Any, fmt: BatchFormat | None) -> Windows | None:
        """For a loader that needs it and has what it takes, else None."""
        names = ("poses_2d", "poses_3d", "batch_2d", "batch_3d", "next_epoch")
        if fmt is None or not all(hasattr(loader, name) for name in names):
            return None
        if loader.poses_3d is None or loader.batch_3d.shape[1] != 1 or loader.batch_2d.shape[1] < 2:
            return None
        sizes = [[c.shape[:2] for c in clips] for clips in (loader.poses_2d, loader.poses_3d)]
        return cls(loader, fmt) if sizes[0] == sizes[1] else None

    @classmethod
    @contextmanager
    def for_a_look(
        cls, loader: Any, packed: Sequence[Windows], fmt: BatchFormat | None
    ) -> Iterator[Windows | None]:
        """The one of `packed` that is the loader's; else `of` it, undone after the block."""
        found = next((windows for windows in packed if windows.generator is loader), None)
        made = None if found else cls.of(loader, fmt)
        try:
            yield found or made
        finally:
            if made:
                made.undo()

    def undo(self) -> None:
        """Give the generator back its own lists and buffers."""
        self.generator.poses_2d, self.generator.batch_2d = self._kept

    def split(self, batch: Any) -> tuple[Any, Any]:
        """The caller's batch as it would be without us, and the same with the window's 3D.

        Windows that are not centred on their targets (causal padding) come without.
        """
        fmt = self._fmt
        try:
            packed, target = get_field(batch, fmt.pose_2d), get_field(batch, fmt.pose_3d)
        except (TypeError, LookupError):  # no batch at all: reading it will say so
            return batch, batch
        if packed.shape[-1] == self._channels:  # made before packing, or after undo
            return batch, batch
        pose_2d = np.ascontiguousarray(packed[..., : self._channels])
        plain = set_fields(batch, {fmt.pose_2d: pose_2d})
        window = packed[..., self._channels :].copy()
        alike = getattr(target, "shape", None) == window[:, :1].shape
        matches = alike and _mirror_as_target(window, target)
        return plain, set_fields(plain, {fmt.pose_3d: window}) if matches else plain


def _unpack(generator: Any) -> None:
    """Take the 3D from beside the 2D, if it stands there."""
    first_2d, first_3d = generator.poses_2d[0], generator.poses_3d[0]
    if first_2d.shape[-1] > 4 and np.array_equal(first_2d[..., -3:], first_3d):
        generator.poses_2d = [clip[..., :-3] for clip in generator.poses_2d]
        generator.batch_2d = np.ascontiguousarray(generator.batch_2d[..., :-3])


def _mirror_as_target(window: NDArray[Any], target: NDArray[Any]) -> bool:
    """Mirror windows (B, T, J, 3) as their targets (B, 1, J, 3) are; whether they belong together.

    The generator's flip of 2D swaps sides but negates x in channel 0 alone; that it flipped a row
    shows where the centre differs from its target.
    """
    centre = window[:, window.shape[1] // 2, None]
    mirrored = centre * np.array([-1, 1, 1])
    same, flipped = (np.abs(c - target).max((1, 2, 3)) < 1e-5 for c in (centre, mirrored))
    window[..., 0] *= np.where(same, 1, -1)[:, None, None]
    return bool((same | flipped).all())
