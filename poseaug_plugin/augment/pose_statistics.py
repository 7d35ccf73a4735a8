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
from ..geometry.constants import identity
from ..geometry.skeleton import Skeleton
from .draws import normal, uniform
from .recombine import bend_chain, exchange_limbs

__all__ = ["PoseStatistics"]

MEMORY = 0.02  # share of the running moments that each batch renews
MOMENTS = ("mean", "cov", "up")  # what it keeps
RIDGE = 1e-3  # added variance: directions that never move must not count as rare when they do


class PoseStatistics:
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
        x, count = directions.flatten(1), valid.sum()
        weight = valid.to(x) / count.clamp_min(1)
        mean = weight @ x
        spread = x - mean
        cov = (weight[:, None] * spread).T @ spread
        renewed = count.clamp_max(1) * max(MEMORY, 1 / (self.batches + 1))
        self.mean = torch.lerp(self.mean, mean, renewed)
        self.cov = torch.lerp(self.cov, cov, renewed)
        self.up = torch.lerp(self.up, weight @ axes[..., 1], renewed)
        self.batches += 1

    def rarity(self, directions: Tensor) -> Tensor:
        """Distance (B,) of poses from the mean pose: Mahalanobis', about 1 on average."""
        spread = directions.flatten(1) - self.mean
        eye = identity(len(self.cov), self.cov.dtype, self.cov.device)
        whitening = torch.linalg.solve_triangular(_root(self.cov), eye, upper=False)
        return (spread @ whitening.T).square().mean(1).sqrt()

    def vertical_alignment(self) -> Tensor:
        """The smallest rotation (3, 3) of the camera frame that makes trunks stand upright in it.

        None where they hang head down, as no studio's people do, or the skeleton has no trunk on
        its root: what is up there is not known.
        """
        eye = identity(3, self.up.dtype, self.up.device)
        if not upright_bones(self.skeleton):
            return eye
        upright = -eye[1]  # the camera's y points down
        up = unit(torch.add(self.up, upright, alpha=EPS))
        both, cosine = up + upright, -up[1]
        found = torch.add(eye, upright[:, None] * up, alpha=2)
        found = found - both[:, None] * both / (1 + cosine)
        return torch.where(cosine > -0.9, found, eye)

    def new_poses(
        self, directions: Tensor, config: PoseAugConfig, generator: torch.Generator
    ) -> Tensor:
        """A new pose of each of a batch's.

        Limbs of the others (`config.crossover`), then bends along the ways each bone moves, up to
        `config.flex` standard deviations, no step going further than a share drawn for the row.
        """
        varied = directions.permute(1, 2, 0)
        if config.limb_crossover:
            varied = exchange_limbs(varied, self.skeleton, generator)
        if config.bend_sigma and self.batches:
            steps = config.bend_sigma * self._steps(len(directions), generator)
            varied = bend_chain(varied, steps, self.skeleton)
        return varied.permute(2, 0, 1)

    def _steps(self, rows: int, generator: torch.Generator) -> Tensor:
        """Steps (K, 3, B) in the body's axes, as each bone moves, times a share of the row's."""
        bones = self.skeleton.num_bones
        own = self.cov.view(bones, 3, bones, 3).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
        return _root(own) @ normal(generator, bones, 3, rows) * uniform(generator, rows)

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches} | {name: getattr(self, name).clone() for name in MOMENTS}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self.batches = state["batches"]
        for name in MOMENTS:
            setattr(self, name, state[name].to(device))


def _root(cov: Tensor) -> Tensor:
    """Lower triangular root of covariances (..., N, N), made definite."""
    ridge = identity(cov.shape[-1], cov.dtype, cov.device)
    # The plain form would wait for the device to hear of errors; the ridge leaves none.
    return torch.linalg.cholesky_ex(torch.add(cov, ridge, alpha=RIDGE)).L
