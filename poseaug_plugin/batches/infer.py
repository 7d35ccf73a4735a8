"""Infers a batch's format from the shapes of its fields, and where its 3D keeps the root."""

from __future__ import annotations

import dataclasses
import reprlib
from typing import Any

from torch import Tensor

from ..errors import BatchError
from ..geometry.bones import lengths, pose_to_bones
from ..geometry.skeleton import SKELETONS, Skeleton
from .containers import as_tensor, describe, get_field, keys_of, stacked_shape
from .format import BatchFormat, as_argument

__all__ = ["infer_format", "root_is_zero", "root_kind", "without_padding"]


def infer_format(batch: Any, skeleton: Skeleton | None) -> tuple[BatchFormat, Skeleton]:
    """The format and skeleton of a batch, from the shapes of its fields.

    Args:
        skeleton: None to take the preset with as many joints as the 3D.

    Raises:
        BatchError: no reading fits, or more than one; the message lists the fields.
    """
    counts = {skeleton.num_joints} if skeleton else {s.num_joints for s in SKELETONS.values()}
    found: dict[int, list[Any]] = {2: [], 3: [], 9: []}
    shapes = []
    for key in keys_of(batch):
        shape = stacked_shape(get_field(batch, key))
        shapes.append(shape)
        if len(shape) in (3, 4) and shape[-1] in (2, 3) and shape[-2] in counts:
            found[shape[-1]].append(key)
        elif (
            len(shape) == 2 and shape[-1] == 9 and as_tensor(get_field(batch, key), "camera").any()
        ):
            found[9].append(key)  # zeros stand for unknown cameras in some codebases
    if not found[2] and len(found[3]) == 2:  # 2D with a confidence, and 3D
        sure = [key for key in found[3] if _has_confidence(get_field(batch, key))]
        if len(sure) == 1:
            found[2], found[3] = sure, [key for key in found[3] if key not in sure]
    unclear = f"cannot tell which field is what: {describe(batch)} has "
    candidates = (
        "the candidates {} for 2D, {} for 3D, {} for the camera. Name the fields, e.g. batch="
    ).format(*(reprlib.repr(found[size]) for size in (2, 3, 9)))
    if not found[2] or not found[3]:
        flat = [shape for shape in shapes if len(shape) == 2 and shape[1] in (32, 34, 48, 51)]
        if len(flat) == 2:
            raise BatchError(
                f"{unclear}only flat fields. "
                "3d-pose-baseline's are standardised: pass batch=martinez(stat_2d=(mean, std), "
                "stat_3d=(mean, std)), from poseaug_plugin.batches.presets import martinez. "
                "Others: name the fields, batch=dict(pose_2d=0, pose_3d=1, ...)."
            )
        raise BatchError(f"{unclear}{candidates}dict(pose_2d=1, pose_3d=0, root='relative').")
    fmt = BatchFormat(found[2][0], found[3][0], next(iter(found[9]), None))
    skeleton = skeleton or fmt.guess_skeleton(batch)
    kind = root_kind(fmt.decoded_3d(batch, skeleton), skeleton)
    fmt = dataclasses.replace(fmt, root=kind)
    if any(len(keys) > 1 for keys in found.values()):
        raise BatchError(f"{unclear}{candidates}{as_argument(fmt)}.")
    return fmt, skeleton


def _has_confidence(field: Any) -> bool:
    """Whether the third channel holds confidences: numbers from 0 to 1, most of them far from 0."""
    third = as_tensor(field, "2D")[..., 2]
    return bool((third >= 0).all() and (third <= 1).all() and third.double().mean() > 0.1)


def root_is_zero(pose_3d: Tensor, skeleton: Skeleton) -> bool:
    """Whether the root of poses (B, T, J, 3) is at 0: within 1 mm, for 3D in metres."""
    return float(pose_3d[:, :, skeleton.root].abs().max()) < 1e-3


def without_padding(pose_3d: Tensor) -> Tensor:
    """The frames (N, J, 3) of poses (B, T, J, 3) that are not all zeros."""
    frames = pose_3d.flatten(0, 1)
    return frames[frames.flatten(1).any(1)]


def root_kind(pose_3d: Tensor, skeleton: Skeleton) -> Any:
    """The `root` of the format that poses (B, T, J, 3) are in: "relative", "absolute" or "slot"."""
    frames = without_padding(pose_3d)
    if root_is_zero(pose_3d, skeleton):
        return "relative"
    alone = frames.clone()
    alone[:, skeleton.root] = 0
    together, apart = (
        lengths(pose_to_bones(p, skeleton)).amax(-1).median() for p in (frames, alone)
    )
    return "absolute" if together <= apart else "slot"
