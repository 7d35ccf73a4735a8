"""Human3.6M's and 3DHP's formats, in tiny files written here and in shared files if present."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from h36m_helpers import pixels, world, write
from poseaug_plugin import Camera
from poseaug_plugin.data.h36m import (
    FILE_SOURCES,
    KEYPOINTS,
    Pairs,
    keypoint_file,
    load_h36m,
    load_pose_npz,
)
from poseaug_plugin.data.h36m_cameras import CAMERA_NAMES, cameras

SHARED = Path(__file__).parents[3] / "shared" / "data"
OF_32 = [0, 1, 2, 3, 6, 7, 8, 12, 13, 15, 17, 18, 19, 25, 26, 27]
OF_17 = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16]


def small(folder: Path) -> Path:
    """S9 walks 5 frames and sits 4, S11 walks 3. The 2D is up to two frames longer."""
    lengths = {"S9": {"Walking": 5, "Sitting 1": 4}, "S11": {"Walking": 3}}
    return write(
        folder,
        {s: {a: world(n, seed=n) for a, n in actions.items()} for s, actions in lengths.items()},
        {
            s: {a: [pixels(n + k % 3, seed=10 * n + k) for k in range(4)] for a, n in acts.items()}
            for s, acts in lengths.items()
        },
    )


def projected(points: NDArray[Any], camera: NDArray[Any]) -> NDArray[np.float64]:
    """VideoPose3D's projection in float64: (N, J, 3), (N, 9) to (N, J, 2)."""
    lens = camera.astype(np.float64)[:, None]
    f, c, k, p = lens[..., :2], lens[..., 2:4], lens[..., 4:7], lens[..., 7:]
    xx = points[..., :2].astype(np.float64) / points[..., 2:]
    r2 = (xx**2).sum(-1, keepdims=True)
    radial = 1 + k[..., :1] * r2 + k[..., 1:2] * r2**2 + k[..., 2:] * r2**3
    tangential = (p * xx).sum(-1, keepdims=True)
    screen: NDArray[np.float64] = f * (xx * (radial + tangential) + p * r2) + c
    return screen


def test_cameras_stand_in_the_room_and_see_its_middle() -> None:
    for subject in ("S1", "S5", "S6", "S7", "S8", "S9", "S11"):
        views = cameras(subject)
        assert len(views) == len(CAMERA_NAMES) == 4
        for view in views:
            np.testing.assert_allclose(view.rotation @ view.rotation.T, np.eye(3), atol=1e-12)
            assert np.linalg.det(view.rotation) == pytest.approx(1)
            assert 1.3 < view.position[2] < 1.7
            feet, head = view.to_camera([[0.0, 0.0, 0.0], [0.0, 0.0, 1.8]])
            assert 4 < feet[2] < 6
            assert feet[1] - head[1] > 1.7  # y points down
            seen = projected(np.stack([feet, head])[None], view.intrinsics[None])
            assert np.abs(seen).max() < 1


def test_both_focal_lengths_are_in_units_of_half_the_width() -> None:
    """The first camera's images are 1000 x 1002 pixels."""
    first = Camera.from_pixels((1145.0494, 1143.7811), (512.5415, 515.4515), 1000, 1002)
    np.testing.assert_allclose(cameras("S1")[0].intrinsics[:4], [*first.f, *first.c], atol=1e-6)


def test_a_clip_becomes_camera_frame_metres_and_normalised_screen(tmp_path: Path) -> None:
    pairs = load_h36m(small(tmp_path), ["S9", "S11"])
    assert len(pairs) == 4 * (5 + 4 + 3)
    assert pairs.pose_2d.dtype == pairs.pose_3d.dtype == pairs.camera.dtype == torch.float32
    # Rows run by subject, action, camera, frame: row 5 + 1 is S9, Walking, second camera, frame 1.
    row = pairs[6]
    assert (row.subject[0], row.action[0]) == ("S9", "Walking")

    w, x, y, z = 0.618784487247467, -0.7634735107421875, -0.14132238924503326, 0.11933968216180801
    position = np.array([1.990959716796875, -5.123810546875, 1.5688048095703125])
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    expected = np.stack([rotation.T @ (joint - position) for joint in world(5, seed=5)[1, OF_32]])
    np.testing.assert_allclose(row.pose_3d[0], expected, atol=1e-5)

    seen = pixels(6, seed=51)[1, OF_17]  # this camera has one frame more than the motion
    np.testing.assert_allclose(row.pose_2d[0], seen / 500 - 1, atol=1e-6)
    lens = [2.2993513, 2.2951834, 0.0176973, 0.0161298, -0.1942136, 0.2404085, 0.00681998]
    np.testing.assert_allclose(row.camera[0], [*lens, -0.00161903, -0.00274089], atol=1e-6)
    # The first camera is 1000 x 1002 pixels.
    tall = pixels(5, seed=50)[0, OF_17] / 500 - [1, 1.002]
    np.testing.assert_allclose(pairs.pose_2d[0], tall, atol=1e-6)


