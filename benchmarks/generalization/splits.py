"""Training set, test sets and validation split of the benchmark.

The tests are Human3.6M's S9 and S11 and a cross-dataset test set. Hyperparameters are never chosen
on them, but on the splits of `validation`: they remove S8, and one of them also the half of the
actions with the rarest poses, from the training set and test on them, as recorded, re-rendered with
new bodies and cameras, with offset joint positions, and on the skeleton of another data set.
`unlabelled` gives the 2D of the places that the tests come from, for `target_2d=`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poseaug_plugin import Skeleton
from poseaug_plugin.augment.pose_statistics import PoseStatistics
from poseaug_plugin.data import (
    TEST,
    TRAIN,
    Pairs,
    load_cross_dataset,
    load_h36m,
    load_test,
    synthetic,
)
from poseaug_plugin.data.h36m import Clip, load_arrays
from poseaug_plugin.data.h36m_cameras import cameras
from poseaug_plugin.geometry.bones import directions
from poseaug_plugin.geometry.camera import project
from poseaug_plugin.geometry.operators import mirrored, shift, stretch

from ..training import clip_bounds

__all__ = [
    "HELD_OUT",
    "VALIDATION",
    "action_names",
    "oracle_training_set",
    "rarest_actions",
    "rerender",
    "splits",
    "unlabelled",
    "validation",
]

HELD_OUT = "S8"  # the training subject of the validation tests
#: What else the validation splits hold out, by name: the rarest actions, or nothing.
VALIDATION = ("actions", "subject")
SHOT = 10  # frames with one body and camera when re-rendering
CLIP = 81  # the same for windows of frames
CLIPS = "cross_a_clips.npz"
JOINT_OFFSET = 0.025  # metres per axis, standard deviation of the offset trunk joints
#: How far data sets place a joint from each other: standard deviation in metres to the side, up and
#: back in the body frame. Knees, ankles, elbows and wrists are defined alike everywhere.
DEFINITION = {
    "hip": (0.025, 0.035, 0.015),
    "spine": (0.0, 0.05, 0.02),
    "thorax": (0.0, 0.05, 0.02),
    "head": (0.0, 0.07, 0.03),
    "shoulder": (0.03, 0.04, 0.02),
}
LIMBS = 0.06  # relative standard deviation of a limb's bone lengths between data sets

Split = tuple[Pairs, dict[str, Pairs]]


def splits(
    data: str | None,
    seed: int,
    *,
    subjects: Sequence[str] = TRAIN,
    detections: str = "gt",
    validate: str | None = None,
    oracle: bool = False,
    clips: bool = False,
) -> Split:
    """Training pairs and named test sets, including `source` and `cross`.

    Args:
        data: Folder of Human3.6M's files and a cross-dataset test set. None generates synthetic
            motion.
        seed: Seed of the synthetic motion.
        subjects: Training subjects among S1, S5, S6, S7 and S8.
        detections: 2D poses of the source, `gt` or `det`. `cross` always has exact 2D. Otherwise
            there is `cross det` as well, with detected 2D: every tenth frame of
            `cross_a_clips.npz`, or, in `validation`, `cross` with detection errors of S8.
        validate: Return this split of `validation` instead of the test sets.
        oracle: Return the training set of `oracle_training_set`, which covers the tests of that
            split.
        clips: Return tests of clips, for lifters of windows. The cross-dataset test set is
            `cross_a_clips.npz`: `cross` with exact 2D, and `cross det` with detected 2D.

    Raises:
        ValueError: A subject is unknown, synthetic motion is combined with detections, no training
            subject is left, or `oracle` is given without `validate`.
    """
    if not set(subjects) <= set(TRAIN):
        raise ValueError(f"subjects are {list(subjects)}, expected some of {TRAIN}")
    if oracle and not validate:
        raise ValueError("training on the test data is not allowed: the oracle needs --validate")
    if data is None:
        if detections != "gt":
            raise ValueError("synthetic motion has exact 2D only: --detections needs --data")
        train, source, cross = synthetic.make(seed)
    else:
        folder = Path(data)
        train = load_h36m(folder, TRAIN, detections)
    if validate:
        others = [name for name in subjects if name != HELD_OUT]
        chosen, tests = validation(train, others, validate, seed, clips, detections != "gt")
        return oracle_training_set(train, others, clips) if oracle else chosen, tests
    if data is None:
        tests = {"source": source, "cross": cross}
    else:
        tests = {"source": load_h36m(folder, TEST, detections)}
        tests |= _cross_clips(folder) if clips else {"cross": load_cross_dataset(folder)}
        if detections != "gt" and not clips and (folder / CLIPS).exists():
            tests["cross det"] = _cross_clips(folder)["cross det"][::SHOT]
    return train[_rows_with(train.subject, subjects)], tests


def action_names(pairs: Pairs) -> NDArray[np.str_]:
    """(N,) action of each row without its number: "Walking 1" becomes "Walking"."""
    names, index = np.unique(pairs.action, return_inverse=True)
    return np.array([re.sub(r" \d+$", "", name) for name in names])[index]


def unlabelled(
    data: str | None,
    seed: int,
    *,
    validate: str | None = None,
    detections: str = "gt",
    clips: bool = False,
) -> Tensor:
    """2D poses (N, 16, 2) from where the cross-dataset test set comes from, none of them in it.

    They are clips of the same studio for `cross_a.npz`, and `cross_a.npz` for these clips; other
    people of the same kind for synthetic motion, and other takes of the same skeleton for the
    `target` of `validation`.

    Args:
        data, seed, validate, clips: as in `splits`.
        detections: `gt` for exact 2D, `det` for 2D as a detector would see it. That of
            `cross_a.npz` is always exact.

    Raises:
        ValueError: there are no detections of this 2D.
        FileNotFoundError: the folder has no clips of the cross-dataset test set.
    """
    folder = None if data is None else Path(data)
    if detections != "gt" and (validate or folder is None):
        raise ValueError("this 2D is exact only: use --detections gt")
    if validate:
        pairs = synthetic.make(seed)[0] if folder is None else load_h36m(folder, TRAIN)
        _, unknown = _held_out(pairs, validate)
        return refilmed(pairs[unknown], seed, unlabelled=True, clips=clips).pose_2d
    if folder is None:
        return synthetic.make(seed + 1000)[2].pose_2d
    if clips:
        return load_test("cross", folder).pose_2d
    return _cross_clips(folder)["cross" if detections == "gt" else "cross det"].pose_2d


def _cross_clips(folder: Path) -> dict[str, Pairs]:
    """The clips of `cross_a_clips.npz` with exact and with detected 2D."""
    file = load_arrays(folder / CLIPS)
    fields = [file[name] for name in ("pose3d", "cam", "action")]
    return {
        name: Pairs.from_clips(
            (pose_2d, pose_3d, camera, "cross_a_clips", str(action))
            for pose_2d, pose_3d, camera, action in zip(file[kind], *fields)
        )
        for name, kind in (("cross", "pose2d"), ("cross det", "pose2d_det"))
    }


def validation(
    pairs: Pairs,
    subjects: Sequence[str],
    hold_out: str = "actions",
    seed: int = 0,
    clips: bool = False,
    detected: bool = False,
) -> Split:
    """Split the training pairs for validation, equally in every run on the same files.

    S8 is held out. With `hold_out="actions"`, the `rarest_actions` of all subjects are as well: the
    tests have poses that training lacks. With `hold_out="subject"`, training has all actions, as
    before the final tests. Test sets:

    - `source`: S8 as recorded, in the actions of training.
    - `views`: the same, re-rendered with other bodies and cameras.
    - `cross`: all subjects in the held-out actions, re-rendered: new poses, bodies and views. If
      none is held out, S8 once more.
    - `studio`: the same with offset trunk joints, which imitates another joint definition.
    - `target`: every second take of the same on the skeleton of another data set, see `refilmed`.
      `unlabelled` gives the 2D of the others.

    Args:
        pairs: the pairs of all training subjects.
        subjects: those to train on.
        hold_out: one of `VALIDATION`.
        seed: of the skeleton of `target`.
        clips: Re-render clips, see `rerender`.
        detected: Add a test `cross det`, which is `cross` with detection errors of S8.

    Raises:
        ValueError: No subject is left for training.
    """
    if not subjects:
        raise ValueError(f"validation holds {HELD_OUT} out: select another training subject")
    is_known, is_unknown = _held_out(pairs, hold_out)
    known, unknown = pairs[is_known], pairs[is_unknown]
    tests = {
        "source": known,
        "views": rerender(known, seed=1, clips=clips),
        "cross": rerender(unknown, seed=2, clips=clips),
        "studio": rerender(unknown, seed=3, joint_offset=JOINT_OFFSET, clips=clips),
        "target": refilmed(unknown, seed, clips=clips),
    }
    if detected:
        tests["cross det"] = _with_errors(tests["cross"], known)
    return pairs[_rows_with(pairs.subject, subjects) & ~is_unknown], tests


def _held_out(pairs: Pairs, hold_out: str) -> tuple[Tensor, Tensor]:
    """(N,) bool each: the rows of `source` and `views`, and those of the other tests."""
    subject = _rows_with(pairs.subject, [HELD_OUT])
    if hold_out == "subject":
        return subject, subject
    rare = _rows_with(action_names(pairs), rarest_actions(pairs))
    return subject & ~rare, rare


def _with_errors(exact: Pairs, detected: Pairs) -> Pairs:
    """Add to each row the detection error of a random row, scaled with the person's size."""
    error = detected.pose_2d - project(detected.pose_3d, detected.camera)
    rows = torch.randint(len(error), (len(exact),), generator=torch.Generator().manual_seed(5))
    scale = _screen_units(exact) / _screen_units(detected)[rows]
    return replace(exact, pose_2d=exact.pose_2d + error[rows] * scale)


