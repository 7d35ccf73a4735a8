"""Where a model fails: the bins of `PoseAugmenter.report()`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from .drawing import save

if TYPE_CHECKING:
    from ..report import ErrorReport

__all__ = ["plot_report"]


def plot_report(report: ErrorReport, path: Path | str | None = None) -> Figure:
    """Plot the errors of a model by yaw, tilt, distance, place, pose and joint.

    Args:
        report: what `augmenter.report(loader)` returned.
        path: file to write. None: only return the figure.
    """
    panels = len(report.bins) + 1
    columns = min(3, panels)
    lines = -(-panels // columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * lines), layout="constrained")
    axes = [*figure.subplots(lines, columns, squeeze=False).flat]
    for axis, (name, bins) in zip(axes, report.bins.items()):
        edges = [bins[0].low, *(b.high for b in bins)]
        axis.stairs([b.error for b in bins], edges, fill=True, alpha=0.7)
        axis.set(title=f"by {name}", xlabel=_UNITS.get(name, ""), ylabel="error, mm")
    axis = axes[panels - 1]
    axis.barh([*report.joints], [*report.joints.values()], alpha=0.7)
    axis.invert_yaxis()
    axis.tick_params(axis="y", labelsize=7)
    axis.set(title="by joint", xlabel="error, mm")
    for axis in axes[: panels - 1]:
        axis.axhline(report.error, color="0.3", linewidth=1)
    for axis in axes[panels:]:
        axis.set_axis_off()
    return save(figure, path)


_UNITS = {
    "yaw": "deg, 0 faces the camera",
    "tilt": "deg",
    "distance": "m",
    "place": "screen units from the centre",
    "pose": "distance from the mean pose",
}
