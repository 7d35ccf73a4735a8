"""What used to be misread without a word: image space, pixels, statistics, people as frames."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import H36M, cameras, people
from loop_helpers import attached, small
from poseaug_plugin import (
    BatchError,
    BatchFormat,
    Camera,
    ConfigError,
    DataError,
    PoseAugWarning,
    Skeleton,
)
from poseaug_plugin.batches.check import inspect
from poseaug_plugin.batches.image_space import to_image
from poseaug_plugin.batches.infer import infer_format
from poseaug_plugin.batches.presets import FORMATS, martinez
from poseaug_plugin.batches.reader import BatchReader
from poseaug_plugin.geometry.camera import project

H36M_17 = Skeleton.of("h36m_17")
ALL = torch.ones(8, dtype=torch.bool)


def problems(batch: Any, fmt: BatchFormat, skeleton: Skeleton = H36M) -> str:
    poses = fmt.read(batch, skeleton, Camera())
    return " | ".join(inspect(batch, poses, fmt, skeleton).problems)


def doubts(batch: Any, fmt: BatchFormat) -> str:
    poses = fmt.read(batch, H36M, Camera())
    return " | ".join(inspect(batch, poses, fmt, H36M).doubts)


def pairs(rows: int = 8, frames: int = 1) -> tuple[Tensor, Tensor]:
    """Absolute 3D (B, T, 16, 3) and exact 2D by the default camera."""
    pose_3d = people(rows, frames)
    return pose_3d, project(pose_3d, Camera().intrinsics)


@pytest.mark.parametrize("root", ["absolute", "relative", "slot"])
def test_3d_that_is_relative_to_another_point_than_the_root_is_told(root: str) -> None:
    """To the middle of the body, the thorax or the middle of the hips, where the root is a nose."""
    pose_3d, pose_2d = pairs(16)
    fmt = BatchFormat(pose_3d=0, pose_2d=1, root=root)
    for point in (pose_3d.mean(2, keepdim=True), pose_3d[:, :, 8:9]):
        found = problems((pose_3d - point, pose_2d), fmt)
        assert "not the skeleton's root, joint 0 (pelvis)" in found
        assert "looks like" not in found
        assert "m from the camera" not in found


def test_a_frame_beside_the_people_is_not_taken_for_a_point_of_the_body() -> None:
    pose_3d, pose_2d = pairs(16)
    beside = pose_3d - pose_3d[:, :, 8:9] + torch.tensor([3.0, 0, 0])
    found = problems((beside, pose_2d), BatchFormat(pose_3d=0, pose_2d=1, root="absolute"))
    assert found
    assert "not the skeleton's root" not in found


@pytest.mark.parametrize("root", ["absolute", "slot"])
def test_padding_does_not_hide_where_the_root_is(root: str) -> None:
    pose_3d, pose_2d = pairs(32)
    if root == "slot":
        pose_3d = torch.cat([pose_3d[:, :, :1], pose_3d[:, :, 1:] - pose_3d[:, :, :1]], 2)
    pose_3d[:20], pose_2d[:20] = 0, 0
    fmt = BatchFormat(pose_3d=0, pose_2d=1, root=root)
    assert not problems((pose_3d, pose_2d), fmt)
    assert infer_format((pose_3d, pose_2d), H36M)[0].root == root


def test_the_screen_of_another_image_is_doubted_if_there_is_no_camera() -> None:
    pose_3d, pose_2d = (field[:, 0] for field in pairs(16))
    w, h = 1920, 1080
    pixels = (pose_2d + torch.tensor([1, h / w])) * w / 2
    for screen, told in (((w, h), False), ((h, w), True), ((w, w), True), ((w, 1000), False)):
        fmt = BatchFormat(pose_3d=0, pose_2d=1, root="absolute", screen=screen)
        assert ("instead of the centre of the image" in doubts((pose_3d, pixels), fmt)) is told


@pytest.mark.parametrize("size", [(1920, 1080), (640, 480), (480, 640)])
def test_width_and_height_in_the_wrong_order_are_doubted_if_the_3d_has_no_root(
    size: tuple[int, int],
) -> None:
    pose_3d, pose_2d = (field[:, 0] for field in pairs(64))
    relative, (w, h) = pose_3d - pose_3d[:, :1], size
    pixels = (pose_2d * 0.5 + torch.tensor([1, h / w])) * w / 2
    for screen, told in ((size, False), (size[::-1], True)):
        fmt = BatchFormat(pose_3d=0, pose_2d=1, root="relative", screen=screen)
        assert ("is screen= (width, height)?" in doubts((relative, pixels), fmt)) is told


# Image space


@pytest.mark.parametrize("subtracted", [False, True])
@pytest.mark.parametrize("noise", [0.0, 0.004])
def test_image_space_is_told_from_metres_by_the_numbers(subtracted: bool, noise: float) -> None:
    pose_3d, pose_2d = pairs(64)
    uvd = to_image(pose_3d, Camera().intrinsics[None], root=0)
    uvd = uvd - uvd[:, :, :1] if subtracted else uvd
    pose_2d = pose_2d + noise * torch.randn(pose_2d.shape, generator=torch.Generator())
    root = "relative" if subtracted else "absolute"
    found = problems((uvd, pose_2d), BatchFormat(pose_3d=0, pose_2d=1, root=root))
    assert "the 3D is in image space" in found
    assert "space='image'" in found
    assert "mmpose_motionbert" in found
    right = BatchFormat(pose_3d=0, pose_2d=1, space="image", root=root)
    assert not problems((uvd, pose_2d), right)
    other = BatchFormat(
        pose_3d=0, pose_2d=1, space="image", root="absolute" if subtracted else "relative"
    )
    assert f"root={root!r}" in problems((uvd, pose_2d), other)


@pytest.mark.parametrize("distance", [2.0, 2.29, 3.0])
def test_metres_are_not_taken_for_image_space(distance: float) -> None:
    """At as many metres as the focal length, a metre is a screen unit."""
    pose_3d = people(64)
    pose_3d = pose_3d - pose_3d[:, :, :1] + torch.tensor([0.0, 0.0, distance])
    pose_2d = project(pose_3d, Camera().intrinsics)
    assert not problems((pose_3d, pose_2d), BatchFormat(pose_3d=0, pose_2d=1, root="absolute"))


def test_image_space_with_the_root_subtracted_comes_back_as_it_was_and_projects() -> None:
    pose_3d, pose_2d = pairs(8)
    uvd = to_image(pose_3d, Camera().intrinsics[None], root=0)
    batch = uvd - uvd[:, :, :1], pose_2d
    fmt = BatchFormat(pose_3d=0, pose_2d=1, space="image", root="relative")
    poses = fmt.read(batch, H36M, Camera())
    assert torch.allclose(project(poses.absolute, Camera().intrinsics), pose_2d, atol=1e-5)
    written = fmt.write(batch, poses, ALL, H36M)
    assert torch.allclose(written[0], batch[0], atol=1e-5)
    augmenter, _, _ = attached(small("random", ratio=1.0), batch=fmt, skeleton=H36M)
    new_3d, new_2d = augmenter(batch)
    changed = (new_3d != batch[0]).flatten(1).any(1)
    assert changed.sum() >= 4
    xy = new_3d[changed][..., :2]
    assert torch.allclose(xy, (new_2d - new_2d[:, :, :1])[changed], atol=1e-4)


def test_mmposes_motionbert_has_a_name() -> None:
    fmt = FORMATS["mmpose_motionbert"]
    assert (fmt.space, fmt.root) == ("image", "relative")
    assert FORMATS["motionbert"].root == "absolute"


# Pixels


def pixel_batch() -> tuple[Tensor, Tensor, Tensor]:
    """Absolute 3D, 2D and cameras in pixels of 1920 x 1080."""
    pose_3d, camera = people(8)[:, 0], cameras(8)
    pose_2d = (project(pose_3d, camera[:, None][:, 0]) + torch.tensor([1.0, 1080 / 1920])) * 960
    pixels = camera.clone()
    pixels[:, :2] *= 960
    pixels[:, 2:4] = (pixels[:, 2:4] + torch.tensor([1.0, 1080 / 1920])) * 960
    return pose_3d, pose_2d, pixels


def test_pixels_with_a_camera_in_pixels_are_refused_with_the_cure() -> None:
    fmt = BatchFormat(pose_3d=0, pose_2d=1, camera=2, root="absolute")
    assert "in pixels" in problems(pixel_batch(), fmt)
    assert "pass screen=(w, h)" in problems(pixel_batch(), fmt)
    pose_3d, _, pixels = pixel_batch()
    screen_units = project(pose_3d, cameras(8))
    assert "focal length is 2196" in problems((pose_3d, screen_units, pixels), fmt)


@pytest.mark.parametrize("matrix", [False, True])
def test_a_screen_converts_the_camera_too_and_back(matrix: bool) -> None:
    pose_3d, pose_2d, pixels = pixel_batch()
    if matrix:  # pinhole: exact without the distortion
        pixels[:, 4:] = 0
        unit = cameras(8)
        unit[:, 4:] = 0
        pose_2d = (project(pose_3d, unit) + torch.tensor([1.0, 1080 / 1920])) * 960
        K = torch.zeros(8, 3, 3)
        K[:, 0, 0], K[:, 1, 1], K[:, :2, 2], K[:, 2, 2] = *pixels[:, :2].T, pixels[:, 2:4], 1
        pixels = K
    fmt = BatchFormat(pose_3d=0, pose_2d=1, camera=2, root="absolute", screen=(1920, 1080))
    batch = pose_3d, pose_2d, pixels
    assert not problems(batch, fmt)
    poses = fmt.read(batch, H36M, Camera())
    expected = cameras(8)
    expected[:, 4:] *= not matrix
    assert torch.allclose(poses.camera, expected, atol=1e-5)
    written = fmt.write(batch, poses, ALL, H36M)
    assert torch.allclose(written[2], pixels, rtol=1e-5, atol=1e-3)
    augmenter, _, _ = attached(small("random", ratio=1.0), batch=fmt, skeleton=H36M)
    made = augmenter(batch)
    again = fmt.read(made, H36M, Camera())
    assert torch.allclose(project(again.absolute, again.camera[:, None]), again.pose_2d, atol=1e-4)
    assert not torch.equal(made[2], pixels)  # the focal length is the new one


def test_matrices_in_screen_units_are_read_and_written_back() -> None:
    pose_3d = people(8)[:, 0]
    unit = cameras(8)
    unit[:, 4:] = 0
    K = torch.eye(3).repeat(8, 1, 1)
    K[:, 0, 0], K[:, 1, 1], K[:, :2, 2] = unit[:, 0], unit[:, 1], unit[:, 2:4]
    fmt = BatchFormat(pose_3d=0, pose_2d=1, camera=2, root="absolute")
    batch = pose_3d, project(pose_3d, unit), K
    assert torch.equal(fmt.read(batch, H36M, Camera()).camera, unit)
    augmenter, _, _ = attached(small("random", ratio=1.0), batch=fmt, skeleton=H36M)
    made = augmenter(batch)
    assert made[2].shape == K.shape
    again = fmt.read(made, H36M, Camera())
    assert torch.allclose(project(again.absolute, again.camera[:, None]), again.pose_2d, atol=1e-4)


def test_people_who_are_mirrored_out_of_the_image_are_doubted() -> None:
    """ST-GCN with crop_uv and mmpose's configs mirror pixels about 0, not about the middle."""
    pose_3d, pose_2d, pixels = pixel_batch()
    mirrored = [pose_3d.clone(), pose_2d.clone(), pixels.clone()]
    for field, column in zip(mirrored, (0, 0, 2)):
        field[::2, ..., column] *= -1
    fmt = BatchFormat(pose_3d=0, pose_2d=1, camera=2, root="absolute", screen=(1920, 1080))
    assert "50% of the people are outside the image" in doubts(tuple(mirrored), fmt)
    assert "outside" not in doubts((pose_3d, pose_2d, pixels), fmt)


