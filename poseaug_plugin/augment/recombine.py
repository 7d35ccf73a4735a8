"""New poses from old ones: limbs of other bodies, and bends that take along what hangs on a bone.

Directions are unit bones (K, 3, B) in the body's own axes, rows last: bones are picked whole, and
sums over three numbers are fast.

Not PoseAug's. Crossing people's limbs to get new poses: Li et al., CVPR 2020 ("Evolutionary
training data"); theirs grows a data set before training, this makes a batch's rows as they go by.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..geometry.bones import EPS
from ..geometry.constants import index_tensor
from ..geometry.skeleton import Skeleton
from .draws import uniform

__all__ = ["bend_chain", "exchange_limbs"]


def exchange_limbs(directions: Tensor, skeleton: Skeleton, generator: torch.Generator) -> Tensor:
    """Each row (K, 3, B) with every limb, and the torso, from a row of its own.

    Knees and elbows stay as people have them: a limb comes whole, from its hip or shoulder on.
    """
    order = uniform(generator, len(skeleton.limbs) + 1, directions.shape[-1]).argsort(-1)
    rows = order.index_select(0, index_tensor(_pieces(skeleton), directions.device))
    return directions.gather(-1, rows[:, None].expand_as(directions))


def bend_chain(directions: Tensor, steps: Tensor, skeleton: Skeleton) -> Tensor:
    """Directions plus `steps` (K, 3, B), made unit; what hangs on a bone turns with it.

    Each step is seen from the bone above, as it was before that one bent. Last bones (forearms,
    shins, the head) have no step of their own: they turn with the one they hang on, so that the
    angle between the two is one that somebody had.
    """
    inner, above = _chains(skeleton)
    moves = directions.any(1, keepdim=True) & _switches(inner, directions.device)
    bent = _unit(directions + steps * moves)  # no length, no direction to bend
    half = _unit(directions + bent)
    # The smallest rotation from a direction to where it is bent is v + 2 (a.v) c + 2 (h.v) d with
    # (a, h) and (c, d) below. A last bone, which is not bent, turns nothing.
    turns = torch.stack([directions, half, bent, -half], 1)
    turns = turns.index_select(0, index_tensor(above, directions.device))
    for turn in turns.split(skeleton.num_bones):  # by the nearest bone above, then the next
        share = (turn[:, :2] * bent[:, None]).sum(2, keepdim=True)
        bent = torch.add(bent, (share * turn[:, 2:]).sum(1), alpha=2)
    return bent


def _unit(bones: Tensor) -> Tensor:
    # Not normalize, whose kernel is fifty times slower along this dimension on a CPU.
    return bones * (bones * bones).sum(1, keepdim=True).clamp_min(EPS**2).rsqrt()


@lru_cache(maxsize=64)
def _pieces(skeleton: Skeleton) -> tuple[int, ...]:
    """Which piece each bone comes with: its limb, numbered from 1, or the torso, 0.

    A limb's first bone reaches across the torso, and comes with it.
    """
    number = {bone: i for i, limb in enumerate(skeleton.limbs, 1) for bone in limb[1:]}
    return tuple(number.get(bone, 0) for bone in range(skeleton.num_bones))


@lru_cache(maxsize=64)
def _chains(skeleton: Skeleton) -> tuple[tuple[bool, ...], tuple[int, ...]]:
    """Which bones others hang on (K,), and, one after the other, each bone's first, second, ...
    bone above it; a last bone where there is none.
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
    return inner, tuple(bone for level in zip(*padded) for bone in level)


@lru_cache(maxsize=64)
def _switches(values: tuple[bool, ...], device: torch.device) -> Tensor:
    """(K, 1, 1) on the device."""
    return torch.tensor(values, device=device)[:, None, None]
