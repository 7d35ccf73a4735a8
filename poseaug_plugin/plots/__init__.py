"""Pictures of poses, of what the augmenter makes of them, and of a run.

Requires matplotlib: `pip install "poseaug-plugin[plots]"`. Each function returns a figure of
matplotlib, and writes it if `path=` is given.
"""

from .clips import animate_clips, plot_clips
from .drawing import draw_pose
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
    "plot_run",
    "plot_sources",
    "plot_views",
    "view_angles",
    "write_page",
]
