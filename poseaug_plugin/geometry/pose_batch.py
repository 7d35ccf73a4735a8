"""`PoseBatch`: the form in which the plugin works on a batch, whatever the caller's looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..errors import BatchError
from .camera import fit_root, project
from .transfer import copy_together

__all__ = ["COORDINATES", "PoseBatch"]

#: The dimensions of each array; B, T and J mean the same number in all of them.
SHAPES = {
    "pose_2d": "B T J 2",
    "pose_3d": "B T J 3",
    "root": "B T 3",
    "camera": "B 9",
    "valid": "B",
    "extra_2d": "B T J E",
    "group": "B",
}
MISSING = 0.5  # detection error, relative to the size of the person, of a joint without 2D
COORDINATES = "pose_2d", "pose_3d", "root", "camera"


@dataclass(frozen=True)
class PoseBatch:
    """B clips of T frames (T = 1 for single frames) of people with J joints, float32.

    Args:
        pose_2d: (B, T, J, 2), normalised screen units: x / w * 2 - 1 and y / w * 2 - h / w.
        pose_3d: (B, T, J, 3), relative to the root joint, camera frame, metres.
        root: (B, T, 3), position of the root joint, camera frame, metres.
        camera: (B, 9), intrinsics fx fy cx cy k1 k2 k3 p1 p2 in screen units.
        valid: (B,) bool, False for padding and for rows with NaN, which are never augmented.
            Default: all True.
        has_root: False if the data has no root position and `root` was fitted to the 2D.
        has_camera: False if the data has no camera and `camera` is an assumed one.
        extra_2d: (B, T, J, E), further 2D channels such as a confidence. None: there are none.
        group: (B,), equal for the people of one image, who are augmented as one scene.
        people: number of consecutive rows that are one entry of the caller's batch.
        frame_height: half height of the images, h / w, in screen units; the half width is 1.
        source: anything the format needs to remember about the batch it read. The plugin never
            looks at it. A tensor must have B rows, and is indexed with the others.

    The first four are enough:

    >>> pose_3d = torch.zeros(8, 1, 16, 3)
    >>> poses = PoseBatch(pose_3d[..., :2], pose_3d, pose_3d[:, :, 0], torch.zeros(8, 9))
    >>> len(poses), len(poses.first(2)), bool(poses.valid.all())
    (8, 2, True)
    """

    pose_2d: Tensor
    pose_3d: Tensor
    root: Tensor
    camera: Tensor
    valid: Tensor = None  # type: ignore[assignment]  # filled in below
    has_root: bool = True
    has_camera: bool = True
    extra_2d: Tensor | None = None
    group: Tensor | None = None
    people: int = 1
    frame_height: float = 1.0
    source: object = None

    def __post_init__(self) -> None:
        if self.valid is None:
            valid = torch.ones(len(self), dtype=torch.bool, device=self.pose_2d.device)
            object.__setattr__(self, "valid", valid)

    def check(self, joints: int) -> None:
        """Check types and shapes.

        The constructor does not, because the plugin builds several PoseBatches per batch. The
        first batch of a run is checked.

        Args:
            joints: the skeleton's number of joints.

        Raises:
            BatchError: a field is no tensor, or has another shape or dtype than documented.
        """
        sizes = {"J": joints}
        for name, dims in SHAPES.items():
            value, names = getattr(self, name), dims.split()
            if value is None:
                continue
            shape = tuple(value.shape) if isinstance(value, Tensor) else ()
            wanted = [int(n) if n.isdigit() else sizes.get(n) for n in names]
            fits = len(shape) == len(names) and all(w in (None, s) for w, s in zip(wanted, shape))
            if not fits:
                expected = ", ".join(n if w is None else str(w) for n, w in zip(names, wanted))
                raise BatchError(
                    f"PoseBatch.{name} is {_described(value)}, expected a tensor of shape "
                    f"({expected}), that is ({dims.replace(' ', ', ')}); correct the format's read."
                )
            if name in COORDINATES and value.dtype != torch.float32:
                raise BatchError(
                    f"PoseBatch.{name} is {_described(value)}, expected torch.float32; convert it "
                    "with .float() in the format's read."
                )
            sizes.update(zip(names, shape))
        if isinstance(self.source, Tensor) and self.source.shape[:1] != (len(self),):
            raise BatchError(
                f"PoseBatch.source is {_described(self.source)}, expected one row for each of "
                f"{len(self)} clips; wrap a tensor that is not per row in a tuple."
            )

    def __len__(self) -> int:
        return len(self.pose_2d)

    @property
    def middle(self) -> int:
        """Index of the centre frame."""
        return self.pose_2d.shape[1] // 2

    @cached_property
    def leader(self) -> Tensor | None:
        """(B,) index of the first valid row of each row's group, which sets the group's view.

        For a group of only padding, its first row. None without groups.
        """
        if self.group is None:
            return None
        same = (self.group[:, None] == self.group).to(torch.uint8)
        return (same + same * self.valid).argmax(1)

    @property
    def path(self) -> Tensor | None:
        """(B, T, 3) root positions relative to the leader's centre frame, metres.

        None if there is no relative position to keep: single frames without groups, or fitted
        roots.
        """
        leader = self.leader
        if not self.has_root or (self.root.shape[1] == 1 and leader is None):
            return None
        centre = self.root[:, self.middle, None]
        return self.root - (centre if leader is None else centre[leader])

    @property
    def absolute(self) -> Tensor:
        """(B, T, J, 3) absolute poses, camera frame, metres."""
        return self.pose_3d + self.root[:, :, None]

    def projected(self, pose_3d: Tensor, camera: Tensor, root: int, **optics: Any) -> PoseBatch:
        """The same rows with new poses and their projection.

        Args:
            pose_3d: (B, T, J, 3) absolute poses, camera frame, metres.
            camera: (B, 9) the cameras they are projected with.
            root: index of the root joint.
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

    @property
    def size(self) -> Tensor:
        """(B,) distance of the joint that is furthest from the root, metres."""
        return self.pose_3d.square().sum(-1).flatten(1).amax(1).sqrt()

    @property
    def detection_error(self) -> Tensor:
        """(B, T, J, 2) observed minus projected 2D, in metres at the depth of the person.

        Joints that are off by more than `MISSING` times the size of the person are missing: their
        error is 0. Where the camera is an assumed one, so is the root: the true camera may show the
        person elsewhere in the image, which is no error of a detector.
        """
        lens, root = self.camera[:, None], self.root
        if self.has_root and not self.has_camera:
            root = fit_root(self.pose_2d, self.pose_3d, lens)
        off = self.pose_2d - project(self.pose_3d + root[:, :, None], lens)
        error, farthest = off / self._scale, MISSING * self.size[:, None, None]
        return torch.where((error.norm(dim=-1) < farthest)[..., None], error, 0.0)

    def with_error(self, error: Tensor) -> PoseBatch:
        """The same rows with an error of the 2D (B, T, J, 2), metres at the depth of the person."""
        return replace(self, pose_2d=self.pose_2d + error * self._scale)

    @property
    def _scale(self) -> Tensor:
        """(B, T, 1, 2) screen units of a metre at the depth of the root."""
        return (self.camera[:, None, :2] / self.root[..., 2:])[:, :, None]

    def to(self, device: torch.device) -> PoseBatch:
        """A copy on a device, made in one transfer; the batch itself if all of it is there."""
        tensors = self._tensors()
        if all(tensor.device == device for tensor in tensors.values()):
            return self
        copies: Any = dict(zip(tensors, copy_together([*tensors.values()], device)))
        return replace(self, **copies)

    def first(self, rows: int | None) -> PoseBatch:
        """The first rows, or all of them if `rows` is None."""
        return self._each(lambda x: x[:rows])

    def usable(self) -> PoseBatch:
        """The valid rows. The host reads their number once."""
        rows = self.valid.nonzero()[:, 0]
        return self if len(rows) == len(self) else self.pick(rows)

    def pick(self, rows: Tensor) -> PoseBatch:
        """The rows with the given indices."""
        return self._each(lambda x: x.index_select(0, rows))

    def repeat(self, times: int) -> PoseBatch:
        """Each entry of the batch repeated `times` times; its copies follow it directly."""
        entries = torch.arange(len(self), device=self.pose_2d.device).view(-1, 1, self.people)
        return self.pick(entries.expand(-1, times, -1).flatten())

    def put(self, rows: Tensor, other: PoseBatch) -> PoseBatch:
        """A copy in which `rows` have the poses, roots and cameras of `other`'s rows."""
        new: Any = {n: getattr(self, n).index_copy(0, rows, getattr(other, n)) for n in COORDINATES}
        return replace(self, **new)

    def where(self, rows: Tensor, other: PoseBatch) -> PoseBatch:
        """A copy in which `rows` (B,) bool have the poses and `valid` of `other`'s rows."""
        new: Any = {}
        for name in (*COORDINATES, "valid"):
            own = getattr(self, name)
            new[name] = torch.where(_as_column(rows, own), getattr(other, name), own)
        return replace(self, **new)

    def _each(self, change: Callable[[Tensor], Tensor]) -> PoseBatch:
        """A copy with every field that is a tensor changed."""
        new: Any = {name: change(x) for name, x in self._tensors().items()}
        return replace(self, **new)

    def _tensors(self) -> dict[str, Tensor]:
        """The fields that are tensors, by name: all of them have B rows."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _as_column(rows: Tensor, x: Tensor) -> Tensor:
    return rows.view(-1, *[1] * (x.ndim - 1))


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a {value.dtype} tensor of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"
