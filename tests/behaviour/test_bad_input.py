"""Errors are raised for bad arguments and a bad first batch; later there are only warnings."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers import H36M
from loop_helpers import (
    LEFT,
    RIGHT,
    Lifter,
    attached,
    batch,
    changed_rows,
    loader,
    same,
    small,
    snapshot,
    step,
    streams,
    train,
    trained,
)
from poseaug_plugin import (
    AttachError,
    BatchError,
    BatchFormat,
    ConfigError,
    DataError,
    EstimatorError,
    PoseAugError,
    PoseAugmenter,
    PoseAugWarning,
    Skeleton,
    SkeletonError,
    plugin,
)
from poseaug_plugin.augment.sampler import Sampler
from poseaug_plugin.batches.presets import resolve_format

NAN, INF = float("nan"), float("inf")


# The first batch


def bad_first(what: str) -> tuple[Any, ...]:
    given: list[Any] = list(batch())
    pose_3d, pose_2d = given[:2]
    if what == "17 joints":
        given[0], given[1] = pose_3d[:, [*range(16), 0]], pose_2d[:, [*range(16), 0]]
    elif what == "15 joints in 2D":
        given[1] = pose_2d[:, :15]
    elif what == "ragged":
        given[0] = [pose_3d[0].numpy(), pose_3d[1, :9].numpy()]
    elif what == "ragged to the core":
        given[0] = [[[1.0, 2.0, 3.0], [1.0]], [[1.0, 2.0]]]
    elif what == "empty":
        given = [field[:0] for field in given]
    elif what == "NaN 3D":
        pose_3d[3, 4] = NAN
    elif what == "infinite 2D":
        pose_2d[5, 1, 0] = INF
    elif what == "huge 3D":
        pose_3d[6, 2, 1] = 1e30
    elif what == "NaN camera":
        given[3][2, 0] = NAN
    elif what == "millimetres":
        given[0] = pose_3d * 1000
    elif what == "flipped y":
        given[1] = pose_2d * torch.tensor([1.0, -1.0])
    elif what == "swapped sides":
        order = list(range(16))
        for left, right in zip(LEFT, RIGHT):
            order[left], order[right] = right, left
        given[1] = pose_2d[:, order]
    elif what == "world frame":
        x, y, z = pose_3d.unbind(-1)
        given[0] = torch.stack([x, z, -y], -1)
    elif what == "fewer 3D rows":
        given[0] = pose_3d[:5]
    elif what == "other frames":
        given[0], given[1] = (
            pose_3d[:, None].repeat(1, 9, 1, 1),
            pose_2d[:, None].repeat(1, 4, 1, 1),
        )
    elif what == "sparse":
        given[0] = pose_3d.to_sparse()
    elif what == "no camera":
        given = given[:3]
    elif what == "camera matrix":
        given[3] = torch.eye(4).repeat(8, 1, 1)
    elif what == "field of strings":
        given[0] = given[2]
    elif what == "no field":
        given[0] = None
    elif what == "swapped fields":
        given[0], given[1] = given[1], given[0]
    return tuple(given)


FIRST: dict[str, tuple[type[PoseAugError], str]] = {
    "17 joints": (BatchError, r"shape \(8, 17, 2\), expected \(B, 16, 2\).*skeleton="),
    "15 joints in 2D": (BatchError, r"pose_2d \(field 1\) has shape \(8, 15, 2\)"),
    "ragged": (
        BatchError,
        r"pose_3d \(field 0\) is list with rows of shapes.*\(9, 3\).*Pad or cut",
    ),
    "ragged to the core": (BatchError, r"pose_3d \(field 0\) is list.*Pad or cut"),
    "empty": (BatchError, r"shape \(0, 16, 2\): no rows. Skip empty batches"),
    "NaN 3D": (
        BatchError,
        r"1 of 8 rows have NaN, infinite or huge 3D.*row 3.*drop or repair",
    ),
    "infinite 2D": (BatchError, r"1 of 8 rows have NaN, infinite or huge 2D.*first: row 5"),
    "huge 3D": (BatchError, r"1 of 8 rows have NaN, infinite or huge 3D.*first: row 6"),
    "NaN camera": (PoseAugError, r"NaN|camera"),
    "millimetres": (DataError, r"longest bone is 4\d\d.* m.*unit=0.001"),
    "flipped y": (DataError, r"does not project onto its 2D.*y flipped"),
    "swapped sides": (DataError, r"does not project onto its 2D.*left and right swapped"),
    "world frame": (DataError, r"does not project onto its 2D.*world frame.*camera's rotation"),
    "fewer 3D rows": (BatchError, r"\(8, 1\) but pose_3d \(5, 1\)"),
    "other frames": (BatchError, r"\(8, 4\) but pose_3d \(8, 9\); every 2D frame needs its own 3D"),
    "no camera": (BatchError, r"no field 3 for camera; it is a tuple of .*\(8, 16, 3\).*batch="),
    "camera matrix": (BatchError, r"shape \(8, 4, 4\), expected \(8, 9\): fx fy cx cy"),
    "field of strings": (BatchError, r"pose_3d \(field 0\) is .* expected one array or tensor"),
    "no field": (BatchError, r"pose_3d \(field 0\)"),
    "swapped fields": (BatchError, r"pose_3d \(field 0\) has shape \(8, 16, 2\)"),
}


@pytest.mark.parametrize("what", FIRST)
def test_a_bad_first_batch_raises_before_anything_is_changed(what: str) -> None:
    kind, pattern = FIRST[what]
    augmenter, model, optimizer = attached(batch="poseaug", skeleton="h36m_16", norm=True)
    given = bad_first(what)

    def state() -> list[Any]:
        flags = [m.training for m in model.modules()]
        return [snapshot(model, optimizer, given), flags, streams(), augmenter.stats()]

    before = state()
    with pytest.raises(kind, match=pattern):
        augmenter(given)
    assert same(state(), before)
    assert augmenter.state_dict()["engine"] is None
    train(model, optimizer, augmenter.wrap(loader()))  # good batches are accepted afterwards
    assert augmenter.stats()["updates"] == 2


def test_millimetres_are_accepted_with_the_unit_that_the_error_proposes() -> None:
    fmt = dict(pose_2d=1, pose_3d=0, camera=3, root="absolute", unit=0.001)
    augmenter, _, _ = attached(batch=fmt)
    augmenter(bad_first("millimetres"))
    assert augmenter.stats()["rows"] > 0


def test_wrap_raises_at_the_first_batch() -> None:
    augmenter, _, _ = attached()
    with pytest.raises(DataError, match="y flipped"):
        next(iter(augmenter.wrap([bad_first("flipped y")])))


def test_the_error_for_an_unknown_joint_count_names_the_skeleton_argument() -> None:
    augmenter, _, _ = attached()
    given = [torch.zeros(4, 13, 3), torch.zeros(4, 13, 2), None, torch.zeros(4, 9)]
    with pytest.raises(SkeletonError, match=r"13 joints.*skeleton=Skeleton\(parents"):
        augmenter(given)


@pytest.mark.parametrize("given", [3, "text", None, {1, 2}, torch.zeros(8, 16, 3)])
def test_the_error_for_something_that_is_no_batch_describes_it(given: Any) -> None:
    augmenter, _, _ = attached(batch=None)
    with pytest.raises(BatchError, match=type(given).__name__):
        augmenter(given)


def test_a_custom_format_without_guess_skeleton_needs_the_skeleton_argument() -> None:
    class Own:
        def read(self, batch: Any, skeleton: Skeleton, camera: Any) -> Any: ...
        def write(self, *_: Any) -> Any: ...

    with pytest.raises(PoseAugError, match="skeleton="):
        attached(small("random"), Own())[0](batch())


def test_training_continues_with_zero_length_bones() -> None:
    given = batch()
    given[0][:, 9] = given[0][:, 8]  # the head sits on the thorax
    given[1][:, 9] = given[1][:, 8]
    augmenter, _, optimizer = attached(small("released", mix="replace"))
    for _ in range(3):
        augmented = augmenter(given)
        optimizer.step()
        assert augmented[0].isfinite().all()
        assert augmented[1].isfinite().all()
    assert all(np.isfinite(v) for v in augmenter.stats().values())


# The model


class WithOutput(nn.Module):
    """A lifter whose output is converted by a function."""

    def __init__(self, convert: Any) -> None:
        super().__init__()
        self.lifter, self.convert = Lifter(), convert

    def forward(self, pose_2d: Tensor) -> Any:
        return self.convert(self.lifter(pose_2d))


class WantsFlat(nn.Module):
    """A model that is called as `model(x.flatten(1))`, like SemGCN's linear one."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 48)

    def forward(self, flat: Tensor) -> Tensor:
        return self.linear(flat).view(-1, 16, 3)


