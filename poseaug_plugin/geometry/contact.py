"""How near the bodies of two people are: the smallest distance between their bones.

Source: C. Ericson, Real-Time Collision Detection (2004), section 5.1.9, closest points of two
segments.
"""

from __future__ import annotations

from torch import Tensor

from .bones import EPS, gather, pose_to_bones
from .skeleton import Skeleton

__all__ = ["bone_distance"]


def bone_distance(a: Tensor, b: Tensor, skeleton: Skeleton) -> Tensor:
    """Return the smallest distance between a bone of one body and a bone of another.

    Args:
        a, b: (..., J, 3), positions of the joints of two bodies in the same frame, metres.
        skeleton: the skeleton of both.

    Returns:
        (...), metres.

    >>> import torch
    >>> from poseaug_plugin import Skeleton
    >>> rod = torch.tensor([[0.0, 0, 0], [1, 0, 0]])
    >>> across = torch.tensor([[0.5, -1.0, 0.2], [0.5, 1, 0.2]])
    >>> round(float(bone_distance(rod, across, Skeleton((-1, 0)))), 6)
    0.2
    """
    centre = a.mean(-2, keepdim=True)  # small numbers, since squares of metres are subtracted
    (p, d), (q, e) = (
        (gather(x, skeleton.parent) - centre, pose_to_bones(x, skeleton)) for x in (a, b)
    )
    # For points p + s d and q + t e of the bones, all products as (..., K, K):
    dd, ee, de = _dot(d, d)[..., None], _dot(e, e)[..., None, :], d @ e.mT
    dr = _dot(d, p)[..., None] - d @ q.mT
    er = p @ e.mT - _dot(e, q)[..., None, :]
    rr = _dot(p, p)[..., None] + _dot(q, q)[..., None, :] - 2 * (p @ q.mT)
    parallel = (dd * ee - de * de).clamp_min(EPS**2)
    s = ((de * er - dr * ee) / parallel).clamp(0, 1)
    t = ((de * s + er) / ee.clamp_min(EPS**2)).clamp(0, 1)
    s = ((de * t - dr) / dd.clamp_min(EPS**2)).clamp(0, 1)
    square = rr + s * s * dd + t * t * ee + 2 * (s * dr - t * er - s * t * de)
    return square.flatten(-2).amin(-1).clamp_min(0).sqrt()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)
