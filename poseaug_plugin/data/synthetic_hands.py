"""Synthetic right hands of 21 joints (`hand_21`), animated by finger angles.

A studio with four cameras around the hand for training, and webcams that see other hands, other
gestures and other orientations for testing. As the synthetic people, they show that the plugin
works, not how good a method is.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .filming import Floats, Views, film, look_at, rotation

__all__ = ["make"]

#: Bone lengths of each finger from the wrist to the tip, metres, in a hand of 0.18 m; thumb first.
BONES = np.array(
    [
        (0.035, 0.045, 0.032, 0.026),
        (0.090, 0.043, 0.025, 0.022),
        (0.088, 0.047, 0.029, 0.023),
        (0.082, 0.043, 0.027, 0.023),
        (0.078, 0.033, 0.020, 0.020),
    ]
)
#: Direction of each finger in the plane of the palm, degrees from the middle finger to the thumb.
SPREAD = np.array([50.0, 14.0, 2.0, -9.0, -20.0])
#: Bends of the three joints of a closed finger, degrees; the thumb closes less.
CLOSED = np.array([(25.0, 40.0, 55.0), *[(75.0, 100.0, 60.0)] * 4])

#: How far each finger is closed, 0 to 1, from thumb to little finger.
STUDIO_GESTURES = {
    "open": (0, 0, 0, 0, 0),
    "relaxed": (0.3, 0.3, 0.35, 0.4, 0.45),
    "fist": (0.9, 1, 1, 1, 1),
    "point": (0.8, 0, 1, 1, 1),
    "grasp": (0.6, 0.5, 0.5, 0.5, 0.5),
}
OTHER_GESTURES = {
    "victory": (0.9, 0, 0, 1, 1),
    "thumb up": (0, 1, 1, 1, 1),
    "call": (0, 1, 1, 1, 0),
    "three": (0.9, 0, 0, 0, 1),
    "ok": (0.8, 0.75, 0.1, 0.05, 0),
}


def make(seed: int = 0) -> tuple[Views, Views, Views]:
    """Generate about 10,000 training, 2,500 in-domain and 2,500 cross-dataset test pairs.

    Args:
        seed: Non-negative. Equal seeds give bitwise equal data.
    """
    train, test, cross = (np.random.default_rng([seed, i]) for i in range(3))
    return (
        _studio(train, people=6, clips=42),
        _studio(test, people=3, clips=21),
        _webcams(cross, 250),
    )


def _studio(rng: np.random.Generator, people: int, clips: int) -> Views:
    """Hands that mostly point up, seen by four cameras half a metre away."""
    rigs = [
        look_at((0.5 * np.cos(a), 0.5 * np.sin(a), z), (0, 0, 0.05), 1.9)
        for a, z in zip(np.deg2rad((45, 135, 225, 315)), (0.25, 0.15, 0.3, 0.2))
    ]
    shots = []
    for person in range(people):
        body = _body(rng, size=(0.94, 1.08, 1.0, 0.9, 1.12, 0.97)[person], spread=0.03)
        for _ in range(clips):
            world = _animate(rng, body, STUDIO_GESTURES, frames=12, tilt=25)
            world = world + rng.normal(0, 0.04, 3)
            shots += [film(world, camera) for camera in rigs]
    return Views.join(shots)


def _webcams(rng: np.random.Generator, clips: int) -> Views:
    """Hands in any direction, each seen by a camera of its own, 0.3 to 0.9 m away."""
    shots = []
    for _ in range(clips):
        body = _body(rng, size=rng.uniform(0.8, 1.15), spread=0.06)
        world = _animate(rng, body, OTHER_GESTURES, frames=12, tilt=50)
        azimuth, elevation = rng.uniform(-180, 180), rng.uniform(-15, 45)
        away = rotation("z", azimuth) @ rotation("y", -elevation) @ [rng.uniform(0.3, 0.9), 0, 0]
        off = rng.uniform(-1, 1, 3) * (12, 9, 15)
        shots.append(film(world, look_at(away, world.mean((0, 1)), rng.uniform(1.3, 2.2), off)))
    return Views.join(shots)


def _body(rng: np.random.Generator, size: float, spread: float) -> Floats:
    """Bone lengths (5, 4), metres."""
    lengths: Floats = size * BONES * (1 + spread * np.clip(rng.normal(size=BONES.shape), -2, 2))
    return lengths


def _animate(
    rng: np.random.Generator,
    body: Floats,
    gestures: Mapping[str, tuple[float, ...]],
    frames: int,
    tilt: float,
) -> Floats:
    """(frames, 21, 3) in the world: from one gesture to another, around a random direction.

    Args:
        tilt: standard deviation of the angle between the hand and the vertical, degrees.
    """
    names = list(gestures)
    first, last = (np.array(gestures[names[i]]) for i in rng.choice(len(names), 2))
    time = np.linspace(0, 1, frames)[:, None]
    closed = first + (last - first) * (1 - np.cos(np.pi * time)) / 2 + rng.normal(0, 0.08, 5)
    bends = np.clip(closed, -0.1, 1.1)[..., None] * CLOSED + rng.normal(0, 6, (5, 3))
    spread = SPREAD + rng.normal(0, 4, 5) + rng.normal(0, 4)
    hand = _forward_kinematics(bends, spread, body)
    about = rng.uniform(-180, 180)
    turn = rotation("z", rng.uniform(-180, 180) + np.linspace(0, rng.normal(0, 30), frames))
    lean = rotation("z", about) @ rotation("x", rng.normal(0, tilt)) @ rotation("z", -about)
    world: Floats = hand @ np.swapaxes(lean @ turn, 1, 2)
    return world


def _forward_kinematics(bends: Floats, spread: Floats, body: Floats) -> Floats:
    """Joints (T, 21, 3) of hands: the middle finger along z, the thumb towards x, the palm to -y.

    Args:
        bends: (T, 5, 3), degrees.
        spread: (5,), degrees from z towards x.
        body: (5, 4), metres.
    """
    joints = [np.zeros((len(bends), 3))]
    for finger in range(5):
        across = rotation("y", spread[finger])
        # The thumb lies in front of the palm and bends across it.
        plane = rotation("z", -60.0 if finger == 0 else 0.0)
        start = 30.0 if finger == 0 else 0.0
        angles = np.concatenate([np.full((len(bends), 1), start), bends[:, finger]], 1).cumsum(1)
        point = joints[0]
        for bone in range(4):
            toward_palm = rotation("x", angles[:, bone]) @ [0, 0, 1]
            point = point + body[finger, bone] * toward_palm @ (across @ plane).T
            joints.append(point)
    return np.stack(joints, axis=1)
