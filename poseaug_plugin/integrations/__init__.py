"""One small file per framework; importing one imports its framework."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..errors import ConfigError
from ..mixing import TWICE
from ..plugin import PoseAugmenter

__all__ = ["attached"]


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
        if augmenter.config.mix in TWICE:
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
