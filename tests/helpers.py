"""Small factories that the tests share. Poses in metres, camera frame: x right, y down, z away."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor

from poseaug_plugin.config import PoseAugConfig
from poseaug_plugin.geometry.bones import pose_to_bones, unit
from poseaug_plugin.geometry.skeleton import SKELETONS, Skeleton

PRESETS = sorted(SKELETONS)
H36M = SKELETONS["h36m_16"]

#: Bones of a standing person of h36m_16 who faces the camera, in order of bones.
STANDING = torch.tensor(
    [
        *([-0.13, 0.0, 0.0], [-0.02, 0.44, 0.02], [0.0, 0.44, 0.06]),  # right leg
        *([0.13, 0.0, 0.0], [0.02, 0.44, 0.02], [0.0, 0.44, 0.06]),  # left leg
        *([0.0, -0.24, 0.02], [0.0, -0.25, 0.02], [0.0, -0.25, -0.04]),  # spine, thorax, head
        *([0.14, 0.02, 0.0], [0.1, 0.26, 0.02], [0.02, 0.2, -0.15]),  # left arm
        *([-0.14, 0.02, 0.0], [-0.1, 0.26, 0.02], [-0.02, 0.2, -0.15]),  # right arm
    ]
)


UNLEARNED = {"upright": False, "tilt": (-0.45, 0.45)}
UNLEARNED |= {
    "bend_sigma": 0.0,
    "rare_pose_power": 0.0,
    "limb_crossover": False,
    "joint_offset": 0.0,
}


def settings(name: str, **changes: object) -> PoseAugConfig:
    """A preset, or "residual": the default with an augmentor network on its prior."""
    residual = {**UNLEARNED, "learned": True, "bend": 0.6, "ratio": 0.5}
    if name == "residual":
        return PoseAugConfig.default(**{**residual, **changes})
    return PoseAugConfig.of(name).replace(**changes)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_tree(joints: int, seed: int) -> list[int]:
    """A parents list of any shape, joints in any order, root anywhere."""
    rng = random.Random(seed)
    name = rng.sample(range(joints), joints)
    parents = [-1] * joints
    for joint in range(1, joints):
        parents[name[joint]] = name[rng.randrange(joint)]
    return parents


def random_poses(
    skeleton: Skeleton, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Nobody's pose (*shape, J, 3): every joint within a metre or so of the origin."""
    size = (*shape, skeleton.num_joints, 3)
    return torch.randn(size, generator=generator(seed), dtype=dtype) * 0.4


def people(
    rows: int, frames: int = 1, *, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Plausible people of h36m_16 (rows, frames, 16, 3) in smooth motion, root 4 to 5 m away."""
    rng = generator(seed)

    def spread(*shape: int) -> Tensor:
        return torch.rand(shape, generator=rng) * 2 - 1

    time = torch.linspace(-1, 1, frames).view(frames, 1, 1) if frames > 1 else torch.zeros(1, 1, 1)
    size = 1 + 0.1 * spread(rows, 1, 1, 1)
    bent = STANDING + 0.1 * spread(rows, 1, 15, 3) + 0.02 * time * spread(rows, 1, 15, 3)
    bent = bent / bent.norm(dim=-1, keepdim=True) * STANDING.norm(dim=-1, keepdim=True) * size
    turn = 3.14 * spread(rows, 1, 1)
    x, y, z = bent.unbind(-1)
    bones = torch.stack([x * turn.cos() + z * turn.sin(), y, z * turn.cos() - x * turn.sin()], -1)
    place, way = 0.4 * spread(rows, 1, 3), 0.1 * spread(rows, 1, 3)
    root = torch.tensor([0.0, 0.1, 4.5]) + place + way * time[:, 0]
    joints = [root]
    for joint in range(1, H36M.num_joints):
        joints.append(joints[H36M.parents[joint]] + bones[..., joint - 1, :])
    return torch.stack(joints, -2).to(dtype)


def cameras(rows: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Human3.6M's first camera (rows, 9): f, c, k, p in normalised screen units."""
    numbers = [2.2901, 2.2876, 0.0251, 0.0289, -0.2071, 0.2478, -0.0031, -0.0010, -0.0014]
    return torch.tensor(numbers, dtype=dtype).repeat(rows, 1)


def unit_bones(pose: Tensor, skeleton: Skeleton = H36M) -> Tensor:
    """What the 3D discriminator sees of poses (..., J, 3)."""
    return unit(pose_to_bones(pose, skeleton))


def gradients_are_right(function: Callable[..., Tensor], *inputs: Tensor) -> bool:
    """Whether the derivatives agree with finite differences, in float64."""
    doubles = tuple(x.detach().double().requires_grad_() for x in inputs)
    return torch.autograd.gradcheck(function, doubles)
