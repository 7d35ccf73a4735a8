"""Small 2D-to-3D lifters with well-known architectures: (B, J, 2) in, (B, J, 3) out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .geometry.skeleton import Skeleton


class SimpleBaseline(nn.Module):
    """Residual MLP of Martinez et al. (ICCV 2017). The root is at the origin.

    Args:
        joints: Number of joints J, the root first.
        width: Number of hidden units, 1024 in the paper.
        stages: Number of residual blocks of two layers.
        dropout: 0.5 in the paper. Less is needed with augmented data.
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
    """Temporal convolutions over 27 frames as in VideoPose3D (Pavllo et al., CVPR 2019), narrow.

    Maps (B, 27, J, 2) to the centre frame's (B, 1, J, 3). The convolutions are strided instead of
    dilated, which is equivalent for single windows and skips unused frames.

    Args:
        joints: Number of joints J, the root first.
        width: Number of channels, 1024 in the paper.
        dropout: 0.25 in the paper.
        out_joints: Number of predicted joints, the last ones of the J. All J by default.
    """

    filter_widths: tuple[int, ...] = (3, 3, 3)  # kernel size of each layer
    pad = 13  # frames before and after the centre frame

    def __init__(
        self,
        joints: int = 16,
        width: int = 128,
        dropout: float = 0.1,
        out_joints: int | None = None,
    ) -> None:
        super().__init__()
        first, *rest = self.filter_widths
        self.expand = _convolution(2 * joints, width, first, dropout)
        self.layers = nn.ModuleList(_convolution(width, width, size, dropout) for size in rest)
        self.mixes = nn.ModuleList(_convolution(width, width, 1, dropout) for _ in rest)
        self.shrink = nn.Conv1d(width, 3 * (out_joints or joints), 1)

    def set_bn_momentum(self, momentum: float) -> None:
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.momentum = momentum

    def forward(self, pose_2d: Tensor) -> Tensor:
        h = self.expand(pose_2d.flatten(2).transpose(1, 2))
        for size, layer, mix in zip(self.filter_widths[1:], self.layers, self.mixes):
            h = h[:, :, size // 2 :: size] + mix(layer(h))
        return self.shrink(h).transpose(1, 2).unflatten(-1, (-1, 3))


class VideoPose(TemporalLifter):
    """VideoPose3D on single frames: (B, J, 2) to (B, J, 3). The root is at the origin.

    All five filter widths are 1: an input layer and four residual blocks of two layers. Width and
    dropout are 1024 and 0.25 in the paper.
    """

    filter_widths = (1, 1, 1, 1, 1)
    pad = 0

    def __init__(
        self,
        joints: int = 16,
        width: int = 256,
        dropout: float = 0.05,
        out_joints: int | None = None,
    ) -> None:
        super().__init__(joints, width, dropout, out_joints)

    def forward(self, pose_2d: Tensor) -> Tensor:
        # With kernel size 1 a batch is equivalent to one clip, which is faster.
        pose = super().forward(pose_2d[None])[0][:, 1 - pose_2d.shape[1] :]
        return torch.cat([torch.zeros_like(pose[:, :1]), pose], 1)


def _convolution(inputs: int, width: int, size: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(inputs, width, size, stride=size, bias=False),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Dropout(dropout),
    )


class _GraphConvolution(nn.Module):
    """Graph convolution, BatchNorm and ReLU: (J, B, inputs) to (J, B, width).

    Joints come first, so mixing joints and mixing features are plain matrix products. Edge weights
    are a softmax over learned strengths.

    Args:
        groups: (G, J, J) bool, whether joint i receives features of joint j. Each group has its
            own weight matrix.
    """

    groups: Tensor

    def __init__(self, groups: Tensor, inputs: int, width: int) -> None:
        super().__init__()
        self.register_buffer("groups", groups, persistent=False)
        self.strength = nn.Parameter(torch.ones(groups.shape))
        # Initialised as in nn.Linear: uniform within 1 / sqrt(inputs).
        self.weight = nn.Parameter((2 * torch.rand(len(groups), inputs, width) - 1) / inputs**0.5)
        self.norm = nn.BatchNorm1d(width)

    def edges(self) -> Tensor:
        """(G, J, J) weight of joint j for joint i."""
        weights = self.groups * self.strength.exp()
        return weights / weights.sum((0, 2), keepdim=True)

    def forward(self, h: Tensor) -> Tensor:
        joints, rows, _ = h.shape
        messages = [(h.flatten(0, 1) @ weight).view(joints, -1) for weight in self.weight]
        mixed = sum((edge @ x for edge, x in zip(self.edges(), messages)), h.new_zeros(()))
        return self.norm(mixed.view(joints * rows, -1)).relu().view(joints, rows, -1)


class _GroupedConvolution(_GraphConvolution):
    """Graph convolution that averages over each group, with a learned factor for each edge."""

    def edges(self) -> Tensor:
        return self.groups * self.strength / self.groups.sum(-1, keepdim=True).clamp_min(1)


class GraphLifter(nn.Module):
    """Graph convolutions over the skeleton with learned edge weights, after SemGCN (CVPR 2019).

    A joint's own features and its neighbours' features have separate weight matrices. Edge weights
    are a softmax over learned strengths.
    """

    convolution: Callable[[Tensor, int, int], nn.Module] = _GraphConvolution

    def __init__(self, skeleton: str = "h36m_16", width: int = 128, blocks: int = 4) -> None:
        super().__init__()
        groups = self.groups(Skeleton.of(skeleton))
        self.first = self.convolution(groups, 2, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(self.convolution(groups, width, width) for _ in range(2)))
            for _ in range(blocks)
        )
        self.last: nn.Module = nn.Linear(width, 3)

    @staticmethod
    def groups(tree: Skeleton) -> Tensor:
        """(2, J, J) bool: the joint itself; the joints connected to it by a bone."""
        up = _parents(tree)
        return torch.stack([torch.eye(len(up), dtype=torch.bool), up | up.T])

    def forward(self, pose_2d: Tensor) -> Tensor:
        h = self.first(pose_2d.transpose(0, 1))
        for block in self.blocks:
            h = h + block(h)
        return self.last(h).transpose(0, 1)


class SpatialGraphLifter(GraphLifter):
    """ST-GCN's graph on single frames (Cai et al., ICCV 2019), without hierarchical pooling.

    Neighbours form four groups with separate weight matrices: the joint itself, its parent (closer
    to the root), its children (farther from it), its mirror joint. Each group is averaged, with a
    learned factor for each edge. The complete network is ``STGCN`` in
    ``benchmarks/reproduction/published_lifters.py``.
    """

    convolution = _GroupedConvolution

    def __init__(self, skeleton: str = "h36m_16", width: int = 48, blocks: int = 3) -> None:
        super().__init__(skeleton, width, blocks)

    @staticmethod
    def groups(tree: Skeleton) -> Tensor:
        """(4, J, J) bool: the joint itself, its parent, its children, its mirror joint."""
        up = _parents(tree)
        mirror = torch.zeros_like(up)
        mirror[list(tree.left + tree.right), list(tree.right + tree.left)] = True
        return torch.stack([torch.eye(len(up), dtype=torch.bool), up, up.T, mirror])


def _parents(tree: Skeleton) -> Tensor:
    """(J, J) bool: whether joint j is the parent of joint i."""
    up = torch.zeros(tree.num_joints, tree.num_joints, dtype=torch.bool)
    up[list(tree.child), list(tree.parent)] = True
    return up
