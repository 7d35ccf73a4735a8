"""Arguments that the functions of this folder share. No matplotlib here: the page needs none."""

from __future__ import annotations

import torch

from ..geometry.skeleton import Skeleton

__all__ = ["CPU", "skeleton_of"]

CPU = torch.device("cpu")  # where everything is drawn


def skeleton_of(skeleton: Skeleton | str | None, joints: int) -> Skeleton:
    """The skeleton of an argument; None: the preset with as many joints."""
    return Skeleton.for_joints(joints) if skeleton is None else Skeleton.of(skeleton)
