"""A caller's batch to `PoseBatch` and back: which field is what, in which frame and unit.

The caller's containers, types, dtypes and devices come back as they were; arrays are copied
before a row is written, and nothing of the caller's is kept.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .camera import Camera, fit_root
from .errors import BatchError, ConfigError, WindowError
from .layout import Layout
from .skeleton import Skeleton

__all__ = ["FORMATS", "BatchFormat", "PoseBatch", "repeat_rows"]

Key = int | str


@dataclass(frozen=True)
class PoseBatch:
    """B clips of T frames (1 for single frames) in the plugin's own form, float32."""

    pose_2d: Tensor  # (B, T, J, 2) normalised screen
    pose_3d: Tensor  # (B, T, J, 3) root-relative, camera frame, metres
    root: Tensor  # (B, T, 3) metres; fitted by least squares where the batch has none
    camera: Tensor  # (B, 9)
    has_root: bool
    has_camera: bool
    extra_2d: Tensor  # (B, T, J, E) further 2D channels (a confidence), E mostly 0
    layout_2d: Layout  # how the caller shapes 2D, to call the estimator alike

    def __len__(self) -> int:
        return len(self.pose_2d)

    @property
    def middle(self) -> int:
        return self.pose_2d.shape[1] // 2

    @property
    def path(self) -> Tensor | None:
        """The root's way relative to the centre frame, where the batch tells it and it moves."""
        if not self.has_root or self.root.shape[1] == 1:
            return None
        return self.root - self.root[:, self.middle, None]

    def to(self, device: torch.device) -> PoseBatch:
        return self._each(lambda x: x.to(device))

    def first(self, rows: int | None) -> PoseBatch:
        """The first rows; all of them for None."""
        return self._each(lambda x: x[:rows])

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
        names = ("pose_2d", "pose_3d", "root", "camera", "extra_2d")
        changed: Any = {name: change(getattr(self, name)) for name in names}
        return replace(self, **changed)