@pytest.mark.parametrize(
    ("model", "pattern"),
    [
        (WithOutput(lambda y: y[:, 1:]), r"WithOutput.* wrong shape.*\(2, 15, 3\).*predict="),
        (WithOutput(lambda y: y[..., :2]), r"\(2, 16, 2\).*predict="),
        (WithOutput(lambda y: y.mean(0, keepdim=True)), r"\(1, 1, 16, 3\).*predict="),
        (WithOutput(lambda y: (y, y)), r"returned tuple, expected a tensor.*predict="),
        (WithOutput(lambda y: {"pose": y}), r"returned dict, expected a tensor.*predict="),
        (WithOutput(lambda y: None), r"returned NoneType, expected a tensor.*predict="),
        (WantsFlat(), r"WantsFlat.*predict="),
    ],
    ids=["15 joints", "2D", "rows", "tuple", "dict", "None", "raises"],
)
def test_unexpected_model_output_raises_an_estimator_error(model: nn.Module, pattern: str) -> None:
    optimizer = torch.optim.Adam(model.parameters())
    augmenter = PoseAugmenter(model, optimizer, "poseaug", config=small())
    before = snapshot(model)
    with pytest.raises(EstimatorError, match=pattern):
        augmenter(batch())
    assert same(snapshot(model), before)
    assert all(m.training for m in model.modules())
    assert augmenter.state_dict()["engine"] is None


