"""Public training scripts with the plugin's three lines, in every mix: what they must not notice.

`replicas.py` holds the scripts and a table of what each is like.
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
from poseaug_plugin import PoseAugmenter, PoseAugWarning, Skeleton

EPOCHS = 2
MIXES = ("off", "replace", "append", "alternate")
AUGMENTS = MIXES[1:]
TIMES = {"append": 2}  # rows per row
DOUBLING_MIXES = {"alternate": 2}  # batches per batch

each_script = pytest.mark.parametrize("script", SCRIPTS)
each_mix = pytest.mark.parametrize("mix", MIXES)
each_augmenting_mix = pytest.mark.parametrize("mix", AUGMENTS)


@pytest.fixture(autouse=True)
def _gradients_on() -> Iterator[None]:
    yield
    torch.set_grad_enabled(True)


class Spy:
    """The loader as a script sees it; copies every batch, and spoils it once it has been used."""

    def __init__(self, script: Script, spoil: bool) -> None:
        self.loader, self.fields, self.batch = script.loader, script.fields, None
        self.seen: list[list[Any]] = []
        self.kinds: list[type] = []
        if spoil:  # after backward, before the plugin's own turn
            script.optimizer.register_step_pre_hook(lambda *_: spoiled(self.batch))

    def __iter__(self) -> Iterator[Any]:
        return self._watched(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name == "next_epoch":
            return lambda: self._watched(self.loader.next_epoch())
        return getattr(self.loader, name)

    def _watched(self, batches: Any) -> Iterator[Any]:
        for self.batch in batches:
            self.kinds.append(type(self.batch))
            self.seen.append(copy.deepcopy(self.fields(self.batch)))
            yield self.batch


def spoiled(value: Any) -> None:
    """Every array in a batch, however deep."""
    if isinstance(value, (np.ndarray, torch.Tensor)):
        value[...] = 99
    elif isinstance(value, (dict, SimpleNamespace)):
        spoiled(list((value if isinstance(value, dict) else vars(value)).values()))
    elif isinstance(value, (list, tuple)):
        for part in value:
            spoiled(part)


class Run(NamedTuple):
    script: Script
    augmenter: PoseAugmenter | None
    moved: bool
    seen: list[Any]
    kinds: list[type]
    lrs: list[float]
    evaluations: list[float]
    streams: list[Any]
    warned: list[str]


def run(name: str, mix: str = "bare", spoil: bool = False, **config: Any) -> Run:
    seed_all()
    script = SCRIPTS[name]()
    before, augmenter, lrs = snapshot(script.model), None, []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if mix != "bare":
            how = dict(ratio=0.0) if mix == "off" else dict(mix=mix)
            augmenter = PoseAugmenter(
                script.model,
                script.optimizer,
                script.format,
                EPOCHS,
                config=small(**how, **config, joint_offset=0.0),  # left and right bones stay alike
                predict=script.predict,
            )
            script.loader = augmenter.wrap(script.loader)
        spy = script.loader = Spy(script, spoil)
        groups = script.optimizer.param_groups
        script.optimizer.register_step_post_hook(lambda *_: lrs.append(groups[0]["lr"]))
        evaluations, ends = [], []
        for epoch in range(EPOCHS):
            seed_all(epoch)  # one order of rows in every mix, however often dropout draws
            script.train()
            ends.append(streams())
            evaluations.append(script.evaluate())
    moved = not same(snapshot(script.model), before)
    told = [str(w.message) for w in caught]
    return Run(script, augmenter, moved, spy.seen, spy.kinds, lrs, evaluations, ends, told)


@functools.cache
def ran(name: str, mix: str = "bare") -> Run:
    return run(name, mix)


def pairs(name: str, mix: str) -> list[tuple[Any, Any]]:
    """Each bare batch and the one that has augmented rows: its twins alone, for append."""
    bare, seen = ran(name).seen, ran(name, mix).seen
    if mix == "append":
        seen = [tuple(part(field, 1) for field in batch) for batch in seen]
    return list(zip(bare, seen[DOUBLING_MIXES.get(mix, 1) - 1 :: DOUBLING_MIXES.get(mix, 1)]))


def part(field: Any, which: int) -> Any:
    """The originals (0) or the twins (1) of a field that append interleaved."""
    return None if field is None else field[which::2]


def described(batch: Any) -> list[Any]:
    fields = [
        (type(f), getattr(f, "dtype", None), tuple(getattr(f, "shape", ()))[1:]) for f in batch
    ]
    return fields


def sizes(batch: Any) -> list[int | None]:
    return [None if field is None else len(field) for field in batch]


def rows_changed(bare: Any, made: Any) -> list[list[int]]:
    """Of each field; other than arrays must not change."""
    found = []
    for a, b in zip(bare, made):
        if isinstance(a, (np.ndarray, torch.Tensor)):
            assert a.shape == b.shape
            found.append(changed_rows(a.reshape(len(a), -1), b.reshape(len(a), -1)))
        else:
            assert (a is None) == (b is None)
            assert a is None or list(a) == list(b)
            found.append([])
    return found


# The script goes on as ever


@each_mix
@each_script
def test_it_trains_with_its_own_steps_schedule_and_epochs(script: str, mix: str) -> None:
    bare, made = ran(script), ran(script, mix)
    times = DOUBLING_MIXES.get(mix, 1)
    assert made.moved
    assert all(map(math.isfinite, [*made.script.losses, *made.evaluations]))
    assert len(made.lrs) == len(made.seen) == times * len(bare.lrs)
    if made.script.by_step:
        assert made.lrs[: len(bare.lrs)] == bare.lrs
    else:
        assert made.lrs == [lr for lr in bare.lrs for _ in range(times)]
    stats = made.augmenter.stats()
    assert stats["bad_batches"] == 0
    assert stats["epochs"] == (0 if mix == "off" else EPOCHS)
    assert stats["updates"] == (0 if mix == "off" else len(made.lrs) // times)
    expected = mix == "alternate" and made.script.norm
    assert ["BatchNorm" in words for words in made.warned] == [True] * expected


@each_script
def test_switched_off_it_is_not_there(script: str) -> None:
    bare, made = ran(script), ran(script, "off")
    for a, b in zip(bare, made):
        if isinstance(a, (Script, list)):
            a, b = (
                snapshot(x.model, x.optimizer) if isinstance(x, Script) else snapshot(x)
                for x in (a, b)
            )
            assert same(a, b)


@each_script
def test_replace_keeps_the_random_streams(script: str) -> None:
    assert ran(script, "replace").streams == ran(script).streams


# What a batch is


@each_mix
@each_script
def test_containers_types_and_shapes_stay(script: str, mix: str) -> None:
    bare, seen = ran(script).seen, ran(script, mix).seen
    times = DOUBLING_MIXES.get(mix, 1)
    assert set(ran(script, mix).kinds) == set(ran(script).kinds)
    for i, batch in enumerate(seen):
        given = bare[i // times]
        assert described(batch) == described(given)
        assert sizes(batch) == [n and n * TIMES.get(mix, 1) for n in sizes(given)]


@each_augmenting_mix
@each_script
def test_other_rows_are_bit_for_bit_what_they_were(script: str, mix: str) -> None:
    if mix == "append":
        originals = [[part(f, 0) for f in batch] for batch in ran(script, mix).seen]
    else:
        originals = ran(script, mix).seen[:: DOUBLING_MIXES.get(mix, 1)]
    for given, kept in zip(ran(script).seen, originals if mix != "replace" else []):
        assert same(snapshot(*given), snapshot(*kept))
    most = 0.5 if mix == "replace" else 1
    camera = {"videopose3d": 0, "stgcn": 0, "poseaug": 3, "adaptpose": 3}.get(
        str(ran(script).script.format)
    )
    counters = 0
    for given, made in pairs(script, mix):
        changed = rows_changed(given, made)
        augmented = max(changed, key=len)
        assert len(augmented) <= math.ceil(most * len(given[-1]))
        counters += len(augmented)
        for field, rows in enumerate(changed):
            of_pose = np.asarray(given[field]).dtype.kind == "f" and np.ndim(given[field]) > 1
            assert rows == (augmented if of_pose or (field == camera and rows) else [])
    assert counters >= 0.2 * most * sum(len(given[-1]) for given in ran(script).seen)


@each_augmenting_mix
@each_script
def test_augmented_rows_project_onto_their_own_2d(script: str, mix: str) -> None:
    off = ran(script).script.off
    for given, made in pairs(script, mix):
        rows = max(rows_changed(given, made), key=len)
        assert off(made)[rows].max(initial=0) < 1e-5


@each_augmenting_mix
@each_script
def test_nothing_of_a_batch_was_kept(script: str, mix: str) -> None:
    """Spoiled after the script used it, before the plugin's turn: nothing else comes of it."""
    clean, spoilt = ran(script, mix), run(script, mix, spoil=True)
    assert same(snapshot(spoilt.seen), snapshot(clean.seen))
    for a, b in ((clean, spoilt), (clean.script, spoilt.script)):
        others = [getattr(x, "augmenter", None) or (x.model, x.optimizer) for x in (a, b)]
        assert same(*(snapshot(*o) if isinstance(o, tuple) else snapshot(o) for o in others))


