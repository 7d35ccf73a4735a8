"""Image space with two focal lengths, an image centre that is not at 0, clips, and both roots."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import H36M, LAST_ROOT, generator, people, reordered
from poseaug_plugin import BatchFormat, Camera
from poseaug_plugin.batches.image_space import TRUNK, from_image, relative_from_image, to_image
from poseaug_plugin.geometry.bones import lengths, pose_to_bones
from poseaug_plugin.geometry.camera import project
from poseaug_plugin.geometry.skeleton import SKELETONS

LENS = Camera(f=(2.4, 1.9), c=(0.1, -0.2))


def cameras(rows: int) -> Tensor:
    return LENS.intrinsics.repeat(rows, 1)


def clips(rows: int = 4, frames: int = 3) -> Tensor:
    """People whose trunk is as long as image space assumes, moving."""
    pose = people(rows, frames)
    trunk = lengths(pose_to_bones(pose, H36M))[..., list(H36M.trunk)].sum(-1)
    return pose * (TRUNK / trunk)[..., None, None]


def test_image_space_is_projection_and_depth_by_the_first_focal_length() -> None:
    pose = torch.tensor([[[[0.2, -0.1, 4.0], [0.6, 0.3, 5.0]]]])
    uvd = to_image(pose, cameras(1), root=0)[0, 0]
    assert uvd[0].tolist() == pytest.approx([2.4 * 0.05 + 0.1, 1.9 * -0.025 - 0.2, 0.0])
    assert uvd[1].tolist() == pytest.approx([2.4 * 0.12 + 0.1, 1.9 * 0.06 - 0.2, 1.0 * 2.4 / 4.0])


def test_people_are_recovered_from_image_space() -> None:
    pose = clips()
    found = from_image(to_image(pose, cameras(4), H36M.root), cameras(4), H36M)
    assert torch.allclose(found, pose, atol=1e-4)


def test_without_a_trunk_the_mean_bone_is_as_long() -> None:
    """The scale cancels when poses are converted back; padding, which has none, stays finite."""
    hand = SKELETONS["hand_21"]
    uvd = torch.rand(4, 3, 21, 3, generator=generator())
    found = from_image(uvd, cameras(4), hand)
    length = lengths(pose_to_bones(found, hand)).mean(-1)
    assert torch.allclose(length, torch.full((4, 3), TRUNK))
    assert from_image(0 * uvd, cameras(4), hand).isfinite().all()


def test_predictions_are_recovered_relative_to_the_root() -> None:
    """A prediction may have another place in the image: only its shape counts."""
    pose = clips()
    root = pose[:, :, H36M.root]
    uvd = to_image(pose, cameras(4), H36M.root)
    moved = uvd + torch.tensor([0.3, -0.2, 0.1])
    for given in (uvd, moved):
        found = relative_from_image(given, root, cameras(4), H36M)
        assert torch.allclose(found, pose - root[:, :, None], atol=1e-4)


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("root", ["absolute", "relative"])
@pytest.mark.parametrize("order", [[*range(16)], LAST_ROOT], ids=["root first", "root last"])
def test_a_batch_in_image_space_is_read_and_written(
    order: list[int], root: Any, frames: int
) -> None:
    skeleton = reordered(order)
    pose = clips(4, frames)[:, :, order]
    uvd = to_image(pose, cameras(4), skeleton.root)
    pose_2d = project(pose, cameras(4)[:, None])
    at = uvd[:, :, skeleton.root, None]
    given = {"x": pose_2d, "y": uvd - at if root == "relative" else uvd}
    fmt = BatchFormat(pose_2d="x", pose_3d="y", space="image", root=root)
    poses = fmt.read(given, skeleton, LENS)
    assert torch.allclose(poses.absolute, pose, atol=1e-4)
    assert torch.allclose(poses.root, pose[:, :, skeleton.root], atol=1e-4)
    assert not poses.pose_3d[:, :, skeleton.root].any()
    written = fmt.write(given, poses, torch.ones(4, dtype=torch.bool), skeleton)
    assert torch.allclose(written["y"], given["y"], atol=1e-5)
    predicted = fmt.outputs(given["y"], poses, skeleton)
    assert torch.allclose(predicted, poses.pose_3d, atol=1e-4)
    centre = given["y"][:, frames // 2, None]
    predicted = fmt.outputs(centre, poses, skeleton)
    assert torch.allclose(predicted, poses.pose_3d[:, frames // 2, None], atol=1e-4)
