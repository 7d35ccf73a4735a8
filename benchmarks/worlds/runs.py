"""One run: train a small lifter in a world with a method, then test it once."""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from poseaug_plugin import PoseAugConfig, PoseAugmenter
from poseaug_plugin.data import endless
from poseaug_plugin.data.filming import Views
from poseaug_plugin.lifters import SimpleBaseline
from poseaug_plugin.metrics import mpjpe

from ..environment import environment_info
from ..training import train_step
from .worlds import WORLDS, World

__all__ = ["METHODS", "Run", "config_of", "train", "train_and_test"]

#: The ranges of `default` up to version 0.2, whatever the data. A skeleton without sides had no
#: joint offsets.
FIXED: dict[str, Any] = dict(
    distance=(2.5, 6.5), focal=(0.5, 1.0), image_offset=0.3, joint_offset=0.025, depth=0.5
)
METHODS = ("plain", "fixed", "default", "tuned")
Batch = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Run:
    """Settings of a run."""

    world: str
    method: str
    seed: int = 0
    updates: int = 400
    batch_size: int = 256

    @property
    def key(self) -> str:
        """All settings as JSON. It identifies the run in a file of results."""
        return json.dumps(asdict(self))


class _Batches:
    """Shuffled batches (pose_3d, pose_2d, row number, camera)."""

    def __init__(self, views: Views, batch_size: int, seed: int) -> None:
        self._views, self._batch_size = views, batch_size
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self._views) // self._batch_size

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self._views), generator=self._generator)
        for rows in order.split(self._batch_size)[: len(self)]:
            chosen = self._views[rows]
            yield chosen.pose_3d, chosen.pose_2d, rows, chosen.camera


def config_of(method: str, world: World, seed: int) -> PoseAugConfig | None:
    """The plugin's config of a method; None for plain training."""
    if method == "plain":
        return None
    changes = dict({"default": {}, "fixed": FIXED, "tuned": world.tuned}[method])
    if method == "fixed" and not world.skeleton.left:
        changes["joint_offset"] = 0.0
    return PoseAugConfig.default(**changes, frame_height=world.height, seed=seed)


def train(
    run: Run, world: World, on_update: Callable[[], None] = lambda: None
) -> tuple[nn.Module, PoseAugmenter | None]:
    """Train an MLP. All methods start from the same weights and read the same rows."""
    torch.manual_seed(run.seed)
    model = SimpleBaseline(joints=world.skeleton.num_joints, width=128)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-2, total_steps=run.updates)
    loader: Any = _Batches(world.train, run.batch_size, run.seed)
    epochs = math.ceil(run.updates / len(loader))
    augmenter, config = None, config_of(run.method, world, run.seed)
    if config is not None:
        augmenter = PoseAugmenter(
            model, optimizer, "poseaug", epochs, config=config, skeleton=world.skeleton
        )
        loader = augmenter.wrap(loader)
    model.train()
    for _, batch in zip(range(run.updates), endless(loader)):
        train_step(model, optimizer, batch)
        schedule.step()
        on_update()
    return model, augmenter


def train_and_test(run: Run, on_update: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Train, test once, and return the scores with everything needed to repeat the run."""
    torch.set_num_threads(1)  # steps are too small to benefit from more
    world = _world(run.world, run.seed)
    start = time.process_time()
    model, augmenter = train(run, world, on_update)
    seconds = time.process_time() - start
    model.eval()
    return {
        "settings": json.loads(run.key),
        "tests": {name: _error(model, getattr(world, name)) for name in ("test", "cross")},
        "seconds": seconds,
        "stats": augmenter.stats() if augmenter else {},
        "environment": environment_info(),
    }


@torch.no_grad()
def _error(model: nn.Module, views: Views) -> float:
    """MPJPE in millimetres; the root is the first joint of all skeletons here."""
    predicted = torch.cat([model(part) for part in views.pose_2d.split(2048)])
    return mpjpe(predicted, views.pose_3d - views.pose_3d[:, :1])


@functools.lru_cache(maxsize=1)  # consecutive runs share a world
def _world(name: str, seed: int) -> World:
    return WORLDS[name](seed)
