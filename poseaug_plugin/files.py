"""Pose files, and loaders of a training script: read, checked and augmented without a training loop.

`read_poses` takes an `.npz` file in one of these layouts:

| layout | what is in it |
| --- | --- |
| arrays | one row per pose or clip: 2D (N, J, 2) and 3D (N, J, 3), or (N, T, J, 2 or 3); a camera (N, 9) and others as you like. PoseAug's test sets are such files |
| VideoPose3D | `data_3d_h36m.npz` and `data_2d_h36m_*.npz` in one folder, or the folder |
| SPIN | `mpi_inf_3dhp_valid.npz`, the test set of MPI-INF-3DHP |
"""  # noqa: E501

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .batches.check import CheckReport
from .batches.format import BatchFormat
from .batches.infer import infer_format
from .batches.presets import resolve_format
from .batches.protocol import Format
from .batches.reader import BatchReader
from .batches.windows import Windows
from .config import PoseAugConfig
from .data.archives import Archive
from .data.cross_dataset import load_3dhp
from .data.h36m import TRAIN, Pairs, load_h36m
from .errors import ConfigError
from .geometry.camera import Camera
from .geometry.skeleton import Skeleton
from .loop.loader import unwrapped
from .plugin import PoseAugmenter
from .progress import Progress, Silent

__all__ = ["PoseFile", "augment_file", "check", "preview_file", "read_poses"]

Array = NDArray[Any]
Batch = dict[str, Array]

BATCH = 1024  # rows
CHECKED = 3  # batches
PART = 16  # batches between two saves of `augment_file`
STATISTICS, SHOWN = 8, 64  # batches before a preview; rows of the batch that it is taken from


@dataclass(frozen=True)
class PoseFile:
    """The contents of a pose file.

    Attributes:
        layout: in words.
        rows: arrays with one entry per row.
        others: all other arrays.
        format: which arrays hold what.
        skeleton: the joints of the poses.
    """

    layout: str
    rows: Batch
    others: Batch
    format: Format
    skeleton: Skeleton

    def __len__(self) -> int:
        return len(next(iter(self.rows.values())))

    def take(self, rows: Array) -> Batch:
        """Return a batch of the given rows (B,)."""
        return {name: array[rows] for name, array in self.rows.items()}

    def batches(self, size: int = BATCH, seed: int = 0) -> Iterator[Batch]:
        """Yield all rows in random order."""
        order = np.random.default_rng(seed).permutation(len(self))
        for start in range(0, len(self), size):
            yield self.take(order[start : start + size])


