"""Where the views, distances and positions of poses lie."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..geometry.bones import Bones, unit
from ..geometry.pose_batch import PoseBatch
from ..geometry.skeleton import Skeleton
from .arguments import CPU, skeleton_of
from .drawing import SET_COLOURS, save

__all__ = ["plot_views", "view_angles"]


def view_angles(poses: PoseBatch, skeleton: Skeleton) -> Tensor:
    """Direction of the camera in the body frame, of the centre frames.

    Returns:
        (B, 2), azimuth and elevation in degrees. (0, 0) is straight ahead of the chest. Azimuth
        grows to the person's left, elevation upwards along the spine.
    """
    axes = Bones.of(poses.pose_3d[:, poses.middle], skeleton).axes  # columns right, up, backward
    to_camera = unit(-poses.root[:, poses.middle])
    right, up, backward = (to_camera[:, None] @ axes)[:, 0].unbind(-1)
    azimuth = torch.atan2(-right, -backward)
    return torch.rad2deg(torch.stack([azimuth, up.clamp(-1, 1).asin()], -1))


def plot_views(
    sets: Mapping[str, PoseBatch],
    path: Path | str | None = None,
    *,
    skeleton: Skeleton | str | None = None,
) -> Figure:
    """Plot where views, distances and positions lie, of one or more sets of poses.

    Args:
        sets: title to poses, such as `{"source": augmenter.read(batch), "augmented": ...}`.
        path: file to write. None: only return the figure.
        skeleton: a `Skeleton` or what `Skeleton.of` takes. None: the preset with as many joints.
    """
    found = {title: poses.to(CPU).usable() for title, poses in sets.items()}
    joints = next(iter(found.values())).pose_2d.shape[2]
    tree = skeleton_of(skeleton, joints)
    figure = Figure(figsize=(11, 2.6 * len(found) + 0.6), layout="constrained")
    axes = figure.subplots(len(found), 4, squeeze=False, sharex="col")
    farthest = max(float(poses.root[..., 2].max()) for poses in found.values())
    for line, colour, (title, poses) in zip(axes, itertools.cycle(SET_COLOURS), found.items()):
        azimuth, elevation = view_angles(poses, tree).T.tolist()
        centre = poses.pose_2d[:, poses.middle]
        root = centre[:, tree.root]
        height = poses.frame_height
        size = (centre.amax(1) - centre.amin(1)).amax(-1) / 2
        line[0].scatter(azimuth, elevation, s=3, alpha=0.4, color=colour, linewidths=0)
        distance = poses.root[:, poses.middle, 2].tolist()
        line[1].hist(distance, 40, range=(0, farthest), color=colour)
        line[2].scatter(*root.T.tolist(), s=3, alpha=0.4, color=colour, linewidths=0)
        line[3].hist(size.tolist(), 40, range=(0, 1), color=colour)
        line[0].set(xlim=(-180, 180), ylim=(-90, 90), xticks=range(-180, 181, 90))
        line[0].set(yticks=range(-90, 91, 45))
        line[2].set(
            xlim=(-1, 1), ylim=(height, -height), xticks=(-1, 0, 1), yticks=(-height, 0, height)
        )
        line[0].set_ylabel(title, fontsize=11)
        for axis in line[[1, 3]]:
            axis.set_yticks([])
            axis.spines[["top", "left", "right"]].set_visible(False)
        for axis, ratio in zip(line, (0.8, 0.8, height, 0.8)):
            axis.set_box_aspect(ratio)
    names = (
        ("views, degrees", "azimuth (0 is in front) and elevation of the camera"),
        ("distance, m", "of the root from the camera"),
        ("position in the image", "of the root; the border is the image's"),
        ("size in the image", "longer side, share of the image's width"),
    )
    for axis, (name, _) in zip(axes[0], names):
        axis.set_title(name, fontsize=10)
    for axis, (_, note) in zip(axes[-1], names):
        axis.set_xlabel(note, fontsize=8)
    return save(figure, path)