@pytest.mark.parametrize("camera", [None, 2])
def test_an_assumed_camera_is_not_held_against_the_batch(camera: int | None) -> None:
    """VideoPose3D's batches have None in the camera's place where there is none."""
    pose_3d = people(64)
    lens = Camera(f=(1.5, 1.5), c=(0.0, 0.0)).intrinsics
    batch = pose_3d, project(pose_3d, lens), None
    fmt = BatchFormat(pose_3d=0, pose_2d=1, camera=camera, root="absolute")
    assert not fmt.read(batch, H36M, Camera()).has_camera
    assert not problems(batch, fmt)


# The frame


@pytest.mark.parametrize("told_by", ["screen", "camera", "config"])
def test_people_stay_inside_the_images_own_height(told_by: str) -> None:
    pose_3d, pose_2d, pixels = pixel_batch()
    fmt = BatchFormat(pose_3d=0, pose_2d=1, camera=2, root="absolute", screen=(1920, 1080))
    batch: tuple[Tensor, ...] = (pose_3d, pose_2d, pixels)
    changes: dict[str, Any] = {}
    options: dict[str, Any] = {}
    if told_by != "screen":
        fmt = BatchFormat(pose_3d=0, pose_2d=1, root="absolute")
        batch = pose_3d, project(pose_3d, Camera().intrinsics)
        if told_by == "camera":
            options["camera"] = Camera.from_pixels((2198, 2198), (960, 540), 1920, 1080)
        else:
            changes["frame_height"] = 1080 / 1920
    batch = tuple(field.repeat(64, *[1] * (field.ndim - 1)) for field in batch)
    config = small("random", ratio=1.0, image_offset=0.5, **changes)
    augmenter, _, _ = attached(config, batch=fmt, skeleton=H36M, **options)
    made, accepted, _ = augmenter.preview(batch)
    assert 50 < accepted.sum() < 500
    y = made.pose_2d[accepted][..., 1].abs()
    assert 0.5 < float(y.max()) <= 1080 / 1920


