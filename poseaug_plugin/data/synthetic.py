"""A synthetic data set that needs no files: stick figures animated by joint angles.

It imitates Human3.6M (seven people in one room, Human3.6M's four cameras) and a second data set
with other people, other motion and other cameras. As with real data, a lifter trained on the first
has a clearly higher error on the second. It shows that the plugin works, not how good a method is:
report numbers on real data only.

Coordinate frames, angles and joints are documented in ``synthetic_motions``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .filming import rotation
from .h36m import Clip, Pairs
from .h36m_cameras import StudioCamera, cameras, project
from .synthetic_motions import (
    ANGLE_MAX,
    ANGLE_MIN,
    ANGLE_STD,
    ANKLE_HEIGHT,
    BONE_LENGTHS,
    COLUMN,
    CROSS_MOTIONS,
    FPS,
    LIMB_ANGLES,
    SOURCE_MOTIONS,
    TEST_STATURES,
    TRAIN_STATURES,
    TRUNK_ANGLES,
    Floats,
    Motion,
    mirror,
)

Generator = np.random.Generator


def make(seed: int = 0) -> tuple[Pairs, Pairs, Pairs]:
    """Generate about 20,000 training, 4,000 source test and 4,000 cross-dataset test pairs.

    Training subjects are S1, S5, S6, S7 and S8, source test subjects S9 and S11, all seen by
    Human3.6M's cameras. The cross-dataset pairs have people of other sizes (``P000``, ...) and
    other actions, each seen by a camera of its own at a height of 0.2 to 3 m. Every joint is in
    front of the camera and inside the image. Global random state is not used. Generation takes
    about a second.

    Args:
        seed: Non-negative. Equal seeds give bitwise equal data.
    """
    train = _source_pairs(np.random.default_rng([seed, 0]), TRAIN_STATURES, clips=48)
    source = _source_pairs(np.random.default_rng([seed, 1]), TEST_STATURES, clips=24)
    cross = _cross_pairs(np.random.default_rng([seed, 2]), clips=210)
    return train, source, cross


def _source_pairs(rng: Generator, statures: Mapping[str, float], clips: int) -> Pairs:
    """``clips`` clips of 2.2 seconds for each subject, each seen by Human3.6M's four cameras."""
    shots = []
    for subject, stature in statures.items():
        body = sample_body(rng, stature + rng.uniform(-0.02, 0.02), std=0.02)
        studio = cameras(subject)
        for clip in range(clips):
            action = list(SOURCE_MOTIONS)[clip % len(SOURCE_MOTIONS)]
            world = animate(rng, SOURCE_MOTIONS[action], body, frames=22)
            world[..., :2] += rng.normal(0, 0.5, 2)
            shots += [film(world, camera, subject, action) for camera in studio]
    return Pairs.from_clips(shots)


def _cross_pairs(rng: Generator, clips: int) -> Pairs:
    """``clips`` people of all sizes for 2 seconds each, each seen by a camera of their own."""
    shots = []
    for clip in range(clips):
        action = list(CROSS_MOTIONS)[clip % len(CROSS_MOTIONS)]
        body = sample_body(rng, np.clip(rng.normal(1.68, 0.16), 1.3, 2.0), std=0.06)
        world = animate(rng, CROSS_MOTIONS[action], body, frames=20)
        shots.append(film(world, random_camera(rng, world), f"P{clip:03d}", action))
    return Pairs.from_clips(shots)


def film(world: Floats, camera: StudioCamera, subject: str, action: str) -> Clip:
    """Project world poses (T, 16, 3) and keep the frames in view.

    A frame is kept if every joint is inside the image and more than 0.5 m from the camera.
    """
    pose_3d = camera.to_camera(world)
    pose_2d = project(pose_3d, camera.intrinsics)
    visible = (np.abs(pose_2d).max(axis=(1, 2)) <= 1) & (pose_3d[..., 2].min(axis=1) > 0.5)
    return pose_2d[visible], pose_3d[visible], camera.intrinsics, subject, action


def random_camera(rng: Generator, world: Floats) -> StudioCamera:
    """Sample a camera without distortion that looks roughly at world poses (T, 16, 3).

    Its distance to their centre is 2.6 to 5.5 m, its height 0.2 to 3 m.
    """
    centre = world.mean(axis=(0, 1))
    focal = rng.uniform(1.3, 2.2)
    azimuth, height = rng.uniform(-np.pi, np.pi), rng.uniform(0.2, 3.0)
    rise = height - centre[2]
    # Far enough for head and feet to be visible, and never directly above.
    distance = rng.uniform(max(2.6, 1.6 * focal, 1.2 * abs(rise)), 5.5)
    reach = np.sqrt(distance**2 - rise**2)
    position = centre + np.array([reach * np.cos(azimuth), reach * np.sin(azimuth), rise])

    forward = (centre - position) / distance
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    look_at = np.stack([right, np.cross(forward, right), forward], axis=1)
    # These angles move the person off the image centre.
    yaw, pitch, roll = rng.uniform(-1, 1, 3) * [11, 5, 4]
    axes = look_at @ rotation("y", yaw) @ rotation("x", pitch) @ rotation("z", roll)
    principal_point = rng.uniform(-0.07, 0.07, 2)
    return StudioCamera(axes, position, np.array([focal, focal, *principal_point, 0, 0, 0, 0, 0]))


