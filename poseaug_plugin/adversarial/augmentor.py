"""The augmentor: networks that propose gamma_ba, gamma_bl and (R, t) for a pose.

The networks refine samples of the prior, or, without a prior, the rows as they are. They see the
body, the view and the place, and their outputs, which start at zero, are added to them. A bend is
in the body frame. The mean over rows of each output is removed, so that the networks cannot give
the same answer to every row: what people and views are like on average is the prior's part, the
target's or the data's. R and t are whitened as well: otherwise the views of all rows lie on one
line, since one direction is always the most rewarding, and it depends on the seed which.

Separate networks without a prior are those of the released code: they start from random weights, R
is the whole rotation, and t the root position itself, with z squared.

Source: PoseAug (CVPR 2021), section 3.2; network sizes from the released code.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..augment.draws import normal
from ..augment.sampler import Draft, Proposal
from ..config import PoseAugConfig
from ..geometry.skeleton import Skeleton
from .layers import Centring, ParallelLinear, ParallelNorm, Whitening, leaky

__all__ = ["Augmentor"]

#: The last outputs, vectors of which no direction is preferred. Some bends and changes of lengths
#: are more plausible than others.
VECTORS = {"r", "t"}


class Augmentor(nn.Module):
    """Proposes the learned part of the augmentation of each row, from its pose and noise.

    In training mode, means over rows are those of the batch, in evaluation mode running ones.

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
        inputs = 3 * joints + bones + 4 * config.refines + config.noise
        fan_in = [inputs if sees else inputs - bones for sees in sees_lengths]
        self.first = ParallelLinear(self.nets, inputs, width, generator, fan_in=fan_in)
        self.blocks = nn.ModuleList(
            ParallelLinear(self.nets, width, width, generator) for _ in range(4)
        )
        self.norms = nn.ModuleList(
            ParallelNorm(self.nets, width) if separate else nn.Identity() for _ in range(5)
        )
        self.last = ParallelLinear(self.nets, width, outputs, generator, zero=config.refines)
        if config.refines:
            self.centring = Centring(sum(sizes))
            self.whitening = Whitening(len(VECTORS & self.heads.keys()), 3)

    def _outputs(self, draft: Draft, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the output (B, size) of each head."""
        bones = draft.bones
        noise = normal(generator, self.nets, len(bones.length), self.config.noise)
        pose = bones.pose_3d.flatten(1).expand(self.nets, -1, -1)
        place = [] if draft.place is None else [draft.place.expand(self.nets, -1, -1)]
        h = self.first(torch.cat([pose, bones.length * self.sees_lengths, *place, noise], -1))
        h = leaky(self.norms[0](h))
        for linear, norm in zip(self.blocks, self.norms[1:]):
            h = leaky(norm(linear(h)))
        out = self.last(h)
        if self.nets > 1:
            outputs = {name: out[i, :, :size] for i, (name, size) in enumerate(self.heads.items())}
        else:
            outputs = dict(zip(self.heads, out[0].split(list(self.heads.values()), -1)))
        return outputs

    def _whiten(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return outputs with a mean of 0 over rows, and vectors without a preferred direction."""
        together = self.centring(torch.cat([*outputs.values()], -1))
        first = together.shape[1] - math.prod(self.whitening.shape)
        numbers, vectors = together.tensor_split([first], -1)
        white = torch.cat([numbers, self.whitening(vectors).clamp(-1, 1)], -1)
        return dict(zip(outputs, white.split([*self.heads.values()], -1)))

    def forward(self, draft: Draft, generator: torch.Generator) -> Proposal:
        """Propose parameters for each row.

        Args:
            draft: the centre frames of clips, as the networks see them.
            generator: draws the noise; on the device of the bones.
        """
        if not self.heads:
            return Proposal()
        config = self.config
        limits = {"ba": config.limit_ba, "bl": config.limit_bl, "r": config.limit_r}
        limits["t"] = config.limit_t if config.refines else None
        limited = {n: x for n, x in limits.items() if n in self.heads and x is not None}
        outputs = self._outputs(draft, generator)
        outputs |= {name: outputs[name].tanh() for name in limited}
        if config.refines:
            outputs = self._whiten(outputs)
        outputs |= {name: limit * outputs[name] for name, limit in limited.items()}
        parameters = {}
        if "ba" in outputs:
            step = outputs["ba"].view(*draft.bones.direction.shape)
            parameters["gamma_ba"] = step * self.trainable_bones
        if "bl" in outputs:
            parameters["gamma_bl"] = outputs["bl"] * self.trainable_groups
        if "t" in outputs and not config.refines:
            x, y, z = outputs["t"].unbind(-1)
            outputs["t"] = torch.stack([x, y, z * z], -1)
        return Proposal(parameters, outputs.get("r"), outputs.get("t"))
