"""Training and test data from a folder of public files, or synthetic motion without a folder.

python -m benchmarks.reproduction.datasets FOLDER   # check the files in a folder
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from poseaug_plugin.data import (
    FILE_SOURCES,
    KEYPOINTS,
    TEST,
    TESTS,
    TRAIN,
    Pairs,
    keypoint_file,
    load_h36m,
    load_test,
    synthetic,
)
from poseaug_plugin.data.archives import Archive
from poseaug_plugin.geometry.camera import project

from ..training import clip_bounds

_SIDES_SWAPPED = [0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 13, 14, 15, 10, 11, 12]

# What `find_faults` measures: minimum, maximum and the message if a value is outside.
_LIMITS = {
    "finite": (1.0, 1.0, "{:.1%} of the numbers are finite"),
    "thigh": (0.25, 0.65, "the median thigh length is {:.3g} m (wrong units?)"),
    "knees": (0.75, 1.0, "{:.0%} of the knee bend is forwards (left and right swapped?)"),
    "similarity": (0.9, 1.0, "the similarity of 2D and 3D is {:.2f} (frames shifted? y up?)"),
    "swapped": (0.0, 0.1, "left and right of 2D and 3D are swapped in {:.0%} of the poses"),
    "outside": (0.0, 0.02, "{:.0%} of the 2D poses are far outside the image (wrong image width?)"),
    "projection": (0.0, 1.0, "the 2D is up to {:.3g} px from the projected 3D"),
    "detection": (0.0, 25.0, "the 2D is on average {:.3g} px from the projected 3D"),
}


@dataclass(frozen=True)
class Datasets:
    """Training pairs and test sets.

    Attributes:
        train: All frames of the training subjects.
        rows: (M,) long, ascending. Rows of ``train`` to train on. Their windows use all frames.
        tests: ``source`` (S9 and S11) and the available cross-dataset test sets: ``3dhp``,
            ``3dpw``, ``cross``.
        missing: For each other cross-dataset test set, the missing file and where to get it.
    """

    train: Pairs
    rows: Tensor
    tests: dict[str, Pairs]
    missing: dict[str, str]


def load_datasets(
    folder: Path | None,
    *,
    keypoints: str = "gt",
    subjects: Sequence[str] = TRAIN,
    fraction: float = 1.0,
    seed: int = 0,
) -> Datasets:
    """Load Human3.6M's training and test pairs and all cross-dataset test sets in the folder.

    Args:
        folder: Folder of the files, or None for synthetic motion.
        keypoints: Kind of Human3.6M's 2D poses, see ``KEYPOINTS``. Cross-dataset test sets have
            their own 2D. Synthetic motion has only ``gt``.
        subjects: Training subjects, some of ``TRAIN``.
        fraction: Share of each clip's frames to train on, in (0, 1]. The frames are evenly spaced,
            at least one per clip.
        seed: Seed of the synthetic motion.

    Raises:
        FileNotFoundError: A file of Human3.6M is missing.
        ValueError: An argument is invalid, or a file has unexpected contents.
    """
    if not subjects or len(set(subjects) & set(TRAIN)) != len(subjects):
        raise ValueError(f"subjects are {list(subjects)}, expected some of {', '.join(TRAIN)}")
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}, expected more than 0 and at most 1")
    if folder is None:
        if keypoints != "gt":
            raise ValueError(f"keypoints are {keypoints!r}, but synthetic motion has only 'gt'")
        everyone, source, cross = synthetic.make(seed)
        train = everyone[torch.from_numpy(np.isin(everyone.subject, list(subjects)))]
        return Datasets(
            train, evenly_spaced_rows(train, fraction), {"source": source, "cross": cross}, {}
        )
    train = load_h36m(folder, subjects, keypoints)
    tests, missing = {"source": load_h36m(folder, TEST, keypoints)}, {}
    for name in TESTS:
        try:
            tests[name] = load_test(name, folder)
        except FileNotFoundError as error:
            missing[name] = str(error)
    return Datasets(train, evenly_spaced_rows(train, fraction), tests, missing)


def evenly_spaced_rows(pairs: Pairs, fraction: float) -> Tensor:
    """(M,) long: evenly spaced rows of every clip, at least one of each."""
    start, length = clip_bounds(pairs)
    count = (length.double() * fraction).round().long().clamp(min=1)
    index = torch.arange(int(count.sum())) - (count.cumsum(0) - count).repeat_interleave(count)
    start, length, count = (x.repeat_interleave(count) for x in (start, length, count))
    return start + (2 * index + 1) * length // (2 * count)


@dataclass(frozen=True)
class FileReport:
    """Result of checking one file of a data folder.

    Attributes:
        name: Name of the file.
        purpose: What ``load_datasets`` uses it for.
        size: Number of poses and joints. Empty if the file is missing.
        verdict: "valid" or what is wrong. For a missing file, where to get it.
        invalid: Whether the file exists and is invalid.
    """

    name: str
    purpose: str
    size: str
    verdict: str
    invalid: bool = False


def check_folder(folder: Path) -> Iterator[FileReport]:
    """Check every known file, and every other file in the folder with 2D poses of Human3.6M.

    Pickled files are opened as in ``load_h36m``: only use this on folders that you trust.
    """
    yield _check_file(folder / "data_3d_h36m.npz", "3D", None, exact=True)
    prefix = "data_2d_h36m_"
    suffixes = (file.stem.removeprefix(prefix) for file in folder.glob(f"{prefix}*.npz"))
    short = {kind: name for name, kind in KEYPOINTS.items()}
    for kind in dict.fromkeys([*KEYPOINTS.values(), *sorted(suffixes)]):
        read = functools.partial(_load_all_subjects, kind)
        path = folder / keypoint_file(kind)
        yield _check_file(path, f"2D {short.get(kind, kind)}", read, exact=kind == "gt")
    for name, files in TESTS.items():
        for file, reader in files.items():
            yield _check_file(folder / file, f"test {name}", reader, exact=True)


def _load_all_subjects(kind: str, path: Path) -> Pairs:
    return load_h36m(path.parent, [*TRAIN, *TEST], kind)


def find_faults(pairs: Pairs, exact: bool) -> list[str]:
    """List apparent faults of pairs of mostly upright people, measured on up to 20,000 rows.

    Pixels in messages are those of an image 1000 pixels wide.

    Args:
        pairs: At least one pair.
        exact: Whether the 2D should be the projection of the 3D. This is only checked with cameras.
    """
    pairs = pairs[:: max(1, len(pairs) // 20_000)]
    pose_2d, pose_3d = pairs.pose_2d, pairs.root_relative
    xy, image = pose_3d[..., :2], pose_2d - pose_2d[:, :1]
    similarity = _cosine(image, xy)
    thigh, shin = pose_3d[:, [2, 5]] - pose_3d[:, [1, 4]], pose_3d[:, [3, 6]] - pose_3d[:, [2, 5]]
    forward = torch.linalg.cross(pose_3d[:, 4] - pose_3d[:, 1], pose_3d[:, 8])
    bend = ((thigh - shin).sum(dim=1) * forward).sum(dim=1)
    measured = {
        "finite": (pose_2d.isfinite().all() & pose_3d.isfinite().all()).float(),
        "thigh": thigh.norm(dim=-1).median(),
        "knees": bend.clamp(min=0).sum() / bend.abs().sum(),
        "similarity": similarity.median(),
        "swapped": (_cosine(image, xy[:, _SIDES_SWAPPED]) > similarity).float().mean(),
        "outside": (pose_2d.abs().amax(dim=(1, 2)) > 1.5).float().mean(),
    }
    if pairs.camera.isfinite().all():
        error = (project(pairs.pose_3d, pairs.camera) - pose_2d).norm(dim=-1) * 500
        measured |= {"projection": error.max()} if exact else {"detection": error.mean()}
    faults = []
    for name, value in measured.items():
        minimum, maximum, message = _LIMITS[name]
        if not minimum <= value <= maximum:  # also true for NaN
            expected = f"expected {minimum:g} to {maximum:g}"
            faults.append(f"{message.format(float(value))}, {expected}")
    return faults


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.cosine_similarity(a.flatten(1), b.flatten(1))


def _check_file(
    path: Path, purpose: str, read: Callable[[Path], Pairs] | None, exact: bool
) -> FileReport:
    if not path.is_file():
        return FileReport(path.name, purpose, "", FILE_SOURCES[path.name])
    try:
        size = _size(path)
        if read is None:
            return FileReport(path.name, purpose, size, "checked together with each 2D file")
        faults = find_faults(read(path), exact)
    except Exception as error:  # any fault of a file is reported instead of ending the check
        return FileReport(path.name, purpose, "?", f"{type(error).__name__}: {error}", invalid=True)
    return FileReport(path.name, purpose, size, "; ".join(faults) or "valid", bool(faults))


def _size(path: Path) -> str:
    """Number of poses and joints of any file of ``FILE_SOURCES``."""
    archive = Archive(path)
    key = {"positions_3d", "positions_2d", "pose3d", "S"} & set(archive)
    clips = list(_arrays(archive[key.pop()]))
    joints = sorted({clip.shape[1] for clip in clips})
    return f"{sum(map(len, clips)):,} x {' or '.join(map(str, joints))}"


def _arrays(tree: Any) -> Iterator[Any]:
    """The pose arrays in nested dictionaries, lists and object arrays."""
    if isinstance(tree, np.ndarray) and tree.ndim:
        yield tree
    else:
        branches = tree.item() if isinstance(tree, np.ndarray) else tree
        for branch in branches.values() if isinstance(branches, dict) else branches:
            yield from _arrays(branch)


def main(argv: list[str] | None = None) -> int:
    """Print the tables. Returns 1 if a file is invalid."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reproduction.datasets",
        description="Check the files in a data folder.",
    )
    parser.add_argument("folder", type=Path)
    files = list(check_folder(parser.parse_args(argv).folder))
    found = Table("found", "", "poses x joints", "")
    missing = Table("missing", "", "where to get it")
    for table in (found, missing):
        table.columns[0].no_wrap = True
        table.columns[-1].overflow = "fold"
    for file in files:
        if file.size:
            found.add_row(*map(escape, (file.name, file.purpose, file.size, file.verdict)))
        else:
            missing.add_row(*map(escape, (file.name, file.purpose, file.verdict)))
    Console().print(found, missing)
    return int(any(file.invalid for file in files))


if __name__ == "__main__":
    raise SystemExit(main())
