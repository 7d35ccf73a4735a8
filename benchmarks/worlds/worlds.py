"""The five worlds: training pairs, in-domain and cross-dataset tests, and ranges set by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from poseaug_plugin import Skeleton
from poseaug_plugin.data import synthetic, synthetic_hands
from poseaug_plugin.data.filming import Floats, Views, film, look_at
from poseaug_plugin.data.synthetic_motions import CROSS_MOTIONS, SOURCE_MOTIONS

from . import quadrupeds

__all__ = ["WORLDS", "World"]

Generator = np.random.Generator
STATURES = (1.74, 1.62, 1.80, 1.86, 1.68)  # metres, of the training people


@dataclass(frozen=True)
class World:
    """Data of one kind.

    Attributes:
        train, test, cross: pairs for training; other bodies, same cameras; other bodies, motions
            and cameras.
        skeleton: their skeleton.
        height: half height of the images; the half width is 1.
        tuned: what somebody would set who knows the cameras of `cross`: their distances, focal
            lengths, tilts and places, and joint offsets in proportion to the body.
    """

    train: Views
    test: Views
    cross: Views
    skeleton: Skeleton
    tuned: Mapping[str, Any]
    height: float = 1.0


def hands(seed: int) -> World:
    """Hands of 0.18 m, 0.5 m away in a studio; webcams 0.3 to 0.9 m away."""
    return World(
        *synthetic_hands.make(seed),
        Skeleton.of("hand_21"),
        tuned=dict(
            distance=(0.3, 0.9),
            focal=(1.3 / 1.9, 2.2 / 1.9),
            tilt=(-0.3, 0.8),
            roll=0.3,
            image_offset=0.4,
            depth=0.05,
            joint_offset=0.003,
        ),
    )


def animals(seed: int) -> World:
    """Dogs of 0.6 m, 2 to 5 m away; others, from ponies to cats, 1 to 5 m away."""

    def studio(rng: Generator, sizes: tuple[float, ...], clips: int) -> Iterator[Views]:
        for size in sizes:
            bones = quadrupeds.body(rng, size, 0.03)
            for clip in range(clips):
                gait = list(quadrupeds.SOURCE_GAITS.values())[clip % 4]
                world = quadrupeds.animate(rng, gait, bones, 15) + _on_floor(rng, 0.5)
                yield from (film(world, camera) for camera in _corners(3.4, 1.3, (0, 0, 0.4), 2.0))

    def outside(rng: Generator) -> Iterator[Views]:
        for clip in range(260):
            bones = quadrupeds.body(rng, rng.uniform(0.7, 1.5), 0.06)
            gait = list(quadrupeds.CROSS_GAITS.values())[clip % 4]
            world = quadrupeds.animate(rng, gait, bones, 15)
            yield film(world, _camera(rng, world, (1.2, 5.0), (0, 30), (1.3, 2.2)))

    return World(
        *_joined(seed, studio, ((1.0, 0.88, 1.1, 0.95, 1.2), 32), ((1.05, 0.92), 40), outside),
        quadrupeds.SKELETON,
        tuned=dict(
            distance=(1.2, 5.0),
            focal=(1.3 / 2.0, 2.2 / 2.0),
            tilt=(-0.1, 0.6),
            image_offset=0.3,
            depth=0.25,
            joint_offset=0.012,
            upright=False,
        ),
    )


def children(seed: int) -> World:
    """Children of 0.9 m, 2 to 4 m away; others of 0.8 to 1.1 m, 1.2 to 3.2 m away."""

    def studio(rng: Generator, sizes: tuple[float, ...], clips: int) -> Iterator[Views]:
        for size in sizes:
            for world in _people(rng, size, 0.02, SOURCE_MOTIONS, clips):
                world = world + _on_floor(rng, 0.4)
                yield from (film(world, camera) for camera in _corners(2.9, 1.1, (0, 0, 0.5), 2.2))

    def outside(rng: Generator) -> Iterator[Views]:
        for _ in range(220):
            (world,) = _people(rng, rng.uniform(0.8, 1.1), 0.06, CROSS_MOTIONS, 1)
            yield film(world, _camera(rng, world, (1.2, 3.2), (0, 40), (1.3, 2.2)))

    return World(
        *_joined(seed, studio, ((0.9, 0.84, 0.96, 0.88, 0.93), 32), ((0.91, 0.86), 40), outside),
        Skeleton.of("h36m_16"),
        tuned=dict(
            distance=(1.2, 3.2),
            focal=(1.3 / 2.2, 2.2 / 2.2),
            tilt=(-0.1, 0.75),
            image_offset=0.3,
            depth=0.25,
            joint_offset=0.013,
        ),
    )


def sports(seed: int) -> World:
    """Players 10 to 30 m away, anywhere in the images of long lenses."""

    def stadium(rng: Generator, sizes: tuple[float, ...], clips: int) -> Iterator[Views]:
        for size in sizes:
            for world in _people(rng, size, 0.02, SOURCE_MOTIONS, clips):
                world = world + rng.uniform((-3, -7, 0), (3, 7, 0))
                yield from (film(world, camera) for camera in _corners(20, 5, (0, 0, 1), 3.2))

    def others(rng: Generator) -> Iterator[Views]:
        for _ in range(220):
            (world,) = _people(rng, rng.uniform(1.5, 2.0), 0.06, CROSS_MOTIONS, 1)
            off = rng.uniform(-1, 1, 3) * (9, 6, 2)
            yield film(world, _camera(rng, world, (10, 30), (2, 35), (3.0, 6.0), off))

    return World(
        *_joined(seed, stadium, (STATURES, 32), ((1.77, 1.65), 40), others),
        Skeleton.of("h36m_16"),
        tuned=dict(
            distance=(10, 30),
            focal=(3.0 / 3.2, 6.0 / 3.2),
            tilt=(0.0, 0.6),
            image_offset=0.7,
            depth=2.0,
            joint_offset=0.025,
        ),
    )


def selfies(seed: int) -> World:
    """Upper bodies about 1 m from the upright image of a phone."""
    upper = [0, 1, 4, *range(7, 16)]
    height = 16 / 9

    def at_arms_length(rng: Generator, sizes: tuple[float, ...], clips: int) -> Iterator[Views]:
        for size in sizes:
            for world in _people(rng, size, 0.02, SOURCE_MOTIONS, clips, frames=12):
                for _ in range(4):
                    camera = _phone(rng, world, (0.8, 1.3), (-5, 25), 40, (2.1, 2.1))
                    yield film(world[:, upper], camera, height)

    def others(rng: Generator) -> Iterator[Views]:
        for _ in range(330):
            (world,) = _people(rng, rng.uniform(1.4, 2.0), 0.06, CROSS_MOTIONS, 1, frames=12)
            camera = _phone(rng, world, (0.7, 1.5), (-20, 35), 70, (1.7, 2.5))
            yield film(world[:, upper], camera, height)

    return World(
        *_joined(seed, at_arms_length, (STATURES, 40), ((1.77, 1.65), 40), others),
        Skeleton((-1, 0, 0, 0, 3, 4, 4, 6, 7, 4, 9, 10), left=(2, 6, 7, 8), right=(1, 9, 10, 11)),
        tuned=dict(
            distance=(0.8, 1.6),
            focal=(1.7 / 2.1, 2.5 / 2.1),
            tilt=(-0.35, 0.6),
            yaw=1.25,
            image_offset=0.4,
            depth=0.15,
            joint_offset=0.02,
        ),
        height=height,
    )


#: The worlds by name; each takes a seed.
WORLDS: dict[str, Callable[[int], World]] = {
    "hands": hands,
    "animals": animals,
    "children": children,
    "sports": sports,
    "selfies": selfies,
}


def _joined(
    seed: int,
    source: Callable[..., Iterator[Views]],
    train: tuple[Any, ...],
    test: tuple[Any, ...],
    cross: Callable[[Generator], Iterator[Views]],
) -> tuple[Views, Views, Views]:
    """Train, test and cross from their generators, each with a random stream of its own."""
    rngs = [np.random.default_rng([seed, i]) for i in range(3)]
    parts = (source(rngs[0], *train), source(rngs[1], *test), cross(rngs[2]))
    first, second, third = map(Views.join, parts)
    return first, second, third


def _people(
    rng: Generator,
    stature: float,
    spread: float,
    motions: Mapping[str, Any],
    clips: int,
    frames: int = 15,
) -> Iterator[Floats]:
    """Clips (frames, 16, 3) of one person, with another motion in each."""
    body = synthetic.sample_body(rng, stature, spread)
    first = int(rng.integers(len(motions)))
    for clip in range(first, first + clips):
        motion = list(motions.values())[clip % len(motions)]
        yield synthetic.animate(rng, motion, body, frames)


def _on_floor(rng: Generator, std: float) -> Floats:
    return np.array([*rng.normal(0, std, 2), 0.0])


def _corners(
    radius: float, height: float, target: tuple[float, float, float], focal: float
) -> list[Any]:
    """Four cameras around the origin; their distances and heights differ a little."""
    sides = ((40, 1.1, 1.0), (140, 0.9, 1.15), (230, 1.15, 0.9), (310, 0.85, 1.05))
    return [
        look_at(
            (radius * s * np.cos(np.deg2rad(a)), radius * s * np.sin(np.deg2rad(a)), height * h),
            target,
            focal,
        )
        for a, s, h in sides
    ]


def _camera(
    rng: Generator,
    world: Floats,
    distance: tuple[float, float],
    elevation: tuple[float, float],
    focal: tuple[float, float],
    off: Floats | None = None,
) -> Any:
    """A camera that looks roughly at a clip, from any side."""
    centre, up = world.mean((0, 1)), np.deg2rad(rng.uniform(*elevation))
    side, away = rng.uniform(0, 2 * np.pi), rng.uniform(*distance)
    position = centre + away * np.array(
        [np.cos(up) * np.cos(side), np.cos(up) * np.sin(side), np.sin(up)]
    )
    turned = rng.uniform(-1, 1, 3) * (10, 5, 4) if off is None else off
    return look_at(position, centre, rng.uniform(*focal), turned)


def _phone(
    rng: Generator,
    world: Floats,
    distance: tuple[float, float],
    elevation: tuple[float, float],
    aside: float,
    focal: tuple[float, float],
) -> Any:
    """A camera in front of a person's chest, up to `aside` degrees to the side."""
    chest, hips = world[:, 8].mean(0), world[0, 4] - world[0, 1]  # to the person's left
    ahead = np.arctan2(-hips[0], hips[1])
    side, up = ahead + np.deg2rad(rng.uniform(-aside, aside)), np.deg2rad(rng.uniform(*elevation))
    away = rng.uniform(*distance)
    position = chest + away * np.array(
        [np.cos(up) * np.cos(side), np.cos(up) * np.sin(side), np.sin(up)]
    )
    off = rng.uniform(-6, 6, 3)
    return look_at(position, chest - [0, 0, 0.1], rng.uniform(*focal), off)
