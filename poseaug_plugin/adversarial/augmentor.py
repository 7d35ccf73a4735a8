"""The augmentor: from a pose to gamma_ba, gamma_bl and (R, t), and from those to a new pose.

Sample once, apply as often as you like: `Augmentation` is plain tensors, one set per row (per
clip), and applying it again gives the same pose.

Source: PoseAug (CVPR 2021) section 3.2. Network sizes and output ranges without a prior are the
released code's. With a prior the networks start at zero output and add to its draw.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..augment.prior import Draw, draw
from ..config import PoseAugConfig
from ..geometry.bones import lengths, pose_to_bones
from ..geometry.camera import project, zoom
from ..geometry.operators import axis_angle_to_matrix, bend, move, shift, stretch
from ..geometry.skeleton import Skeleton
from .layers import ParallelLinear, ParallelNorm, leaky

__all__ = ["Augmentation", "Augmentor"]


@dataclass(frozen=True)
class Augmentation:
    """One augmentation per row: the parameters of BA, BL and RT, and the camera that sees it."""

    gamma_ba: Tensor  # (B, K, 3) added to unit bones
    gamma_bl: Tensor  # (B, G) change of bone lengths, per mirror group
    R: Tensor  # (B, 3, 3)
    t: Tensor  # (B, 3) metres
    camera: Tensor  # (B, 9)
    # The networks' share of gamma_ba and gamma_bl, which regularisation looks at.
    learned_ba: Tensor
    learned_bl: Tensor
    offset: Tensor | None = None  # (B, J, 3) metres, the body's axes: joints defined otherwise

    def shared(self, leader: Tensor) -> Augmentation:
        """Every row seen as its leader (B,) is: one view of one scene."""
        return replace(self, R=self.R[leader], t=self.t[leader], camera=self.camera[leader])

    def bend(self, pose_3d: Tensor, skeleton: Skeleton) -> Tensor:
        """BA alone: (B, T, J, 3) to the same shape, root kept."""
        return bend(pose_3d, self.gamma_ba[:, None], skeleton)

    def finish(self, bent: Tensor, skeleton: Skeleton, path: Tensor | None = None) -> Tensor:
        """BL, definition of the joints and RT on top of BA.

        Args:
            bent: (B, T, J, 3) from `bend`.
            path: (B, T, 3) the root's place relative to the clip's centre frame, or to the
                scene's leader, which is turned along: a walk stays a walk, a pair stays
                together. None: the person stays on the spot.

        Returns:
            (B, T, J, 3), absolute.
        """
        pose = stretch(bent, self.gamma_bl[:, None], skeleton)
        if self.offset is not None:
            pose = shift(pose, self.offset[:, None], skeleton)
        R = self.R[:, None]
        t = self.t[:, None]
        if path is not None:
            t = t + (R @ path[..., None])[..., 0]
        return move(pose, R, t, skeleton)

    def apply(self, pose_3d: Tensor, skeleton: Skeleton, path: Tensor | None = None) -> Tensor:
        """BA, BL, RT: root-relative (B, T, J, 3) to absolute (B, T, J, 3)."""
        return self.finish(self.bend(pose_3d, skeleton), skeleton, path)

    def project(self, pose_3d: Tensor, *, limit: float | None = None) -> Tensor:
        """The 2D that belongs to an absolute pose (B, T, J, 3): (B, T, J, 2)."""
        return project(pose_3d, self.camera[:, None], limit=limit)


class Augmentor(nn.Module):
    """Predicts an `Augmentation` for every row from its pose and noise.

    Args:
        generator: draws the initial weights.
    """

    keep_bone: Tensor  # (K, 1) 0 where the network may not bend
    keep_group: Tensor  # (G,) 0 where it may not stretch
    shown: Tensor  # (N, 1, 1) 1 for networks that see bone lengths

    def __init__(
        self, skeleton: Skeleton, config: PoseAugConfig, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.skeleton, self.config = skeleton, config
        #: Outputs of each head, in order. A part that is off has no head.
        self.heads = {
            name: size
            for name, size, on in (
                ("ba", 3 * skeleton.num_bones, config.ba),
                ("bl", skeleton.num_groups, config.bl),
                ("r", 3, config.rt),
                ("t", 3, config.rt),
            )
            if on and config.learned
        }
        if self.heads:
            self._build(generator)
        keep_bone = torch.ones(skeleton.num_bones, 1, dtype=torch.float32)
        keep_group = torch.ones(skeleton.num_groups, dtype=torch.float32)
        if config.freeze_trunk and skeleton.trunk:
            keep_bone[list(skeleton.trunk)] = 0
            keep_group[skeleton.mirror_group[skeleton.trunk[-1]]] = 0
        self.register_buffer("keep_bone", keep_bone, persistent=False)
        self.register_buffer("keep_group", keep_group, persistent=False)

    def _build(self, generator: torch.Generator) -> None:
        # One network with all heads, or one per head padded to the widest: the same code.
        config, sizes = self.config, list(self.heads.values())
        separate = config.networks == "separate"
        self.nets = len(sizes) if separate else 1
        outputs = max(sizes) if separate else sum(sizes)
        pose, bones = 3 * self.skeleton.num_joints, self.skeleton.num_bones
        # The length network alone is shown the lengths; the shared one has that head as well.
        shown = [name == "bl" for name in self.heads] if separate else ["bl" in self.heads]
        nets = torch.tensor(shown, dtype=torch.float32).view(-1, 1, 1)
        self.register_buffer("shown", nets, persistent=False)
        inputs = pose + bones + config.noise
        fan_in = [inputs if s else inputs - bones for s in shown]
        width, norm = config.width, separate
        self.first = ParallelLinear(self.nets, inputs, width, generator, fan_in=fan_in)
        self.blocks = nn.ModuleList(
            ParallelLinear(self.nets, width, width, generator) for _ in range(4)
        )
        self.norms = nn.ModuleList(
            ParallelNorm(self.nets, width) if norm else nn.Identity() for _ in range(5)
        )
        self.last = ParallelLinear(self.nets, width, outputs, generator, zero=config.prior)

    def _raw(self, centre: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Outputs of every head (B, size) for centre-frame poses (B, J, 3)."""
        if not self.heads:
            return {}
        rows = len(centre)
        noise = torch.randn(
            (self.nets, rows, self.config.noise),
            generator=generator,
            device=generator.device,
            dtype=torch.float32,
        )
        bones = lengths(pose_to_bones(centre, self.skeleton))
        pose = centre.flatten(1).expand(self.nets, -1, -1)
        h = self.first(torch.cat([pose, bones * self.shown, noise], -1))
        h = leaky(self.norms[0](h))
        for linear, norm in zip(self.blocks, self.norms[1:]):
            h = leaky(norm(linear(h)))
        out = self.last(h)
        if self.nets > 1:
            return {name: out[i, :, :size] for i, (name, size) in enumerate(self.heads.items())}
        return dict(zip(self.heads, out[0].split(list(self.heads.values()), -1)))

    def forward(
        self, pose_3d: Tensor, root: Tensor, camera: Tensor, generator: torch.Generator
    ) -> Augmentation:
        """Sample an augmentation for every row.

        Args:
            pose_3d: (B, T, J, 3) root-relative, metres; the centre frame is looked at.
            root: (B, 3) root of the centre frame, kept where RT is off.
            camera: (B, 9).
            generator: on the same device; the only source of randomness.
        """
        config, skeleton = self.config, self.skeleton
        centre = pose_3d[:, pose_3d.shape[1] // 2]
        raw = self._raw(centre, generator)
        prior = draw(len(centre), skeleton, config, generator) if config.prior else None

        learned_ba = centre.new_zeros(len(centre), skeleton.num_bones, 3)
        if "ba" in raw:
            step = raw["ba"].view(len(centre), -1, 3) * self.keep_bone
            limit = config.limit_ba
            learned_ba = step if limit is None else limit * step.tanh()
        gamma_ba = learned_ba + prior.gamma_ba if prior else learned_ba

        learned_bl = centre.new_zeros(len(centre), skeleton.num_groups)
        if "bl" in raw:
            learned_bl = config.limit_bl * (raw["bl"] * self.keep_group).tanh()
        gamma_bl = learned_bl + prior.gamma_bl if prior else learned_bl

        R, t, camera = self._place(raw, prior, root, camera)
        offset = prior.offset if prior else None
        return Augmentation(gamma_ba, gamma_bl, R, t, camera, learned_ba, learned_bl, offset)

    def _place(
        self, raw: dict[str, Tensor], prior: Draw | None, root: Tensor, camera: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        config = self.config
        if not config.rt:
            return torch.eye(3).to(root).expand(len(root), 3, 3), root, camera
        if prior is None:
            R = axis_angle_to_matrix(config.limit_r * raw["r"].tanh())
            x, y, z = raw["t"].unbind(-1)
            return R, torch.stack([x, y, z * z], -1), camera
        R, place, distance = prior.R, prior.place, prior.distance
        if raw:
            R = axis_angle_to_matrix(config.limit_r * raw["r"].tanh()) @ R
            shift = config.limit_t * raw["t"].tanh()
            place = place + shift[:, :2]
            distance = distance * shift[:, 2].exp()
        camera = zoom(camera, prior.focal)
        t = torch.cat([place / camera[:, :2], torch.ones_like(place[:, :1])], -1)
        return R, t * distance[:, None], camera