@pytest.mark.parametrize(
    ("model", "predict"),
    [
        (WithOutput(lambda y: (y, y)), lambda net, x: net(x)[0]),
        (WantsFlat(), lambda net, x: net(x.flatten(1))),
        (WithOutput(lambda y: y[:, 1:]), lambda net, x: nn.functional.pad(net(x), (0, 0, 1, 0))),
    ],
    ids=["tuple", "flat", "15 joints"],
)
def test_predict_adapts_unexpected_models(model: nn.Module, predict: Any) -> None:
    optimizer = torch.optim.Adam(model.parameters())
    augmenter = PoseAugmenter(model, optimizer, "poseaug", config=small(), predict=predict)
    augmenter(batch())
    optimizer.step()
    assert augmenter.stats()["updates"] == 1


# Attaching


model, optimizer = trained()


@pytest.mark.parametrize(
    ("build", "kind", "pattern"),
    [
        (lambda: PoseAugmenter(lambda x: x, optimizer), AttachError, "function, expected"),  # type: ignore[arg-type]
        (lambda: PoseAugmenter(optimizer, model), AttachError, "Adam, expected the torch"),  # type: ignore[arg-type]
        (lambda: PoseAugmenter(nn.ReLU(), optimizer), AttachError, "no parameters"),
        (lambda: PoseAugmenter(Lifter(), optimizer), AttachError, "Adam holds none of the param"),
        (lambda: PoseAugmenter(model, None), AttachError, "NoneType.*optimizer"),  # type: ignore[arg-type]
        (lambda: PoseAugmenter(model, list(model.parameters())), AttachError, "list.*optimizer"),  # type: ignore[arg-type]
        *[
            (
                lambda n=n: PoseAugmenter(model, optimizer, epochs=n),
                ConfigError,
                "epochs=.*1 or more",
            )
            for n in (0, -3, 2.5, "10", NAN)
        ],
        (
            lambda: PoseAugmenter(model, optimizer, "semgnc"),
            ConfigError,
            "semgnc.*'poseaug', 'pose",
        ),
        (lambda: PoseAugmenter(model, optimizer, 3), ConfigError, "batch=3 is neither"),  # type: ignore[arg-type]
        (lambda: PoseAugmenter(model, optimizer, {"pose_2d": 1}), ConfigError, "name pose_2d and"),
        (
            lambda: PoseAugmenter(model, optimizer, dict(pose_2d=1, pose_3d=0, joints=16)),
            ConfigError,
            "'joints': 16.*'camera'",
        ),
        (
            lambda: PoseAugmenter(model, optimizer, config="defualt"),
            ConfigError,
            "defualt.*'paper'",
        ),
        (
            lambda: PoseAugmenter(model, optimizer, config={"rato": 0.3}),
            ConfigError,
            "rato=0.3.*ratio=",
        ),  # type: ignore[arg-type]
        (
            lambda: PoseAugmenter(model, optimizer, skeleton="h36m"),
            SkeletonError,
            "h36m.*'h36m_16'",
        ),
        (lambda: PoseAugmenter(model, optimizer, skeleton=16), SkeletonError, "int.*parents list"),
        (lambda: PoseAugmenter(model, optimizer, callbacks=print), ConfigError, "is not a list"),  # type: ignore[arg-type]
        (lambda: PoseAugmenter(model, optimizer, callbacks=[3]), ConfigError, "is not a list"),  # type: ignore[list-item]
        (lambda: PoseAugmenter(model, optimizer, camera=3), ConfigError, r"camera=3.*Camera\("),  # type: ignore[arg-type]
        (
            lambda: PoseAugmenter(model, optimizer, predict=3),
            ConfigError,
            "predict=3 is not callable",
        ),  # type: ignore[arg-type]
        (lambda: BatchFormat(1, 0, root="abs"), ConfigError, "root='abs'.*'slot'"),  # type: ignore[arg-type]
        *[
            (lambda s=s: BatchFormat(1, 0, screen=s), ConfigError, r"screen=.*\(width, height\)")
            for s in (1000, (1000,), (0, 0), "wide")
        ],
        *[
            (lambda u=u: BatchFormat(1, 0, unit=u), ConfigError, "unit=.*metres per unit")
            for u in (0, -0.001, NAN, "mm")
        ],
    ],
)
def test_wrong_arguments_raise_before_anything_is_changed(
    build: Any, kind: type, pattern: str
) -> None:
    before = snapshot(model, optimizer)
    with pytest.raises(kind, match=pattern):
        build()
    assert not optimizer._optimizer_step_post_hooks
    assert same(snapshot(model, optimizer), before)
    PoseAugmenter(model, optimizer).detach()  # the optimizer is not in use


