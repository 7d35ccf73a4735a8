"""Replicas of public training scripts with the plugin, in every mix.

The scripts are in `replicas.py`, with a table that describes them.
"""

from __future__ import annotations

import copy
import functools
import math
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import replicas
import torch
from replicas import SCRIPTS, Script, VideoPose3D27, unslotted

from loop_helpers import changed_rows, reproject, same, seed_all, small, snapshot, streams
from poseaug_plugin import DataError, PoseAugmenter, PoseAugWarning, Skeleton

EPOCHS = 2
MIXES = ("off", "replace", "append", "alternate")
AUGMENTS = MIXES[1:]
TIMES = {"append": 2}  # rows per row of the plain script
DOUBLING_MIXES = {"alternate": 2}  # batches per batch of the plain script

each_script = pytest.mark.parametrize("script", SCRIPTS)
each_mix = pytest.mark.parametrize("mix", MIXES)
each_augmenting_mix = pytest.mark.parametrize("mix", AUGMENTS)


@pytest.fixture(autouse=True)
def _gradients_on() -> Iterator[None]:
    yield
    torch.set_grad_enabled(True)


class RecordingLoader:
    """Records copies of the batches, and may overwrite each batch after the script used it."""

    def __init__(self, script: Script, overwrite_used: bool) -> None:
        self.loader, self.fields, self.batch = script.loader, script.fields, None
        self.recorded: list[list[Any]] = []
        self.kinds: list[type] = []
        if overwrite_used:  # after the script's backward pass, before the plugin's update
            script.optimizer.register_step_pre_hook(lambda *_: overwrite(self.batch))

    def __iter__(self) -> Iterator[Any]:
        return self._record(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name == "next_epoch":
            return lambda: self._record(self.loader.next_epoch())
        return getattr(self.loader, name)

    def _record(self, batches: Any) -> Iterator[Any]:
        for self.batch in batches:
            self.kinds.append(type(self.batch))
            self.recorded.append(copy.deepcopy(self.fields(self.batch)))
            yield self.batch


def overwrite(value: Any) -> None:
    """Overwrite every array in a batch, in place."""
    if isinstance(value, (np.ndarray, torch.Tensor)):
        value[...] = 99
    elif isinstance(value, (dict, SimpleNamespace)):
        overwrite(list((value if isinstance(value, dict) else vars(value)).values()))
    elif isinstance(value, (list, tuple)):
        for part in value:
            overwrite(part)


class Run(NamedTuple):
    script: Script
    augmenter: PoseAugmenter | None
    moved: bool
    recorded: list[Any]
    kinds: list[type]
    lrs: list[float]
    evaluations: list[float]
    streams: list[Any]
    warnings: list[str]


def run(
    name: str,
    mix: str = "plain",
    overwrite_used: bool = False,
    report: bool = False,
    **config: Any,
) -> Run:
    seed_all()
    script = SCRIPTS[name]()
    before, augmenter, lrs = snapshot(script.model), None, []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if mix != "plain":
            how = dict(ratio=0.0) if mix == "off" else dict(mix=mix)
            augmenter = PoseAugmenter(
                script.model,
                script.optimizer,
                script.format,
                EPOCHS,
                config=small(**how, **config, joint_offset=0.0),  # keeps left and right bones equal
                predict=script.predict,
                report=report,
            )
            script.loader = augmenter.wrap(script.loader)
        recorder = script.loader = RecordingLoader(script, overwrite_used)
        groups = script.optimizer.param_groups
        script.optimizer.register_step_post_hook(lambda *_: lrs.append(groups[0]["lr"]))
        evaluations, ends = [], []
        for epoch in range(EPOCHS):
            seed_all(epoch)  # the same order of rows in every mix
            script.train()
            ends.append(streams())
            evaluations.append(script.evaluate())
    moved = not same(snapshot(script.model), before)
    messages = [str(w.message) for w in caught]
    return Run(
        script,
        augmenter,
        moved,
        recorder.recorded,
        recorder.kinds,
        lrs,
        evaluations,
        ends,
        messages,
    )


@functools.cache
def cached_run(name: str, mix: str = "plain") -> Run:
    return run(name, mix)


def pairs(name: str, mix: str) -> list[tuple[Any, Any]]:
    """Each plain batch and its augmented one; with append, only the augmented rows of it."""
    plain, recorded = cached_run(name).recorded, cached_run(name, mix).recorded
    if mix == "append":
        recorded = [tuple(part(field, 1) for field in batch) for batch in recorded]
    return list(zip(plain, recorded[DOUBLING_MIXES.get(mix, 1) - 1 :: DOUBLING_MIXES.get(mix, 1)]))


def part(field: Any, which: int) -> Any:
    """The real (0) or the augmented (1) rows of a field, which append interleaves."""
    return None if field is None else field[which::2]


def described(batch: Any) -> list[Any]:
    fields = [
        (type(f), getattr(f, "dtype", None), tuple(getattr(f, "shape", ()))[1:]) for f in batch
    ]
    return fields


def sizes(batch: Any) -> list[int | None]:
    return [None if field is None else len(field) for field in batch]


def rows_changed(plain: Any, augmented: Any) -> list[list[int]]:
    """The changed rows of each field; fields other than arrays must not change."""
    found = []
    for a, b in zip(plain, augmented):
        if isinstance(a, (np.ndarray, torch.Tensor)):
            assert a.shape == b.shape
            found.append(changed_rows(a.reshape(len(a), -1), b.reshape(len(a), -1)))
        else:
            assert (a is None) == (b is None)
            assert a is None or list(a) == list(b)
            found.append([])
    return found


# Training


@each_mix
@each_script
def test_steps_learning_rates_and_epochs_are_the_scripts_own(script: str, mix: str) -> None:
    plain, augmented = cached_run(script), cached_run(script, mix)
    times = DOUBLING_MIXES.get(mix, 1)
    assert augmented.moved
    assert all(map(math.isfinite, [*augmented.script.losses, *augmented.evaluations]))
    assert len(augmented.lrs) == len(augmented.recorded) == times * len(plain.lrs)
    if augmented.script.by_step:
        assert augmented.lrs[: len(plain.lrs)] == plain.lrs
    else:
        assert augmented.lrs == [lr for lr in plain.lrs for _ in range(times)]
    stats = augmented.augmenter.stats()
    assert stats["bad_batches"] == 0
    assert stats["epochs"] == (0 if mix == "off" else EPOCHS)
    assert stats["updates"] == (0 if mix == "off" else len(augmented.lrs) // times)
    expected = mix == "alternate" and augmented.script.norm
    assert ["BatchNorm" in words for words in augmented.warnings] == [True] * expected


@each_script
def test_with_ratio_0_results_equal_the_plain_script(script: str) -> None:
    plain, augmented = cached_run(script), cached_run(script, "off")
    for a, b in zip(plain, augmented):
        if isinstance(a, (Script, list)):
            a, b = (
                snapshot(x.model, x.optimizer) if isinstance(x, Script) else snapshot(x)
                for x in (a, b)
            )
            assert same(a, b)


@each_script
def test_replace_keeps_the_random_streams(script: str) -> None:
    assert cached_run(script, "replace").streams == cached_run(script).streams


#: Scripts whose rows a report cannot or only in part recognise, and why.
UNRECORDED = {
    "videopose3d semi": "input is of shape",  # with unlabelled rows at the end of the batch
    "mmpose": "computes the loss itself",
    "mmpose 27 frames": "computes the loss itself",
    "mmpose image": "computes the loss itself",
    "mmpose motionbert": "computes the loss itself",
}
MIRRORS = {"adaptpose"}  # half of the rows


@each_script
def test_training_shows_the_errors_on_the_rows_of_a_script(script: str) -> None:
    plain, recorded = cached_run(script, "replace"), run(script, "replace", report=True)
    assert recorded.evaluations == plain.evaluations
    assert recorded.streams == plain.streams
    assert same(*(snapshot(r.script.model, r.script.optimizer) for r in (recorded, plain)))
    augmenter = recorded.augmenter
    if script in UNRECORDED:
        with pytest.raises(DataError, match=UNRECORDED[script]):
            augmenter.report()
    else:
        share = augmenter.report().rows / augmenter.stats()["augmented"]
        assert 0 < share < 1 if script in MIRRORS else share == 1


# Batches


@each_mix
@each_script
def test_containers_types_and_shapes_are_kept(script: str, mix: str) -> None:
    plain, recorded = cached_run(script).recorded, cached_run(script, mix).recorded
    times = DOUBLING_MIXES.get(mix, 1)
    assert set(cached_run(script, mix).kinds) == set(cached_run(script).kinds)
    for i, batch in enumerate(recorded):
        given = plain[i // times]
        assert described(batch) == described(given)
        assert sizes(batch) == [n and n * TIMES.get(mix, 1) for n in sizes(given)]


@each_augmenting_mix
@each_script
def test_rows_that_are_not_augmented_are_equal_bit_for_bit(script: str, mix: str) -> None:
    if mix == "append":
        originals = [[part(f, 0) for f in batch] for batch in cached_run(script, mix).recorded]
    else:
        originals = cached_run(script, mix).recorded[:: DOUBLING_MIXES.get(mix, 1)]
    for given, kept in zip(cached_run(script).recorded, originals if mix != "replace" else []):
        assert same(snapshot(*given), snapshot(*kept))
    most = 0.5 if mix == "replace" else 1
    camera = {"videopose3d": 0, "stgcn": 0, "poseaug": 3, "adaptpose": 3}.get(
        str(cached_run(script).script.format)
    )
    counters = 0
    for given, augmented in pairs(script, mix):
        changed = rows_changed(given, augmented)
        chosen = max(changed, key=len)
        assert len(chosen) <= math.ceil(most * len(given[-1]))
        counters += len(chosen)
        for field, rows in enumerate(changed):
            numbers = np.asarray(given[field])
            of_pose = numbers.dtype.kind == "f" and numbers.ndim > 1 and numbers.any()
            assert rows == (chosen if of_pose or (field == camera and rows) else [])
    assert counters >= 0.2 * most * sum(len(given[-1]) for given in cached_run(script).recorded)


@each_augmenting_mix
@each_script
def test_augmented_rows_project_onto_their_own_2d(script: str, mix: str) -> None:
    off = cached_run(script).script.off
    for given, augmented in pairs(script, mix):
        rows = max(rows_changed(given, augmented), key=len)
        assert off(augmented)[rows].max(initial=0) < 1e-5


@each_augmenting_mix
@each_script
def test_the_plugin_keeps_no_reference_to_a_batch(script: str, mix: str) -> None:
    """Results are equal if each batch is overwritten between the script's use and the update."""
    clean, overwritten = cached_run(script, mix), run(script, mix, overwrite_used=True)
    assert same(snapshot(overwritten.recorded), snapshot(clean.recorded))
    for a, b in ((clean, overwritten), (clean.script, overwritten.script)):
        others = [getattr(x, "augmenter", None) or (x.model, x.optimizer) for x in (a, b)]
        assert same(*(snapshot(*o) if isinstance(o, tuple) else snapshot(o) for o in others))


# Evaluation


@each_augmenting_mix
@each_script
def test_in_evaluation_the_wrapped_loader_equals_the_plain_one(script: str, mix: str) -> None:
    def one_pass(loader: Any) -> list[Any]:
        seed_all()
        batches = loader.next_epoch() if hasattr(loader, "next_epoch") else loader
        return [snapshot(*replica.fields(batch)) for batch in batches]

    replica, plain = SCRIPTS[script](), SCRIPTS[script]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PoseAugWarning)
        augmenter = PoseAugmenter(
            replica.model, replica.optimizer, replica.format, config=small(mix=mix)
        )
    loader = augmenter.wrap(replica.loader)
    replica.model.eval()
    assert same(one_pass(loader), one_pass(plain.loader))
    replica.model.train()
    with torch.no_grad():
        assert same(one_pass(loader), one_pass(plain.loader))
    assert augmenter.stats()["batches"] == augmenter.stats()["epochs"] == 0


# Properties of single scripts


@pytest.mark.parametrize("script", ["poseformer", "motionbert", "motionagformer 3dhp"])
def test_a_parallel_wrapper_is_not_called(script: str) -> None:
    """DataParallel would scatter the plugin's rows over the devices."""
    plain, augmented = (cached_run(script, mix).script.model for mix in ("plain", "replace"))
    assert isinstance(augmented, replicas.Parallel)
    assert augmented.calls == plain.calls > 0


@each_augmenting_mix
def test_confidence_stays_with_its_row(mix: str) -> None:
    for given, augmented in pairs("motionbert", mix):
        assert torch.equal(given[0][..., 2], augmented[0][..., 2])


@each_augmenting_mix
def test_padding_rows_stay_zero(mix: str) -> None:
    found = 0
    for given, augmented in pairs("adaptpose", mix):
        invalid = ~given[0].flatten(1).any(1)
        found += int(invalid.sum())
        for field in (0, 1, 3):
            assert torch.equal(given[field][invalid], augmented[field][invalid])
    assert found == 2 * EPOCHS


@each_augmenting_mix
def test_a_root_in_its_slot_fits_the_2d(mix: str) -> None:
    """HumanEva's batches have the root position but no camera."""
    for given, augmented in pairs("videopose3d humaneva", mix):
        rows = max(rows_changed(given, augmented), key=len)
        pose_3d, pose_2d = unslotted(augmented[1])[rows], augmented[2][rows]
        ray = pose_3d[..., :2] / pose_3d[..., 2:]
        focal = (pose_2d * ray).sum((1, 2, 3)) / np.square(ray).sum((1, 2, 3))
        assert np.abs(focal[:, None, None, None] * ray - pose_2d).max(initial=0) < 1e-5
        assert ((focal > 1.1) & (focal < 2.3)).all()


@each_augmenting_mix
def test_a_target_in_image_space_is_a_symmetric_person(mix: str) -> None:
    """With the right focal length, left and right bones have equal lengths."""
    human = Skeleton.of("h36m_17")

    def asymmetry(uvd: np.ndarray, focal: float) -> float:
        depth = 1 + uvd[..., 2:] / focal
        pose = np.concatenate([uvd[..., :2] / focal * depth, depth], -1)
        left, right = (
            np.linalg.norm(pose[:, list(side)] - pose[:, [human.parents[j] for j in side]], axis=-1)
            for side in (human.left, human.right)
        )
        return float(np.abs(left / right - 1).max())

    for given, augmented in pairs("motionbert", mix):
        for row in max(rows_changed(given, augmented), key=len):
            uvd = augmented[1][row].double().numpy()
            assert min(asymmetry(uvd, f) for f in np.linspace(1.1, 2.3, 241)) < 0.01


# Windows with the 3D of their centre frame


@pytest.mark.parametrize("script", ["videopose3d 27 frames", "poseformer"])
def test_a_windows_2d_is_the_projection_of_its_moved_3d(script: str) -> None:
    """Only the view changes; the 3D of the windows is taken from a second generator."""
    replica = SCRIPTS[script]()
    assert isinstance(replica, VideoPose3D27.__mro__[1])
    hidden = replica.chunks(replica.poses_3d)  # the same order and flips, with 3D in place of 2D
    config = small("random", mix="append", ba=False, bl=False)
    augmenter = PoseAugmenter(replica.model, replica.optimizer, replica.format, config=config)
    checked = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batches = augmenter.wrap(replica.loader).next_epoch()
        for (_, _, window), (camera, centre, pose_2d) in zip(hidden.next_epoch(), batches):
            window, centre = unslotted(window), unslotted(centre)[:, 0]
            middle = window[:, replica.pad]
            assert np.allclose(middle, centre[::2], atol=1e-6)
            for row in range(len(window)):
                if np.array_equal(centre[2 * row], centre[2 * row + 1]):
                    continue
                old, new = centre[2 * row], centre[2 * row + 1]
                u, _, vt = np.linalg.svd((old - old[0]).T @ (new - new[0]))
                rotation = vt.T @ np.diag([1, 1, np.linalg.det(vt.T @ u.T)]) @ u.T
                moved = (window[row] - old[0]) @ rotation.T + new[0]
                off = reproject(moved[None], camera[2 * row + 1][None]) - pose_2d[2 * row + 1]
                assert np.abs(off).max() < 1e-5
                checked += 1
    assert checked > 10


def test_the_callers_sequences_are_not_written_to() -> None:
    replica = SCRIPTS["videopose3d 27 frames"]()
    before = snapshot(replica.poses_2d, replica.poses_3d, replica.cameras)
    augmenter = PoseAugmenter(replica.model, replica.optimizer, replica.format, config=small())
    inner, lists = replica.loader, (replica.loader.poses_2d, replica.loader.poses_3d)
    replica.loader = augmenter.wrap(inner)
    replica.train()
    assert same(snapshot(replica.poses_2d, replica.poses_3d, replica.cameras), before)
    assert (replica.poses_2d, replica.poses_3d) == lists
    augmenter.detach()
    plain = SCRIPTS["videopose3d 27 frames"]()
    for loader in (inner, plain.loader, replica.loader):
        loader.set_random_state(np.random.RandomState(5))
    passes = [[snapshot(*b) for b in g.next_epoch()] for g in (plain.loader, replica.loader)]
    assert same(*passes)
    assert inner.num_frames() == replica.loader.num_frames() == plain.loader.num_frames()


@pytest.mark.parametrize("how", ["dropped", "wrapped twice"])
def test_a_generator_is_changed_once(how: str) -> None:
    """By two augmenters, the first dropped without `detach()`, or by one that wraps it twice."""
    replica, plain = (SCRIPTS["videopose3d 27 frames"]() for _ in range(2))
    inner, attach = replica.loader, functools.partial(PoseAugmenter, config=small())
    lists = inner.poses_2d
    augmenter = attach(replica.model, replica.optimizer, replica.format)
    augmenter.wrap(inner)
    if how == "dropped":
        replica.optimizer = torch.optim.Adam(replica.model.parameters(), lr=1e-3)
        augmenter = attach(replica.model, replica.optimizer, replica.format)
    replica.loader = augmenter.wrap(inner)
    replica.train()
    assert augmenter.stats()["bad_batches"] == 0
    assert augmenter.stats()["augmented"] > 0
    augmenter.detach()
    assert inner.poses_2d is lists or how == "dropped"
    for loader in (inner, plain.loader):
        loader.set_random_state(np.random.RandomState(5))
    passes = [[snapshot(*b) for b in g.next_epoch()] for g in (plain.loader, inner)]
    assert same(*passes)


def test_every_script_is_in_the_table() -> None:
    assert (replicas.__doc__ or "").count("\n|") == 2 + len(SCRIPTS)
