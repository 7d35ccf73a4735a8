"""How unusual a pose is among those seen so far, so that rare ones are augmented more often.

Motion capture is mostly walking and standing; what waits elsewhere is not. A running Gaussian of
bone directions in the body's own frame tells the common from the rare: view, place and body size
do not count.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .bones import pose_to_bones, unit
from .skeleton import Skeleton

__all__ = ["Rarity", "body_directions"]

MEMORY = 0.02  # share of the running moments that each batch renews
RIDGE = 1e-3  # added variance: directions that never move must not count as rare when they do


def body_directions(pose_3d: Tensor, skeleton: Skeleton) -> Tensor:
    """Unit bones (B, K, 3) of poses (B, J, 3), in axes that turn with the body.

    Across is from the root's second bone to its first (hip to hip), up along its last (the spine).
    A root with a single bone has no such frame: directions stay the camera's.
    """
    bones = unit(pose_to_bones(pose_3d, skeleton))
    first, *others = (skeleton.bone_of[j] for j in skeleton.children[skeleton.root])
    if not others:
        return bones
    across = unit(bones[:, first] - bones[:, others[0]])
    up = bones[:, others[-1]] if len(others) > 1 else bones[:, first] + bones[:, others[0]]
    ahead = unit(torch.linalg.cross(across, up, dim=-1))
    axes = torch.stack([across, torch.linalg.cross(ahead, across, dim=-1), ahead], -1)
    return bones @ axes


class Rarity:
    """Running moments of body directions, on the device of the poses."""

    def __init__(self, skeleton: Skeleton) -> None:
        self.skeleton = skeleton
        self.batches = 0
        self.mean = self.cov = torch.zeros(())

    def __call__(self, pose_3d: Tensor, valid: Tensor) -> Tensor:
        """Take in a batch, and tell how far each of its poses is from the mean (B,).

        The distance is Mahalanobis' per dimension: about 1 on average.

        Args:
            pose_3d: (B, J, 3) root-relative, metres.
            valid: (B,) bool, rows that count; the others' distance is 0.
        """
        x = body_directions(pose_3d, self.skeleton).flatten(1)
        weight = valid.to(x) / valid.sum().clamp_min(1)
        mean = weight @ x
        spread = x - mean
        cov = (weight[:, None] * spread).T @ spread
        renewed = max(MEMORY, 1 / (self.batches + 1))
        self.mean, self.cov = (
            torch.lerp(self.mean.to(x), mean, renewed),
            torch.lerp(self.cov.to(x), cov, renewed),
        )
        self.batches += 1
        ridge = RIDGE * torch.eye(len(self.cov), device=x.device)
        # The plain form would wait for the device to hear of errors; the ridge leaves none.
        lower = torch.linalg.cholesky_ex(self.cov + ridge).L
        white = torch.linalg.solve_triangular(lower, (x - self.mean).T, upper=False)
        return white.square().mean(0).sqrt() * valid

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches, "mean": self.mean.clone(), "cov": self.cov.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches, self.mean, self.cov = state["batches"], state["mean"], state["cov"]
