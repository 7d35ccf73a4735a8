"""One small file per framework; importing one imports its framework."""

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

__all__ = ["attached", "checked"]

_OURS = {"model", "optimizer", "epochs"}  # the framework knows them


def checked(**options: Any) -> dict[str, Any]:
    """Arguments for `PoseAugmenter` beside what the framework gives, refused before it starts.

    Raises:
        ConfigError: one that it does not take, or an unknown batch format or config.
    """
    known = set(inspect.signature(PoseAugmenter).parameters) - _OURS
    if set(options) - known:
        raise ConfigError(
            f"{sorted(set(options) - known)} are no options here, only {sorted(known)}: model, "
            "optimizer and epochs are the framework's own."
        )
    PoseAugConfig.of(options.get("config"))
    if options.get("batch") is not None:
        resolve_format(options["batch"])
    return options


def attached(
    model: nn.Module,
    optimizer: Any,
    epochs: int | None,
    options: Mapping[str, Any],
    saved: Mapping[str, Any] | None,
) -> PoseAugmenter:
    """An augmenter for a loop that hands each batch on once, where it was left off.

    Args:
        optimizer: torch's, or the framework's around it.
        epochs: as the framework has it; -1 where it trains without end.
        options: the rest of the augmenter's arguments.
        saved: what an earlier one's `state_dict()` returned.

    Raises:
        ConfigError: a mix that hands batches on twice.
        PoseAugError: the augmenter's own.
    """
    endless = epochs is None or epochs < 1
    augmenter = PoseAugmenter(model, optimizer, epochs=None if endless else epochs, **options)
    try:
        if augmenter.config.mix in DOUBLING_MIXES:
            raise ConfigError(
                f"the config's mix={augmenter.config.mix!r} hands on every batch twice, and the "
                "framework's loop takes each once; pass e.g. "
                "config=PoseAugConfig.paper(mix='replace')."
            )
        if saved is not None:
            augmenter.load_state_dict(saved)
    except Exception:
        augmenter.detach()
        raise
    return augmenter
