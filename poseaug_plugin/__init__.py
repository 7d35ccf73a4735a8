"""PoseAug (Gong, Zhang, Feng; CVPR 2021) as a drop-in plugin for 2D-to-3D pose lifters.

A training script needs three more lines: import `PoseAugmenter`, create one from the model and the
optimizer, and wrap the loader. The other public names describe the data where the plugin cannot
infer them, configure it, or name its errors.
"""

from .batches.check import CheckReport
from .batches.format import BatchFormat
from .config import PoseAugConfig
from .errors import (
    AttachError,
    BatchError,
    CheckpointError,
    ConfigError,
    DataError,
    EstimatorError,
    PoseAugError,
    PoseAugWarning,
    SkeletonError,
)
from .events import Event
from .geometry.camera import Camera
from .geometry.pose_batch import PoseBatch
from .geometry.skeleton import Skeleton
from .plugin import PoseAugmenter

__version__ = "0.2.0"

__all__ = [
    "AttachError",
    "BatchError",
    "BatchFormat",
    "Camera",
    "CheckReport",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "EstimatorError",
    "Event",
    "PoseAugConfig",
    "PoseAugError",
    "PoseAugWarning",
    "PoseAugmenter",
    "PoseBatch",
    "Skeleton",
    "SkeletonError",
]
