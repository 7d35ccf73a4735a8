"""Checks that a batch is what its format says; each problem found comes with its cure.

On real motion, in batches of at least 16 rows, the reprojection residual is about 0.001, or 0.02
with detected 2D. Flipped y, swapped sides, a world frame, or 2D scaled differently in x and y give
0.08 or more. The residual does not show a wrong unit, which the fitted root compensates; bone
lengths do.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..errors import BatchError, DataError, PoseAugError
from ..geometry.bones import lengths, pose_to_bones
from ..geometry.camera import Camera
from ..geometry.pose_batch import PoseBatch
from ..geometry.skeleton import SKELETONS, Skeleton
from .cameras import PIXEL_COORDINATE, PIXEL_FOCAL
from .containers import (
    Key,
    are_rows,
    describe,
    describes_rows,
    get_field,
    is_dataclass,
    keys_of,
    names_of,
    stacked_shape,
)
from .diagnostics import RESIDUAL, Diagnostics
from .format import BatchFormat, as_argument
from .infer import root_is_zero, root_kind, without_padding
from .protocol import Format

__all__ = ["FARTHEST", "CheckReport", "further_doubts", "inspect", "intact"]

FARTHEST = 1e6  # metres or screen units; float32 squares of more lose all precision
LONGEST_BONE = 0.03, 0.8  # metres; a thigh is 0.4 to 0.5, a hand's longest bone 0.1
LONGEST_BONE_OF_ANY = 0.01, 3.0  # metres; of skeletons that are no preset, such as animals
ASYMMETRY = 0.3  # difference of left and right bone lengths, relative to their mean
TORN = 4.0  # a row's longest bone and the median; a child's and an adult's differ by a factor of 2
DEPTH = 0.5, 250.0  # to the root, in longest bones: 0.2 to 110 m for an adult
# Data beyond these limits may be right, but rarely is.
DOUBTED_RESIDUAL = 0.025
DOUBTED_ASYMMETRY = 0.05
DOUBTED_OUTSIDE = 0.1  # share of frames
DOUBTED_SHARE = 0.1  # of the frames
DOUBTED_FOCAL = 0.15  # relative to the assumed focal length
CERTAINTY = 0.01  # by which a confidence may lie outside 0 to 1
DOUBTED_CENTRE = 0.25  # screen units; a lens is rarely off by more than 0.05
USUAL_DISTANCE = 4.0, 22.0  # in longest bones: 2 to 10 m for an adult
USUAL_BONE = 0.15, 0.8  # metres; that of a skeleton without sides, such as a hand, may be shorter
THIGH, PALM = 0.45, 0.09  # metres; the longest bones of a body and of a hand
IMAGE_SPACE = 0.01  # screen units between 2D and the 3D's x and y
# Frames of one person keep their size and move little; people of one image do neither.
PEOPLE_SPREAD, PEOPLE_STEP = 0.01, 0.7  # share of the body size; longest bones


@dataclass(frozen=True)
class CheckReport:
    """What `augmenter.check(loader)` found in one batch.

    `problems` are findings that would spoil training, each with its cure; empty for good data.
    `doubts` are unusual numbers that may be right.
    """

    format: Format
    fields: str  # type and fields of the batch
    rows: int
    frames: int
    joints: int
    longest_bone: float  # metres, median over frames
    residual: float  # root mean square distance of observed and projected 2D, median over frames
    asymmetry: float  # median difference of left and right bone lengths, relative to their mean
    distance: float  # metres from the camera at which the 3D has the size of the 2D, median
    problems: tuple[str, ...]
    doubts: tuple[str, ...] = ()
    ranges: Mapping[str, float] = field(default_factory=dict)  # of the prior, as in stats()

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def raise_if_bad(self) -> None:
        """Raise an error if there is a problem.

        Raises:
            DataError: with all problems and their cures.
        """
        if self.problems:
            raise DataError("; ".join(self.problems))

    def __str__(self) -> str:
        lines = [
            f"batch      {self.fields}",
            f"read as    {self.format}",
            f"rows {self.rows}, frames {self.frames}, joints {self.joints}",
            f"longest bone {self.longest_bone:.3f} m, left/right differ by {self.asymmetry:.1%}",
            f"reprojection residual {self.residual:.4f} (right data: up to 0.02)",
            f"people are {self.distance:.3g} m from the camera",
            *_described(self.ranges),
            *(f"PROBLEM    {problem}" for problem in self.problems),
            *(f"DOUBT      {doubt}" for doubt in self.doubts),
        ]
        return "\n".join(lines if self.problems else [*lines, "no problem found"])


def _described(ranges: Mapping[str, float]) -> Iterator[str]:
    """The ranges of the prior in one line, if there is a prior."""
    if ranges:
        (near, far), focal, x, y = (
            [ranges[f"{name}_{end}"] for end in ("low", "high")]
            for name in ("distance", "focal", "image_offset_x", "image_offset_y")
        )
        yield (
            f"augmented people: {near:.2g} to {far:.2g} m away, focal length x {focal[0]:.2g} to "
            f"{focal[1]:.2g}, root at x {x[0]:.2f} to {x[1]:.2f}, y {y[0]:.2f} to {y[1]:.2f}"
        )


def inspect(
    batch: Any, poses: PoseBatch, fmt: Format, skeleton: Skeleton, find_other: bool = True
) -> CheckReport:
    """Check one batch.

    Args:
        batch: the caller's batch.
        poses: the same as `fmt` read it.
        find_other: if there is a problem, try the other preset skeletons.

    Raises:
        BatchError: NaN, infinite or huge coordinates, or only padding; nothing can be measured.
    """
    for name, value in (("2D", poses.pose_2d), ("3D", poses.pose_3d), ("root", poses.root)):
        bad = ~(value.flatten(1).abs() < FARTHEST).all(1)  # True for NaN
        if bad.any():
            raise BatchError(
                f"{int(bad.sum())} of {len(bad)} rows have NaN, infinite or huge {name} "
                f"coordinates (first: row {int(bad.nonzero()[0])}); drop or repair them before "
                "training."
            )
    entries, poses = len(poses) // poses.people, poses.usable()
    if not len(poses):
        raise BatchError(
            "every row is padding (2D or 3D are all zeros); pass batches that have at least one "
            "person."
        )
    # Where and in which unit a format of the caller's own found the 3D is not known.
    known = fmt if type(fmt) is BatchFormat else None
    found = Diagnostics.of(poses, skeleton)
    depth = float(poses.root[..., 2].median())
    problems = _wrong_kind(found, known)  # one of these explains all that follows
    if not problems:
        problems = list(_problems(found, known.unit if known else None, skeleton))
        wrong_root = _wrong_root(batch, known, skeleton, found.longest_bone) if known else []
        problems[:0] = wrong_root or _wrong_depth(depth, found.longest_bone)
    others = _others(batch, known, skeleton) if known and problems and find_other else ()
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
        doubts=()
        if problems
        else (*_doubts(found, skeleton), *_stale_fields(batch, known, entries, points=True)),
    )


def further_doubts(
    batch: Any, poses: PoseBatch, fmt: Format, skeleton: Skeleton, longest_bone: float
) -> Iterator[str]:
    """Doubts that are worth a look, but no warning when training starts.

    Args:
        longest_bone: metres, of the report.
    """
    number = int((poses.valid & ~intact(poses, skeleton, longest_bone)).sum())
    if number:
        yield (
            f"{number} rows have bones of another size than the rest, several times as long (e.g. "
            "from a missing joint that is set to 0) or as short (3D in another unit): they are "
            "returned unchanged, and used for nothing"
        )
    known = fmt if type(fmt) is BatchFormat else None
    yield from _stale_fields(batch, known, len(poses) // poses.people, points=False)


def intact(poses: PoseBatch, skeleton: Skeleton, longest_bone: float) -> Tensor:
    """Rows (B,) bool whose longest bone is not far longer or shorter than usual.

    A joint that is missing is often set to 0, which is the camera if the 3D is absolute. Rows of
    several data sets may have several units.

    Args:
        longest_bone: metres, median over rows.
    """
    longest = lengths(pose_to_bones(poses.pose_3d, skeleton)).flatten(1).amax(1)
    return longest.clamp(longest_bone / TORN, longest_bone * TORN) == longest


def _stale_fields(batch: Any, fmt: BatchFormat | None, rows: int, points: bool) -> Iterator[str]:
    """Fields that may describe the old pose of an augmented row.

    Args:
        points: whether to look for those that look like a description of the pose (several numbers
            for each of several things, or a point), or for all others.
    """
    if fmt is None:
        return
    named = (fmt.pose_2d, fmt.pose_3d, fmt.camera, fmt.groups, fmt.window_3d)
    # "0" is the field 0 as well, and -1 the last one.
    used = {str(key + len(batch) if isinstance(key, int) and key < 0 else key) for key in named}
    fields = {
        key: value
        for key, names, value in _leaves(batch, rows)
        if not used & names and not any(u.startswith(f"{n}.") for u in used for n in names)
    }

    def looks_like_points(shape: tuple[int, ...]) -> bool:  # without the rows
        return shape[-1:] in ((2,), (3,)) or (len(shape) > 1 and shape[-1] > 1)

    stale = [
        key
        for key, value in fields.items()
        if describes_rows(value, rows) and points == looks_like_points(stacked_shape(value)[1:])
    ]
    if stale:
        yield (
            f"the fields {stale} hold {'points' if points else 'numbers'} for each row and are "
            "passed through unchanged: if they describe the pose (a copy of it, a root position, a "
            "box, a camera, velocities, an image), they are wrong for augmented rows, and a loop "
            "that trains on them trains on the original rows. Name a camera field as camera= in "
            "batch=, and compute the others in the loop from the 2D and 3D of the batch"
        )


def _leaves(
    batch: Any, rows: int, path: str = "", names: frozenset[str] = frozenset([""])
) -> Iterator[tuple[Key, frozenset[str], Any]]:
    """The fields of a batch and of the containers in it: (path, all its names, value).

    The field of a named tuple has an index and a name.
    """
    titles = dict(enumerate(names_of(batch)))
    made = vars(batch) if is_dataclass(batch) else ()  # it may have made others of its fields
    for key in dict.fromkeys([*keys_of(batch), *made]):
        value = get_field(batch, key)
        where: Key = f"{path}.{key}" if path else key
        both = frozenset(
            f"{name}.{each}" if name else str(each)
            for name in names
            for each in {key, titles.get(key, key)}
        )
        if _is_container(value, rows):
            yield from _leaves(value, rows, str(where), both)
        else:
            yield where, both, value


def _is_container(value: Any, rows: int) -> bool:
    """Whether a field has fields itself, and is not a list with an entry for each row."""
    if isinstance(value, (list, tuple)):
        return are_rows(value) or len(value) != rows
    return isinstance(value, Mapping) or is_dataclass(value)


def _others(batch: Any, fmt: BatchFormat, skeleton: Skeleton) -> Iterator[str]:
    """The preset skeletons with the same number of joints that leave no problem."""
    for name, other in SKELETONS.items() if fmt.space == "metric" else ():
        if other == skeleton or other.num_joints != skeleton.num_joints:
            continue
        try:
            kind = root_kind(fmt.decoded_3d(batch, other), other)
            read = dataclasses.replace(fmt, root=kind, skeleton=name)
            poses = read.read(batch, other, Camera())
            if inspect(batch, poses, read, other, find_other=False).ok:
                root = "" if kind == fmt.root else f" and root={kind!r} in batch="
                yield f"the joints are in the order of {name}: pass skeleton={name!r}{root}"
        except PoseAugError:
            continue


def _wrong_kind(found: Diagnostics, fmt: BatchFormat | None) -> list[str]:
    """What makes all other numbers meaningless, such as pixels, or people read as frames."""
    if found.focal == 0:
        cure = "read must return cameras"
        if fmt is not None:
            unknown = as_argument(dataclasses.replace(fmt, camera=None))
            cure = f"pass batch={unknown}, and camera= if you know it"
        return [f"the cameras are zeros, which stand for unknown ones in some codebases: {cure}"]
    if found.size_2d > PIXEL_COORDINATE:
        return [
            f"the 2D is in pixels (coordinates are about {found.size_2d:.0f}; screen units are "
            f"below {PIXEL_COORDINATE:g}): pass screen=(w, h), the size of the images, in batch=; "
            "cameras in pixels are converted as well"
        ]
    if found.focal > PIXEL_FOCAL:
        return [
            f"the cameras are in pixels (the focal length is {found.focal:.0f}; screen units are "
            f"below {PIXEL_FOCAL:g}), but the 2D is not: convert them as well, f * 2 / w, "
            "cx / w * 2 - 1 and cy / w * 2 - h / w"
        ]
    metric = fmt is not None and fmt.space == "metric"
    if metric and found.image_space < min(IMAGE_SPACE, found.residual):
        return [
            "the 3D is in image space: its x and y are those of the 2D (they differ by "
            f"{found.image_space:.4f}). Pass space='image' in batch=, with root='relative' if the "
            "root is subtracted from the 3D (mmpose: batch='mmpose_motionbert') and "
            "root='absolute' if not (batch='motionbert')"
        ]
    apart = found.root_step > PEOPLE_STEP * found.longest_bone
    if found.length_spread > PEOPLE_SPREAD and apart:
        return [
            "the frames of a row look like different people: their size differs by "
            f"{found.length_spread:.0%} and their roots are {found.root_step:.1f} m apart. (B, T, "
            "J, C) is read as T frames of one person. For (B, P, J, C) with P people in an image, "
            "pass scenes=True in batch=; for one row per person, name a field with the image's "
            "number as groups=. If frames come first, (T, B, J, C), transpose them before batching"
        ]
    return []


def _wrong_root(batch: Any, fmt: BatchFormat, skeleton: Skeleton, longest_bone: float) -> list[str]:
    pose_3d = fmt.decoded_3d(batch, skeleton)
    if fmt.space == "image":
        kind = "relative" if root_is_zero(pose_3d, skeleton) else "absolute"
    else:
        kind = root_kind(pose_3d, skeleton)
        root = without_padding(pose_3d)[:, skeleton.root]
        away, depth = (float(x.median()) for x in (root.norm(dim=1), root[:, 2].abs()))
        if kind == "absolute" and depth < DEPTH[0] * longest_bone and away < 3 * longest_bone:
            name = f" ({skeleton.names[skeleton.root]})" if skeleton.names else ""
            return [
                "the 3D is relative to a point of the body that is not the skeleton's root, joint "
                f"{skeleton.root}{name}. Yield it relative to that joint (root='relative'), or in "
                "the camera frame (root='absolute'), and subtract your point in the loop"
            ]
    if kind == fmt.root:
        return []
    return [f"the 3D looks like root={kind!r}, not root={fmt.root!r}: pass root={kind!r} in batch="]


def _wrong_depth(depth: float, longest_bone: float) -> list[str]:
    near, far = (limit * longest_bone for limit in DEPTH)
    if near <= depth <= far:
        return []
    return [
        f"people are {depth:.3g} m from the camera, expected {near:.2g} to {far:.3g} m for their "
        "size: the 2D is not in screen units (pixels need screen=(w, h), standardised 2D "
        "stat_2d=(mean, std)), or the 3D is not in metres"
    ]


def _problems(found: Diagnostics, unit: float | None, skeleton: Skeleton) -> Iterator[str]:
    """Problems with their cures.

    Args:
        unit: the format's metres per unit; None if it does not tell.
    """
    low, high = LONGEST_BONE if skeleton in SKELETONS.values() else LONGEST_BONE_OF_ANY
    usual = THIGH if skeleton.left else PALM
    if not low <= found.longest_bone <= high:
        given = unit or 1.0
        guess = min(
            (1e-3, 1e-2, 1.0, 1e3),
            key=lambda u: abs(math.log10(max(found.longest_bone / given * u / usual, 1e-30))),
        )
        if unit is None:
            cure = "read must return metres, and the joints in the skeleton's order"
            if guess != given:
                cure = f"read must return metres; its 3D looks {1 / guess:g} times too large"
        elif guess == given:
            cure = (
                "the joints are in another order than the skeleton's (pass the data's skeleton=), "
                "or the 3D is standardised (stat_3d=(mean, std)) or in another unit (unit=)"
            )
        else:
            cure = (
                f"the 3D is not in the unit given (unit={unit:g}); it looks like unit={guess:g}, "
                f"e.g. batch=dict(..., unit={guess:g})"
            )
        yield f"the longest bone is {found.longest_bone:.4g} m, expected {low} to {high} m: {cure}"
    cured = min(found.residual / 2, DOUBTED_RESIDUAL)
    if found.residual_behind < cured:
        yield (
            "the 3D's z points towards the camera: negated it fits the 2D better (residual "
            f"{found.residual_behind:.4f} instead of {found.residual:.4f}); negate z before "
            "batching"
        )
    elif found.residual_scaled < cured:
        yield (
            f"the 2D's y is scaled by {found.aspect:.2f} relative to its x: divide both by the "
            "width, x / w * 2 - 1 and y / w * 2 - h / w"
        )
    elif not found.residual <= RESIDUAL:
        yield (
            f"the 3D does not project onto its 2D (residual {found.residual:.3f}, expected at most "
            f"{RESIDUAL}): y flipped, left and right swapped, joints of the 2D in another order "
            "than the 3D's or missing ones set to 0, pixels instead of screen units, screen= of "
            "another image, or 3D in the world frame instead of the camera frame. Undo the flip, "
            "or apply the camera's rotation to the 3D, before batching"
        )
    elif found.centred:
        yield (
            "every person's 2D is centred on the same point: it was cropped or moved, but the 2D "
            "of augmented people is not. Yield 2D coordinates in the whole image"
        )
    elif found.residual_placed is not None and not found.residual_placed <= RESIDUAL:
        yield (
            "the 3D does not project onto its 2D from its own root position (residual "
            f"{found.residual_placed:.3f}), but does from {found.distance:.1f} m away "
            f"({found.residual:.4f}): the 2D is not in the screen units of the camera, or was "
            "scaled or moved"
        )
    if found.asymmetry > ASYMMETRY:
        yield (
            f"left and right bones differ by {found.asymmetry:.0%} of their length: the joints are "
            "in another order than the skeleton's; pass the data's skeleton="
        )


def _doubts(found: Diagnostics, skeleton: Skeleton) -> Iterator[str]:
    """Unusual numbers with their likely causes."""
    near, far = (limit * found.longest_bone for limit in USUAL_DISTANCE)
    short, long = USUAL_BONE
    if found.residual > DOUBTED_RESIDUAL:
        yield (
            f"the residual is {found.residual:.3f}, more than the error of detected 2D: the 2D "
            "may be scaled to boxes, or come from another camera than the one assumed (camera=)"
        )
    elif found.share_off > DOUBTED_SHARE:
        yield (
            f"{found.share_off:.0%} of the poses do not project onto their 2D: are 2D and 3D of "
            "mirrored rows mirrored together, with their left and right joints exchanged in both? "
            "If several data sets are mixed, look at each of them"
        )
    if found.upside_down:
        yield (
            "most people are upside down in the image: y points up. Negate the y of 2D and 3D, or, "
            "if they are upside down, set upright=False in config="
        )
    if found.asymmetry > DOUBTED_ASYMMETRY:
        yield (
            f"left and right bones differ by {found.asymmetry:.1%}: the joints may be in another "
            "order than the skeleton's"
        )
    if not near <= found.distance <= far:
        yield (
            f"people are {found.distance:.3g} m from the camera, usually {near:.2g} to {far:.2g} m "
            "for their size. If yours are not, the 2D is not in screen units, or the camera is "
            "another one (camera=). Augmented people are placed accordingly, unless distance= in "
            "config= says where"
        )
    if not (short if skeleton.left else 0) <= found.longest_bone <= long:
        yield (
            f"the longest bone is {found.longest_bone:.2g} m; an adult's is about {THIGH} m. If "
            "yours are not of that size, the 3D is in another unit than unit= in batch= says"
        )
    least, most = found.certainty
    if least < -CERTAINTY or most > 1 + CERTAINTY:
        yield (
            f"the third channel of the 2D goes from {least:.3g} to {most:.3g}. It is taken for a "
            "confidence, which stays with its row. If it is a depth, a velocity or a part of a "
            "ray, it does not fit the new 2D: yield the 2D without it, and compute it in the loop. "
            "If it is the 3D, pose_2d and pose_3d are exchanged in batch="
        )
    if found.outside > DOUBTED_OUTSIDE:
        yield (
            f"{found.outside:.0%} of the people are outside the image: screen= is that of another "
            "image, or rows are mirrored in pixels about the image's corner instead of its centre "
            "(mirror after the conversion to screen units, or x to w - x)"
        )
    if max(map(abs, found.centre)) > DOUBTED_CENTRE:
        x, y = found.centre
        yield (
            f"points in front of the camera appear at ({x:.2f}, {y:.2f}) instead of the centre of "
            "the image, (0, 0): screen= is that of another image (is it (width, height)?), the 2D "
            "goes from 0 to 1, or it was moved"
        )
    elif abs(math.log(max(found.focal_factor, 1e-6))) > DOUBTED_FOCAL:
        focal = found.focal * found.focal_factor
        yield (
            f"the focal length that fits the 3D and the 2D is {focal:.2f}, not {found.focal:.2f}: "
            f"pass camera=Camera(f=({focal:.2f}, {focal:.2f})), or screen=(w, h) in batch= if the "
            "2D is in pixels"
        )
    elif min(map(abs, found.middle)) > DOUBTED_CENTRE and math.prod(found.middle) < 0:
        x, y = found.middle
        yield (
            f"people are in a corner of the image, at ({x:.2f}, {y:.2f}) on average, where its "
            "centre is (0, 0): is screen= (width, height)?"
        )
    if found.positive:
        yield "no 2D coordinate is negative: in screen units the centre of the image is at 0"
