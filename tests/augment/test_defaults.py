"""Samples are the same whatever torch's default dtype is, and states of other devices resume."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from helpers import H36M, cameras, generator, people
from loop_helpers import same, snapshot
from poseaug_plugin import PoseAugConfig, Skeleton
from poseaug_plugin.augment.mixing import mix_batch
from poseaug_plugin.augment.sampler import Sampler
from poseaug_plugin.augment.target import Target
from poseaug_plugin.batches.format import BatchFormat
from poseaug_plugin.geometry.camera import Camera, project

CPU, ROWS = torch.device("cpu"), 24


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


#: Options that make tensors of their own.
OPTIONS = {
    "default": {},
    "fixed": dict(distance=(4.0, 6.0), focal=(0.8, 1.0), depth=0.5, body_height=(1.5, 1.9)),
    "swapped": dict(swap_lengths=True, keep_detection_error=1.0, limb_crossover=False),
    "hidden": dict(joint_dropout=0.3, mix="append"),
    "released": dict(released_quirks=True, upright=False, tilt=(0.0, 0.1)),
}


@pytest.mark.parametrize("with_target", [False, True], ids=["plain", "target"])
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("scene", [False, True], ids=["rows", "scenes"])
def test_the_default_dtype_changes_nothing(name: str, with_target: bool, scene: bool) -> None:
    number = [*OPTIONS].index(name) + 10 * with_target + 100 * scene
    pose_3d = people(ROWS, 3)
    pose_2d = project(pose_3d, cameras(ROWS)[:, None])
    pose_2d = pose_2d + 0.01 * torch.randn(pose_2d.shape, generator=generator(1))
    seen = torch.cat([pose_2d, torch.ones(ROWS, 3, 16, 1)], -1)
    batch = seen, pose_3d, cameras(ROWS), torch.arange(ROWS) // 2
    unlabelled = 1.2 * pose_2d[:, 0].repeat(4, 1, 1)
    of_batch = dict(groups=3) if scene else {}

    def results(other: bool) -> list[Any]:
        # Names of its own, since constants are cached by skeleton.
        names = tuple(f"{number} {other} {joint}" for joint in range(16))
        skeleton = Skeleton(H36M.parents, H36M.left, H36M.right, names)
        fmt = BatchFormat(pose_2d=0, pose_3d=1, camera=2, root="absolute", **of_batch)
        config = PoseAugConfig.default(ratio=0.7, **OPTIONS[name])
        target = Target(unlabelled, skeleton, CPU) if with_target else None
        sampler = Sampler(skeleton, config, CPU, target)
        made = []
        for _ in range(3):
            poses = fmt.read(batch, skeleton, Camera())
            mixed = mix_batch(batch, poses, sampler, fmt, 0.7)
            made.append((mixed.batch, mixed.tried, mixed.passed, mixed.replaced))
        made.append(sampler.preview(poses)[0].pose_2d)
        made.append([float(x) for x in sampler.ranges.numbers().values()])
        made += [sampler.rejections(poses), *sampler.ranges.doubts(config, skeleton, poses)]
        if target is not None:
            made += [target.doubts(poses), target.normalised, target.stats()]
        return snapshot(made, sampler)

    expected = results(False)
    with default_dtype(torch.float64):
        found = results(True)
    assert same(found, expected)


def test_the_state_of_another_kind_of_device_seeds_the_generator() -> None:
    """The state of a CUDA generator is shorter: numbers go on, and depend on it."""
    state = Sampler(H36M, PoseAugConfig.default(), CPU).state_dict()
    drawn = []
    for last in (0, 1, 1):
        foreign = torch.zeros(16, dtype=torch.uint8)
        foreign[-1] = last
        sampler = Sampler(H36M, PoseAugConfig.default(), CPU)
        sampler.load_state_dict(state | {"generator": foreign})
        drawn.append(torch.rand(4, generator=sampler.generator))
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[1], drawn[2])
