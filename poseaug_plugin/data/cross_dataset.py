"""Readers of data sets that a lifter was not trained on, to test it there.

MPI-INF-3DHP's test set comes in two files that hold the same 2,929 poses: SPIN's, read by
``load_3dhp``, and what PoseAug makes of it. Frames, units and joints are those of h36m_files.Pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from .h36m import OFFERS, Array, Pairs, check_metres, load_pose_npz, open_arrays
from .h36m_cameras import normalise_screen

# The 16 joints in their order: each one's place among SPIN's 24.
_OF_SPIN = {
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

# subject: width and height of the images, pixels. TS5 and TS6 were filmed outdoors.
_IMAGES = {f"TS{i}": (2048, 2048) for i in (1, 2, 3, 4)} | {f"TS{i}": (1920, 1080) for i in (5, 6)}


def load_3dhp(path: str | Path) -> Pairs:
    """MPI-INF-3DHP's test set as SPIN stores it, ``mpi_inf_3dhp_valid.npz``.

    The arrays read are ``imgname`` (N,), such as ``.../TS1/imageSequence/img_000001.jpg``, ``part``
    (N, 24, 3) = x and y in pixels and confidence, and ``S`` (N, 24, 4) = x, y and z in metres and
    confidence. The published file has 2,929 rows, all valid frames of TS1 to TS6. They are given
    as PoseAug's prepare_data_3dhp.py does, so errors compare with its ``test_3dhp.npz``:

    - The 2D is 3DHP's annotation, whatever 2D a lifter was trained on.
    - The 3D is relative to the pelvis and of "universal" size: 3DHP scales everybody to one
      height. So no camera takes it to the 2D exactly, and the cameras are NaN.
    - The thorax is 3DHP's neck and the head its top, which lie higher than Human3.6M's.

    Returns:
        Single frames in the file's order, with TS1, ..., TS6 as subjects and no action.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an array is missing or has another shape, an image belongs to no known
            subject, a joint is not annotated, or the 3D is not in metres.
    """
    path = Path(path)
    arrays = open_arrays(path)
    pixels, pose_3d = _joints(arrays, "part", 3, path.name), _joints(arrays, "S", 4, path.name)
    check_metres(pose_3d, f"{path.name}, S")
    subject = np.array([_subject(image, path.name) for image in arrays["imgname"].astype(np.str_)])
    pose_2d = np.empty(pixels.shape, np.float32)
    for name, size in _IMAGES.items():
        pose_2d[subject == name] = normalise_screen(pixels[subject == name], size)
    return Pairs(
        torch.from_numpy(pose_2d),
        torch.from_numpy(pose_3d.astype(np.float32)),
        torch.full((len(pixels), 9), torch.nan),
        subject,
        np.full(len(pixels), ""),
    )


def _joints(arrays: Mapping[str, Array], key: str, channels: int, where: str) -> Array:
    """(N, 16, channels - 1) of SPIN's (N, 24, channels), whose last channel is a confidence."""
    shapes = {name: array.shape for name, array in arrays.items()}
    expected = (*shapes.get("imgname", ("N",)), 24, channels)
    if shapes.get(key) != expected:
        raise ValueError(
            f"{where} holds {shapes}, expected {key} as {expected}, one row per imgname: is it "
            "SPIN's file?"
        )
    poses = arrays[key].take(list(_OF_SPIN.values()), axis=1)
    row, joint = np.nonzero(poses[..., -1] != 1)
    if len(row):
        raise ValueError(
            f"{where}, {key}: {len(row)} joints are not annotated, the first in row {row[0]}, "
            f"{list(_OF_SPIN)[joint[0]]}; expected confidence 1 throughout: leave out these rows"
        )
    return poses[..., :-1]


def _subject(image: str, where: str) -> str:
    for part in image.split("/"):
        if part in _IMAGES:
            return part
    raise ValueError(f"{where} has image '{image}', expected a folder of {', '.join(_IMAGES)}")


# Each test set by its short name: the files that serve, the first that is there is read.
#
# 3dhp   MPI-INF-3DHP: 2,929 poses of six people indoors and outdoors, 2D as annotated.
# 3dpw   3DPW, as PoseAug's authors gave it out: pose3d and pose2d of the 16 joints, "gt version".
#        Their preparation is not published. They say that it leaves out frames with invalid 2D and
#        pads upright images to squares, so that all 2D is within -1 and 1.
# cross  Another studio's motion, people and cameras, with the cameras.
TESTS: dict[str, dict[str, Callable[[Path], Pairs]]] = {
    "3dhp": {"mpi_inf_3dhp_valid.npz": load_3dhp, "test_3dhp.npz": load_pose_npz},
    "3dpw": {"test_3dpw.npz": load_pose_npz},
    "cross": {"cross_a.npz": load_pose_npz},
}


def load_test(name: str, folder: Path) -> Pairs:
    """The test set of this short name in a folder.

    Raises:
        FileNotFoundError: none of its files is there; the message says where to get them.
        ValueError: a file does not hold what it should.
    """
    for file, read in TESTS[name].items():
        if (folder / file).is_file():
            return read(folder / file)
    offers = (f"no {file} in {folder} ({OFFERS[file]})" for file in TESTS[name])
    raise FileNotFoundError("; ".join(offers))


def load_unseen(folder: Path) -> Pairs:
    """The first of all test sets that a folder has.

    Raises:
        FileNotFoundError: it has none.
        ValueError: as `load_test`.
    """
    missing = []
    for name in TESTS:
        try:
            return load_test(name, folder)
        except FileNotFoundError as error:
            missing.append(str(error))
    raise FileNotFoundError("no cross-dataset test: " + "; ".join(missing))
