"""What the benchmark trains on and tests on, and the split on which choices are made.

Tests are the source's own (S9, S11) and another studio's. Choices never look at them: `validation`
leaves S8, and the half of the kinds of action whose poses are the rarest, out of the training set,
and tests on them: as filmed, in views and bodies that the studio has not, and with joints defined
as no studio defines them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poseaug_plugin import Skeleton
from poseaug_plugin.augment.pose_statistics import Repertoire
from poseaug_plugin.data import synthetic as embedded
from poseaug_plugin.data.cross_dataset import load_unseen
from poseaug_plugin.data.h36m import TEST, TRAIN, Clip, Pairs, load_h36m
from poseaug_plugin.data.h36m_cameras import cameras
from poseaug_plugin.geometry.bones import directions
from poseaug_plugin.geometry.operators import shift, stretch

__all__ = ["HELD_OUT", "kinds", "known", "rarest", "refilmed", "splits", "validation"]

HELD_OUT = "S8"  # the training subject that choices are made on
SHOT = 10  # frames before one camera, refilmed
MOVED = 0.025  # metres, per axis: how far another studio puts the joints of the trunk

Split = tuple[Pairs, dict[str, Pairs]]


def splits(
    data: str | None,
    seed: int,
    *,
    subjects: Sequence[str] = TRAIN,
    detections: str = "gt",
    validate: bool = False,
    oracle: bool = False,
) -> Split:
    """Training pairs and named test sets, `source` and `cross` among them.

    Args:
        data: folder of Human3.6M's files with a cross-dataset test beside them
            (`cross_files.TESTS`); None: embedded, made from `seed`.
        subjects: of the training set, among S1 S5 S6 S7 S8.
        detections: the source's 2D: `gt` or `det`; the cross-dataset test has exact 2D alone.
        validate: the split of `validation` instead of the tests.
        oracle: the training set of one who knows that split's tests (`known`).

    Raises:
        ValueError: no such subject, no detections in the embedded set, nothing to train on, or an
            oracle of the tests themselves.
    """
    if not set(subjects) <= set(TRAIN):
        raise ValueError(f"subjects are {list(subjects)}, expected some of {TRAIN}")
    if oracle and not validate:
        raise ValueError("what the tests hold is not trained on: the oracle needs --validate")
    if data is None:
        if detections != "gt":
            raise ValueError("the embedded set has exact 2D alone; --detections needs --data")
        train, source, cross = embedded.make(seed)
    else:
        folder = Path(data)
        train = load_h36m(folder, TRAIN, detections)
    if validate:
        others = [name for name in subjects if name != HELD_OUT]
        chosen, tests = validation(train, others)
        return known(train, others) if oracle else chosen, tests
    if data is not None:
        source, cross = load_h36m(folder, TEST, detections), load_unseen(folder)
    return train[_among(train.subject, subjects)], {"source": source, "cross": cross}


def kinds(pairs: Pairs) -> NDArray[np.str_]:
    """(N,) the action of each row without its number: "Walking 1" is Walking."""
    names, place = np.unique(pairs.action, return_inverse=True)
    return np.array([re.sub(r" \d+$", "", name) for name in names])[place]


def validation(pairs: Pairs, subjects: Sequence[str]) -> Split:
    """A split of the training pairs to choose on; the same in every run on the same files.

    The `rarest` kinds of action are left out. Test sets:

    - `source`: S8 in the other kinds of action, as filmed.
    - `views`: the same, refilmed.
    - `cross`: all subjects in the kinds left out, refilmed: new pose, new body, new view.
    - `studio`: the same with the joints of the trunk elsewhere: also a new definition of them.

    Raises:
        ValueError: no subject is left to train on.
    """
    if not subjects:
        raise ValueError(f"validation leaves {HELD_OUT} out: name another subject to train on")
    left_out = _among(kinds(pairs), rarest(pairs))
    seen, unseen = pairs[_among(pairs.subject, [HELD_OUT]) & ~left_out], pairs[left_out]
    return pairs[_among(pairs.subject, subjects) & ~left_out], {
        "source": seen,
        "views": refilmed(seen, seed=1),
        "cross": refilmed(unseen, seed=2),
        "studio": refilmed(unseen, seed=3, moved=MOVED),
    }


def known(pairs: Pairs, subjects: Sequence[str]) -> Pairs:
    """A training set for which no test of `validation` is new in kind: as far as one could go.

    The subjects in all kinds of action, refilmed six times as the tests are, each second time with
    the joints of the trunk elsewhere.
    """
    theirs = pairs[_among(pairs.subject, subjects)]
    times = ((100 + i, MOVED * (i % 2)) for i in range(6))
    return Pairs.gather([shot for seed, moved in times for shot in _shots(theirs, seed, moved)])


def rarest(pairs: Pairs) -> list[str]:
    """Half of the kinds of action, or one less: those furthest from the mean pose of all pairs."""
    (pose, axes), kind = directions(pairs.pose_3d, _SKELETON), kinds(pairs)
    found = Repertoire(_SKELETON, pose.device)
    found.add(pose, axes, torch.ones(len(pose), dtype=torch.bool))
    rarity = found.rarity(pose)
    order = sorted(set(kind), key=lambda name: float(rarity[_among(kind, [name])].mean()))
    return order[-(len(order) // 2) :]


def refilmed(pairs: Pairs, seed: int, moved: float = 0.0) -> Pairs:
    """The motion as other bodies before other cameras; exact 2D.

    Every ten frames are a shot with a body (size within 12 %, each mirrored pair of bones within
    8 %) and a camera of its own: plain, 0.2 to 3 m high, 2.6 to 5.5 m away, from any side, focal
    length 1.3 to 2.2. Frames with a joint out of view are dropped.

    Args:
        pairs: filmed by Human3.6M's four cameras; the first one's rows are taken.
        moved: metres; hips, shoulders, spine, thorax and head of a shot lie elsewhere in the body,
            by a normal draw of this size on each axis, left and right mirrored.
    """
    return Pairs.gather(_shots(pairs, seed, moved))


def _shots(pairs: Pairs, seed: int, moved: float) -> list[Clip]:
    rng = np.random.default_rng(seed)
    shots: list[Clip] = []
    for subject in sorted(set(pairs.subject.tolist())):
        camera = cameras(subject)[0]
        first = (pairs.camera == torch.tensor(camera.intrinsics, dtype=torch.float32)).all(1)
        theirs = pairs[_among(pairs.subject, [subject]) & first]
        rotation, position = torch.tensor(camera.rotation), torch.tensor(camera.position)
        world = theirs.pose_3d.double() @ rotation.T + position
        for frames in torch.arange(len(theirs)).split(SHOT):
            body = _redefined(rng, _other_body(rng, world[frames]), moved).numpy()
            action = str(theirs.action[int(frames[0])])
            shots.append(embedded.film(body, embedded.roaming_camera(rng, body), subject, action))
    return shots


def _other_body(rng: np.random.Generator, world: Tensor) -> Tensor:
    """(T, 16, 3) metres, z up: the same motion with other bones, feet where they were."""
    size = 1 + 0.12 * rng.uniform(-1, 1)
    limbs = 1 + 0.08 * rng.uniform(-1, 1, _SKELETON.num_groups)
    body = stretch(world, torch.tensor(size * limbs - 1).expand(len(world), -1), _SKELETON)
    body[..., 2] += (world[..., 2].amin(1) - body[..., 2].amin(1))[:, None]
    return body


def _redefined(rng: np.random.Generator, world: Tensor, moved: float) -> Tensor:
    """(T, 16, 3): the joints of the trunk moved in the body's own axes, all frames alike."""
    if not moved:
        return world
    step = moved * torch.from_numpy(rng.standard_normal((16, 3)))
    offset = torch.zeros_like(step)
    offset[_LEFT], offset[_RIGHT] = step[_LEFT], step[_LEFT] * torch.tensor([-1.0, 1.0, 1.0])
    offset[_MIDDLE] = step[_MIDDLE] * torch.tensor([0.0, 1.0, 1.0])
    return shift(world, offset, _SKELETON)


_SKELETON = Skeleton.of("h36m_16")
_LEFT, _RIGHT, _MIDDLE = [4, 10], [1, 13], [7, 8, 9]  # hips and shoulders; spine, thorax, head


def _among(names: NDArray[np.str_], wanted: Sequence[str]) -> Tensor:
    return torch.from_numpy(np.isin(names, list(wanted)))