def test_files_already_reduced_give_the_same_pairs(tmp_path: Path) -> None:
    full, sparse = world(3), pixels(3, channels=3)
    want = load_h36m(write(tmp_path, {"S9": {"A": full}}, {"S9": {"A": [sparse] * 4}}), ["S9"])
    seventeen = [*OF_32[:9], 14, *OF_32[9:]]
    for motion, screen in ((full[:, seventeen], sparse), (full[:, OF_32], sparse[:, OF_17, :2])):
        write(tmp_path, {"S9": {"A": motion}}, {"S9": {"A": [screen] * 4}}, "det")
        got = load_h36m(tmp_path, ["S9"], keypoints="det")
        assert torch.equal(got.pose_3d, want.pose_3d)
        assert torch.equal(got.pose_2d, want.pose_2d)


def test_subjects_and_stride(tmp_path: Path) -> None:
    small(tmp_path)
    everything = load_h36m(tmp_path, "S11,S9")
    assert list(dict.fromkeys(everything.subject)) == ["S11", "S9"]
    thin = load_h36m(tmp_path, ["S9"], stride=2)
    assert len(thin) == 4 * (3 + 2)
    dense = load_h36m(tmp_path, ["S9"])
    assert torch.equal(thin.pose_3d[:3], dense.pose_3d[[0, 2, 4]])
    assert torch.equal(thin.pose_2d[:3], dense.pose_2d[[0, 2, 4]])


def test_missing_files_subjects_and_arrays_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data_3d_h36m.npz.*no .npz file.*DATASETS"):
        load_h36m(tmp_path, ["S9"])
    small(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"cpn_ft_h36m_dbb.npz.*_gt.npz.*VideoPose3D"):
        load_h36m(tmp_path, ["S9"], keypoints="cpn")
    with pytest.raises(FileNotFoundError, match=r"data_2d_h36m_hr.npz.*PoseAug's DATASETS"):
        load_h36m(tmp_path, ["S9"], keypoints="hr")
    with pytest.raises(FileNotFoundError, match=r"data_2d_h36m_my.npz.*known by name: data_3d"):
        load_h36m(tmp_path, ["S9"], keypoints="my")
    with pytest.raises(ValueError, match=r"data_3d_h36m.npz has no 'S1', only S11, S9"):
        load_h36m(tmp_path, ["S1"])
    with pytest.raises(ValueError, match=r"no cameras for subject 'S2'.*S1, S5"):
        load_h36m(tmp_path, ["S2"])
    with pytest.raises(ValueError, match="subjects is empty"):
        load_h36m(tmp_path, [])
    with pytest.raises(ValueError, match="stride is 0"):
        load_h36m(tmp_path, ["S9"], stride=0)
    np.savez(tmp_path / "data_2d_h36m_odd.npz", something=np.zeros(3))
    with pytest.raises(ValueError, match="has no 'positions_2d', only something"):
        load_h36m(tmp_path, ["S9"], keypoints="odd")


@pytest.mark.parametrize("name", KEYPOINTS)
def test_keypoints_have_short_names(tmp_path: Path, name: str) -> None:
    kind = KEYPOINTS[name]
    assert keypoint_file(name) == keypoint_file(kind) == f"data_2d_h36m_{kind}.npz"
    assert keypoint_file(name) in FILE_SOURCES
    write(tmp_path, {"S9": {"A": world(3)}}, {"S9": {"A": [pixels(3)] * 4}}, kind)
    assert torch.equal(
        load_h36m(tmp_path, ["S9"], name).pose_2d, load_h36m(tmp_path, ["S9"], kind).pose_2d
    )