# Statistics


@pytest.mark.parametrize("mean", [0.0, 0.3])
def test_a_deviation_of_0_stays_finite_and_keeps_what_is_there(mean: float) -> None:
    """Root-relative data has it at the root, where some write 0 and some anything."""
    pose_3d, pose_2d = pairs(8)
    relative = (pose_3d - pose_3d[:, :, :1])[:, 0]
    means, std = torch.full((48,), 0.0), torch.full((48,), 0.5)
    std[:3], means[:3] = 0.0, 0.0
    field = relative.flatten(1) / 0.5
    field[:, :3] = mean
    fmt = BatchFormat(pose_3d=0, pose_2d=1, stat_3d=(means, std))
    augmenter, _, _ = attached(small("random", ratio=1.0), batch=fmt, skeleton=H36M)
    made = augmenter((field, pose_2d[:, 0]))
    assert made[0].isfinite().all()
    assert (made[0] != field).any()
    assert torch.equal(made[0][:, :3], field[:, :3])


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_numbers_that_the_callers_dtype_cannot_hold_leave_the_row_as_it_is(kind: str) -> None:
    """float16 ends at 65504: 65 m in millimetres."""
    pose_3d, pose_2d = pairs(64)
    half = (pose_3d[:, 0] * 1000).half()
    batch: tuple[Any, ...] = half, pose_2d[:, 0]
    if kind == "numpy":
        batch = half.numpy(), pose_2d[:, 0].numpy()
    fmt = BatchFormat(pose_3d=0, pose_2d=1, root="absolute", unit=0.001)
    config = small("random", ratio=1.0, distance=(20.0, 110.0))
    augmenter, _, _ = attached(config, batch=fmt, skeleton=H36M)
    made = augmenter(batch)
    values = torch.as_tensor(np.asarray(made[0]).astype(np.float32))
    assert values.isfinite().all()
    changed = (values != half.float()).flatten(1).any(1)
    assert 10 < changed.sum() < 64
    assert values[changed][..., 2].max() > 40_000


