"""Curves of a run: the numbers of `PoseAugmenter.stats()` over the steps of the optimizer."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from matplotlib.figure import Figure

from .drawing import SET_COLOURS, save

__all__ = ["plot_run"]

#: Panels: title, and the keys that are drawn in it where they are there.
PANELS = {
    "share of pairs that are used": ("accepted",),
    "problems, count": ("bad_batches", "bad_rows", "failed_updates"),
    "hardness: squared error augmented / original": ("hardness",),
    "gradient of the augmentor, shares": (
        "share_feedback",
        "share_d3d",
        "share_d2d",
        "share_reg",
        "share_angles",
    ),
    "learned change that differs between rows, share": ("diversity_ba", "diversity_bl"),
    "joint angles outside the data's range, share": ("implausible", "implausible_prior"),
    "feedback and augmentor, loss": ("feedback", "loss_augmentor"),
    "3D discriminator, mean score": ("d3d_real", "d3d_fake"),
    "2D discriminator, mean score": ("d2d_real", "d2d_fake"),
    "learned change, mean absolute": ("gamma_ba", "gamma_bl"),
    "discriminators, loss": ("loss_d3d", "loss_d2d"),
}


def plot_run(
    history: Iterable[Mapping[str, float]] | Path | str, path: Path | str | None = None
) -> Figure:
    """Plot the curves of a run.

    Args:
        history: what `augmenter.stats()` returned at several times, or the file of a
            `loggers.CSVLogger`. Other keys get a panel each if they change in the second
            half.
        path: file to write. None: only return the figure.

    Raises:
        ValueError: the history is empty, or has no `steps`.
    """
    rows = [dict(row) for row in (_read(history) if isinstance(history, (str, Path)) else history)]
    if not rows or "steps" not in rows[0]:
        raise ValueError(
            f"the history has {len(rows)} entries{' without steps' * bool(rows)}; pass a list of "
            "what augmenter.stats() returned, or the file of a CSVLogger."
        )
    known = {key for keys in PANELS.values() for key in keys}
    known |= {"steps", "batches", "steps_with_batch", "epochs", "rows", "augmented", "updates"}
    later = rows[len(rows) // 2 :]  # numbers that have settled by then, as ranges do, are no curves
    everything = dict.fromkeys(
        key for row in later for key in row if len({entry.get(key) for entry in later}) > 1
    )
    panels = {**PANELS, **{key: (key,) for key in everything if key not in known}}
    shown = {
        title: [key for key in keys if any(row.get(key) is not None for row in rows)]
        for title, keys in panels.items()
    }
    shown = {title: keys for title, keys in shown.items() if keys}
    columns = min(len(shown), 4)
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(3.3 * columns, 2.3 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis, (title, keys) in zip(axes.flat, shown.items()):
        for key, colour in zip(keys, SET_COLOURS):
            points = [(row["steps"], row[key]) for row in rows if row.get(key) is not None]
            axis.plot(*zip(*points), color=colour, linewidth=1.6, label=key)
        axis.set_title(title, fontsize=9)
        if keys == ["accepted"]:
            axis.set_ylim(0, 1.02)
        axis.set_xlabel("steps", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        if len(keys) > 1:
            axis.legend(fontsize=8, frameon=False)
    for axis in list(axes.flat)[len(shown) :]:
        axis.axis("off")
    return save(figure, path)


def _read(path: Path | str) -> list[dict[str, float]]:
    """The lines of a file of `CSVLogger`, which starts a new header when there are new numbers."""
    rows, header = [], list[str]()
    with open(path, newline="") as file:
        for line in csv.reader(file):
            if "steps" in line:
                header = line
            else:
                rows.append({key: float(value) for key, value in zip(header, line) if value})
    return rows
