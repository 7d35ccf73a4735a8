"""What to train on and what to test on, from one folder of the field's files or from none.

python -m benchmarks.reproduction.datasets FOLDER   # which files are there, which are wrong
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

from poseaug_plugin.data import synthetic as embedded
from poseaug_plugin.data.cross_dataset import TESTS, load_test
from poseaug_plugin.data.h36m import KEYPOINTS, OFFERS, TEST, TRAIN, Pairs, keypoint_name, load_h36m
from poseaug_plugin.geometry.camera import project

_SIDES_SWAPPED = [0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 13, 14, 15, 10, 11, 12]

# What `faults` measures: the least and the most that is right, and how to tell what is not.
_LIMITS = {
    "finite": (1.0, 1.0, "{:.1%} of the numbers are finite"),
    "thigh": (0.25, 0.65, "the median thigh is {:.3g} m long (are these metres?)"),
    "knees": (0.75, 1.0, "{:.0%} of the knees' bend is forwards (left and right swapped?)"),
    "likeness": (0.9, 1.0, "2D is like 3D to {:.2f} (frames shifted? y up?)"),
    "swapped": (0.0, 0.1, "2D has the sides of the 3D swapped in {:.0%} of the poses"),
    "outside": (0.0, 0.02, "{:.0%} of the 2D poses lie far outside the picture (which width?)"),
    "projection": (0.0, 1.0, "the 2D is up to {:.3g} px beside the projected 3D"),
    "detection": (0.0, 25.0, "the 2D is on average {:.3g} px beside the projected 3D"),
}


@dataclass(frozen=True)
class Sets:
    """Training pairs and test sets.

    Attributes:
        train: every frame of the training subjects.
        rows: (M,) long, ascending: the rows of ``train`` to train on; their windows see all of it.
        tests: ``source`` (S9 and S11), then the cross-dataset tests that are there: ``3dhp``,
            ``3dpw``, ``cross``.
        missing: the other cross-dataset tests: which file to put where, and how to get it.
    """

    train: Pairs
    rows: Tensor
    tests: dict[str, Pairs]
    missing: dict[str, str]


def sets(
    folder: Path | None,
    *,
    keypoints: str = "gt",
    subjects: Sequence[str] = TRAIN,
    fraction: float = 1.0,
    seed: int = 0,
) -> Sets:
    """Human3.6M's training and test pairs and every cross-dataset test in the folder.

    Args:
        folder: where the files lie; None for the embedded motion.
        keypoints: which 2D poses of Human3.6M, see ``h36m_files.KEYPOINTS``; cross-dataset tests
            have their own. The embedded motion has ``gt`` alone.
        subjects: whom to train on, some of ``TRAIN``.
        fraction: share of each clip's frames to train on, above 0 and up to 1; they lie evenly, and
            there is always one.
        seed: of the embedded motion.

    Raises:
        FileNotFoundError: a file of Human3.6M is not there.
        ValueError: an argument is none of the above, or a file does not hold what it should.
    """
    if not subjects or len(set(subjects) & set(TRAIN)) != len(subjects):
        raise ValueError(f"subjects are {list(subjects)}, expected some of {', '.join(TRAIN)}")
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}, expected above 0 and up to 1")
    if folder is None:
        if keypoints != "gt":
            raise ValueError(f"keypoints are {keypoints!r}, but the embedded motion has only 'gt'")
        everyone, source, cross = embedded.make(seed)
        train = everyone[torch.from_numpy(np.isin(everyone.subject, list(subjects)))]
        return Sets(train, evenly(train, fraction), {"source": source, "cross": cross}, {})
    train = load_h36m(folder, subjects, keypoints)
    tests, missing = {"source": load_h36m(folder, TEST, keypoints)}, {}
    for name in TESTS:
        try:
            tests[name] = load_test(name, folder)
        except FileNotFoundError as error:
            missing[name] = str(error)
    return Sets(train, evenly(train, fraction), tests, missing)


def windows(pairs: Pairs, frames: int) -> Tensor:
    """(N, frames) long: the rows of the window round each row, the ends of its clip repeated.

    Single frames have no neighbours: their windows repeat them. ``pairs.pose_2d[windows]`` is
    (N, frames, 16, 2), best taken a batch at a time.

    Raises:
        ValueError: ``frames`` is not a positive odd number.
    """
    if frames < 1 or frames % 2 == 0:
        raise ValueError(f"frames is {frames}, expected 1, 3, 5, ...: the row is in the middle")
    start, length = _clips(pairs)
    first = start.repeat_interleave(length)[:, None]
    last = (start + length - 1).repeat_interleave(length)[:, None]
    around = torch.arange(frames) - frames // 2
    return (torch.arange(len(pairs))[:, None] + around).clamp_(first, last)


def evenly(pairs: Pairs, fraction: float) -> Tensor:
    """(M,) long: rows that lie evenly in every clip, at least one of each."""
    start, length = _clips(pairs)
    kept = (length.double() * fraction).round().long().clamp(min=1)
    place = torch.arange(int(kept.sum())) - (kept.cumsum(0) - kept).repeat_interleave(kept)
    start, length, kept = (each.repeat_interleave(kept) for each in (start, length, kept))
    return start + (2 * place + 1) * length // (2 * kept)


def _clips(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """First row and length of each clip; single frames are clips of one."""
    if pairs.frame is None:
        return torch.arange(len(pairs)), torch.ones(len(pairs), dtype=torch.long)
    new = torch.ones(len(pairs), dtype=torch.bool)
    new[1:] = pairs.frame.diff() != 1
    start = new.nonzero()[:, 0]
    return start, start.diff(append=torch.tensor([len(pairs)]))


@dataclass(frozen=True)
class File:
    """What is known of one file of a data folder.

    Attributes:
        name: the file's.
        serves: what ``sets`` takes it for.
        size: its poses and their joints, empty where it is not there.
        verdict: "right" or what is wrong; for a file that is not there, how to get it.
        wrong: whether it is there and wrong.
    """

    name: str
    serves: str
    size: str
    verdict: str
    wrong: bool = False


def check(folder: Path) -> Iterator[File]:
    """Every file that is known by name or lies there as 2D of Human3.6M, one after the other.

    Opens pickles, as ``load_h36m`` does: only for folders that you trust.
    """
    yield _checked(folder / "data_3d_h36m.npz", "3D", None, exact=True)
    prefix = "data_2d_h36m_"
    there = (file.stem.removeprefix(prefix) for file in folder.glob(f"{prefix}*.npz"))
    short = {kind: name for name, kind in KEYPOINTS.items()}
    for kind in dict.fromkeys([*KEYPOINTS.values(), *sorted(there)]):
        read = functools.partial(_read_kind, kind)
        path = folder / keypoint_name(kind)
        yield _checked(path, f"2D {short.get(kind, kind)}", read, exact=kind == "gt")
    for name, files in TESTS.items():
        for file, reader in files.items():
            yield _checked(folder / file, f"test {name}", reader, exact=True)


def _read_kind(kind: str, path: Path) -> Pairs:
    return load_h36m(path.parent, [*TRAIN, *TEST], kind)


def faults(pairs: Pairs, exact: bool) -> list[str]:
    """What seems wrong with pairs of upright people, measured on up to 20,000 rows; empty: nothing.

    Pixels are those of a picture 1000 wide.

    Args:
        pairs: at least one.
        exact: whether the 2D is the projection of the 3D. Without cameras that is not measured.
    """
    pairs = pairs[:: max(1, len(pairs) // 20_000)]
    pose_2d, pose_3d = pairs.pose_2d, pairs.root_relative
    flat, screen = pose_3d[..., :2], pose_2d - pose_2d[:, :1]
    like = _cosine(screen, flat)
    thigh, shin = pose_3d[:, [2, 5]] - pose_3d[:, [1, 4]], pose_3d[:, [3, 6]] - pose_3d[:, [2, 5]]
    forward = torch.linalg.cross(pose_3d[:, 4] - pose_3d[:, 1], pose_3d[:, 8])
    bend = ((thigh - shin).sum(dim=1) * forward).sum(dim=1)
    measured = {
        "finite": (pose_2d.isfinite().all() & pose_3d.isfinite().all()).float(),
        "thigh": thigh.norm(dim=-1).median(),
        "knees": bend.clamp(min=0).sum() / bend.abs().sum(),
        "likeness": like.median(),
        "swapped": (_cosine(screen, flat[:, _SIDES_SWAPPED]) > like).float().mean(),
        "outside": (pose_2d.abs().amax(dim=(1, 2)) > 1.5).float().mean(),
    }
    if pairs.camera.isfinite().all():
        off = (project(pairs.pose_3d, pairs.camera) - pose_2d).norm(dim=-1) * 500
        measured |= {"projection": off.max()} if exact else {"detection": off.mean()}
    found = []
    for name, value in measured.items():
        least, most, words = _LIMITS[name]
        if not least <= value <= most:  # NaN is neither
            found.append(f"{words.format(float(value))}, expected {least:g} to {most:g}")
    return found


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.cosine_similarity(a.flatten(1), b.flatten(1))


def _checked(path: Path, serves: str, read: Callable[[Path], Pairs] | None, exact: bool) -> File:
    if not path.is_file():
        return File(path.name, serves, "", OFFERS[path.name])
    try:
        size = _size(path)
        if read is None:
            return File(path.name, serves, size, "to be judged with each 2D")
        wrong = faults(read(path), exact)
    except Exception as error:  # whatever is wrong with a file is to be told, not to end the check
        return File(path.name, serves, "?", f"{type(error).__name__}: {error}", wrong=True)
    return File(path.name, serves, size, "; ".join(wrong) or "right", bool(wrong))


def _size(path: Path) -> str:
    """Poses and joints of any file of ``OFFERS``."""
    with np.load(path, allow_pickle=True) as archive:
        key = {"positions_3d", "positions_2d", "pose3d", "S"} & set(archive.files)
        clips = list(_arrays(archive[key.pop()]))
    joints = sorted({clip.shape[1] for clip in clips})
    return f"{sum(map(len, clips)):,} x {' or '.join(map(str, joints))}"


def _arrays(tree: Any) -> Iterator[Any]:
    """The poses in nested dictionaries, lists and arrays of one object."""
    if isinstance(tree, np.ndarray) and tree.ndim:
        yield tree
    else:
        branches = tree.item() if isinstance(tree, np.ndarray) else tree
        for branch in branches.values() if isinstance(branches, dict) else branches:
            yield from _arrays(branch)


def main(argv: list[str] | None = None) -> int:
    """Print the table; 1 if a file that is there is wrong."""
    parser = argparse.ArgumentParser(description="Which files a data folder holds, and if right.")
    parser.add_argument("folder", type=Path)
    files = list(check(parser.parse_args(argv).folder))
    there, missing = Table("there", "", "poses x joints", ""), Table("not there", "", "get it")
    for table in (there, missing):
        table.columns[0].no_wrap = True
        table.columns[-1].overflow = "fold"
    for file in files:
        if file.size:
            there.add_row(*map(escape, (file.name, file.serves, file.size, file.verdict)))
        else:
            missing.add_row(*map(escape, (file.name, file.serves, file.verdict)))
    Console().print(there, missing)
    return int(any(file.wrong for file in files))


if __name__ == "__main__":
    raise SystemExit(main())