# People and fields


def test_people_of_one_image_are_not_frames() -> None:
    pose_3d, _ = pairs(24)
    crowd = pose_3d[:, 0].view(8, 3, 16, 3).clone()
    crowd[:, 1] *= 1.06
    crowd[:, :, :, 0] += torch.tensor([-1.0, 0.0, 1.0])[:, None]
    batch = crowd, project(crowd, Camera().intrinsics)
    fmt = BatchFormat(pose_3d=0, pose_2d=1, root="absolute")
    assert "look like different people" in problems(batch, fmt)
    assert "groups=" in problems(batch, fmt)
    clip, clip_2d = pairs(8, 9)
    assert not problems((clip, clip_2d), fmt)


def test_noisy_clips_in_millimetres_are_not_people_of_one_image() -> None:
    clip, clip_2d = pairs(8, 9)
    noise = 0.03 * torch.randn(clip.shape, generator=torch.Generator().manual_seed(0))
    found = problems(
        (1000 * (clip + noise), clip_2d), BatchFormat(pose_3d=0, pose_2d=1, root="absolute")
    )
    assert "unit=0.001" in found
    assert "different people" not in found


def test_fields_that_may_describe_the_old_pose_are_doubted_by_name() -> None:
    pose_3d, pose_2d = (field[:, 0] for field in pairs(8))
    fmt = BatchFormat(pose_3d="x", pose_2d="y", root="absolute")
    batch = {"x": pose_3d, "y": pose_2d, "root": torch.zeros(8, 3), "id": torch.arange(8)}
    batch["name"] = ["walking"] * 8
    found = doubts(batch, fmt)
    assert "['root']" in found
    assert "passed through unchanged" in found
    assert not doubts({k: v for k, v in batch.items() if k != "root"}, fmt)