def test_wrapping_something_that_is_no_loader_raises() -> None:
    with pytest.raises(AttachError, match="3 cannot be iterated"):
        attached()[0].wrap(3)


def test_a_second_augmenter_on_one_optimizer_raises() -> None:
    first, model, optimizer = attached()
    with pytest.raises(AttachError, match=r"has an augmenter already.*detach\(\)"):
        PoseAugmenter(model, optimizer, "poseaug", config=small())
    assert len(optimizer._optimizer_step_post_hooks) == 1
    train(model, optimizer, first.wrap(loader()))
    assert first.stats()["updates"] == 2


def test_every_error_is_a_pose_aug_error_and_a_value_error() -> None:
    for kind in (AttachError, BatchError, ConfigError, DataError, EstimatorError, SkeletonError):
        assert issubclass(kind, PoseAugError)
        assert issubclass(kind, ValueError)


# In the middle of a run


def later(what: str) -> Any:
    pose_3d, pose_2d, action, camera = batch(seed=5)
    if what == "huge":
        return (pose_3d * 1e25, pose_2d * 1e15, action, camera)
    if what == "infinite root":
        return (pose_3d + torch.tensor([0, 0, INF]), pose_2d, action, camera)
    if what == "NaN camera":
        return (pose_3d, pose_2d, action, camera * NAN)
    if what == "float64 beyond float32":
        return (pose_3d.double() * 1e300, pose_2d, action, camera)
    others: dict[str, Any] = {
        "None": None,
        "number": 3,
        "text": "stop",
        "nothing": (),
        "dict": {"pose": pose_3d},
        "object": object(),
        "objects": ([object()] * 8, pose_2d, action, camera),
    }
    return others[what] if what in others else bad_first(what)


