"""`BatchFormat`: which field of a batch holds what, in which frame and unit."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import BatchError, ConfigError, WindowError
from ..geometry.bones import gather, pose_to_bones
from ..geometry.camera import Camera, fit_root, project
from ..geometry.constants import index_tensor
from ..geometry.pose_batch import PoseBatch
from ..geometry.skeleton import Skeleton
from .cameras import as_given, from_pixels, intrinsics_of
from .containers import (
    Key,
    as_tensor,
    describe,
    device_of,
    get_field,
    overwrite,
    representable,
    set_fields,
    stacked_shape,
)
from .field_codec import FieldCodec
from .image_space import from_image, relative_from_image, to_image
from .layout import Layout

__all__ = ["BatchFormat", "as_argument"]

STATISTICS = ("stat_2d", "stat_3d")


@dataclass(frozen=True)
class BatchFormat:
    """Where a codebase keeps its 2D, 3D and camera, and what their numbers mean.

    Args:
        pose_2d, pose_3d, camera: index (tuple, list) or name (mapping, named tuple, dataclass) of
            the field. Without a camera field, or if it is None, the augmenter's `camera=` is used.
            A camera is (B, 9), fx fy cx cy k1 k2 k3 p1 p2, or a matrix (B, 3, 3).
        root: "absolute" (camera frame), "relative" (root joint at the origin), or "slot"
            (root-relative, but the root joint holds its absolute position, as in VideoPose3D).
        space: "metric", or "image" for the 2.5D targets of MotionBERT (see `image_space`), whose
            root is "absolute" (the loader keeps it) or "relative" (subtracted, as in mmpose).
        unit: metres per unit of the 3D; 0.001 for millimetres.
        screen: (w, h) of the image if the 2D is in pixels. A camera in pixels is converted as
            well, and augmented people stay inside this image.
        stat_2d, stat_3d: (mean, std) of the field's dimensions if it is standardised.
        joints_2d, joints_3d: the skeleton's joints that the field holds, in the field's order.
            Default: all. A 3D field may lack only the root.
        groups: field with one number or name per row, equal for the people of one image. They are
            augmented as one scene and keep their positions relative to each other.
        scenes: whether the second dimension is the people of one image: (B, P, J, C) or
            (B, P, T, J, C), with one camera for each image and zeros for people who are not there.
            An estimator of a learned mode is called with one person per scene.
        window_3d: field with the absolute 3D (B, T, J, 3) of whole windows, if `pose_3d` is only
            that of the centre frame. It may be mirrored where `pose_3d` is not, and the other way
            round. It is read only.
        skeleton: name of a preset, if the number of joints does not identify it.
        default_camera: the camera of batches without one, unless the augmenter's `camera=` is set.
            None: that of Human3.6M.

    2D and 3D fields may have the shapes (B, J * C), (B, J, C), (B, T, J, C), (B, 1, T, J, C),
    (B, J * C, T) or (N, C, T, J, 1). A third 2D channel (a confidence) stays with its row. Rows
    that are all zeros are padding and are not augmented, and such frames of a clip stay zeros.
    Other fields are passed through.

    Raises:
        ConfigError: an argument out of range, or two that contradict each other.

    >>> BatchFormat(pose_2d=1, pose_3d=0, root="absolute")
    BatchFormat(pose_2d=1, pose_3d=0, root='absolute')
    """

    pose_2d: Key
    pose_3d: Key
    camera: Key | None = None
    root: Literal["absolute", "relative", "slot"] = "relative"
    space: Literal["metric", "image"] = "metric"
    unit: float = 1.0
    screen: tuple[float, float] | None = None
    stat_2d: tuple[Any, Any] | None = None
    stat_3d: tuple[Any, Any] | None = None
    joints_2d: tuple[int, ...] | None = None
    joints_3d: tuple[int, ...] | None = None
    groups: Key | None = None
    scenes: bool = False
    window_3d: Key | None = None
    skeleton: str | None = None
    default_camera: Camera | None = None

    def __post_init__(self) -> None:
        for name, choices in (
            ("root", ("absolute", "relative", "slot")),
            ("space", ("metric", "image")),
        ):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name}={getattr(self, name)!r} is not one of {list(choices)}.")
        if not isinstance(self.unit, (int, float, Real)) or not self.unit > 0:
            raise ConfigError(f"unit={self.unit!r} must be a number of metres per unit, above 0.")
        if isinstance(self.screen, np.ndarray):
            object.__setattr__(self, "screen", tuple(self.screen.tolist()))
        if self.screen is not None:
            sizes = self.screen if isinstance(self.screen, (tuple, list)) else ()
            if len(sizes) != 2 or not all(
                isinstance(v, (int, float, Real)) and v > 0 for v in sizes
            ):
                raise ConfigError(f"screen={self.screen!r} must be (width, height) in pixels.")
        for name in STATISTICS:
            stat = getattr(self, name)
            if stat is not None and not (isinstance(stat, (tuple, list)) and len(stat) == 2):
                raise ConfigError(
                    f"{name}= is a {type(stat).__name__}, expected (mean, std): two arrays with a "
                    "number for each dimension of the field."
                )
        if self.pose_2d == self.pose_3d:
            raise ConfigError(
                f"pose_2d and pose_3d are both field {self.pose_2d!r}; name the field of each."
            )
        for name in ("joints_2d", "joints_3d"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _joints(getattr(self, name), name))
        for name in ("groups", "scenes"):
            if getattr(self, name) not in (None, False) and self.root == "relative":
                raise ConfigError(
                    f"{name}= keeps people's positions relative to each other, but 3D with "
                    "root='relative' has no positions; yield 3D in the camera frame "
                    "(root='absolute' or 'slot')."
                )
        if self.scenes and self.groups is not None:
            raise ConfigError("scenes=True says who is in one image already; leave out groups=.")
        if self.skeleton is not None:
            Skeleton.of(self.skeleton)

    def __repr__(self) -> str:
        """The arguments that differ from the defaults."""
        given = ((f, getattr(self, f.name)) for f in dataclasses.fields(self))
        words = ", ".join(f"{f.name}={_short(value)}" for f, value in given if _differs(f, value))
        return f"{type(self).__name__}({words})"

    # Reading

    def read(self, batch: Any, skeleton: Skeleton, camera: Camera) -> PoseBatch:
        """Convert a batch to the plugin's form, on the batch's device and in memory of its own.

        Raises:
            BatchError: a missing field, ragged or empty rows, shapes that do not fit.
        """
        raw_2d, raw_3d = self._field(batch, "pose_2d"), self._field(batch, "pose_3d")
        codec_2d = self._codec_2d(raw_2d.shape, skeleton.num_joints)
        pose_2d, extra = codec_2d.decode(raw_2d)
        codec_3d = self._codec_3d(raw_3d.shape, skeleton)
        pose_3d = codec_3d.decode(raw_3d)[0].to(pose_2d.device)
        root_kind = self.root
        if self.window_3d is not None and pose_3d.shape[1] == 1 < pose_2d.shape[1]:
            pose_3d, root_kind = self._windows(batch, pose_3d, skeleton), "absolute"
        _check_frames(pose_2d, pose_3d)
        padding = _padding((raw_2d, codec_2d), (raw_3d, codec_3d))
        if padding is not None:
            pose_2d, pose_3d = _without_padding(padding, pose_2d, pose_3d)
        people = codec_2d.layout.people
        lens = self._camera(batch, pose_2d, camera, people)
        norms = _norms(raw_2d, people), _norms(raw_3d, people).to(pose_2d.device)
        valid = torch.minimum(*norms) != 0  # rows that are all zeros are padding
        if self.space == "image":
            if self.root == "relative":  # the 2D has the root's position
                at = pose_2d[:, :, skeleton.root, None] - pose_3d[:, :, skeleton.root, None, :2]
                pose_3d = pose_3d + F.pad(at, (0, 1))
            pose_3d = from_image(pose_3d, lens, skeleton)
        root = pose_3d[:, :, skeleton.root]
        if root_kind == "slot":
            relative = pose_3d.clone()
            relative[:, :, skeleton.root] = 0
        else:
            relative = pose_3d - root[:, :, None]
        has_root = root_kind != "relative" or self.space == "image"
        observed = codec_2d.joints
        if not has_root:
            root = fit_root(gather(pose_2d, observed), gather(relative, observed), lens[:, None])
        if len(observed) < skeleton.num_joints:  # joints without 2D get the projection of their 3D
            missing = tuple(j for j in range(skeleton.num_joints) if j not in observed)
            projected = project(gather(relative, missing) + root[:, :, None], lens[:, None])
            pose_2d.index_copy_(2, index_tensor(missing, pose_2d.device), projected)
        return PoseBatch(
            pose_2d=pose_2d,
            pose_3d=relative,
            root=root,
            camera=lens,
            valid=valid,
            has_root=has_root,
            has_camera=self._has_camera(batch),
            extra_2d=extra,
            group=self._groups(batch, pose_2d, people),
            people=people,
            frame_height=self.screen[1] / self.screen[0] if self.screen else camera.height,
            source=codec_2d,  # `inputs` writes the 2D in the same way
        )

    def decoded_3d(self, batch: Any, skeleton: Skeleton) -> Tensor:
        """The 3D field as (B, T, J, 3), metres or image space, root where the codebase keeps it.

        Raises:
            BatchError: a missing field, ragged or empty rows, a shape that does not fit.
        """
        raw_3d = self._field(batch, "pose_3d")
        return self._codec_3d(raw_3d.shape, skeleton).decode(raw_3d)[0]

    def decoded_2d(self, raw: Tensor, skeleton: Skeleton) -> tuple[Tensor, Tensor | None]:
        """A 2D field as (B, T, J, 2), screen units, and its further channels (B, T, J, E).

        Joints that the field lacks are NaN, and their further channels 0.

        Raises:
            BatchError: a shape that does not fit.
        """
        codec = self._codec_2d(raw.shape, skeleton.num_joints)
        pose_2d, extra = codec.decode(raw)
        missing = [j for j in range(skeleton.num_joints) if j not in codec.joints]
        pose_2d[:, :, missing] = torch.nan
        return pose_2d, extra

    def guess_skeleton(self, batch: Any) -> Skeleton:
        """The format's own skeleton, or the preset with as many joints as the 3D field.

        Raises:
            SkeletonError: there is no such preset.
        """
        if self.skeleton is not None:
            return Skeleton.of(self.skeleton)
        shape = tuple(self._field(batch, "pose_3d").shape)
        graph = len(shape) == 5 and shape[-1] == 1
        flat = len(shape) == 2
        return Skeleton.for_joints(
            shape[1] // 3 if flat else shape[3] if graph else (0, 0, *shape)[-2]
        )

    def _field(self, batch: Any, name: str) -> Tensor:
        return as_tensor(self._raw(batch, name), f"{name} (field {getattr(self, name)!r})")

    def _raw(self, batch: Any, name: str) -> Any:
        key: Key = getattr(self, name)
        try:
            return get_field(batch, key)
        except Exception:  # of any kind: the batch may be an object of any class
            raise BatchError(
                f"the batch has no field {key!r} for {name}; it is {describe(batch)}. Name the "
                "right field in batch=."
            ) from None

    def _codec_2d(self, shape: tuple[int, ...], total: int) -> FieldCodec:
        joints = tuple(self.joints_2d or range(total))
        _check_joints(joints, total, "joints_2d")
        what = f"pose_2d (field {self.pose_2d!r})"
        layout = Layout.of(tuple(shape), len(joints), 2, what, self.scenes)
        scale, offset = 1.0, (0.0, 0.0)
        if self.screen is not None:
            w, h = self.screen
            scale, offset = 2 / w, (-1.0, -h / w)
        stat = _stat(self._statistics.get("stat_2d"), "stat_2d", 2 * len(joints))
        return FieldCodec(layout, joints, total, 2, stat, scale, offset)

    def _codec_3d(self, shape: tuple[int, ...], skeleton: Skeleton, what: str = "") -> FieldCodec:
        joints = tuple(self.joints_3d or range(skeleton.num_joints))
        _check_joints(joints, skeleton.num_joints, "joints_3d")
        if self.joints_3d and set(range(skeleton.num_joints)) - {*joints, skeleton.root}:
            raise ConfigError(
                f"joints_3d={joints} leaves out more than the root, joint {skeleton.root}, of a "
                f"skeleton of {skeleton.num_joints} joints; pass a skeleton= of the joints that "
                "the 3D has."
            )
        what = what or f"pose_3d (field {self.pose_3d!r})"
        layout = Layout.of(tuple(shape), len(joints), 3, what, self.scenes)
        stat = _stat(self._statistics.get("stat_3d"), "stat_3d", 3 * len(joints))
        return FieldCodec(layout, joints, skeleton.num_joints, 3, stat, self.unit)

    def _windows(self, batch: Any, target: Tensor, skeleton: Skeleton) -> Tensor:
        """The 3D (B, T, J, 3) of whole windows, mirrored where their targets (B, 1, J, 3) are."""
        try:
            window = self._field(batch, "window_3d").to(target) * self.unit
        except BatchError as error:
            raise WindowError(
                f"it has windows of 2D frames but 3D of the centre frame alone, and {error} (In "
                "mmpose, add 'keypoints_3d' to meta_keys of PackPoseInputs in train_pipeline.)"
            ) from None
        fits = window.ndim == 4 and window.shape[::2] == target.shape[::2]
        if not fits or window.shape[3] != 3:
            raise BatchError(
                f"window_3d (field {self.window_3d!r}) has shape {tuple(window.shape)}, expected "
                f"({len(target)}, T, {skeleton.num_joints}, 3)."
            )
        mirror = torch.arange(skeleton.num_joints, device=window.device)
        mirror[[*skeleton.left, *skeleton.right]] = mirror[[*skeleton.right, *skeleton.left]]
        mirrored = window[:, :, mirror] * window.new_tensor([-1, 1, 1])

        def off(pose_3d: Tensor) -> Tensor:  # of the bones, wherever the root is
            centre = pose_3d[:, pose_3d.shape[1] // 2, None]
            bones = (pose_to_bones(x, skeleton) for x in (centre, self._rooted(target, skeleton)))
            return (next(bones) - next(bones)).flatten(1).abs().amax(1)

        off_here, off_mirrored = off(window), off(mirrored)
        if float(torch.minimum(off_here, off_mirrored).max()) > 1e-3:
            raise WindowError(
                f"the centre frame of window_3d (field {self.window_3d!r}) is not pose_3d, also "
                "not mirrored, so its rows are not augmented: windows must be centred on their "
                "targets (causal=False), and other changes of the 3D must change both."
            )
        return torch.where((off_mirrored < off_here)[:, None, None, None], mirrored, window)

    def _rooted(self, pose_3d: Tensor, skeleton: Skeleton) -> Tensor:
        """Poses as they are decoded, with the root joint where the other joints expect it."""
        if self.root == "absolute":
            return pose_3d
        rooted = pose_3d.clone()
        rooted[:, :, skeleton.root] = 0
        return rooted

    def _has_camera(self, batch: Any) -> bool:
        return self.camera is not None and self._raw(batch, "camera") is not None

    def _camera(self, batch: Any, pose_2d: Tensor, default: Camera, people: int) -> Tensor:
        if not self._has_camera(batch):
            return default.intrinsics_on(pose_2d.device).repeat(len(pose_2d), 1)
        rows = len(pose_2d) // people
        camera = self._field(batch, "camera")
        if camera.shape not in ((rows, 9), (rows, 3, 3)):
            raise BatchError(
                f"camera (field {self.camera!r}) has shape {tuple(camera.shape)}, expected "
                f"({rows}, 9): fx fy cx cy k1 k2 k3 p1 p2 in screen units, or matrices "
                f"({rows}, 3, 3). If the field is no camera, leave camera= out of batch=, and name "
                "the other fields."
            )
        camera = intrinsics_of(camera.to(pose_2d))
        camera = camera.repeat_interleave(people, 0) if people > 1 else camera
        return camera if self.screen is None else from_pixels(camera, self.screen)

    def _groups(self, batch: Any, pose_2d: Tensor, people: int) -> Tensor | None:
        if self.scenes:
            return torch.arange(len(pose_2d), device=pose_2d.device) // people
        if self.groups is None:
            return None
        raw = self._raw(batch, "groups")
        try:
            groups = _numbered(raw).to(pose_2d.device)
        except Exception:  # of any kind: the rows may be objects of any class
            raise BatchError(
                f"groups (field {self.groups!r}) is {type(raw).__name__}, expected one number or "
                "name for each row, equal for the people of one image."
            ) from None
        if groups.shape != pose_2d.shape[:1]:
            raise BatchError(
                f"groups (field {self.groups!r}) has shape {tuple(groups.shape)}, expected one "
                f"number for each of {len(pose_2d)} rows."
            )
        return groups

    # Writing

    def write(self, batch: Any, poses: PoseBatch, rows: Tensor, skeleton: Skeleton) -> Any:
        """A copy of the batch with `rows` (B,) bool taken from `poses`, the rest bit for bit.

        Raises:
            BatchError: another number of rows than poses, or a container that cannot be changed.
        """
        shape = stacked_shape(self._raw(batch, "pose_3d"))
        codec_3d = self._codec_3d(shape, skeleton)
        entries = len(poses) // poses.people
        if shape[0] != entries:
            raise BatchError(
                f"pose_3d (field {self.pose_3d!r}) has {shape[0]} rows, but there are "
                f"{entries} poses: with mix='append' the rows of {describe(batch)} could not be "
                "repeated. Yield a tuple, list, dict, named tuple or dataclass, or choose "
                "mix='replace'."
            )
        # To where the batch is, in one transfer: the mask goes with the poses.
        poses = replace(poses, valid=rows).to(device_of(self._raw(batch, "pose_2d")))
        rows = poses.valid
        pose_3d = self._placed(poses, skeleton)
        if codec_3d.layout.frames == 1 < pose_3d.shape[1]:
            pose_3d = pose_3d[:, poses.middle, None]  # the target is only the centre frame
        codec_2d = _codec_of(poses) or self._codec_2d(
            stacked_shape(self._raw(batch, "pose_2d")), skeleton.num_joints
        )
        new = {
            self.pose_2d: codec_2d.encode(
                poses.pose_2d, poses.extra_2d, self._standardised(batch, "pose_2d")
            ),
            self.pose_3d: codec_3d.encode(pose_3d, old=self._standardised(batch, "pose_3d")),
        }
        self._keep_padding(batch, new, codec_2d, codec_3d)
        if self.camera is not None and (camera := self._raw(batch, "camera")) is not None:
            value = poses.camera
            if self.scenes:  # one for each image: that of the first person who is written
                each = rows.view(-1, poses.people).to(torch.uint8).argmax(1)
                value = value.unflatten(0, (-1, poses.people)).take_along_dim(
                    each[:, None, None], 1
                )[:, 0]
            if self.screen is not None or getattr(camera, "ndim", 0) != 2:
                given = self._field(batch, "camera").to(value.device)
                value = as_given(value, given, self.screen)
            new[self.camera] = value
        old = {key: get_field(batch, key) for key in new}
        rows = rows.view(-1, poses.people) if self.scenes else rows
        for key, value in new.items():
            fits = representable(old[key], value)
            if fits is not None:
                rows = rows & fits.to(rows.device).view(-1, *[1] * (rows.ndim - 1))
        of_camera = rows.any(1) if self.scenes else rows
        if all(isinstance(field, (list, tuple)) for field in old.values()):
            rows = rows.cpu()  # the host goes through lists row by row
        written = {
            key: overwrite(old[key], value, of_camera if key == self.camera else rows)
            for key, value in new.items()
        }
        return set_fields(batch, written)

    @cached_property
    def _statistics(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The given statistics as tensors, the same ones for every batch."""
        found = {}
        with torch.inference_mode(False):  # the estimator's input is differentiated
            for name in STATISTICS:
                if getattr(self, name) is not None:
                    mean, std = (
                        torch.as_tensor(x, dtype=torch.float32) for x in getattr(self, name)
                    )
                    found[name] = mean, std
        return found

    def _standardised(self, batch: Any, name: str) -> Tensor | None:
        """A field that is standardised; its constant dimensions are kept as they are."""
        stat = self.stat_2d if name == "pose_2d" else self.stat_3d
        return None if stat is None else self._field(batch, name)

    def _keep_padding(
        self, batch: Any, new: dict[Key, Tensor], codec_2d: FieldCodec, codec_3d: FieldCodec
    ) -> None:
        """Put the frames of padding of a batch back into the new 2D and 3D fields."""
        if not _are_clips(codec_2d, codec_3d):
            return
        codecs = {"pose_2d": codec_2d, "pose_3d": codec_3d}
        old = {name: self._field(batch, name).to(new[self.pose_2d].device) for name in codecs}
        padding = _padding(*((old[name], codec) for name, codec in codecs.items()))
        if padding is None:
            return
        for name, codec in codecs.items():
            key: Key = getattr(self, name)
            kept, made = (codec.layout.canonical(x) for x in (old[name], new[key]))
            new[key] = codec.layout.shaped(torch.where(padding[..., None, None], kept, made))

    def _placed(self, poses: PoseBatch, skeleton: Skeleton) -> Tensor:
        """(B, T, J, 3) poses with the root where the codebase keeps it."""
        if self.space == "image":
            uvd = to_image(poses.absolute, poses.camera, skeleton.root)
            return uvd - uvd[:, :, skeleton.root, None] if self.root == "relative" else uvd
        if self.root == "absolute":
            return poses.absolute
        pose_3d = poses.pose_3d.clone()
        if self.root == "slot":
            pose_3d[:, :, skeleton.root] = poses.root
        return pose_3d

    # Calling the estimator as the training loop does

    def inputs(self, poses: PoseBatch, pose_2d: Tensor) -> Tensor:
        """2D (B, T, J, 2) as the batch it was read from had it, with its further channels.

        Poses that this format did not read become (B, J, 2) if T is 1, else (B, T, J, 2). Each row
        of a scene becomes a scene of one person.
        """
        codec = _codec_of(poses)
        if codec is None:
            plain = pose_2d if self.joints_2d is None else gather(pose_2d, tuple(self.joints_2d))
            plain = plain[:, 0] if plain.shape[1] == 1 else plain
            plain = plain[:, None] if self.scenes else plain
            codec = self._codec_2d(plain.shape, pose_2d.shape[2])
        elif self.scenes:
            codec = replace(codec, layout=replace(codec.layout, people=1))
        return codec.encode(pose_2d, poses.extra_2d)

    def outputs(self, predicted: Tensor, poses: PoseBatch, skeleton: Skeleton) -> Tensor:
        """The estimator's prediction for `poses` as root-relative metres, (B, T or 1, J, 3).

        Raises:
            BatchError: it has another shape.
        """
        pose, _ = self._codec_3d(predicted.shape, skeleton, "the estimator's output").decode(
            predicted
        )
        rows, frames = poses.pose_3d.shape[:2]
        if len(pose) != rows or pose.shape[1] not in (1, frames):
            raise BatchError(
                f"the estimator's output has shape {tuple(pose.shape)} as (B, T, J, 3), but the "
                f"targets have {tuple(poses.pose_3d.shape)}."
            )
        if self.space == "image":
            root = poses.root if pose.shape[1] == frames else poses.root[:, poses.middle, None]
            return relative_from_image(pose, root, poses.camera, skeleton)
        return pose - pose[:, :, skeleton.root, None]


