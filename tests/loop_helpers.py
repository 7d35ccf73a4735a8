"""People, loaders, a small lifter and a training loop, and functions that detect changes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from helpers import NO_STATISTICS
from poseaug_plugin import PoseAugConfig, PoseAugmenter

torch.set_num_threads(1)

PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 8, 10, 11, 8, 13, 14)
LEFT, RIGHT = (4, 5, 6, 10, 11, 12), (1, 2, 3, 13, 14, 15)
# A standing person seen from the front: direction from the parent (x right, y down, z away),
# length in metres; right limbs are at the image's left.
BONES = (
    *[((-1, 0, 0), 0.13), ((-0.1, 1, 0), 0.45), ((0, 1, 0.1), 0.44)],
    *[((1, 0, 0), 0.13), ((0.1, 1, 0), 0.45), ((0, 1, 0.1), 0.44)],
    *[((0, -1, 0), 0.23), ((0, -1, 0.1), 0.25), ((0, -1, -0.1), 0.2)],
    *[((1, 0, 0), 0.15), ((0.4, 1, 0), 0.28), ((0, 1, -0.3), 0.25)],
    *[((-1, 0, 0), 0.15), ((-0.4, 1, 0), 0.28), ((0, 1, -0.3), 0.25)],
)
CAM9 = (2.29, 2.2877, 0.0251, 0.0289, -0.2071, 0.2478, -0.0031, -0.001, -0.0014)


class People(NamedTuple):
    """Absolute camera-frame metres (N, T, 16, 3), their projection (N, T, 16, 2), (N, 9)."""

    pose_3d: np.ndarray
    pose_2d: np.ndarray
    camera: np.ndarray

    @property
    def relative(self) -> np.ndarray:
        return self.pose_3d - self.pose_3d[:, :, :1]


def reproject(pose_3d: Any, camera: Any) -> np.ndarray:
    """Project absolute poses (N, ..., 3) with Human3.6M's camera model, without the package."""
    x, cam = np.asarray(pose_3d, np.float64), np.asarray(camera, np.float64)
    cam = cam.reshape(len(cam), *[1] * (x.ndim - 2), 9)
    ray = x[..., :2] / x[..., 2:]
    r2 = (ray**2).sum(-1, keepdims=True)
    radial = 1 + cam[..., 4:5] * r2 + cam[..., 5:6] * r2**2 + cam[..., 6:7] * r2**3
    tangential = (cam[..., 7:] * ray).sum(-1, keepdims=True)
    return cam[..., :2] * (ray * (radial + tangential) + cam[..., 7:] * r2) + cam[..., 2:4]


def people(rows: int = 8, frames: int = 1, seed: int = 0) -> People:
    """Upright people 4 to 5 m away, roughly facing the camera; clips move smoothly."""
    rng = np.random.RandomState(seed)
    time = np.arange(frames)[:, None, None] * 0.2
    direction = np.array([d for d, _ in BONES], np.float64)
    size = rng.uniform(0.9, 1.1, (rows, 1, 1, 1))
    swing = rng.normal(0, 0.25, (rows, 1, 15, 3)) * np.cos(
        time + rng.uniform(0, 6, (rows, 1, 15, 1))
    )
    bone = direction + swing
    bone *= (
        size
        * np.array([n for _, n in BONES])[:, None]
        / np.linalg.norm(bone, axis=-1, keepdims=True)
    )
    pose = np.zeros((rows, frames, 16, 3))
    for joint, parent in list(enumerate(PARENTS))[1:]:
        pose[:, :, joint] = pose[:, :, parent] + bone[:, :, joint - 1]
    yaw = rng.uniform(-0.6, 0.6, rows)
    rotation = np.zeros((rows, 1, 3, 3))
    rotation[:, 0, 0, 0] = rotation[:, 0, 2, 2] = np.cos(yaw)
    rotation[:, 0, 0, 2], rotation[:, 0, 2, 0], rotation[:, 0, 1, 1] = np.sin(yaw), -np.sin(yaw), 1
    pose = pose @ rotation.swapaxes(-1, -2)
    root = rng.uniform((-0.4, -0.1, 4.0), (0.4, 0.1, 5.0), (rows, 1, 1, 3))
    pose = (pose + root + 0.05 * time * np.array([1.0, 0, 0.3])[None, None]).astype(np.float32)
    camera = np.tile(np.array(CAM9, np.float32), (rows, 1))
    camera[:, :2] *= rng.uniform(0.98, 1.02, (rows, 1)).astype(np.float32)
    return People(pose, reproject(pose, camera).astype(np.float32), camera)


class Pairs(Dataset):
    """A data set with rows like SemGCN's (root-relative) or PoseAug's (absolute, with camera)."""

    def __init__(self, who: People, order: str = "poseaug") -> None:
        frame = People(*(torch.from_numpy(a) for a in who))
        self.pose_2d, self.camera = frame.pose_2d[:, 0], frame.camera
        absolute = frame.pose_3d[:, 0]
        self.pose_3d = absolute if order == "poseaug" else absolute - absolute[:, :1]
        self.order = order

    def __len__(self) -> int:
        return len(self.pose_3d)

    def __getitem__(self, i: int) -> tuple[Any, ...]:
        row = (self.pose_3d[i], self.pose_2d[i], f"action {i}")
        return (*row, self.camera[i]) if self.order == "poseaug" else row


