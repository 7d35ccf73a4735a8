"""Reading a saved state back: all of it, or an error before anything is changed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from .config import PoseAugConfig
from .counters import Counters
from .engine import Engine
from .errors import CheckpointError
from .geometry.skeleton import Skeleton

__all__ = ["Restored", "restore"]

FIELDS = {"skeleton", "config", "epochs_done", "counts", "passed", "engine"}


@dataclass(frozen=True)
class Restored:
    """What `PoseAugmenter.state_dict()` held, made live again; shares no memory with it."""

    skeleton: Skeleton | None
    engine: Engine | None
    epochs_done: int
    counters: Counters


def restore(
    state: Any, config: PoseAugConfig, mine: Skeleton | None, device: torch.device
) -> Restored:
    """A saved state for an augmenter of this config and, if it is known yet, skeleton.

    Raises:
        CheckpointError: it is no such state, damaged, or of another configuration or skeleton.
    """
    if isinstance(state, Mapping) and {"skeleton", "trainer"} <= set(state):
        raise CheckpointError(
            "the state was saved by version 0.1 of poseaug-plugin, whose networks and counters "
            "differ; go on with that version, or start the augmenter afresh."
        )
    if not isinstance(state, Mapping) or FIELDS - set(state):
        raise CheckpointError(
            f"{type(state).__name__} is not a PoseAugmenter state, which has {sorted(FIELDS)}. "
            "Pass what augmenter.state_dict() returned."
        )
    try:
        return _restore(copy.deepcopy(dict(state)), config, mine, device)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"the state is damaged ({type(error).__name__}: {error}); load an earlier checkpoint."
        ) from error


def _restore(
    state: dict[str, Any], config: PoseAugConfig, mine: Skeleton | None, device: torch.device
) -> Restored:
    now, then = asdict(config), state["config"]
    other = sorted(name for name, value in then.items() if now.get(name) != value)
    if other:
        raise CheckpointError(
            f"the state was saved with { {k: then[k] for k in other} }, this augmenter has "
            f"{ {k: now.get(k) for k in other} }; build it with the saved config."
        )
    skeleton = None if state["skeleton"] is None else Skeleton(**state["skeleton"])
    if skeleton and mine and (skeleton.parents, skeleton.left) != (mine.parents, mine.left):
        raise CheckpointError(
            f"the state is of a skeleton with parents {skeleton.parents} and left {skeleton.left}, "
            f"this augmenter's has {mine.parents} and {mine.left}; use the saved one."
        )
    engine, passed = None, state["passed"]
    if skeleton and state["engine"] is not None:
        engine = Engine(skeleton, config, device)
        engine.load_state_dict(state["engine"])
    return Restored(
        skeleton,
        engine,
        int(state["epochs_done"]),
        Counters(
            {name: int(count) for name, count in state["counts"].items()},
            None if passed is None else passed.to(device),
        ),
    )
