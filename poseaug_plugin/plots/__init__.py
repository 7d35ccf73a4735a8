"""Pictures of poses, of what the augmenter makes of them, and of a run.

Requires matplotlib: `pip install "poseaug-plugin[plots]"`. Each function returns a figure of
matplotlib, and writes it if `path=` is given.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clips import animate_clips, plot_clips
    from .drawing import draw_pose
    from .errors import plot_report
    from .page import augmented_page, write_page
    from .poses import plot_augmented, plot_pose, plot_sources
    from .runs import plot_run
    from .views import plot_views, view_angles

__all__ = [
    "animate_clips",
    "augmented_page",
    "draw_pose",
    "plot_augmented",
    "plot_clips",
    "plot_pose",
    "plot_report",
    "plot_run",
    "plot_sources",
    "plot_views",
    "view_angles",
    "write_page",
]

#: Imported when they are asked for, because the page does not need matplotlib.
_MODULES = {
    "clips": ("animate_clips", "plot_clips"),
    "drawing": ("draw_pose",),
    "errors": ("plot_report",),
    "page": ("augmented_page", "write_page"),
    "poses": ("plot_augmented", "plot_pose", "plot_sources"),
    "runs": ("plot_run",),
    "views": ("plot_views", "view_angles"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
