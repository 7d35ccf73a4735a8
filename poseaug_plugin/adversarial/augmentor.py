"""The augmentor: networks that propose gamma_ba, gamma_bl and (R, t) for a pose.

Source: PoseAug (CVPR 2021) section 3.2. Network sizes and output ranges without a prior are the
released code's. With a prior the networks start at zero output and add to its draw.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..augment.draws import normal
from ..augment.sampler import Proposal
from ..config import PoseAugConfig
from ..geometry.bones import Bones
from ..geometry.skeleton import Skeleton
from .layers import ParallelLinear, ParallelNorm, leaky

__all__ = ["Augmentor"]


class Augmentor(nn.Module):
    """Proposes a share of the augmentation for every row from its pose and noise.

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

    def _raw(self, centre: Bones, generator: torch.Generator) -> dict[str, Tensor]:
        """Outputs of every head (B, size) for bones of (B, K)."""
        noise = normal(generator, self.nets, len(centre.length), self.config.noise)
        pose = centre.pose_3d.flatten(1).expand(self.nets, -1, -1)
        h = self.first(torch.cat([pose, centre.length * self.shown, noise], -1))
        h = leaky(self.norms[0](h))
        for linear, norm in zip(self.blocks, self.norms[1:]):
            h = leaky(norm(linear(h)))
        out = self.last(h)
        if self.nets > 1:
            return {name: out[i, :, :size] for i, (name, size) in enumerate(self.heads.items())}
        return dict(zip(self.heads, out[0].split(list(self.heads.values()), -1)))

    def forward(self, centre: Bones, generator: torch.Generator) -> Proposal:
        """Propose for every row.

        Args:
            centre: bones of (B, K), the centre frames of clips.
            generator: on the same device; the only source of randomness.
        """
        if not self.heads:
            return Proposal()
        config, raw = self.config, self._raw(centre, generator)
        parameters = {}
        if "ba" in raw:
            step = raw["ba"].view(*centre.direction.shape) * self.keep_bone
            limit = config.limit_ba
            parameters["gamma_ba"] = step if limit is None else limit * step.tanh()
        if "bl" in raw:
            parameters["gamma_bl"] = config.limit_bl * (raw["bl"] * self.keep_group).tanh()
        if "r" not in raw:
            return Proposal(parameters)
        axis_angle = config.limit_r * raw["r"].tanh()
        if config.prior:
            return Proposal(parameters, axis_angle, config.limit_t * raw["t"].tanh())
        x, y, z = raw["t"].unbind(-1)
        return Proposal(parameters, axis_angle, torch.stack([x, y, z * z], -1))
