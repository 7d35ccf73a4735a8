"""Where augmented poses lie: viewpoints, positions, bodies, joint angles; and how hard they are.

Source, augmented and cross-dataset poses side by side, and how much nearer to the cross-dataset
poses the augmented ones come than the source's do.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn

from common import markdown
from contest import Run, train
from h36m_files import Pairs
from metrics import mpjpe
from poseaug_plugin import Skeleton
from poseaug_plugin.bones import lengths, pose_to_bones, unit
from quickstart import Batch
from splits import splits

matplotlib.use("Agg")

__all__ = ["Trace", "angles", "coverage", "look_closely", "nearest", "viewpoints"]

SKELETON = Skeleton.of("h36m_16")
SAMPLE = 4000  # poses of each set, at most
PROBE = 512  # training pairs on which the errors are followed
POINTS = 30  # of such a curve
BATCHES = 100  # the last ones, from which augmented pairs are taken
COLOURS = {"source": "#2a78d6", "cross": "#1f1f1e"}
MADE = ["#eb6834", "#7b4fbf", "#2f9e6e", "#c2a400", "#b03060"]  # augmented, recipe after recipe

Sets = Mapping[str, Pairs]  # source, one per recipe, cross


# Measures


def viewpoints(pairs: Pairs) -> Tensor:
    """(N, 2) degrees: where the camera stands as the body sees it, azimuth and elevation.

    0, 0 is straight ahead of the chest, azimuth grows to the left, elevation is up along the spine.
    """
    frame = body_frame(pairs.root_relative)
    to_camera = unit((-pairs.pose_3d[:, :1] @ frame.mT)[:, 0])
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
    """Where the root is, and how large the person appears."""
    span = pairs.pose_2d.amax(1) - pairs.pose_2d.amin(1)
    return {
        "distance, m": pairs.pose_3d[:, 0].norm(dim=-1),
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


class Trace:
    """What the estimator was trained on, and how hard it found it; a `Look` for `train`.

    Args:
        pairs: the training pairs.
        updates: of the run. The error is asked `POINTS` times, in evaluation mode.

    Attributes:
        errors: (updates done, mm on a fixed sample of training pairs, mm on augmented pairs).
    """

    def __init__(self, pairs: Pairs, updates: int) -> None:
        self._pairs, self._probe = pairs, _some(pairs, PROBE, 1)
        self._updates, self._due = updates, 0
        self._made: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=BATCHES)
        self.errors: list[tuple[int, float, float]] = []

    @torch.no_grad()
    def __call__(self, step: int, model: nn.Module, batch: Batch) -> None:
        pose_3d, pose_2d, rows, camera = batch
        changed = (pose_2d != self._pairs.pose_2d[rows]).flatten(1).any(1)
        if not changed.any():  # a pass of real pairs
            return
        if step >= self._due:
            self._due = step + max(1, self._updates // POINTS)
            model.eval()
            original = mpjpe(model(self._probe.pose_2d), self._probe.root_relative)
            y = pose_3d[changed]
            augmented = mpjpe(model(pose_2d[changed]), y - y[:, :1])
            model.train()
            self.errors.append((step, original, augmented))
        self._made.append((pose_2d[changed], pose_3d[changed], camera[changed]))

    def made(self) -> Pairs:
        """The last augmented pairs, `SAMPLE` of them if there were as many.

        Raises:
            ValueError: none was augmented.
        """
        if not self._made:
            raise ValueError("no row was augmented; train longer, or with another recipe")
        pose_2d, pose_3d, camera = (torch.cat(field)[-SAMPLE:] for field in zip(*self._made))
        nobody = np.full(len(pose_2d), "")
        return Pairs(pose_2d, pose_3d, camera, nobody, nobody)


# Pictures


def look_closely(
    runs: Sequence[Run], folder: Path, tick: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Train each run, draw what it was trained on, and say how that covers the cross set.

    Args:
        runs: one estimator and seed, several recipes with a config.
        folder: of the pictures; made.
        tick: called after each update.
    """
    first = runs[0]
    pairs, tests = splits(
        first.data,
        first.seed,
        subjects=first.subjects,
        detections=first.detections,
        validate=first.validate,
    )
    sets = {"source": _some(pairs, SAMPLE, 0)}
    traces = {}
    for run in runs:
        trace = traces[run.recipe] = Trace(pairs, run.updates)
        train(run, pairs, tick, trace)
        sets[run.recipe] = trace.made()
    sets["cross"] = _some(tests["cross"], SAMPLE, 3)

    folder.mkdir(parents=True, exist_ok=True)
    _draw_viewpoints(sets, folder / "viewpoints.png")
    for name, (title, measure) in _MEASURES.items():
        measured = {label: measure(p) for label, p in sets.items()}
        _draw_measures(measured, f"{title}; taller peaks are cut", folder / f"{name}.png")
    _draw_traces(traces, folder / "difficulty.png")
    return {
        "coverage": coverage(sets),
        "difficulty": {
            name: dict(zip(("updates", "original", "augmented"), zip(*trace.errors)))
            for name, trace in traces.items()
        },
    }


_MEASURES: dict[str, tuple[str, Callable[[Pairs], dict[str, Tensor]]]] = {
    "places": ("place and size; lengths on the screen in half widths of the image", places),
    "bodies": ("bone lengths, mm", bodies),
    "angles": ("joint angles, degrees; 0 is straight", angles),
}


def table(numbers: Mapping[str, Any]) -> str:
    """Coverage and, at the end of training, difficulty, as Markdown."""
    head = ["poses", "cross pose to nearest, mm", "nearer than source, %"]
    head += ["posture alone, mm", "nearer than source, %", "error augmented / original, mm"]
    rows = []
    for name, row in numbers["coverage"].items():
        curve = numbers["difficulty"].get(name)
        ends = f"{curve['augmented'][-1]:.0f} / {curve['original'][-1]:.0f}" if curve else ""
        numbers_shown = (f"{value:.1f}" if value else "" for value in row.values())
        rows.append([name, *numbers_shown, ends])
    return markdown(head, rows)


def _some(pairs: Pairs, most: int, seed: int) -> Pairs:
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))
    return pairs[order[:most]]


def _colours(sets: Sequence[str]) -> dict[str, str]:
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
    _save(figure, path)


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
    colours = _colours(list(measures))
    for axis, panel in zip(axes.flat, panels):
        together = torch.cat([measure[panel] for measure in measures.values()])
        low, high = together.quantile(torch.tensor([0.001, 0.999])).tolist()
        peaks = []
        for name, measure in measures.items():
            heights, edges = torch.histogram(measure[panel], 40, range=(low, high), density=True)
            axis.stairs(heights, edges, color=colours[name], label=name, linewidth=1.5)
            peaks.append(float(heights.max()))
        # The source's few bodies and lenses are spikes beside which nothing else would show.
        axis.set(title=panel, yticks=[], ylim=(0, 2.5 * statistics.median_low(peaks)))
    for axis in list(axes.flat)[len(panels) :]:
        axis.axis("off")
    figure.suptitle(title)
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=len(measures), frameon=False)
    _save(figure, path)


def _draw_traces(traces: Mapping[str, Trace], path: Path) -> None:
    figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
    colours = _colours(list(traces))
    for name, trace in traces.items():
        updates, original, augmented = zip(*trace.errors)
        axis.plot(updates, augmented, color=colours[name], label=f"{name}, augmented")
        axis.plot(updates, original, "--", color=colours[name], label=f"{name}, original")
    axis.set(xlabel="updates", ylabel="MPJPE on training pairs, mm", ylim=(0, None))
    axis.legend()
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110)
    plt.close(figure)
