"""Reading a loader ahead leaves every random stream as it was; bad rows are found one by one."""

from __future__ import annotations

import math
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from helpers import H36M, cameras, people
from loop_helpers import same, streams
from poseaug_plugin import BatchFormat, Camera, Skeleton
from poseaug_plugin.batches.reader import BatchReader, restored_order
from poseaug_plugin.geometry.camera import project

FORMAT = BatchFormat(pose_2d=0, pose_3d=1, camera=2, root="absolute")


class Generator:
    """As VideoPose3D's, with a random state of its own; `batch_sampler` has another one."""

    def __init__(self) -> None:
        self.random = np.random.RandomState(3)
        self.batch_sampler = SimpleNamespace(generator=torch.Generator().manual_seed(4))
        self.sampler = SimpleNamespace(generator=torch.Generator().manual_seed(5))
        self.generator = torch.Generator().manual_seed(6)

    def random_state(self) -> np.random.RandomState:
        return self.random

    def set_random_state(self, random: np.random.RandomState) -> None:
        self.random = random

    def draw(self) -> list[Any]:
        own = (self.generator, self.sampler.generator, self.batch_sampler.generator)
        return [
            self.random.rand(),
            *(float(torch.rand((), generator=generator)) for generator in own),
        ]


@pytest.mark.parametrize("fails", [False, True])
def test_every_random_stream_is_as_it_was(fails: bool) -> None:
    loader, before = Generator(), streams()
    wanted = Generator().draw()
    try:
        with restored_order(loader):
            loader.draw(), random.random(), np.random.rand(), torch.rand(3)
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert same(streams(), before)
    assert loader.draw() == wanted


def test_a_restart_keeps_the_skeleton_unless_there_is_another_and_checks_again() -> None:
    reader = BatchReader(FORMAT, H36M, Camera())
    for given, wanted in ((None, H36M), (Skeleton((-1, 0)), Skeleton((-1, 0)))):
        reader.checked = True
        reader.restart(given)
        assert reader.skeleton == wanted
        assert reader.checked is False


def test_rows_that_are_bad_in_any_field_are_not_valid_and_padding_is_not_bad() -> None:
    pose_3d = people(8)[:, 0]
    batch = project(pose_3d, cameras(8)), pose_3d, cameras(8)
    reader = BatchReader(FORMAT, H36M, Camera())
    reader.first(batch)
    batch[0][1, 3], batch[1][2, 4, 1] = math.nan, math.inf
    batch[2][3, 5], batch[1][4] = math.nan, batch[1][4] + 2e6
    batch[0][5], batch[1][6] = 0, 0  # padding
    poses, bad = reader.later(batch)
    assert poses.valid.tolist() == [True, False, False, False, False, False, False, True]
    assert int(bad) == 4
    assert not poses.pose_3d[1:5].any()
    assert torch.allclose(poses.absolute[7, 0], pose_3d[7])


@pytest.mark.parametrize("factor", [3.0, 5.0])
def test_rows_with_a_bone_far_longer_than_in_the_first_batch_are_bad(factor: float) -> None:
    reader, pose_3d = BatchReader(FORMAT, H36M, Camera()), people(8)[:, 0]
    for batch in range(2):
        if batch:
            pose_3d[2, 3] += factor * 0.44 * torch.tensor([0.0, 0.0, 1.0])
        read = reader.later if batch else reader.first
        poses, bad, *_ = read((project(pose_3d, cameras(8)), pose_3d, cameras(8)))
        assert int(bad) == (batch and factor > 4)
    assert poses.valid.tolist() == [row != 2 or factor < 4 for row in range(8)]
