"""All exceptions and the warning class.

Each message says what is wrong, what was passed, what was expected, and what to change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")


class PoseAugError(ValueError):
    """Base class of all errors about the plugin's input."""


class ConfigError(PoseAugError):
    """An argument or option is unknown or out of range, or two options contradict each other."""


class SkeletonError(PoseAugError):
    """A skeleton is not one tree, its sides do not mirror each other, or no preset fits."""


class BatchError(PoseAugError):
    """A batch cannot be read: a field is missing, a shape is wrong, it has no rows, or has NaN."""


class WindowError(BatchError):
    """A batch has windows of 2D frames but not the 3D of all these frames."""


class DataError(PoseAugError):
    """A batch can be read but its numbers do not mean what the format says.

    Common causes are another unit, another coordinate frame, and swapped sides.
    """


class AttachError(PoseAugError):
    """Model, optimizer and loader do not belong together, or a second augmenter is attached."""


class EstimatorError(PoseAugError):
    """The estimator cannot be called, or its output does not have the shape of the target."""


class CheckpointError(PoseAugError):
    """A saved state is damaged, or was saved with another skeleton or config."""


class PoseAugWarning(UserWarning):
    """A problem that does not stop training. Each is reported once for each augmenter."""


def look_up(
    known: Mapping[str, Value], name: object, option: str, other: str, error: type[PoseAugError]
) -> Value:
    """Return the preset of that name.

    Args:
        known: all presets.
        name: the name to look up.
        option: name of the argument, for the message.
        other: what else can be passed, for the message.
        error: the exception to raise if there is no such preset.
    """
    if not isinstance(name, str) or name not in known:
        raise error(
            f"{option}={name!r} is not a preset; choose one of {sorted(known)}, or {other}."
        )
    return known[name]