@pytest.mark.parametrize(
    ("joints", "left", "right", "fits"),
    [
        (17, [4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16], True),
        (16, [4, 5, 6, 10, 11, 12], [1, 2, 3, 13, 14, 15], True),
        (16, [3, 4, 5, 13, 14, 15], [0, 1, 2, 10, 11, 12], False),  # MPII's
        (17, [1, 3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 12, 14, 16], False),  # COCO's
    ],
)
def test_joints_in_another_order_are_an_error(
    tmp_path: Path, joints: int, left: list[int], right: list[int], fits: bool
) -> None:
    seen = {"S9": {"A": [pixels(3, joints)] * 4}}
    write(tmp_path, {"S9": {"A": world(3)}}, seen, keypoints_symmetry=[left, right])
    if fits:
        assert len(load_h36m(tmp_path, ["S9"])) == 12
    else:
        with pytest.raises(ValueError, match=r"gt.npz has its left joints at \[.*another order"):
            load_h36m(tmp_path, ["S9"])


def test_frames_are_numbered_within_their_clip(tmp_path: Path) -> None:
    pairs = load_h36m(small(tmp_path), ["S9", "S11"])
    assert pairs.frame is not None
    # Walking and sitting of S9 and walking of S11, each before four cameras.
    clips = [5] * 4 + [4] * 4 + [3] * 4
    apart = torch.ones(len(pairs) - 1, dtype=torch.long)
    apart[np.cumsum(clips)[:-1] - 1] = 2
    assert torch.equal(pairs.frame.diff(), apart)
    some = torch.tensor([7, 3, 20])
    assert torch.equal(pairs[some].frame, pairs.frame[some])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"frame is \(3,\), expected \(48,\)"):
        dataclasses.replace(pairs, frame=torch.arange(3))


def test_poses_are_contiguous(tmp_path: Path) -> None:
    pairs = load_h36m(small(tmp_path), ["S9"])
    path = tmp_path / "poses.npz"
    np.savez(path, pose3d=world(6, 17), pose2d=pixels(6) / 500 - 1)
    plain = load_pose_npz(path)
    assert plain.frame is None
    for poses in (pairs.pose_2d, pairs.pose_3d, plain.pose_2d, plain.pose_3d):
        assert poses.is_contiguous()


@pytest.mark.parametrize(
    ("motion", "screens", "message"),
    [
        ({"A": world(5)}, {"B": [pixels(5)] * 4}, r"gt.npz, S9 has no 'A', only B"),
        (
            {"A": world(5)},
            {"A": [pixels(5)] * 3},
            r"A: 2D poses of 3 cameras, expected 4: 54138969",
        ),
        (
            {"A": world(5)},
            {"A": [pixels(4)] * 4},
            r"camera 54138969: the two files .*4 frames in 2D for 5 in 3D",
        ),
        ({"A": world(5, 20)}, {"A": [pixels(5)] * 4}, r"\(5, 20, 3\), expected .*\[32, 17, 16\]"),
        ({"A": world(5)}, {"A": [pixels(5, 13)] * 4}, r"\(5, 13, 2\), expected"),
        ({"A": world(5) * 1000}, {"A": [pixels(5)] * 4}, r"3d_h36m.npz, S9, A looks like milli"),
    ],
)
def test_wrong_clips_are_named(tmp_path: Path, motion: Any, screens: Any, message: str) -> None:
    write(tmp_path, {"S9": motion}, {"S9": screens})
    with pytest.raises(ValueError, match=message):
        load_h36m(tmp_path, ["S9"])


def test_a_plain_archive(tmp_path: Path) -> None:
    path = tmp_path / "test_3dhp.npz"
    pose_3d = world(6, 17).astype(np.float64)
    pose_2d = (pixels(6) / 500 - 1).astype(np.float64)
    np.savez(path, pose3d=pose_3d, pose2d=pose_2d)
    pairs = load_pose_npz(path)
    np.testing.assert_array_equal(pairs.pose_3d, pose_3d[:, OF_17].astype(np.float32))
    np.testing.assert_array_equal(pairs.pose_2d, pose_2d[:, OF_17].astype(np.float32))
    assert torch.isnan(pairs.camera).all()
    assert pairs.camera.shape == (6, 9)
    assert set(pairs.subject) == {"test_3dhp"}
    assert set(pairs.action) == {""}

    camera, action = np.arange(54.0).reshape(6, 9), np.array(["kick"] * 5 + ["bow"])
    np.savez(path, pose3d=pose_3d, pose2d=pose_2d, cam=camera, action=action)
    pairs = load_pose_npz(str(path))
    np.testing.assert_array_equal(pairs.camera, camera)
    assert list(pairs.action) == list(action)