def loader(
    order: str = "poseaug", rows: int = 16, size: int = 8, shuffle: bool = False, seed: int = 0
) -> DataLoader:
    return DataLoader(Pairs(people(rows, seed=seed), order), batch_size=size, shuffle=shuffle)


def batch(order: str = "poseaug", rows: int = 8, seed: int = 0) -> tuple[Any, ...]:
    """A batch of that loader with all its rows."""
    return tuple(next(iter(loader(order, rows, rows, seed=seed))))


class Lifter(nn.Module):
    """(..., J, C) to (..., J, 3), with BatchNorm and dropout, which a stray call would change."""

    def __init__(self, channels: int = 2, norm: bool = True, dropout: float = 0.25) -> None:
        super().__init__()
        self.first = nn.Linear(16 * channels, 24)
        self.norm = nn.BatchNorm1d(24) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(24, 48)

    def forward(self, pose_2d: Tensor) -> Tensor:
        flat = pose_2d.flatten(-2)
        h = self.norm(self.first(flat.flatten(0, -2))).relu()
        return self.last(self.dropout(h)).view(*pose_2d.shape[:-1], 3)


def small(preset: str = "default", **changes: Any) -> PoseAugConfig:
    """A preset with small networks, an update after every step and no warm-up.

    "default" is made to learn, so that there are updates to test. "residual" is the same without
    pose statistics: each row is made from its own pose and the prior.
    """
    fast = dict(width=16, d_width=16, noise=4, pool=32, update_every=1, d_every=1, warmup=0)
    if preset in ("default", "residual"):
        fast |= dict(learned=True, ratio=0.5)
        fast |= {**NO_STATISTICS, "bend": 0.6} if preset == "residual" else {}
        preset = "default"
    config: PoseAugConfig = getattr(PoseAugConfig, preset)(**{**fast, **changes})
    return config


def seed_all(seed: int = 0) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def streams() -> tuple[Any, ...]:
    """The states of the three global random generators."""
    kind, keys, *rest = np.random.get_state()
    return torch.get_rng_state().tolist(), kind, keys.tolist(), rest, random.getstate()


def trained(**kwargs: Any) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A seeded lifter in training, and its optimizer."""
    seed_all()
    model = Lifter(**kwargs)
    return model, torch.optim.Adam(model.parameters(), lr=1e-3)


def attached(
    config: Any = None, batch: Any = "poseaug", norm: bool = False, **kwargs: Any
) -> tuple[PoseAugmenter, nn.Module, torch.optim.Optimizer]:
    model, optimizer = trained(norm=norm)
    augmenter = PoseAugmenter(model, optimizer, batch, config=config or small(), **kwargs)
    return augmenter, model, optimizer


def step(model: nn.Module, optimizer: Any, batch: Any, closure: bool = False) -> None:
    """One step of a training loop that also draws from every global random generator."""

    def loss() -> Tensor:
        optimizer.zero_grad()
        target = torch.as_tensor(batch[0], dtype=torch.float32)
        noise = random.gauss(0, 1e-3) + np.random.normal(0, 1e-3)
        predicted = model(torch.as_tensor(batch[1], dtype=torch.float32) + noise)
        value = (predicted - (target - target[:, :1])).square().mean()
        value.backward()
        return value

    if closure:
        optimizer.step(loss)
    else:
        loss()
        optimizer.step()


def train(
    model: nn.Module, optimizer: Any, loader: Iterable[Any], epochs: int = 1, closure: bool = False
) -> None:
    for _ in range(epochs):
        for batch in loader:
            step(model, optimizer, batch, closure)


def snapshot(*things: Any) -> list[Any]:
    """Copies of all states of models and optimizers, and of all values of batches."""
    return [_copied(t.state_dict() if hasattr(t, "state_dict") else t) for t in things]


def augmentor_weights(augmenter: PoseAugmenter) -> Any:
    """Copies, without the running covariance, which changes even where nothing is learned."""
    found = snapshot(augmenter)[0]["engine"]["trainer"]["nets"]["augmentor"]
    return {name: value for name, value in found.items() if not name.startswith("whitening")}


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return (str(value.dtype), value.detach().cpu().to_dense().clone())
    if isinstance(value, np.ndarray):
        return (str(value.dtype), torch.from_numpy(value.copy()))
    if isinstance(value, dict):
        return {key: _copied(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *(_copied(v) for v in value)]
    return value


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal bit for bit and in type; NaN equals NaN."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return type(a) is type(b) and bool(a == b)


def changed_rows(before: Any, after: Any) -> list[int]:
    """The rows in which two arrays or tensors differ."""
    a, b = torch.as_tensor(before), torch.as_tensor(after)
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    return (a != b).flatten(1).any(1).nonzero()[:, 0].tolist()


def run_script(script: Path, folder: Path) -> str:
    """Run `python SCRIPT FOLDER` of the tests, and return what it printed as errors."""
    tests = Path(__file__).parent
    path = os.pathsep.join(map(str, (tests.parent, tests, os.environ.get("PYTHONPATH", ""))))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(folder)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    return done.stderr