def read_poses(
    path: str | Path,
    batch: Mapping[str, Any] | None = None,
    skeleton: Skeleton | str | None = None,
) -> PoseFile:
    """Read a pose file in any layout of this module's table.

    Args:
        path: an `.npz` file, or a folder with VideoPose3D's files.
        batch: arguments of `BatchFormat` for the layout "arrays": names of the arrays
            (`pose_2d="kp"`), units (`unit=0.001`, `screen=(1000, 1002)`). What is missing is
            inferred from the shapes.
        skeleton: a `Skeleton` or the name of a preset. None: the preset with as many joints.

    Raises:
        FileNotFoundError: there is no such file, or one that belongs to it is missing.
        ValueError: the file is damaged or has unexpected contents.
        PoseAugError: the arrays cannot be told apart, or `batch` does not fit them.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}")
    if batch is not None:
        if not isinstance(batch, Mapping):
            raise ConfigError(
                f"batch={batch!r} describes the batches of a training loop, but a pose file has "
                "arrays with names: pass a mapping, such as batch=dict(pose_2d='kp', unit=0.001), "
                "or leave it out."
            )
        resolve_format({"pose_2d": "", "pose_3d": " ", **batch})  # raises on unknown names
    if path.is_dir() or path.name.startswith(("data_2d_", "data_3d_")):
        if batch:
            raise ConfigError(f"{path.name} has a fixed layout; leave out batch=.")
        return _read_h36m(path)
    archive = Archive(path)
    if {"imgname", "part", "S"} <= set(archive) and not batch:
        return _of_pairs(load_3dhp(path), "MPI-INF-3DHP's test set as in SPIN")
    arrays = {name: archive[name] for name in archive}
    objects = [name for name, array in arrays.items() if array.dtype.hasobject]
    if objects:
        raise ValueError(
            f"{path.name}: {objects} are object arrays, expected numbers or strings. VideoPose3D's "
            "files are recognised by their names, data_3d_h36m.npz and data_2d_h36m_*.npz"
        )
    sizes = Counter(len(array) for array in arrays.values() if array.ndim)
    count = sizes.most_common(1)[0][0] if sizes else 0
    if not count:
        raise ValueError(f"{path.name} has no rows; its arrays are {_shapes(arrays)}")
    rows = {name: a for name, a in arrays.items() if a.ndim and len(a) == count}
    others = {name: a for name, a in arrays.items() if name not in rows}
    fmt, tree = _format_of(rows, dict(batch or {}), skeleton)
    return PoseFile("arrays", rows, others, fmt, tree)


def check(
    source: Any,
    batch: Any = None,
    *,
    skeleton: Any = None,
    camera: Camera | None = None,
    batches: int = CHECKED,
) -> list[CheckReport]:
    """Check data without a model: a loader, or a pose file.

    Problems are reported, not raised. `PoseAugmenter.check` does the same for a loader.

    Args:
        source: a loader of batches, or what `read_poses` returned.
        batch, skeleton, camera: as for `PoseAugmenter`; a file brings the first two.
        batches: number of batches to check; of a file, random ones.

    Raises:
        PoseAugError: a batch cannot be read, or there is none.

    >>> from poseaug_plugin.data.synthetic import make
    >>> some = make()[0][:64]
    >>> (report,) = check([(some.pose_3d, some.pose_2d, some.action, some.camera)], "poseaug")
    >>> report.ok
    True
    """
    fmt = None if batch is None else resolve_format(batch)
    tree = None if skeleton is None else Skeleton.of(skeleton)
    if isinstance(source, PoseFile):
        source, fmt, tree = source.batches(), source.format, source.skeleton
    reader, inner = BatchReader(fmt, tree, camera), unwrapped(source)
    with Windows.for_a_look(inner, fmt) as windows:
        return reader.report(inner, batches, windows.split if windows else None)


def augment_file(
    source: str | Path,
    target: str | Path,
    copies: int = 1,
    *,
    config: PoseAugConfig | Mapping[str, Any] | str | None = None,
    batch: Mapping[str, Any] | None = None,
    skeleton: Skeleton | str | None = None,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Write a pose file with augmented copies of its rows, for training without the plugin.

    A fixed set is less than what `PoseAugmenter` gives, new poses in every epoch. It is for loops
    that cannot be changed.

    The target has the arrays of the source: first its rows, then each copy of them in the same
    order. Fields that do not describe the pose, such as an action, are repeated; under `default`
    the pose of a row may come from another row. A row whose augmented pair is not usable stays as
    it is. VideoPose3D's layout has one motion for four fixed cameras and cannot hold new views, so
    those files become the arrays pose2d, pose3d, cam, subject and action.

    An interrupted call goes on where it was when it is repeated, and the result is the same. Until
    it is finished, its parts are in the folder `{target}.parts`.

    Args:
        source: a file that `read_poses` takes.
        target: the `.npz` file to write.
        copies: augmented copies of each row.
        config: as for `PoseAugmenter`, without learned networks, for which there is no model here.
            All rows are augmented.
        batch, skeleton: as for `read_poses`.
        progress: told how far it is. Its `total` is set here.

    Returns:
        `rows`, those written; `augmented`, those of them that are new; `accepted`, their share of
        the copies.

    Raises:
        ConfigError: the config has learned networks, or `copies` is below 1.
        DataError: the data has a problem, see `check`.
        FileExistsError: the target exists, or its parts are of a call with other arguments.
        FileNotFoundError, ValueError, PoseAugError: as `read_poses`.
    """
    target, chosen = Path(target), PoseAugConfig.of(config).replace(ratio=1.0, mix="replace")
    if copies < 1:
        raise ConfigError(f"copies={copies} must be 1 or more.")
    if target.exists():
        raise FileExistsError(f"{target} exists; delete it or write to another file")
    file = read_poses(source, batch, skeleton)
    augmenter, optimizer = _augmenter(file, chosen)
    size = min(BATCH, len(file))
    orders = [np.random.default_rng([chosen.seed, i]).permutation(len(file)) for i in range(copies)]
    chunks = [
        (copy, order[start : start + size * PART])
        for copy, order in enumerate(orders)
        for start in range(0, len(file), size * PART)
    ]
    progress = progress or Silent()
    progress.total = len(file) * copies
    parts = _Parts(target, f"{Path(source).resolve()} {copies} {file.format} {chosen}")
    done = parts.resume(augmenter)
    for number, (copy, rows) in enumerate(chunks):
        if number >= done:
            if number == done or copy != chunks[number - 1][0]:
                progress.start(f"augmenting {len(file)} rows, copy {copy + 1} of {copies}")
            made = []
            for start in range(0, len(rows), size):
                made.append(augmenter(file.take(rows[start : start + size])))
                optimizer.step()  # the loop of a training script does
            parts.add(number, {k: np.concatenate([b[k] for b in made]) for k in made[0]}, augmenter)
        progress.advance(len(rows))
    out = {name: np.concatenate([array] * (1 + copies)) for name, array in file.rows.items()}
    for number, (copy, rows) in enumerate(chunks):
        for name, array in parts.read(number).items():
            out[name][(copy + 1) * len(file) + rows] = array
    parts.finish({**out, **file.others})
    counts = augmenter.stats()
    return {
        "rows": float(len(file) * (1 + copies)),
        "augmented": counts["augmented"],
        "accepted": counts["accepted"],
    }