@pytest.mark.parametrize("shape", [(8, 16, 5), (8, 16, 6), (8, 3, 32, 32), (8, 16, 32, 32)])
def test_copies_of_the_pose_and_images_are_told_when_training_starts(shape: Any) -> None:
    pose_3d, pose_2d = pairs()
    given = (torch.rand(shape), pose_3d, pose_2d)
    found = doubts(given, BatchFormat(pose_3d=1, pose_2d=2, root="absolute"))
    assert "the fields [0] hold points" in found
    assert "a loop that trains on them trains on the original rows" in found


@pytest.mark.parametrize(
    ("third", "told"), [(0.0, False), (1.0, False), (-0.2, True), (1.04, True), (4.0, True)]
)
def test_a_third_channel_that_is_no_confidence_is_doubted(third: float, told: bool) -> None:
    """A depth, a velocity, or a ray as in Ray3D."""
    pose_3d, pose_2d = pairs()
    channel = torch.full_like(pose_2d[..., :1], 0.5)
    channel[3, 0, 4] = third
    fmt = BatchFormat(pose_3d=0, pose_2d=1, root="absolute")
    found = doubts((pose_3d, torch.cat([pose_2d, channel], -1)), fmt)
    assert ("the third channel of the 2D goes from" in found) is told
    assert ("yield the 2D without it" in found) is told


@pytest.mark.parametrize(("share", "told"), [(0.05, False), (0.2, True), (0.4, True)])
def test_a_minority_of_mirrored_2d_is_doubted(share: float, told: bool) -> None:
    """A loader that mirrors the 2D of some rows, but not their 3D."""
    pose_3d, pose_2d = pairs(64)
    pose_2d[: int(64 * share)] *= torch.tensor([-1.0, 1.0])
    found = doubts((pose_3d, pose_2d), BatchFormat(pose_3d=0, pose_2d=1, root="absolute"))
    assert ("of the poses do not project onto their 2D" in found) is told


@pytest.mark.parametrize(("focal", "told"), [(2.29, False), (2.5, False), (1.1, True), (1.0, True)])
def test_an_assumed_focal_length_that_is_wrong_is_doubted_and_the_right_one_named(
    focal: float, told: bool
) -> None:
    pose_3d = people(64, 1)
    pose_2d = project(pose_3d, Camera(f=(focal, focal)).intrinsics)
    found = doubts((pose_3d, pose_2d), BatchFormat(pose_3d=0, pose_2d=1, root="absolute"))
    assert (f"pass camera=Camera(f=({focal:.2f}, {focal:.2f}))" in found) is told


def test_people_upside_down_are_doubted() -> None:
    pose_3d, pose_2d = pairs(32)
    fmt = BatchFormat(pose_3d=0, pose_2d=1, root="absolute")
    assert "upside down" not in doubts((pose_3d, pose_2d), fmt)
    up = torch.tensor([1.0, -1.0, 1.0])
    assert "y points up. Negate the y of 2D and 3D" in doubts((pose_3d * up, pose_2d * up[:2]), fmt)


@pytest.mark.parametrize("joint", [0, 8, 15])
def test_2d_relative_to_any_joint_is_refused(joint: int) -> None:
    pose_3d, pose_2d = pairs(16)
    found = problems(
        (pose_3d - pose_3d[:, :, :1], pose_2d - pose_2d[:, :, joint, None]),
        BatchFormat(pose_3d=0, pose_2d=1, root="relative"),
    )
    assert "centred on the same point" in found


def test_a_camera_in_pixels_beside_2d_in_screen_units_is_told_as_that() -> None:
    pose_3d, pose_2d = pairs()
    camera = torch.tensor([1145.0, 1144.0, 512.0, 515.0, 0, 0, 0, 0, 0]).repeat(8, 1)
    fmt = BatchFormat(pose_3d=0, pose_2d=1, camera=2, root="absolute")
    found = problems((pose_3d, pose_2d, camera), fmt)
    assert "the cameras are in pixels (the focal length is 11" in found
    assert "f * 2 / w" in found


