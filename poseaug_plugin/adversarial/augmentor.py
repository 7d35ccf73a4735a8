"""The augmentor: networks that propose gamma_ba, gamma_bl and (R, t) for a pose.

With a prior, the outputs start at zero and are added to those of the prior. Without a prior, t is
the root position itself, with z squared as in the released code.

Source: PoseAug (CVPR 2021), section 3.2; network sizes from the released code.
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
    """Proposes the learned part of the augmentation of each row, from its pose and noise.

    Args:
        skeleton: the skeleton of the poses.
        config: which outputs are on, the sizes of the networks and the limits of the outputs.
        generator: draws the initial weights.
    """

    trainable_bones: Tensor  # (K, 1), 0 for bones that are not bent
    trainable_groups: Tensor  # (G,), 0 for mirror groups that are not stretched
    sees_lengths: Tensor  # (N, 1, 1), 1 for networks whose input includes bone lengths

    def __init__(
        self, skeleton: Skeleton, config: PoseAugConfig, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.skeleton, self.config = skeleton, config
        #: Number of outputs of each head, in order. A part that is off has no head.
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
        trainable_bones = torch.ones(skeleton.num_bones, 1, dtype=torch.float32)
        trainable_groups = torch.ones(skeleton.num_groups, dtype=torch.float32)
        if config.freeze_trunk and skeleton.trunk:
            trainable_bones[list(skeleton.trunk)] = 0
            trainable_groups[skeleton.mirror_group[skeleton.trunk[-1]]] = 0
        self.register_buffer("trainable_bones", trainable_bones, persistent=False)
        self.register_buffer("trainable_groups", trainable_groups, persistent=False)

    def _build(self, generator: torch.Generator) -> None:
        # One network with all heads, or one network per head, padded to the size of the largest.
        config, sizes = self.config, list(self.heads.values())
        separate = config.networks == "separate"
        self.nets = len(sizes) if separate else 1
        outputs = max(sizes) if separate else sum(sizes)
        joints, bones, width = self.skeleton.num_joints, self.skeleton.num_bones, config.width
        # Bone lengths are an input of the networks with the length head only.
        sees_lengths = [name == "bl" for name in self.heads] if separate else ["bl" in self.heads]
        mask = torch.tensor(sees_lengths, dtype=torch.float32).view(-1, 1, 1)
        self.register_buffer("sees_lengths", mask, persistent=False)
        inputs = 3 * joints + bones + config.noise
        fan_in = [inputs if sees else inputs - bones for sees in sees_lengths]
        self.first = ParallelLinear(self.nets, inputs, width, generator, fan_in=fan_in)
        self.blocks = nn.ModuleList(
            ParallelLinear(self.nets, width, width, generator) for _ in range(4)
        )
        self.norms = nn.ModuleList(
            ParallelNorm(self.nets, width) if separate else nn.Identity() for _ in range(5)
        )
        self.last = ParallelLinear(self.nets, width, outputs, generator, zero=config.prior)

    def _outputs(self, centre: Bones, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the output (B, size) of each head for bones of (B, K)."""
        noise = normal(generator, self.nets, len(centre.length), self.config.noise)
        pose = centre.pose_3d.flatten(1).expand(self.nets, -1, -1)
        h = self.first(torch.cat([pose, centre.length * self.sees_lengths, noise], -1))
        h = leaky(self.norms[0](h))
        for linear, norm in zip(self.blocks, self.norms[1:]):
            h = leaky(norm(linear(h)))
        out = self.last(h)
        if self.nets > 1:
            return {name: out[i, :, :size] for i, (name, size) in enumerate(self.heads.items())}
        return dict(zip(self.heads, out[0].split(list(self.heads.values()), -1)))

    def forward(self, centre: Bones, generator: torch.Generator) -> Proposal:
        """Propose parameters for each row.

        Args:
            centre: bones of (B, K), those of the centre frames of clips.
            generator: draws the noise; on the device of the bones.
        """
        if not self.heads:
            return Proposal()
        config, outputs = self.config, self._outputs(centre, generator)
        parameters = {}
        if "ba" in outputs:
            step = outputs["ba"].view(*centre.direction.shape) * self.trainable_bones
            limit = config.limit_ba
            parameters["gamma_ba"] = step if limit is None else limit * step.tanh()
        if "bl" in outputs:
            step = outputs["bl"] * self.trainable_groups
            parameters["gamma_bl"] = config.limit_bl * step.tanh()
        if "r" not in outputs:
            return Proposal(parameters)
        axis_angle = config.limit_r * outputs["r"].tanh()
        if config.prior:
            return Proposal(parameters, axis_angle, config.limit_t * outputs["t"].tanh())
        x, y, z = outputs["t"].unbind(-1)
        return Proposal(parameters, axis_angle, torch.stack([x, y, z * z], -1))
