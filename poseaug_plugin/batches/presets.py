"""What people pass as `batch=`: a known codebase's name, field names, or an object that reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import ConfigError
from ..geometry.camera import Camera
from ..geometry.pose_batch import PoseBatch
from ..geometry.skeleton import Skeleton
from .format import BatchFormat

__all__ = ["FORMATS", "format_of", "martinez"]

FORMATS: dict[str, BatchFormat] = {
    # VideoPose3D and PoseFormer: (camera or None, 3D, 2D), numpy, the trajectory in joint 0.
    "videopose3d": BatchFormat(camera=0, pose_3d=1, pose_2d=2, root="slot"),
    # SemGCN: (3D, 2D, action); the root is lost.
    "semgcn": BatchFormat(pose_3d=0, pose_2d=1, root="relative"),
    # PoseAug's baselines and DAF-DG: (3D, 2D, action, camera).
    "poseaug": BatchFormat(pose_3d=0, pose_2d=1, camera=3, root="absolute"),
    # AdaptPose: the same with windows (B, 1, T, J, C) of both; padding rows are zero.
    "adaptpose": BatchFormat(pose_3d=0, pose_2d=1, camera=3, root="absolute"),
    # ST-GCN (Cai et al.): (camera, 3D, 2D, action, subject, scale, box, camera number).
    "stgcn": BatchFormat(camera=0, pose_3d=1, pose_2d=2, root="slot"),
    # MotionBERT and MotionAGFormer on Human3.6M: (2D and confidence, 2.5D).
    "motionbert": BatchFormat(pose_2d=0, pose_3d=1, space="image", skeleton="h36m_17"),
    # MotionAGFormer on MPI-INF-3DHP: millimetres / 1024, root joint 14.
    "mpi3dhp": BatchFormat(pose_2d=0, pose_3d=1, unit=1.024, skeleton="mpi_inf_3dhp_17"),
    # mmpose's VideoPoseLifting: a list of (2J, T) and data samples; the loss takes the samples.
    "mmpose": BatchFormat(
        pose_2d="inputs", pose_3d="data_samples.gt_instance_labels.lifting_target_label"
    ),
}


def martinez(
    stat_2d: tuple[Any, Any], stat_3d: tuple[Any, Any], screen: tuple[float, float] = (1000, 1000)
) -> BatchFormat:
    """3d-pose-baseline in PyTorch: flat standardised (2D pixels without nose, 3D mm without hip).

    Args:
        stat_2d, stat_3d: (mean, std) of the 32 and 48 dimensions in use.
        screen: width and height of the images, pixels.
    """
    return BatchFormat(
        pose_2d=0,
        pose_3d=1,
        unit=0.001,
        screen=screen,
        stat_2d=stat_2d,
        stat_3d=stat_3d,
        joints_2d=tuple(j for j in range(17) if j != 9),
        joints_3d=tuple(range(1, 17)),
        skeleton="h36m_17",
    )


def format_of(source: BatchFormat | Mapping[str, Any] | str | Any) -> BatchFormat:
    """A format from itself, a name, a mapping of its arguments, or an object with read and write.

    >>> format_of({"pose_2d": "x", "pose_3d": "y", "unit": 0.001}).unit
    0.001

    Raises:
        ConfigError: none of these.
    """
    if isinstance(source, BatchFormat):
        return source
    if isinstance(source, Mapping):
        known = {field.name for field in dataclasses.fields(BatchFormat)}
        if not {"pose_2d", "pose_3d"} <= set(source) <= known:
            raise ConfigError(
                f"batch={dict(source)!r} must name pose_2d and pose_3d, and of {sorted(known)} "
                "what applies."
            )
        return BatchFormat(**source)
    if source == "martinez":
        raise ConfigError(
            "batch='martinez' needs the statistics its fields are standardised with, also of the "
            "2D: pass batch=martinez(stat_2d=(mean, std), stat_3d=(mean, std)), "
            "from poseaug_plugin.batches.presets import martinez."
        )
    if isinstance(source, str):
        if source not in FORMATS:
            raise ConfigError(
                f"batch={source!r} is no known format; choose one of {sorted(FORMATS)}, or "
                "name the fields: batch=dict(pose_2d=1, pose_3d=0, root='relative')."
            )
        return FORMATS[source]
    if callable(getattr(source, "read", None)) and callable(getattr(source, "write", None)):
        return _ReadWrite("read", "write", source=source)
    raise ConfigError(
        f"batch={source!r} is neither a format's name, a mapping of field names, a "
        "BatchFormat, nor an object with read and write."
    )


@dataclass(frozen=True)
class _ReadWrite(BatchFormat):
    """A caller's own object with `read` and `write`; the estimator takes 2D in its layout."""

    source: Any = None

    def read(self, batch: Any, skeleton: Skeleton, camera: Camera) -> PoseBatch:
        poses: PoseBatch = self.source.read(batch, skeleton, camera)
        return poses

    def write(self, batch: Any, poses: PoseBatch, rows: Tensor, skeleton: Skeleton) -> Any:
        return self.source.write(batch, poses, rows, skeleton)

    def guess_skeleton(self, batch: Any) -> Skeleton:
        raise ConfigError(
            f"batch={type(self.source).__name__} reads batches its own way; pass skeleton= as well."
        )
