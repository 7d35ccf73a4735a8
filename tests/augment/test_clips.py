"""Bends of clips turn with the person, and leave the speed of motion as it is."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from helpers import H36M, STANDING, generator
from poseaug_plugin.augment.sampler import Sampler
from poseaug_plugin.config import PoseAugConfig
from poseaug_plugin.geometry.bones import Bones, bones_to_pose
from poseaug_plugin.geometry.operators import euler_to_matrix
from poseaug_plugin.geometry.pose_batch import PoseBatch

ROWS, FRAMES = 24, 9


def clips(swing: float) -> PoseBatch:
    """People who turn by 120 degrees in a clip, and swing their limbs by up to `swing`."""
    noise = torch.randn(ROWS, 1, 15, 3, generator=generator(1))
    phase = torch.linspace(0, math.pi, FRAMES)[:, None, None]
    bones = STANDING + 0.1 * noise + swing * phase.sin() * noise.roll(1, 0)
    length = STANDING.norm(dim=-1, keepdim=True)
    bones = bones * length / bones.norm(dim=-1, keepdim=True)
    angle = torch.zeros(FRAMES, 3)
    angle[:, 0] = torch.linspace(0, math.radians(120), FRAMES)
    pose_3d = bones_to_pose(bones, H36M) @ euler_to_matrix(angle).mT
    root = torch.tensor([0.0, 0, 4]).expand(ROWS, FRAMES, 3)
    absolute = pose_3d + root[:, :, None]
    camera = torch.tensor([2.0, 2, 0, 0, 0, 0, 0, 0, 0]).repeat(ROWS, 1)
    return PoseBatch(2 * absolute[..., :2] / absolute[..., 2:], pose_3d, root, camera)


def augmented(poses: PoseBatch, preset: str) -> Tensor:
    config = PoseAugConfig.of(preset).replace(joint_offset=0.0)
    sampler = Sampler(H36M, config, torch.device("cpu"))
    for _ in range(2):
        sampler.pairs(poses, torch.arange(ROWS))
    return sampler.sample(poses)[0].pose_3d


def in_body(pose_3d: Tensor) -> Tensor:
    return Bones.of(pose_3d, H36M).body_direction


@pytest.mark.parametrize("preset", ["default", "random"])
def test_a_person_who_turns_without_moving_does_not_move_after_a_bend(preset: str) -> None:
    poses = clips(0.0)
    found = in_body(augmented(poses, preset))
    assert (found - in_body(poses.pose_3d)).abs().mean() > 0.1
    assert (found - found[:, :1]).abs().max() < 1e-4


@pytest.mark.parametrize("preset", ["default", "random"])
def test_motion_keeps_its_speed(preset: str) -> None:
    """In the body frame, in every frame: bends change where limbs move, but not how fast."""
    poses = clips(0.3)
    bones = Bones.of(poses.pose_3d, H36M)
    sampler = Sampler(H36M, PoseAugConfig.of(preset), torch.device("cpu"))
    sampler.pairs(poses, torch.arange(ROWS))
    aug, *_ = sampler.augment(poses, bones)
    bent = aug.bend(bones)
    before, after = ((x.direction @ bones.axes).diff(dim=1).norm(dim=-1) for x in (bones, bent))
    assert (bent.direction - bones.direction).abs().mean() > 0.1
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-3)


def test_the_centre_frame_is_bent_as_a_single_frame() -> None:
    bones = Bones.of(clips(0.3).pose_3d, H36M)
    gamma_ba = 0.5 * torch.randn(ROWS, 15, 3, generator=generator(2))
    middle = FRAMES // 2
    bent = bones.bend_clip(gamma_ba, middle)
    torch.testing.assert_close(
        bent.direction[:, middle], bones.frame(middle).bend(gamma_ba).direction
    )
    torch.testing.assert_close(bent.length, bones.length)
    same = bones.bend_clip(torch.zeros_like(gamma_ba), middle)
    torch.testing.assert_close(same.direction, bones.direction)
