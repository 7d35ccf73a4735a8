"""Pictures of a world: its rows, and what fixed and fitted ranges make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from poseaug_plugin import PoseAugmenter, Skeleton

from .runs import config_of
from .worlds import World

__all__ = ["plot"]

COLOURS = {True: "#2a78d6", False: "#eb6834", None: "#52514e"}  # left, right, neither


def plot(world: World, path: Path, columns: int = 8, rows_of_batch: int = 512) -> None:
    """Plot 2D poses: training rows, augmented with fixed and with fitted ranges, and cross rows.

    An augmented row is shown even if it is rejected; then its frame is red.

    Args:
        path: PNG file to write. Its folder is created.
    """
    chosen = torch.randperm(len(world.train), generator=torch.Generator().manual_seed(0))
    batch = world.train[chosen[:rows_of_batch]]
    lines: dict[str, tuple[Tensor, Tensor]] = {"training": (batch.pose_2d, torch.ones(columns))}
    for method in ("fixed", "default"):
        model = torch.nn.Linear(1, 1)
        augmenter = PoseAugmenter(
            model,
            torch.optim.SGD(model.parameters(), lr=0.1),
            "poseaug",
            config=config_of(method, world, 0),
            skeleton=world.skeleton,
        )
        given = (batch.pose_3d, batch.pose_2d, chosen[:rows_of_batch], batch.camera)
        augmenter(given)  # from now on there are statistics
        made, accepted, _ = augmenter.preview(given)
        lines[method] = made.pose_2d[:, 0], accepted
    other = torch.randperm(len(world.cross), generator=torch.Generator().manual_seed(0))
    lines["cross"] = world.cross[other].pose_2d, torch.ones(columns)

    shape = (len(lines), columns)
    size = (1.7 * columns, 1.7 * len(lines) * max(world.height, 0.6))
    figure, axes = plt.subplots(*shape, figsize=size, layout="constrained")
    for line, (name, (poses, accepted)) in zip(axes, lines.items()):
        line[0].set_ylabel(name)
        for axis, pose, ok in zip(line, poses, accepted):
            _draw(axis, pose, world.skeleton)
            axis.set(xlim=(-1, 1), ylim=(world.height, -world.height), aspect="equal")
            axis.set(xticks=[], yticks=[])
            for spine in axis.spines.values():
                spine.set_color("#52514e" if ok else "#d62728")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _draw(axis: Any, pose: Tensor, skeleton: Skeleton) -> None:
    for parent, child in zip(skeleton.parent, skeleton.child):
        side = True if child in skeleton.left else False if child in skeleton.right else None
        x, y = pose[[parent, child]].T.tolist()
        axis.plot(x, y, color=COLOURS[side], linewidth=1.5, solid_capstyle="round")
