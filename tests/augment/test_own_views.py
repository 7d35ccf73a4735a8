"""`widen_views`: ranges of views from each row's own view to the limits."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import people, poses_of
from loop_helpers import NO_STATISTICS
from poseaug_plugin import Camera, ConfigError, PoseAugConfig, PoseBatch, Skeleton
from poseaug_plugin.augment.own_views import OwnViews
from poseaug_plugin.augment.ranges import VIEW
from poseaug_plugin.augment.sampler import Sampler

H36M, CPU = Skeleton.of("h36m_16"), torch.device("cpu")
ROWS = 300


def poses(rows: int = ROWS) -> PoseBatch:
    return poses_of(people(rows), Camera().intrinsics)


def config(**changes: Any) -> PoseAugConfig:
    still = {**NO_STATISTICS, "bl": False, "ba": False, "widen_views": 1.1}
    return PoseAugConfig(**{**still, **changes})


def place(poses: PoseBatch) -> Tensor:
    """Where the roots are on the screen, (B, 2)."""
    return poses.pose_2d[:, 0, 0]


def test_it_starts_with_the_rows_own_views() -> None:
    given = poses()
    made, _, _ = Sampler(H36M, config(), CPU).sample(given)
    assert torch.allclose(made.pose_3d, given.pose_3d, atol=1e-5)
    assert torch.allclose(made.root, given.root, atol=1e-5)
    assert torch.allclose(made.camera, given.camera)
    assert torch.allclose(made.pose_2d, given.pose_2d, atol=1e-5)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_steps_from_the_own_view_are_shares_of_the_limits(share: float) -> None:
    given, views = poses(), OwnViews(config(yaw=2.0, tilt=(-0.2, 0.4), roll=0.1), CPU)
    own = views.own(given)
    assert torch.allclose(own[:, 3:5], place(given), atol=1e-6)
    assert torch.allclose(own[:, 5], given.root[:, 0, 2])
    assert not own[:, [0, 1, 2, 6]].any()
    assert all(torch.equal(ends, own) for ends in views.ends(given))
    views.shares += share
    low, high = views.ends(given)
    for column, (lowest, highest) in enumerate([(-2.0, 2.0), (-0.2, 0.4), (-0.1, 0.1)]):
        assert torch.allclose(low[:, column], torch.full((ROWS,), share * lowest))
        assert torch.allclose(high[:, column], torch.full((ROWS,), share * highest))
    assert torch.allclose(high[:, 3:5] - own[:, 3:5], torch.full((ROWS, 2), share * 0.6), atol=1e-6)
    assert torch.allclose(low[:, 3:5] - own[:, 3:5], torch.full((ROWS, 2), -share * 0.6), atol=1e-6)
    assert torch.allclose(high[:, 5] / own[:, 5], torch.full((ROWS,), 3**share))
    assert torch.allclose(low[:, 5] / own[:, 5], torch.full((ROWS,), 3**-share))
    assert torch.allclose(high[:, 6], torch.full((ROWS,), share * math.log(3)))


def test_given_ranges_are_limits() -> None:
    given = poses()
    views = OwnViews(config(distance=(2.0, 9.0), focal=(0.5, 1.5), image_offset=0.4), CPU)
    views.shares += 1
    low, high = views.ends(given)
    for column, (lowest, highest) in {
        3: (-0.4, 0.4),
        4: (-0.4, 0.4),
        5: (2.0, 9.0),
        6: (math.log(0.5), math.log(1.5)),
    }.items():
        assert torch.allclose(low[:, column], torch.full((ROWS,), lowest), atol=1e-5)
        assert torch.allclose(high[:, column], torch.full((ROWS,), highest), atol=1e-5)


def test_each_end_moves_for_itself() -> None:
    given, sampler = poses(), Sampler(H36M, config(), CPU)
    assert sampler.own_views is not None
    sampler.own_views.shares[1, VIEW.index("distance")] = 1.0
    made, _, _ = sampler.sample(given)
    ratio = made.root[:, 0, 2] / given.root[:, 0, 2]
    assert ratio.min() > 0.999
    assert ratio.max() > 2.5
    assert torch.allclose(place(made), place(given), atol=1e-5)
    assert torch.allclose(made.pose_3d, given.pose_3d, atol=1e-5)


def test_without_views_or_a_prior_it_is_refused() -> None:
    for changes in (dict(rt=False), dict(prior=False, learned=True)):
        with pytest.raises(ConfigError, match=r"widen_views=1\.1 has no views to widen"):
            PoseAugConfig(widen_views=1.1, **changes)
    assert not PoseAugConfig().widens
