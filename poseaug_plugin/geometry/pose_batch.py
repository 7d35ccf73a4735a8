"""`PoseBatch`: what the plugin works on, whatever the caller's batches look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .camera import project

if TYPE_CHECKING:
    from ..batches.field_codec import Codec

__all__ = ["PoseBatch"]


@dataclass(frozen=True)
class PoseBatch:
    """B clips of T frames (1 for single frames) in the plugin's own form, float32."""

    pose_2d: Tensor  # (B, T, J, 2) normalised screen
    pose_3d: Tensor  # (B, T, J, 3) root-relative, camera frame, metres
    root: Tensor  # (B, T, 3) metres; fitted by least squares where the batch has none
    camera: Tensor  # (B, 9)
    valid: Tensor  # (B,) bool; False for padding, which stays as it is
    has_root: bool
    has_camera: bool
    extra_2d: Tensor  # (B, T, J, E) further 2D channels (a confidence), E mostly 0
    codec_2d: Codec  # how the caller writes 2D, to call the estimator alike
    group: Tensor | None = None  # (B,) equal for the people of one image

    def __len__(self) -> int:
        return len(self.pose_2d)

    @property
    def middle(self) -> int:
        return self.pose_2d.shape[1] // 2

    @cached_property
    def leader(self) -> Tensor | None:
        """(B,) the first row of each row's group, which lends its view to the others.

        A group's padding rows follow its people; a group of padding alone follows its first row.
        """
        if self.group is None:
            return None
        same = (self.group[:, None] == self.group).to(torch.uint8)
        return (same + same * self.valid).argmax(1)

    @property
    def path(self) -> Tensor | None:
        """(B, T, 3) the root's place relative to the leader's centre frame, metres.

        None where there is nothing to keep: one frame of one person, or roots only guessed.
        """
        leader = self.leader
        if not self.has_root or (self.root.shape[1] == 1 and leader is None):
            return None
        centre = self.root[:, self.middle, None]
        return self.root - (centre if leader is None else centre[leader])

    @property
    def absolute(self) -> Tensor:
        """(B, T, J, 3) poses where they stand, camera frame."""
        return self.pose_3d + self.root[:, :, None]

    def seen(self, pose_3d: Tensor, camera: Tensor, root: int, **optics: Any) -> PoseBatch:
        """The same rows with other absolute poses (B, T, J, 3), as cameras (B, 9) see them.

        Args:
            root: the root joint.
            optics: `floor` and `limit` of `camera.project`.
        """
        place = pose_3d[:, :, root]
        return replace(
            self,
            pose_2d=project(pose_3d, camera[:, None], **optics),
            pose_3d=pose_3d - place[:, :, None],
            root=place,
            camera=camera,
        )

    def detection_error(self, made: PoseBatch) -> Tensor:
        """(B, T, J, 2) how far each row's 2D is off its 3D, as large as the person in `made`."""
        off = self.pose_2d - project(self.absolute, self.camera[:, None])
        before, after = (p.camera[:, None, :2] / p.root[..., 2:] for p in (self, made))
        return off * (after / before)[:, :, None]

    def to(self, device: torch.device) -> PoseBatch:
        return self._each(lambda x: x.to(device))

    def first(self, rows: int | None) -> PoseBatch:
        """The first rows; all of them for None."""
        return self._each(lambda x: x[:rows])

    def usable(self) -> PoseBatch:
        """Without padding rows."""
        return self if bool(self.valid.all()) else self.pick(self.valid.nonzero()[:, 0])

    def pick(self, rows: Tensor) -> PoseBatch:
        return self._each(lambda x: x[rows])

    def repeat(self, times: int) -> PoseBatch:
        """Each row `times` over, next to itself."""
        return self._each(lambda x: x.repeat_interleave(times, 0))

    def put(self, rows: Tensor, other: PoseBatch) -> PoseBatch:
        """A copy with `rows` taken from `other`, row by row."""
        names = ("pose_2d", "pose_3d", "root", "camera")
        new: Any = {n: getattr(self, n).index_copy(0, rows, getattr(other, n)) for n in names}
        return replace(self, **new)

    def _each(self, change: Callable[[Tensor], Tensor]) -> PoseBatch:
        names = ("pose_2d", "pose_3d", "root", "camera", "valid", "extra_2d", "group")
        values = {name: getattr(self, name) for name in names}
        changed: Any = {n: None if v is None else change(v) for n, v in values.items()}
        return replace(self, **changed)
