"""Small estimators of our own, in the shapes the field knows: (B, J, 2) in, (B, J, 3) out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poseaug_plugin import Skeleton


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


class TemporalLifter(nn.Module):
    """Dilated convolutions over 27 frames, as VideoPose3D (Pavllo et al., CVPR 2019), width small.

    (B, 27, J, 2) to the centre frame's (B, 1, J, 3). Strided for training on single windows, where
    every frame that a dilated layer would drop is never computed.
    """

    pad = 13

    def __init__(self, joints: int = 16, width: int = 128, dropout: float = 0.1) -> None:
        super().__init__()
        self.joints = joints
        self.expand = _convolution(2 * joints, width, 3, dropout)
        self.layers = nn.ModuleList(_convolution(width, width, 3, dropout) for _ in range(2))
        self.mixes = nn.ModuleList(_convolution(width, width, 1, dropout) for _ in range(2))
        self.shrink = nn.Conv1d(width, 3 * joints, 1)

    def set_bn_momentum(self, momentum: float) -> None:
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.momentum = momentum

    def forward(self, pose_2d: Tensor) -> Tensor:
        h = self.expand(pose_2d.flatten(2).transpose(1, 2))
        for layer, mix in zip(self.layers, self.mixes):
            h = h[:, :, 1::3] + mix(layer(h))
        return self.shrink(h).transpose(1, 2).unflatten(-1, (self.joints, 3))


def _convolution(inputs: int, width: int, size: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(inputs, width, size, stride=size, bias=False),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Dropout(dropout),
    )


class GraphLifter(nn.Module):
    """Graph convolutions over the skeleton with learned edge weights, after SemGCN (CVPR 2019).

    Each joint takes its own features through one matrix and its neighbours', weighted by a
    softmax over learned edge strengths, through another.
    """

    def __init__(self, skeleton: str = "h36m_16", width: int = 128, blocks: int = 4) -> None:
        super().__init__()
        tree = Skeleton.of(skeleton)
        near = torch.eye(tree.num_joints, dtype=torch.bool)
        near[list(tree.child), list(tree.parent)] = near[list(tree.parent), list(tree.child)] = True
        self.first = _GraphConvolution(near, 2, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(_GraphConvolution(near, width, width) for _ in range(2)))
            for _ in range(blocks)
        )
        self.last = nn.Linear(width, 3)

    def forward(self, pose_2d: Tensor) -> Tensor:
        h = self.first(pose_2d)
        for block in self.blocks:
            h = h + block(h)
        return self.last(h)


class _GraphConvolution(nn.Module):
    """(B, J, inputs) to (B, J, width), normalised over the batch, rectified."""

    near: Tensor

    def __init__(self, near: Tensor, inputs: int, width: int) -> None:
        super().__init__()
        self.register_buffer("near", near, persistent=False)
        self.own, self.others = nn.Linear(inputs, width), nn.Linear(inputs, width, bias=False)
        self.strength = nn.Parameter(torch.ones(near.shape))
        self.norm = nn.BatchNorm1d(width)

    def forward(self, h: Tensor) -> Tensor:
        weight = self.strength.masked_fill(~self.near, -torch.inf).softmax(-1)
        self_only = torch.eye(len(weight), device=h.device)
        h = self.own(h) * weight.diagonal()[:, None] + (weight * (1 - self_only)) @ self.others(h)
        return self.norm(h.transpose(1, 2)).transpose(1, 2).relu()
