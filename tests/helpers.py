"""Factories shared by the tests. Poses are in metres, camera frame: x right, y down, z away."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from poseaug_plugin.config import PoseAugConfig
from poseaug_plugin.geometry.bones import pose_to_bones, unit
from poseaug_plugin.geometry.camera import project
from poseaug_plugin.geometry.pose_batch import PoseBatch
from poseaug_plugin.geometry.skeleton import SKELETONS, Skeleton

PRESETS = sorted(SKELETONS)
H36M = SKELETONS["h36m_16"]

#: Bones (15, 3) of a standing person who faces the camera, on h36m_16.
STANDING = torch.tensor(
    [
        *([-0.13, 0.0, 0.0], [-0.02, 0.44, 0.02], [0.0, 0.44, 0.06]),  # right leg
        *([0.13, 0.0, 0.0], [0.02, 0.44, 0.02], [0.0, 0.44, 0.06]),  # left leg
        *([0.0, -0.24, 0.02], [0.0, -0.25, 0.02], [0.0, -0.25, -0.04]),  # spine, thorax, head
        *([0.14, 0.02, 0.0], [0.1, 0.26, 0.02], [0.02, 0.2, -0.15]),  # left arm
        *([-0.14, 0.02, 0.0], [-0.1, 0.26, 0.02], [-0.02, 0.2, -0.15]),  # right arm
    ]
)


#: Changes of the default after which it uses no statistics of the caller's poses.
NO_STATISTICS = {
    "upright": False,
    "tilt": (-0.45, 0.45),
    "bend_sigma": 0.0,
    "rare_pose_power": 0.0,
    "limb_crossover": False,
    "joint_offset": 0.0,
}


#: Joints of h36m_16 in another order, whose root is the last joint: poses[..., LAST_ROOT, :].
LAST_ROOT = [*range(1, 16), 0]


def reordered(order: list[int]) -> Skeleton:
    """H36M with its joints in another order."""
    place = {joint: i for i, joint in enumerate(order)}
    parents = [-1 if joint == H36M.root else place[H36M.parents[joint]] for joint in order]
    left, right = ([place[joint] for joint in side] for side in (H36M.left, H36M.right))
    return Skeleton(parents, left, right)


def settings(name: str, **changes: object) -> PoseAugConfig:
    """The config of a preset, or "residual": networks on top of a prior without statistics."""
    residual = {**NO_STATISTICS, "learned": True, "bend": 0.6, "ratio": 0.5}
    if name == "residual":
        return PoseAugConfig.default(**{**residual, **changes})
    return PoseAugConfig.of(name).replace(**changes)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_tree(joints: int, seed: int) -> list[int]:
    """The parents list of a random tree, with the joints in random order."""
    rng = random.Random(seed)
    order = rng.sample(range(joints), joints)
    parents = [-1] * joints
    for i in range(1, joints):
        parents[order[i]] = order[rng.randrange(i)]
    return parents


def random_poses(
    skeleton: Skeleton, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Normal noise (*shape, J, 3) in place of a pose, with a standard deviation of 0.4 m."""
    full_shape = (*shape, skeleton.num_joints, 3)
    return torch.randn(full_shape, generator=generator(seed), dtype=dtype) * 0.4


def people(
    rows: int, frames: int = 1, *, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Plausible people (rows, frames, 16, 3) on h36m_16, moving smoothly, 4 to 5 m away."""
    rng = generator(seed)

    def uniform(*shape: int) -> Tensor:  # in -1 to 1
        return torch.rand(shape, generator=rng) * 2 - 1

    time = torch.linspace(-1, 1, frames).view(frames, 1, 1) if frames > 1 else torch.zeros(1, 1, 1)
    scale = 1 + 0.1 * uniform(rows, 1, 1, 1)
    bent = STANDING + 0.1 * uniform(rows, 1, 15, 3) + 0.02 * time * uniform(rows, 1, 15, 3)
    bent = bent / bent.norm(dim=-1, keepdim=True) * STANDING.norm(dim=-1, keepdim=True) * scale
    yaw = 3.14 * uniform(rows, 1, 1)
    x, y, z = bent.unbind(-1)
    bones = torch.stack([x * yaw.cos() + z * yaw.sin(), y, z * yaw.cos() - x * yaw.sin()], -1)
    offset, velocity = 0.4 * uniform(rows, 1, 3), 0.1 * uniform(rows, 1, 3)
    root = torch.tensor([0.0, 0.1, 4.5]) + offset + velocity * time[:, 0]
    joints = [root]
    for joint in range(1, H36M.num_joints):
        joints.append(joints[H36M.parents[joint]] + bones[..., joint - 1, :])
    return torch.stack(joints, -2).to(dtype)


def cameras(rows: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The first camera of Human3.6M (rows, 9), in normalised screen units."""
    numbers = [2.2901, 2.2876, 0.0251, 0.0289, -0.2071, 0.2478, -0.0031, -0.0010, -0.0014]
    return torch.tensor(numbers, dtype=dtype).repeat(rows, 1)


def poses_of(pose_3d: Tensor, lens: Tensor | None = None, **changes: Any) -> PoseBatch:
    """Exact pairs of absolute poses (B, T, J, 3), seen through a lens (9,); Human3.6M's if None."""
    camera = cameras(len(pose_3d)) if lens is None else lens.repeat(len(pose_3d), 1)
    pose_2d, root = project(pose_3d, camera[:, None]), pose_3d[:, :, 0]
    return PoseBatch(pose_2d, pose_3d - root[:, :, None], root, camera, **changes)


def unit_bones(pose: Tensor, skeleton: Skeleton = H36M) -> Tensor:
    """Unit bones of poses (..., J, 3), the input of the 3D discriminator."""
    return unit(pose_to_bones(pose, skeleton))


def gradients_are_right(function: Callable[..., Tensor], *inputs: Tensor) -> bool:
    """Whether the gradients agree with finite differences, in float64."""
    doubles = tuple(x.detach().double().requires_grad_() for x in inputs)
    return torch.autograd.gradcheck(function, doubles)
