"""Is this batch what its format says? Numbers that tell, and the cure for each wrong one.

Measured on real motion: the reprojection residual is about 0.001 (0.02 with detected 2D); flipped
y, swapped sides or a world frame give 0.08 and more. A unit error does not show there, for the
root fit absorbs it, but bone lengths show it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .batch import BatchFormat
from .bones import lengths, pose_to_bones
from .camera import fit_root, project
from .containers import describe, get_field, keys_of
from .errors import BatchError, DataError
from .layout import Layout
from .poses import PoseBatch
from .skeleton import SKELETONS, Skeleton

__all__ = ["CheckReport", "inspect", "recognise"]

LONGEST_BONE = 0.03, 0.8  # metres; a thigh is 0.4 to 0.5, a hand's longest bone 0.1
RESIDUAL = 0.05  # rms, normalised screen units
DEPTH = 0.2, 100.0  # metres to the root


@dataclass(frozen=True)
class CheckReport:
    """What `augmenter.check(loader)` found.

    `problems` names every finding that would spoil training, with its cure; empty is good.
    """

    format: BatchFormat
    fields: str  # what a batch holds
    rows: int
    frames: int
    joints: int
    longest_bone: float  # metres, median over rows
    residual: float  # rms distance of observed and projected 2D, median over rows
    asymmetry: float  # median difference of left and right bone lengths, share of their mean
    problems: tuple[str, ...]

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
            f"reprojection residual {self.residual:.4f} (right data: 0.001 to 0.02)",
            *(f"PROBLEM    {problem}" for problem in self.problems),
        ]
        return "\n".join(lines if self.problems else [*lines, "no problem found"])


def inspect(batch: Any, poses: PoseBatch, fmt: BatchFormat, skeleton: Skeleton) -> CheckReport:
    """Measure one batch.

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
    frames = poses.pose_3d.flatten(0, 1)
    seen = poses.pose_2d.flatten(0, 1)
    camera = poses.camera[:, None].expand(-1, poses.pose_2d.shape[1], 9).flatten(0, 1)
    longest, asymmetry = _bones(frames, skeleton)
    placed = frames + fit_root(seen, frames, camera)[:, None]
    off = (project(placed, camera) - seen).square().sum(-1).mean(-1).sqrt()
    residual = float(off.median())
    kind = fmt.root
    if type(fmt) is BatchFormat and fmt.space == "metric":
        kind = _root_kind(fmt.decoded_3d(fmt._field(batch, "pose_3d"), skeleton), skeleton)
    depth = float(poses.root[..., 2].median())
    return CheckReport(
        format=fmt,
        fields=describe(batch),
        rows=len(poses),
        frames=poses.pose_2d.shape[1],
        joints=skeleton.num_joints,
        longest_bone=longest,
        residual=residual,
        asymmetry=asymmetry,
        problems=(
            *_root_problems(fmt, kind, depth),
            *_problems(longest, residual, asymmetry, fmt.unit),
        ),
    )


def _bones(frames: Tensor, skeleton: Skeleton) -> tuple[float, float]:
    sizes = lengths(pose_to_bones(frames, skeleton)).median(0).values
    left = [skeleton.bone_of[j] for j in skeleton.left if j != skeleton.root]
    right = [skeleton.bone_of[j] for j in skeleton.right if j != skeleton.root]
    if not left:
        return float(sizes.max()), 0.0
    a, b = sizes[left], sizes[right]
    return float(sizes.max()), float(((a - b).abs() / (a + b).clamp_min(1e-9) * 2).median())


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


def _problems(longest: float, residual: float, asymmetry: float, unit: float) -> list[str]:
    low, high = LONGEST_BONE
    found = []
    if not low <= longest <= high:
        guess = min(
            (1e-3, 1e-2, 1.0, 1e3),
            key=lambda u: abs(math.log10(max(longest / unit * u / 0.45, 1e-30))),
        )
        cure = (
            "the joints are in another order than the skeleton's; pass the data's skeleton="
            if guess == unit
            else f"the 3D is not in the unit given (unit={unit:g}); it looks like unit={guess:g}, "
            f"e.g. batch=dict(..., unit={guess:g})"
        )
        found.append(f"the longest bone is {longest:.4g} m, expected {low} to {high} m: {cure}")
    if not residual <= RESIDUAL:
        found.append(
            f"the 3D does not project onto its 2D (residual {residual:.3f}, expected at most "
            f"{RESIDUAL}): y flipped, left and right swapped, pixels instead of screen units, or "
            "3D in the world frame instead of the camera's. Undo the flip, or turn the 3D by the "
            "camera's rotation, before batching"
        )
    if asymmetry > 0.3:
        found.append(
            f"left and right bones differ by {asymmetry:.0%} of their length: the joints are "
            "in another order than the skeleton's; pass the data's skeleton="
        )
    return found


def recognise(batch: Any, skeleton: Skeleton | None) -> tuple[BatchFormat, Skeleton]:
    """The format of a batch, by the shapes of its fields.

    Raises:
        BatchError: more than one reading fits, or none; lists what was seen.
    """
    counts = {skeleton.num_joints} if skeleton else {s.num_joints for s in SKELETONS.values()}
    found: dict[int, list[Any]] = {2: [], 3: [], 9: []}
    for key in keys_of(batch):
        shape = tuple(getattr(get_field(batch, key), "shape", ()))
        if len(shape) in (3, 4) and shape[-1] in (2, 3) and shape[-2] in counts:
            found[shape[-1]].append(key)
        elif len(shape) == 2 and shape[-1] == 9:
            found[9].append(key)
    if len(found[2]) != 1 or len(found[3]) != 1 or len(found[9]) > 1:
        raise BatchError(
            f"cannot tell which field is what: {describe(batch)} has {found[2]} as 2D, "
            f"{found[3]} as 3D, {found[9]} as camera. Name them, e.g. "
            "batch=dict(pose_2d=1, pose_3d=0, root='relative')."
        )
    (key_2d,), (key_3d,) = found[2], found[3]
    fmt = BatchFormat(key_2d, key_3d, found[9][0] if found[9] else None)
    raw = fmt._field(batch, "pose_3d")
    skeleton = skeleton or Skeleton.for_joints(raw.shape[-2])
    kind = _root_kind(Layout.of(raw, skeleton.num_joints, 3, "pose_3d").canonical(raw), skeleton)
    return BatchFormat(key_2d, key_3d, fmt.camera, root=kind), skeleton


def _root_kind(pose_3d: Tensor, skeleton: Skeleton) -> Any:
    """How the root is kept: at the origin, with every joint, or alone in its own slot."""
    frames = pose_3d.flatten(0, 1)
    root = frames[:, skeleton.root]
    if float(root.abs().max()) < 1e-3:
        return "relative"
    alone = frames.clone()
    alone[:, skeleton.root] = 0
    together, apart = (
        lengths(pose_to_bones(p, skeleton)).amax(-1).median() for p in (frames, alone)
    )
    return "absolute" if together <= apart else "slot"
