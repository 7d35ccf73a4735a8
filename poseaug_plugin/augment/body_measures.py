"""What is measured of bodies in 2D, and the offsets of joints that change it.

Data sets place joints differently in the body: hips wider or lower, the spine further back, the
head higher. Two kinds of measures tell:

- **Lengths** (K,): of each bone; for two joints on both sides of a middle joint, such as the hips,
  half the distance between them, which does not depend on how low they lie.
- **Places** (P,): how far up or back joints lie from a reference joint. Up is the direction from
  the root to the top of the trunk. Back is at a right angle to it, on the side to which knees do
  not bend: little else in 2D tells where a person's back is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from ..geometry.bones import EPS, lengths, upright_bones
from ..geometry.constants import constant, index_tensor
from ..geometry.skeleton import Skeleton

__all__ = ["BodyMeasures", "Place"]


@dataclass(frozen=True)
class Place:
    """One measured place.

    Attributes:
        joints: the joints that move together; their mean is measured.
        reference: the joint from which it is measured.
        back: whether along the back direction; False: up.
    """

    joints: tuple[int, ...]
    reference: int
    back: bool


@dataclass(frozen=True)
class BodyMeasures:
    """The measures of a skeleton.

    Args:
        skeleton: the skeleton of the poses. Without hips, knees, ankles and a trunk it has no
            places.

    >>> [len(BodyMeasures.of(Skeleton.of(name)).places) for name in ("h36m_16", "hand_21")]
    [6, 0]
    """

    skeleton: Skeleton

    @classmethod
    @lru_cache(maxsize=64)
    def of(cls, skeleton: Skeleton) -> BodyMeasures:
        """Return the measures of a skeleton, which are worked out once."""
        return cls(skeleton)

    @cached_property
    def legs(self) -> tuple[tuple[int, int, int], ...]:
        """Hip, knee and ankle of both sides; empty if the skeleton has none."""
        found = []
        for hip in (joint for left, right, _ in self.pairs for joint in (left, right)):
            knees = self.skeleton.children[hip]
            ankles = self.skeleton.children[knees[0]] if knees else ()
            if self.skeleton.parents[hip] == self.skeleton.root and ankles:
                found.append((hip, knees[0], ankles[0]))
        return tuple(found) if upright_bones(self.skeleton) else ()

    @cached_property
    def pairs(self) -> tuple[tuple[int, int, int], ...]:
        """Left joint, right joint and the middle joint that is the parent of both."""
        parents = self.skeleton.parents
        both = zip(self.skeleton.left, self.skeleton.right)
        return tuple((a, b, parents[a]) for a, b in both if parents[a] == parents[b])

    @cached_property
    def trunk(self) -> tuple[int, ...]:
        """The joints from the root to the one between the shoulders, both included."""
        parents, root = self.skeleton.parents, self.skeleton.root
        chains = []
        for joint in {middle for _, _, middle in self.pairs if middle != root}:
            chain = [joint]
            while chain[-1] != root:
                chain.append(parents[chain[-1]])
            chains.append(tuple(reversed(chain)))
        return min(chains, key=len, default=())  # eyes on both sides of the nose are further away

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """The measured places."""
        return tuple(self._places()) if self.legs and self.trunk else ()

    def _places(self) -> Iterator[Place]:
        skeleton, (root, *_, top) = self.skeleton, self.trunk
        for left, right, middle in self.pairs:
            if middle in (root, top):
                yield Place((left, right), middle, back=False)
                yield Place((left, right), middle, back=True)
        for joint in skeleton.child:
            if joint not in (top, *skeleton.left, *skeleton.right):
                yield Place((joint,), root if joint in self.trunk else top, back=True)

    @cached_property
    def height(self) -> tuple[float, ...]:
        """(K,) weights; the weighted sum of bone lengths is the height from ankles to head.

        Empty if the skeleton has no places.
        """
        if not self.places:
            return ()
        skeleton = self.skeleton
        sided = {*skeleton.left, *skeleton.right}
        weight = dict.fromkeys(range(skeleton.num_bones), 0.0)
        for _, knee, ankle in self.legs:
            weight[skeleton.bone_of[knee]] = weight[skeleton.bone_of[ankle]] = 1 / len(self.legs)
        chain = list(self.trunk[1:])
        while above := [j for j in skeleton.children[chain[-1]] if j not in sided]:
            chain.append(above[0])
        for joint in chain:
            weight[skeleton.bone_of[joint]] = 1.0
        return tuple(weight.values())

    # Measuring

    def measure(self, pose_2d: Tensor) -> tuple[Tensor, Tensor]:
        """Return lengths (..., K) and places (..., P) of 2D poses (..., J, 2), in their unit."""
        starts, ends, scales = self._spans
        start, end = (index_tensor(joints, pose_2d.device) for joints in (starts, ends))
        length = lengths(pose_2d.index_select(-2, end) - pose_2d.index_select(-2, start))
        length = length * constant(scales, length.dtype, length.device)
        if not self.places:
            return length, length[..., :0]
        matrices = _matrices(self, pose_2d.device)
        *steps, trunk, bend = (matrices.steps @ pose_2d).unbind(-2)
        up = trunk / lengths(trunk).clamp_min(EPS)[..., None]
        across = torch.stack([-up[..., 1], up[..., 0]], -1)
        forward = (bend * across).sum(-1, keepdim=True).sign() * across
        axes = torch.stack([up, -forward], -2).index_select(-2, matrices.axis)
        return length, (torch.stack(steps, -2) * axes).sum(-1)

    def visible(self, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Return which lengths (N, K) and places (N, P) the visible joints (N, J) tell."""
        starts, ends, _ = self._spans
        length = visible[:, list(starts)] & visible[:, list(ends)]
        needed = (self._needed(place) for place in self.places)
        place = [visible[:, joints].all(1) for joints in needed]
        return length, torch.stack(place, 1) if place else length[:, :0]

    def offset(self, shift: Tensor) -> Tensor:
        """Return the offset (J, 3) of each joint in the body frame that changes places by `shift`.

        Args:
            shift: (P,), in any unit.
        """
        if not self.places:
            return shift.new_zeros(self.skeleton.num_joints, 3)
        return torch.mv(_matrices(self, shift.device).moves.T, shift).view(-1, 3)

    @cached_property
    def _spans(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]]:
        """Start and end of each length, and its factor."""
        skeleton = self.skeleton
        other = {a: b for left, right, _ in self.pairs for a, b in ((left, right), (right, left))}
        starts = tuple(other.get(c, p) for c, p in zip(skeleton.child, skeleton.parent))
        return starts, skeleton.child, tuple(0.5 if c in other else 1.0 for c in skeleton.child)

    def _needed(self, place: Place) -> list[int]:
        legs = [joint for leg in self.legs for joint in leg] if place.back else []
        return [*place.joints, place.reference, self.trunk[0], self.trunk[-1], *legs]


