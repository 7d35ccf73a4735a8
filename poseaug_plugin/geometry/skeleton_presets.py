"""Preset skeletons of common data sets: parents, names and sides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["PRESETS", "Preset"]

Tree = tuple[int, ...]
Preset = tuple[Tree, Tree, Tree, tuple[str, ...]]  # parents, left, right, names


def _tree(parents: Sequence[int], names: str, left: Iterable[int], right: Iterable[int]) -> Preset:
    return tuple(parents), tuple(left), tuple(right), tuple(names.split())


PRESETS: dict[str, Preset] = {
    "h36m_16": _tree(
        [-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 8, 10, 11, 8, 13, 14],
        "pelvis r_hip r_knee r_ankle l_hip l_knee l_ankle spine thorax head "
        "l_shoulder l_elbow l_wrist r_shoulder r_elbow r_wrist",
        left=[4, 5, 6, 10, 11, 12],
        right=[1, 2, 3, 13, 14, 15],
    ),
    "h36m_17": _tree(
        [-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15],
        "pelvis r_hip r_knee r_ankle l_hip l_knee l_ankle spine thorax nose head "
        "l_shoulder l_elbow l_wrist r_shoulder r_elbow r_wrist",
        left=[4, 5, 6, 11, 12, 13],
        right=[1, 2, 3, 14, 15, 16],
    ),
    "coco_17": _tree(
        [-1, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14],
        "nose l_eye r_eye l_ear r_ear l_shoulder r_shoulder l_elbow r_elbow l_wrist r_wrist "
        "l_hip r_hip l_knee r_knee l_ankle r_ankle",
        left=[1, 3, 5, 7, 9, 11, 13, 15],
        right=[2, 4, 6, 8, 10, 12, 14, 16],
    ),
    "mpi_inf_3dhp_17": _tree(
        [16, 15, 1, 2, 3, 1, 5, 6, 14, 8, 9, 14, 11, 12, -1, 14, 1],
        "head_top neck r_shoulder r_elbow r_wrist l_shoulder l_elbow l_wrist r_hip r_knee "
        "r_ankle l_hip l_knee l_ankle pelvis spine head",
        left=[5, 6, 7, 11, 12, 13],
        right=[2, 3, 4, 8, 9, 10],
    ),
    "humaneva_15": _tree(
        [-1, 0, 1, 2, 3, 1, 5, 6, 0, 8, 9, 0, 11, 12, 1],
        "pelvis thorax l_shoulder l_elbow l_wrist r_shoulder r_elbow r_wrist l_hip l_knee "
        "l_ankle r_hip r_knee r_ankle head",
        left=[2, 3, 4, 8, 9, 10],
        right=[5, 6, 7, 11, 12, 13],
    ),
    "smpl_24": _tree(
        [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21],
        "pelvis l_hip r_hip spine1 l_knee r_knee spine2 l_ankle r_ankle spine3 l_foot r_foot "
        "neck l_collar r_collar head l_shoulder r_shoulder l_elbow r_elbow l_wrist r_wrist "
        "l_hand r_hand",
        left=[1, 4, 7, 10, 13, 16, 18, 20, 22],
        right=[2, 5, 8, 11, 14, 17, 19, 21, 23],
    ),
    "hand_21": _tree(
        [-1, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19],
        "wrist "
        + " ".join(
            f"{f}{i}" for f in ("thumb", "index", "middle", "ring", "little") for i in (1, 2, 3, 4)
        ),
        left=[],
        right=[],
    ),
    "body_25": _tree(  # OpenPose
        [1, 8, 1, 2, 3, 1, 5, 6, -1, 8, 9, 10, 8, 12, 13, 0, 0, 15, 16, 14, 19, 14, 11, 22, 11],
        "nose neck r_shoulder r_elbow r_wrist l_shoulder l_elbow l_wrist pelvis r_hip r_knee "
        "r_ankle l_hip l_knee l_ankle r_eye l_eye r_ear l_ear l_big_toe l_small_toe l_heel "
        "r_big_toe r_small_toe r_heel",
        left=[5, 6, 7, 12, 13, 14, 16, 18, 19, 20, 21],
        right=[2, 3, 4, 9, 10, 11, 15, 17, 22, 23, 24],
    ),
    "halpe_26": _tree(  # AlphaPose and RTMPose
        [18, 0, 0, 1, 2, 18, 18, 5, 6, 7, 8, 19, 19, 11, 12, 13, 14, 18, 19, -1, *[15, 16] * 3],
        "nose l_eye r_eye l_ear r_ear l_shoulder r_shoulder l_elbow r_elbow l_wrist r_wrist "
        "l_hip r_hip l_knee r_knee l_ankle r_ankle head neck pelvis l_big_toe r_big_toe "
        "l_small_toe r_small_toe l_heel r_heel",
        left=[1, 3, 5, 7, 9, 11, 13, 15, 20, 22, 24],
        right=[2, 4, 6, 8, 10, 12, 14, 16, 21, 23, 25],
    ),
}
