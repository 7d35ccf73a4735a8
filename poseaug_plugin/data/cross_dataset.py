"""Readers of cross-dataset test sets: data that the lifter was not trained on.

Two files hold the 2,929 poses of MPI-INF-3DHP's test set: SPIN's file, read by ``load_3dhp``, and
the file that PoseAug prepares from it. Frames, units and joints are those of ``h36m.Pairs``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from .h36m import FILE_SOURCES, Array, Pairs, check_metres, load_arrays, load_pose_npz
from .h36m_cameras import normalise_screen

# Each of the 16 joints, in order, with its index among SPIN's 24.
_SPIN_JOINTS = {
    "pelvis": 14,
    "right hip": 2,
    "right knee": 1,
    "right ankle": 0,
    "left hip": 3,
    "left knee": 4,
    "left ankle": 5,
    "spine": 16,
    "thorax": 12,  # 3DHP's neck
    "head": 18,  # 3DHP's top of the head
    "left shoulder": 9,
    "left elbow": 10,
    "left wrist": 11,
    "right shoulder": 8,
    "right elbow": 7,
    "right wrist": 6,
}

# subject: width and height of the images in pixels. TS5 and TS6 were filmed outdoors.
_IMAGE_SIZES = {f"TS{i}": (2048, 2048) for i in (1, 2, 3, 4)} | {
    f"TS{i}": (1920, 1080) for i in (5, 6)
}


def load_3dhp(path: str | Path) -> Pairs:
    """Load MPI-INF-3DHP's test set in SPIN's format, ``mpi_inf_3dhp_valid.npz``.

    Three arrays are read: ``imgname`` (N,), such as ``.../TS1/imageSequence/img_000001.jpg``;
    ``part`` (N, 24, 3), x and y in pixels and a confidence; ``S`` (N, 24, 4), x, y and z in metres
    and a confidence. The published file has 2,929 rows: all valid frames of TS1 to TS6. Poses are
    converted as in PoseAug's prepare_data_3dhp.py, so errors are comparable with ``test_3dhp.npz``:

    - The 2D is 3DHP's annotation, regardless of the 2D that the lifter was trained on.
    - The 3D is relative to the pelvis and of "universal" size: 3DHP scales all people to the same
      height. No camera projects it to the 2D exactly, so the cameras are NaN.
    - The thorax is 3DHP's neck and the head is 3DHP's top of the head. Both lie higher than in
      Human3.6M.

    Returns:
        Single frames in the order of the file. Subjects are TS1 to TS6, actions are empty.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: An array is missing or has the wrong shape, an image belongs to no known
            subject, a joint is not annotated, or the 3D is not in metres.
    """
    path = Path(path)
    arrays = load_arrays(path)
    pixels, pose_3d = (
        _select_joints(arrays, "part", 3, path.name),
        _select_joints(arrays, "S", 4, path.name),
    )
    check_metres(pose_3d, f"{path.name}, S")
    subject = np.array([_subject(image, path.name) for image in arrays["imgname"].astype(np.str_)])
    pose_2d = np.empty(pixels.shape, np.float32)
    for name, size in _IMAGE_SIZES.items():
        pose_2d[subject == name] = normalise_screen(pixels[subject == name], size)
    return Pairs(
        torch.from_numpy(pose_2d),
        torch.from_numpy(pose_3d.astype(np.float32)),
        torch.full((len(pixels), 9), torch.nan),
        subject,
        np.full(len(pixels), ""),
    )


def _select_joints(arrays: Mapping[str, Array], key: str, channels: int, where: str) -> Array:
    """(N, 16, channels - 1) from SPIN's (N, 24, channels), whose last channel is a confidence."""
    shapes = {name: array.shape for name, array in arrays.items()}
    expected = (*shapes.get("imgname", ("N",)), 24, channels)
    if shapes.get(key) != expected:
        raise ValueError(
            f"{where} is not SPIN's file: it holds {shapes}, expected {key} as {expected}, one row "
            "per imgname"
        )
    poses = arrays[key].take(list(_SPIN_JOINTS.values()), axis=1)
    row, joint = np.nonzero(poses[..., -1] != 1)
    if len(row):
        raise ValueError(
            f"{where}, {key}: {len(row)} joints are not annotated, the first in row {row[0]}, "
            f"{list(_SPIN_JOINTS)[joint[0]]}; expected confidence 1 for all: remove these rows"
        )
    return poses[..., :-1]


def _subject(image: str, where: str) -> str:
    for part in image.split("/"):
        if part in _IMAGE_SIZES:
            return part
    raise ValueError(f"{where} has image '{image}', expected a folder of {', '.join(_IMAGE_SIZES)}")


# Each test set by its short name: the accepted files and their readers. The first existing file is
# read.
#
# 3dhp   MPI-INF-3DHP: 2,929 poses of six people indoors and outdoors, with annotated 2D.
# 3dpw   3DPW as distributed by PoseAug's authors: pose3d and pose2d of the 16 joints, "gt version".
#        The preparation script is not published. The authors state that frames with invalid 2D are
#        removed and that portrait images are padded to squares, so all 2D lies within -1 and 1.
# cross  Motion, people and cameras of another studio, with known cameras.
TESTS: dict[str, dict[str, Callable[[Path], Pairs]]] = {
    "3dhp": {"mpi_inf_3dhp_valid.npz": load_3dhp, "test_3dhp.npz": load_pose_npz},
    "3dpw": {"test_3dpw.npz": load_pose_npz},
    "cross": {"cross_a.npz": load_pose_npz},
}


def load_test(name: str, folder: Path) -> Pairs:
    """Load one cross-dataset test set by its short name, a key of ``TESTS``.

    Raises:
        FileNotFoundError: None of its files is in the folder. The message says where to get them.
        ValueError: A file has unexpected contents.
    """
    for file, read in TESTS[name].items():
        if (folder / file).is_file():
            return read(folder / file)
    missing = (f"no {file} in {folder} ({FILE_SOURCES[file]})" for file in TESTS[name])
    raise FileNotFoundError("; ".join(missing))


def load_cross_dataset(folder: Path) -> Pairs:
    """Load the first cross-dataset test set that is in the folder, in the order of ``TESTS``.

    Raises:
        FileNotFoundError: The folder contains none of them.
        ValueError: A file has unexpected contents.
    """
    missing = []
    for name in TESTS:
        try:
            return load_test(name, folder)
        except FileNotFoundError as error:
            missing.append(str(error))
    raise FileNotFoundError("no cross-dataset test set: " + "; ".join(missing))
