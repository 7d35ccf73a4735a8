"""Integrations, one module per framework. Importing such a module imports its framework."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from ..batches.presets import resolve_format
from ..config import PoseAugConfig
from ..errors import ConfigError
from ..loop.loader import DOUBLING_MIXES
from ..plugin import PoseAugmenter

__all__ = ["attach", "check_options"]

_FROM_FRAMEWORK = {"model", "optimizer", "epochs"}


def check_options(**options: Any) -> dict[str, Any]:
    """Check the arguments for `PoseAugmenter` that do not come from the framework.

    An error is raised when the callback or hook is created, not when training starts.

    Returns:
        The options.

    Raises:
        ConfigError: an option, the batch format or the config is unknown.
    """
    known = set(inspect.signature(PoseAugmenter).parameters) - _FROM_FRAMEWORK
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigError(
            f"{unknown} are not options here; pass only {sorted(known)}. The model, the optimizer "
            "and the number of epochs come from the framework."
        )
    PoseAugConfig.of(options.get("config"))
    if options.get("batch") is not None:
        resolve_format(options["batch"])
    return options


def attach(
    model: nn.Module,
    optimizer: Any,
    epochs: int | None,
    options: Mapping[str, Any],
    saved: Mapping[str, Any] | None,
) -> PoseAugmenter:
    """Create an augmenter for a framework's loop, and restore its state.

    Args:
        model: the model in training.
        optimizer: the torch optimizer, or the framework's wrapper of it.
        epochs: length of the run; None or below 1 if it has no end.
        options: the other arguments of `PoseAugmenter`.
        saved: what `state_dict()` of an earlier augmenter returned. None: start a new run.

    Raises:
        ConfigError: the config's mix yields every batch twice.
        PoseAugError: as `PoseAugmenter` and its `load_state_dict`.
    """
    unlimited = epochs is None or epochs < 1
    augmenter = PoseAugmenter(model, optimizer, epochs=None if unlimited else epochs, **options)
    try:
        if augmenter.config.mix in DOUBLING_MIXES:
            raise ConfigError(
                f"mix={augmenter.config.mix!r} yields every batch twice, but the framework's loop "
                "takes each batch once; pass a config with mix='replace' or 'append', e.g. "
                "config=PoseAugConfig.released(mix='replace')."
            )
        if saved is not None:
            augmenter.load_state_dict(saved)
    except Exception:
        augmenter.detach()
        raise
    return augmenter
