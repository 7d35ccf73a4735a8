"""Skeletons: checks, presets and derived properties."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from helpers import H36M, PRESETS
from poseaug_plugin.errors import SkeletonError
from poseaug_plugin.geometry.skeleton import SKELETONS, Skeleton

CHAIN = (-1, 0, 1, 2)


def test_h36m_16_has_the_published_parts() -> None:
    legs, arms = [(0, 1, 2, 3, 6), (0, 3, 4, 5, 6)], [(7, 9, 10, 11), (7, 12, 13, 14)]
    assert H36M.parts == (*legs, *arms, (0, 3, 6, 7, 8, 9, 12))


def test_h36m_16_has_the_published_mirror_groups() -> None:
    assert H36M.mirror_group == (0, 1, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 6, 7, 8)
    assert H36M.num_groups == 9


def test_h36m_16_has_the_published_tiers_and_trunk() -> None:
    assert H36M.joint_tiers == ((1, 4, 10, 13), (2, 5, 9, 11, 14), (3, 6, 12, 15))
    assert H36M.trunk == (6, 7)
    assert H36M.limbs == ((0, 1, 2), (3, 4, 5), (9, 10, 11), (12, 13, 14))


def test_bones_are_numbered_by_child_joint_for_any_root() -> None:
    skeleton = Skeleton((2, 0, -1, 2))
    assert (skeleton.root, skeleton.num_joints, skeleton.num_bones) == (2, 4, 3)
    assert skeleton.child == (0, 1, 3)
    assert skeleton.parent == (2, 0, 2)
    assert skeleton.bone_of == {0: 0, 1: 1, 3: 2}
    assert skeleton.children == ((1,), (), (0, 3), ())


def test_trunk_starts_at_the_root_for_any_joint_order() -> None:
    # pelvis 3, spine 2, thorax 0, shoulders 1 and 4: bones 0 (thorax), 1, 2 (spine), 3.
    skeleton = Skeleton((2, 0, 3, -1, 0), left=(1,), right=(4,))
    assert skeleton.trunk == (2, 0)


def test_a_chain_from_the_root_is_one_limb() -> None:
    assert Skeleton((2, 0, -1)).limbs == ((0, 1),)


def test_a_hand_has_five_fingers_and_no_sides() -> None:
    hand = SKELETONS["hand_21"]
    assert hand.limbs == tuple(tuple(range(4 * i, 4 * i + 4)) for i in range(5))
    assert hand.mirror_group == tuple(range(20))
    position_in_finger = [sorted({(j - 1) % 4 + 1 for j in tier}) for tier in hand.joint_tiers]
    assert position_in_finger == [[1, 2], [3], [4]]
    assert hand.trunk == ()
    assert hand.parts[0] == (0, 1, 2, 3, 4, 8, 12, 16)  # a finger and the first bones of the others
    assert hand.parts[-1] == (0, 4, 8, 12, 16)


@pytest.mark.parametrize(("name", "ankle"), [("body_25", "l_ankle"), ("halpe_26", "l_ankle")])
def test_a_foot_belongs_to_its_leg(name: str, ankle: str) -> None:
    skeleton = SKELETONS[name]
    names = skeleton.names or ()
    limbs = [[names[skeleton.child[bone]] for bone in limb] for limb in skeleton.limbs]
    legs = [limb for limb in limbs if ankle in limb]
    assert [limb[:3] for limb in legs] == [["l_hip", "l_knee", "l_ankle"]]
    assert set(legs[0][3:]) == {"l_big_toe", "l_small_toe", "l_heel"}
    assert ["l_shoulder", "l_elbow", "l_wrist"] in limbs
    assert len(limbs) == 6  # with eyes and ears


def test_a_leg_that_hangs_on_a_shoulder_is_no_foot() -> None:
    coco = SKELETONS["coco_17"]
    limbs = [[(coco.names or ())[coco.child[bone]] for bone in limb] for limb in coco.limbs]
    assert ["l_elbow", "l_wrist"] in limbs
    assert ["l_hip", "l_knee", "l_ankle"] in limbs


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_matching_names_on_both_sides(name: str) -> None:
    skeleton = SKELETONS[name]
    assert skeleton.num_joints == int(name.rpartition("_")[2])
    assert skeleton.names is not None
    assert len(set(skeleton.names)) == skeleton.num_joints
    sided = {j for j, joint in enumerate(skeleton.names) if joint[:2] in ("l_", "r_")}
    assert sided == {*skeleton.left, *skeleton.right}
    for left, right in zip(skeleton.left, skeleton.right):
        assert skeleton.names[left] == "l_" + skeleton.names[right][2:]


@pytest.mark.parametrize("name", PRESETS)
def test_parts_of_presets_cover_every_bone_and_mirror_each_other(name: str) -> None:
    skeleton = SKELETONS[name]
    assert {bone for part in skeleton.parts for bone in part} == set(range(skeleton.num_bones))
    mirror = dict(zip(skeleton.left + skeleton.right, skeleton.right + skeleton.left))
    mirror_bone = [skeleton.bone_of[mirror.get(j, j)] for j in skeleton.child]
    mirrored = {tuple(sorted(mirror_bone[bone] for bone in part)) for part in skeleton.parts}
    assert mirrored == set(skeleton.parts)
    tiers = [joint for tier in skeleton.joint_tiers for joint in tier]
    assert len(tiers) == len(set(tiers))
    trunk = {skeleton.child[bone] for bone in skeleton.trunk}
    assert {skeleton.root, *trunk, *tiers} == set(range(skeleton.num_joints))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((1, -1, 3, 2),), "has a cycle: only 2 of 4 joints"),
        (((-1, 0, 0, 3),), "has a cycle: only 3 of 4 joints"),
        (((-1, 0, -1),), r"has the roots \[0, 2\]; expected two joints or more"),
        (((1, 0),), r"has the roots \[\]"),
        (((-1,),), "two joints or more"),
        (((),), "two joints or more"),
        (((-1, 0, 7),), "refers to joint 7, but has only 3 joints"),
        (((-1, 0, 3),), "refers to joint 3, but has only 3 joints"),
        ((CHAIN, (1,), (2, 3)), "must have the same length and no joint in common"),
        ((CHAIN, (1, 2), (3, 1)), "must have the same length and no joint in common"),
        (((-1, 0, 0), (1,), (3,)), "have joints outside 0 to 2"),
        (((-1, 0, 0), (-1,), (2,)), "have joints outside 0 to 2"),
        (
            ((-1, 0, 0, 1, 2), (1, 3), (4, 2)),
            "left joint 1 has the parent 0, but its mirror 4 has the parent 2",
        ),
        ((CHAIN, (1,), (2,)), "left joint 1 has the parent 0, but its mirror 2 has the parent 1"),
        ((CHAIN, (), (), ("a", "b")), "2 names for 4 joints"),
    ],
)
def test_invalid_skeletons_raise(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(SkeletonError, match=message):
        Skeleton(*arguments)


def test_of_accepts_skeletons_names_lists_and_published_objects() -> None:
    published = SimpleNamespace(  # as dataset.skeleton() of VideoPose3D returns it
        parents=lambda: np.array(H36M.parents),
        joints_left=lambda: list(H36M.left),
        joints_right=lambda: list(H36M.right),
    )
    assert Skeleton.of(H36M) is H36M
    assert Skeleton.of("h36m_16") is H36M
    assert Skeleton.of([-1, 0, 1, 2]) == Skeleton(CHAIN)
    assert Skeleton.of(np.array(CHAIN)) == Skeleton(CHAIN)
    converted = Skeleton.of(published)
    assert (converted.parents, converted.left, converted.right) == (
        H36M.parents,
        H36M.left,
        H36M.right,
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("h36m_18", "skeleton='h36m_18' is not a preset; choose one of"),
        (16, "cannot make a skeleton from an object of type int"),
        (None, "cannot make a skeleton from an object of type NoneType"),
        (["pelvis", "spine"], "cannot make a skeleton from an object of type list"),
        ([-1, 5], "refers to joint 5"),
    ],
)
def test_of_raises_on_anything_else(source: object, message: str) -> None:
    with pytest.raises(SkeletonError, match=message):
        Skeleton.of(source)


@pytest.mark.parametrize("count", [15, 16, 17, 21, 24, 25, 26])
def test_for_joints_returns_the_preset(count: int) -> None:
    assert Skeleton.for_joints(count).num_joints == count
    assert Skeleton.for_joints(17) is SKELETONS["h36m_17"]


def test_joints_without_names_are_numbered() -> None:
    assert Skeleton((-1, 0, 0)).joint_names == ("joint 0", "joint 1", "joint 2")
    assert Skeleton((-1, 0), names=["a", "b"]).joint_names == ("a", "b")


def metainfo(names: str, links: list[tuple[int, int]], flip: list[int]) -> dict[str, object]:
    return {
        "keypoint_id2name": dict(enumerate(names.split())),
        "skeleton_links": links,
        "flip_indices": flip,
    }


@pytest.mark.parametrize(
    ("names", "root"),
    [("a b root", 2), ("a pelvis b", 1), ("a b hip", 2), ("a b c", 0), ("right_hip b hip_left", 0)],
)
def test_the_tree_of_metainfo_starts_at_the_joint_that_is_named_as_the_root(
    names: str, root: int
) -> None:
    assert Skeleton.of(metainfo(names, [(0, 1), (1, 2)], [0, 1, 2])).root == root


def test_the_tree_of_metainfo_is_the_shortest_whatever_the_direction_of_its_links() -> None:
    """Joint 3 hangs on the hub, not on the chain that also leads to it."""
    links = [(1, 0), (2, 1), (3, 2), (3, 0), (4, 3)]
    assert Skeleton.of(metainfo("hub a b c d", links, [0, 1, 2, 3, 4])).parents == (-1, 0, 1, 0, 3)


def test_the_sides_of_metainfo_are_told_by_names_anywhere_in_them() -> None:
    """A joint that is its own mirror is on neither side, even if it has such a name."""
    names = "root leg_right leg_left foot_right foot_left left_over"
    links = [(0, 1), (0, 2), (1, 3), (2, 4), (0, 5)]
    skeleton = Skeleton.of(metainfo(names, links, [0, 2, 1, 4, 3, 5]))
    assert (skeleton.left, skeleton.right) == ((2, 4), (1, 3))
    assert skeleton.names == tuple(names.split())


@pytest.mark.parametrize("flip", [None, ["x"], [None]])
def test_metainfo_whose_entries_are_no_numbers_is_refused(flip: object) -> None:
    with pytest.raises(SkeletonError, match="is not a dataset_meta of mmpose"):
        Skeleton.of({**metainfo("a b", [(0, 1)], [0, 1]), "flip_indices": flip})


def test_for_joints_raises_on_an_unknown_count() -> None:
    with pytest.raises(SkeletonError, match=r"no preset skeleton has 18 joints \(known: \[15, 16"):
        Skeleton.for_joints(18)
