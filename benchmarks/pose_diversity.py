"""How varied poses are: viewpoints, positions, bodies, joint angles of several sets, side by side.

Also how much nearer to poses of another data set some set comes than the source does.
"""

from __future__ import annotations

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
from poseaug_plugin.data.h36m import Pairs
from poseaug_plugin.geometry.bones import lengths, pose_to_bones, unit

matplotlib.use("Agg")

__all__ = [
    "angles",
    "bodies",
    "coverage",
    "draw",
    "nearest",
    "palette",
    "places",
    "save",
    "some",
    "viewpoints",
]

SKELETON = Skeleton.of("h36m_16")
COLOURS = {"source": "#2a78d6", "cross": "#1f1f1e"}
MADE = ["#eb6834", "#7b4fbf", "#2f9e6e", "#c2a400", "#b03060"]  # augmented, recipe after recipe

Sets = Mapping[str, Pairs]  # source, one per recipe, cross


# Measures


def viewpoints(pairs: Pairs) -> Tensor:
    """(N, 2) degrees: where the camera stands as the body sees it, azimuth and elevation.

    0, 0 is straight ahead of the chest, azimuth grows to the left, elevation is up along the spine.
    Poses without a place (their root at the camera) count as in the middle of the image.
    """
    frame = body_frame(pairs.root_relative)
    root = pairs.pose_3d[:, :1]
    placed = root.any(-1, keepdim=True)
    root = torch.where(placed, root, torch.tensor([0.0, 0.0, 1.0]))
    to_camera = unit((-root @ frame.mT)[:, 0])
    left, up, ahead = to_camera.unbind(-1)
    return torch.rad2deg(torch.stack([torch.atan2(left, ahead), up.clamp(-1, 1).asin()], -1))


def body_frame(pose: Tensor) -> Tensor:
    """(N, 3, 3) rows left, up and ahead of the trunk, of poses (N, 16, 3)."""
    up = unit(_joint(pose, "thorax") - _joint(pose, "pelvis"))
    across = _joint(pose, "l_hip") - _joint(pose, "r_hip")
    left = unit(across - (across * up).sum(-1, keepdim=True) * up)
    return torch.stack([left, up, torch.linalg.cross(left, up)], 1)


def _joint(pose: Tensor, name: str, side: str = "") -> Tensor:
    """(N, 3) of one joint; `side` counts for joints that have one."""
    names = SKELETON.names or ()
    return pose[:, names.index(side + name if side + name in names else name)]


#: Two directions each, from joint to joint; 0 degrees is a straight line.
_ANGLES = {
    "knee": (("hip", "knee"), ("knee", "ankle")),
    "elbow": (("shoulder", "elbow"), ("elbow", "wrist")),
    "spine": (("pelvis", "spine"), ("spine", "thorax")),
    "trunk to thigh": (("thorax", "pelvis"), ("hip", "knee")),
    "trunk to upper arm": (("thorax", "pelvis"), ("shoulder", "elbow")),
    "neck": (("spine", "thorax"), ("thorax", "head")),
}


def angles(pairs: Pairs) -> dict[str, Tensor]:
    """Degrees at each joint, both sides together."""

    def at(side: str, *bones: tuple[str, str]) -> Tensor:
        a, b = (
            unit(_joint(pairs.pose_3d, end, side) - _joint(pairs.pose_3d, start, side))
            for start, end in bones
        )
        return torch.rad2deg((a * b).sum(-1).clamp(-1, 1).acos())

    return {
        name: torch.cat([at(side, *bones) for side in ("l_", "r_")])
        for name, bones in _ANGLES.items()
    }


def bodies(pairs: Pairs) -> dict[str, Tensor]:
    """Millimetres of each bone, both sides together."""
    names = [name.removeprefix("l_").removeprefix("r_") for name in SKELETON.names or ()]
    found: dict[str, list[Tensor]] = {}
    for bone, long in enumerate(lengths(pose_to_bones(pairs.pose_3d, SKELETON)).T):
        title = f"{names[SKELETON.parent[bone]]} to {names[SKELETON.child[bone]]}"
        found.setdefault(title, []).append(1000 * long)
    return {title: torch.cat(both) for title, both in found.items()}


def places(pairs: Pairs) -> dict[str, Tensor]:
    """Where the root is, and how large the person appears; NaN where a set does not tell."""
    span = pairs.pose_2d.amax(1) - pairs.pose_2d.amin(1)
    distance = pairs.pose_3d[:, 0].norm(dim=-1)
    return {
        "distance, m": distance.where(distance > 0, torch.nan),
        "focal length": pairs.camera[:, 0],
        "longer side on the screen": span.amax(-1),
        "root on the screen, x": pairs.pose_2d[:, 0, 0],
        "root on the screen, y": pairs.pose_2d[:, 0, 1],
    }


