"""Restoring a saved state: either all of it, or an error before anything is changed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from .augment.target import Target
from .config import PoseAugConfig
from .counters import Counters
from .engine import Engine
from .errors import CheckpointError
from .geometry.skeleton import Skeleton
from .saved_state import check_like

__all__ = ["Restored", "restore"]

FIELDS = {"skeleton", "config", "epochs_done", "counts", "passed", "engine"}


@dataclass(frozen=True)
class Restored:
    """The objects rebuilt from `PoseAugmenter.state_dict()`; they share no memory with it."""

    skeleton: Skeleton | None
    engine: Engine | None
    epochs_done: int
    counters: Counters


def restore(
    state: Any,
    config: PoseAugConfig,
    skeleton: Skeleton | None,
    device: torch.device,
    has_target: bool = False,
) -> Restored:
    """Rebuild a saved state for an augmenter.

    Args:
        state: what `PoseAugmenter.state_dict()` returned.
        config: the augmenter's config.
        skeleton: the augmenter's skeleton, or None if it is not known yet.
        device: the estimator's device.
        has_target: whether the augmenter has a `target_2d`.

    Raises:
        CheckpointError: `state` is not such a state, is damaged, or was saved with another config
            or skeleton.
    """
    if isinstance(state, Mapping) and {"skeleton", "trainer"} <= set(state):
        raise CheckpointError(
            "the state was saved by version 0.1.0 of poseaug-plugin, which has other networks and "
            "counters. Continue with that version, or do not load the state."
        )
    if not isinstance(state, Mapping) or FIELDS - set(state):
        raise CheckpointError(
            f"state is a {type(state).__name__}, not a PoseAugmenter state with the keys "
            f"{sorted(FIELDS)}. Pass what augmenter.state_dict() returned."
        )
    try:
        with torch.inference_mode(False):  # tensors made in inference mode could not be trained
            return _restore(state, config, skeleton, device, has_target)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"the state is damaged ({type(error).__name__}: {error}); load an earlier checkpoint."
        ) from error


def _restore(
    state: Mapping[str, Any],
    config: PoseAugConfig,
    own: Skeleton | None,
    device: torch.device,
    has_target: bool,
) -> Restored:
    current, saved = asdict(config), state["config"]
    if not isinstance(saved, Mapping) or set(saved) != set(current):
        names = set(saved) ^ set(current) if isinstance(saved, Mapping) else set(current)
        raise CheckpointError(
            f"state.config differs in the options {sorted(map(str, names))}: the state is damaged, "
            "or was saved by another version; load an earlier checkpoint."
        )
    differing = sorted(name for name, value in saved.items() if current.get(name) != value)
    if differing:
        raise CheckpointError(
            f"the state was saved with { {name: saved[name] for name in differing} }, this "
            f"augmenter has { {name: current.get(name) for name in differing} }; pass the saved "
            "options in config=."
        )
    skeleton = None if state["skeleton"] is None else Skeleton(**state["skeleton"])
    if skeleton and own and replace(skeleton, names=None) != replace(own, names=None):
        raise CheckpointError(
            f"the state was saved with a skeleton with parents {skeleton.parents} and left "
            f"{skeleton.left}, this augmenter's has {own.parents} and {own.left}; pass the saved "
            "one as skeleton=."
        )
    if state["engine"] is not None:
        saved_target = state["engine"]["sampler"]["target"] is not None
        if saved_target != has_target:
            words = {True: "with target_2d", False: "without target_2d"}
            raise CheckpointError(
                f"the state was saved {words[saved_target]}, this augmenter was made "
                f"{words[has_target]}; pass the same arguments as in the saved run."
            )
    compared = {key: state[key] for key in state if key not in ("config", "skeleton")}
    check_like(compared, _example(skeleton, config, has_target))
    engine, passed = None, state["passed"]
    if state["engine"] is not None:
        if skeleton is None:
            raise CheckpointError(
                "state.skeleton is None, but state.engine is not: the state is damaged; load an "
                "earlier checkpoint."
            )
        engine = Engine(skeleton, config, device)
        engine.load_state_dict(copy.deepcopy(state["engine"]))
    return Restored(
        skeleton,
        engine,
        state["epochs_done"],
        Counters(dict(state["counts"]), None if passed is None else passed.to(device, copy=True)),
    )


def _example(skeleton: Skeleton | None, config: PoseAugConfig, has_target: bool) -> dict[str, Any]:
    """An example of a complete state."""
    engine = None
    if skeleton is not None:
        cpu = torch.device("cpu")
        pose_2d = torch.zeros(1, skeleton.num_joints, 2, dtype=torch.float32)
        target = Target(pose_2d, skeleton, cpu) if has_target else None
        engine = Engine(skeleton, config, cpu, target)
    return {
        "epochs_done": 0,
        "counts": Counters().counts,
        "passed": torch.zeros((), dtype=torch.int64),
        "engine": None if engine is None else engine.example_state(),
    }
