"""2D measures of bodies, on a person whose measures are known."""

from __future__ import annotations

import pytest
import torch

from helpers import H36M, PRESETS, STANDING
from poseaug_plugin.augment.body_measures import BodyMeasures
from poseaug_plugin.geometry.bones import bones_to_pose
from poseaug_plugin.geometry.operators import euler_to_matrix, shift
from poseaug_plugin.geometry.skeleton import SKELETONS, Skeleton

MEASURES = BodyMeasures.of(H36M)


def seen(
    yaw: float, offset: torch.Tensor | None = None, legs: tuple[float, float] = (-0.15, 0.2)
) -> torch.Tensor:
    """A standing person with bent knees, turned by `yaw`, as 2D without perspective (1, 16, 2)."""
    bones = STANDING.clone()
    bones[[1, 4], 2], bones[[2, 5], 2] = legs  # knees forward, towards the camera
    pose = bones_to_pose(bones[None], H36M)
    pose = pose if offset is None else shift(pose, offset[None], H36M)
    return (pose @ euler_to_matrix(torch.tensor([[yaw, 0.0, 0.0]])).mT)[..., :2]


def test_the_places_of_h36m() -> None:
    names = H36M.names or ()
    places = [
        ("-".join(names[j] for j in p.joints), names[p.reference], p.back)
        for p in BodyMeasures(H36M).places
    ]
    assert places == [
        ("l_hip-r_hip", "pelvis", False),
        ("l_hip-r_hip", "pelvis", True),
        ("l_shoulder-r_shoulder", "thorax", False),
        ("l_shoulder-r_shoulder", "thorax", True),
        ("spine", "pelvis", True),
        ("head", "thorax", True),
    ]


def test_what_is_hidden_hides_the_measures_that_need_it() -> None:
    """Up needs both ends of the trunk, and back the legs as well, wherever the joint is."""

    def told(*hidden: int) -> tuple[list[bool], list[bool]]:
        visible = torch.ones(1, 16, dtype=torch.bool)
        visible[0, list(hidden)] = False
        length, place = MEASURES.visible(visible)
        return length[0].tolist(), place[0].tolist()

    every = [True] * 15
    assert told() == (every, [True] * 6)
    wrist, elbow = 12, 11
    assert told(wrist) == ([bone != 11 for bone in range(15)], [True] * 6)
    assert told(elbow)[0] == [bone not in (10, 11) for bone in range(15)]
    assert told(9) == ([bone != 8 for bone in range(15)], [True] * 5 + [False])  # the head
    assert told(2)[1] == [True, False, True, False, False, False]  # a knee
    assert told(8)[1] == [False] * 6  # the top of the trunk
    assert told(1)[0][3] is False  # half the distance of the hips is not known from one


def test_the_trunk_ends_between_the_shoulders_not_between_the_eyes() -> None:
    eyes = Skeleton((*H36M.parents, 9, 9), (*H36M.left, 16), (*H36M.right, 17))
    assert BodyMeasures.of(eyes).trunk == (0, 7, 8)
    assert BodyMeasures.of(eyes).height[:15] == MEASURES.height
    weights = {3: 0.5, 2: 0.5, 6: 0.5, 5: 0.5, 7: 1.0, 8: 1.0, 9: 1.0}  # of the bone to a joint
    assert MEASURES.height == tuple(weights.get(joint, 0.0) for joint in H36M.child)


def test_without_a_trunk_it_is_not_known_which_way_is_up() -> None:
    legs = BodyMeasures(Skeleton((-1, 0, 1, 2, 0, 4, 5), (4, 5, 6), (1, 2, 3)))
    assert legs.legs == legs.trunk == legs.places == legs.height == ()


def test_half_the_distance_of_hips_does_not_depend_on_how_low_they_lie() -> None:
    offset = torch.zeros(16, 3)
    offset[[1, 4], 1] = -0.1
    before, after = (MEASURES.measure(seen(0.0, x))[0][0] for x in (None, offset))
    torch.testing.assert_close(before[[0, 3]], torch.tensor([0.13, 0.13]))
    torch.testing.assert_close(after[[0, 3]], before[[0, 3]])
    assert (after - before).abs()[[1, 4]].min() > 0.05  # the thighs are shorter


@pytest.mark.parametrize("yaw", [0.7, -0.7, 2.2, -2.2])
@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("legs", [(-0.15, 0.2), (0.1, 0.3)], ids=["crouching", "legs backwards"])
def test_an_offset_changes_its_place_in_the_same_sense_from_every_side(
    legs: tuple[float, float], number: int, yaw: float
) -> None:
    step = torch.zeros(6)
    step[number] = 0.05
    before, after = (
        MEASURES.measure(seen(yaw, x, legs))[1][0] for x in (None, MEASURES.offset(step))
    )
    back = MEASURES.places[number].back
    assert float(after[number] - before[number]) > (0.02 if back else 0.04)


@pytest.mark.parametrize("name", PRESETS)
def test_every_skeleton(name: str) -> None:
    skeleton = SKELETONS[name]
    measures = BodyMeasures.of(skeleton)
    pose_2d = torch.rand(7, skeleton.num_joints, 2)
    length, place = measures.measure(pose_2d)
    assert length.shape == (7, skeleton.num_bones)
    assert place.shape == (7, len(measures.places))
    assert measures.offset(torch.ones(len(measures.places))).shape == (skeleton.num_joints, 3)
    told = measures.visible(torch.ones(7, skeleton.num_joints, dtype=torch.bool))
    assert all(x.all() for x in told)
    assert bool(measures.height) is bool(measures.places)
    assert len(measures.places) > 4 or name in ("coco_17", "hand_21")