def nearest(poses: Tensor, among: Tensor) -> Tensor:
    """(N,) mean distance over joints from each pose (N, J, 3) to the nearest of (M, J, 3)."""
    rows = []
    for some in poses.split(500):
        rows.append(torch.stack([torch.cdist(some[:, j], among[:, j]) for j in _MOVING]).mean(0))
    return torch.cat([row.amin(1) for row in rows])


_MOVING = [j for j in range(SKELETON.num_joints) if j != SKELETON.root]


def coverage(sets: Sets) -> dict[str, dict[str, float]]:
    """How near the cross-dataset poses each other set comes; equal-sized samples.

    For each set, `mm`: from a cross pose to its nearest, root-relative, as the camera sees it;
    `nearer`: percent of cross poses nearer than to the source; `posture mm`, `posture nearer`: the
    same when every pose is turned to face the same way, which leaves out the view.
    """
    count = min(len(pairs) for pairs in sets.values())
    relative = {name: pairs[:count].root_relative for name, pairs in sets.items()}
    facing = {name: pose @ body_frame(pose).mT for name, pose in relative.items()}
    numbers: dict[str, dict[str, float]] = {name: {} for name in sets if name != "cross"}
    for prefix, poses in (("", relative), ("posture ", facing)):
        away = {name: 1000 * nearest(poses["cross"], poses[name]) for name in numbers}
        for name, row in numbers.items():
            row[prefix + "mm"] = float(away[name].mean())
            row[prefix + "nearer"] = 100 * float((away[name] < away["source"]).float().mean())
    return numbers


# Pictures


def draw(sets: Sets, folder: Path) -> None:
    """One picture of viewpoints and one of each other measure."""
    folder.mkdir(parents=True, exist_ok=True)
    _draw_viewpoints(sets, folder / "viewpoints.png")
    for name, (title, measure) in _MEASURES.items():
        measured = {label: measure(pairs) for label, pairs in sets.items()}
        _draw_measures(measured, f"{title}; taller peaks are cut", folder / f"{name}.png")


_MEASURES: dict[str, tuple[str, Callable[[Pairs], dict[str, Tensor]]]] = {
    "places": ("place and size; lengths on the screen in half widths of the image", places),
    "bodies": ("bone lengths, mm", bodies),
    "angles": ("joint angles, degrees; 0 is straight", angles),
}


def some(pairs: Pairs, most: int, seed: int) -> Pairs:
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))
    return pairs[order[:most]]


def palette(sets: Sequence[str]) -> dict[str, str]:
    made = [name for name in sets if name not in COLOURS]
    return {**COLOURS, **{name: MADE[i % len(MADE)] for i, name in enumerate(made)}}


def _draw_viewpoints(sets: Sets, path: Path) -> None:
    figure, axes = plt.subplots(
        1, len(sets), figsize=(3.4 * len(sets), 3.2), layout="constrained", sharey=True
    )
    for axis, (name, pairs) in zip(axes, sets.items()):
        azimuth, elevation = viewpoints(pairs).T.numpy()
        axis.hist2d(azimuth, elevation, bins=(36, 18), range=((-180, 180), (-90, 90)), cmap="Blues")
        axis.set(title=name, xlabel="azimuth, degrees", xticks=range(-180, 181, 90))
    axes[0].set(ylabel="elevation, degrees", yticks=range(-90, 91, 45))
    figure.suptitle("the camera as the body sees it; 0, 0 is straight ahead of the chest")
    save(figure, path)


def _draw_measures(measures: Mapping[str, dict[str, Tensor]], title: str, path: Path) -> None:
    """One panel a measure, one line a set; heights are shares of the set."""
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
    colours = palette(list(measures))
    for axis, panel in zip(axes.flat, panels):
        finite = {name: m[panel][m[panel].isfinite()] for name, m in measures.items()}
        told = {name: values for name, values in finite.items() if len(values)}
        low, high = torch.cat([*told.values()]).quantile(torch.tensor([0.001, 0.999])).tolist()
        peaks = []
        for name, values in told.items():
            heights, edges = torch.histogram(values, 40, range=(low, high), density=True)
            axis.stairs(heights, edges, color=colours[name], label=name, linewidth=1.5)
            peaks.append(float(heights.max()))
        # The source's few bodies and lenses are spikes beside which nothing else would show.
        axis.set(title=panel, yticks=[], ylim=(0, 2.5 * statistics.median_low(peaks)))
    for axis in list(axes.flat)[len(panels) :]:
        axis.axis("off")
    figure.suptitle(title)
    handles = axes[0, -1].get_legend_handles_labels()  # where all sets are
    figure.legend(*handles, loc="outside lower center", ncols=len(measures), frameon=False)
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110)
    plt.close(figure)