def as_argument(fmt: BatchFormat) -> str:
    """The format as a user writes it, e.g. ``dict(pose_2d=1, pose_3d=0)``."""
    return repr(fmt).replace(type(fmt).__name__, "dict", 1)


def _differs(field: dataclasses.Field[Any], value: Any) -> bool:
    return value is not field.default and (field.name in STATISTICS or value != field.default)


def _short(value: Any) -> str:
    """The repr of an argument, statistics abbreviated."""
    if isinstance(value, (tuple, list)) and len(value) == 2 and hasattr(value[0], "__len__"):
        return f"(mean, std) of {torch.as_tensor(value[0]).numel()} dimensions"
    return repr(value)


def _joints(given: Any, name: str) -> tuple[int, ...]:
    """Numbers of joints from any sequence or array of them.

    Raises:
        ConfigError: they are no different numbers from 0 on.
    """
    try:
        found = tuple(operator.index(joint) for joint in given)
    except TypeError:
        found = ()
    if not found or len(set(found)) < len(found) or min(found) < 0:
        raise ConfigError(
            f"{name}={_short(given)} must be numbers of the skeleton's joints, each once, the "
            "first joint being 0."
        )
    return found


def _check_joints(joints: tuple[int, ...], total: int, name: str) -> None:
    if max(joints) >= total:
        raise ConfigError(
            f"{name}={joints} has joint {max(joints)}, but those of a skeleton of {total} joints "
            f"are 0 to {total - 1}."
        )


