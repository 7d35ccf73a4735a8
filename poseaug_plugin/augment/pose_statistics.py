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

import math
from typing import Any

import torch
from torch import Tensor

from ..config import PoseAugConfig
from ..geometry.bones import EPS, upright_bones
from ..geometry.constants import constant, identity
from ..geometry.skeleton import Skeleton
from .draws import normal, uniform
from .recombine import bend_chain, exchange_limbs

__all__ = ["MOMENTUM", "PoseStatistics"]

MOMENTUM = 0.02  # weight of a new batch in the long run, as in BatchNorm
# The length of the mean of unit trunks is 0.98 on Human3.6M and near 0 if they point anywhere.
CONSISTENT = 0.5
YOUNG, INTERVAL = 50, 8  # batches; later ones refresh what follows from the moments less often
RIDGE = 1e-3  # added variance, without which a bone that hardly moves would make any pose rare


class PoseStatistics:
    """Running moments of unit bones in the body frame, and of the directions of trunks.

    Args:
        skeleton: the skeleton of the poses.
        device: device of the poses.

    Attributes:
        mean: (3 K,), mean of the unit bones.
        cov: (3 K, 3 K), their covariance, plus the ridge.
        up: (3,), mean direction of the trunks in the camera frame.
    """

    average: Tensor  # the normalised moments, from which all that is below follows
    mean: Tensor
    cov: Tensor
    up: Tensor

    def __init__(self, skeleton: Skeleton, device: torch.device) -> None:
        size = 3 * skeleton.num_bones + 4
        self.skeleton = skeleton
        self.batches = 0
        #: Decayed sum over rows of x x^T, where x is (unit bones, trunk, 1).
        self.moments = torch.zeros(size, size, device=device, dtype=torch.float32)
        self._refresh(self.moments)

    def add(self, directions: Tensor, axes: Tensor, valid: Tensor) -> None:
        """Update the moments with a batch.

        Args:
            directions: (B, K, 3), unit bones in the body frame.
            axes: (B, 3, 3), the axes of the body frames.
            valid: (B,) bool, the rows to use.
        """
        column = valid[:, None]
        x = torch.cat([directions.flatten(1), axes[..., 1], column], 1) * column
        # All moments in one product. Their decay cancels in the averages.
        self.moments = torch.addmm(self.moments, x.T, x, beta=1 - MOMENTUM)
        self.batches += 1
        if self.batches <= YOUNG or self.batches % INTERVAL == 0:
            self._refresh(self.moments / self.moments[-1, -1].clamp_min(EPS))

    def _refresh(self, average: Tensor) -> None:
        """Work out what follows from the averages of the moments, which are 0 before any row."""
        size, bones = len(average) - 4, self.skeleton.num_bones
        self.average = average
        self.mean, self.up, _ = average[-1].split((size, 3, 1))
        eye = identity(size, average.dtype, average.device)
        covariance = torch.addr(average[:size, :size], self.mean, self.mean, alpha=-1)
        self.cov = torch.add(covariance, eye, alpha=RIDGE)
        whitening = torch.linalg.solve_triangular(_cholesky(self.cov), eye, upper=False)
        self._whitening = whitening.T / math.sqrt(size)
        self._whitened_mean = self.mean @ self._whitening
        blocks = self.cov.view(bones, 3, bones, 3).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
        self._bone_factors = _cholesky(blocks)
        self._alignment = self._align()

    def rarity(self, directions: Tensor) -> Tensor:
        """Return the Mahalanobis distance of poses from the mean pose, about 1 on average.

        The average is over the dimensions, so that it does not depend on the number of bones.

        Args:
            directions: (B, K, 3), unit bones in the body frame.

        Returns:
            (B,).
        """
        white = torch.addmm(self._whitened_mean, directions.flatten(1), self._whitening, beta=-1)
        return torch.linalg.vector_norm(white, dim=1)

    def vertical_alignment(self) -> Tensor:
        """Return the smallest rotation (3, 3) that makes the mean trunk vertical.

        It rotates the camera frame to one whose y axis points down. The result is the identity if
        the vertical is unknown: before the first batch, on a skeleton without a trunk, if trunks
        have no common direction, as on four legs, or if the mean trunk points down.
        """
        return self._alignment

    def _align(self) -> Tensor:
        eye = identity(3, self.up.dtype, self.up.device)
        if not upright_bones(self.skeleton):
            return eye
        vertical = constant((0.0, -1.0, 0.0), eye.dtype, eye.device)  # y points down
        mean = torch.add(self.up, vertical, alpha=EPS)  # `vertical` if there is no mean yet
        consistency = torch.linalg.vector_norm(mean)
        up = mean / consistency
        # R = I + 2 v u^T - (u + v) (u + v)^T / (1 + u . v) rotates u to v.
        total = up + vertical
        R = torch.addr(eye, vertical, up, alpha=2)
        R = torch.addr(R, total, total / total[1])  # whose y is -(1 + u . v)
        known = (consistency > CONSISTENT) & (total[1] < -0.1)
        return torch.where(known, R, eye)

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
            rows, bones = len(directions), self.skeleton.num_bones
            steps = torch.bmm(self._bone_factors, normal(generator, bones, 3, rows))
            steps = steps * uniform(generator, rows, high=config.bend_sigma)
            poses = bend_chain(poses, steps, self.skeleton)
        return poses.permute(2, 0, 1), None if sources is None else sources.T

    def state_dict(self) -> dict[str, Any]:
        tensors = {"moments": self.moments.clone(), "average": self.average.clone()}
        return {"batches": self.batches, **tensors}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self.batches, self.moments = state["batches"], state["moments"].to(device)
        self._refresh(state["average"].to(device))


def _cholesky(cov: Tensor) -> Tensor:
    """Return the Cholesky factor of covariances (..., N, N) that include the ridge."""
    # `cholesky` would wait for the device to report errors; the ridge rules them out.
    return torch.linalg.cholesky_ex(cov).L