@dataclass(frozen=True)
class _Matrices:
    """Tensors of a `BodyMeasures` on one device.

    Attributes:
        steps: (P + 2, J), from the reference to the joints of each place, from the root to the
            top of the trunk, and from the middle of hips and ankles to the knees.
        axis: (P,), 0 for up and 1 for back.
        moves: (P, J * 3), the offset of each joint by a place.
    """

    steps: Tensor
    axis: Tensor
    moves: Tensor


@lru_cache(maxsize=64)
def _matrices(measures: BodyMeasures, device: torch.device) -> _Matrices:
    places, joints = measures.places, measures.skeleton.num_joints
    with torch.inference_mode(False):
        steps = torch.zeros(len(places) + 2, joints, dtype=torch.float32)
        moves = torch.zeros(len(places), joints, 3, dtype=torch.float32)
        for row, place in enumerate(places):
            steps[row, list(place.joints)] = 1 / len(place.joints)
            steps[row, place.reference] -= 1
            moves[row, list(place.joints), 2 if place.back else 1] = 1
        steps[-2, measures.trunk[-1]], steps[-2, measures.trunk[0]] = 1, -1
        for hip, knee, ankle in measures.legs:
            steps[-1, [hip, knee, ankle]] = torch.tensor([-0.5, 1, -0.5], dtype=torch.float32)
        axis = torch.tensor([int(place.back) for place in places])
        return _Matrices(steps.to(device), axis.to(device), moves.flatten(1).to(device))
