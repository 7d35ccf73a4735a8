"""How people move in the caller's data: which poses are rare, what new ones could be like, and
which way is up.

A running Gaussian of bone directions in the body's own frame, learned from the batches that go by;
view, place and body size do not count. Motion capture is mostly walking and standing, what waits
elsewhere is not: rare poses are worth making more of. And a bend in any direction is mostly one
that no body makes: new poses have the limbs of old ones, and bend the way bones do in them.

The mean direction of their trunks is the vertical, which no batch tells: the studio's cameras look
down, and who is turned about a tilted camera's axis leans in every view.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..config import PoseAugConfig
from ..geometry.bones import EPS, unit, upright_bones
from ..geometry.operators import turned
from ..geometry.skeleton import Skeleton
from .draws import normal, uniform
from .recombine import carry, exchange

__all__ = ["Repertoire"]

MEMORY = 0.02  # share of the running moments that each batch renews
MOMENTS = ("mean", "cov", "up")  # what it keeps
RIDGE = 1e-3  # added variance: directions that never move must not count as rare when they do


class Repertoire:
    """Running moments of bone directions (K * 3 numbers) and of trunks, on the device of the poses.

    Poses come as unit bones (B, K, 3) in the body's own axes (`bones.directions`).
    """

    def __init__(self, skeleton: Skeleton, device: torch.device) -> None:
        size = 3 * skeleton.num_bones
        self.skeleton = skeleton
        self.batches = 0
        self.mean = torch.zeros(size, device=device, dtype=torch.float32)
        self.cov = torch.zeros(size, size, device=device, dtype=torch.float32)
        self.up = torch.zeros(3, device=device, dtype=torch.float32)

    def add(self, directions: Tensor, axes: Tensor, valid: Tensor) -> None:
        """Take in a batch: directions (B, K, 3), their axes (B, 3, 3), which rows count (B,)."""
        x = directions.flatten(1)
        weight = valid.to(x) / valid.sum().clamp_min(1)
        mean = weight @ x
        cov = (weight[:, None] * (x - mean)).T @ (x - mean)
        renewed = valid.any() * max(MEMORY, 1 / (self.batches + 1))
        self.mean = torch.lerp(self.mean, mean, renewed)
        self.cov = torch.lerp(self.cov, cov, renewed)
        self.up = torch.lerp(self.up, weight @ axes[..., 1], renewed)
        self.batches += 1

    def rarity(self, directions: Tensor) -> Tensor:
        """Distance (B,) of poses from the mean pose: Mahalanobis', about 1 on average."""
        spread = directions.flatten(1) - self.mean
        lower = _root(self.cov)
        return torch.linalg.solve_triangular(lower, spread.T, upper=False).square().mean(0).sqrt()

    def level(self) -> Tensor:
        """The smallest rotation (3, 3) of the camera frame that makes trunks stand upright in it.

        None where they hang head down, as no studio's people do, or the skeleton has no trunk on
        its root: what is up there is not known.
        """
        identity = torch.eye(3).to(self.up)
        if not upright_bones(self.skeleton):
            return identity
        upright = -identity[1]  # the camera's y points down
        up = unit(self.up + EPS * upright)
        found = turned(identity, up, upright).T
        return torch.where(up @ upright > -0.9, found, identity)

    def vary(self, directions: Tensor, config: PoseAugConfig, generator: torch.Generator) -> Tensor:
        """A new pose of each of a batch's.

        Limbs of the others (`config.crossover`), then bends along the ways each bone moves, up to
        `config.flex` standard deviations, no step going further than a share drawn for the row.
        """
        if config.crossover:
            directions = exchange(directions, self.skeleton, generator)
        if config.flex and self.batches:
            steps = config.flex * self._steps(len(directions), generator)
            directions = carry(directions, steps, self.skeleton)
        return directions

    def _steps(self, rows: int, generator: torch.Generator) -> Tensor:
        """Steps (B, K, 3) in the body's axes, as each bone moves, times a share of the row's."""
        bones = range(self.skeleton.num_bones)
        own = self.cov.view(len(bones), 3, len(bones), 3)[bones, :, bones]  # (K, 3, 3)
        step = normal(generator, rows, len(bones), 3, 1)
        share = uniform(generator, rows, 1, 1)
        return share * (_root(own) @ step)[..., 0]

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches} | {name: getattr(self, name).clone() for name in MOMENTS}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self.batches = state["batches"]
        for name in MOMENTS:
            setattr(self, name, state[name].to(device))


def _root(cov: Tensor) -> Tensor:
    """Lower triangular root of covariances (..., N, N), made definite."""
    ridge = RIDGE * torch.eye(cov.shape[-1]).to(cov)
    # The plain form would wait for the device to hear of errors; the ridge leaves none.
    return torch.linalg.cholesky_ex(cov + ridge).L