def sample_body(rng: Generator, stature: float, std: float) -> dict[str, float]:
    """Bone lengths in metres. The relative standard deviation of each length is ``std``."""
    scale = 1 + std * np.clip(rng.normal(size=len(BONE_LENGTHS)), -2, 2)
    return {bone: stature * BONE_LENGTHS[bone] * float(s) for bone, s in zip(BONE_LENGTHS, scale)}


def animate(rng: Generator, motion: Motion, body: Mapping[str, float], frames: int) -> Floats:
    """(frames, 16, 3) in the world, standing on the ground near the origin, in a random heading."""
    keys = np.stack(motion.keys)
    if motion.mirrored:
        keys = np.concatenate([keys, mirror(keys)])
    if rng.random() < 0.5:
        keys = mirror(keys)
    # Each clip has its own offset of all key poses and of each key pose.
    offset = rng.normal(0, ANGLE_STD) + rng.normal(0, 0.7 * ANGLE_STD, keys.shape)
    mean = keys.mean(axis=0)
    keys = np.clip(mean + rng.uniform(0.8, 1.1) * (keys - mean) + offset, ANGLE_MIN, ANGLE_MAX)

    time = np.arange(frames) / FPS
    phase = (time / (motion.seconds * rng.uniform(0.8, 1.25)) + rng.random()) % 1 * len(keys)
    key = phase.astype(int)
    blend = (1 - np.cos(np.pi * (phase - key)))[:, None] / 2
    angles = (1 - blend) * keys[key] + blend * keys[(key + 1) % len(keys)]

    yaw_rate = motion.yaw_rate * rng.uniform(0.7, 1.3) * rng.choice([-1, 1])
    heading = rng.uniform(-180, 180) + yaw_rate * time
    radians = np.deg2rad(heading)
    velocity = motion.speed * np.stack([np.cos(radians), np.sin(radians)], axis=1)
    path = np.cumsum(velocity, axis=0) / FPS

    world = _forward_kinematics(angles, body) @ np.swapaxes(rotation("z", heading), 1, 2)
    world[..., :2] += (path - path.mean(axis=0))[:, None]
    world[..., 2] += ANKLE_HEIGHT - world[..., 2].min(axis=1, keepdims=True)
    return world


def _forward_kinematics(angles: Floats, body: Mapping[str, float]) -> Floats:
    """(T, 22) angles to (T, 16, 3) in the body frame, metres, pelvis at the origin."""
    angle = {name: angles[:, COLUMN[name]] for name in TRUNK_ANGLES}
    whole = rotation("y", angle["pitch"]) @ rotation("x", angle["roll"])
    # Half of the bend is applied at the pelvis, half at the spine joint.
    half = (
        rotation("y", angle["bend"] / 2)
        @ rotation("x", angle["side"] / 2)
        @ rotation("z", angle["twist"] / 2)
    )
    lower_spine = whole @ half
    chest = lower_spine @ half
    pelvis = np.zeros((len(angles), 3))
    spine = pelvis + lower_spine @ [0, 0, body["spine"]]
    thorax = spine + chest @ [0, 0, body["chest"]]
    head = thorax + chest @ rotation("y", angle["nod"] + 8) @ [0, 0, body["neck"]]

    limbs = {}
    for side, sign in enumerate((1, -1)):  # left, right
        angle = {name: angles[:, COLUMN[name] + side] for name in LIMB_ANGLES}
        hip = pelvis + whole @ [0, sign * body["pelvis"], 0]
        thigh = whole @ _limb_rotation(-angle["hip"], sign * angle["spread"], sign * angle["toe"])
        knee = hip + thigh @ [0, 0, -body["thigh"]]
        ankle = knee + thigh @ rotation("y", angle["knee"]) @ [0, 0, -body["shin"]]
        limbs["leg", side] = [hip, knee, ankle]

        # A raised arm lifts its shoulder.
        shrug = 0.15 * np.maximum(np.abs(angle["raised"]), angle["out"]) - 8
        shoulder = thorax + chest @ rotation("x", sign * shrug) @ [0, sign * body["shoulder"], 0]
        upper = chest @ _limb_rotation(
            -angle["raised"], sign * angle["out"], -sign * angle["inward"]
        )
        elbow = shoulder + upper @ [0, 0, -body["upper arm"]]
        wrist = elbow + upper @ rotation("y", -angle["elbow"]) @ [0, 0, -body["forearm"]]
        limbs["arm", side] = [shoulder, elbow, wrist]

    legs = [pelvis, *limbs["leg", 1], *limbs["leg", 0]]
    return np.stack([*legs, spine, thorax, head, *limbs["arm", 0], *limbs["arm", 1]], axis=1)


def _limb_rotation(swing: Floats, outward: Floats, twist: Floats) -> Floats:
    """(T, 3, 3) rotation of a limb along -z: about y, then x, then its own axis."""
    return rotation("y", swing) @ rotation("x", outward) @ rotation("z", twist)