@pytest.mark.parametrize(
    ("rest", "fmt", "told"),
    [
        (lambda r, c: ({"root": r, "cam": c},), (0, 1), "['2.root']"),
        (lambda r, c: ([r, {"deep": (r, "name")}],), (0, 1), "['2.0', '2.1.deep.0']"),
        (lambda r, c: ([{"id": 3, "root": row} for row in r],), (0, 1), "['2.root']"),
        (lambda r, c: (), (-2, -1), ""),
        (lambda r, c: (["walking"] * 8, [1, 2], c), (0, 1), ""),
    ],
    ids=["mapping", "nested", "rows", "counted from the end", "no points"],
)
def test_fields_in_containers_are_doubted_by_their_path(rest: Any, fmt: Any, told: str) -> None:
    pose_3d, pose_2d = (field[:, 0] for field in pairs(8))
    given = (pose_3d, pose_2d, *rest(torch.zeros(8, 3), torch.zeros(8, 9)))
    found = doubts(given, BatchFormat(pose_3d=fmt[0], pose_2d=fmt[1], root="absolute"))
    assert (f"the fields {told} hold points" in found) if told else not found


def test_a_field_of_an_inner_named_tuple_is_not_doubted_by_its_index() -> None:
    inner = namedtuple("inner", "x y")
    pose_3d, pose_2d = (field[:, 0] for field in pairs(8))
    assert not doubts((inner(pose_3d, pose_2d),), BatchFormat("0.y", "0.x", root="absolute"))


class Dot(dict):  # type: ignore[type-arg]
    __getattr__ = dict.__getitem__


class ItemsAreAttributes(dict):  # type: ignore[type-arg]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.__dict__ = self


@pytest.mark.parametrize("kind", [Dot, ItemsAreAttributes])
def test_mappings_with_attributes_keep_them(kind: Any) -> None:
    pose_3d, pose_2d = (field[:, 0] for field in pairs(8))
    augmenter, *_ = attached(
        small("random", ratio=1.0), BatchFormat("x", "y", root="absolute"), skeleton="h36m_16"
    )
    made = augmenter(kind(x=pose_2d, y=pose_3d))
    assert made.x is made["x"]
    assert not torch.equal(made.x, pose_2d)


def test_mpi_inf_3dhp_has_its_own_camera_unless_one_is_passed() -> None:
    skeleton = Skeleton.of("mpi_inf_3dhp_17")
    for camera, focal in [(None, 1.46), (Camera(f=(2.0, 2.0)), 2.0)]:
        reader = BatchReader(FORMATS["mpi3dhp"], skeleton, camera)
        poses, _ = reader.later((torch.rand(8, 17, 2), torch.rand(8, 17, 3)))
        assert (poses.camera[:, :2] == torch.tensor(focal)).all()


@pytest.mark.parametrize("stat", [0.5, {"mean": 0.0, "std": 1.0}, (1.0, 2.0, 3.0)])
def test_statistics_of_another_kind_raise(stat: Any) -> None:
    with pytest.raises(ConfigError, match=r"stat_3d= is a .*, expected \(mean, std\)"):
        BatchFormat(pose_3d=0, pose_2d=1, stat_3d=stat)


def test_the_screen_may_be_an_array() -> None:
    assert BatchFormat(pose_3d=0, pose_2d=1, screen=np.array([1000, 1002])).screen == (1000, 1002)


def test_martinez_with_a_nose_has_17_joints_in_2d() -> None:
    stat_3d = (np.zeros(48), np.ones(48))
    for size, joints in ((32, 16), (34, 17)):
        fmt = martinez((np.zeros(size), np.ones(size)), stat_3d)
        assert fmt.joints_2d is not None
        assert len(fmt.joints_2d) == joints


def test_what_a_dataclass_makes_of_its_fields_is_doubted_and_no_field_of_a_named_tuple() -> None:
    @dataclass
    class Batch:
        x: Tensor
        y: Tensor

        def __post_init__(self) -> None:
            self.root = self.x[:, 0]

    named = namedtuple("named", "x y")
    fields = [field[:, 0] for field in pairs(8)]
    fmt = BatchFormat(pose_3d="x", pose_2d="y", root="absolute")
    assert "['root']" in doubts(Batch(*fields), fmt)
    assert not doubts(named(*fields), fmt)
    assert not doubts((fields[1], (fields[0],)), BatchFormat("0", "1.0", root="absolute"))


