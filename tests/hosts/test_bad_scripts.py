"""Scripts whose batches do not match their format: an error at first, or one warning later.

`tests/behaviour/test_bad_input.py` tests the same with batches of PoseAug's own format.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from replicas import SCRIPTS, Chunks, Martinez, Script

from loop_helpers import same, seed_all, small, snapshot, streams
from poseaug_plugin import (
    BatchError,
    ConfigError,
    DataError,
    PoseAugmenter,
    PoseAugWarning,
    Skeleton,
    SkeletonError,
)
from poseaug_plugin.batches.presets import martinez

H36M = Skeleton.of("h36m_17")


def attach(script: Script, fmt: Any = None, **config: Any) -> PoseAugmenter:
    config = small(**config) if config else small()
    fmt = script.format if fmt is None else fmt
    return PoseAugmenter(script.model, script.optimizer, fmt, config=config, predict=script.predict)


class BadLoader:
    """A loader whose batches are changed by a function."""

    def __init__(self, loader: Any, change: Callable[[list[Any]], Any]) -> None:
        self.loader, self.change = loader, change

    def __iter__(self) -> Iterator[Any]:
        return (self.change(list(batch)) for batch in self.loader)

    def next_epoch(self) -> Iterator[Any]:
        return (self.change(list(batch)) for batch in self.loader.next_epoch())


def field(at: int, change: Callable[[Any], Any]) -> Callable[[list[Any]], Any]:
    def changed(batch: list[Any]) -> list[Any]:
        batch[at] = change(batch[at])
        return batch

    return changed


def mm(pose: Any) -> Any:
    return pose * 1000


def upside_down(pose: Any) -> Any:
    sign = np.array([1.0, -1.0, 1.0])[: pose.shape[-1]]
    return pose * (torch.from_numpy(sign).to(pose) if isinstance(pose, torch.Tensor) else sign)


def swapped(pose: Any) -> Any:
    order = list(range(17))
    for left, right in zip(H36M.left, H36M.right):
        order[left], order[right] = right, left
    return pose[..., order, :]


def world(pose: Any) -> Any:
    if isinstance(pose, torch.Tensor):
        return torch.stack([pose[..., 0], pose[..., 2], -pose[..., 1]], -1)
    return np.stack([pose[..., 0], pose[..., 2], -pose[..., 1]], -1)


def fourteen(pose: Any) -> Any:
    return pose[..., :14, :]


def pixels(pose: Any) -> Any:
    return pose * 500 + 500


#: script, how its batches are changed, the error, and a pattern of its message.
BAD_FIRST: dict[str, tuple[str, Callable[[list[Any]], Any], type, str]] = {
    "videopose3d mm": ("videopose3d", field(1, mm), DataError, r"longest bone.*unit=0.001"),
    "videopose3d flipped y": ("videopose3d", field(2, upside_down), DataError, "y flipped"),
    "videopose3d sides": ("videopose3d", field(2, swapped), DataError, "left and right swapped"),
    "videopose3d world": ("videopose3d", field(1, world), DataError, "world frame"),
    "videopose3d pixels": ("videopose3d", field(2, pixels), DataError, "2D is in pixels"),
    "videopose3d joints": (
        "videopose3d",
        lambda b: [b[0], fourteen(b[1]), fourteen(b[2])],
        SkeletonError,
        r"14 joints.*skeleton=",
    ),
    "videopose3d unlabelled": (
        "videopose3d",
        field(1, lambda pose: None),
        BatchError,
        r"pose_3d \(field 1\)",
    ),
    "semgcn mm": ("semgcn gcn", field(0, mm), DataError, r"longest bone.*unit=0.001"),
    "semgcn flipped y": ("semgcn gcn", field(1, upside_down), DataError, "y flipped"),
    "stgcn mm": ("stgcn", field(1, mm), DataError, r"longest bone.*unit=0.001"),
    "stgcn flipped y": ("stgcn", field(2, upside_down), DataError, "y flipped"),
    "stgcn sides": ("stgcn", field(1, swapped), DataError, "left and right swapped"),
    "stgcn world": ("stgcn", field(1, world), DataError, "world frame"),
    "stgcn pixels": ("stgcn", field(2, pixels), DataError, "2D is in pixels"),
    "motionbert flipped y": ("motionbert", field(0, upside_down), DataError, "y flipped"),
    "motionbert sides": ("motionbert", field(1, swapped), DataError, "left and right swapped"),
    "motionbert pixels": ("motionbert", field(1, pixels), DataError, "residual|longest|differ"),
    "motionbert joints": (
        "motionbert",
        lambda b: [fourteen(x) for x in b],
        BatchError,
        r"\(8, 9, 14, 3\), expected .*\(B, T, 17, 2\)",
    ),
    "motionagformer mm": ("motionagformer 3dhp", field(1, mm), DataError, "longest bone"),
    "motionagformer y": ("motionagformer 3dhp", field(1, upside_down), DataError, "y flipped"),
    "motionagformer Human3.6M's joints": (
        "motionagformer 3dhp",
        lambda b: [x[:, :, [14, 15, 1, 0, 16, *range(2, 14)]] for x in b],
        DataError,
        "another order than the skeleton's; pass the data's skeleton=",
    ),
    "adaptpose padding alone": (
        "adaptpose",
        lambda b: [b[0] * 0, b[1] * 0, *b[2:]],
        BatchError,
        "every row is padding",
    ),
    "adaptpose world": ("adaptpose", field(0, world), DataError, "world frame"),
    "adaptpose mm": ("adaptpose", field(0, mm), DataError, "unit=0.001"),
    "martinez with hip": (
        "martinez",
        field(1, lambda x: torch.cat([x[:, :3], x], 1)),
        BatchError,
        r"pose_3d \(field 1\) has shape \(8, 51\), expected .*\(B, 48\)",
    ),
}


@pytest.mark.parametrize("what", BAD_FIRST)
def test_a_wrong_first_batch_raises_and_changes_nothing(what: str) -> None:
    name, change, kind, pattern = BAD_FIRST[what]
    seed_all()
    script = SCRIPTS[name]()
    augmenter = attach(script)
    script.loader = augmenter.wrap(BadLoader(script.loader, change))
    before = snapshot(script.model, script.optimizer)
    with pytest.raises(kind, match=pattern):
        script.train()
    assert same(snapshot(script.model, script.optimizer), before)
    assert script.losses == []


@pytest.mark.parametrize("fmt", ["semgcn", "poseaug", "motionbert", "mpi3dhp"])
def test_another_codebases_format_raises(fmt: str) -> None:
    script = SCRIPTS["videopose3d"]()
    with pytest.raises((BatchError, SkeletonError), match="joints"):
        next(iter(attach(script, fmt).wrap(script.loader).next_epoch()))


@pytest.mark.parametrize(
    ("name", "fmt"), [("motionagformer 3dhp", "motionbert"), ("motionbert", "mpi3dhp")]
)
def test_metric_and_image_space_are_told_apart(name: str, fmt: str) -> None:
    """The batches of MotionAGFormer's two data sets have equal shapes."""
    script = SCRIPTS[name]()
    with pytest.raises(DataError):
        next(iter(attach(script, fmt).wrap(script.loader)))


