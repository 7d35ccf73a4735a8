"""New poses from the poses of a batch: limbs of other rows, and bends along kinematic chains.

Poses are unit bones in the body frame, of shape (K, 3, B). With the rows last, bones are selected
in whole blocks of memory, and sums over the three coordinates are fast.

PoseAug has none of this. Exchanging limbs is from Li et al., "Cascaded Deep Monocular 3D Human Pose
Estimation with Evolutionary Training Data" (CVPR 2020), who extend a data set before training; here
it is done in each batch.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..geometry.bones import EPS
from ..geometry.constants import constant, identity, index_tensor
from ..geometry.skeleton import Skeleton
from .draws import uniform

__all__ = ["bend_chain", "exchange_limbs"]


def exchange_limbs(
    directions: Tensor, skeleton: Skeleton, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Permute each limb, and the torso, between the rows of a batch.

    A limb is exchanged as a whole, from its second bone on, so that the angles at knees and elbows
    are those of a real pose.

    Args:
        directions: (K, 3, B), unit bones in the body frame.
        skeleton: the skeleton of the poses.
        generator: on the device of the poses.

    Returns:
        Unit bones (K, 3, B), and the row from which each of them was taken (K, B).
    """
    parts = len(skeleton.limbs) + 1
    order = uniform(generator, parts, directions.shape[-1]).argsort(-1)  # a permutation per part
    rows = order.index_select(0, index_tensor(_part_of_bone(skeleton), directions.device))
    return directions.gather(-1, rows[:, None].expand_as(directions)), rows


def bend_chain(directions: Tensor, steps: Tensor, skeleton: Skeleton) -> Tensor:
    """Add steps to unit bones and normalise; the bones below a bent bone rotate with it.

    A step is relative to the parent bone before that one is bent. Leaf bones (forearms, shins, the
    head) ignore their steps and only rotate with their parents, so that the angles at elbows and
    knees are those of a real pose. Bones of zero length do not bend.

    Args:
        directions: (K, 3, B), unit bones in the body frame.
        steps: (K, 3, B).
        skeleton: the skeleton of the poses.

    Returns:
        (K, 3, B), unit bones.
    """
    inner, ancestors = _chains(skeleton)
    # 1 or 0: bones of zero length, whose direction is zero, and leaf bones do not bend.
    bendable = (directions * directions).sum(1, keepdim=True) * _column(
        inner, directions.dtype, directions.device
    )
    bent = _unit(torch.addcmul(directions, steps, bendable))
    total = directions + bent
    scaled = total / (total * total).sum(1, keepdim=True).clamp_min(EPS**2)
    # I + 2 b a^T - 2 (a + b) (a + b)^T / |a + b|^2 rotates from a to b, as `rotate_between`.
    R = identity(3, directions.dtype, directions.device)[..., None]
    R = torch.addcmul(R, bent[:, :, None], directions[:, None], value=2)
    R = torch.addcmul(R, total[:, :, None], scaled[:, None], value=-2)
    R = R.index_select(0, index_tensor(ancestors, directions.device))
    # Of the parent bones, then of their parents, and so on.
    for rotation in R.split_with_sizes([skeleton.num_bones] * (len(R) // skeleton.num_bones)):
        bent = (rotation * bent[:, None]).sum(2)
    return bent


def _unit(bones: Tensor) -> Tensor:
    # Not F.normalize, whose kernel is fifty times slower along this dimension on a CPU.
    return bones * (bones * bones).sum(1, keepdim=True).clamp_min(EPS**2).rsqrt()


@lru_cache(maxsize=64)
def _part_of_bone(skeleton: Skeleton) -> tuple[int, ...]:
    """Return the part of each bone: 0 for the torso, otherwise 1 + the number of its limb.

    The first bone of a limb (to the hip or the shoulder) belongs to the torso.
    """
    number = {bone: i for i, limb in enumerate(skeleton.limbs, 1) for bone in limb[1:]}
    return tuple(number.get(bone, 0) for bone in range(skeleton.num_bones))


@lru_cache(maxsize=64)
def _chains(skeleton: Skeleton) -> tuple[tuple[bool, ...], tuple[int, ...]]:
    """Return which bones have children, and the ancestors of all bones.

    The ancestors are the parent bones of all K bones, then their grandparents, and so on. Where
    there is none, a leaf bone stands in: it is not bent, so its rotation is the identity.
    """
    inner = tuple(bool(skeleton.children[joint]) for joint in skeleton.child)
    chains = []
    for joint in skeleton.child:
        chain, joint = [], skeleton.parents[joint]
        while joint != skeleton.root:
            chain.append(skeleton.bone_of[joint])
            joint = skeleton.parents[joint]
        chains.append(chain)
    longest = max(map(len, chains))
    padded = [chain + [inner.index(False)] * (longest - len(chain)) for chain in chains]
    return inner, tuple(bone for generation in zip(*padded) for bone in generation)


@lru_cache(maxsize=64)
def _column(values: tuple[bool, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return booleans as numbers (K, 1, 1) on the device."""
    return constant(values, dtype, device)[:, None, None]
