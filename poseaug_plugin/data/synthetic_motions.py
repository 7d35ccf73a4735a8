"""Joint limits, bodies and key poses of the synthetic people.

Body frame: x forward, y left, z up. World: metres, z up. Angles are in degrees. Joints are the 16
of Human3.6M: pelvis, right hip, knee, ankle, left hip, knee, ankle, spine, thorax, head, left
shoulder, elbow, wrist, right shoulder, elbow, wrist.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FPS = 10.0
ANKLE_HEIGHT = 0.08  # metres; height of the lowest joint above the ground

# angle: (minimum, maximum, standard deviation between people), degrees
TRUNK_ANGLES = {
    "pitch": (-95, 60, 3),  # the whole body, forward
    "roll": (-40, 40, 2),  # the whole body, to its right
    "bend": (-30, 85, 5),  # spine, forward
    "side": (-35, 35, 4),  # spine, to its right
    "twist": (-45, 45, 6),  # spine, to its left
    "nod": (-30, 45, 8),  # head, forward
}
# The same for the left and the right limb, which are adjacent columns in an array of angles.
LIMB_ANGLES = {
    "hip": (-30, 125, 6),  # thigh forward
    "spread": (-10, 55, 3),  # thigh outward
    "toe": (-20, 45, 6),  # thigh about its own axis, outward
    "knee": (0, 145, 6),
    "raised": (-50, 175, 10),  # upper arm forward
    "out": (-15, 150, 8),  # upper arm outward
    "inward": (-85, 80, 12),  # upper arm about its own axis
    "elbow": (0, 145, 12),
}
COLUMN = {name: i for i, name in enumerate(TRUNK_ANGLES)}
COLUMN.update({name: len(TRUNK_ANGLES) + 2 * i for i, name in enumerate(LIMB_ANGLES)})
ANGLE_MIN, ANGLE_MAX, ANGLE_STD = np.array(
    [*TRUNK_ANGLES.values(), *(row for row in LIMB_ANGLES.values() for _ in "LR")], dtype=np.float64
).T

TRAIN_STATURES = {"S1": 1.74, "S5": 1.62, "S6": 1.80, "S7": 1.86, "S8": 1.68}  # metres
TEST_STATURES = {"S9": 1.77, "S11": 1.65}

# Length of each bone of a person of one metre.
BONE_LENGTHS = {
    "pelvis": 0.068,
    "thigh": 0.250,
    "shin": 0.240,
    "spine": 0.132,
    "chest": 0.142,
    "neck": 0.125,
    "shoulder": 0.090,
    "upper arm": 0.160,
    "forearm": 0.143,
}


def _pose(**angles: float | tuple[float, float]) -> Floats:
    """(22,) angles: standing at rest except for the given ones, one number or (left, right)."""
    pose = np.zeros(len(ANGLE_MIN))
    rest = {"hip": 2, "spread": 4, "toe": 8, "knee": 5, "out": 9, "inward": 15, "elbow": 15}
    for name, value in {**rest, **angles}.items():
        column = COLUMN[name]
        pose[column : column + 1 + (name in LIMB_ANGLES)] = value
    return pose


def mirror(pose: Floats) -> Floats:
    """Exchange left and right in (..., 22) angles."""
    trunk = len(TRUNK_ANGLES)
    columns = np.arange(len(ANGLE_MIN))
    columns[trunk:] = columns[trunk:].reshape(-1, 2)[:, ::-1].ravel()
    signs = np.ones(len(ANGLE_MIN))
    signs[[COLUMN[name] for name in ("roll", "side", "twist")]] = -1
    mirrored: Floats = pose[..., columns] * signs
    return mirrored


@dataclass(frozen=True)
class Motion:
    """A cycle of key poses."""

    seconds: float  # per cycle
    keys: tuple[Floats, ...]
    mirrored: bool = False  # whether the mirrored keys follow
    speed: float = 0.0  # metres per second
    yaw_rate: float = 12.0  # degrees per second


_REST = _pose()
SOURCE_MOTIONS: dict[str, Motion] = {
    "Walking": Motion(
        1.2,
        (
            _pose(hip=(27, -16), knee=(6, 20), raised=(-22, 24), elbow=(12, 30), twist=6, bend=3),
            _pose(hip=(4, 20), knee=(8, 60), raised=(0, 4), elbow=(18, 20), bend=4),
        ),
        mirrored=True,
        speed=1.1,
        yaw_rate=75,
    ),
    "Turning": Motion(
        1.6,
        (_pose(hip=(22, 0), knee=(40, 6), twist=10), _pose(hip=(4, -4), raised=(8, -6))),
        mirrored=True,
        speed=0.2,
        yaw_rate=80,
    ),
    "Reaching": Motion(
        5.0,
        (
            _REST,
            _pose(raised=(5, 90), elbow=(20, 12), bend=14, twist=15),
            _pose(raised=(30, 30), elbow=(70, 75)),
            _pose(raised=(10, 155), elbow=(25, 15), bend=-4, side=-8, hip=(0, -6)),
            _pose(out=(10, 85), elbow=(30, 12), twist=-20),
        ),
    ),
    "Sitting": Motion(
        8.0,
        (
            _REST,
            _pose(hip=62, knee=76, bend=38, raised=35, elbow=35),
            _pose(hip=88, knee=88, bend=6, raised=25, elbow=60, inward=25),
            _pose(hip=86, knee=80, bend=14, raised=(55, 25), elbow=(85, 60), spread=10),
            _pose(hip=(88, 80), knee=(90, 55), bend=-6, raised=(20, 35), elbow=(60, 100)),
            _pose(hip=62, knee=76, bend=38, raised=35, elbow=35),
        ),
    ),
    "Picking up": Motion(
        5.0,
        (
            _REST,
            _pose(bend=72, hip=18, knee=22, raised=75, elbow=10, nod=-10),
            _pose(bend=15, hip=8, knee=12, raised=40, elbow=75),
            _pose(bend=48, hip=72, knee=88, raised=(62, 50), elbow=(12, 25), nod=-15),
        ),
    ),
    "Waving": Motion(
        1.8,
        (
            _pose(out=(9, 95), inward=(15, -75), elbow=(20, 45), side=-4),
            _pose(out=(9, 105), inward=(15, -80), elbow=(25, 100)),
        ),
    ),
    "Talking": Motion(
        3.5,
        (
            _pose(raised=(35, 15), elbow=(90, 60), inward=(30, 0), twist=8),
            _pose(raised=(15, 50), elbow=(55, 105), inward=(-15, 25), nod=10),
            _pose(raised=(10, 10), out=20, elbow=80, inward=(-20, 35), bend=8),
        ),
    ),
    "Phoning": Motion(
        5.0,
        (
            _pose(raised=(5, 45), out=(9, 25), elbow=(20, 135), inward=(15, 25), nod=8, side=5),
            _pose(raised=(25, 50), out=(9, 20), elbow=(80, 130), inward=(30, 30), hip=(10, -2)),
        ),
        speed=0.3,
        yaw_rate=45,
    ),
}
_GUARD: dict[str, float | tuple[float, float]] = {
    "raised": (45.0, 35.0),
    "elbow": 115.0,
    "inward": 30.0,
}
CROSS_MOTIONS: dict[str, Motion] = {
    "kick": Motion(
        2.0,
        (
            _pose(**_GUARD, hip=(18, -12), knee=(22, 24), toe=(5, 25)),
            _pose(**_GUARD, hip=(2, 88), knee=(14, 110), bend=8),
            _pose(raised=(40, -15), out=25, elbow=(100, 50), hip=(-8, 98), knee=(8, 8), bend=-18),
            _pose(**_GUARD, hip=(2, 80), knee=(14, 100), bend=5),
        ),
    ),
    "punch": Motion(
        1.6,
        (
            _pose(**_GUARD, hip=(22, -14), knee=(28, 26), twist=12, bend=8),
            _pose(
                raised=(88, 35), elbow=(6, 125), inward=30, hip=(28, -20), knee=(34, 18), twist=-32
            ),
            _pose(**_GUARD, hip=(20, -14), knee=(26, 26), bend=6),
            _pose(
                raised=(40, 88), elbow=(125, 6), inward=30, hip=(26, -18), knee=(32, 22), twist=35
            ),
        ),
    ),
    "bow": Motion(4.0, (_REST, _pose(bend=72, hip=10, knee=3, raised=8, out=5, elbow=8, nod=20))),
    "dance": Motion(
        2.4,
        (
            _pose(out=(120, 60), elbow=(30, 70), side=-14, hip=(14, -4), knee=(24, 8), spread=16),
            _pose(raised=(150, 20), out=(20, 80), inward=(-50, 60), twist=28, hip=12, knee=24),
        ),
        mirrored=True,
        speed=0.3,
        yaw_rate=100,
    ),
    "run": Motion(
        0.8,
        (
            _pose(hip=(50, -24), knee=(45, 40), raised=(-40, 42), elbow=90, bend=12, twist=10),
            _pose(hip=(10, 32), knee=(22, 100), raised=(0, 4), elbow=90, bend=14),
        ),
        mirrored=True,
        speed=1.5,
        yaw_rate=110,
    ),
    "crouch": Motion(
        5.0,
        (
            _pose(hip=30, knee=42, bend=16),
            _pose(hip=108, knee=128, bend=42, raised=65, elbow=30, spread=14, toe=20),
            _pose(hip=(86, 2), knee=(88, 96), bend=8, raised=(40, 10), elbow=(60, 30)),
        ),
    ),
    "recline": Motion(
        7.0,
        (
            _pose(pitch=-18, hip=(72, 95), knee=(20, 100), bend=20, raised=-15, elbow=15),
            _pose(pitch=-60, hip=(35, 30), knee=(20, 8), bend=20, raised=-30, out=20, elbow=50),
            _pose(pitch=-20, hip=100, knee=115, bend=40, raised=70, elbow=40, inward=30),
        ),
    ),
}
