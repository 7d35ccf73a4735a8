"""Readers of common pose files, and a synthetic data set that needs no files."""

from .cross_dataset import TESTS, load_3dhp, load_cross_dataset, load_test
from .h36m import (
    FILE_SOURCES,
    KEYPOINTS,
    TEST,
    TRAIN,
    Pairs,
    keypoint_file,
    load_h36m,
    load_pose_npz,
)
from .loading import Batch, endless, load, make_loader

__all__ = [
    "FILE_SOURCES",
    "KEYPOINTS",
    "TEST",
    "TESTS",
    "TRAIN",
    "Batch",
    "Pairs",
    "endless",
    "keypoint_file",
    "load",
    "load_3dhp",
    "load_cross_dataset",
    "load_h36m",
    "load_pose_npz",
    "load_test",
    "make_loader",
]