BAD_ROWS = [
    "NaN 3D",
    "infinite 2D",
    "NaN camera",
    "infinite root",
    "huge",
    "float64 beyond float32",
]
LATER = [
    *["17 joints", "ragged", "ragged to the core", "empty", "fewer 3D rows", "camera matrix"],
    *["no camera", "field of strings", "no field", "swapped fields", "sparse"],
    *["None", "number", "text", "nothing", "dict", "object", "objects"],
]


@pytest.mark.parametrize("what", LATER)
def test_a_bad_batch_later_on_is_returned_unchanged_counted_and_warned_about_once(
    what: str,
) -> None:
    augmenter, _, optimizer = attached(small("released", mix="replace"))
    bad = later(what)
    batches = [batch(), bad, batch(seed=1), bad, batch(seed=2)]
    before = snapshot(bad)

    def run() -> None:
        for given, augmented in zip(batches, augmenter.wrap(batches)):
            assert (augmented is given) is (given is bad)
            if given is not bad:
                assert all(field.isfinite().all() for field in (augmented[0], augmented[1]))
            optimizer.step()

    with pytest.warns(PoseAugWarning, match="passed on unchanged") as caught:
        run()
    assert len(caught) == 1
    assert same(snapshot(bad), before)
    stats = augmenter.stats()
    assert (stats["bad_batches"], stats["batches"], stats["updates"]) == (2, 3, 3)
    assert all(np.isfinite(v) for v in stats.values())
    nets = augmenter.state_dict()["engine"]["trainer"]["nets"].values()
    assert all(value.isfinite().all() for net in nets for value in net.values())


@pytest.mark.parametrize("what", BAD_ROWS)
def test_bad_rows_later_on_are_returned_unchanged_counted_and_warned_about_once(what: str) -> None:
    augmenter, _, optimizer = attached(small("released", mix="replace", ratio=1.0))
    bad = later(what)
    is_bad = torch.stack([~(bad[i].flatten(1).abs().amax(1) < 1e6) for i in (0, 1, 3)]).any(0)
    batches = [batch(), bad, batch(seed=1), bad, batch(seed=2)]
    before = snapshot(bad)

    def run() -> None:
        for given, augmented in zip(batches, augmenter.wrap(batches)):
            rows = is_bad if given is bad else torch.zeros(8, dtype=torch.bool)
            for i in (0, 1, 3):
                assert same(augmented[i][rows], given[i][rows])
                assert augmented[i][~rows].isfinite().all()
            optimizer.step()

    with pytest.warns(PoseAugWarning, match="NaN, infinite or huge coordinates") as caught:
        run()
    assert len(caught) == 1
    assert same(snapshot(bad), before)
    stats = augmenter.stats()
    updates = 3 if is_bad.all() else 5
    assert (stats["bad_batches"], stats["batches"], stats["updates"]) == (0, 5, updates)
    assert stats["bad_rows"] == 2 * is_bad.sum()
    assert all(np.isfinite(v) for v in stats.values())
    nets = augmenter.state_dict()["engine"]["trainer"]["nets"].values()
    assert all(value.isfinite().all() for net in nets for value in net.values())


