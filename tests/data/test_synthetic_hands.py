"""Synthetic hands: repeatable, of the right size, in view, and projected exactly."""

from __future__ import annotations

import numpy as np
import torch

from poseaug_plugin import Skeleton
from poseaug_plugin.data import synthetic_hands
from poseaug_plugin.data.filming import Views, film, look_at
from poseaug_plugin.geometry.bones import lengths, pose_to_bones
from poseaug_plugin.geometry.camera import project

HAND = Skeleton.of("hand_21")
SETS = synthetic_hands.make()


def test_equal_seeds_give_equal_hands() -> None:
    for first, same, other in zip(SETS, synthetic_hands.make(0), synthetic_hands.make(1)):
        assert torch.equal(first.pose_3d, same.pose_3d)
        assert first.pose_3d.shape != other.pose_3d.shape or not torch.equal(
            first.pose_3d, other.pose_3d
        )


def test_hands_are_in_view_and_have_the_size_of_hands() -> None:
    for views, least in zip(SETS, (9000, 2000, 2000)):
        assert len(views) > least
        assert views.pose_2d.abs().max() <= 1
        assert torch.allclose(views.pose_2d, project(views.pose_3d, views.camera), atol=1e-5)
        assert 0.2 < views.pose_3d[:, 0, 2].min() < views.pose_3d[:, 0, 2].max() < 1.2
        bones = lengths(pose_to_bones(views.pose_3d, HAND))
        assert 0.01 < bones.min() < bones.max() < 0.13


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
