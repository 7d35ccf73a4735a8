"""The synthetic people: anatomy, ground, frame, cameras, domain gap, determinism."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from poseaug_plugin.data import synthetic, synthetic_motions
from poseaug_plugin.data.h36m import Pairs
from poseaug_plugin.data.h36m_cameras import cameras

PARENTS = [0, 1, 2, 0, 4, 5, 0, 7, 8, 8, 10, 11, 8, 13, 14]  # of joints 1 to 15
TRAIN, SOURCE, CROSS = range(3)
#: Of each set: rows, and mean and standard deviation of a weighted sum of 3D and of camera.
NUMBERS = [
    [21_009, 0.9183088, 1.0126281, -3.9740149, 0.0042799],
    [4_223, 0.9116457, 0.9843629, -3.9740219, 0.0042753],
    [4_190, 0.6914666, 1.4127864, -2.9881626, 0.4475333],
    [704, 0.7830478, 0.9616112, -3.9740231, 0.0042780],
    [140, 0.5448937, 1.4269451, -3.1251694, 0.4053632],
]


@pytest.fixture(scope="module")
def sets() -> tuple[Pairs, Pairs, Pairs]:
    return synthetic.make.__wrapped__()


def bones(pose_3d: Tensor) -> Tensor:
    """(N, 15, 3) vectors from parent to joint."""
    return pose_3d[:, 1:] - pose_3d[:, PARENTS]


def forwards(pose_3d: Tensor, near: int, middle: int, far: int) -> Tensor:
    """(N,) metres by which the outer bone of a limb points to the front of its inner bone."""
    to_left = pose_3d[:, 4] - pose_3d[:, 1]
    inner = pose_3d[:, middle] - pose_3d[:, near]
    front = torch.linalg.cross(inner, to_left)
    front = front / front.norm(dim=-1, keepdim=True)
    outer: Tensor = pose_3d[:, far] - pose_3d[:, middle]
    return (outer * front).sum(dim=-1)


def in_world(pairs: Pairs) -> NDArray[np.float64]:
    """(N, 16, 3) of source pairs in the world, by the camera with their intrinsics."""
    world = np.full(pairs.pose_3d.shape, np.nan)
    for subject in set(pairs.subject):
        for camera in cameras(subject):
            lens = torch.from_numpy(camera.intrinsics).float()
            rows = (pairs.camera == lens).all(dim=1).numpy() & (pairs.subject == subject)
            world[rows] = pairs.pose_3d[rows].numpy() @ camera.rotation.T + camera.position
    return world


def test_sizes_and_people(sets: tuple[Pairs, Pairs, Pairs]) -> None:
    for pairs, count in zip(sets, (20_000, 4_000, 4_000)):
        assert count <= len(pairs) <= 1.1 * count
    assert set(sets[TRAIN].subject) == {"S1", "S5", "S6", "S7", "S8"}
    assert set(sets[SOURCE].subject) == {"S9", "S11"}
    assert set(sets[TRAIN].action) == set(sets[SOURCE].action)
    assert not set(sets[TRAIN].action) & set(sets[CROSS].action)
    assert len(set(sets[TRAIN].action)) == 8
    assert len(set(sets[CROSS].action)) == 7


def test_every_joint_is_in_front_of_the_camera_and_in_the_image(
    sets: tuple[Pairs, Pairs, Pairs],
) -> None:
    for pairs in sets:
        assert torch.isfinite(pairs.pose_3d).all()
        assert pairs.pose_2d.abs().max() <= 1
        assert pairs.pose_3d[..., 2].min() > 0.5


def test_pose_2d_is_the_projection_of_pose_3d(sets: tuple[Pairs, Pairs, Pairs]) -> None:
    for pairs in sets:
        lens = pairs.camera.double()[:, None]
        plane = pairs.pose_3d[..., :2].double() / pairs.pose_3d[..., 2:]
        r2 = plane.square().sum(dim=-1, keepdim=True)
        radial = sum(lens[..., 4 + i : 5 + i] * r2 ** (i + 1) for i in range(3))
        tangential = lens[..., 7:]
        bend = 1 + radial + (tangential * plane).sum(dim=-1, keepdim=True)
        screen = lens[..., :2] * (plane * bend + tangential * r2) + lens[..., 2:4]
        assert (screen - pairs.pose_2d).abs().max() < 1e-5


def test_bones_keep_their_length_and_left_equals_right(sets: tuple[Pairs, Pairs, Pairs]) -> None:
    right, left = [0, 1, 2, 12, 13, 14], [3, 4, 5, 9, 10, 11]
    for pairs in sets:
        lengths = bones(pairs.pose_3d).norm(dim=-1)
        assert (lengths[:, left] - lengths[:, right]).abs().max() < 1e-4
        assert lengths.min() > 0.06
        assert lengths.max() < 0.62
        for subject in set(pairs.subject):
            own = lengths[torch.from_numpy(pairs.subject == subject)]
            assert (own - own[0]).abs().max() < 1e-4


def test_knees_bend_backwards_and_hanging_arms_forwards(sets: tuple[Pairs, Pairs, Pairs]) -> None:
    for pairs in sets:
        pose = pairs.pose_3d
        for hip, knee, ankle in ((1, 2, 3), (4, 5, 6)):
            assert forwards(pose, hip, knee, ankle).max() < 0.01
        up = pose[:, 8] - pose[:, 0]
        for shoulder, elbow, wrist in ((10, 11, 12), (13, 14, 15)):
            upper = pose[:, elbow] - pose[:, shoulder]
            hanging = torch.cosine_similarity(upper, up, dim=-1) < -0.95
            assert hanging.sum() > 100
            assert forwards(pose, shoulder, elbow, wrist)[hanging].min() > -0.05


def test_shoulders_are_on_the_side_of_their_hips(sets: tuple[Pairs, Pairs, Pairs]) -> None:
    for pairs in sets:
        hips = pairs.pose_3d[:, 4] - pairs.pose_3d[:, 1]
        shoulders = pairs.pose_3d[:, 10] - pairs.pose_3d[:, 13]
        assert torch.cosine_similarity(hips, shoulders, dim=-1).min() > 0.3


def test_both_knees_and_elbows_really_bend(sets: tuple[Pairs, Pairs, Pairs]) -> None:
    for pairs in sets:
        unit = torch.nn.functional.normalize(bones(pairs.pose_3d), dim=-1)
        for inner, outer in ((1, 2), (4, 5), (10, 11), (13, 14)):
            cosine = (unit[:, inner] * unit[:, outer]).sum(dim=-1).clamp(-1, 1)
            angle = torch.rad2deg(torch.arccos(cosine))
            assert angle.max() < 146
            assert angle.quantile(0.95) > 70
            assert angle.quantile(0.05) < 20


def test_source_people_stand_on_the_ground_of_the_room_and_mostly_upright(
    sets: tuple[Pairs, Pairs, Pairs],
) -> None:
    for pairs in sets[:CROSS]:
        world = in_world(pairs)
        lowest = world[..., 2].min(axis=1)
        np.testing.assert_allclose(lowest, 0.08, atol=1e-3)
        ankles = world[:, [3, 6], 2]
        np.testing.assert_allclose(ankles.min(axis=1), lowest, atol=1e-3)
        assert np.abs(world[:, 0, :2]).max() < 3
        trunk = world[:, 8] - world[:, 0]
        upright = trunk[:, 2] / np.linalg.norm(trunk, axis=1)
        assert (upright > 0.9).mean() > 0.75
        assert world[:, 0, 2].min() > 0.3
        assert world[:, 9, 2].max() < 1.9


def test_walkers_walk_the_way_they_face() -> None:
    rng = np.random.default_rng(3)
    body = synthetic.sample_body(rng, 1.75, std=0.0)
    world = synthetic.animate(rng, synthetic.SOURCE_MOTIONS["Walking"], body, frames=30)
    to_left = (world[:, 4] - world[:, 1])[:-1, :2]
    front = np.stack([to_left[:, 1], -to_left[:, 0]], axis=1)
    going = np.diff(world[:, 0, :2], axis=0)
    cosine = (front * going).sum(axis=1) / np.linalg.norm(front, axis=1)
    assert (cosine > 0.05).all()  # metres in a tenth of a second
    assert np.abs(np.diff(world, axis=0)).max() < 0.6  # nobody jumps between two frames


def test_the_two_domains_differ_in_bodies_views_and_lenses(
    sets: tuple[Pairs, Pairs, Pairs],
) -> None:
    def spread(pairs: Pairs) -> dict[str, float]:
        trunk = torch.nn.functional.normalize(pairs.root_relative[:, 8], dim=-1)
        return {
            "leg": float(bones(pairs.pose_3d)[:, :3].norm(dim=-1).sum(dim=1).std()),
            "view": float(trunk[:, 2].std()),
            "distance": float(pairs.pose_3d[:, 0, 2].std()),
            "focal": float(pairs.camera[:, 0].std()),
        }

    train, source, cross = map(spread, sets)
    for name in ("leg", "view", "focal"):
        assert cross[name] > 1.3 * max(train[name], source[name]), name
    assert cross["distance"] > 0.5
    lens = sets[CROSS].camera
    assert 1.3 <= lens[:, 0].min() < 1.4
    assert 2.1 < lens[:, 0].max() <= 2.2
    assert not lens[:, 4:].any()
    assert sets[TRAIN].camera[:, 4].abs().min() > 0.1

    def legs(pairs: Pairs) -> set[float]:
        lengths = bones(pairs.pose_3d)[:, 1].norm(dim=-1)
        return {round(float(lengths[pairs.subject == s].mean()), 4) for s in set(pairs.subject)}

    assert len(legs(sets[TRAIN]) | legs(sets[SOURCE])) == 7


def test_random_cameras_keep_their_heights_and_distances() -> None:
    rng = np.random.default_rng(5)
    person = np.array([[[0.2, -0.1, z] for z in np.linspace(0, 0.5, 16)]])  # a person on the floor
    heights, distances = [], []
    for _ in range(300):
        camera = synthetic.random_camera(rng, person)
        np.testing.assert_allclose(camera.rotation @ camera.rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(camera.rotation) == pytest.approx(1)
        heights.append(camera.position[2])
        distances.append(float(np.linalg.norm(camera.position - person.mean(axis=(0, 1)))))
        low, high = camera.to_camera([[0.2, -0.1, 0], [0.2, -0.1, 0.5]])
        assert high[1] < low[1]  # never upside down
    assert 0.2 <= min(heights) < 0.4
    assert 2.8 < max(heights) <= 3.0
    assert 2.6 <= min(distances) < 3.2
    assert 5.2 < max(distances) <= 5.5


def test_another_seed_gives_other_data(sets: tuple[Pairs, Pairs, Pairs]) -> None:
    for first, other in zip(sets, synthetic.make(1)):
        assert not torch.equal(first.pose_3d[:100], other.pose_3d[:100])


def test_the_data_of_published_numbers_does_not_change(sets: tuple[Pairs, Pairs, Pairs]) -> None:
    """The sets, and small ones of all motions. Each joint and intrinsic has its own weight."""

    def sums(rows: Tensor) -> list[float]:
        values = rows.double().flatten(1)
        weighted = values @ torch.linspace(-1, 1, values.shape[1], dtype=torch.float64)
        return [float(weighted.mean()), float(weighted.std())]

    studio = synthetic._source_pairs(np.random.default_rng(0), {"S1": 1.7}, clips=8)
    elsewhere = synthetic._cross_pairs(np.random.default_rng(0), clips=7)
    made = (*sets, studio, elsewhere)
    found = [[len(each), *sums(each.pose_3d), *sums(each.camera)] for each in made]
    assert found == [pytest.approx(numbers, abs=1e-6) for numbers in NUMBERS]


def test_mirrored_angles_give_the_mirrored_pose() -> None:
    """With angles that all differ, also between left and right."""
    number = len(synthetic_motions.ANGLE_MIN)
    share = np.random.default_rng(4).uniform(0.2, 0.8, (5, number))
    low, high = synthetic_motions.ANGLE_MIN, synthetic_motions.ANGLE_MAX
    angles = low + share * (high - low)
    body = synthetic.sample_body(np.random.default_rng(4), 1.75, std=0.02)
    pose, mirrored = (
        synthetic._forward_kinematics(each, body) for each in (angles, synthetic.mirror(angles))
    )
    exchanged = pose[:, [0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 13, 14, 15, 10, 11, 12]] * [1, -1, 1]
    np.testing.assert_allclose(mirrored, exchanged, atol=1e-12)
    np.testing.assert_array_equal(synthetic.mirror(synthetic.mirror(angles)), angles)


def test_global_random_state_is_neither_read_nor_changed(sets: tuple[Pairs, Pairs, Pairs]) -> None:
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    again = synthetic.make.__wrapped__(0)
    after = random.random(), np.random.rand(), float(torch.rand(()))
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    assert after == (random.random(), np.random.rand(), float(torch.rand(())))
    for first, second in zip(sets, again):  # equal seeds give equal data
        assert torch.equal(first.pose_2d, second.pose_2d)
        assert torch.equal(first.pose_3d, second.pose_3d)
        assert torch.equal(first.camera, second.camera)
        assert (first.subject == second.subject).all()
        assert (first.action == second.action).all()


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="non-negative"):
        synthetic.make(-1)