@pytest.mark.parametrize("preset", ["default", "random"])
def test_a_bad_row_has_no_influence_on_the_others(preset: str) -> None:
    results = []
    for value in (NAN, INF, 1e30):
        augmenter, _, _ = attached({"preset": preset, "ratio": 1.0})
        augmenter(batch())
        pose_3d, *others = batch(seed=1)
        pose_3d[2] = value
        with pytest.warns(PoseAugWarning, match="1 rows have NaN"):
            results.append(augmenter((pose_3d, *others)))
        assert augmenter.stats()["augmented"] > 8
    good = [0, 1, 3, 4, 5, 6, 7]
    for other in results[1:]:
        for i in (0, 1, 3):
            assert same(results[0][i][good], other[i][good])


@pytest.mark.parametrize("first", [True, False])
def test_a_missing_joint_that_is_set_to_0_gives_no_other_row_long_bones(first: bool) -> None:
    """Bone lengths are exchanged between rows, and 0 is the camera, metres away."""
    augmenter, _, _ = attached("random" if first else {"ratio": 1.0})
    if not first:
        augmenter(batch(rows=32))
    pose_3d, pose_2d, *others = batch(rows=32, seed=1)
    pose_3d[::4, 3] = pose_2d[::4, 3] = 0
    torn = torch.arange(32) % 4 == 0
    with pytest.warns(PoseAugWarning, match="8 rows have .* bones several times as long"):
        augmented = augmenter((pose_3d, pose_2d, *others))
    assert same(augmented[0][torn], pose_3d[torn])
    bones = augmented[0][~torn] - augmented[0][~torn][:, [0, *H36M.parents[1:]]]
    assert bones.norm(dim=-1).max() < 0.8
    assert len(changed_rows(pose_3d, augmented[0])) > 12
    assert augmenter.stats()["bad_rows"] == 8


@pytest.mark.parametrize("unit", [1000.0, 0.001])
def test_rows_in_another_unit_than_the_first_batch_are_told(unit: float) -> None:
    """As of a loader that concatenates a data set in millimetres and one in metres."""
    augmenter, _, _ = attached({"preset": "random", "ratio": 1.0})
    augmenter(batch(rows=32))
    pose_3d, pose_2d, *others = batch(rows=32, seed=1)
    pose_3d[::4] *= unit
    pose_3d[1] = pose_2d[1] = 0  # padding, which is no fault
    off = torch.arange(32) % 4 == 0
    with pytest.warns(PoseAugWarning, match="8 rows have .* or 3D in another unit"):
        augmented = augmenter((pose_3d, pose_2d, *others))
    assert same(augmented[0][off], pose_3d[off])
    bones = augmented[0][~off] - augmented[0][~off][:, [0, *H36M.parents[1:]]]
    assert bones.norm(dim=-1).amax(1).quantile(0.1) > 0.2
    assert bones.norm(dim=-1).max() < 0.8
    assert augmenter.stats()["bad_rows"] == 8


@pytest.mark.parametrize("preset", ["residual", "paper", "released"])
def test_networks_survive_rows_without_a_place(preset: str) -> None:
    """Rows that are NaN, all zero, as padding is, or behind the camera."""
    augmenter, _, optimizer = attached(small(preset, mix="replace", ratio=1.0))
    augmenter(batch())
    for seed in range(3):
        pose_3d, *others = batch(seed=seed)
        pose_3d[1], pose_3d[2] = NAN, 0
        pose_3d[3, :, 2] *= -1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            augmented = augmenter((pose_3d, *others))
        assert same(augmented[0][1:3], pose_3d[1:3])
        optimizer.step()
    assert augmenter.stats()["updates"] == 3
    for name, net in augmenter._trainer.nets.items():
        tensors = [*net.parameters(), *net.buffers()]
        assert all(tensor.isfinite().all() for tensor in tensors), name