# Evaluation


@each_augmenting_mix
@each_script
def test_a_pass_in_evaluation_is_the_bare_loaders(script: str, mix: str) -> None:
    def one_pass(loader: Any) -> list[Any]:
        seed_all()
        batches = loader.next_epoch() if hasattr(loader, "next_epoch") else loader
        return [snapshot(*replica.fields(batch)) for batch in batches]

    replica, bare = SCRIPTS[script](), SCRIPTS[script]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PoseAugWarning)
        augmenter = PoseAugmenter(
            replica.model, replica.optimizer, replica.format, config=small(mix=mix)
        )
    loader = augmenter.wrap(replica.loader)
    replica.model.eval()
    assert same(one_pass(loader), one_pass(bare.loader))
    replica.model.train()
    with torch.no_grad():
        assert same(one_pass(loader), one_pass(bare.loader))
    assert augmenter.stats()["batches"] == augmenter.stats()["epochs"] == 0


# What only some have


@pytest.mark.parametrize("script", ["poseformer", "motionbert", "motionagformer 3dhp"])
def test_a_wrapped_model_is_asked_inside_its_wrapper(script: str) -> None:
    """DataParallel would scatter the plugin's rows over the devices."""
    bare, made = (ran(script, mix).script.model for mix in ("bare", "replace"))
    assert isinstance(made, replicas.Parallel)
    assert made.calls == bare.calls > 0