def preview_file(
    source: str | Path,
    picture: str | Path | None = None,
    page: str | Path | None = None,
    *,
    config: PoseAugConfig | Mapping[str, Any] | str | None = None,
    batch: Mapping[str, Any] | None = None,
    skeleton: Skeleton | str | None = None,
    seed: int = 0,
) -> None:
    """Draw what the augmentation makes of a pose file.

    Args:
        source: a file that `read_poses` takes.
        picture: the image file to write, see `plots.plot_augmented`. It needs matplotlib.
        page: the HTML file to write, on which poses can be turned, see `plots.augmented_page`.
        config: as for `PoseAugmenter`, without learned networks, for which there is no model here.
        batch, skeleton: as for `read_poses`.
        seed: which rows are shown.

    Raises:
        ConfigError: the config has learned networks.
        DataError: the data has a problem, see `check`.
        ImportError: matplotlib is missing.
        FileNotFoundError, ValueError, PoseAugError: as `read_poses`.
    """
    file = read_poses(source, batch, skeleton)
    augmenter, optimizer = _augmenter(file, PoseAugConfig.of(config).replace(ratio=1.0))
    for some in itertools.islice(file.batches(), STATISTICS):  # `default` needs statistics of poses
        augmenter(some)
        optimizer.step()
    shown = next(file.batches(SHOWN, seed))
    if page is not None:
        from .plots.page import augmented_page

        augmented_page(augmenter, shown, page)
    if picture is not None:
        from .plots.poses import plot_augmented

        plot_augmented(augmenter, shown, picture)