def test_a_smaller_last_batch_is_not_a_bad_batch() -> None:
    augmenter, model, optimizer = attached()
    train(model, optimizer, augmenter.wrap(loader(rows=17, size=8)))
    assert (augmenter.stats()["bad_batches"], augmenter.stats()["updates"]) == (0, 3)


class FailsLater:
    """A custom format that fails from the second batch on."""

    def __init__(self, fails: str) -> None:
        self.fails, self.calls = fails, 0

    def read(self, batch: Any, *rest: Any) -> Any:
        self.calls += 1
        if self.fails == "read" and self.calls > 1:
            raise KeyError("unexpected")
        return resolve_format("poseaug").read(batch, *rest)

    def write(self, *args: Any) -> Any:
        if self.fails == "write" and self.calls > 1:
            raise TypeError("unexpected")
        return resolve_format("poseaug").write(*args)


@pytest.mark.parametrize("fails", ["read", "write"])
def test_a_custom_format_that_fails_later_does_not_end_the_run(fails: str) -> None:
    augmenter, _, _ = attached(small("random"), FailsLater(fails), skeleton="h36m_16")
    augmenter(batch())
    given = batch()
    with pytest.warns(PoseAugWarning, match="unexpected"):
        assert augmenter(given) is given
    assert augmenter(given) is given
    assert augmenter.stats()["bad_batches"] == 2


@pytest.mark.parametrize("known", [1, 3])
def test_windows_with_the_3d_of_some_frames_are_returned_unchanged_with_one_warning(
    known: int,
) -> None:
    """Their motion is not known, and must not be invented."""
    augmenter, _, _ = attached(small("random"))
    pose_3d, pose_2d, action, camera = batch()
    frames = [x[:, None].repeat(1, n, 1, 1) for x, n in ((pose_3d, known), (pose_2d, 9))]
    given = (*frames, action, camera)
    with pytest.warns(PoseAugWarning, match="window") as caught:
        returned = [augmenter(given) for _ in range(3)]
    assert all(each is given for each in returned)
    assert len(caught) == 1


@pytest.mark.parametrize("what", ["2D from 0 to 1", "a root position"])
def test_one_warning_if_the_first_batch_may_mean_something_else(what: str) -> None:
    pose_3d, pose_2d, *_ = batch(rows=16)
    relative, root = pose_3d - pose_3d[:, :1], pose_3d[:, :1]
    given = (relative, pose_2d, torch.arange(16.0))
    words = r"\[2\] hold points"
    if what == "a root position":
        wrong: Any = (relative, pose_2d, root)
    else:
        wrong, words = (relative, (pose_2d + 1) / 2), "no 2D coordinate is negative"
    for each in (given, wrong):
        augmenter, _, _ = attached("random", dict(pose_3d=0, pose_2d=1))
        with warnings.catch_warnings():
            warnings.simplefilter("error" if each is given else "default")
            if each is given:
                augmenter(each)
            else:
                with pytest.warns(PoseAugWarning, match=words):
                    augmenter(each)


# Loops that miss the augmenter


def warnings_without_batches(
    augmenter: PoseAugmenter, model: Any, optimizer: Any, steps: int
) -> list[str]:
    """The plugin's warnings in so many steps of a loop that passes it no batch."""
    given = batch()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(steps):
            step(model, optimizer, given)
    return [str(w.message) for w in caught if issubclass(w.category, PoseAugWarning)]


@pytest.mark.parametrize("batches", [0, 30])
def test_one_warning_if_no_new_batch_comes_from_the_wrapped_loader(batches: int) -> None:
    """From the start, or from some batch on, e.g. because the loop repeats those it has kept."""
    augmenter, model, optimizer = attached()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, optimizer, augmenter.wrap([batch()] * batches))
    assert warnings_without_batches(augmenter, model, optimizer, 19) == []
    (message,) = warnings_without_batches(augmenter, model, optimizer, 40)
    assert "without a new augmented batch" in message
    assert "augmenter.wrap(loader)" in message