def test_a_wrong_kind_stops_training_at_the_first_batch() -> None:
    fmt = BatchFormat(pose_3d=0, pose_2d=1, camera=2, root="absolute")
    augmenter, _, _ = attached(small("random"), batch=fmt, skeleton=H36M)
    with pytest.raises(DataError, match=r"pass screen=\(w, h\)"):
        augmenter(pixel_batch())


def test_groups_still_need_positions() -> None:
    with pytest.raises(ConfigError, match="has no positions"):
        BatchFormat(pose_3d=0, pose_2d=1, groups=2)


# Messages that name the one likely cause


def raised(batch: Any, fmt: BatchFormat | None = None) -> str:
    augmenter, _, _ = attached(small("random"), batch=fmt)
    with pytest.raises(BatchError) as caught:
        augmenter(batch)
    return str(caught.value)


def test_flat_fields_name_martinez() -> None:
    found = raised((torch.randn(8, 32), torch.randn(8, 48)))
    assert "batch=martinez(stat_2d=(mean, std)" in found


def test_two_fields_with_three_channels_are_told_apart_by_the_confidence() -> None:
    pose_3d, pose_2d = (field[:, 0] for field in pairs(8))
    seen = torch.cat([pose_2d, torch.full((8, 16, 1), 0.9)], -1)
    augmenter, _, _ = attached(small("random", ratio=1.0), batch=None)
    made = augmenter((seen, pose_3d))
    assert torch.equal(made[0][..., 2], seen[..., 2])
    assert not torch.equal(made[0], seen)


def test_a_list_of_mappings_is_described_in_one_line() -> None:
    pose_3d, pose_2d = (field[:, 0] for field in pairs(64))
    rows = [{"keypoints": a, "target": b} for a, b in zip(pose_2d, pose_3d)]
    found = raised(rows, BatchFormat(pose_2d="keypoints", pose_3d="targets"))
    assert "no field 'targets' for pose_3d" in found
    assert (
        "a list of 64 rows, each a dict of "
        "{'keypoints': Tensor (16, 2), 'target': Tensor (16, 3)}" in found
    )
    assert len(found) < 300


@pytest.mark.parametrize(
    ("channels", "cure"), [(5, "it has 5 channels"), (2, "it lacks one joint")]
)
def test_shapes_that_are_nearly_right_name_what_is_wrong(channels: int, cure: str) -> None:
    pose_3d, pose_2d = (field[:, 0] for field in pairs(8))
    given = (
        pose_2d[:, :15] if channels == 2 else torch.cat([pose_2d, pose_2d, pose_2d], -1)[..., :5]
    )
    fmt = BatchFormat(pose_3d=0, pose_2d=1, root="absolute", skeleton="h36m_16")
    assert cure in raised((pose_3d, given), fmt)


def test_statistics_do_not_fill_the_screen() -> None:
    stat = torch.zeros(48), torch.ones(48)
    fmt = BatchFormat(pose_3d=0, pose_2d=1, stat_3d=stat)
    assert repr(fmt) == "BatchFormat(pose_2d=1, pose_3d=0, stat_3d=(mean, std) of 48 dimensions)"


def test_images_may_have_names() -> None:
    pose_3d, pose_2d = (field[:, 0] for field in pairs(8))
    fmt = BatchFormat(pose_3d=0, pose_2d=1, groups=2, root="absolute")
    names = ["a.jpg", "a.jpg", "b.jpg", "c.jpg", "b.jpg", "d.jpg", "d.jpg", "d.jpg"]
    group = fmt.read((pose_3d, pose_2d, names), H36M, Camera()).group
    assert group is not None
    assert group.tolist() == [0, 0, 1, 2, 1, 3, 3, 3]
    assert "for each of 8 rows" in raised((pose_3d, pose_2d, names[:7]), fmt)


def test_windows_without_their_3d_are_told_with_the_cure() -> None:
    pose_3d, pose_2d = pairs(8, 9)
    augmenter, _, _ = attached(small("random"), None)
    with pytest.warns(PoseAugWarning, match="3D of only 1.*batch='videopose3d'"):
        augmenter((pose_3d[:, 4:5] - pose_3d[:, 4:5, :1], pose_2d))
