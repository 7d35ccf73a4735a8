"""Is this batch what its format says? Numbers that tell, and the cure for each wrong one.

Measured on real motion, in batches of 16 rows and more, of neighbouring frames as well: the
reprojection residual is about 0.001 (0.02 with detected 2D); flipped y, swapped sides or a world
frame give 0.08 and more. A unit error does not show there, for the root fit absorbs it, but bone
lengths show it. Screens scaled by other factors in x and y fit worse by as much.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import BatchError, DataError, PoseAugError
from ..geometry.camera import Camera
from ..geometry.pose_batch import PoseBatch
from ..geometry.skeleton import SKELETONS, Skeleton
from .containers import describe
from .diagnostics import Measures
from .format import BatchFormat
from .infer import root_kind

__all__ = ["CheckReport", "inspect"]

LONGEST_BONE = 0.03, 0.8  # metres; a thigh is 0.4 to 0.5, a hand's longest bone 0.1
RESIDUAL = 0.05  # rms, normalised screen units
DEPTH = 0.2, 100.0  # metres to the root
# Beyond these it may be right, and mostly is not.
DOUBTED_RESIDUAL = 0.025
DOUBTED_ASYMMETRY = 0.05
USUAL_DISTANCE = 2.0, 10.0  # metres


@dataclass(frozen=True)
class CheckReport:
    """What `augmenter.check(loader)` found.

    `problems` names every finding that would spoil training, with its cure; empty is good.
    `doubts` names what is seldom right; look at it.
    """

    format: BatchFormat
    fields: str  # what a batch holds
    rows: int
    frames: int
    joints: int
    longest_bone: float  # metres, median over rows
    residual: float  # rms distance of observed and projected 2D, median over rows
    asymmetry: float  # median difference of left and right bone lengths, share of their mean
    distance: float  # metres at which people of this 3D look like this 2D, median
    problems: tuple[str, ...]
    doubts: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems

    def raise_if_bad(self) -> None:
        """Raise DataError with every problem and its cure."""
        if self.problems:
            raise DataError("; ".join(self.problems))

    def __str__(self) -> str:
        lines = [
            f"batch      {self.fields}",
            f"read as    {self.format}",
            f"rows {self.rows}, frames {self.frames}, joints {self.joints}",
            f"longest bone {self.longest_bone:.3f} m, left/right differ by {self.asymmetry:.1%}",
            f"reprojection residual {self.residual:.4f} (right data: up to 0.02)",
            f"the 2D is of people {self.distance:.1f} m away",
            *(f"PROBLEM    {problem}" for problem in self.problems),
            *(f"DOUBT      {doubt}" for doubt in self.doubts),
        ]
        return "\n".join(lines if self.problems else [*lines, "no problem found"])


def inspect(
    batch: Any, poses: PoseBatch, fmt: BatchFormat, skeleton: Skeleton, find_other: bool = True
) -> CheckReport:
    """Measure one batch.

    Args:
        find_other: look whether another preset skeleton leaves no problem.

    Raises:
        BatchError: NaN or infinite coordinates, which nothing can be measured on.
    """
    for name, value in (("2D", poses.pose_2d), ("3D", poses.pose_3d), ("root", poses.root)):
        bad = ~value.isfinite().flatten(1).all(1)
        if bad.any():
            raise BatchError(
                f"{int(bad.sum())} of {len(bad)} rows have NaN or infinite {name} coordinates "
                f"(first: row {int(bad.nonzero()[0])}); drop or repair them before training."
            )
    poses = poses.usable()
    if not len(poses):
        raise BatchError("every row is padding: all its numbers are zero.")
    kind = _kind(batch, fmt, skeleton) or fmt.root
    found = Measures.of(poses, skeleton)
    depth = float(poses.root[..., 2].median())
    problems = [*_root_problems(fmt, kind, depth), *_problems(found, fmt.unit)]
    others = _others(batch, fmt, skeleton) if problems and find_other else ()
    return CheckReport(
        format=fmt,
        fields=describe(batch),
        rows=len(poses),
        frames=poses.pose_2d.shape[1],
        joints=skeleton.num_joints,
        longest_bone=found.longest_bone,
        residual=found.residual,
        asymmetry=found.asymmetry,
        distance=found.distance,
        problems=(*others, *problems),
        doubts=() if problems else tuple(_doubts(found)),
    )


def _kind(batch: Any, fmt: BatchFormat, skeleton: Skeleton) -> Any:
    """How the 3D keeps its root; None where that is not to be seen: a reader of one's own, 2.5D."""
    if type(fmt) is not BatchFormat or fmt.space != "metric":
        return None
    return root_kind(fmt.decoded_3d(fmt._field(batch, "pose_3d"), skeleton), skeleton)


