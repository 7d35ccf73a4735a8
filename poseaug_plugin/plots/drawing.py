"""How figures are made and poses are drawn.

Figures are not registered with pyplot, so that importing this package changes no backend and a
figure is freed when it is no longer used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from ..geometry.skeleton import Skeleton
from .sides import COLOURS, side

__all__ = [
    "PALE",
    "SET_COLOURS",
    "draw_pose",
    "extent",
    "frame",
    "image",
    "legend",
    "new_figure",
    "save",
    "shape",
    "view",
]

Limits = tuple[float, float, float, float]

PALE = "#c9c8c4"
#: Of data sets, or of curves, in one figure.
SET_COLOURS = ("#2a78d6", "#eb6834", "#2f9e6e", "#7b4fbf", "#c2a400", "#b03060")
#: Axes of the camera frame that each view shows to the right and downwards, and along which it
#: looks. From the side, the camera is at the left of the picture.
VIEWS = {"camera": ((0, 1), (2, 1)), "side": ((2, 1), (0, -1))}


def new_figure(
    shapes: Sequence[float], columns: int, width: float, *, with_legend: bool = True
) -> tuple[Figure, Any]:
    """A figure of axes without ticks.

    Args:
        shapes: the height of each line of axes, divided by the width.
        columns: number of axes in a line.
        width: of an axis, inches.
        with_legend: leave room for a legend.
    """
    height = width * sum(shapes) + 0.1 * len(shapes) + (0.65 if with_legend else 0.3)
    figure = Figure(figsize=(width * columns + 0.4, height), layout="constrained")
    axes = figure.subplots(
        len(shapes), columns, squeeze=False, gridspec_kw={"height_ratios": shapes}
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color("#dddcd8")
    return figure, axes


def save(figure: Figure, path: Path | str | None) -> Figure:
    """Write a figure to a file, whose folder is created; None: do not."""
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130, facecolor="white")
    return figure


def view(pose_3d: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Points (..., J, 2) of a parallel projection, y downwards, and their depths (..., J).

    Args:
        pose_3d: (..., J, 3), camera frame.
        name: `"camera"` or `"side"`.
    """
    shown, (along, sign) = VIEWS[name]
    return pose_3d[..., shown], sign * pose_3d[..., along]


def draw_pose(
    axis: Any,
    points: Tensor,
    skeleton: Skeleton,
    depth: Tensor | None = None,
    *,
    colour: str | None = None,
    bones: Iterable[int] | None = None,
    width: float = 2.2,
) -> None:
    """Draw the bones of one pose.

    Args:
        points: (J, 2), y downwards.
        depth: (J,); far bones are drawn first. None: in the order of the skeleton.
        colour: colour of all bones. None: left is blue, right orange, and the middle grey.
        bones: the bones to draw. None: all of them.
        width: line width in points.
    """
    far_first = depth is not None
    order = list(range(skeleton.num_bones)) if bones is None else list(bones)
    if depth is not None:
        ends = depth[list(skeleton.parent)] + depth[list(skeleton.child)]
        order.sort(key=lambda bone: -float(ends[bone]))
    for bone in order:
        x, y = points[[skeleton.parent[bone], skeleton.child[bone]]].T.tolist()
        own = colour or COLOURS[side(skeleton, skeleton.child[bone])]
        if far_first:  # a white edge shows which of two crossing limbs is in front
            inner = [[a + s * (b - a) for s in (0.2, 0.8)] for a, b in (x, y)]
            axis.plot(*inner, color="white", linewidth=width + 2, solid_capstyle="butt")
        axis.plot(x, y, color=own, linewidth=width, solid_capstyle="round")


def extent(points: Iterable[Tensor]) -> Limits:
    """Left, right, lower and upper limit of axes that contain all points (..., 2) and a margin.

    The root is in the middle from left to right. The axes are not much higher than wide.
    """
    every = torch.cat([p.reshape(-1, 2) for p in points])
    top, bottom = (float(y) for y in every[:, 1].aminmax())
    half = max(float(every[:, 0].abs().max()), (bottom - top) / 2.4)
    margin = 0.06 * max(2 * half, bottom - top)
    return -half - margin, half + margin, bottom + margin, top - margin


def shape(limits: Limits) -> float:
    """Height of axes with these limits, divided by their width."""
    left, right, low, high = limits
    return (low - high) / (right - left)


def frame(axis: Any, limits: Limits) -> None:
    """Set the limits of equal axes; y points down."""
    axis.set(xlim=limits[:2], ylim=limits[2:], aspect="equal")


def image(height: float) -> Limits:
    """The limits of an image, screen units."""
    return -1.0, 1.0, height, -height


def legend(figure: Figure, entries: dict[str, str]) -> None:
    """A legend below the axes: label to colour."""
    lines = [Line2D([], [], color=colour, linewidth=2.5) for colour in entries.values()]
    figure.legend(
        lines, list(entries), loc="outside lower center", ncols=len(entries), frameon=False
    )
