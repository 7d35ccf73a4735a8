"""The estimators of PoseAug's experiments at the published sizes, and narrow versions.

Sizes, dropout and learning rates are those of PoseAug's training commands (CVPR 2021). Parameter
counts are those of its own networks with 16 joints. With the same weights, the outputs agree with
the published networks to 1e-14 of the largest coordinate in float64. "videopose27" is VideoPose3D
over 27 frames (CVPR 2019), which PoseAug did not train: size and first learning rate are
VideoPose3D's. It has 8.56 M parameters with 17 joints and 8.55 M with 16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from poseaug_plugin import Skeleton
from poseaug_plugin.lifters import (
    GraphLifter,
    SimpleBaseline,
    SpatialGraphLifter,
    TemporalLifter,
    VideoPose,
)

__all__ = ["ESTIMATORS", "STGCN", "PublishedLifter", "SemGCN"]


class _Norm(nn.BatchNorm1d):
    """BatchNorm of the features in the last dimension."""

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h.flatten(0, -2)).view_as(h)


class _SemanticConvolution(nn.Module):
    """SemGCN's convolution (J, B, inputs) to (J, B, width), with one learned weight per edge.

    Args:
        groups: (2, J, J) bool, which joints j joint i receives features of: itself; its
            neighbours. Each group has its own weight matrix.
    """

    groups: Tensor

    def __init__(self, groups: Tensor, inputs: int, width: int) -> None:
        super().__init__()
        self.register_buffer("groups", groups, persistent=False)
        self.strength = nn.Parameter(torch.ones(int(groups.sum())))
        self.weight = nn.Parameter(torch.empty(len(groups), inputs, width))
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.xavier_uniform_(self.weight, gain=2**0.5)

    def edges(self) -> Tensor:
        """(2, J, J) weight of joint j for joint i, a softmax over the edges of joint i."""
        zeros = self.strength.new_zeros(self.groups.shape)
        weights = zeros.masked_scatter(self.groups, self.strength.exp())
        return weights / weights.sum((0, 2), keepdim=True)

    def forward(self, h: Tensor) -> Tensor:
        own, near = (edge @ (h @ w).flatten(1) for edge, w in zip(self.edges(), self.weight))
        return (own + near).view(*h.shape[:2], -1) + self.bias


class SemGCN(GraphLifter):
    """SemGCN (Zhao et al., CVPR 2019) as trained by PoseAug, without non-local blocks.

    Maps (B, 16, 2) to (B, 16, 3). The root is predicted like the other joints.
    """

    def __init__(self, width: int = 128, blocks: int = 4) -> None:
        super().__init__("h36m_16", width, blocks)
        self.last = _SemanticConvolution(self.groups(Skeleton.of("h36m_16")), width, 3)

    @staticmethod
    def convolution(groups: Tensor, inputs: int, width: int) -> nn.Sequential:
        return nn.Sequential(_SemanticConvolution(groups, inputs, width), _Norm(width), nn.ReLU())


class _GroupedConvolution(nn.Module):
    """Graph convolution (J, B, inputs) to (J, B, width): mean over edges, one matrix per group."""

    edges: Tensor

    def __init__(self, groups: Tensor, inputs: int, width: int) -> None:
        super().__init__()
        self.register_buffer("edges", groups / groups.sum((0, 2), keepdim=True), persistent=False)
        self.matrices = nn.Linear(inputs, len(groups) * width)

    def forward(self, h: Tensor) -> Tensor:
        messages = self.matrices(h).chunk(len(self.edges), -1)
        mixed = torch.stack([edge @ x.flatten(1) for edge, x in zip(self.edges, messages)]).sum(0)
        return mixed.view(*h.shape[:2], -1)


class _Block(nn.Module):
    """A graph convolution and a linear layer with a skip connection.

    Maps (J, B, inputs) to (J, B, width).

    Args:
        skip: Whether there is a skip connection. The first block has none.
    """

    def __init__(self, groups: Tensor, inputs: int, width: int, skip: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(_GroupedConvolution(groups, inputs, width), _Norm(width), nn.ReLU()),
            *(nn.Dropout(0.05), nn.Linear(width, width), _Norm(width), nn.Dropout(0.05)),
        )
        self.skip: nn.Module | None = nn.Identity() if skip else None
        if skip and inputs != width:
            self.skip = nn.Sequential(nn.Linear(inputs, width), _Norm(width))

    def forward(self, h: Tensor) -> Tensor:
        body = self.body(h)
        return (body + self.skip(h) if self.skip else body).relu()


class _NonLocal(nn.Module):
    """Non-local block: attention over the joints (Wang et al., CVPR 2018).

    Maps (J, B, width) to the same shape. It is the identity at initialisation.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width // 2) for _ in range(3))
        norm = _Norm(width)
        nn.init.zeros_(norm.weight)
        self.out = nn.Sequential(nn.Linear(width // 2, width), norm)

    def forward(self, h: Tensor) -> Tensor:
        rows = h.transpose(0, 1)
        attention = (self.query(rows) @ self.key(rows).mT).softmax(-1)
        return h + self.out((attention @ self.value(rows)).transpose(0, 1))


class STGCN(nn.Module):
    """ST-GCN (Cai et al., ICCV 2019) on single frames as trained by PoseAug.

    Maps (B, 16, 2) to (B, 16, 3). The root is predicted like the other joints. Internally there are
    17 joints: a nose halfway between thorax and head is added and removed again. Three graph
    convolutions over the joints are followed by max-pooling over each limb and the torso, two graph
    convolutions over these five parts, and max-pooling over the parts. The features of the parts
    and of the whole body are concatenated with those of the joints, followed by a non-local block.

    Dropout is as in pre-training. PoseAug's second phase uses none.

    Args:
        width: Width of the first two blocks. Later layers are two and four times as wide.
    """

    part_of: Tensor

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        tree = _reroot(Skeleton.of("h36m_17"), "spine")
        self.limbs, limb_tree = _limbs(tree)
        part_of = [next(i for i, x in enumerate(self.limbs) if j in x) for j in range(17)]
        self.register_buffer("part_of", torch.tensor(part_of), persistent=False)
        joints, limbs = (SpatialGraphLifter.groups(t) for t in (tree, limb_tree))
        # The released code passes the momentum, 0.1, as epsilon.
        self.norm = nn.BatchNorm1d(2 * tree.num_joints, eps=0.1)
        self.joints = nn.Sequential(
            _Block(joints, 2, width, skip=False),
            _Block(joints, width, width),
            _Block(joints, width, 2 * width),
        )
        self.pooled = nn.Sequential(
            _Block(limbs, 2 * width, 4 * width), _Block(limbs, 4 * width, 4 * width)
        )
        self.whole = _layer(4 * width, 4 * width, 0.25)
        self.both = _layer(8 * width, 2 * width, 0.1)
        self.last = nn.Sequential(_NonLocal(4 * width), nn.Dropout(0.1), nn.Linear(4 * width, 3))

    def forward(self, pose_2d: Tensor) -> Tensor:
        nose = pose_2d[:, 8:10].mean(1, keepdim=True)
        pose_2d = torch.cat([pose_2d[:, :9], nose, pose_2d[:, 9:]], 1)
        h = self.norm(pose_2d.flatten(1)).view_as(pose_2d).transpose(0, 1)
        h = self.joints(h)
        parts = self.pooled(torch.stack([h[list(limb)].amax(0) for limb in self.limbs]))
        whole = self.whole(parts.amax(0)).expand_as(parts)
        parts = self.both(torch.cat([whole, parts], -1))
        pose = self.last(torch.cat([h, parts[self.part_of]], -1)).transpose(0, 1)
        return torch.cat([pose[:, :9], pose[:, 10:]], 1)


def _layer(inputs: int, width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), _Norm(width), nn.ReLU(), nn.Dropout(dropout))


def _reroot(tree: Skeleton, name: str) -> Skeleton:
    """The same bones with another root, so that parents and children are relative to the spine."""
    above, joint = -1, (tree.names or ()).index(name)
    parents = list(tree.parents)
    while joint >= 0:
        parents[joint], above, joint = above, joint, parents[joint]
    return Skeleton(tuple(parents), tree.left, tree.right)


def _limbs(tree: Skeleton) -> tuple[list[tuple[int, ...]], Skeleton]:
    """Joints of each limb and, last, of the torso; and the skeleton of limbs and torso."""
    limbs = [tuple(tree.child[bone] for bone in limb) for limb in tree.limbs]
    sides = tree.left, tree.right
    torso = set(range(tree.num_joints)).difference(*limbs)
    left, right = (tuple(i for i, limb in enumerate(limbs) if limb[0] in side) for side in sides)
    return [*limbs, tuple(torso)], Skeleton((*[len(limbs)] * len(limbs), -1), left, right)


@dataclass(frozen=True)
class PublishedLifter:
    """One estimator: (B, 16, 2) to (B, 16, 3), or (B, frames, 16, 2) to (B, 1, 16, 3)."""

    make: Callable[[], nn.Module]  # the published size
    small: Callable[[], nn.Module]  # the same architecture with fewer channels
    parameters: int  # trainable parameters at the published size
    lr: float  # of Adam in pre-training; 100 epochs for semgcn, 50 for others, 1024 rows
    lr_poseaug: float  # of Adam in the second phase
    frames: int = 1


def _simple_baseline() -> SimpleBaseline:
    """With He initialisation of the linear layers, as in PoseAug."""
    model = SimpleBaseline(width=1024, dropout=0.25)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    return model


ESTIMATORS: dict[str, PublishedLifter] = {
    "mlp": PublishedLifter(_simple_baseline, SimpleBaseline, 4_288_557, 1e-3, 1e-4),
    "semgcn": PublishedLifter(SemGCN, partial(SemGCN, 64, 3), 267_343, 2e-2, 1e-3),
    "stgcn": PublishedLifter(STGCN, partial(STGCN, 24), 3_627_847, 1e-3, 1e-4),
    "videopose": PublishedLifter(
        partial(VideoPose, width=1024, dropout=0.25, out_joints=15),
        VideoPose,
        8_485_933,
        1e-3,
        1e-4,
    ),
    "videopose27": PublishedLifter(
        partial(TemporalLifter, width=1024, dropout=0.25), TemporalLifter, 8_546_352, 1e-3, 1e-4, 27
    ),
}
