"""Measures of what an augmentor makes: plausibility of joint angles, diversity, evenness."""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry.bones import kcs
from ..geometry.skeleton import Skeleton

__all__ = ["AngleRange", "diversity", "evenness"]


class AngleRange:
    """The range of the angle between each two bones of a body part, over all real poses so far.

    Args:
        skeleton: the skeleton of the poses. Two bones belong together if a part has both.
        device: device of the poses.

    Attributes:
        bounds: (2, K, K), smallest cosines, and largest ones with the sign changed, so that the
            range of several ranks is the minimum of their bounds. Before the first poses the range
            is empty.
    """

    def __init__(self, skeleton: Skeleton, device: torch.device) -> None:
        size = skeleton.num_bones
        pairs = torch.zeros(size, size, dtype=torch.bool)
        for part in skeleton.parts:
            for bone in part:
                pairs[bone, list(part)] = True
        self._pairs = pairs.triu(1).to(device)
        self.bounds = torch.ones(2, size, size, device=device, dtype=torch.float32)

    @property
    def low(self) -> Tensor:
        """The smallest cosine of each two bones, (K, K)."""
        return self.bounds[0]

    @property
    def high(self) -> Tensor:
        """The largest cosine of each two bones, (K, K)."""
        return -self.bounds[1]

    def add(self, direction: Tensor) -> None:
        """Widen the range by real poses, unit bones (B, K, 3)."""
        cosine = kcs(direction).detach()
        smallest = torch.stack([cosine.amin(0), -cosine.amax(0)])
        torch.minimum(self.bounds, smallest.to(self.bounds), out=self.bounds)

    def outside(self, direction: Tensor) -> Tensor:
        """Return the share of the angles of poses (B, K, 3) that are outside, a scalar."""
        cosine = kcs(direction)
        outside = ((cosine < self.low) | (cosine > self.high)) & self._pairs
        return outside.sum() / (len(cosine) * self._pairs.sum())

    def excess(self, direction: Tensor, start: Tensor) -> Tensor:
        """Return how far cosines of poses (B, K, 3) are outside: a scalar, summed over pairs.

        The range of a row includes the angles of the pose that it was made from: what a prior has
        put outside is not to be undone. The result is 0 while the range is empty.

        Args:
            direction: unit bones (B, K, 3).
            start: those of the poses from which they were made.
        """
        cosine, own = kcs(direction), kcs(start)
        below = torch.minimum(self.low, own) - cosine
        above = cosine - torch.maximum(self.high, own)
        excess = below.relu() + above.relu()
        return (excess * self._pairs * (self.low <= self.high)).sum() / len(cosine)

    def state_dict(self) -> dict[str, Tensor]:
        return {"bounds": self.bounds.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.bounds.copy_(state["bounds"])


def diversity(gamma: Tensor) -> Tensor:
    """Return the share of the square of gamma (B, ...) that differs between rows, a scalar.

    It is 0 if all rows have the same gamma, and 1 if their mean is 0.
    """
    total = gamma.square().mean(0).sum()
    return torch.where(total > 0, 1 - gamma.mean(0).square().sum() / total, 1.0)


def evenness(vectors: Tensor) -> Tensor:
    """Return how evenly vectors (B, D) are spread over all directions, a scalar.

    It is the participation ratio of their covariance C, (tr C)^2 / (D tr C^2): 1 if no direction is
    preferred, and 1/D if all of them lie on a line.
    """
    centred = vectors - vectors.mean(0)
    covariance = centred.T @ centred / len(vectors)
    total, square = covariance.trace().square(), covariance.square().sum()
    return torch.where(square > 0, total / (vectors.shape[1] * square), 1.0)