@each_augmenting_mix
def test_confidence_stays_with_its_row(mix: str) -> None:
    for given, made in pairs("motionbert", mix):
        assert torch.equal(given[0][..., 2], made[0][..., 2])


@each_augmenting_mix
def test_invalid_rows_stay_zero(mix: str) -> None:
    found = 0
    for given, made in pairs("adaptpose", mix):
        invalid = ~given[0].flatten(1).any(1)
        found += int(invalid.sum())
        for field in (0, 1, 3):
            assert torch.equal(given[field][invalid], made[field][invalid])
    assert found == 2 * EPOCHS


@each_augmenting_mix
def test_a_root_in_its_slot_stands_where_the_2d_says(mix: str) -> None:
    """HumanEva's batches tell no camera, but with the root that their 2D was taken from."""
    for given, made in pairs("videopose3d humaneva", mix):
        rows = max(rows_changed(given, made), key=len)
        pose_3d, pose_2d = unslotted(made[1])[rows], made[2][rows]
        ray = pose_3d[..., :2] / pose_3d[..., 2:]
        focal = (pose_2d * ray).sum((1, 2, 3)) / np.square(ray).sum((1, 2, 3))
        assert np.abs(focal[:, None, None, None] * ray - pose_2d).max(initial=0) < 1e-5
        assert ((focal > 1.1) & (focal < 2.3)).all()


