"""Diversity of pose sets: viewpoints, positions, bone lengths and joint angles, side by side.

Also how close each set comes to the poses of a cross-dataset test set.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from poseaug_plugin import Skeleton
from poseaug_plugin.data import Pairs
from poseaug_plugin.geometry.bones import lengths, pose_to_bones, unit

matplotlib.use("Agg")

__all__ = [
    "bone_lengths",
    "colours",
    "coverage",
    "joint_angles",
    "nearest_distance",
    "plot_all",
    "position_and_size",
    "sample_pairs",
    "save_figure",
    "viewpoints",
]

SKELETON = Skeleton.of("h36m_16")
COLOURS = {"source": "#2a78d6", "cross": "#1f1f1e"}
METHOD_COLOURS = ["#eb6834", "#7b4fbf", "#2f9e6e", "#c2a400", "#b03060"]

Sets = Mapping[str, Pairs]  # source, augmented pairs of each method, cross


# Measures


def viewpoints(pairs: Pairs) -> Tensor:
    """(N, 2) azimuth and elevation of the camera in the body frame, degrees.

    (0, 0) is straight ahead of the chest. Azimuth grows to the left, elevation upwards along the
    spine. Poses without a root position (root at the camera) are treated as at the image centre.
    """
    frame = body_frame(pairs.root_relative)
    root = pairs.pose_3d[:, :1]
    has_position = root.any(-1, keepdim=True)
    root = torch.where(has_position, root, torch.tensor([0.0, 0.0, 1.0]))
    to_camera = unit((-root @ frame.mT)[:, 0])
    left, up, ahead = to_camera.unbind(-1)
    return torch.rad2deg(torch.stack([torch.atan2(left, ahead), up.clamp(-1, 1).asin()], -1))


def body_frame(pose: Tensor) -> Tensor:
    """(N, 3, 3) with rows left, up and ahead of the trunk of poses (N, 16, 3)."""
    up = unit(_joint(pose, "thorax") - _joint(pose, "pelvis"))
    across = _joint(pose, "l_hip") - _joint(pose, "r_hip")
    left = unit(across - (across * up).sum(-1, keepdim=True) * up)
    return torch.stack([left, up, torch.linalg.cross(left, up)], 1)


def _joint(pose: Tensor, name: str, side: str = "") -> Tensor:
    """(N, 3) of one joint. `side` is ignored for joints in the middle."""
    names = SKELETON.names or ()
    return pose[:, names.index(side + name if side + name in names else name)]


#: Two bone directions for each angle. 0 degrees means that they are parallel.
_ANGLE_BONES = {
    "knee": (("hip", "knee"), ("knee", "ankle")),
    "elbow": (("shoulder", "elbow"), ("elbow", "wrist")),
    "spine": (("pelvis", "spine"), ("spine", "thorax")),
    "trunk to thigh": (("thorax", "pelvis"), ("hip", "knee")),
    "trunk to upper arm": (("thorax", "pelvis"), ("shoulder", "elbow")),
    "neck": (("spine", "thorax"), ("thorax", "head")),
}


def joint_angles(pairs: Pairs) -> dict[str, Tensor]:
    """Angles in degrees, left and right concatenated."""

    def angle_of(side: str, *bones: tuple[str, str]) -> Tensor:
        a, b = (
            unit(_joint(pairs.pose_3d, end, side) - _joint(pairs.pose_3d, start, side))
            for start, end in bones
        )
        return torch.rad2deg((a * b).sum(-1).clamp(-1, 1).acos())

    return {
        name: torch.cat([angle_of(side, *bones) for side in ("l_", "r_")])
        for name, bones in _ANGLE_BONES.items()
    }


def bone_lengths(pairs: Pairs) -> dict[str, Tensor]:
    """Bone lengths in millimetres, left and right concatenated."""
    names = [name.removeprefix("l_").removeprefix("r_") for name in SKELETON.names or ()]
    by_title: dict[str, list[Tensor]] = {}
    for bone, length in enumerate(lengths(pose_to_bones(pairs.pose_3d, SKELETON)).T):
        title = f"{names[SKELETON.parent[bone]]} to {names[SKELETON.child[bone]]}"
        by_title.setdefault(title, []).append(1000 * length)
    return {title: torch.cat(both) for title, both in by_title.items()}


def position_and_size(pairs: Pairs) -> dict[str, Tensor]:
    """Position of the root and apparent size of the person. NaN where unknown."""
    span = pairs.pose_2d.amax(1) - pairs.pose_2d.amin(1)
    distance = pairs.pose_3d[:, 0].norm(dim=-1)
    return {
        "distance, m": distance.where(distance > 0, torch.nan),
        "focal length": pairs.camera[:, 0],
        "longer side in the image": span.amax(-1),
        "root in the image, x": pairs.pose_2d[:, 0, 0],
        "root in the image, y": pairs.pose_2d[:, 0, 1],
    }


def nearest_distance(poses: Tensor, others: Tensor) -> Tensor:
    """(N,) mean joint distance from each pose (N, J, 3) to its nearest of (M, J, 3)."""
    rows = []
    for chunk in poses.split(500):
        distances = [torch.cdist(chunk[:, j], others[:, j]) for j in _NON_ROOT]
        rows.append(torch.stack(distances).mean(0))
    return torch.cat([row.amin(1) for row in rows])


_NON_ROOT = [j for j in range(SKELETON.num_joints) if j != SKELETON.root]


def coverage(sets: Sets) -> dict[str, dict[str, float]]:
    """Distances from the cross-dataset poses to their nearest pose of each other set.

    All sets are truncated to the size of the smallest. For each set, `mm` is the mean distance from
    a cross pose to its nearest pose, root-relative in the camera frame. `nearer` is the percentage
    of cross poses that are nearer to this set than to the source. `posture mm` and `posture nearer`
    are the same in the body frame, which removes the viewpoint.
    """
    count = min(len(pairs) for pairs in sets.values())
    relative = {name: pairs[:count].root_relative for name, pairs in sets.items()}
    facing = {name: pose @ body_frame(pose).mT for name, pose in relative.items()}
    numbers: dict[str, dict[str, float]] = {name: {} for name in sets if name != "cross"}
    for prefix, poses in (("", relative), ("posture ", facing)):
        distance = {n: 1000 * nearest_distance(poses["cross"], poses[n]) for n in numbers}
        for name, row in numbers.items():
            row[prefix + "mm"] = float(distance[name].mean())
            row[prefix + "nearer"] = 100 * float(
                (distance[name] < distance["source"]).float().mean()
            )
    return numbers


# Plots


def plot_all(sets: Sets, folder: Path) -> None:
    """Plot viewpoints and each other measure, one file each."""
    folder.mkdir(parents=True, exist_ok=True)
    _plot_viewpoints(sets, folder / "viewpoints.png")
    for name, (title, measure) in _MEASURES.items():
        measured = {label: measure(pairs) for label, pairs in sets.items()}
        _plot_measures(measured, f"{title}; tall peaks are clipped", folder / f"{name}.png")


_MEASURES: dict[str, tuple[str, Callable[[Pairs], dict[str, Tensor]]]] = {
    "places": ("position and size; image lengths in half image widths", position_and_size),
    "bodies": ("bone lengths, mm", bone_lengths),
    "angles": ("joint angles, degrees; 0 is straight", joint_angles),
}


def sample_pairs(pairs: Pairs, count: int, seed: int) -> Pairs:
    """Select `count` random rows, or all if there are fewer."""
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))
    return pairs[order[:count]]


def colours(sets: Sequence[str]) -> dict[str, str]:
    """Line colour of each set."""
    methods = [name for name in sets if name not in COLOURS]
    cycle = itertools.cycle(METHOD_COLOURS)
    return {**COLOURS, **dict(zip(methods, cycle))}


def _plot_viewpoints(sets: Sets, path: Path) -> None:
    figure, axes = plt.subplots(
        1, len(sets), figsize=(3.4 * len(sets), 3.2), layout="constrained", sharey=True
    )
    for axis, (name, pairs) in zip(axes, sets.items()):
        azimuth, elevation = viewpoints(pairs).T.numpy()
        axis.hist2d(azimuth, elevation, bins=(36, 18), range=((-180, 180), (-90, 90)), cmap="Blues")
        axis.set(title=name, xlabel="azimuth, degrees", xticks=range(-180, 181, 90))
    axes[0].set(ylabel="elevation, degrees", yticks=range(-90, 91, 45))
    figure.suptitle("camera direction in the body frame; (0, 0) is straight ahead of the chest")
    save_figure(figure, path)


def _plot_measures(measures: Mapping[str, dict[str, Tensor]], title: str, path: Path) -> None:
    """One panel per measure and one line per set. Heights are densities."""
    panels = list(measures["source"])
    columns = len(panels) if len(panels) <= 5 else math.ceil(len(panels) / 2)
    rows = math.ceil(len(panels) / columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(2.9 * columns, 2.3 * rows + 0.8),
        layout="constrained",
        squeeze=False,
    )
    colour = colours(list(measures))
    for axis, panel in zip(axes.flat, panels):
        finite = {name: m[panel][m[panel].isfinite()] for name, m in measures.items()}
        known = {name: values for name, values in finite.items() if len(values)}
        low, high = torch.cat([*known.values()]).quantile(torch.tensor([0.001, 0.999])).tolist()
        peaks = []
        for name, values in known.items():
            heights, edges = torch.histogram(values, 40, range=(low, high), density=True)
            axis.stairs(heights, edges, color=colour[name], label=name, linewidth=1.5)
            peaks.append(float(heights.max()))
        # The source has few bodies and lenses. Their tall peaks would hide everything else.
        axis.set(title=panel, yticks=[], ylim=(0, 2.5 * statistics.median_low(peaks)))
    for axis in list(axes.flat)[len(panels) :]:
        axis.axis("off")
    figure.suptitle(title)
    handles = axes[0, -1].get_legend_handles_labels()  # all sets are in this panel
    figure.legend(*handles, loc="outside lower center", ncols=len(measures), frameon=False)
    save_figure(figure, path)


def save_figure(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110)
    plt.close(figure)