@dataclass(frozen=True)
class BatchFormat:
    """Where a codebase keeps its 2D, 3D and camera, and what its 3D means.

    Args:
        pose_2d, pose_3d, camera: index (tuple, list) or name (mapping, named tuple, dataclass) of
            the field; no camera: the augmenter's `camera=` is assumed.
        root: "absolute" (camera frame), "relative" (root joint at the origin), or "slot" (root
            relative, with the root's absolute position in its own joint, as VideoPose3D).
        unit: metres per unit of the 3D; 0.001 for millimetres.

    2D and 3D fields may be flat (B, 2J), (B, J, 2), (B, T, J, 2) or (N, C, T, J, 1); further 2D
    channels (a confidence) are the row's own and stay. Other fields pass through.
    """

    pose_2d: Key
    pose_3d: Key
    camera: Key | None = None
    root: Literal["absolute", "relative", "slot"] = "relative"
    unit: float = 1.0

    def __post_init__(self) -> None:
        if self.root not in ("absolute", "relative", "slot"):
            raise ConfigError(f"root={self.root!r} is not one of ['absolute', 'relative', 'slot'].")
        if not isinstance(self.unit, (int, float)) or not self.unit > 0:
            raise ConfigError(f"unit={self.unit!r} must be metres per unit, above 0.")

    @classmethod
    def of(cls, source: BatchFormat | Mapping[str, Any] | str) -> BatchFormat:
        """A format from itself, a preset's name, or a mapping of its arguments.

        >>> BatchFormat.of({"pose_2d": "x", "pose_3d": "y", "unit": 0.001}).unit
        0.001

        Raises:
            ConfigError: an unknown name or argument.
        """
        if isinstance(source, str):
            if source not in FORMATS:
                raise ConfigError(
                    f"batch={source!r} is no known format; choose one of {sorted(FORMATS)}, or "
                    "name the fields: batch=dict(pose_2d=1, pose_3d=0, root='relative')."
                )
            return FORMATS[source]
        if isinstance(source, Mapping):
            known = {field.name for field in dataclasses.fields(cls)}
            if not {"pose_2d", "pose_3d"} <= set(source) <= known:
                raise ConfigError(
                    f"batch={dict(source)!r} must name pose_2d and pose_3d, and of "
                    f"{sorted(known)} what applies."
                )
            return cls(**source)
        if isinstance(source, BatchFormat):
            return source
        if callable(getattr(source, "read", None)) and callable(getattr(source, "write", None)):
            return _ReadWrite("read", "write", source=source)
        raise ConfigError(
            f"batch={source!r} is neither a format's name, a mapping of field names, a "
            "BatchFormat, nor an object with read and write."
        )

    # Reading

    def read(self, batch: Any, skeleton: Skeleton, camera: Camera) -> PoseBatch:
        """The batch in the plugin's form; on the batch's own device, sharing no memory with it.

        Raises:
            BatchError: a missing field, ragged or empty rows, shapes that do not fit.
        """
        raw_2d, raw_3d = self._field(batch, "pose_2d"), self._field(batch, "pose_3d")
        joints = skeleton.num_joints
        layout_2d = Layout.of(raw_2d, joints, 2, f"pose_2d (field {self.pose_2d!r})")
        layout_3d = Layout.of(raw_3d, joints, 3, f"pose_3d (field {self.pose_3d!r})")
        pose_2d = layout_2d.canonical(raw_2d)
        pose_3d = layout_3d.canonical(raw_3d).to(pose_2d.device) * self.unit
        if len(pose_2d) == len(pose_3d) and pose_3d.shape[1] == 1 < pose_2d.shape[1]:
            raise WindowError(
                f"it has windows of {pose_2d.shape[1]} frames of 2D but the 3D of one frame; rows "
                "stay real, for a window cannot be moved without its 3D. Yield the window's 3D."
            )
        if pose_2d.shape[:2] != pose_3d.shape[:2]:
            raise BatchError(
                f"pose_2d has (rows, frames) {tuple(pose_2d.shape[:2])} but pose_3d "
                f"{tuple(pose_3d.shape[:2])}; every 2D frame needs its own 3D."
            )
        at_root = pose_3d[:, :, skeleton.root, None]
        if self.root == "slot":
            relative = pose_3d.clone()
            relative[:, :, skeleton.root] = 0
        else:
            relative = pose_3d - at_root
        lens = self._camera(batch, pose_2d, camera)
        has_root = self.root != "relative"
        root = at_root[:, :, 0]
        if not has_root:
            root = fit_root(pose_2d[..., :2], relative, lens[:, None])
        return PoseBatch(
            pose_2d[..., :2],
            relative,
            root,
            lens,
            has_root,
            self.camera is not None,
            pose_2d[..., 2:],
            layout_2d,
        )

    def guess_skeleton(self, batch: Any) -> Skeleton:
        """The preset with as many joints as the 3D has.

        Raises:
            SkeletonError: none has.
        """
        shape = tuple(self._field(batch, "pose_3d").shape)
        per_axis = {2: lambda: shape[1] // 3, 5: lambda: shape[3]}
        return Skeleton.for_joints(per_axis.get(len(shape), lambda: (0, *shape)[-2])())

    def _field(self, batch: Any, name: str) -> Tensor:
        key: Key = getattr(self, name)
        try:
            value = get_field(batch, key)
        except (KeyError, IndexError, AttributeError, TypeError):
            raise BatchError(
                f"the batch has no field {key!r} for {name}; it is {describe(batch)}. Name the "
                "right field in batch=."
            ) from None
        return as_tensor(value, f"{name} (field {key!r})")

    def _camera(self, batch: Any, pose_2d: Tensor, default: Camera) -> Tensor:
        rows = len(pose_2d)
        if self.camera is None:
            return default.intrinsics.to(pose_2d).expand(rows, 9)
        camera = self._field(batch, "camera")
        if camera.shape != (rows, 9):
            raise BatchError(
                f"camera (field {self.camera!r}) has shape {tuple(camera.shape)}, expected "
                f"({rows}, 9): fx fy cx cy k1 k2 k3 p1 p2 in screen units."
            )
        return camera.to(pose_2d)

    # Writing

    def write(self, batch: Any, poses: PoseBatch, rows: Tensor, skeleton: Skeleton) -> Any:
        """The batch with `rows` (B,) bool taken from `poses`; all else bit for bit as it was."""
        absolute = poses.pose_3d + poses.root[:, :, None]
        if self.root == "absolute":
            pose_3d = absolute
        else:
            pose_3d = poses.pose_3d.clone()
            if self.root == "slot":
                pose_3d[:, :, skeleton.root] = poses.root
        old_3d = self._field(batch, "pose_3d")
        layout_3d = Layout.of(old_3d, skeleton.num_joints, 3, "pose_3d")
        new = {
            self.pose_2d: self.inputs(poses, poses.pose_2d),
            self.pose_3d: layout_3d.shaped(pose_3d / self.unit),
        }
        if self.camera is not None:
            new[self.camera] = poses.camera
        return set_fields(
            batch, {k: _overwrite(get_field(batch, k), v, rows) for k, v in new.items()}
        )

    # The estimator, called as the caller calls it

    def inputs(self, poses: PoseBatch, pose_2d: Tensor) -> Tensor:
        """2D (B, T, J, 2) in the shape the caller's batches have, further channels behind it."""
        return poses.layout_2d.shaped(torch.cat([pose_2d, poses.extra_2d], -1))

    def outputs(self, predicted: Tensor, poses: PoseBatch, skeleton: Skeleton) -> Tensor:
        """The estimator's answer as root-relative metres (B, T, J, 3).

        Raises:
            BatchError: it has another shape.
        """
        layout = Layout.of(predicted, skeleton.num_joints, 3, "the estimator's output")
        pose = layout.canonical(predicted) * self.unit
        if pose.shape != poses.pose_3d.shape:
            raise BatchError(
                f"the estimator's output reads as {tuple(pose.shape)}, the targets as "
                f"{tuple(poses.pose_3d.shape)}."
            )
        return pose - pose[:, :, skeleton.root, None]


@dataclass(frozen=True)
class _ReadWrite(BatchFormat):
    """A caller's own object with `read` and `write`; the estimator takes 2D in its layout."""

    source: Any = None

    def read(self, batch: Any, skeleton: Skeleton, camera: Camera) -> PoseBatch:
        poses: PoseBatch = self.source.read(batch, skeleton, camera)
        return poses

    def write(self, batch: Any, poses: PoseBatch, rows: Tensor, skeleton: Skeleton) -> Any:
        return self.source.write(batch, poses, rows, skeleton)

    def guess_skeleton(self, batch: Any) -> Skeleton:
        raise ConfigError(
            f"batch={type(self.source).__name__} reads batches its own way; pass skeleton= as well."
        )


FORMATS: dict[str, BatchFormat] = {
    "semgcn": BatchFormat(pose_2d=1, pose_3d=0, root="relative"),
    "poseaug": BatchFormat(pose_2d=1, pose_3d=0, camera=3, root="absolute"),
}


def as_tensor(value: Any, what: str) -> Tensor:
    """A float32 copy of an array, tensor, or list of equal ones.

    Raises:
        BatchError: rows of different shapes, or no numbers at all.
    """
    if isinstance(value, Tensor):
        return value.detach().to(torch.float32, copy=True)
    try:
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], Tensor):
            return torch.stack([v.detach() for v in value]).to(torch.float32)
        return torch.from_numpy(np.array(value, dtype=np.float32))
    except (ValueError, TypeError, RuntimeError):
        shapes = sorted({_shape(v) for v in value}) if _sized(value) else "none"
        raise BatchError(
            f"{what} is {type(value).__name__} with rows of shapes {shapes}; expected one array "
            "or tensor whose rows all have the same shape. Pad or cut the clips to one length."
        ) from None


