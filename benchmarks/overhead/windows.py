"""Training on windows of frames: a temporal convolution and a transformer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from poseaug_plugin import PoseAugConfig, PoseAugmenter
from poseaug_plugin.geometry.skeleton import SKELETONS
from poseaug_plugin.lifters import TemporalLifter

from .scaling import random_clips

__all__ = ["WINDOWS", "WindowLoop"]

SKELETON = SKELETONS["h36m_16"]


class SpaceTimeTransformer(nn.Module):
    """Attention over the joints of a frame and over the frames of a joint, as in MotionBERT.

    Maps (B, T, J, 2) to (B, T, J, 3). MotionBERT (Zhu et al., ICCV 2023) has a width of 512, five
    pairs of layers and two branches, and is hundreds of times as expensive.
    """

    def __init__(self, width: int = 32, depth: int = 2, heads: int = 2, frames: int = 243) -> None:
        super().__init__()
        self.embed = nn.Linear(2, width)
        self.place = nn.Parameter(torch.zeros(1, frames, SKELETON.num_joints, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, batch_first=True)
            for _ in range(2 * depth)
        )
        self.head = nn.Linear(width, 3)

    def forward(self, pose_2d: Tensor) -> Tensor:
        x = self.embed(pose_2d) + self.place
        for number, layer in enumerate(self.layers):
            x = x.transpose(1, 2) if number % 2 else x  # frames of a joint, or joints of a frame
            x = layer(x.flatten(0, 1)).view_as(x)
            x = x.transpose(1, 2) if number % 2 else x
        pose_3d: Tensor = self.head(x)
        return pose_3d


#: Lifters with the number of windows of a batch and of their frames.
WINDOWS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "tcn192": (lambda: TemporalLifter(width=192), 256, 27),
    "transformer32": (SpaceTimeTransformer, 4, 243),
}


class WindowLoop:
    """A training loop on the same batch of windows, which it augments anew in every step."""

    def __init__(
        self, model: nn.Module, rows: int, frames: int, device: str, config: PoseAugConfig | None
    ) -> None:
        self.model = model.to(device).train()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.batch = tuple(field.to(device) for field in random_clips(rows, frames, SKELETON))
        self.augmenter = None
        if config:
            fields = dict(pose_2d=0, pose_3d=1, camera=2, root="absolute")
            self.augmenter = PoseAugmenter(self.model, self.optimizer, fields, config=config)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            batch = self.augmenter(self.batch) if self.augmenter else self.batch
            pose_2d, pose_3d, *_ = batch
            predicted = self.model(pose_2d)
            if predicted.shape[1] == 1:
                pose_3d = pose_3d[:, pose_3d.shape[1] // 2, None]
            loss = (predicted - (pose_3d - pose_3d[:, :, :1])).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
