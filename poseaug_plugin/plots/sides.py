"""The sides of a body and their colours. No matplotlib here: the page needs none."""

from __future__ import annotations

from ..geometry.skeleton import Skeleton

__all__ = ["COLOURS", "side"]

COLOURS = {"left": "#2a78d6", "right": "#eb6834", "middle": "#52514e"}


def side(skeleton: Skeleton, joint: int) -> str:
    """The side of a joint: left, right or middle."""
    names = (("left", skeleton.left), ("right", skeleton.right))
    return next((name for name, joints in names if joint in joints), "middle")