def test_one_warning_if_no_epoch_is_augmented_ahead_although_mix_says_so() -> None:
    (message,) = warnings_without_batches(*attached(small("released", mix="passes")), 40)
    assert "without a new augmented batch" in message


def test_one_warning_if_the_model_is_left_in_evaluation_mode() -> None:
    augmenter, model, optimizer = attached()
    wrapped = augmenter.wrap(loader())
    train(model, optimizer, wrapped)
    model.eval()
    with pytest.warns(PoseAugWarning, match=r"call model.train\(\)") as caught:
        train(model, optimizer, wrapped, epochs=20)
    assert len(caught) == 1


def test_no_warning_about_steps_if_an_epoch_is_augmented_ahead() -> None:
    """mix="passes" makes the augmented batches before the steps on them and on the real ones."""
    augmenter, model, optimizer = attached(small("released", mix="passes"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, optimizer, augmenter.wrap(loader(rows=48, size=4)))


@pytest.mark.parametrize("how", ["disabled", "ratio 0", "detached"])
def test_no_warning_about_missing_batches_if_nothing_is_augmented(how: str) -> None:
    augmenter, model, optimizer = attached(small(ratio=0.0 if how == "ratio 0" else 0.5))
    if how == "disabled":
        augmenter.disable()
    if how == "detached":
        augmenter.detach()
    assert warnings_without_batches(augmenter, model, optimizer, 40) == []


def test_one_warning_about_a_missing_root_in_the_modes_that_use_it() -> None:
    def messages(**config: Any) -> list[str]:
        augmenter, model, optimizer = attached(small(**config), "semgcn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            train(model, optimizer, augmenter.wrap(loader("semgcn")), epochs=2)
        return [str(w.message) for w in caught if issubclass(w.category, PoseAugWarning)]

    assert messages() == messages(learned=False) == []
    for config in (dict(adv2d=1.0), dict(feedback="range")):
        (message,) = messages(**config)
        assert "no root" in message
        assert "with the camera passed as camera=, or the default one" in message


@pytest.mark.parametrize("steps", [0, 3, 12])
def test_one_warning_if_the_optimizer_is_no_longer_stepped(steps: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(plugin, "BATCHES_WITHOUT_STEP", 5)
    augmenter, model, optimizer = attached()
    another = torch.optim.SGD(model.parameters(), lr=1e-3)  # created later, as for fine-tuning
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for i in range(12):
            augmenter(batch())
            (optimizer if i < steps else another).step()
    words = "without a step of the optimizer that was passed"
    assert [words in str(w.message) for w in caught] == [True] * (steps < 12)


def test_no_warning_about_batches_that_mix_passes_makes_ahead(monkeypatch: Any) -> None:
    monkeypatch.setattr(plugin, "BATCHES_WITHOUT_STEP", 2)
    augmenter, model, optimizer = attached(small("released", mix="passes"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, optimizer, augmenter.wrap(loader()), epochs=2)


def test_warnings_point_at_the_callers_line() -> None:
    augmenter, _, _ = attached()
    augmenter(batch())
    with pytest.warns(PoseAugWarning) as caught:
        augmenter("nothing")
    assert caught[0].filename == __file__
    model, optimizer = trained(norm=True)
    with pytest.warns(PoseAugWarning) as caught:
        PoseAugmenter(model, optimizer, "poseaug", config=small("released"))
    assert caught[0].filename == __file__


def test_any_failure_on_the_first_batch_raises(monkeypatch: Any) -> None:
    augmenter, _, _ = attached()

    def broken(*_: Any) -> Any:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(Sampler, "pairs", broken)
    with pytest.raises(RuntimeError, match="no such kernel"):
        augmenter(batch())
    with pytest.raises(RuntimeError, match="no such kernel"):
        augmenter(batch())  # until the first one succeeds


def test_one_field_for_both_poses_raises() -> None:
    with pytest.raises(ConfigError, match="pose_2d and pose_3d are both field 1"):
        attached(batch=dict(pose_2d=1, pose_3d=1))