#: The root that a format names, and the root of the batches.
ROOTS = {
    "absolute, is relative": ("semgcn gcn", dict(pose_3d=0, pose_2d=1, root="absolute")),
    "slot, is relative": ("semgcn gcn", dict(pose_3d=0, pose_2d=1, root="slot")),
    "relative, is absolute": ("poseaug baseline", dict(pose_3d=0, pose_2d=1, root="relative")),
    "slot, is absolute": ("poseaug baseline", dict(pose_3d=0, pose_2d=1, camera=3, root="slot")),
    "absolute, is slot": ("videopose3d", dict(pose_3d=1, pose_2d=2, camera=0, root="absolute")),
    "relative, is slot": ("videopose3d", dict(pose_3d=1, pose_2d=2, camera=0, root="relative")),
}


@pytest.mark.parametrize("what", ROOTS)
def test_a_wrong_root_raises_an_error_that_names_the_right_one(what: str) -> None:
    name, fmt = ROOTS[what]
    script = SCRIPTS[name]()
    loader = attach(script, fmt).wrap(script.loader)
    with pytest.raises(DataError, match=f"root='{what.split()[-1]}'"):
        next(iter(loader.next_epoch() if hasattr(loader, "next_epoch") else loader))


# Martinez' statistics


def test_martinez_by_name_raises_and_names_the_statistics() -> None:
    with pytest.raises(ConfigError, match=r"also of the 2D.*stat_2d=\(mean, std\)"):
        attach(SCRIPTS["martinez"](), "martinez")


