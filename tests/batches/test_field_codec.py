"""Fields that are standardised, in pixels, or lack joints; cameras in pixels and as matrices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import H36M, cameras, generator, people
from poseaug_plugin import BatchError, BatchFormat, Camera, ConfigError, PoseBatch
from poseaug_plugin.batches.cameras import as_given, from_pixels, intrinsics_of
from poseaug_plugin.batches.field_codec import FieldCodec
from poseaug_plugin.batches.layout import Layout
from poseaug_plugin.geometry.camera import project

NAN = float("nan")
MEAN, STD = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([2.0, 0.0, 4.0, 0.5])


def codec(joints: tuple[int, ...], total: int, **changes: object) -> FieldCodec:
    layout = Layout.of((2, len(joints), 2), len(joints), 2, "x")
    return FieldCodec(layout, joints, total, 2, **changes)  # type: ignore[arg-type]


def test_constant_dimensions_are_their_mean_whatever_the_field_holds() -> None:
    """Their standardised value is usually NaN, since it was divided by 0."""
    of_two = codec((0, 1), 2, stat=(MEAN, STD))
    field = torch.tensor([[[1.0, NAN], [0.5, -2.0]], [[0.0, 7.0], [0.0, 0.0]]])
    pose, extra = of_two.decode(field)
    assert pose[:, 0].flatten(1).tolist() == [[3, 2, 5, 3], [1, 2, 3, 4]]
    assert extra is None
    new = torch.tensor([[[[5.0, 9.0], [7.0, 5.0]]]]).expand(2, 1, 2, 2)
    assert of_two.encode(new).flatten(1).tolist() == [[2, 0, 1, 2]] * 2
    kept = of_two.encode(new, old=field)
    assert kept[1].tolist() == [[2, 7], [1, 2]]
    assert kept[0, 0, 1].isnan()
    inputs = new.clone().requires_grad_()
    (grad,) = torch.autograd.grad(of_two.encode(inputs).sum(), inputs)
    assert grad[0].flatten().tolist() == [0.5, 0, 0.25, 2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_predictions_keep_their_dtype(dtype: torch.dtype) -> None:
    """Of a model that runs in half precision, say."""
    of_two = codec((0, 1), 2, stat=(MEAN, STD), scale=0.5, offset=(1.0, -1.0))
    pose, _ = of_two.decode(torch.ones(2, 2, 2, dtype=dtype))
    assert pose.dtype == of_two.encode(pose).dtype == dtype


def test_further_channels_are_those_of_the_joints_of_the_field() -> None:
    some = codec((3, 0), 4, scale=0.5, offset=(1.0, -1.0))
    some = replace(some, layout=Layout.of((2, 2, 3), 2, 2, "x"))
    field = torch.arange(12.0).view(2, 2, 3)
    pose, extra = some.decode(field)
    assert pose[0, 0].tolist() == [[2.5, 1], [0, 0], [0, 0], [1, -0.5]]
    assert extra is not None
    assert extra[0, 0].tolist() == [[5], [0], [0], [2]]
    assert torch.equal(some.encode(pose, extra), field)


def standardised(constant: list[int]) -> tuple[tuple[Tensor, Tensor], Tensor, BatchFormat]:
    """A batch of standardised pixels and metres with some constant dimensions of the 2D."""
    pose_3d = people(8)[:, 0]
    pixels = (project(pose_3d, Camera().intrinsics) + torch.tensor([1.0, 0.8])) * 500
    flat = pixels.flatten(1)
    mean, std = flat.mean(0), flat.std(0)
    std[constant] = 0
    field = ((flat - mean) / std.where(std > 0, torch.ones(()))).view(8, 16, 2)
    fmt = BatchFormat(
        pose_2d=0, pose_3d=1, root="absolute", screen=(1000, 800), stat_2d=(mean, std)
    )
    return (field, pose_3d), pixels, fmt


def test_a_standardised_field_is_read_in_screen_units_and_its_constants_are_kept() -> None:
    batch, pixels, fmt = standardised([3, 10])
    poses = fmt.read(batch, H36M, Camera())
    found, wanted = poses.pose_2d.flatten(1), (pixels / 500 - torch.tensor([1.0, 0.8])).flatten(1)
    others = [i for i in range(32) if i not in (3, 10)]
    assert torch.allclose(found[:, others], wanted[:, others], atol=1e-5)
    assert torch.allclose(found[:, [3, 10]], wanted[:, [3, 10]].mean(0).expand(8, 2), atol=1e-5)
    assert poses.frame_height == pytest.approx(0.8)
    moved = replace(poses, pose_2d=poses.pose_2d + 0.1)
    written = fmt.write(batch, moved, torch.ones(8, dtype=torch.bool), H36M)[0].flatten(1)
    assert torch.equal(written[:, [3, 10]], batch[0].flatten(1)[:, [3, 10]])
    assert fmt.stat_2d is not None
    steps = (written - batch[0].flatten(1))[:, others] * fmt.stat_2d[1][others]
    assert torch.allclose(steps, torch.tensor(50.0), atol=0.01)


@pytest.mark.parametrize("matrix", [False, True], ids=["nine", "matrix"])
def test_cameras_in_pixels_are_converted_row_by_row(matrix: bool) -> None:
    """Rows in screen units stay as they are, there and back."""
    given = torch.zeros(3, 9)
    given[0, :4] = torch.tensor([1145.0, 1144.0, 512.0, 390.0])
    given[1, :4] = torch.tensor([2.3, 2.2, 0.1, -0.1])
    given[2, :4] = torch.tensor([600.0, 700.0, 400.0, 420.0])
    if matrix:
        full = torch.eye(3).repeat(3, 1, 1)
        full[:, 0, 0], full[:, 1, 1] = given[:, 0], given[:, 1]
        full[:, :2, 2] = given[:, 2:4]
        given = full
    screen = (1000.0, 800.0)
    read = from_pixels(intrinsics_of(given), screen)
    assert read[0, :4].tolist() == pytest.approx([2.29, 2.288, 0.024, -0.02], abs=1e-5)
    assert read[1, :4].tolist() == pytest.approx([2.3, 2.2, 0.1, -0.1], abs=1e-5)
    assert read[2, :4].tolist() == pytest.approx([1.2, 1.4, -0.2, 0.04], abs=1e-5)
    assert torch.allclose(as_given(read, given, screen), given, atol=1e-3)
    assert torch.allclose(as_given(read, given, None)[1], given[1])


# Calling the estimator


def test_poses_that_no_batch_held_are_given_as_frames_clips_or_scenes_of_one() -> None:
    def of(frames: int) -> PoseBatch:
        pose_3d = people(4, frames)
        pose_2d = project(pose_3d, cameras(4)[:, None])
        return PoseBatch(pose_2d, pose_3d - pose_3d[:, :, :1], pose_3d[:, :, 0], cameras(4))

    for scenes, shapes in ((False, [(4, 16, 2), (4, 3, 16, 2)]), (True, [(4, 1, 16, 2)])):
        fmt = BatchFormat(pose_2d=0, pose_3d=1, root="absolute", scenes=scenes)
        for frames, shape in zip((1, 3), shapes):
            poses = of(frames)
            assert fmt.inputs(poses, poses.pose_2d).shape == shape


@pytest.mark.parametrize("shape", [(4, 2, 16, 3), (5, 3, 16, 3), (4, 4, 16, 3)])
def test_predictions_of_other_rows_or_frames_are_refused(shape: tuple[int, ...]) -> None:
    pose_3d = people(4, 3)
    fmt = BatchFormat(pose_2d=0, pose_3d=1, root="absolute")
    poses = fmt.read((project(pose_3d, cameras(4)[:, None]), pose_3d), H36M, Camera())
    with pytest.raises(BatchError, match="the estimator's output has shape"):
        fmt.outputs(torch.zeros(shape), poses, H36M)
    with pytest.raises(BatchError, match=r"skeleton of 16 joints; convert it in predict=\."):
        fmt.outputs(torch.zeros(4, 15, 3), poses, H36M)
    for frames in (1, 3):
        assert fmt.outputs(torch.zeros(4, frames, 16, 3), poses, H36M).shape[1] == frames


def test_groups_may_be_fractions() -> None:
    pose_3d = people(4)[:, 0]
    batch = project(pose_3d, cameras(4)), pose_3d, torch.tensor([0.25, 0.75, 0.25, 0.75])
    fmt = BatchFormat(pose_2d=0, pose_3d=1, root="absolute", groups=2)
    leader = fmt.read(batch, H36M, Camera()).leader
    assert leader is not None
    assert leader.tolist() == [0, 1, 0, 1]


def test_noise_in_the_batch_is_noise_in_what_is_read() -> None:
    """The fitted root does not change the 2D, and relative 3D is not moved."""
    pose_3d = people(4)[:, 0]
    pose_2d = project(pose_3d, cameras(4)) + 0.01 * torch.randn(4, 16, 2, generator=generator())
    relative = pose_3d - pose_3d[:, :1]
    fmt = BatchFormat(pose_2d=0, pose_3d=1, root="relative")
    poses = fmt.read((pose_2d, relative), H36M, Camera())
    assert torch.equal(poses.pose_2d[:, 0], pose_2d)
    assert torch.equal(poses.pose_3d[:, 0], relative)


@pytest.mark.parametrize("name", ["joints_2d", "joints_3d"])
def test_joints_may_be_any_array_of_different_joints_of_the_skeleton(name: str) -> None:
    pose_3d = people(8)[:, 0]
    batch = pose_3d, project(pose_3d, cameras(8))
    for kind in (list, np.array, torch.tensor):
        fmt = BatchFormat(pose_3d=0, pose_2d=1, root="absolute", **{name: kind([*range(16)])})
        assert len(fmt.read(batch, H36M, Camera())) == 8
    for wrong in ([*range(15), -1], [0] * 16, [True] * 16, [0.0, 1.0], [], 3):
        with pytest.raises(
            ConfigError, match=f"{name}=.* must be numbers of the skeleton's joints"
        ):
            BatchFormat(pose_3d=0, pose_2d=1, **{name: wrong})
    fmt = BatchFormat(pose_3d=0, pose_2d=1, root="absolute", **{name: range(1, 17)})
    with pytest.raises(
        ConfigError, match="has joint 16, but those of a skeleton of 16 joints are 0"
    ):
        fmt.read(batch, H36M, Camera())
