"""PoseAug (Gong, Zhang, Feng; CVPR 2021) as a drop-in plugin for 2D-to-3D pose lifters.

Three lines in a training script: import `PoseAugmenter`, make one beside model and optimizer,
wrap the loader. The rest of the public names describe what the plugin cannot see by itself.
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

__version__ = "0.1.0"

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
