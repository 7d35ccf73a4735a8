"""Synthetic four-legged animals of 23 joints, of the build of dogs, animated by joint angles.

Body frame: metres, x forward, y left, z up. Angles are in degrees.
"""

from __future__ import annotations

import numpy as np

from poseaug_plugin import Skeleton
from poseaug_plugin.data.filming import Floats, rotation

__all__ = ["CROSS_GAITS", "SKELETON", "SOURCE_GAITS", "animate", "body"]

#: Pelvis, hind legs of the right and the left side, back, withers, neck, head, forelegs of both
#: sides, tail, tip of the tail.
SKELETON = Skeleton(
    (-1, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 10, 13, 14, 15, 10, 17, 18, 19, 0, 21),
    left=(5, 6, 7, 8, 17, 18, 19, 20),
    right=(1, 2, 3, 4, 13, 14, 15, 16),
)

#: Bone lengths of an animal with a back of 0.5 m, metres.
BONES = {
    "hip": 0.06,
    "thigh": 0.19,
    "shank": 0.19,
    "hindfoot": 0.14,
    "back": 0.25,
    "withers": 0.25,
    "neck": 0.18,
    "head": 0.18,
    "shoulder": 0.07,
    "upper arm": 0.17,
    "forearm": 0.19,
    "forefoot": 0.09,
    "tail": 0.15,
    "tip": 0.15,
}

# Angles of the segments of hind and fore legs forward from straight down; pitch of the trunk, the
# neck and the head upward; of the tail below the horizontal: (mean, amplitude of the gait).
Gait = dict[str, tuple[float, float]]
STANDING: Gait = {
    "thigh": (25, 0),
    "shank": (-35, 0),
    "hindfoot": (12, 0),
    "upper arm": (-25, 0),
    "forearm": (8, 0),
    "forefoot": (0, 0),
    "trunk": (0, 0),
    "neck": (45, 5),
    "head": (-10, 5),
    "tail": (30, 10),
}
SOURCE_GAITS: dict[str, Gait] = {
    "stand": STANDING,
    "walk": STANDING | {"thigh": (25, 18), "shank": (-35, 14), "upper arm": (-20, 18)},
    "trot": STANDING | {"thigh": (25, 28), "shank": (-40, 25), "upper arm": (-15, 28)},
    "sniff": STANDING | {"thigh": (25, 8), "neck": (-35, 10), "head": (-40, 10), "trunk": (-5, 3)},
}
CROSS_GAITS: dict[str, Gait] = {
    "sit": STANDING
    | {"thigh": (75, 5), "shank": (-70, 5), "hindfoot": (70, 5)}
    | {"trunk": (40, 5), "neck": (70, 15)},
    "lie": STANDING
    | {"thigh": (80, 5), "shank": (-95, 5), "hindfoot": (85, 5)}
    | {"upper arm": (-70, 8), "forearm": (80, 8)},
    "gallop": STANDING
    | {"thigh": (20, 45), "shank": (-50, 35), "trunk": (0, 10)}
    | {"upper arm": (-10, 45), "forearm": (20, 30)},
    "rear": STANDING
    | {"trunk": (45, 15), "neck": (50, 15), "upper arm": (30, 30), "forearm": (-40, 30)},
}


def body(rng: np.random.Generator, size: float, spread: float) -> dict[str, float]:
    """Bone lengths in metres of an animal `size` times as large as that of `BONES`."""
    return {
        name: size * length * (1 + spread * float(np.clip(rng.normal(), -2, 2)))
        for name, length in BONES.items()
    }


def animate(rng: np.random.Generator, gait: Gait, bones: dict[str, float], frames: int) -> Floats:
    """(frames, 23, 3) in the world, on the ground near the origin, in a random heading."""
    phase = rng.uniform(0, 2 * np.pi) + np.linspace(0, rng.uniform(2, 7), frames)

    def swing(name: str, shift: float = 0.0) -> Floats:
        mean, amplitude = gait[name]
        offset = rng.normal(0, 5)
        angle: Floats = mean + offset + rng.uniform(0.8, 1.1) * amplitude * np.sin(phase + shift)
        return angle

    def along(name: str, pitch: Floats, yaw: Floats) -> Floats:
        p, y = np.deg2rad(pitch), np.deg2rad(yaw)
        unit = np.stack([np.cos(p) * np.cos(y), np.cos(p) * np.sin(y), np.sin(p)], 1)
        segment: Floats = bones[name] * unit
        return segment

    side = rng.normal(0, 10) + 8 * np.sin(phase)  # the back bends sideways
    trunk = swing("trunk")
    pelvis = np.zeros((frames, 3))
    back = pelvis + along("back", trunk, side / 2)
    withers = back + along("withers", trunk + rng.normal(0, 4), side)
    turned = side + rng.normal(0, 20)
    neck = withers + along("neck", trunk / 2 + swing("neck"), turned)
    head = neck + along("head", swing("head"), turned + rng.normal(0, 15))
    wag = 180 + rng.normal(0, 15) + 20 * np.sin(2 * phase)
    tail = pelvis + along("tail", -swing("tail"), wag)
    tip = tail + along("tip", -swing("tail"), wag + rng.normal(0, 10))

    def leg(root: Floats, names: str, sign: float, half: str, shift: float) -> list[Floats]:
        out = np.deg2rad(sign * np.abs(rng.normal(4, 3)))
        yaw = np.zeros(frames) if half == "hip" else side
        start = root + along(half, np.zeros(frames), yaw + 90 * sign)
        points = [start]
        for name in names.split(","):
            angle = np.deg2rad(swing(name, shift))
            step = np.stack([np.sin(angle), np.sin(out) * np.cos(angle), -np.cos(angle)], 1)
            points.append(points[-1] + bones[name] * step)
        return points

    hind, fore = "thigh,shank,hindfoot", "upper arm,forearm,forefoot"
    right_hind, left_hind = leg(pelvis, hind, -1, "hip", 0.0), leg(pelvis, hind, 1, "hip", np.pi)
    right_fore = leg(withers, fore, -1, "shoulder", np.pi)
    left_fore = leg(withers, fore, 1, "shoulder", 0.0)
    joints = [pelvis, *right_hind, *left_hind, back, withers, neck, head]
    joints += [*right_fore, *left_fore, tail, tip]
    heading = rng.uniform(-180, 180) + np.linspace(0, rng.normal(0, 25), frames)
    world: Floats = np.stack(joints, 1) @ np.swapaxes(rotation("z", heading), 1, 2)
    world[..., 2] += 0.03 - world[..., 2].min(axis=1, keepdims=True)
    return world
