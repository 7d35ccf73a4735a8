"""Statistics of the caller's poses: how rare a pose is, how bones vary, and which way is up.

Unit bones in the body frame are modelled as a Gaussian, whose moments are running averages over
the batches. The view, the position and the body size have no influence on them.

The statistics have three uses. Rare poses can be augmented more often, because motion capture is
mostly walking and standing. New poses can combine the limbs of several rows and bend their bones
as bones vary in the data, because most bends in a random direction give no plausible pose. The
mean direction of the trunks estimates the vertical, which no batch contains. Studio cameras look
down, so that a rotation about the camera's y axis would tilt the person.
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

MOMENTUM = 0.02  # weight of a new batch in the running moments, as in BatchNorm
MOMENTS = ("mean", "cov", "up")  # saved in the state
RIDGE = 1e-3  # added variance, without which a bone that hardly moves would make any pose rare


class PoseStatistics:
    """Running moments of unit bones in the body frame, and of the directions of trunks.

    Args:
        skeleton: the skeleton of the poses.
        device: device of the poses.
    """

    def __init__(self, skeleton: Skeleton, device: torch.device) -> None:
        size = 3 * skeleton.num_bones
        self.skeleton = skeleton
        self.batches = 0
        self.mean = torch.zeros(size, device=device, dtype=torch.float32)
        self.cov = torch.zeros(size, size, device=device, dtype=torch.float32)
        self.up = torch.zeros(3, device=device, dtype=torch.float32)

    def add(self, directions: Tensor, axes: Tensor, valid: Tensor) -> None:
        """Update the moments with a batch.

        Args:
            directions: (B, K, 3), unit bones in the body frame.
            axes: (B, 3, 3), the axes of the body frames.
            valid: (B,) bool, the rows to use.
        """
        x, count = directions.flatten(1), valid.sum()
        weight = valid.to(x) / count.clamp_min(1)
        mean = weight @ x
        centred = x - mean
        cov = (weight[:, None] * centred).T @ centred
        # A plain average over the first batches; 0 if no row is valid.
        momentum = count.clamp_max(1) * max(MOMENTUM, 1 / (self.batches + 1))
        self.mean = torch.lerp(self.mean, mean, momentum)
        self.cov = torch.lerp(self.cov, cov, momentum)
        self.up = torch.lerp(self.up, weight @ axes[..., 1], momentum)
        self.batches += 1

    def rarity(self, directions: Tensor) -> Tensor:
        """Return the Mahalanobis distance of poses from the mean pose, about 1 on average.

        The average is over the dimensions, so that it does not depend on the number of bones.

        Args:
            directions: (B, K, 3), unit bones in the body frame.

        Returns:
            (B,).
        """
        centred = directions.flatten(1) - self.mean
        eye = identity(len(self.cov), self.cov.dtype, self.cov.device)
        whitening = torch.linalg.solve_triangular(_cholesky(self.cov), eye, upper=False)
        return (centred @ whitening.T).square().mean(1).sqrt()

    def vertical_alignment(self) -> Tensor:
        """Return the smallest rotation (3, 3) that makes the mean trunk vertical.

        It rotates the camera frame to one whose y axis points down. The result is the identity if
        the vertical is unknown: before the first batch, on a skeleton without a trunk, or if the
        mean trunk points down.
        """
        eye = identity(3, self.up.dtype, self.up.device)
        if not upright_bones(self.skeleton):
            return eye
        vertical = -eye[1]  # y points down
        up = unit(torch.add(self.up, vertical, alpha=EPS))  # `vertical` if there is no mean yet
        total, cosine = up + vertical, -up[1]
        # R = I + 2 v u^T - (u + v) (u + v)^T / (1 + u . v) rotates u to v.
        R = torch.add(eye, vertical[:, None] * up, alpha=2)
        R = R - total[:, None] * total / (1 + cosine)
        return torch.where(cosine > -0.9, R, eye)

    def new_poses(
        self, directions: Tensor, config: PoseAugConfig, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Return a new pose for each row.

        With `config.limb_crossover`, the limbs and the torso are those of different rows. Then
        bones are bent along the directions in which they vary in the data, by steps that are
        normal with `config.bend_sigma` standard deviations, times a uniform factor for the row.

        Args:
            directions: (B, K, 3), unit bones in the body frame.
            config: `limb_crossover` and `bend_sigma` are used.
            generator: on the device of the poses.

        Returns:
            Unit bones (B, K, 3) in the body frame, and the row from whose pose each of them was
            taken (B, K), or None if each row keeps its limbs.
        """
        poses, sources = directions.permute(1, 2, 0), None
        if config.limb_crossover:
            poses, sources = exchange_limbs(poses, self.skeleton, generator)
        if config.bend_sigma and self.batches:
            steps = config.bend_sigma * self._draw_steps(len(directions), generator)
            poses = bend_chain(poses, steps, self.skeleton)
        return poses.permute(2, 0, 1), None if sources is None else sources.T

    def _draw_steps(self, rows: int, generator: torch.Generator) -> Tensor:
        """Return steps (K, 3, B), normal with the covariance of each bone, scaled per row."""
        bones = self.skeleton.num_bones
        cov = self.cov.view(bones, 3, bones, 3).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
        return _cholesky(cov) @ normal(generator, bones, 3, rows) * uniform(generator, rows)

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches} | {name: getattr(self, name).clone() for name in MOMENTS}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self.batches = state["batches"]
        for name in MOMENTS:
            setattr(self, name, state[name].to(device))


def _cholesky(cov: Tensor) -> Tensor:
    """Return the Cholesky factor of covariances (..., N, N) plus the ridge."""
    eye = identity(cov.shape[-1], cov.dtype, cov.device)
    # `cholesky` would wait for the device to report errors; the ridge rules them out.
    return torch.linalg.cholesky_ex(torch.add(cov, eye, alpha=RIDGE)).L
