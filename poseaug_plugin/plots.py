"""Plots of augmented poses beside their source poses. Requires matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from torch import Tensor

from .geometry.skeleton import Skeleton
from .plugin import PoseAugmenter

SKELETON = Skeleton.of("h36m_16")
SIDE_COLOURS = {True: "#2a78d6", False: "#eb6834", None: "#52514e"}  # left, right, trunk
PALE = "#c9c8c4"


def plot_augmented(
    augmenter: PoseAugmenter, batch: tuple[Any, ...], path: Path, columns: int = 6
) -> None:
    """Plot some rows of a batch before and after augmentation.

    Args:
        augmenter: An attached augmenter. Its model is in training mode.
        batch: (absolute pose_3d, pose_2d, ..., camera) with 16 joints.
        path: PNG file to write. Its folder is created.
        columns: Number of plotted rows.
    """
    pose_3d, pose_2d = batch[0], batch[1]
    augmented, accepted, _ = augmenter.preview(batch)
    rows = accepted.nonzero()[:columns, 0].tolist()
    augmented = augmented.to(pose_3d.device)
    figure, axes = plt.subplots(3, columns, figsize=(2.1 * columns, 6.6), layout="constrained")
    for column, row in enumerate(rows):
        before, after = pose_3d[row] - pose_3d[row, 0], augmented.pose_3d[row, 0]
        draw_pose(axes[0, column], before[:, :2])
        draw_pose(axes[1, column], after[:, :2])
        for axis in axes[:2, column]:
            axis.set(xlim=(-1.1, 1.1), ylim=(1.1, -1.1), aspect="equal")
        draw_pose(axes[2, column], pose_2d[row], pale=True)
        draw_pose(axes[2, column], augmented.pose_2d[row, 0])
        axes[2, column].set(xlim=(-1, 1), ylim=(1, -1), aspect="equal")
    for axis, title in zip(axes[:, 0], ("source pose", "augmented pose", "2D: source, augmented")):
        axis.set_ylabel(title)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_pose(axis: Any, points: Tensor, pale: bool = False) -> None:
    """Draw the bones of one pose (J, 2): left blue, right orange, trunk grey, or all pale grey."""
    for parent, child in zip(SKELETON.parent, SKELETON.child):
        side = True if child in SKELETON.left else False if child in SKELETON.right else None
        colour = PALE if pale else SIDE_COLOURS[side]
        x, y = points[[parent, child]].T.tolist()
        axis.plot(x, y, color=colour, linewidth=2, solid_capstyle="round")