@pytest.mark.parametrize("seed", range(4))
def test_martinez_without_2d_statistics_raises(seed: int) -> None:
    """Standardised 2D read as pixels has people a few pixels tall, hundreds of metres away."""
    seed_all(seed)
    script = SCRIPTS["martinez"]()
    assert isinstance(script, Martinez)
    with pytest.raises((ConfigError, DataError, BatchError), match=r"stat_2d|2D"):
        next(iter(attach(script, martinez(None, script.stat_3d)).wrap(script.loader)))  # type: ignore[arg-type]


@pytest.mark.parametrize("which", [0, 1])
def test_martinez_with_statistics_of_all_dimensions_raises(which: int) -> None:
    """The upstream files have 64 and 96 dimensions, the fields only those in use."""
    script = SCRIPTS["martinez"]()
    assert isinstance(script, Martinez)
    stats = [script.stat_2d, script.stat_3d]
    stats[which] = tuple(np.resize(x, 2 * len(x)) for x in stats[which])  # type: ignore[assignment]
    name = ("stat_2d", "stat_3d")[which]
    with pytest.raises((ConfigError, BatchError), match=name):
        next(iter(attach(script, martinez(*stats)).wrap(script.loader)))


def test_martinez_with_y_up_raises() -> None:
    script = SCRIPTS["martinez"]()
    assert isinstance(script, Martinez)
    mean, std = script.stat_2d
    up = (np.where(np.arange(32) % 2, 1000 - mean, mean), std)
    change = field(0, lambda x: upside_down(x.view(-1, 16, 2)).flatten(1))
    augmenter = attach(script, martinez(up, script.stat_3d))
    with pytest.raises(DataError, match="y flipped"):
        next(iter(augmenter.wrap(BadLoader(script.loader, change))))


def test_martinez_statistics_in_metres_raise() -> None:
    script = SCRIPTS["martinez"]()
    assert isinstance(script, Martinez)
    metres = (script.stat_3d[0] / 1000, script.stat_3d[1] / 1000)
    with pytest.raises(DataError, match=r"longest bone.*unit=1\b"):
        next(iter(attach(script, martinez(script.stat_2d, metres)).wrap(script.loader)))


# Windows whose 3D is not available


class BatchesOnly:
    """A generator without public attributes."""

    def __init__(self, inner: Chunks) -> None:
        self._inner = inner

    def next_epoch(self) -> Any:
        return self._inner.next_epoch()


def batches_only(chunks: Chunks) -> Any:
    return BatchesOnly(chunks)


def causal(chunks: Chunks) -> Any:
    chunks.causal_shift = chunks.pad
    return chunks


def resized(chunks: Chunks) -> Any:
    """As GLA-GCN's generator, which rotates and scales the targets alone."""
    fill = chunks._fill

    def fill_and_resize(row: int, *where: Any) -> None:
        fill(row, *where)
        chunks.batch_3d[row] *= 1.05

    chunks._fill = fill_and_resize  # type: ignore[method-assign]
    return chunks


@pytest.mark.parametrize("hide", [batches_only, causal, resized])
def test_windows_without_their_3d_are_returned_unchanged_with_one_warning(hide: Any) -> None:
    script, plain = SCRIPTS["videopose3d 27 frames"](), SCRIPTS["videopose3d 27 frames"]()
    augmenter = attach(script)
    script.loader = augmenter.wrap(hide(script.loader))
    with pytest.warns(PoseAugWarning, match=r"centre.*does not change the 3D alone") as caught:
        found = [snapshot(*batch) for batch in script.loader.next_epoch()]
    assert len(caught) == 1
    assert same(found, [snapshot(*batch) for batch in hide(plain.loader).next_epoch()])
    script.train()  # the script still runs


def test_a_generator_with_other_2d_joints_raises() -> None:
    script = SCRIPTS["videopose3d 27 frames"]()
    script.loader.poses_2d = [pose[:, :16] for pose in script.loader.poses_2d]
    script.loader.batch_2d = script.loader.batch_2d[:, :, :16]
    script.loader.kps_left, script.loader.kps_right = [4, 5, 6], [1, 2, 3]
    with pytest.raises((BatchError, DataError), match="joints"):
        next(iter(attach(script).wrap(script.loader).next_epoch()))


