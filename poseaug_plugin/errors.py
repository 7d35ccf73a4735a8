"""What can go wrong, by name. Every message says what was passed, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")


class PoseAugError(ValueError):
    """Base of everything the plugin raises about its input; a `ValueError`."""


class ConfigError(PoseAugError):
    """An option out of range, or two options that contradict each other."""


class SkeletonError(PoseAugError):
    """Parents, sides or a joint count that do not make the expected tree."""


class BatchError(PoseAugError):
    """A batch that cannot be read: fields, shapes, ragged or empty rows, NaN."""


class WindowError(BatchError):
    """A window of 2D with the 3D of its centre frame alone: its motion cannot be made up."""


class DataError(PoseAugError):
    """Readable numbers with the wrong meaning: units, frame, mirrored sides."""


class AttachError(PoseAugError):
    """Model and optimizer that do not belong together, or a second attachment."""


class EstimatorError(PoseAugError):
    """The estimator does not answer as its loss needs it to."""


class CheckpointError(PoseAugError):
    """A saved state of another skeleton or configuration."""


class PoseAugWarning(UserWarning):
    """Something the caller should know once; training goes on."""


def look_up(
    known: Mapping[str, Value], name: object, option: str, other: str, error: type[PoseAugError]
) -> Value:
    """The preset of that name.

    Args:
        option: the argument that took the name.
        other: what else can be passed, for the message.
        error: raised if there is no such preset.
    """
    if not isinstance(name, str) or name not in known:
        raise error(
            f"{option}={name!r} is not a preset; choose one of {sorted(known)}, or {other}."
        )
    return known[name]