def _screen_units(pairs: Pairs) -> Tensor:
    """(N, 1, 2) screen units of a metre at the depth of the root."""
    return pairs.camera[:, None, :2] / pairs.pose_3d[:, :1, 2:]


def oracle_training_set(pairs: Pairs, subjects: Sequence[str], clips: bool = False) -> Pairs:
    """A training set with the distribution of the tests of `validation`: an upper bound.

    The subjects in all actions, re-rendered six times as the tests are, every second time with
    offset trunk joints.
    """
    selected = pairs[_rows_with(pairs.subject, subjects)]
    settings = ((100 + i, JOINT_OFFSET * (i % 2)) for i in range(6))
    return Pairs.from_clips(
        [s for seed, offset in settings for s in _shots(selected, seed, offset, clips=clips)]
    )


def rarest_actions(pairs: Pairs) -> list[str]:
    """Half of the actions, rounded down: those furthest from the mean pose of all pairs."""
    (pose, axes), action = directions(pairs.pose_3d, _SKELETON), action_names(pairs)
    statistics = PoseStatistics(_SKELETON, pose.device)
    statistics.add(pose, axes, torch.ones(len(pose), dtype=torch.bool))
    rarity = statistics.rarity(pose)
    order = sorted(set(action), key=lambda name: float(rarity[_rows_with(action, [name])].mean()))
    return order[-(len(order) // 2) :]


def refilmed(pairs: Pairs, seed: int, unlabelled: bool = False, clips: bool = False) -> Pairs:
    """Render the motion as another data set would have it: with one other skeleton for all people.

    Its joints lie elsewhere in the body and its limbs have other lengths, by steps of the size of
    `DEFINITION` and `LIMBS`, drawn once. On top, bodies and cameras differ as in `rerender`.

    Args:
        pairs: Pairs of Human3.6M's four cameras.
        seed: Seed of the skeleton, the bodies and the cameras.
        unlabelled: Render every second take of the subjects, beginning with the second; False:
            beginning with the first.
        clips: As in `rerender`.
    """
    rows = list(zip(pairs.subject.tolist(), pairs.action.tolist()))
    takes = set(sorted(set(rows))[unlabelled::2])
    rng = np.random.default_rng([seed, 7])
    std = torch.zeros(16, 3, dtype=torch.float64)
    std[_LEFT + _RIGHT] = torch.tensor([DEFINITION["hip"], DEFINITION["shoulder"]] * 2).double()
    std[_MIDDLE] = torch.tensor([DEFINITION[part] for part in ("spine", "thorax", "head")]).double()
    offset = mirrored(std * torch.from_numpy(rng.standard_normal((16, 3))), _SKELETON)
    limb = torch.ones(_SKELETON.num_groups, dtype=torch.float64)
    limb[_LIMBS] += LIMBS * torch.from_numpy(rng.standard_normal(len(_LIMBS)))

    def other_skeleton(world: Tensor) -> Tensor:
        return stretch(shift(world, offset, _SKELETON), limb - 1, _SKELETON)

    chosen = pairs[torch.tensor([row in takes for row in rows])]
    shots = _shots(chosen, 1000 + 2 * seed + unlabelled, change=other_skeleton, clips=clips)
    return Pairs.from_clips(shots)


def rerender(pairs: Pairs, seed: int, joint_offset: float = 0.0, clips: bool = False) -> Pairs:
    """Render the motion with other bodies and other cameras. The 2D is exact.

    Every ten frames form a shot with its own body (size within 12 %, each mirrored pair of bones
    within 8 %) and its own camera (no distortion, 0.2 to 3 m high, 2.6 to 5.5 m away, any azimuth,
    focal length 1.3 to 2.2). Frames with a joint outside the image are dropped.

    Args:
        pairs: Pairs of Human3.6M's four cameras. Only rows of the first camera are used.
        seed: Seed of bodies and cameras.
        joint_offset: Standard deviation in metres. Hips, shoulders, spine, thorax and head of a
            shot are moved in the body frame by a normal sample per axis, left and right mirrored.
        clips: Shots are of up to 81 consecutive frames of one clip. Those with a joint outside the
            image in any frame are dropped, so that no window has a gap.
    """
    return Pairs.from_clips(_shots(pairs, seed, joint_offset, clips=clips))


def _shots(
    pairs: Pairs,
    seed: int,
    joint_offset: float = 0.0,
    change: Callable[[Tensor], Tensor] = lambda world: world,
    clips: bool = False,
) -> list[Clip]:
    rng = np.random.default_rng(seed)
    shots: list[Clip] = []
    for subject in sorted(set(pairs.subject.tolist())):
        camera = cameras(subject)[0]
        first = (pairs.camera == torch.tensor(camera.intrinsics, dtype=torch.float32)).all(1)
        selected = pairs[_rows_with(pairs.subject, [subject]) & first]
        rotation, position = torch.tensor(camera.rotation), torch.tensor(camera.position)
        world = change(selected.pose_3d.double() @ rotation.T + position)
        rows = torch.arange(len(selected))
        takes = rows.split(clip_bounds(selected)[1].tolist()) if clips else [rows]
        for frames in (shot for take in takes for shot in take.split(CLIP if clips else SHOT)):
            body = _offset_joints(rng, _other_body(rng, world[frames]), joint_offset).numpy()
            action = str(selected.action[int(frames[0])])
            view = synthetic.random_camera(rng, body)
            shot = synthetic.film(body, view, subject, action)
            if not clips or len(shot[0]) == len(body):
                shots.append(shot)
    return shots


def _other_body(rng: np.random.Generator, world: Tensor) -> Tensor:
    """(T, 16, 3) metres, z up: the same motion with other bone lengths, feet at the same height."""
    size = 1 + 0.12 * rng.uniform(-1, 1)
    bones = 1 + 0.08 * rng.uniform(-1, 1, _SKELETON.num_groups)
    body = stretch(world, torch.tensor(size * bones - 1).expand(len(world), -1), _SKELETON)
    body[..., 2] += (world[..., 2].amin(1) - body[..., 2].amin(1))[:, None]
    return body


def _offset_joints(rng: np.random.Generator, world: Tensor, std: float) -> Tensor:
    """Offset the trunk joints of (T, 16, 3) in the body frame, equally in all frames."""
    if not std:
        return world
    sample = std * torch.from_numpy(rng.standard_normal((16, 3)))
    offset = torch.zeros_like(sample)
    moved = _LEFT + _RIGHT + _MIDDLE
    offset[moved] = mirrored(sample, _SKELETON)[moved]
    return shift(world, offset, _SKELETON)


_SKELETON = Skeleton.of("h36m_16")
_LEFT, _RIGHT, _MIDDLE = [4, 10], [1, 13], [7, 8, 9]  # hips and shoulders; spine, thorax, head
_LIMBS = [1, 2, 7, 8]  # mirror groups of thighs, shins, upper arms and forearms


def _rows_with(column: NDArray[np.str_], names: Sequence[str]) -> Tensor:
    """(N,) bool: whether the entry of a row is among the names."""
    return torch.from_numpy(np.isin(column, list(names)))
