"""Readers of the field's own files: pairs of a 2D pose and its 3D pose.

``load_h36m`` reads VideoPose3D's ``data_3d_h36m.npz`` and ``data_2d_h36m_*.npz``, which SemGCN,
PoseAug and most others share; ``load_pose_npz`` reads a plain archive of arrays, such as PoseAug's
MPI-INF-3DHP test set. Both give the 16 joints of SemGCN and PoseAug: Human3.6M's 17 less the nose.
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

from .h36m_cameras import CAMERA_NAMES, StudioCamera, cameras, normalise_screen

# Where the 16 joints stand in a file that holds this many of them.
_KEPT = {
    32: [0, 1, 2, 3, 6, 7, 8, 12, 13, 15, 17, 18, 19, 25, 26, 27],
    17: [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16],
    16: list(range(16)),
}
# The left joints of Human3.6M's 17 and 16, which tell its order from MPII's 16 and COCO's 17.
_LEFT = ({4, 5, 6, 11, 12, 13}, {4, 5, 6, 10, 11, 12})

# The field's split of Human3.6M by subject.
TRAIN, TEST = ("S1", "S5", "S6", "S7", "S8"), ("S9", "S11")

# Short names of the 2D poses of Human3.6M; any other ending of a file's name will do as well.
KEYPOINTS = {
    "gt": "gt",
    "cpn": "cpn_ft_h36m_dbb",
    "detectron": "detectron_ft_h36m",
    "hr": "hr",
}

# Who offers the files that are known by name.
OFFERS = {
    "data_3d_h36m.npz": (
        "VideoPose3D's DATASETS.md says how to make it (Human3.6M grants licences on request)"
    ),
    "data_2d_h36m_gt.npz": "made along with data_3d_h36m.npz: VideoPose3D's DATASETS.md",
    "data_2d_h36m_cpn_ft_h36m_dbb.npz": "VideoPose3D's DATASETS.md links to it",
    "data_2d_h36m_detectron_ft_h36m.npz": "VideoPose3D's DATASETS.md links to it",
    "data_2d_h36m_hr.npz": "PoseAug's DATASETS.md links to it: pre-processed joints files",
    "mpi_inf_3dhp_valid.npz": "in dataset_extras.tar.gz, which SPIN's fetch_data.sh downloads",
    "test_3dhp.npz": (
        "PoseAug's prepare_data_3dhp.py makes it from mpi_inf_3dhp_valid.npz, which serves as well"
    ),
    "test_3dpw.npz": (
        "PoseAug's authors link to a 3DPW test set of 16 joints in "
        "github.com/jfzhang95/PoseAug/issues/26: save it under this name"
    ),
    "cross_a.npz": "not published; load_pose_npz says what such a file holds",
}

Array = NDArray[Any]
Clip = tuple[Array, Array, Array, str, str]  # (T, 16, 2), (T, 16, 3), (9,), subject, action


@dataclass(frozen=True)
class Pairs:
    """N pairs of a 2D and a 3D pose.

    Attributes:
        pose_2d: (N, 16, 2) float32, normalised screen: x / w * 2 - 1, y / w * 2 - h / w.
        pose_3d: (N, 16, 3) float32, camera frame, metres, absolute; some test sets have only the
            pose relative to the pelvis, and then no camera.
        camera: (N, 9) float32, fx fy cx cy k1 k2 k3 p1 p2 for that screen; NaN where unknown.
        subject: (N,) strings.
        action: (N,) strings.
        frame: (N,) int64. Rows that follow each other are neighbouring frames of one clip where
            their numbers do too: clips are apart by more than 1. None: single frames.

    Raises:
        ValueError: the fields disagree about N, or one has another shape than above.
    """

    pose_2d: Tensor
    pose_3d: Tensor
    camera: Tensor
    subject: NDArray[np.str_]
    action: NDArray[np.str_]
    frame: Tensor | None = None

    def __post_init__(self) -> None:
        n = len(self.pose_2d)
        rest = {"pose_2d": (16, 2), "pose_3d": (16, 3), "camera": (9,), "subject": (), "action": ()}
        if self.frame is not None:
            rest["frame"] = ()
        for name, shape in rest.items():
            found = tuple(getattr(self, name).shape)
            if found != (n, *shape):
                raise ValueError(f"{name} is {found}, expected {(n, *shape)}: one row per pose_2d")

    def __len__(self) -> int:
        return len(self.pose_2d)

    def __getitem__(self, index: Tensor | slice | int) -> Pairs:
        """The rows that an index tensor, a mask, a slice or a number selects."""
        rows = torch.arange(len(self))[index].reshape(-1)
        tensors = (self.pose_2d[rows], self.pose_3d[rows], self.camera[rows])
        strings = (self.subject[rows.numpy()], self.action[rows.numpy()])
        return Pairs(*tensors, *strings, None if self.frame is None else self.frame[rows])

    @property
    def root_relative(self) -> Tensor:
        """(N, 16, 3) metres: ``pose_3d`` less its pelvis, which is what a lifter predicts."""
        return self.pose_3d - self.pose_3d[:, :1]

    @staticmethod
    def gather(clips: Iterable[Clip]) -> Pairs:
        """All frames of all clips, in order; each clip has one camera, subject and action.

        Raises:
            ValueError: there is no clip, or a clip has another shape.
        """
        pose_2d, pose_3d, camera, subject, action = zip(*clips)
        lengths = [len(clip) for clip in pose_2d]
        # One number is left out between two clips.
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
    """Human3.6M as VideoPose3D stores it, seen by all four cameras.

    These files hold pickled dictionaries, and unpickling can run code: open only files you trust.
    The 2D of VideoPose3D (``gt``, CPN, Detectron) has Human3.6M's 17 joints, that of SemGCN and
    PoseAug (``gt``, ``hr``) the 16; both are told apart by their number. Some detections run a few
    frames longer than the motion: these frames are left out.

    Args:
        folder: where ``data_3d_h36m.npz`` (world frame, metres, 32, 17 or 16 joints) and
            ``data_2d_h36m_{keypoints}.npz`` (pixels, 17 or 16 joints) lie.
        subjects: e.g. ``["S9", "S11"]`` or, as on the field's command lines, ``"S9,S11"``.
        keypoints: the kind of 2D poses: a name in ``KEYPOINTS`` or another file's ending.
        stride: keep every so many frames of a clip.

    Returns:
        Pairs ordered by subject, action, camera and frame.

    Raises:
        FileNotFoundError: one of the two files is not there.
        ValueError: a subject, action or camera is missing, a clip has too few 2D frames, another
            number of joints or another order of them, motion in millimetres, or ``stride`` is
            below 1.
    """
    if stride < 1:
        raise ValueError(f"stride is {stride}, expected 1 (every frame) or more")
    wanted = subjects.split(",") if isinstance(subjects, str) else list(subjects)
    if not wanted:
        raise ValueError("subjects is empty, expected names such as S9 and S11")
    motion = _open_pickled(Path(folder) / "data_3d_h36m.npz", "positions_3d")
    keypoint_file = Path(folder) / keypoint_name(keypoints)
    screens = _open_pickled(keypoint_file, "positions_2d")

    clips: list[Clip] = []
    for subject in wanted:
        views = cameras(subject)
        actions_3d = _entry(motion, subject, "data_3d_h36m.npz")
        actions_2d = _entry(screens, subject, keypoint_file.name)
        for action, world in actions_3d.items():
            check_metres(world, f"data_3d_h36m.npz, {subject}, {action}")
            where = f"{keypoint_file.name}, {subject}"
            pixels = _entry(actions_2d, action, where)
            if len(pixels) != len(views):
                raise ValueError(
                    f"{where}, {action}: 2D poses of {len(pixels)} cameras, expected "
                    f"{len(views)}: {', '.join(CAMERA_NAMES)}"
                )
            for name, view, seen in zip(CAMERA_NAMES, views, pixels):
                pose_2d, pose_3d = _pair(world, seen, view, f"{where}, {action}, camera {name}")
                # At 1.5 million poses, float64 would cost a gigabyte until they are gathered.
                kept = (poses[::stride].astype(np.float32) for poses in (pose_2d, pose_3d))
                clips.append((*kept, view.intrinsics, subject, action))
    return Pairs.gather(clips)


def keypoint_name(keypoints: str) -> str:
    """The file that holds Human3.6M's 2D poses of this kind, by a name in ``KEYPOINTS`` or in full.

    >>> keypoint_name("cpn")
    'data_2d_h36m_cpn_ft_h36m_dbb.npz'
    """
    return f"data_2d_h36m_{KEYPOINTS.get(keypoints, keypoints)}.npz"


def load_pose_npz(path: str | Path) -> Pairs:
    """A plain archive of one pose per row, such as an MPI-INF-3DHP test set.

    Reads ``pose3d`` (N, 16 or 17, 3) metres in the camera frame and ``pose2d`` (N, 16 or 17, 2) on
    the normalised screen; if there, ``cam`` (N, 9), else the cameras are NaN, and ``action`` (N,),
    else empty. The file's name stands as the subject. Rows are single frames: such a file does not
    say which of them are neighbours. Nothing is unpickled: safe on any file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an array is missing or has another shape, or the units are not those above.
    """
    path = Path(path)
    arrays = open_arrays(path)
    pose_3d = _kept(_entry(arrays, "pose3d", path.name), f"{path.name}, pose3d")
    pose_2d = _kept(_entry(arrays, "pose2d", path.name), f"{path.name}, pose2d")
    if np.abs(pose_2d).max(initial=0) > 10:
        raise ValueError(f"{path.name}, pose2d looks like pixels, expected x / w * 2 - 1")
    check_metres(pose_3d, f"{path.name}, pose3d")
    n = len(pose_2d)
    return Pairs(
        _tensor(pose_2d),
        _tensor(pose_3d),
        _tensor(arrays.get("cam", np.full((n, 9), np.nan))),
        np.full(n, path.stem),
        arrays.get("action", np.full(n, "")).astype(np.str_),
    )


def open_arrays(path: Path) -> dict[str, Array]:
    """All arrays of an archive that holds nothing else; nothing is unpickled.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else.
    """
    _must_exist(path)
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def check_metres(pose_3d: Array, where: str) -> None:
    """Refuse what is too far away for metres with a ValueError."""
    if np.abs(pose_3d).max(initial=0) > 100:
        raise ValueError(f"{where} looks like millimetres, expected metres: divide by 1000")


def _pair(world: Array, pixels: Array, view: StudioCamera, where: str) -> tuple[Array, Array]:
    """One clip as one camera sees it: (T, 16, 2) normalised screen and (T, 16, 3) its frame."""
    if len(pixels) < len(world):
        raise ValueError(
            f"{where}: {len(pixels)} frames in 2D for {len(world)} in 3D, expected no fewer: "
            "the two files are of different versions"
        )
    # Detections come with a confidence, and videos run a few frames longer than the motion.
    pose_2d = normalise_screen(_kept(pixels, where)[: len(world), :, :2], view.size)
    return pose_2d, view.to_camera(_kept(world, where))


def _kept(poses: Array, where: str) -> Array:
    """(T, J, D) less the joints that are not among the 16."""
    joints = _KEPT.get(poses.shape[1]) if poses.ndim == 3 else None
    if joints is None:
        raise ValueError(
            f"{where}: poses are {poses.shape}, expected (N, J, 2 or 3) with J of {list(_KEPT)}"
        )
    # Unlike poses[:, joints], take keeps each pose in one place: batches are picked 3 times faster.
    kept: Array = poses.take(joints, axis=1)
    return kept


def _entry(table: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in table:
        there = ", ".join(sorted(table)) or "nothing"
        raise ValueError(f"{where} has no {key!r}, only {there}")
    return table[key]


def _open_pickled(path: Path, key: str) -> dict[str, Any]:
    """The dictionary these archives hold as an object array, which takes a pickle to read."""
    _must_exist(path)
    with np.load(path, allow_pickle=True) as archive:
        table: dict[str, Any] = _entry(archive, key, path.name).item()
        if "metadata" in archive:
            _check_order(archive["metadata"].item(), path.name)
    return table


def _check_order(metadata: Mapping[str, Any], where: str) -> None:
    """VideoPose3D's files say which of their joints are on the left, if not how they are named."""
    sides = metadata.get("keypoints_symmetry")
    if sides is not None and set(sides[0]) not in _LEFT:
        raise ValueError(
            f"{where} has its left joints at {sorted(map(int, sides[0]))}, expected "
            f"{' or '.join(str(sorted(left)) for left in _LEFT)}: its joints are in another order "
            "than Human3.6M's, such as COCO's or MPII's; reorder them, and the metadata with them"
        )


def _must_exist(path: Path) -> None:
    if not path.is_file():
        there = ", ".join(sorted(file.name for file in path.parent.glob("*.npz"))) or "no .npz file"
        offer = OFFERS.get(path.name, f"files known by name: {', '.join(OFFERS)}")
        raise FileNotFoundError(f"no {path.name} in {path.parent}, only {there}; {offer}")


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32))
