"""Does a saved state fit this augmenter?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from .config import PoseAugConfig
from .errors import CheckpointError
from .skeleton import Skeleton

__all__ = ["saved_skeleton"]


def saved_skeleton(
    state: Mapping[str, Any], config: PoseAugConfig, mine: Skeleton | None
) -> Skeleton | None:
    """The skeleton of a saved state.

    Raises:
        CheckpointError: it is no state, or of another configuration or skeleton.
    """
    missing = {"skeleton", "config", "epochs_done", "counts", "passed", "trainer"} - set(state)
    if missing:
        raise CheckpointError(
            f"not a PoseAugmenter state: {sorted(missing)} missing. Pass what "
            "augmenter.state_dict() returned."
        )
    now = asdict(config)
    other = sorted(k for k, v in state["config"].items() if now.get(k) != v)
    if other:
        raise CheckpointError(
            f"the state was saved with { {k: state['config'][k] for k in other} }, this augmenter "
            f"has { {k: now.get(k) for k in other} }; build it with the saved config."
        )
    saved = None if state["skeleton"] is None else Skeleton(**state["skeleton"])
    if saved and mine and (saved.parents, saved.left) != (mine.parents, mine.left):
        raise CheckpointError(
            f"the state is of a skeleton with parents {saved.parents}, this augmenter's has "
            f"{mine.parents}; use the saved one."
        )
    return saved
