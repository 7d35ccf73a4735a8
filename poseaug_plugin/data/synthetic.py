"""A data set that needs no files: people made of sticks and joint angles, filmed by known cameras.

It stands in for Human3.6M (seven people in one room, its own four cameras) and for a data set shot
elsewhere (other people, other motion, other cameras). A lifter trained on the first does clearly
worse on the second, as with real data. It shows that the plugin works, not how good a method is:
report numbers on real data only.

Frames, angles and joints are those of embedded_motions.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .h36m import Clip, Pairs
from .h36m_cameras import StudioCamera, cameras, project
from .synthetic_motions import (
    ANKLE_HEIGHT,
    BODY,
    COLUMN,
    ELSEWHERE,
    FPS,
    LEAST,
    LIMBS,
    MOST,
    SPREAD,
    STUDIO,
    TEST_STATURES,
    TRAIN_STATURES,
    TRUNK,
    Floats,
    Motion,
    mirrored,
)

Generator = np.random.Generator


def make(seed: int = 0) -> tuple[Pairs, Pairs, Pairs]:
    """About 20,000 training, 4,000 source test and 4,000 cross-dataset test pairs, in a second.

    Training: S1 S5 S6 S7 S8, source test: S9 S11, both in Human3.6M's room. Cross: people of other
    sizes (``P000``, ...) who do other things, each before another camera, 0.2 to 3 m high.
    Every joint is in front of the camera and in the frame. Uses no global random state.

    Args:
        seed: the same seed gives the same bits; not negative.
    """
    train = _studio(np.random.default_rng([seed, 0]), TRAIN_STATURES, clips=48)
    source = _studio(np.random.default_rng([seed, 1]), TEST_STATURES, clips=24)
    cross = _elsewhere(np.random.default_rng([seed, 2]), clips=210)
    return train, source, cross


def _studio(rng: Generator, statures: Mapping[str, float], clips: int) -> Pairs:
    """Each subject ``clips`` times for 2.2 seconds before the four cameras of Human3.6M."""
    shots = []
    for subject, stature in statures.items():
        body = _body(rng, stature + rng.uniform(-0.02, 0.02), spread=0.02)
        for clip in range(clips):
            action = list(STUDIO)[clip % len(STUDIO)]
            world = _perform(rng, STUDIO[action], body, frames=22)
            world[..., :2] += rng.normal(0, 0.5, 2)
            shots += [film(world, camera, subject, action) for camera in cameras(subject)]
    return Pairs.gather(shots)


def _elsewhere(rng: Generator, clips: int) -> Pairs:
    """``clips`` people of all sizes for 2 seconds each, everyone before a camera of their own."""
    shots = []
    for clip in range(clips):
        action = list(ELSEWHERE)[clip % len(ELSEWHERE)]
        body = _body(rng, np.clip(rng.normal(1.68, 0.16), 1.3, 2.0), spread=0.06)
        world = _perform(rng, ELSEWHERE[action], body, frames=20)
        shots.append(film(world, roaming_camera(rng, world), f"P{clip:03d}", action))
    return Pairs.gather(shots)


def film(world: Floats, camera: StudioCamera, subject: str, action: str) -> Clip:
    """What a camera sees of (T, 16, 3): the frames with every joint in view, half a metre away."""
    pose_3d = camera.to_camera(world)
    pose_2d = project(pose_3d, camera.intrinsics)
    seen = (np.abs(pose_2d).max(axis=(1, 2)) <= 1) & (pose_3d[..., 2].min(axis=1) > 0.5)
    return pose_2d[seen], pose_3d[seen], camera.intrinsics, subject, action


def roaming_camera(rng: Generator, world: Floats) -> StudioCamera:
    """A plain lens 2.6 to 5.5 m from the middle of (T, 16, 3), at 0.2 to 3 m, aimed beside it."""
    middle = world.mean(axis=(0, 1))
    focal = rng.uniform(1.3, 2.2)
    azimuth, height = rng.uniform(-np.pi, np.pi), rng.uniform(0.2, 3.0)
    rise = height - middle[2]
    # Far enough for head and feet to be in view, and never straight above.
    distance = rng.uniform(max(2.6, 1.6 * focal, 1.2 * abs(rise)), 5.5)
    reach = np.sqrt(distance**2 - rise**2)
    position = middle + np.array([reach * np.cos(azimuth), reach * np.sin(azimuth), rise])

    forward = (middle - position) / distance
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    straight = np.stack([right, np.cross(forward, right), forward], axis=1)
    # Aiming aside by these angles puts the person off the centre of the frame.
    aside, above, roll = rng.uniform(-1, 1, 3) * [11, 5, 4]
    rotation = straight @ _turn("y", aside) @ _turn("x", above) @ _turn("z", roll)
    centre = rng.uniform(-0.07, 0.07, 2)
    return StudioCamera(rotation, position, np.array([focal, focal, *centre, 0, 0, 0, 0, 0]))


def _body(rng: Generator, stature: float, spread: float) -> dict[str, float]:
    """Bone lengths in metres; proportions have a standard deviation of ``spread``."""
    vary = 1 + spread * np.clip(rng.normal(size=len(BODY)), -2, 2)
    return {bone: stature * BODY[bone] * float(v) for bone, v in zip(BODY, vary)}


def _perform(rng: Generator, motion: Motion, body: Mapping[str, float], frames: int) -> Floats:
    """(frames, 16, 3) world, standing on the ground around the origin, facing anywhere."""
    keys = np.stack(motion.keys)
    if motion.other_side:
        keys = np.concatenate([keys, mirrored(keys)])
    if rng.random() < 0.5:
        keys = mirrored(keys)
    # Everybody has a manner of their own, in general and in each key pose.
    manner = rng.normal(0, SPREAD) + rng.normal(0, 0.7 * SPREAD, keys.shape)
    middle = keys.mean(axis=0)
    keys = np.clip(middle + rng.uniform(0.8, 1.1) * (keys - middle) + manner, LEAST, MOST)

    time = np.arange(frames) / FPS
    beat = (time / (motion.seconds * rng.uniform(0.8, 1.25)) + rng.random()) % 1 * len(keys)
    step = beat.astype(int)
    blend = (1 - np.cos(np.pi * (beat - step)))[:, None] / 2
    angles = (1 - blend) * keys[step] + blend * keys[(step + 1) % len(keys)]

    turn = motion.turn * rng.uniform(0.7, 1.3) * rng.choice([-1, 1])
    heading = rng.uniform(-180, 180) + turn * time
    ahead = np.deg2rad(heading)
    velocity = motion.speed * np.stack([np.cos(ahead), np.sin(ahead)], axis=1)
    path = np.cumsum(velocity, axis=0) / FPS

    world = _skeleton(angles, body) @ np.swapaxes(_turn("z", heading), 1, 2)
    world[..., :2] += (path - path.mean(axis=0))[:, None]
    world[..., 2] += ANKLE_HEIGHT - world[..., 2].min(axis=1, keepdims=True)
    return world


def _skeleton(angles: Floats, body: Mapping[str, float]) -> Floats:
    """(T, 22) angles to (T, 16, 3) body frame, metres, pelvis at the origin."""
    angle = {name: angles[:, COLUMN[name]] for name in TRUNK}
    whole = _turn("y", angle["pitch"]) @ _turn("x", angle["roll"])
    # Half of a bend happens at the pelvis, half at the spine joint.
    half = (
        _turn("y", angle["bend"] / 2)
        @ _turn("x", angle["side"] / 2)
        @ _turn("z", angle["twist"] / 2)
    )
    loin = whole @ half
    chest = loin @ half
    pelvis = np.zeros((len(angles), 3))
    spine = pelvis + loin @ [0, 0, body["spine"]]
    thorax = spine + chest @ [0, 0, body["chest"]]
    head = thorax + chest @ _turn("y", angle["nod"] + 8) @ [0, 0, body["neck"]]

    limbs = {}
    for side, sign in enumerate((1, -1)):  # left, right
        angle = {name: angles[:, COLUMN[name] + side] for name in LIMBS}
        hip = pelvis + whole @ [0, sign * body["pelvis"], 0]
        thigh = whole @ _hang(-angle["hip"], sign * angle["spread"], sign * angle["toe"])
        knee = hip + thigh @ [0, 0, -body["thigh"]]
        ankle = knee + thigh @ _turn("y", angle["knee"]) @ [0, 0, -body["shin"]]
        limbs["leg", side] = [hip, knee, ankle]

        # A raised arm takes its shoulder with it.
        shrug = 0.15 * np.maximum(np.abs(angle["raised"]), angle["out"]) - 8
        shoulder = thorax + chest @ _turn("x", sign * shrug) @ [0, sign * body["shoulder"], 0]
        upper = chest @ _hang(-angle["raised"], sign * angle["out"], -sign * angle["inward"])
        elbow = shoulder + upper @ [0, 0, -body["upper arm"]]
        wrist = elbow + upper @ _turn("y", -angle["elbow"]) @ [0, 0, -body["forearm"]]
        limbs["arm", side] = [shoulder, elbow, wrist]

    legs = [pelvis, *limbs["leg", 1], *limbs["leg", 0]]
    return np.stack([*legs, spine, thorax, head, *limbs["arm", 0], *limbs["arm", 1]], axis=1)


def _hang(swing: Floats, outward: Floats, twist: Floats) -> Floats:
    """(T, 3, 3) of a limb that hangs along -z: about y, then x, then itself."""
    return _turn("y", swing) @ _turn("x", outward) @ _turn("z", twist)


def _turn(axis: str, degrees: float | Floats) -> Floats:
    """(..., 3, 3) right-handed rotation about one axis."""
    angle = np.deg2rad(degrees)
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.zeros((*np.shape(angle), 3, 3))
    matrix[..., :, :] = np.eye(3)
    matrix[..., i, i] = matrix[..., j, j] = np.cos(angle)
    matrix[..., j, i] = np.sin(angle)
    matrix[..., i, j] = -matrix[..., j, i]
    return matrix