def _are_clips(codec_2d: FieldCodec, codec_3d: FieldCodec) -> bool:
    return codec_2d.layout.frames == codec_3d.layout.frames > 1


def _padding(
    field_2d: tuple[Tensor, FieldCodec], field_3d: tuple[Tensor, FieldCodec]
) -> Tensor | None:
    """The frames (B, T) bool of clips whose 2D or 3D is all zeros; None if there are none.

    On a GPU, which would have to be waited for, there may be none.
    """
    if not _are_clips(field_2d[1], field_3d[1]):
        return None
    norm_2d, norm_3d = (
        torch.linalg.vector_norm(codec.layout.canonical(field)[..., : codec.channels], dim=(2, 3))
        for field, codec in (field_2d, field_3d)
    )
    padding = torch.minimum(norm_2d, norm_3d.to(norm_2d.device)) == 0
    return padding if padding.device.type != "cpu" or padding.any() else None


def _without_padding(padding: Tensor, *poses: Tensor) -> Iterator[Tensor]:
    """Poses (B, T, J, C) with the frame before in place of each frame of padding, or the first."""
    frames = padding.shape[1]
    at = torch.arange(frames, device=padding.device).expand_as(padding)
    before = torch.where(padding, -1, at).cummax(1).values
    after = torch.where(padding, frames - 1, at).flip(1).cummin(1).values.flip(1)
    index = torch.where(before >= 0, before, after)[..., None, None]
    return (pose.gather(1, index.expand_as(pose)) for pose in poses)