def repeat_rows(batch: Any, rows: int, times: int = 2) -> Any:
    """Every per-row field with each row `times` over, next to itself; other fields as they are."""

    def repeated(value: Any) -> Any:
        if isinstance(value, Tensor) and value.ndim and len(value) == rows:
            return value.repeat_interleave(times, 0)
        if isinstance(value, np.ndarray) and value.ndim and len(value) == rows:
            return value.repeat(times, 0)
        if isinstance(value, (list, tuple)) and len(value) == rows:
            # A twin of its own: `for row in batch: row -= ...` must not reach a row twice.
            return type(value)(
                copy.deepcopy(v) if twin else v for v in value for twin in range(times)
            )
        return value

    return set_fields(batch, {key: repeated(get_field(batch, key)) for key in keys_of(batch)})


def keys_of(batch: Any) -> list[Key]:
    """Names or indices of a batch's top-level fields."""
    if isinstance(batch, Mapping):
        return list(batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return [field.name for field in dataclasses.fields(batch)]
    if isinstance(batch, (tuple, list)):
        return list(range(len(batch)))
    raise BatchError(
        f"a batch of type {type(batch).__name__} has no fields to read; expected a tuple, list, "
        "mapping, named tuple or dataclass."
    )


def describe(batch: Any) -> str:
    """One line on what a batch is, for error messages."""
    try:
        keys = keys_of(batch)
    except BatchError:
        return f"a {type(batch).__name__}"
    parts = []
    for key in keys:
        value = get_field(batch, key)
        shape = tuple(value.shape) if hasattr(value, "shape") else None
        size = shape if shape is not None else f"len {len(value)}" if _sized(value) else ""
        parts.append(f"{key!r}: {type(value).__name__} {size}".strip())
    return f"a {type(batch).__name__} of {{{', '.join(parts)}}}"


def _shape(value: Any) -> str:
    try:
        return str(tuple(np.shape(value)))
    except ValueError:
        return "ragged"


def _sized(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def get_field(batch: Any, key: Key) -> Any:
    if isinstance(key, str) and not isinstance(batch, Mapping):
        return getattr(batch, key)
    return batch[key]


def set_fields(batch: Any, new: Mapping[Any, Any]) -> Any:
    """The same kind of container with some fields replaced."""
    if isinstance(batch, Mapping):
        made: Any = copy.copy(batch)
        for key, value in new.items():
            made[key] = value
        return made
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return dataclasses.replace(batch, **{str(k): v for k, v in new.items()})
    names = getattr(batch, "_fields", None)
    if names:  # a named tuple
        return batch._replace(**{k if isinstance(k, str) else names[k]: new[k] for k in new})
    items = list(batch)
    for key, value in new.items():
        items[key] = value
    return type(batch)(items)


def _overwrite(old: Any, new: Tensor, rows: Tensor) -> Any:
    """`old` copied, its `rows` replaced, in its own type, dtype and device."""
    if isinstance(old, np.ndarray):
        out = old.copy()
        picked = rows.cpu().numpy()
        out[picked] = new.detach().cpu().numpy().astype(old.dtype)[picked]
        return out
    if isinstance(old, (list, tuple)):
        return type(old)(
            _like(o, n) if taken else o for o, n, taken in zip(old, new, rows.tolist())
        )
    keep = rows.to(old.device).view(-1, *[1] * (old.ndim - 1))
    return torch.where(keep, new.detach().to(old), old)


def _like(old: Any, new: Tensor) -> Any:
    """One row of a list in its own type and dtype."""
    if isinstance(old, Tensor):
        return new.detach().to(old)
    values = new.detach().cpu().numpy()
    return values.astype(old.dtype) if isinstance(old, np.ndarray) else values.tolist()
