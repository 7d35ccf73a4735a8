"""What can go wrong, by name. Every message says what was passed, what was expected, what to do."""

from __future__ import annotations


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