def _norms(field: Tensor, people: int) -> Tensor:
    """Norms (B,) of the rows of a field, or of the people of its scenes; 0 if all is 0."""
    # `any` is seven times slower on a CPU.
    return torch.linalg.vector_norm(field.reshape(len(field) * people, -1), dim=1)


def _codec_of(poses: PoseBatch) -> FieldCodec | None:
    """How the 2D was written in the batch that a `BatchFormat` read."""
    return poses.source if isinstance(poses.source, FieldCodec) else None


def _numbered(names: Any) -> Tensor:
    """Numbers that are equal where the names are; numbers stay as they are."""
    try:
        numbers = torch.as_tensor(names)
    except Exception:  # of any kind: names may be objects of any class
        if not isinstance(names, (list, tuple, np.ndarray)):
            raise
        first: dict[Any, int] = {}
        names = names.tolist() if isinstance(names, np.ndarray) else names
        numbers = torch.tensor([first.setdefault(name, len(first)) for name in names])
    return numbers if numbers.is_floating_point() else numbers.long()  # not all work as indices


def _stat(
    given: tuple[Tensor, Tensor] | None, name: str, size: int
) -> tuple[Tensor, Tensor] | None:
    if given is None:
        return None
    mean, std = given
    if mean.numel() != size or std.numel() != size:
        raise ConfigError(
            f"{name} has {mean.numel()} means and {std.numel()} standard deviations, but the "
            f"field has {size} dimensions; pass those of the field's dimensions only (dim_use)."
        )
    return mean, std


def _check_frames(pose_2d: Tensor, pose_3d: Tensor) -> None:
    frames, known = pose_2d.shape[1], pose_3d.shape[1]
    if len(pose_2d) == len(pose_3d) and known < frames:
        raise WindowError(
            f"it has windows of {frames} frames of 2D but 3D of only {known}, so its rows are not "
            "augmented: a window needs the 3D of all its frames. Yield the window's 3D, "
            "(B, T, J, 3). wrap() does so for a generator with VideoPose3D's attributes "
            "(poses_2d, poses_3d, batch_2d, batch_3d, next_epoch) if batch= is passed, e.g. "
            "batch='videopose3d', its 2D and 3D have the same joints, targets are in the centre of "
            "their windows (not causal), and it does not change the 3D alone."
        )
    if pose_2d.shape[:2] != pose_3d.shape[:2]:
        raise BatchError(
            f"pose_2d has (rows, frames) {tuple(pose_2d.shape[:2])} but pose_3d "
            f"{tuple(pose_3d.shape[:2])}; every 2D frame needs its own 3D. Yield both with the "
            "same rows and frames."
        )
