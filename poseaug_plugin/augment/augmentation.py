"""One augmentation per row: sampled once, applied as often as you like.

`Augmentation` holds plain tensors, one set per row (per clip); applying it again gives the same
pose. `BONE_OPERATORS` and `JOINT_OPERATORS` list what may be done to a body, in order: each entry
says how its parameter is drawn and what it does. View and position come last.

Source: PoseAug (CVPR 2021) section 3.2, equations for BA, BL and RT.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..config import PoseAugConfig
from ..geometry.bones import Bones, unit
from ..geometry.camera import project
from ..geometry.constants import constant
from ..geometry.operators import mirrored, shift_along
from ..geometry.skeleton import Skeleton
from .draws import normal

__all__ = ["BONE_OPERATORS", "JOINT_OPERATORS", "Augmentation", "Operator"]


class Operator(NamedTuple):
    """One way to change a body.

    Attributes:
        on: whether the prior draws its parameter, by config and skeleton.
        uniform: how many uniform numbers in 0 to 1 its draw takes per row.
        draw: the parameter (B, ...) from those (B, n) numbers and further random ones.
        apply: what it does: to `Bones` with the parameter, or to joints (B, T, J, 3) with the
            parameter and the axes of the body (B, T, 3, 3). Parameters have a frame dimension here.
    """

    on: Callable[[PoseAugConfig, Skeleton], Any]
    uniform: Callable[[Skeleton], int]
    draw: Callable[[Tensor, torch.Generator, Skeleton, PoseAugConfig], Tensor]
    apply: Callable[..., Any]


def _bend(
    share: Tensor, generator: torch.Generator, skeleton: Skeleton, config: PoseAugConfig
) -> Tensor:
    """Steps (B, K, 3) of any direction, as long as a share (B, K) of the longest."""
    step = normal(generator, len(share), skeleton.num_bones, 3)
    return config.bend * share[..., None] * unit(step)


def _lengths(
    uniform: Tensor, generator: torch.Generator, skeleton: Skeleton, config: PoseAugConfig
) -> Tensor:
    """Changes (B, G) of length: a factor for each mirror group times one for the whole body."""
    low, high = (
        constant(
            (*[1 + sign * config.stretch] * skeleton.num_groups, 1 + sign * config.body_scale),
            uniform.dtype,
            uniform.device,
        )
        for sign in (-1, 1)
    )
    factors = torch.lerp(low, high, uniform)
    return factors[:, :-1] * factors[:, -1:] - 1


def _offset(
    empty: Tensor, generator: torch.Generator, skeleton: Skeleton, config: PoseAugConfig
) -> Tensor:
    """Normal steps (B, J, 3) in metres, left and right mirrored, the root's 0."""
    step = normal(generator, len(empty), skeleton.num_joints, 3)
    return config.joint_offset * mirrored(step, skeleton)


BONE_OPERATORS: dict[str, Operator] = {
    "gamma_ba": Operator(
        on=lambda config, _: config.ba and config.bend,
        uniform=lambda skeleton: skeleton.num_bones,
        draw=_bend,
        apply=Bones.bend,
    ),
    "gamma_bl": Operator(
        on=lambda config, _: config.bl and (config.stretch or config.body_scale),
        uniform=lambda skeleton: skeleton.num_groups + 1,
        draw=_lengths,
        apply=Bones.stretch,
    ),
}

JOINT_OPERATORS: dict[str, Operator] = {
    "offset": Operator(
        # Bodies, not hands: their bones are as short as these steps.
        on=lambda config, skeleton: (
            config.joint_offset and config.ba and config.bl and skeleton.left
        ),
        uniform=lambda _: 0,
        draw=_offset,
        apply=shift_along,
    ),
}


@dataclass(frozen=True)
class Augmentation:
    """The parameters of BA, BL and RT, and the camera that sees the result.

    Attributes:
        parameters: of every operator that acts, by its name: `gamma_ba` (B, K, 3), added to unit
            bones; `gamma_bl` (B, G), change of bone lengths per mirror group; `offset` (B, J, 3),
            metres along the body's axes.
        R: (B, 3, 3) rotations about the root.
        t: (B, 3) metres, where the root goes.
        camera: (B, 9) intrinsics.
    """

    parameters: dict[str, Tensor]
    R: Tensor
    t: Tensor
    camera: Tensor

    @property
    def gamma_ba(self) -> Tensor | None:
        return self.parameters.get("gamma_ba")

    @property
    def gamma_bl(self) -> Tensor | None:
        return self.parameters.get("gamma_bl")

    @property
    def offset(self) -> Tensor | None:
        return self.parameters.get("offset")

    def on_top_of(self, gamma_bl: Tensor) -> Augmentation:
        """For bones that have not been stretched by gamma_bl (B, G) yet."""
        own = self.gamma_bl
        whole = gamma_bl if own is None else (1 + own) * (1 + gamma_bl) - 1
        return replace(self, parameters={**self.parameters, "gamma_bl": whole})

    def shared(self, leader: Tensor) -> Augmentation:
        """Every row seen as its leader (B,) is: one view of one scene."""
        return replace(self, R=self.R[leader], t=self.t[leader], camera=self.camera[leader])

    def bend(self, bones: Bones) -> Bones:
        """BA alone, on bones of (B, T, K)."""
        return bones if self.gamma_ba is None else bones.bend(self.gamma_ba[:, None])

    def stretch(self, bent: Bones) -> Bones:
        """All that follows BA on bones: BL."""
        for name, operator in BONE_OPERATORS.items():
            if name != "gamma_ba" and name in self.parameters:
                bent = operator.apply(bent, self.parameters[name][:, None])
        return bent

    def place(self, bones: Bones, source: Bones, path: Tensor | None = None) -> Tensor:
        """Joint offsets and RT, last of all.

        Args:
            bones: of (B, T, K), bent and stretched.
            source: the same before that; joint offsets go along the axes of these bodies.
            path: (B, T, 3) the root's place relative to the clip's centre frame, or to the
                scene's leader, which is turned along: a walk stays a walk, a pair stays
                together. None: the person stays on the spot.

        Returns:
            (B, T, J, 3), absolute.
        """
        pose_3d = bones.pose_3d
        for name, operator in JOINT_OPERATORS.items():
            if name in self.parameters:
                pose_3d = operator.apply(pose_3d, self.parameters[name][:, None], source.axes)
        rows, frames, joints, _ = pose_3d.shape
        # RT in one product: what has its root at the origin is turned, then moved.
        placed = torch.baddbmm(self.t[:, None], pose_3d.flatten(1, 2), self.R.mT)
        placed = placed.view(rows, frames, joints, 3)
        return placed if path is None else placed + (path @ self.R.mT)[:, :, None]

    def apply(self, pose_3d: Tensor, skeleton: Skeleton, path: Tensor | None = None) -> Tensor:
        """BA, BL, RT: root-relative (B, T, J, 3) to absolute (B, T, J, 3)."""
        bones = Bones.of(pose_3d, skeleton)
        return self.place(self.stretch(self.bend(bones)), bones, path)

    def project(self, pose_3d: Tensor, *, limit: float | None = None) -> Tensor:
        """The 2D that belongs to an absolute pose (B, T, J, 3): (B, T, J, 2)."""
        return project(pose_3d, self.camera[:, None], limit=limit)
