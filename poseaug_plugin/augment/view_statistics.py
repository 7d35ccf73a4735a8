"""How large the caller's people are, how far away, and where in the image.

The ranges of the prior are fitted to these numbers (`ranges`), so that a hand half a metre away and
a player at 30 metres are augmented at distances and in places that suit them.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..geometry.constants import constant, index_tensor
from ..geometry.pose_batch import PoseBatch

__all__ = ["ENOUGH", "MEASURES", "ON_H36M", "QUANTILES", "Quantile", "ViewStatistics"]

#: What is measured on each row.
MEASURES = (
    "log10_size",  # of the root mean square distance of the joints from their mean in metres
    "log10_distance",  # of the depth of the root in metres
    "log10_apparent_size",  # of the size on the screen in screen units
    "image_offset_x",  # place of the root relative to the image centre, screen units
    "image_offset_y",
)
ENOUGH = 4096  # rows after which the statistics are final
LOWEST, HIGHEST, EDGES = -4.0, 4.0, 513  # the grid; a step is 1/64: 3.7 % of a size
TENSORS = ("counts", "quantiles")  # of the state


class Quantile(NamedTuple):
    """The value of a measure below which a share of the rows lies."""

    measure: str
    share: float
    on_h36m: float  # on the training subjects of the benchmarks' data in Human3.6M's files


#: What the ranges of the prior are fitted to.
QUANTILES = (
    Quantile("log10_size", 0.5, math.log10(0.435)),
    Quantile("log10_distance", 0.05, math.log10(4.08)),
    Quantile("log10_distance", 0.95, math.log10(5.82)),
    Quantile("log10_apparent_size", 0.5, math.log10(0.191)),
    Quantile("image_offset_x", 0.1, -0.24),
    Quantile("image_offset_x", 0.9, 0.32),
    Quantile("image_offset_y", 0.1, -0.27),
    Quantile("image_offset_y", 0.9, -0.12),
)
MEASURE, SHARE, ON_H36M = zip(*QUANTILES)


class ViewStatistics:
    """Quantiles of the first `ENOUGH` rows.

    The distributions are kept as numbers of rows below the edges of a grid. Quantiles ignore a few
    rows with a wrong root. They are computed again each time that the number of rows has doubled.
    Nothing waits for the device. Each rank of a distributed run has its own: they are nearly equal,
    and ranks need not take the same steps.

    Args:
        device: device of the poses.

    Attributes:
        rows: number of rows so far, padding included.
        counts: (M, E), the number of rows below each edge, for each measure.
        quantiles: (Q,), the values of `QUANTILES`; those on Human3.6M before the first row.
    """

    def __init__(self, device: torch.device) -> None:
        self.rows = 0
        self.counts = torch.zeros(len(MEASURES), EDGES, device=device, dtype=torch.float32)
        self.quantiles = constant(ON_H36M, torch.float32, device).clone()

    def add(self, poses: PoseBatch) -> bool:
        """Count the rows of a batch, unless there are enough; return whether quantiles changed."""
        if self.rows >= ENOUGH:
            return False
        before, self.rows = self.rows, self.rows + len(poses)
        values = _measure(poses).sort(-1).values
        self.counts = self.counts + torch.searchsorted(values, _grid(values.device), right=True)
        if before.bit_length() == self.rows.bit_length():
            return False
        self._update()
        return True

    def _update(self) -> None:
        device = self.counts.device
        measures = index_tensor(tuple(map(MEASURES.index, MEASURE)), device)
        counts, edges = self.counts.index_select(0, measures), _grid(device)[0]
        total = counts[:, -1:]
        target = total * constant(SHARE, total.dtype, device)[:, None]
        upper = torch.searchsorted(counts, target).clamp_min(1)
        start, end = counts.gather(1, upper - 1), counts.gather(1, upper)
        position = (target - start) / (end - start).clamp_min(1e-6)
        value = torch.lerp(edges[upper - 1], edges[upper], position.clamp(0, 1))
        usual = constant(ON_H36M, total.dtype, device)
        self.quantiles = torch.where(total > 0, value, usual[:, None])[:, 0]

    def state_dict(self) -> dict[str, Any]:
        tensors = {name: getattr(self, name).clone() for name in TENSORS}
        return {"rows": self.rows, **tensors}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self.rows = state["rows"]
        for name in TENSORS:
            setattr(self, name, state[name].to(device))


def _measure(poses: PoseBatch) -> Tensor:
    """Return the measures (M, B) of the centre frames; infinity for rows that have none."""
    root, focal = poses.root[:, poses.middle], poses.camera[:, :2]
    distance = root[:, 2]
    size = poses.pose_3d[:, poses.middle].var(1, correction=0).sum(-1).sqrt()
    offset = focal * root[:, :2] / distance[:, None]
    sizes = torch.stack([size, distance, focal[:, 0] * size / distance])
    values = torch.cat([sizes.log10(), offset.T])
    usable = poses.valid & values.isfinite().all(0)
    return torch.where(usable, values.clamp(LOWEST, HIGHEST), torch.inf)


@lru_cache(maxsize=16)
def _grid(device: torch.device) -> Tensor:
    """Return the edges (M, E) of the grid. Rows without measures lie beyond the last."""
    with torch.inference_mode(False):
        edges = torch.linspace(LOWEST, HIGHEST, EDGES, device=device, dtype=torch.float32)
        return edges.repeat(len(MEASURES), 1)
