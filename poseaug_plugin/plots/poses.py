"""Pictures of poses, and of what the augmenter makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..geometry.bones import Bones
from ..geometry.skeleton import Skeleton
from .arguments import CPU, skeleton_of
from .drawing import (
    PALE,
    draw_pose,
    extent,
    frame,
    image,
    legend,
    new_figure,
    save,
    shape,
    view,
)
from .sides import COLOURS

if TYPE_CHECKING:
    from ..plugin import PoseAugmenter

__all__ = ["plot_augmented", "plot_pose", "plot_sources"]


def plot_pose(
    pose_3d: Tensor,
    pose_2d: Tensor | None = None,
    *,
    skeleton: Skeleton | str | None = None,
    height: float = 1.0,
    path: Path | str | None = None,
) -> Figure:
    """Plot one pose from the camera and from the side, and in the image.

    Args:
        pose_3d: (J, 3), camera frame, metres. It is drawn relative to the root.
        pose_2d: (J, 2), screen units. None: only the 3D pose.
        skeleton: a `Skeleton` or what `Skeleton.of` takes. None: the preset with as many joints.
        height: half height of the image, h / w.
        path: file to write. None: only return the figure.
    """
    pose_3d = pose_3d.detach().cpu().float()
    tree = skeleton_of(skeleton, len(pose_3d))
    views = {name: view(pose_3d - pose_3d[tree.root], name) for name in ("camera", "side")}
    limits = extent(points for points, _ in views.values())
    figure, axes = new_figure([shape(limits)], len(views) + (pose_2d is not None), 2.4)
    titles = ("from the camera", "from the side, camera at the left", "in the image")
    for axis, title in zip(axes[0], titles):
        axis.set_title(title, fontsize=9)
    for axis, (points, depth) in zip(axes[0], views.values()):
        draw_pose(axis, points, tree, depth)
        frame(axis, limits)
    if pose_2d is not None:
        draw_pose(axes[0, -1], pose_2d.detach().cpu().float(), tree)
        frame(axes[0, -1], image(height))
    legend(figure, COLOURS)
    return save(figure, path)


def plot_augmented(
    augmenter: PoseAugmenter, batch: Any, path: Path | str | None = None, columns: int = 6
) -> Figure:
    """Plot some rows of a batch, and what the augmenter puts in their place.

    A row keeps its own pose here. With `limb_crossover`, limbs and torso come from several rows of
    the batch; `plot_sources` shows which.

    Args:
        augmenter: an attached augmenter.
        batch: what the loader yields, in the augmenter's format. It is not changed.
        path: file to write. None: only return the figure.
        columns: number of rows of the batch, each in a column.
    """
    before = augmenter.read(batch).to(CPU)
    after, accepted, augmentation = augmenter.preview(batch)
    after, tree, middle = after.to(CPU), augmenter.skeleton, before.middle
    rows = accepted.cpu().nonzero()[:columns, 0].tolist() or [0]
    views = [view(poses.pose_3d[:, middle], "camera") for poses in (before, after)]
    limits = extent(points[rows] for points, _ in views)
    figure, axes = new_figure([shape(limits)] * 2 + [before.frame_height], len(rows), 1.7)
    for column, row in zip(axes.T, rows):
        for axis, (points, depth) in zip(column, views):
            draw_pose(axis, points[row], tree, depth[row])
            frame(axis, limits)
        draw_pose(column[2], before.pose_2d[row, middle], tree, colour=PALE)
        draw_pose(column[2], after.pose_2d[row, middle], tree)
        frame(column[2], image(before.frame_height))
    for axis, label in zip(axes[:, 0], ("rows of a batch", "what replaces them", "in the image")):
        axis.set_ylabel(label)
    if augmentation.sources is not None:
        note = "Each new pose combines the torso and the limbs of several rows"
        figure.suptitle(note, fontsize=10)
    legend(figure, COLOURS | {"before, in the image": PALE})
    return save(figure, path)


def plot_sources(
    augmenter: PoseAugmenter, batch: Any, path: Path | str | None = None, rows: int = 3
) -> Figure:
    """Plot from which poses of a batch a new pose was made, limb by limb.

    Each line shows the poses that gave the torso and the limbs, with that part in colour, then the
    new pose, the same in its new view, and in the image. The source poses are turned so that all
    face as the row that is replaced. Bends, bone lengths and joint offsets come on top of the
    combination. Without `limb_crossover` there is one source.

    Args:
        augmenter: an attached augmenter. Bends need statistics, so train for some batches first.
        batch: what the loader yields, in the augmenter's format. It is not changed.
        path: file to write. None: only return the figure.
        rows: number of new poses.
    """
    before = augmenter.read(batch).to(CPU)
    after, accepted, augmentation = augmenter.preview(batch)
    after, tree, middle = after.to(CPU), augmenter.skeleton, before.middle
    shown = accepted.cpu().nonzero()[:rows, 0].tolist() or [0]
    parts = _parts(tree)
    if augmentation.sources is None:
        parts = {"pose": list(range(tree.num_bones))}
        sources = torch.arange(len(before))[:, None].expand(-1, tree.num_bones)
    else:
        sources = augmentation.sources.cpu()
    old, new = before.pose_3d[:, middle], after.pose_3d[:, middle]
    axes_of = Bones.of(old, tree).axes
    poses = []  # of each line: the sources, the new pose before R and t, and after
    for row in shown:
        givers = sources[row, [bones[-1] for bones in parts.values()]]
        facing = old[givers] @ axes_of[givers] @ axes_of[row].mT
        poses.append(torch.stack([*facing, new[row] @ augmentation.R[row].cpu(), new[row]]))
    limits = extent(view(line, "camera")[0] for line in poses)
    figure, axes = new_figure([shape(limits)] * len(shown), len(parts) + 3, 1.5)
    new_bones = list(range(tree.num_bones))
    for line, row, found in zip(axes, shown, poses):
        drawn = [*parts.values(), new_bones, new_bones]
        for axis, pose, bones in zip(line, found, drawn):
            points, depth = view(pose, "camera")
            draw_pose(axis, points, tree, depth, colour=PALE)
            draw_pose(axis, points, tree, depth, bones=bones, width=2.8)
            frame(axis, limits)
        draw_pose(line[-1], after.pose_2d[row, middle], tree)
        frame(line[-1], image(before.frame_height))
    titles = [f"{name} of" for name in parts] + ["new pose", "in a new view", "in the image"]
    for axis, title in zip(axes[0], titles):
        axis.set_title(title, fontsize=9, fontweight="normal" if title.endswith("of") else "bold")
    legend(figure, COLOURS | {"not used": PALE})
    return save(figure, path)


def _parts(tree: Skeleton) -> dict[str, list[int]]:
    """Bones that are exchanged together, by name: the torso, and each limb from its second bone."""
    limbs = {_spoken(tree, limb): list(limb[1:]) for limb in tree.limbs if limb[1:]}
    taken = {bone for limb in limbs.values() for bone in limb}
    return {"torso": [bone for bone in range(tree.num_bones) if bone not in taken], **limbs}


#: What a limb that ends at a joint of this name is called.
_LIMBS = {"ankle": "leg", "foot": "leg", "toe": "leg", "wrist": "arm", "hand": "arm"}


def _spoken(tree: Skeleton, limb: tuple[int, ...]) -> str:
    """The name of a limb, such as `left arm`."""
    joint = tree.child[limb[-1]]
    if tree.names is None:
        return f"limb to joint {joint}"
    letter, _, rest = tree.names[joint].partition("_")
    found = {"l": "left", "r": "right"}.get(letter)
    return f"{found} {_LIMBS.get(rest, rest)}" if found and rest else tree.names[joint]
