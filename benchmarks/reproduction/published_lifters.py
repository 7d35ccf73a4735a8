"""The estimators of PoseAug's experiments at the sizes it trained, and the same shapes narrow.

Sizes, dropout and learning rates are those of PoseAug's training commands (CVPR 2021); parameter
counts are of its own networks at 16 joints. Given their weights, ours answer as theirs do to 1e-14
of the largest coordinate, in float64. "videopose27" is VideoPose3D over 27 frames (CVPR 2019),
which PoseAug did not train: size and first rate are VideoPose3D's, whose 17 joints make 8.56 M
parameters and whose 16 would make 8.55 M.
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

__all__ = ["ESTIMATORS", "STGCN", "Published", "SemGCN"]


class _Norm(nn.BatchNorm1d):
    """Normalises the last dimension's features over all others."""

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h.flatten(0, -2)).view_as(h)


class _SemanticConvolution(nn.Module):
    """(J, B, inputs) to (J, B, width), with one learned strength for each edge.

    Args:
        groups: (2, J, J) bool, whom joint i hears: itself; its neighbours. Each has a matrix.
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
        """(2, J, J) how much joint i hears of joint j: a softmax over all that it hears."""
        silent = self.strength.new_zeros(self.groups.shape)
        heard = silent.masked_scatter(self.groups, self.strength.exp())
        return heard / heard.sum((0, 2), keepdim=True)

    def forward(self, h: Tensor) -> Tensor:
        own, near = (edge @ (h @ w).flatten(1) for edge, w in zip(self.edges(), self.weight))
        return (own + near).view(*h.shape[:2], -1) + self.bias


class SemGCN(GraphLifter):
    """SemGCN (Zhao et al., CVPR 2019) as PoseAug trained it: without its non-local blocks.

    (B, 16, 2) to (B, 16, 3), the root predicted like the others.
    """

    def __init__(self, width: int = 128, blocks: int = 4) -> None:
        super().__init__("h36m_16", width, blocks)
        self.last = _SemanticConvolution(self.groups(Skeleton.of("h36m_16")), width, 3)

    @staticmethod
    def convolution(groups: Tensor, inputs: int, width: int) -> nn.Sequential:
        return nn.Sequential(_SemanticConvolution(groups, inputs, width), _Norm(width), nn.ReLU())


class _GroupedConvolution(nn.Module):
    """(J, B, inputs) to (J, B, width): a joint averages all that it hears, a matrix each group."""

    edges: Tensor

    def __init__(self, groups: Tensor, inputs: int, width: int) -> None:
        super().__init__()
        self.register_buffer("edges", groups / groups.sum((0, 2), keepdim=True), persistent=False)
        self.matrices = nn.Linear(inputs, len(groups) * width)

    def forward(self, h: Tensor) -> Tensor:
        told = self.matrices(h).chunk(len(self.edges), -1)
        mixed = torch.stack([edge @ x.flatten(1) for edge, x in zip(self.edges, told)]).sum(0)
        return mixed.view(*h.shape[:2], -1)


class _Block(nn.Module):
    """A graph convolution and a matrix, (J, B, inputs) to (J, B, width), added to what came in.

    Args:
        skip: False: nothing is added, as in the first block.
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
    """Every joint looks at every other and adds what it finds (Wang et al., CVPR 2018).

    (J, B, width) to the same; starts as the identity.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width // 2) for _ in range(3))
        norm = _Norm(width)
        nn.init.zeros_(norm.weight)
        self.out = nn.Sequential(nn.Linear(width // 2, width), norm)

    def forward(self, h: Tensor) -> Tensor:
        rows = h.transpose(0, 1)
        looks = (self.query(rows) @ self.key(rows).mT).softmax(-1)
        return h + self.out((looks @ self.value(rows)).transpose(0, 1))


class STGCN(nn.Module):
    """Cai et al. (ICCV 2019) on one frame as PoseAug trained it: joints, limbs, the whole, back.

    (B, 16, 2) to (B, 16, 3), the root predicted like the others. Inside there are 17 joints: a
    nose halfway from thorax to head comes in and is dropped on the way out. Three graph
    convolutions over the joints; the greatest of each limb's and the torso's joints go on, in two
    over these five parts; the greatest of the parts is the whole. Parts and whole come back to
    the joints, which then look at each other.

    Dropout is that of the pre-training; PoseAug's own stage trains without.

    Args:
        width: of the first two blocks; what follows is two and four times as wide.
    """

    part_of: Tensor

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        tree = _hung_from(Skeleton.of("h36m_17"), "spine")
        self.limbs, limb_tree = _limbs(tree)
        part_of = [next(i for i, x in enumerate(self.limbs) if j in x) for j in range(17)]
        self.register_buffer("part_of", torch.tensor(part_of), persistent=False)
        joints, limbs = (SpatialGraphLifter.groups(t) for t in (tree, limb_tree))
        # The released code gives this layer its momentum, 0.1, in the place of epsilon.
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


def _hung_from(tree: Skeleton, name: str) -> Skeleton:
    """The same bones with another root: closer and farther are counted from the spine."""
    above, joint = -1, (tree.names or ()).index(name)
    parents = list(tree.parents)
    while joint >= 0:
        parents[joint], above, joint = above, joint, parents[joint]
    return Skeleton(tuple(parents), tree.left, tree.right)


def _limbs(tree: Skeleton) -> tuple[list[tuple[int, ...]], Skeleton]:
    """Joints of each limb, the torso's last; and the tree that they make, limbs on the torso."""
    limbs = [tuple(tree.child[bone] for bone in limb) for limb in tree.limbs]
    sides = tree.left, tree.right
    torso = set(range(tree.num_joints)).difference(*limbs)
    left, right = (tuple(i for i, limb in enumerate(limbs) if limb[0] in side) for side in sides)
    return [*limbs, tuple(torso)], Skeleton((*[len(limbs)] * len(limbs), -1), left, right)


@dataclass(frozen=True)
class Published:
    """One estimator: (B, 16, 2) to (B, 16, 3), or (B, frames, 16, 2) to (B, 1, 16, 3)."""

    make: Callable[[], nn.Module]  # at the published size
    small: Callable[[], nn.Module]  # the same shape, narrow: for small budgets
    parameters: int  # of the published architecture, trainable
    lr: float  # Adam's, before PoseAug; 100 epochs for semgcn, 50 for others, 1024 rows
    lr_poseaug: float  # the estimator's while PoseAug trains
    frames: int = 1


def _simple_baseline() -> SimpleBaseline:
    """With the normal start of He et al. that PoseAug gives its linear layers."""
    model = SimpleBaseline(width=1024, dropout=0.25)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    return model


ESTIMATORS: dict[str, Published] = {
    "mlp": Published(_simple_baseline, SimpleBaseline, 4_288_557, 1e-3, 1e-4),
    "semgcn": Published(SemGCN, partial(SemGCN, 64, 3), 267_343, 2e-2, 1e-3),
    "stgcn": Published(STGCN, partial(STGCN, 24), 3_627_847, 1e-3, 1e-4),
    "videopose": Published(
        partial(VideoPose, width=1024, dropout=0.25, answers=15), VideoPose, 8_485_933, 1e-3, 1e-4
    ),
    "videopose27": Published(
        partial(TemporalLifter, width=1024, dropout=0.25), TemporalLifter, 8_546_352, 1e-3, 1e-4, 27
    ),
}
