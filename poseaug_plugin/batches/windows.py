"""The 3D of whole windows, from generators that yield it only for the centre frame.

The generator of VideoPose3D and PoseFormer slices, pads, shuffles and flips `poses_2d`. `Windows`
appends the 3D to the 2D as further channels, so that the generator treats both in the same way. The
caller gets only the 2D, bit for bit as without the plugin.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from .containers import get_field, set_fields
from .format import BatchFormat
from .protocol import Format

__all__ = ["Windows"]


class Windows:
    """Packs a generator's 3D into its 2D, through its public attributes; `undo` unpacks.

    Args:
        generator: has `poses_2d`, `poses_3d` (lists of clips), `batch_2d`, `batch_3d` (buffers).
        fmt: where its batches keep 2D and 3D.
    """

    def __init__(self, generator: Any, fmt: BatchFormat) -> None:
        self.generator, self._fmt = generator, fmt
        _unpack(generator)  # an earlier augmenter may have been dropped without `detach()`
        self._originals = generator.poses_2d, generator.batch_2d
        self._channels = generator.batch_2d.shape[-1]
        clips = zip(generator.poses_2d, generator.poses_3d)
        generator.poses_2d = [np.concatenate(pair, -1) for pair in clips]
        shape = (*generator.batch_2d.shape[:-1], self._channels + 3)
        generator.batch_2d = np.empty(shape, generator.batch_2d.dtype)
        _IN_USE.add(self)

    @classmethod
    def of(cls, loader: Any, fmt: Format | None) -> Windows | None:
        """For a generator of windows of 2D with the 3D of one frame; None for other loaders."""
        names = ("poses_2d", "poses_3d", "batch_2d", "batch_3d", "next_epoch")
        if not isinstance(fmt, BatchFormat) or not all(hasattr(loader, name) for name in names):
            return None
        if loader.poses_3d is None or loader.batch_3d.shape[1] != 1 or loader.batch_2d.shape[1] < 2:
            return None
        sizes = [[c.shape[:2] for c in clips] for clips in (loader.poses_2d, loader.poses_3d)]
        return cls(loader, fmt) if sizes[0] == sizes[1] else None

    @classmethod
    @contextmanager
    def for_a_look(cls, loader: Any, fmt: Format | None) -> Iterator[Windows | None]:
        """The one that the loader has, or else a new one that is undone after the block."""
        found = next((windows for windows in _IN_USE if windows.generator is loader), None)
        temporary = None if found else cls.of(loader, fmt)
        try:
            yield found or temporary
        finally:
            if temporary:
                temporary.undo()

    def undo(self) -> None:
        """Restore the generator's own lists and buffers."""
        _IN_USE.discard(self)
        self.generator.poses_2d, self.generator.batch_2d = self._originals

    def split(self, batch: Any) -> tuple[Any, Any]:
        """The batch as it is without the plugin, and the same with the window's 3D as its target.

        If windows are not centred on their targets (causal padding), both are the former.
        """
        fmt = self._fmt
        try:
            packed, target = get_field(batch, fmt.pose_2d), get_field(batch, fmt.pose_3d)
        except (TypeError, LookupError):  # not a batch; reading it raises the error
            return batch, batch
        if packed.shape[-1] == self._channels:  # from before packing, or after undo
            return batch, batch
        pose_2d = np.ascontiguousarray(packed[..., : self._channels])
        plain = set_fields(batch, {fmt.pose_2d: pose_2d})
        window = packed[..., self._channels :].copy()
        same_shape = getattr(target, "shape", None) == window[:, :1].shape
        matches = same_shape and _mirror_as_target(window, target)
        return plain, set_fields(plain, {fmt.pose_3d: window}) if matches else plain


#: All that have packed a generator; those of augmenters that were dropped leave by themselves.
_IN_USE: WeakSet[Windows] = WeakSet()


def _unpack(generator: Any) -> None:
    """Remove the 3D from the 2D's channels if it is there."""
    first_2d, first_3d = generator.poses_2d[0], generator.poses_3d[0]
    if np.array_equal(first_2d[..., -3:], first_3d):
        generator.poses_2d = [clip[..., :-3] for clip in generator.poses_2d]
        generator.batch_2d = np.ascontiguousarray(generator.batch_2d[..., :-3])


def _mirror_as_target(window: NDArray[Any], target: NDArray[Any]) -> bool:
    """Mirror windows (B, T, J, 3) in place where their targets (B, 1, J, 3) are mirrored.

    The generator's flip swaps the sides of all channels, but negates x only in channel 0, so the
    centre frame of a flipped row differs from its target.

    Returns:
        Whether the centre frame of every window now equals its target.
    """
    centre = window[:, window.shape[1] // 2, None]
    mirrored = centre * np.array([-1, 1, 1])
    same, flipped = (np.abs(c - target).max((1, 2, 3)) < 1e-5 for c in (centre, mirrored))
    window[..., 0] *= np.where(same, 1, -1)[:, None, None]
    return bool((same | flipped).all())
