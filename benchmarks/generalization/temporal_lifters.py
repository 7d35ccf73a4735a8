"""Lifters of windows that only the benchmark needs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poseaug_plugin.lifters import TemporalLifter

__all__ = ["TemporalLifter81", "TemporalLifter243", "TemporalTransformer"]


class TemporalLifter81(TemporalLifter):
    """VideoPose3D's temporal convolutions over 81 frames instead of 27."""

    filter_widths = (3, 3, 3, 3)
    pad = 40


class TemporalLifter243(TemporalLifter):
    """VideoPose3D's temporal convolutions over 243 frames, its largest network."""

    filter_widths = (3, 3, 3, 3, 3)
    pad = 121


class TemporalTransformer(nn.Module):
    """Attention over the frames of a window: the temporal half of PoseFormer, narrow.

    Maps (B, frames, J, 2) to the centre frame's (B, 1, J, 3). Each frame is one token. As in
    PoseFormer (Zheng et al., ICCV 2021), the output is a learned average over frames. PoseFormer
    also has attention over the joints of a frame, and a width of 32 per joint.

    Args:
        frames: Number of frames of a window.
        joints: Number of joints J.
        width: Number of features of a token.
        depth: Number of layers.
        heads: Number of attention heads.
    """

    def __init__(
        self, frames: int = 27, joints: int = 16, width: int = 64, depth: int = 3, heads: int = 4
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(2 * joints, width)
        self.place = nn.Parameter(torch.zeros(frames, width))
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    width, heads, 2 * width, dropout=0.0, batch_first=True, norm_first=True
                )
                for _ in range(depth)
            )
        )
        self.norm = nn.LayerNorm(width)
        self.average = nn.Linear(frames, 1)
        self.head = nn.Linear(width, 3 * joints)

    def forward(self, pose_2d: Tensor) -> Tensor:
        tokens = self.norm(self.layers(self.embed(pose_2d.flatten(2)) + self.place))
        centre = self.average(tokens.mT).mT
        return self.head(centre).unflatten(-1, (-1, 3))
