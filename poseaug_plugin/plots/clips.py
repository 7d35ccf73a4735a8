"""Pictures of clips: a strip of frames, and an animation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ..geometry.skeleton import Skeleton
from .arguments import skeleton_of
from .drawing import draw_pose, extent, frame, new_figure, save, shape, view

__all__ = ["animate_clips", "plot_clips"]

Clips = Mapping[str, Tensor]


def plot_clips(
    clips: Clips,
    path: Path | str | None = None,
    *,
    skeleton: Skeleton | str | None = None,
    frames: int = 8,
) -> Figure:
    """Plot clips as strips of frames, one below the other, as the camera sees them.

    Args:
        clips: title to clip (T, J, 3), camera frame, metres; each is drawn relative to its root.
        path: file to write. None: only return the figure.
        skeleton: a `Skeleton` or what `Skeleton.of` takes. None: the preset with as many joints.
        frames: how many frames of each clip, evenly spaced.
    """
    poses, tree = _prepared(clips, skeleton)
    limits = extent(view(clip, "camera")[0] for clip in poses.values())
    figure, axes = new_figure([shape(limits)] * len(poses), frames, 1.2, with_legend=False)
    for line, (title, clip) in zip(axes, poses.items()):
        for axis, number in zip(line, np.linspace(0, len(clip) - 1, frames).round().astype(int)):
            points, depth = view(clip[number], "camera")
            draw_pose(axis, points, tree, depth, width=1.8)
            frame(axis, limits)
            axis.set_title(f"frame {number}", fontsize=8)
        line[0].set_ylabel(title)
    return save(figure, path)


def animate_clips(
    clips: Clips,
    path: Path | str,
    *,
    skeleton: Skeleton | str | None = None,
    fps: float = 12.0,
) -> Path:
    """Write clips side by side as an animated GIF.

    Args:
        clips: title to clip (T, J, 3), camera frame, metres; each is drawn relative to its root.
            The animation ends with the shortest clip.
        path: file to write.
        skeleton: a `Skeleton` or what `Skeleton.of` takes. None: the preset with as many joints.
        fps: frames per second.

    Returns:
        The path.
    """
    poses, tree = _prepared(clips, skeleton)
    limits = extent(view(clip, "camera")[0] for clip in poses.values())
    figure, axes = new_figure([shape(limits)], len(poses), 2.4, with_legend=False)
    canvas = FigureCanvasAgg(figure)
    images: list[Image.Image] = []
    for number in range(min(map(len, poses.values()))):
        for axis, (title, clip) in zip(axes[0], poses.items()):
            for line in list(axis.lines):
                line.remove()
            points, depth = view(clip[number], "camera")
            draw_pose(axis, points, tree, depth)
            frame(axis, limits)
            axis.set_title(title, fontsize=10)
        if not images:
            canvas.draw()  # type: ignore[no-untyped-call, unused-ignore]
            figure.set_layout_engine("none")  # the layout of the first frame is that of all
        canvas.draw()  # type: ignore[no-untyped-call, unused-ignore]
        pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call, unused-ignore]
        images.append(Image.fromarray(pixels[..., :3].copy()).quantize(64))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    images[0].save(
        path, save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0
    )
    return path


def _prepared(clips: Clips, skeleton: Skeleton | str | None) -> tuple[dict[str, Tensor], Skeleton]:
    """The clips relative to their roots, on the CPU, and their skeleton."""
    joints = next(iter(clips.values())).shape[-2]
    tree = skeleton_of(skeleton, joints)
    found = {title: clip.detach().cpu().float() for title, clip in clips.items()}
    return {title: clip - clip[:, tree.root, None] for title, clip in found.items()}, tree
