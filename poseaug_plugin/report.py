"""Where a model fails on augmented pairs: by view, place and pose, and by joint."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from .augment.pose_statistics import PoseStatistics
from .batches.protocol import EstimatorFormat, prediction_and_target
from .errors import DataError
from .geometry.bones import Bones, upright_bones
from .geometry.pose_batch import PoseBatch
from .geometry.skeleton import Skeleton
from .loop.estimator import Estimator

__all__ = [
    "Bin",
    "ErrorReport",
    "Rows",
    "circumstances",
    "error_report",
    "joint_errors",
    "measure_rows",
]

BINS = 6  # of each quantity, with equal numbers of rows; of the yaw, eight of 45 degrees
YAW_BINS = 8

#: What errors are grouped by, with the unit.
QUANTITIES = {
    "yaw": "deg, 0 faces the camera, 90 to its right",
    "tilt": "deg, of the trunk; above 0 its top is towards the camera",
    "distance": "m",
    "place": "screen units from the image centre",
    "pose": "distance from the mean pose, 1 on average",
}


@dataclass(frozen=True)
class Bin:
    """A range of a quantity.

    Attributes:
        low, high: its ends.
        rows: number of augmented pairs in it.
        error: their mean error, mm.
    """

    low: float
    high: float
    rows: int
    error: float


@dataclass(frozen=True)
class ErrorReport:
    """Where a model fails, measured on augmented pairs.

    `print(report)` shows it as text, `plots.plot_report(report)` as a picture, and so does
    `poseaug-plugin report FILE` for a file that `save` wrote.

    Attributes:
        rows: number of augmented pairs.
        error: mean error of all joints of all pairs, relative to the root, mm.
        original: the same on the original pairs. NaN if there is none.
        bins: the bins of each quantity of `QUANTITIES`, by name. Some are missing if the skeleton
            has no hips or trunk, or there are no statistics of poses.
        joints: mean error of each joint, mm, by name.
    """

    rows: int
    error: float
    original: float
    bins: dict[str, list[Bin]]
    joints: dict[str, float]

    def __str__(self) -> str:
        lines = [
            f"error {self.error:.1f} mm on {self.rows} augmented pairs, "
            f"{self.original:.1f} mm on the original ones"
        ]
        for name, bins in self.bins.items():
            lines += ["", f"by {name} ({QUANTITIES[name]})"]
            lines += [
                f"  {b.low:8.2f} to {b.high:8.2f}  {self._told(b.error)}  {b.rows} pairs"
                for b in bins
                if b.rows
            ]
        lines += ["", "by joint"]
        worst = sorted(self.joints.items(), key=lambda item: -item[1])
        lines += [f"  {name:20}  {self._told(error)}" for name, error in worst]
        return "\n".join(lines)

    def save(self, path: str | Path) -> None:
        """Write the numbers to a JSON file, whose folder is created."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(asdict(self), indent=2))

    @classmethod
    def load(cls, path: str | Path) -> ErrorReport:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no such file.
        """
        try:
            found = json.loads(Path(path).read_text())
            bins = {name: [Bin(**b) for b in listed] for name, listed in found.pop("bins").items()}
            return cls(bins=bins, **found)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} was not written by ErrorReport.save: {error!r}") from None

    def _told(self, error: float) -> str:
        return f"{error:6.1f} mm {'#' * min(40, round(10 * error / max(self.error, 1e-9)))}"


@dataclass(frozen=True)
class Rows:
    """Errors and circumstances of some augmented pairs.

    Attributes:
        error: (N, J), mm.
        original: (M,), mean errors of original pairs, mm.
        quantities: (N,) for each quantity that is known, by name.
    """

    error: Tensor
    original: Tensor
    quantities: dict[str, Tensor]


@torch.no_grad()
def measure_rows(
    poses: PoseBatch,
    augmented: PoseBatch,
    accepted: Tensor,
    estimator: Estimator,
    fmt: EstimatorFormat,
    skeleton: Skeleton,
    statistics: PoseStatistics,
) -> Rows:
    """Measure the errors on a batch. Call it inside `estimator.untouched()`.

    Args:
        poses: the original pairs.
        augmented: a pair made from each of them.
        accepted: (B,) bool, the pairs to measure, one or more.
        estimator: the model.
        fmt: converts poses to inputs of the model, and its outputs to poses.
        skeleton: the skeleton of the poses.
        statistics: of the original poses, for the rarity of a pose.
    """
    pairs, middle = augmented.pick(accepted.nonzero()[:, 0]), poses.middle
    original = _errors(poses.usable(), estimator, fmt, skeleton).mean(1)
    error = _errors(pairs, estimator, fmt, skeleton)
    quantities = circumstances(
        pairs.pose_3d[:, middle],
        pairs.root[:, middle],
        pairs.pose_2d[:, middle, skeleton.root],
        skeleton,
        statistics,
    )
    return Rows(error, original, quantities)


def circumstances(
    pose_3d: Tensor, root: Tensor, root_2d: Tensor, skeleton: Skeleton, statistics: PoseStatistics
) -> dict[str, Tensor]:
    """Return what is known of `QUANTITIES`, each (N,).

    Args:
        pose_3d: (N, J, 3), relative to the root, metres.
        root: (N, 3), position of the root, camera frame, metres.
        root_2d: (N, 2), the same in screen units.
        skeleton: the skeleton of the poses.
        statistics: of the original poses, for the rarity of a pose.
    """
    bones = Bones.of(pose_3d, skeleton)
    quantities = {"distance": root[:, 2], "place": root_2d.norm(dim=-1)}
    if upright_bones(skeleton):
        _, up, backward = bones.axes.unbind(-1)
        facing = torch.atan2(-backward[:, 0], backward[:, 2])
        tilt = torch.atan2(-up[:, 2], -up[:, 1])
        quantities |= {"yaw": torch.rad2deg(facing), "tilt": torch.rad2deg(tilt)}
    if statistics.batches:
        quantities["pose"] = statistics.rarity(bones.body_direction)
    return quantities


def _errors(
    poses: PoseBatch, estimator: Estimator, fmt: EstimatorFormat, skeleton: Skeleton
) -> Tensor:
    """Return the errors (B, J) of the model on some pairs, mm."""
    return joint_errors(estimator(fmt.inputs(poses, poses.pose_2d)), poses, fmt, skeleton)


def joint_errors(
    output: Tensor, poses: PoseBatch, fmt: EstimatorFormat, skeleton: Skeleton
) -> Tensor:
    """Return the errors (B, J) of an output of the model for some pairs, mm."""
    predicted, target = prediction_and_target(output, poses, fmt, skeleton)
    return 1000 * (predicted - target).norm(dim=-1).mean(1)


def error_report(measured: Iterable[Rows], skeleton: Skeleton) -> ErrorReport:
    """Summarise the rows of several batches.

    Raises:
        DataError: there is no augmented pair.
    """
    found = [*measured]
    if not found:
        raise DataError(
            "no augmented pair can be used, so there is no error to report; see the warning "
            "few_accepted, or look at augmenter.preview(batch)."
        )
    errors = torch.cat([rows.error for rows in found]).cpu()
    original = torch.cat([rows.original for rows in found]).cpu()
    row_errors = errors.mean(1)
    bins = {}
    for name in QUANTITIES:
        values = [rows.quantities[name] for rows in found if name in rows.quantities]
        if len(values) == len(found):
            joined = torch.cat(values).cpu()
            edges = _edges(joined, even=name == "yaw")
            bins[name] = _bins(joined, row_errors, edges)
    joints = dict(zip(skeleton.joint_names, errors.mean(0).tolist()))
    return ErrorReport(len(errors), float(row_errors.mean()), float(original.mean()), bins, joints)


def _edges(values: Tensor, even: bool) -> list[float]:
    if even:
        return [360 * i / YAW_BINS - 180 for i in range(YAW_BINS + 1)]
    shares = torch.linspace(0, 1, BINS + 1, dtype=values.dtype)
    return [*values.quantile(shares).tolist()]


def _bins(values: Tensor, errors: Tensor, edges: Sequence[float]) -> list[Bin]:
    inner = torch.tensor(edges[1:-1], dtype=values.dtype)
    number = torch.bucketize(values, inner)
    bins = []
    for i, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = errors[number == i]
        error = float(inside.mean()) if len(inside) else math.nan
        bins.append(Bin(low, high, len(inside), error))
    return bins