def _augmenter(
    file: PoseFile, config: PoseAugConfig
) -> tuple[PoseAugmenter, torch.optim.Optimizer]:
    """An augmenter for the file's rows, and the optimizer that stands for that of a loop."""
    if config.learns:
        raise ConfigError(
            "learned networks and ranges of views need a model, and there is none here; pass "
            "config='default' or 'random', or use PoseAugmenter in the training loop."
        )
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    augmenter = PoseAugmenter(model, optimizer, file.format, config=config, skeleton=file.skeleton)
    return augmenter, optimizer


class _Parts:
    """The parts of a file in the making, and the augmenter's state after the last of them."""

    def __init__(self, target: Path, call: str) -> None:
        self._target, self._call = target, call
        self._folder = target.with_name(f"{target.name}.parts")

    def resume(self, augmenter: PoseAugmenter) -> int:
        """Restore the augmenter, and return the number of parts that there are."""
        saved = self._folder / "state.pt"
        if not saved.exists():
            return 0
        state = torch.load(saved, weights_only=True)
        if state["call"] != self._call:
            raise FileExistsError(
                f"{self._folder} has the parts of a call with other arguments; delete it or write "
                "to another file"
            )
        augmenter.load_state_dict(state["augmenter"])
        return int(state["done"])

    def add(self, number: int, rows: Batch, augmenter: PoseAugmenter) -> None:
        self._write(f"{number}.npz", rows)
        saved = self._folder / "state.pt"
        state = {"call": self._call, "done": number + 1, "augmenter": augmenter.state_dict()}
        torch.save(state, saved.with_suffix(".new"))
        os.replace(saved.with_suffix(".new"), saved)

    def read(self, number: int) -> Batch:
        with np.load(self._folder / f"{number}.npz") as arrays:
            return dict(arrays)

    def finish(self, arrays: Batch) -> None:
        """Write the target and delete the parts."""
        os.replace(self._write("all.npz", arrays), self._target)
        shutil.rmtree(self._folder)

    def _write(self, name: str, arrays: Batch) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / name
        with path.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        return path


def _read_h36m(path: Path) -> PoseFile:
    folder = path if path.is_dir() else path.parent
    named = path.name if path.name.startswith("data_2d_h36m_") else ""
    found = sorted(file.name for file in folder.glob("data_2d_h36m_*.npz"))
    exact = "data_2d_h36m_gt.npz"
    file = named or (exact if exact in found or not found else found[0])
    kind = file.removeprefix("data_2d_h36m_").removesuffix(".npz")
    pairs = load_h36m(folder, TRAIN, kind)
    return _of_pairs(pairs, f"VideoPose3D's, data_3d_h36m.npz and {file}, {', '.join(TRAIN)}")


def _of_pairs(pairs: Pairs, layout: str) -> PoseFile:
    rows = {
        "pose2d": pairs.pose_2d.numpy(),
        "pose3d": pairs.pose_3d.numpy(),
        "cam": pairs.camera.numpy(),
        "subject": pairs.subject,
        "action": pairs.action,
    }
    if not np.isfinite(rows["cam"]).all():
        del rows["cam"]
    fmt, tree = infer_format(rows, Skeleton.of("h36m_16"))
    return PoseFile(layout, rows, {}, fmt, tree)


def _format_of(
    rows: Batch, settings: dict[str, Any], skeleton: Skeleton | str | None
) -> tuple[Format, Skeleton]:
    """The format of arrays: what the settings say, and the rest from the shapes."""
    tree = None if skeleton is None else Skeleton.of(skeleton)
    if {"pose_2d", "pose_3d", "root"} <= settings.keys():
        fmt = BatchFormat(**settings)
        return fmt, tree or fmt.guess_skeleton(rows)
    named = {settings[key] for key in ("pose_2d", "pose_3d", "camera") if key in settings}
    few = {name: array[:BATCH] for name, array in rows.items() if not named or name in named}
    fmt, tree = infer_format(few, tree)
    return dataclasses.replace(fmt, **settings), tree


def _shapes(arrays: Mapping[str, Array]) -> dict[str, Iterable[int]]:
    return {name: array.shape for name, array in arrays.items()}
