"""Tiny files in Human3.6M's format, with random poses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def world(frames: int, joints: int = 32, seed: int = 0) -> NDArray[np.float32]:
    """Random joints near the centre of the room, metres."""
    rng = np.random.default_rng(seed)
    return rng.normal([0, 0, 1], 0.3, (frames, joints, 3)).astype(np.float32)


def pixels(frames: int, joints: int = 17, seed: int = 0, channels: int = 2) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return rng.uniform(100, 900, (frames, joints, channels)).astype(np.float32)


def write(
    folder: Path, positions_3d: Any, positions_2d: Any, keypoints: str = "gt", **metadata_: Any
) -> Path:
    """Write the two archives in VideoPose3D's format."""
    np.savez_compressed(folder / "data_3d_h36m.npz", positions_3d=positions_3d)
    metadata: Any = {"layout_name": "h36m", "num_joints": 17, **metadata_}
    np.savez_compressed(
        folder / f"data_2d_h36m_{keypoints}.npz", positions_2d=positions_2d, metadata=metadata
    )
    return folder