def test_a_plain_archive_with_wrong_contents_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "poses.npz"
    with pytest.raises(FileNotFoundError, match=r"no poses.npz"):
        load_pose_npz(path)
    good: dict[str, Any] = {"pose3d": world(6, 16), "pose2d": pixels(6, 16) / 500 - 1}
    for change, message in (
        ({"pose3d": good["pose3d"] * 1000}, "pose3d looks like millimetres"),
        ({"pose2d": pixels(6, 16)}, "pose2d looks like pixels"),
        ({"pose3d": world(5, 16)}, r"pose_3d is \(5, 16, 3\), expected \(6, 16, 3\)"),
        ({"pose2d": pixels(6, 14) / 500 - 1}, r"pose2d: poses are \(6, 14, 2\)"),
        ({"cam": np.zeros((6, 4))}, r"camera is \(6, 4\), expected \(6, 9\)"),
        ({"pose3d": np.array([{"runs": "code"}] * 6)}, "Object arrays, expected numbers"),
    ):
        np.savez(path, **{**good, **change})
        with pytest.raises(ValueError, match=message):
            load_pose_npz(path)
    np.savez(path, pose3d=good["pose3d"])
    with pytest.raises(ValueError, match="has no 'pose2d', only pose3d"):
        load_pose_npz(path)


@pytest.mark.parametrize(
    ("name", "right", "wrong", "message"),
    [
        ("pose2d", -9.9, -10.1, "pose2d looks like pixels"),
        ("pose2d", 9.9, 10.1, "pose2d looks like pixels"),
        ("pose3d", -99, -101, "pose3d looks like millimetres"),
        ("pose3d", 99, 101, "pose3d looks like millimetres"),
    ],
)
def test_a_single_large_coordinate_tells_the_unit(
    tmp_path: Path, name: str, right: float, wrong: float, message: str
) -> None:
    arrays = {"pose3d": world(6, 16), "pose2d": pixels(6, 16) / 500 - 1}
    arrays[name][4, 3, 1] = right
    np.savez(tmp_path / "poses.npz", **arrays)  # type: ignore[arg-type]
    assert len(load_pose_npz(tmp_path / "poses.npz")) == 6
    arrays[name][4, 3, 1] = wrong
    np.savez(tmp_path / "poses.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        load_pose_npz(tmp_path / "poses.npz")


def test_an_archive_without_arrays_has_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "poses.npz")
    with pytest.raises(ValueError, match=r"poses.npz has no 'pose3d', only nothing"):
        load_pose_npz(tmp_path / "poses.npz")


def test_rows_of_pairs(tmp_path: Path) -> None:
    pairs = load_h36m(small(tmp_path), ["S9", "S11"])
    mask = torch.from_numpy(pairs.action == "Walking")
    walking = pairs[mask]
    assert len(walking) == 4 * (5 + 3)
    assert set(walking.action) == {"Walking"}
    assert torch.equal(walking.pose_3d, pairs.pose_3d[mask])
    index = torch.tensor([40, 2, 2])
    picked = pairs[index]
    assert torch.equal(picked.pose_2d, pairs.pose_2d[index])
    assert torch.equal(picked.camera, pairs.camera[index])
    assert list(picked.subject) == ["S11", "S9", "S9"]
    assert len(pairs[3:7]) == 4
    assert len(pairs[-1]) == 1
    assert len(pairs[torch.zeros(len(pairs), dtype=torch.bool)]) == 0
    with pytest.raises(IndexError):
        pairs[len(pairs)]

    root_relative = pairs.root_relative
    assert torch.equal(root_relative[:, 0], torch.zeros(len(pairs), 3))
    assert torch.equal(root_relative[:, 5], pairs.pose_3d[:, 5] - pairs.pose_3d[:, 0])


def test_fields_of_different_length_are_an_error() -> None:
    rows = np.full(4, "")
    with pytest.raises(ValueError, match=r"camera is \(3, 9\), expected \(4, 9\)"):
        Pairs(torch.zeros(4, 16, 2), torch.zeros(4, 16, 3), torch.zeros(3, 9), rows, rows)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not published")
def test_the_shared_files_are_consistent() -> None:
    for pairs in (
        load_h36m(SHARED, ["S1", "S9", "S11"], stride=20),
        load_pose_npz(SHARED / "cross_a.npz"),
    ):
        screen = projected(pairs.pose_3d.numpy(), pairs.camera.numpy())
        assert np.abs(screen - pairs.pose_2d.numpy()).max() < 1e-4
    detected = load_h36m(SHARED, ["S11"], keypoints="det", stride=20)
    exact = load_h36m(SHARED, ["S11"], stride=20)
    assert torch.equal(detected.pose_3d, exact.pose_3d)
    error_px = (detected.pose_2d - exact.pose_2d).norm(dim=-1).mean() * 500
    assert 4 < error_px < 12
