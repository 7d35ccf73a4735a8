"""New poses from old ones: limbs of other bodies, and bends that take along what hangs on a bone.

Directions are unit bones (B, K, 3) in the body's own axes (`bones.body_axes`).

Not PoseAug's. Crossing people's limbs to get new poses: Li et al., CVPR 2020 ("Evolutionary
training data"); theirs grows a data set before training, this makes a batch's rows as they go by.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from .bones import unit
from .skeleton import Skeleton

__all__ = ["carry", "exchange"]


def exchange(directions: Tensor, skeleton: Skeleton, generator: torch.Generator) -> Tensor:
    """Each row (B, K, 3) with every limb, and the torso, from a row of its own.

    Knees and elbows stay as people have them: a limb comes whole, from its hip or shoulder on.
    """
    rows, device = len(directions), directions.device
    pieces = _pieces(skeleton, device)  # (K,)
    order = torch.rand(
        len(skeleton.limbs) + 1, rows, generator=generator, device=generator.device
    ).argsort(-1)
    return directions[order[pieces].T, torch.arange(skeleton.num_bones, device=device)]


def carry(directions: Tensor, steps: Tensor, skeleton: Skeleton) -> Tensor:
    """Directions plus `steps` (B, K, 3), made unit; what hangs on a bone turns with it.

    Last bones (forearms, shins, the head) have no step of their own: they turn with the one they
    hang on, so that the angle between the two is one that somebody had.
    """
    bent = torch.empty_like(directions)
    eye = torch.eye(3).to(directions)
    turns = eye.repeat(len(directions), skeleton.num_joints, 1, 1)  # what is below a joint turns so
    for bones, parents, children, moves in _levels(skeleton, directions.device):
        above = turns[:, parents]
        carried = (above @ directions[:, bones, :, None])[..., 0]
        bent[:, bones] = unit(carried + moves * steps[:, bones])
        turns[:, children] = _between(carried, bent[:, bones]) @ above
    return bent


def _between(start: Tensor, end: Tensor) -> Tensor:
    """The smallest rotations (..., 3, 3) that take unit vectors (..., 3) to others."""
    x, y, z = torch.linalg.cross(start, end, dim=-1).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    cosine = (start * end).sum(-1)[..., None, None]
    # Opposite ones have no smallest rotation: the bound keeps theirs finite.
    return torch.eye(3).to(start) + cross + cross @ cross / (1 + cosine).clamp_min(1e-6)


@lru_cache(maxsize=64)
def _pieces(skeleton: Skeleton, device: torch.device) -> Tensor:
    """(K,) which piece each bone comes with: its limb, numbered from 1, or the torso, 0."""
    pieces = torch.zeros(skeleton.num_bones, dtype=torch.long)
    for number, limb in enumerate(skeleton.limbs, 1):
        pieces[list(limb[1:])] = number  # the first bone reaches across the torso to the limb
    return pieces.to(device)


@lru_cache(maxsize=64)
def _levels(
    skeleton: Skeleton, device: torch.device
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], ...]:
    """Bones as far from the root as each other, nearest first: the bones, the joints they start
    and end at, and whether they have steps of their own (k, 1).
    """
    levels, parents = [], [skeleton.root]
    while children := [child for joint in parents for child in skeleton.children[joint]]:
        bones = torch.tensor([skeleton.bone_of[j] for j in children])
        starts = torch.tensor([skeleton.parents[j] for j in children])
        moves = torch.tensor([[float(bool(skeleton.children[j]))] for j in children])
        levels.append(tuple(t.to(device) for t in (bones, starts, torch.tensor(children), moves)))
        parents = children
    return tuple(levels)  # type: ignore[arg-type]
