"""The parameters of an augmentation, and the operators that change a body.

An `Augmentation` holds plain tensors with one set of parameters per row (per clip). Applying it to
the same poses gives the same result each time. `BONE_OPERATORS` and `JOINT_OPERATORS` list the
operators in the order in which they are applied; rotation and translation (RT) come last.

Source: PoseAug (CVPR 2021), section 3.2, the equations of BA, BL and RT.
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
from .ranges import Ranges

__all__ = ["BONE_OPERATORS", "JOINT_OPERATORS", "Augmentation", "Operator"]


class Operator(NamedTuple):
    """An operator that changes a body, and the prior of its parameter.

    Attributes:
        on: whether the prior draws the parameter, given the config and the skeleton.
        uniform: how many uniform random numbers (N) the draw needs per row.
        draw: returns the parameter (B, ...) from uniform random numbers (B, N) in 0 to 1, a
            generator for further random numbers, and the ranges of the prior.
        apply: applies the parameter, which has a frame dimension here: (B, 1, ...). An operator on
            bones gets `Bones` of (B, T, K) and the parameter, and returns `Bones`. An operator on
            joints gets poses (B, T, J, 3), the parameter and the body axes (B, T, 3, 3), and
            returns poses.
    """

    on: Callable[[PoseAugConfig, Skeleton], Any]
    uniform: Callable[[Skeleton], int]
    draw: Callable[[Tensor, torch.Generator, Skeleton, Ranges], Tensor]
    apply: Callable[..., Any]


def _draw_gamma_ba(
    uniform: Tensor, generator: torch.Generator, skeleton: Skeleton, ranges: Ranges
) -> Tensor:
    """Return steps (B, K, 3) in random directions, of uniform length up to `ranges.bend`."""
    step = normal(generator, len(uniform), skeleton.num_bones, 3)
    return ranges.bend * uniform[..., None] * unit(step)


def _draw_gamma_bl(
    uniform: Tensor, generator: torch.Generator, skeleton: Skeleton, ranges: Ranges
) -> Tensor:
    """Return length changes (B, G): a factor per mirror group times a factor per body, minus 1."""
    factors = torch.lerp(*ranges.length, uniform)
    minus_one = constant((-1.0,), uniform.dtype, uniform.device)
    return torch.addcmul(minus_one, factors[:, :-1], factors[:, -1:])


def _draw_offset(
    uniform: Tensor, generator: torch.Generator, skeleton: Skeleton, ranges: Ranges
) -> Tensor:
    """Return normal joint offsets (B, J, 3) in metres, symmetric, and 0 at the root."""
    step = normal(generator, len(uniform), skeleton.num_joints, 3)
    return ranges.joint_offset * mirrored(step, skeleton)


BONE_OPERATORS: dict[str, Operator] = {
    "gamma_ba": Operator(
        on=lambda config, _: config.ba and config.bend,
        uniform=lambda skeleton: skeleton.num_bones,
        draw=_draw_gamma_ba,
        apply=Bones.bend,
    ),
    "gamma_bl": Operator(
        on=lambda config, _: config.bl and (config.stretch or config.body_scale),
        uniform=lambda skeleton: skeleton.num_groups + 1,
        draw=_draw_gamma_bl,
        apply=Bones.stretch,
    ),
}

JOINT_OPERATORS: dict[str, Operator] = {
    "offset": Operator(
        on=lambda config, _: config.joint_offset != 0 and config.ba and config.bl,
        uniform=lambda _: 0,
        draw=_draw_offset,
        apply=shift_along,
    ),
}


@dataclass(frozen=True)
class Augmentation:
    """The parameters of one augmentation per row.

    Attributes:
        parameters: the parameter of each operator that is applied, by name. `gamma_ba` (B, K, 3)
            is added to unit bones, of a clip to those of its centre frame. `gamma_bl` (B, G) is
            the relative change of the bone lengths of each mirror group. `offset` (B, J, 3), in
            metres, moves joints in the body frame.
        R: (B, 3, 3), rotation about the root.
        t: (B, 3), new position of the root, metres.
        camera: (B, 9), intrinsics of the camera that projects the result.
        sources: (B, K), the row of the batch from whose pose each bone's direction comes, to show
            what was combined. None if each row keeps its own.
    """

    parameters: dict[str, Tensor]
    R: Tensor
    t: Tensor
    camera: Tensor
    sources: Tensor | None = None

    @property
    def gamma_ba(self) -> Tensor | None:
        """(B, K, 3), or None if bone angles are not changed."""
        return self.parameters.get("gamma_ba")

    @property
    def gamma_bl(self) -> Tensor | None:
        """(B, G), or None if bone lengths are not changed."""
        return self.parameters.get("gamma_bl")

    @property
    def offset(self) -> Tensor | None:
        """(B, J, 3), or None if joints are not moved."""
        return self.parameters.get("offset")

    def after_stretch(self, gamma_bl: Tensor) -> Augmentation:
        """Return the composition of a stretch by `gamma_bl` (B, G) and this augmentation."""
        own = self.gamma_bl
        product = gamma_bl if own is None else (1 + own) * (1 + gamma_bl) - 1
        return replace(self, parameters={**self.parameters, "gamma_bl": product})

    def share_views(self, leader: Tensor) -> Augmentation:
        """Return a copy in which each row has the R, t and camera of row `leader[row]`."""
        return replace(self, R=self.R[leader], t=self.t[leader], camera=self.camera[leader])

    def bend(self, bones: Bones) -> Bones:
        """Apply BA alone to bones of (B, T, K).

        In a clip, `gamma_ba` bends the bones of the centre frame. In the other frames they are
        rotated likewise in the body frame, so that bends turn with a person who turns, and bones
        move as fast as before, see `Bones.bend_clip`.
        """
        if self.gamma_ba is None:
            return bones
        return bones.bend_clip(self.gamma_ba, bones.direction.shape[1] // 2)

    def stretch(self, bent: Bones) -> Bones:
        """Apply all other operators on bones, such as BL, to bones of (B, T, K)."""
        for name, operator in BONE_OPERATORS.items():
            if name != "gamma_ba" and name in self.parameters:
                bent = operator.apply(bent, self.parameters[name][:, None])
        return bent

    def place(self, bones: Bones, source: Bones, path: Tensor | None = None) -> Tensor:
        """Apply the operators on joints and RT.

        Args:
            bones: bones of (B, T, K), bent and stretched.
            source: the bones before that, whose body axes are those of the joint offsets.
            path: (B, T, 3), positions of the root relative to the centre frame of the clip, or to
                that of the leader of the group, metres. R rotates them too, so that motion and
                relative positions of people are kept. None: the root is at t in every frame.

        Returns:
            Absolute poses (B, T, J, 3), camera frame, metres.
        """
        pose_3d = bones.pose_3d
        for name, operator in JOINT_OPERATORS.items():
            if name in self.parameters:
                pose_3d = operator.apply(pose_3d, self.parameters[name][:, None], source.axes)
        rows, frames, joints, _ = pose_3d.shape
        # RT as one batched product: the root of `pose_3d` is at the origin already.
        placed = torch.baddbmm(self.t[:, None], pose_3d.flatten(1, 2), self.R.mT)
        placed = placed.view(rows, frames, joints, 3)
        return placed if path is None else placed + (path @ self.R.mT)[:, :, None]

    def apply(self, pose_3d: Tensor, skeleton: Skeleton, path: Tensor | None = None) -> Tensor:
        """Apply all operators and RT.

        Args:
            pose_3d: root-relative poses (B, T, J, 3), camera frame, metres.
            skeleton: the skeleton of the poses.
            path: see `place`.

        Returns:
            Absolute poses (B, T, J, 3), camera frame, metres.
        """
        bones = Bones.of(pose_3d, skeleton)
        return self.place(self.stretch(self.bend(bones)), bones, path)

    def project(self, pose_3d: Tensor, *, limit: float | None = None) -> Tensor:
        """Project absolute poses (B, T, J, 3) with the camera: (B, T, J, 2) in screen units.

        Args:
            pose_3d: camera frame, metres.
            limit: see `geometry.camera.project`.
        """
        return project(pose_3d, self.camera[:, None], limit=limit)