@pytest.mark.parametrize("name", ["videopose3d", "videopose3d 27 frames"])
def test_a_generator_with_other_2d_keypoints_raises_or_warns(name: str) -> None:
    """COCO's 2D, which VideoPose3D can use as well, has as many joints but other ones."""
    script = SCRIPTS[name]()
    order = [9, 9, 9, 10, 10, 11, 14, 12, 15, 13, 16, 4, 1, 5, 2, 6, 3]
    script.loader.poses_2d = [pose[:, order] for pose in script.loader.poses_2d]
    coco = Skeleton.of("coco_17")
    script.loader.kps_left, script.loader.kps_right = list(coco.left), list(coco.right)
    batches = attach(script).wrap(script.loader).next_epoch()
    with pytest.raises((DataError, PoseAugWarning), match=r"does not project|unchanged"):
        next(batches)


class SecondBatchChanged(Chunks):
    """A generator whose second batch is changed by a function."""

    change: Callable[[Any], Any]

    def next_epoch(self) -> Iterator[Any]:
        for i, batch in enumerate(super().next_epoch()):
            yield type(self).change(batch) if i == 1 else batch


@pytest.mark.parametrize(
    "change",
    [lambda b: (b[0], None, b[2]), lambda b: None, lambda b: (b[0], b[1], b[2][:, :, :9])],
    ids=["unlabelled", "None", "fewer joints"],
)
def test_a_bad_batch_of_a_generator_does_not_end_the_run(change: Any) -> None:
    script = SCRIPTS["videopose3d 27 frames"]()
    script.loader.__class__ = type("Once", (SecondBatchChanged,), {"change": staticmethod(change)})
    augmenter = attach(script)
    with pytest.warns(PoseAugWarning, match="unchanged") as caught:
        batches = [batch is not None for batch in augmenter.wrap(script.loader).next_epoch()]
    assert len(batches) == script.loader.num_batches
    assert len(caught) == 1
    assert augmenter.stats()["bad_batches"] == 1
    assert augmenter.stats()["batches"] == len(batches) - 1


# Later batches


BAD_LATER: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "unlabelled": ("videopose3d", lambda b: (b[0], None, b[2])),
    "camera gone": ("videopose3d", lambda b: (b[0][:2], *b[1:])),
    "no batch": ("videopose3d", lambda b: None),
    "seven fields": ("stgcn", lambda b: b[1:]),
    "other joints": ("stgcn", lambda b: [b[0], b[1][:, :, :16], b[2][:, :, :16], *b[3:]]),
    "fewer targets": ("motionbert", lambda b: [b[0], b[1][:3]]),
    "NaN": ("motionbert", lambda b: [b[0], b[1] * float("nan")]),
    "NaN in flat": ("martinez", lambda b: [b[0] * float("nan"), b[1]]),
    "a dict": ("martinez", lambda b: {"2d": b[0], "3d": b[1]}),
    "padding alone": ("adaptpose", lambda b: [b[0] * 0, b[1] * 0, *b[2:]]),
}


@pytest.mark.parametrize("what", BAD_LATER)
def test_a_bad_batch_later_on_is_returned_unchanged(what: str) -> None:
    name, change = BAD_LATER[what]
    script = SCRIPTS[name]()
    epoch = script.loader.next_epoch() if hasattr(script.loader, "next_epoch") else script.loader
    first, second = ([None if f is None else f[:8] for f in b] for b, _ in zip(epoch, range(2)))
    bad = change(second)
    batches = [first, bad, second, bad]
    before = snapshot(bad)
    augmenter = attach(script)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = list(augmenter.wrap(batches))
    assert same(snapshot(found[1], found[3]), before * 2)
    assert len(caught) == (what != "padding alone")  # padding is not bad
    stats = augmenter.stats()
    by_row = what in ("NaN", "NaN in flat")
    assert stats["bad_batches"] == (0 if by_row or what == "padding alone" else 2)
    assert stats["bad_rows"] == (16 if by_row else 0)
    assert augmenter.stats()["augmented"] > 0


# Checking before training


@pytest.mark.parametrize("name", SCRIPTS)
def test_check_finds_no_problem_in_any_script_and_changes_nothing(name: str) -> None:
    seed_all()
    script, plain = SCRIPTS[name](), SCRIPTS[name]()
    augmenter = attach(script)
    loader = augmenter.wrap(script.loader)
    before = streams()
    reports = [*augmenter.check(loader), *augmenter.check(script.loader)]
    assert streams() == before
    assert all(report.ok for report in reports), reports
    assert max(report.residual for report in reports) < 0.02
    augmenter.disable()

    def one_pass(source: Any) -> list[Any]:
        seed_all()
        epoch = source.next_epoch() if hasattr(source, "next_epoch") else source
        return [snapshot(*script.fields(batch)) for batch in epoch]

    assert same(one_pass(loader), one_pass(plain.loader))
