"""Synthetic hands: repeatable, of the right size, in view, and projected exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from poseaug_plugin import Skeleton
from poseaug_plugin.data import synthetic_hands
from poseaug_plugin.data.filming import Views, film, look_at
from poseaug_plugin.geometry.bones import lengths, pose_to_bones
from poseaug_plugin.geometry.camera import project

HAND = Skeleton.of("hand_21")
SETS = synthetic_hands.make()
#: Of each set: rows, and mean and standard deviation of a weighted sum of the joints.
NUMBERS = [
    [12_090, 0.2337699, 0.2481619],
    [3_024, 0.2060073, 0.2513418],
    [2_988, 0.2762606, 0.2835463],
    [768, 0.3028220, 0.2631483],
    [480, 0.3432386, 0.3016738],
]


def test_another_seed_gives_other_hands() -> None:
    for first, other in zip(SETS, synthetic_hands.make(1)):
        assert first.pose_3d.shape != other.pose_3d.shape or not torch.equal(
            first.pose_3d, other.pose_3d
        )


def test_the_hands_of_published_numbers_do_not_change() -> None:
    """The sets, and small ones. Each joint has its own weight."""
    weights = torch.linspace(-1, 1, 63, dtype=torch.float64)
    studio = synthetic_hands._studio(np.random.default_rng(0), people=2, clips=8)
    webcams = synthetic_hands._webcams(np.random.default_rng(0), 40)
    sums = [views.pose_3d.double().flatten(1) @ weights for views in (*SETS, studio, webcams)]
    found = [[len(x), float(x.mean()), float(x.std())] for x in sums]
    assert found == [pytest.approx(numbers, abs=1e-6) for numbers in NUMBERS]


def test_hands_are_in_view_and_have_the_size_of_hands() -> None:
    for views, least in zip(SETS, (9000, 2000, 2000)):
        assert len(views) > least
        assert views.pose_2d.abs().max() <= 1
        assert torch.allclose(views.pose_2d, project(views.pose_3d, views.camera), atol=1e-5)
        assert 0.2 < views.pose_3d[:, 0, 2].min() < views.pose_3d[:, 0, 2].max() < 1.2
        bones = lengths(pose_to_bones(views.pose_3d, HAND))
        assert 0.01 < bones.min() < bones.max() < 0.13


def test_rows_of_views_are_those_of_all_fields() -> None:
    views, rows = SETS[2], torch.tensor([40, 3])
    some = views[rows]
    assert len(some) == 2
    for name in ("pose_3d", "pose_2d", "camera"):
        assert torch.equal(getattr(some, name), getattr(views, name)[rows])


def test_fingers_bend_towards_the_palm_and_the_thumb_across_it() -> None:
    body, spread = synthetic_hands.BONES, synthetic_hands.SPREAD
    bends = np.stack([np.zeros((5, 3)), synthetic_hands.CLOSED])
    opened, closed = synthetic_hands._forward_kinematics(bends, spread, body)
    tips = [4, 8, 12, 16, 20]
    assert (opened[tips[1:], 2] > 0.13).all()  # along z
    assert (np.abs(opened[tips[1:], 1]) < 1e-9).all()  # in the plane of the palm
    assert (closed[tips[1:], 2] < 0.09).all()
    assert (closed[tips[1:], 1] < -0.01).all()  # the palm faces -y
    assert opened[4, 0] > 0.05
    assert closed[4, 0] < opened[4, 0] - 0.03  # across the palm, away from x


def test_a_camera_sees_what_it_looks_at_in_the_middle() -> None:
    point = np.array([[[0.2, -0.1, 1.0], [0.2, -0.1, 1.5]]])
    views = film(point, look_at((3.0, 1.0, 0.5), (0.2, -0.1, 1.0), 2.0))
    assert torch.allclose(views.pose_2d[0, 0], torch.zeros(2), atol=1e-6)
    assert views.pose_2d[0, 1, 1] < 0  # up in the image is -y
    assert abs(float(views.pose_2d[0, 1, 0])) < 0.02
    away = film(point, look_at((3.0, 1.0, 0.5), (6.0, 2.0, 0.0), 2.0))
    assert len(away) == 0
    assert len(Views.join([views, away, views])) == 2
