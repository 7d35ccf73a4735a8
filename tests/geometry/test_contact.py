"""The distance between two bodies, against points sampled along their bones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from helpers import H36M, generator, people
from poseaug_plugin import Skeleton
from poseaug_plugin.geometry.contact import bone_distance

ROD = Skeleton((-1, 0))


def sampled(a: Tensor, b: Tensor, skeleton: Skeleton, points: int = 101) -> Tensor:
    """The smallest distance of points on the bones of both."""
    along = torch.linspace(0, 1, points, dtype=a.dtype)[:, None]
    both = (
        torch.cat([x[:, p, None] + along * (x[:, c] - x[:, p])[:, None] for p, c in joints], 1)
        for x in (a, b)
        for joints in [[*zip(skeleton.parent, skeleton.child)]]
    )
    return torch.cdist(*both, compute_mode="donot_use_mm_for_euclid_dist").flatten(1).amin(1)


@pytest.mark.parametrize("offset", [0.0, 6.0])
def test_it_is_that_of_the_nearest_points(offset: float) -> None:
    tree = Skeleton((-1, 0, 1, 0))
    a, b = torch.randn(2, 60, 4, 3, generator=generator(), dtype=torch.float64) + offset
    found, expected = bone_distance(a, b, tree), sampled(a, b, tree)
    assert (found <= expected + 1e-9).all()
    assert (expected - found).max() < 0.02  # between two samples
    single = bone_distance(a.float(), b.float(), tree)
    assert torch.allclose(single.double(), found, atol=2e-3)


@pytest.mark.parametrize(
    ("b", "expected"),
    [
        ([[0.5, -1, 0.2], [0.5, 1, 0.2]], 0.2),  # across
        ([[0.0, 0.3, 0], [1, 0.3, 0]], 0.3),  # parallel
        ([[2.0, 0, 0], [3, 0, 0]], 1.0),  # in line
        ([[3.0, 0, 0], [2, 0, 0]], 1.0),  # in line, the other way round
        ([[1.0, 0.4, 0], [2, 0.4, 0]], 0.4),  # parallel, side by side only at their ends
        ([[0.5, 0, 0], [0.5, 0, 0]], 0.0),  # a point on it
        ([[0.5, 0.6, 0], [0.5, 0.6, 0]], 0.6),  # a point beside it
    ],
)
def test_of_two_rods(b: list[list[float]], expected: float) -> None:
    rods = (torch.tensor([[0.0, 0, 0], [1, 0, 0]]), torch.tensor(b))
    for one, other in (rods, rods[::-1]):
        assert float(bone_distance(one, other, ROD)) == pytest.approx(expected, abs=1e-5)


def test_of_clips() -> None:
    pose_3d = people(4, 3)
    assert bone_distance(pose_3d[:2], pose_3d[2:], H36M).shape == (2, 3)


def test_far_away_it_is_as_accurate_as_nearby() -> None:
    """300 m from the camera; squares of metres lose a decimetre there."""
    a, b = people(8)[:, 0], people(8, seed=1)[:, 0]
    there = torch.tensor([300.0, 0.0, 300.0])
    near, far = bone_distance(a, b, H36M), bone_distance(a + there, b + there, H36M)
    assert torch.allclose(far, near, atol=2e-3)