def _others(batch: Any, fmt: BatchFormat, skeleton: Skeleton) -> Iterator[str]:
    """Of the preset skeletons with as many joints those that leave no problem."""
    for name, other in SKELETONS.items():
        if other == skeleton or other.num_joints != skeleton.num_joints:
            continue
        try:
            kind = _kind(batch, fmt, other)
            if kind is None:
                return
            read = dataclasses.replace(fmt, root=kind, skeleton=name)
            poses = read.read(batch, other, Camera())
            if inspect(batch, poses, read, other, find_other=False).ok:
                root = "" if kind == fmt.root else f" and root={kind!r} in batch="
                yield f"the joints stand as in {name}: pass skeleton={name!r}{root}"
        except PoseAugError:
            continue


def _root_problems(fmt: BatchFormat, kind: str, depth: float) -> list[str]:
    if kind != fmt.root:
        return [
            f"the 3D keeps its root as root={kind!r} says, not root={fmt.root!r}: pass the right "
            "one in batch="
        ]
    near, far = DEPTH
    if near <= depth <= far:
        return []
    return [
        f"people stand {depth:.3g} m from the camera, expected {near} to {far} m: the 2D is not "
        "in screen units (pixels need screen=(w, h), standardised numbers stat_2d=(mean, std)), "
        "or the 3D not in metres"
    ]


def _problems(found: Measures, unit: float) -> Iterator[str]:
    low, high = LONGEST_BONE
    if not low <= found.longest_bone <= high:
        guess = min(
            (1e-3, 1e-2, 1.0, 1e3),
            key=lambda u: abs(math.log10(max(found.longest_bone / unit * u / 0.45, 1e-30))),
        )
        cure = (
            "the joints are in another order than the skeleton's (pass the data's skeleton=), or "
            "the 3D is standardised (stat_3d=(mean, std)) or in another unit (unit=)"
            if guess == unit
            else f"the 3D is not in the unit given (unit={unit:g}); it looks like unit={guess:g}, "
            f"e.g. batch=dict(..., unit={guess:g})"
        )
        yield f"the longest bone is {found.longest_bone:.4g} m, expected {low} to {high} m: {cure}"
    cured = min(found.residual / 2, DOUBTED_RESIDUAL)
    if found.residual_behind < cured:
        yield (
            "the 3D's z points towards the camera: turned round it fits its 2D better (residual "
            f"{found.residual_behind:.4f}, not {found.residual:.4f}); negate z before batching"
        )
    elif found.residual_scaled < cured:
        yield (
            f"the 2D's y is scaled by {found.aspect:.2f} of its x: screen units divide both by the "
            "width, x / w * 2 - 1 and y / w * 2 - h / w"
        )
    elif not found.residual <= RESIDUAL:
        yield (
            f"the 3D does not project onto its 2D (residual {found.residual:.3f}, expected at most "
            f"{RESIDUAL}): y flipped, left and right swapped, joints of the 2D in another order "
            "than the 3D's or missing ones set to 0, pixels instead of screen units or screen= of "
            "another image, or 3D in the world frame instead of the camera's. Undo the flip, or "
            "turn the 3D by the camera's rotation, before batching"
        )
    elif found.centred:
        yield (
            "every person's 2D is centred on the same point: it was cropped or moved, but "
            "augmented people stand where a camera sees them. Yield the 2D as it is in the whole "
            "image"
        )
    elif found.residual_placed is not None and not found.residual_placed <= RESIDUAL:
        yield (
            "the 3D projects onto its 2D from elsewhere than it stands (residual "
            f"{found.residual_placed:.3f} from there, {found.residual:.4f} from "
            f"{found.distance:.1f} m away): the 2D is scaled or moved otherwise than the camera "
            "says, or the camera is of another screen"
        )
    if found.asymmetry > 0.3:
        yield (
            f"left and right bones differ by {found.asymmetry:.0%} of their length: the joints are "
            "in another order than the skeleton's; pass the data's skeleton="
        )


def _doubts(found: Measures) -> Iterator[str]:
    near, far = USUAL_DISTANCE
    if found.residual > DOUBTED_RESIDUAL:
        yield (
            f"the residual is {found.residual:.3f}, more than detectors are off: the 2D may be "
            "scaled to boxes, or of another camera than the one assumed"
        )
    if found.asymmetry > DOUBTED_ASYMMETRY:
        yield (
            f"left and right bones differ by {found.asymmetry:.1%}: the joints may be in another "
            "order than the skeleton's"
        )
    if not near <= found.distance <= far:
        yield (
            f"people look {found.distance:.1f} m away, mostly it is {near:g} to {far:g}: the 2D "
            "may be scaled otherwise than screen units, or camera= be wanted"
        )
    if found.positive:
        yield "no 2D coordinate is negative: screen units have the image's middle at 0"
