"""What `batch=` may be: a known codebase's name, field names, or a format object."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError, look_up
from ..geometry.camera import Camera
from .format import BatchFormat
from .protocol import Format

__all__ = ["ALIASES", "FORMATS", "martinez", "resolve_format"]

#: Of MPI-INF-3DHP's training cameras: about 1,497 pixels in images of 2,048.
MPI_INF_3DHP = Camera(f=(1.46, 1.46))

FORMATS: dict[str, BatchFormat] = {
    # VideoPose3D: (camera or None, 3D, 2D), numpy, root position in joint 0.
    "videopose3d": BatchFormat(camera=0, pose_3d=1, pose_2d=2, root="slot"),
    # SemGCN: (3D, 2D, action), root-relative.
    "semgcn": BatchFormat(pose_3d=0, pose_2d=1, root="relative"),
    # PoseAug's baselines and DAF-DG: (3D, 2D, action, camera).
    "poseaug": BatchFormat(pose_3d=0, pose_2d=1, camera=3, root="absolute"),
    # AdaptPose: the same with windows (B, 1, T, J, C); padding rows are zero.
    "adaptpose": BatchFormat(pose_3d=0, pose_2d=1, camera=3, root="absolute"),
    # ST-GCN (Cai et al.): (camera, 3D, 2D, action, subject, scale, box, camera number).
    "stgcn": BatchFormat(camera=0, pose_3d=1, pose_2d=2, root="slot"),
    # MotionBERT on Human3.6M: (2D and confidence, 2.5D).
    "motionbert": BatchFormat(
        pose_2d=0, pose_3d=1, space="image", root="absolute", skeleton="h36m_17"
    ),
    # MotionAGFormer on MPI-INF-3DHP: millimetres / 1024, root joint 14.
    "mpi3dhp": BatchFormat(
        pose_2d=0,
        pose_3d=1,
        unit=1.024,
        skeleton="mpi_inf_3dhp_17",
        default_camera=MPI_INF_3DHP,
    ),
    # P-STMO on MPI-INF-3DHP: (zeros, 3D, 2D, ...), millimetres, root position in joint 14.
    "pstmo_3dhp": BatchFormat(
        pose_3d=1,
        pose_2d=2,
        root="slot",
        unit=0.001,
        skeleton="mpi_inf_3dhp_17",
        default_camera=MPI_INF_3DHP,
    ),
    # mmpose's VideoPoseLifting: a list of (2J, T), and data samples that hold the targets, and
    # the 3D of windows if 'keypoints_3d' is one of the meta_keys.
    "mmpose": BatchFormat(
        pose_2d="inputs",
        pose_3d="data_samples.gt_instance_labels.lifting_target_label",
        window_3d="data_samples.keypoints_3d",
    ),
    # mmpose's MotionBERT: 2D and visibility, and 2.5D with the root subtracted.
    "mmpose_motionbert": BatchFormat(
        pose_2d="inputs",
        pose_3d="data_samples.gt_instance_labels.lifting_target_label",
        space="image",
        root="relative",
        skeleton="h36m_17",
    ),
}

#: Codebases whose batches are those of another one.
ALIASES: dict[str, str] = {
    "poseformer": "videopose3d",
    "poseformerv2": "videopose3d",
    "graformer": "semgcn",
    "mhformer": "stgcn",
    "motionagformer": "motionbert",
    "motionagformer_3dhp": "mpi3dhp",
}
FORMATS |= {name: FORMATS[same] for name, same in ALIASES.items()}


def martinez(
    stat_2d: tuple[Any, Any], stat_3d: tuple[Any, Any], screen: tuple[float, float] = (1000, 1000)
) -> BatchFormat:
    """The format of 3d-pose-baseline in PyTorch: flat, standardised 2D and 3D.

    The 2D is in pixels, without the nose (in EvoSkeleton with it); the 3D is in millimetres,
    without the hip.

    Args:
        stat_2d: (mean, std) of the 32 dimensions in use, 34 with the nose.
        stat_3d: (mean, std) of the 48 dimensions in use.
        screen: width and height of the images, pixels.
    """
    has_nose = stat_2d is not None and len(stat_2d[0]) == 34
    return BatchFormat(
        pose_2d=0,
        pose_3d=1,
        unit=0.001,
        screen=screen,
        stat_2d=stat_2d,
        stat_3d=stat_3d,
        joints_2d=tuple(j for j in range(17) if j != 9 or has_nose),
        joints_3d=tuple(range(1, 17)),
        skeleton="h36m_17",
    )


def resolve_format(source: Format | Mapping[str, Any] | str | Any) -> Format:
    """The format that `batch=` means.

    Args:
        source: a format's name, a mapping of `BatchFormat`'s arguments, or an object with `read`
            and `write`, which is returned as it is.

    Raises:
        ConfigError: none of these.

    >>> resolve_format({"pose_2d": "x", "pose_3d": "y", "unit": 0.001})
    BatchFormat(pose_2d='x', pose_3d='y', unit=0.001)
    """
    if isinstance(source, Format) and not isinstance(source, type):
        return source
    if isinstance(source, Mapping):
        known = {field.name for field in dataclasses.fields(BatchFormat)}
        if not {"pose_2d", "pose_3d"} <= set(source) <= known:
            raise ConfigError(
                f"batch={dict(source)!r} must name pose_2d and pose_3d, and may name others of "
                f"{sorted(known)}."
            )
        return BatchFormat(**source)
    if source == "martinez":
        raise ConfigError(
            "batch='martinez' needs the statistics that its fields are standardised with, also of "
            "the 2D: pass batch=martinez(stat_2d=(mean, std), stat_3d=(mean, std)), "
            "from poseaug_plugin.batches.presets import martinez."
        )
    if isinstance(source, str):
        other = "name the fields, e.g. batch=dict(pose_2d=1, pose_3d=0, root='relative')"
        return look_up(FORMATS, source, "batch", other, ConfigError)
    raise ConfigError(
        f"batch={source!r} is neither a format's name, a mapping of field names, a BatchFormat, "
        "nor an object with the methods read and write."
    )
