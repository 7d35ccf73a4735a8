"""New poses from old ones: limbs of other bodies, and bends that take along what hangs on a bone.

Directions are unit bones (B, K, 3) in the body's own axes (`bones.directions`).

Not PoseAug's. Crossing people's limbs to get new poses: Li et al., CVPR 2020 ("Evolutionary
training data"); theirs grows a data set before training, this makes a batch's rows as they go by.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..geometry.bones import index_tensor, unit
from ..geometry.operators import turned
from ..geometry.skeleton import Skeleton
from .draws import uniform

__all__ = ["carry", "exchange"]


def exchange(directions: Tensor, skeleton: Skeleton, generator: torch.Generator) -> Tensor:
    """Each row (B, K, 3) with every limb, and the torso, from a row of its own.

    Knees and elbows stay as people have them: a limb comes whole, from its hip or shoulder on.
    """
    device = directions.device
    order = uniform(generator, len(skeleton.limbs) + 1, len(directions)).argsort(-1)
    rows = order[index_tensor(_pieces(skeleton), device)].T
    return directions[rows, index_tensor(tuple(range(skeleton.num_bones)), device)]


def carry(directions: Tensor, steps: Tensor, skeleton: Skeleton) -> Tensor:
    """Directions plus `steps` (B, K, 3), made unit; what hangs on a bone turns with it.

    Last bones (forearms, shins, the head) have no step of their own: they turn with the one they
    hang on, so that the angle between the two is one that somebody had.
    """
    steps = steps * directions.any(-1, keepdim=True)  # no length, no direction to bend
    # Bones first, for they are picked; a copy, for they are written.
    bent, steps = (
        x.transpose(0, 1).clone(memory_format=torch.contiguous_format) for x in (directions, steps)
    )
    for level in _levels(skeleton):
        bones, below, source = (index_tensor(index, bent.device) for index in level)
        start = bent[bones]
        end = unit(start + steps[bones])
        bent[bones] = end
        bent[below] = turned(bent[below], start[source], end[source])
    return bent.transpose(0, 1)


@lru_cache(maxsize=64)
def _pieces(skeleton: Skeleton) -> tuple[int, ...]:
    """Which piece each bone comes with: its limb, numbered from 1, or the torso, 0.

    A limb's first bone reaches across the torso, and comes with it.
    """
    number = {bone: i for i, limb in enumerate(skeleton.limbs, 1) for bone in limb[1:]}
    return tuple(number.get(bone, 0) for bone in range(skeleton.num_bones))


@lru_cache(maxsize=64)
def _levels(skeleton: Skeleton) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """Bones that others hang on, those as far from the root as each other together, nearest first;
    with them all bones below (N,), and on which of the former each hangs (N,).
    """

    def below(joint: int) -> list[int]:
        return [j for child in skeleton.children[joint] for j in (child, *below(child))]

    levels, joints = [], list(skeleton.children[skeleton.root])
    while joints := [j for j in joints if skeleton.children[j]]:
        hanging = [(skeleton.bone_of[j], i) for i, joint in enumerate(joints) for j in below(joint)]
        levels.append((tuple(skeleton.bone_of[j] for j in joints), *zip(*hanging)))
        joints = [child for joint in joints for child in skeleton.children[joint]]
    return tuple(levels)
