"""Reads unlabelled 2D poses: an array, a file, or a loader of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import BatchError, ConfigError
from ..geometry.skeleton import Skeleton
from .cameras import PIXEL_COORDINATE
from .containers import Key, as_tensor, get_field
from .format import BatchFormat
from .protocol import Format

__all__ = ["read_unlabelled"]

MOST = 100_000  # poses that are read; a loader may be endless
OPTIONS = ("screen", "stat_2d", "joints_2d")  # of `BatchFormat` that describe 2D
NAMES = ("pose_2d", "pose2d", "keypoints", "keypoints_2d")  # of the array in an archive


def read_unlabelled(source: Any, fmt: Format, skeleton: Skeleton) -> Tensor:
    """Read the 2D poses that `target_2d=` gives.

    Args:
        source: see `PoseAugmenter`.
        fmt: the format of the training batches, in whose units and joints the poses are, unless
            `source` says otherwise. For a format of the caller's own: screen units, all joints.
        skeleton: the skeleton of the poses.

    Returns:
        (N, J, 2), screen units; NaN for joints that are not visible, or far outside the image.
        Poses without any visible bone are left out.

    Raises:
        ConfigError: there are no poses, or they cannot be read.
    """
    known = fmt if isinstance(fmt, BatchFormat) else BatchFormat(pose_2d=0, pose_3d=1)
    if isinstance(source, Mapping):
        unknown = set(source) - {"pose_2d", *OPTIONS}
        if unknown or "pose_2d" not in source:
            raise ConfigError(
                f"target_2d has the keys {sorted(map(str, source))}, expected pose_2d and any of "
                f"{list(OPTIONS)}; pass e.g. target_2d=dict(pose_2d=poses, screen=(1920, 1080))."
            )
        plain: dict[str, Any] = {"screen": None, "stat_2d": None, "joints_2d": None}
        own = {name: source[name] for name in OPTIONS if name in source}
        known, source = dataclasses.replace(known, **{**plain, **own}), source["pose_2d"]
    found, rows = [], 0
    for raw in _arrays(source, known.pose_2d):
        found.append(_visible(raw, known, skeleton))
        rows += len(found[-1])
        if rows >= MOST:
            break
    pose_2d = torch.cat(found) if found else torch.empty(0, skeleton.num_joints, 2)
    pose_2d = _with_bones(pose_2d, skeleton)[:MOST]
    largest = _largest(pose_2d)
    if largest > PIXEL_COORDINATE:
        raise ConfigError(
            f"target_2d is in pixels (coordinates are about {largest:.0f}), expected the units of "
            "the training batches; pass target_2d=dict(pose_2d=poses, screen=(w, h)), with the "
            "size of its images."
        )
    if known.screen is not None and len(pose_2d):
        w, h = known.screen
        pixels = (pose_2d + torch.tensor([1.0, h / w])) * (w / 2)
        if _largest(pixels) < PIXEL_COORDINATE:
            raise ConfigError(
                f"target_2d is not in pixels (coordinates are about {_largest(pixels):.2g}), but "
                f"screen={known.screen} says so; pass target_2d=dict(pose_2d=poses) for poses in "
                "screen units, which go from -1 to 1 across the image."
            )
    # A joint that is far outside the image would move the people of all augmented rows.
    far = pose_2d.abs().amax(-1, keepdim=True) > PIXEL_COORDINATE
    pose_2d = _with_bones(torch.where(far, torch.nan, pose_2d), skeleton)
    if not len(pose_2d):
        raise ConfigError(
            f"target_2d has no pose with a visible bone, of {rows} poses; pass 2D poses (N, J, 2) "
            "of people where the model will be used."
        )
    return pose_2d


def _with_bones(pose_2d: Tensor, skeleton: Skeleton) -> Tensor:
    """The poses that have a visible bone."""
    seen = pose_2d.isfinite().all(-1)
    return pose_2d[(seen[:, list(skeleton.child)] & seen[:, list(skeleton.parent)]).any(1)]


def _largest(pose_2d: Tensor) -> float:
    """Largest coordinate of a typical pose; NaN if there is no pose."""
    return float(pose_2d.nan_to_num(0.0).abs().flatten(1).amax(1).median())


def _visible(raw: Any, fmt: BatchFormat, skeleton: Skeleton) -> Tensor:
    """Poses (N, J, 2) of one array, NaN for joints that are not visible."""
    try:
        field = as_tensor(raw, "target_2d").cpu()
        joints = list(fmt.joints_2d or range(skeleton.num_joints))
        if field.ndim == 2 and field.shape[0] == len(joints) and field.shape[1] in (2, 3):
            field = field[None]  # a single pose, as a data set yields it
        if fmt.scenes and field.ndim == 3:
            field = field[:, None]  # one person in each image
        pose_2d, extra = fmt.decoded_2d(field, skeleton)
        # Detectors mark a joint that they do not find by NaN, by confidence 0, or by (0, 0).
        plain = dataclasses.replace(fmt, screen=None, stat_2d=None)
        missing = ~(plain.decoded_2d(field, skeleton)[0] != 0).any(-1)
    except BatchError as error:
        raise ConfigError(
            f"target_2d cannot be read: {error} If its joints or units are not those of the "
            "training batches, pass target_2d=dict(pose_2d=poses, joints_2d=..., screen=(w, h))."
        ) from None
    if extra is not None:
        missing[:, :, joints] |= ~(extra[:, :, joints, 0] > 0)
    missing |= ~pose_2d.isfinite().all(-1)
    return torch.where(missing[..., None], torch.nan, pose_2d).flatten(0, 1)


def _arrays(source: Any, key: Key) -> Iterator[Any]:
    """The arrays of a source, one after the other."""
    if isinstance(source, (str, Path)):
        yield _load(Path(source))
    elif _is_array(source):
        yield source
    elif isinstance(source, Iterable):
        for item in source:
            yield item if _is_array(item) else _field(item, key)
    else:
        raise ConfigError(
            f"target_2d is a {type(source).__name__}, expected 2D poses (N, J, 2) as an array or "
            "tensor, the name of a .npy or .npz file, or a loader of them."
        )


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, Tensor))


def _field(batch: Any, key: Key) -> Any:
    try:
        return get_field(batch, key)
    except Exception:  # of any kind: the batch may be an object of any class
        raise ConfigError(
            f"target_2d yields {type(batch).__name__} without the field {key!r} of the 2D; yield "
            "arrays (B, J, 2), or batches like those of the training loader."
        ) from None


def _load(path: Path) -> Any:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            names = [name for name in NAMES if name in loaded.files] or loaded.files
            if len(loaded.files) > 1 and names == loaded.files:
                raise ConfigError(
                    f"target_2d={str(path)!r} has the arrays {loaded.files}, expected one of "
                    f"{list(NAMES)}; load it yourself and pass the array."
                )
            return loaded[names[0]]
    except (OSError, ValueError, EOFError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"target_2d={str(path)!r} cannot be loaded: {error}; pass a .npy or .npz file with "
            "plain arrays."
        ) from None