@each_augmenting_mix
def test_a_target_in_image_space_is_a_person_seen_by_some_camera(mix: str) -> None:
    """Under the right focal length a person's left and right bones are equal."""
    human = Skeleton.of("h36m_17")

    def asymmetry(uvd: np.ndarray, focal: float) -> float:
        depth = 1 + uvd[..., 2:] / focal
        pose = np.concatenate([uvd[..., :2] / focal * depth, depth], -1)
        left, right = (
            np.linalg.norm(pose[:, list(side)] - pose[:, [human.parents[j] for j in side]], axis=-1)
            for side in (human.left, human.right)
        )
        return float(np.abs(left / right - 1).max())

    for given, made in pairs("motionbert", mix):
        for row in max(rows_changed(given, made), key=len):
            uvd = made[1][row].double().numpy()
            assert min(asymmetry(uvd, f) for f in np.linspace(1.1, 2.3, 241)) < 0.01


# Windows with the 3D of their centre frame


@pytest.mark.parametrize("script", ["videopose3d 27 frames", "poseformer"])
def test_a_window_moves_as_its_own_3d_does(script: str) -> None:
    """With the view alone changed, the window's 2D is its hidden 3D, turned, seen by its camera."""
    replica = SCRIPTS[script]()
    assert isinstance(replica, VideoPose3D27.__mro__[1])
    hidden = replica.chunks(replica.poses_3d)  # same order and flips, 3D where 2D would be
    config = small("random", mix="append", ba=False, bl=False)
    augmenter = PoseAugmenter(replica.model, replica.optimizer, replica.format, config=config)
    checked = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batches = augmenter.wrap(replica.loader).next_epoch()
        for (_, _, window), (camera, centre, seen) in zip(hidden.next_epoch(), batches):
            window, centre = unslotted(window), unslotted(centre)[:, 0]
            middle = window[:, replica.pad]
            assert np.allclose(middle, centre[::2], atol=1e-6)
            for row in range(len(window)):
                if np.array_equal(centre[2 * row], centre[2 * row + 1]):
                    continue
                old, new = centre[2 * row], centre[2 * row + 1]
                u, _, vt = np.linalg.svd((old - old[0]).T @ (new - new[0]))
                turn = vt.T @ np.diag([1, 1, np.linalg.det(vt.T @ u.T)]) @ u.T
                moved = (window[row] - old[0]) @ turn.T + new[0]
                off = reproject(moved[None], camera[2 * row + 1][None]) - seen[2 * row + 1]
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
    bare = SCRIPTS["videopose3d 27 frames"]()
    for loader in (inner, bare.loader, replica.loader):
        loader.set_random_state(np.random.RandomState(5))
    passes = [[snapshot(*b) for b in g.next_epoch()] for g in (bare.loader, replica.loader)]
    assert same(*passes)
    assert inner.num_frames() == replica.loader.num_frames() == bare.loader.num_frames()


@pytest.mark.parametrize("how", ["dropped", "wrapped twice"])
def test_a_generator_is_made_to_deliver_its_windows_once(how: str) -> None:
    """By an augmenter that is gone without `detach()`, or by one that wraps it again."""
    replica, bare = (SCRIPTS["videopose3d 27 frames"]() for _ in range(2))
    inner, attach = replica.loader, functools.partial(PoseAugmenter, config=small())
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
    for loader in (inner, bare.loader):
        loader.set_random_state(np.random.RandomState(5))
    passes = [[snapshot(*b) for b in g.next_epoch()] for g in (bare.loader, inner)]
    assert same(*passes)


def test_every_script_is_of_the_table() -> None:
    assert (replicas.__doc__ or "").count("\n|") == 2 + len(SCRIPTS) - 3  # three share a line
