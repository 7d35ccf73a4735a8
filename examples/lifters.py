"""Small estimators of our own, in the shapes the field knows: (B, J, 2) in, (B, J, 3) out."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SimpleBaseline(nn.Module):
    """The residual MLP of Martinez et al. (ICCV 2017), root at the origin.

    Args:
        joints: J, the root first.
        width: hidden units; 1024 in the paper.
        stages: residual blocks of two layers.
        dropout: 0.5 in the paper; less where the plugin widens the data.
    """

    def __init__(
        self, joints: int = 16, width: int = 256, stages: int = 2, dropout: float = 0.05
    ) -> None:
        super().__init__()
        self.first = _layer(2 * joints, width, dropout)
        self.stages = nn.ModuleList(
            nn.Sequential(_layer(width, width, dropout), _layer(width, width, dropout))
            for _ in range(stages)
        )
        self.last = nn.Linear(width, 3 * (joints - 1))

    def forward(self, pose_2d: Tensor) -> Tensor:
        h = self.first(pose_2d.flatten(1))
        for stage in self.stages:
            h = h + stage(h)
        pose = self.last(h).view(len(h), -1, 3)
        return torch.cat([torch.zeros_like(pose[:, :1]), pose], 1)


def _layer(inputs: int, width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)
    )
