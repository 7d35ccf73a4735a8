"""The sampler makes augmented pairs: the steps of one sample, in order.

A sample lives in bone space, directions and lengths, from one H at its start to one inverse at its
end. Nothing here learns from a loss; what does hands its share of the parameters to `propose`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..config import PoseAugConfig
from ..geometry.bones import EPS, Bones
from ..geometry.camera import in_frame, zoom
from ..geometry.constants import identity
from ..geometry.operators import axis_angle_to_matrix
from ..geometry.pose_batch import PoseBatch
from ..geometry.skeleton import Skeleton
from ..loop.distributed import rank
from .augmentation import Augmentation
from .draws import weighted
from .pose_statistics import PoseStatistics
from .prior import View, draw, swap_lengths

__all__ = ["Proposal", "Sampler"]


@dataclass(frozen=True)
class Proposal:
    """The learned share of the parameters; empty where nothing learns."""

    parameters: dict[str, Tensor] = field(default_factory=dict)  # added to the prior's
    axis_angle: Tensor | None = None  # (B, 3) rad, a rotation on top of the prior's
    t: Tensor | None = None  # (B, 3) metres; with a prior: a step on the screen, and log distance


class Sampler:
    """Augmented pairs, and the running statistics and the random stream that they are made with.

    Args:
        device: of the poses; the estimator's.

    Attributes:
        propose: the learned share for bones of (B, K), their centre frame; set by what learns.
    """

    def __init__(self, skeleton: Skeleton, config: PoseAugConfig, device: torch.device) -> None:
        self.skeleton, self.config, self.device = skeleton, config, device
        self.generator = torch.Generator(device).manual_seed(config.seed + 1 + rank())
        self.pose_statistics = PoseStatistics(skeleton, device)
        self.propose: Callable[[Bones], Proposal] = lambda _: Proposal()

    @torch.no_grad()
    def pairs(self, poses: PoseBatch, rows: Tensor) -> tuple[PoseBatch, Tensor]:
        """Augmented pairs to stand in `rows` (N,) of a batch, and which of them count (N,)."""
        bones = Bones.of(poses.pose_3d, self.skeleton)
        sources = self.source_rows(poses, bones, rows)
        made, good, *_ = self._sample(poses.pick(sources), bones.pick(sources))
        return made, good & poses.valid[rows]

    @torch.no_grad()
    def sample(self, poses: PoseBatch) -> tuple[PoseBatch, Tensor, Augmentation]:
        """Augmented pairs, which of them count (B,), and the parameters that made them."""
        made, good, swapped, aug = self._sample(poses, Bones.of(poses.pose_3d, self.skeleton))
        return made, good, aug if swapped is None else aug.on_top_of(swapped)

    def _sample(
        self, poses: PoseBatch, bones: Bones
    ) -> tuple[PoseBatch, Tensor, Tensor | None, Augmentation]:
        bones, swapped = self.swap_lengths(poses, bones)
        aug = self.augment(poses, bones)
        pose_3d = aug.place(aug.stretch(aug.bend(bones)), bones, poses.path)
        made = self.observe(poses, pose_3d, aug.camera)
        if self.config.keep_detection_error:
            made = replace(made, pose_2d=made.pose_2d + poses.detection_error(made))
        return made, self.counts(poses, made, pose_3d), swapped, aug

    # The steps

    def source_rows(self, poses: PoseBatch, bones: Bones, rows: Tensor) -> Tensor:
        """Whose pose each of `rows` is made from: its own, or per `config.balance` another's.

        People of one scene keep their own. How people move is learned from the batch before.
        """
        config, pose_statistics = self.config, self.pose_statistics
        if not config.uses_pose_statistics:
            return rows
        axes = bones.axes[:, poses.middle]  # of all frames, once: what follows wants them too
        centre = bones.frame(poses.middle)
        seen = centre.body_direction
        pose_statistics.add(seen, axes, poses.valid)
        if not config.resamples or poses.group is not None:
            return rows
        whole = poses.valid & (centre.length > EPS).all(-1)  # a missing bone is no rare pose
        weight = pose_statistics.rarity(seen) ** config.rare_pose_power * whole
        return weighted(self.generator, weight, len(rows))

    def swap_lengths(self, poses: PoseBatch, bones: Bones) -> tuple[Bones, Tensor | None]:
        """Bones with the lengths of other rows' people, and gamma_bl (B, G) that did it."""
        if not (self.config.swap_lengths and self.config.bl):
            return bones, None
        other = swap_lengths(bones.frame(poses.middle), self.generator)
        return bones.stretch(other[:, None]), other

    def augment(
        self, poses: PoseBatch, bones: Bones, proposal: Proposal | None = None
    ) -> Augmentation:
        """Parameters for every row: the prior's, the learned share, and the new pose's bends."""
        config, centre = self.config, bones.frame(poses.middle)
        learned = self.propose(centre) if proposal is None else proposal
        drawn = draw(len(poses), self.skeleton, config, self.generator) if config.prior else None
        shares = [drawn.parameters if drawn else {}, learned.parameters]
        if config.varies_poses:
            varied = self.pose_statistics.new_poses(centre.body_direction, config, self.generator)
            gamma_ba = torch.baddbmm(centre.direction, varied, centre.axes.mT, beta=-1)
            shares.append({"gamma_ba": gamma_ba})
        parameters: dict[str, Tensor] = {}
        for name, value in (item for share in shares for item in share.items()):
            parameters[name] = parameters[name] + value if name in parameters else value
        R, t, camera = self._place(learned, drawn.view if drawn else None, poses)
        made = Augmentation(parameters, R, t, camera)
        leader = poses.leader
        return made if leader is None else made.shared(leader)

    def _place(
        self, learned: Proposal, view: View | None, poses: PoseBatch
    ) -> tuple[Tensor, Tensor, Tensor]:
        """R (B, 3, 3), t (B, 3) and the camera (B, 9)."""
        root, camera = poses.root[:, poses.middle], poses.camera
        turn = None if learned.axis_angle is None else axis_angle_to_matrix(learned.axis_angle)
        if not self.config.rt:
            return identity(3, root.dtype, root.device).expand(len(root), 3, 3), root, camera
        if view is None:
            assert turn is not None
            assert learned.t is not None
            return turn, learned.t, camera
        R, place, distance = view.R, view.place, view.distance
        if turn is not None:
            R = turn @ R
        if learned.t is not None:
            place = place + learned.t[:, :2]
            distance = distance * learned.t[:, 2].exp()
        if self.config.aligns_vertical:
            R = R @ self.pose_statistics.vertical_alignment()
        camera = zoom(camera, view.focal)
        depth = distance[:, None]
        return R, torch.cat([depth * place / camera[:, :2], depth], -1), camera

    def observe(
        self, poses: PoseBatch, pose_3d: Tensor, camera: Tensor, limit: float | None = None
    ) -> PoseBatch:
        """The rows with other absolute poses (B, T, J, 3), as cameras (B, 9) see them."""
        released_quirks = self.config.released_quirks
        # Behind the camera the published projection turns left and right round.
        optics: dict[str, Any] = {"floor": -math.inf} if released_quirks else {}
        limit = 1.0 if released_quirks else limit
        return poses.projected(pose_3d, camera, self.skeleton.root, limit=limit, **optics)

    def counts(self, poses: PoseBatch, made: PoseBatch, pose_3d: Tensor) -> Tensor:
        """Which pairs (B,) a camera could have taken in every frame; of a scene all or none."""
        config = self.config
        good = (
            (made.pose_2d <= 1).flatten(1).all(1)  # as published: two sides, any depth
            if config.released_quirks
            else in_frame(
                pose_3d.flatten(1, 2),
                made.pose_2d.flatten(1, 2),
                depth=config.depth,
                height=config.frame_height or poses.frame_height,
            )
        )
        leader = poses.leader
        if leader is not None:  # one person out of the frame spoils the scene
            out = ~good & poses.valid
            spoilt = torch.zeros_like(good).index_put_((leader,), out, accumulate=True)
            good = ~spoilt[leader]
        return good & poses.valid

    # Saving

    def state_dict(self) -> dict[str, Any]:
        return {
            "pose_statistics": self.pose_statistics.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.pose_statistics.load_state_dict(state["pose_statistics"], self.device)
        saved = state["generator"].cpu()
        if saved.shape == self.generator.get_state().shape:  # a CUDA state does not fit a CPU
            self.generator.set_state(saved)
            if rank():  # what is saved is mostly rank 0's: draws differ by rank
                seed = torch.randint(1 << 62, (), generator=self.generator, device=self.device)
                self.generator.manual_seed(int(seed) + rank())
