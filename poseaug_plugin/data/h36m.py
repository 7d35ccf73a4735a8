"""Readers of Human3.6M's files and of plain archives: pairs of a 2D pose and its 3D pose.

``load_h36m`` reads VideoPose3D's ``data_3d_h36m.npz`` and ``data_2d_h36m_*.npz``, which SemGCN,
PoseAug and most other codebases use. ``load_pose_npz`` reads a plain archive of arrays, such as
PoseAug's MPI-INF-3DHP test set. Both return the 16 joints of SemGCN and PoseAug: Human3.6M's 17
without the nose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .archives import Archive
from .h36m_cameras import CAMERA_NAMES, StudioCamera, cameras, normalise_screen

# Indices of the 16 joints in a file with this number of joints.
_JOINT_INDICES = {
    32: [0, 1, 2, 3, 6, 7, 8, 12, 13, 15, 17, 18, 19, 25, 26, 27],
    17: [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16],
    16: list(range(16)),
}
# Left joints among Human3.6M's 17 and 16. They distinguish its order from MPII's 16 and COCO's 17.
_LEFT_JOINTS = ({4, 5, 6, 11, 12, 13}, {4, 5, 6, 10, 11, 12})

# The standard split of Human3.6M by subject.
TRAIN, TEST = ("S1", "S5", "S6", "S7", "S8"), ("S9", "S11")

# Short names of Human3.6M's kinds of 2D poses. Other file name suffixes work too.
KEYPOINTS = {
    "gt": "gt",
    "cpn": "cpn_ft_h36m_dbb",
    "detectron": "detectron_ft_h36m",
    "hr": "hr",
}

# Where to get each known file.
FILE_SOURCES = {
    "data_3d_h36m.npz": (
        "VideoPose3D's DATASETS.md says how to create it; Human3.6M grants licences on request"
    ),
    "data_2d_h36m_gt.npz": "created together with data_3d_h36m.npz: VideoPose3D's DATASETS.md",
    "data_2d_h36m_cpn_ft_h36m_dbb.npz": "VideoPose3D's DATASETS.md links to it",
    "data_2d_h36m_detectron_ft_h36m.npz": "VideoPose3D's DATASETS.md links to it",
    "data_2d_h36m_hr.npz": "PoseAug's DATASETS.md links to it: pre-processed joints files",
    "mpi_inf_3dhp_valid.npz": "in dataset_extras.tar.gz, which SPIN's fetch_data.sh downloads",
    "test_3dhp.npz": (
        "PoseAug's prepare_data_3dhp.py creates it from mpi_inf_3dhp_valid.npz, which works as well"
    ),
    "test_3dpw.npz": (
        "PoseAug's authors link to a 3DPW test set of 16 joints in "
        "github.com/jfzhang95/PoseAug/issues/26: save it under this name"
    ),
    "cross_a.npz": "not published; load_pose_npz documents the format",
}

Array = NDArray[Any]
Clip = tuple[Array, Array, Array, str, str]  # (T, 16, 2), (T, 16, 3), (9,), subject, action


@dataclass(frozen=True)
class Pairs:
    """N pairs of a 2D pose and its 3D pose.

    Attributes:
        pose_2d: (N, 16, 2) float32, normalised image coordinates: x / w * 2 - 1, y / w * 2 - h / w.
        pose_3d: (N, 16, 3) float32, camera frame, metres, absolute. Some test sets have only poses
            relative to the pelvis; these have no camera.
        camera: (N, 9) float32, fx fy cx cy k1 k2 k3 p1 p2 in normalised image coordinates. NaN
            where unknown.
        subject: (N,) strings.
        action: (N,) strings.
        frame: (N,) int64. Two consecutive rows are neighbouring frames of one clip if their numbers
            differ by 1. Numbers of different clips differ by more. None for single frames.

    Raises:
        ValueError: The fields have different lengths, or a field has the wrong shape.
    """

    pose_2d: Tensor
    pose_3d: Tensor
    camera: Tensor
    subject: NDArray[np.str_]
    action: NDArray[np.str_]
    frame: Tensor | None = None

    def __post_init__(self) -> None:
        n = len(self.pose_2d)
        shapes = {
            "pose_2d": (16, 2),
            "pose_3d": (16, 3),
            "camera": (9,),
            "subject": (),
            "action": (),
        }
        if self.frame is not None:
            shapes["frame"] = ()
        for name, shape in shapes.items():
            found = tuple(getattr(self, name).shape)
            if found != (n, *shape):
                raise ValueError(f"{name} is {found}, expected {(n, *shape)}: one row per pose_2d")

    def __len__(self) -> int:
        return len(self.pose_2d)

    def __getitem__(self, index: Tensor | slice | int) -> Pairs:
        """Select rows with an index tensor, a mask, a slice or an integer."""
        rows = torch.arange(len(self))[index].reshape(-1)
        tensors = (self.pose_2d[rows], self.pose_3d[rows], self.camera[rows])
        strings = (self.subject[rows.numpy()], self.action[rows.numpy()])
        return Pairs(*tensors, *strings, None if self.frame is None else self.frame[rows])

    @property
    def root_relative(self) -> Tensor:
        """(N, 16, 3) metres: ``pose_3d`` relative to the pelvis, the target of a lifter."""
        return self.pose_3d - self.pose_3d[:, :1]

    @staticmethod
    def from_clips(clips: Iterable[Clip]) -> Pairs:
        """Concatenate clips. Each clip has one camera, subject and action.

        Raises:
            ValueError: There is no clip, or a clip has the wrong shape.
        """
        pose_2d, pose_3d, camera, subject, action = zip(*clips)
        lengths = [len(clip) for clip in pose_2d]
        # Frame numbers skip one between two clips.
        frame = np.arange(sum(lengths)) + np.repeat(np.arange(len(lengths)), lengths)
        return Pairs(
            torch.from_numpy(np.concatenate(pose_2d, dtype=np.float32)),
            torch.from_numpy(np.concatenate(pose_3d, dtype=np.float32)),
            torch.from_numpy(np.repeat(np.stack(camera).astype(np.float32), lengths, axis=0)),
            np.repeat(np.array(subject), lengths),
            np.repeat(np.array(action), lengths),
            torch.from_numpy(frame),
        )


def load_h36m(
    folder: str | Path, subjects: Sequence[str], keypoints: str = "gt", stride: int = 1
) -> Pairs:
    """Load Human3.6M in VideoPose3D's format, seen by all four cameras.

    The files hold pickled dictionaries, which are read without running code from them.
    VideoPose3D's 2D files (``gt``, CPN, Detectron) have Human3.6M's 17 joints, those of SemGCN and
    PoseAug (``gt``, ``hr``) have 16. Both are recognised by the number of joints. Some detections
    are a few frames longer than the motion; the extra frames are dropped.

    Args:
        folder: Folder with ``data_3d_h36m.npz`` (world frame, metres, 32, 17 or 16 joints) and
            ``data_2d_h36m_{keypoints}.npz`` (pixels, 17 or 16 joints).
        subjects: Names such as ``["S9", "S11"]``, or one string ``"S9,S11"``.
        keypoints: Kind of 2D poses: a key of ``KEYPOINTS`` or another file name suffix.
        stride: Step between the frames taken from a clip.

    Returns:
        Pairs ordered by subject, action, camera and frame.

    Raises:
        FileNotFoundError: One of the two files does not exist.
        ValueError: A subject, action or camera is missing, a clip has too few 2D frames or
            unexpected joints, the 3D is not in metres, or ``stride`` is less than 1.
    """
    if stride < 1:
        raise ValueError(f"stride is {stride}, expected at least 1 (every frame)")
    names = subjects.split(",") if isinstance(subjects, str) else list(subjects)
    if not names:
        raise ValueError("subjects is empty, expected names such as S9 and S11")
    file_2d = Path(folder) / keypoint_file(keypoints)
    positions_3d = _load_pickled(Path(folder) / "data_3d_h36m.npz", "positions_3d")
    positions_2d = _load_pickled(file_2d, "positions_2d")

    clips: list[Clip] = []
    for subject in names:
        views = cameras(subject)
        actions_3d = _lookup(positions_3d, subject, "data_3d_h36m.npz")
        actions_2d = _lookup(positions_2d, subject, file_2d.name)
        for action, world in actions_3d.items():
            check_metres(world, f"data_3d_h36m.npz, {subject}, {action}")
            where = f"{file_2d.name}, {subject}"
            pixels = _lookup(actions_2d, action, where)
            if len(pixels) != len(views):
                raise ValueError(
                    f"{where}, {action}: 2D poses of {len(pixels)} cameras, expected "
                    f"{len(views)}: {', '.join(CAMERA_NAMES)}"
                )
            for name, view, keypoints_2d in zip(CAMERA_NAMES, views, pixels):
                pose_2d, pose_3d = _pair_clip(
                    world, keypoints_2d, view, f"{where}, {action}, camera {name}"
                )
                # With 1.5 million poses, float64 would take a gigabyte until concatenation.
                poses = (poses[::stride].astype(np.float32) for poses in (pose_2d, pose_3d))
                clips.append((*poses, view.intrinsics, subject, action))
    return Pairs.from_clips(clips)


def keypoint_file(keypoints: str) -> str:
    """Name of the file with Human3.6M's 2D poses of this kind, a key of ``KEYPOINTS`` or a suffix.

    >>> keypoint_file("cpn")
    'data_2d_h36m_cpn_ft_h36m_dbb.npz'
    """
    return f"data_2d_h36m_{KEYPOINTS.get(keypoints, keypoints)}.npz"


def load_pose_npz(path: str | Path) -> Pairs:
    """Load a plain archive with one pose per row, such as PoseAug's MPI-INF-3DHP test set.

    The archive has ``pose3d`` (N, 16 or 17, 3) in metres in the camera frame and ``pose2d``
    (N, 16 or 17, 2) in normalised image coordinates. Optional are ``cam`` (N, 9), NaN by default,
    and ``action`` (N,), empty by default. The subject is the name of the file. Rows are single
    frames, because the file does not say which rows are neighbours. No code from the file is run.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: An array is missing or has the wrong shape or units.
    """
    path = Path(path)
    arrays = load_arrays(path)
    pose_3d = _select_joints(_lookup(arrays, "pose3d", path.name), f"{path.name}, pose3d")
    pose_2d = _select_joints(_lookup(arrays, "pose2d", path.name), f"{path.name}, pose2d")
    if np.abs(pose_2d).max(initial=0) > 10:
        raise ValueError(
            f"{path.name}, pose2d looks like pixels, expected normalised coordinates x / w * 2 - 1"
        )
    check_metres(pose_3d, f"{path.name}, pose3d")
    n = len(pose_2d)
    return Pairs(
        _float32(pose_2d),
        _float32(pose_3d),
        _float32(arrays.get("cam", np.full((n, 9), np.nan))),
        np.full(n, path.stem),
        arrays.get("action", np.full(n, "")).astype(np.str_),
    )


def load_arrays(path: Path) -> dict[str, Array]:
    """Load all arrays of an archive, see `archives.Archive`.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is damaged, or contains other objects than arrays.
    """
    _check_exists(path)
    arrays = dict(Archive(path))
    objects = [name for name, array in arrays.items() if array.dtype.hasobject]
    if objects:
        raise ValueError(f"{path.name}: {objects} are Object arrays, expected numbers or strings")
    return arrays


def check_metres(pose_3d: Array, where: str) -> None:
    """Raise a ValueError if coordinates are too large to be metres."""
    if np.abs(pose_3d).max(initial=0) > 100:
        raise ValueError(f"{where} looks like millimetres, expected metres: divide by 1000")


def _pair_clip(world: Array, pixels: Array, view: StudioCamera, where: str) -> tuple[Array, Array]:
    """One clip seen by one camera: (T, 16, 2) normalised image, (T, 16, 3) camera frame."""
    if len(pixels) < len(world):
        raise ValueError(
            f"{where}: the two files are of different versions: {len(pixels)} frames in 2D for "
            f"{len(world)} in 3D, expected no fewer"
        )
    # Detections have a confidence, and videos are a few frames longer than the motion.
    pose_2d = normalise_screen(_select_joints(pixels, where)[: len(world), :, :2], view.size)
    return pose_2d, view.to_camera(_select_joints(world, where))


def _select_joints(poses: Array, where: str) -> Array:
    """(T, 16, D) from (T, J, D)."""
    joints = _JOINT_INDICES.get(poses.shape[1]) if poses.ndim == 3 else None
    if joints is None:
        raise ValueError(
            f"{where}: poses are {poses.shape}, expected (N, J, 2 or 3) with J in "
            f"{list(_JOINT_INDICES)}"
        )
    # Unlike poses[:, joints], take returns contiguous poses. Batches are indexed 3 times faster.
    selected: Array = poses.take(joints, axis=1)
    return selected


def _lookup(table: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in table:
        found = ", ".join(sorted(table)) or "nothing"
        raise ValueError(f"{where} has no {key!r}, only {found}")
    return table[key]


def _load_pickled(path: Path, key: str) -> dict[str, Any]:
    """The dictionary that VideoPose3D's archives store as a pickled object array."""
    _check_exists(path)
    archive = Archive(path)
    table: dict[str, Any] = _lookup(archive, key, path.name).item()
    if "metadata" in archive:
        _check_joint_order(archive["metadata"].item(), path.name)
    return table


def _check_joint_order(metadata: Mapping[str, Any], where: str) -> None:
    """VideoPose3D's files list their left joints, but have no joint names."""
    sides = metadata.get("keypoints_symmetry")
    if sides is not None and set(sides[0]) not in _LEFT_JOINTS:
        raise ValueError(
            f"{where} has its left joints at {sorted(map(int, sides[0]))}, expected "
            f"{' or '.join(str(sorted(left)) for left in _LEFT_JOINTS)}: its joints are in another "
            "order than Human3.6M's, such as COCO's or MPII's; reorder the joints and the metadata"
        )


def _check_exists(path: Path) -> None:
    if path.is_file():
        return
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}")
    found = ", ".join(sorted(file.name for file in path.parent.glob("*.npz")))
    source = FILE_SOURCES.get(path.name, f"files known by name: {', '.join(FILE_SOURCES)}")
    raise FileNotFoundError(
        f"no {path.name} in {path.parent}, {f'only {found}' if found else 'which has no .npz file'}"
        f"; {source}"
    )


def _float32(values: Array) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32))
