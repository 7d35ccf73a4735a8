"""`report=True`: training is not changed, and `report()` is what its own calls have shown."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel

from helpers import LAST_ROOT, reordered
from loop_helpers import (
    Lifter,
    attached,
    batch,
    changed_rows,
    loader,
    people,
    same,
    seed_all,
    small,
    snapshot,
    step,
    streams,
    train,
)
from poseaug_plugin import (
    ConfigError,
    DataError,
    PoseAugConfig,
    PoseAugmenter,
    PoseAugWarning,
    recorder,
)
from poseaug_plugin.data import endless, make_loader, synthetic
from poseaug_plugin.report import QUANTITIES, ErrorReport

ROWS = 16
ALL = small("random", ratio=1.0)
HALF = small("random", ratio=0.5)


def recording(
    config: Any = HALF, model: nn.Module | None = None, fmt: Any = "poseaug", **options: Any
) -> tuple[PoseAugmenter, Any]:
    """An augmenter with `report=True`, and a model without dropout."""
    seed_all()
    model = Lifter(norm=False, dropout=0.0) if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    return PoseAugmenter(model, optimizer, fmt, config=config, report=True, **options), model


def errors(predicted: Tensor, pose_3d: Tensor) -> Tensor:
    """Mean errors (B,) of poses relative to their roots, mm."""
    off = predicted.detach() - pose_3d
    return 1000 * (off - off[..., :1, :]).norm(dim=-1).mean(-1)


def told(augmenter: PoseAugmenter) -> tuple[int, float]:
    report = augmenter.report()
    return report.rows, report.error


# What it reports


def test_the_errors_are_those_of_the_calls_on_the_rows_that_the_plugin_wrote() -> None:
    augmenter, model = recording()
    augmented, original = [], []
    for seed in range(3):
        given = batch(rows=ROWS, seed=seed)
        written = augmenter(given)
        found = errors(model(written[1]), written[0])
        rows = changed_rows(given[0], written[0])
        augmented += [float(found[i]) for i in rows]
        original += [float(found[i]) for i in range(ROWS) if i not in rows]
    report = augmenter.report()
    assert report.rows == len(augmented) == augmenter.stats()["augmented"]
    assert report.error == pytest.approx(sum(augmented) / len(augmented), rel=1e-4)
    assert report.original == pytest.approx(sum(original) / len(original), rel=1e-4)
    assert sum(report.joints.values()) / 16 == pytest.approx(report.error, rel=1e-4)
    for name, bins in report.bins.items():
        assert sum(b.rows for b in bins) == report.rows, name


@pytest.mark.parametrize("mix", ["replace", "append", "alternate"])
def test_a_row_whose_pair_is_rejected_is_an_original_one_and_counts_once(mix: Any) -> None:
    """At the border of the image most pairs are rejected."""
    config = small("random", ratio=1.0, image_offset=0.9, mix=mix)
    augmenter, model = recording(config)
    given = batch(rows=ROWS)
    (pose_3d, pose_2d, *_), *others = augmenter.wrap([given])
    rows = 2 * ROWS if mix == "append" else ROWS
    found = errors(model(pose_2d), pose_3d)
    assert len(found) == rows
    real = found[:: rows // ROWS]
    if mix == "alternate":
        ((_, pose_2d, *_),) = others
        model(pose_2d)
    kept = real
    if mix == "replace":
        kept = torch.tensor(
            [x for i, x in enumerate(real) if i not in changed_rows(given[0], pose_3d)]
        )
    report = augmenter.report()
    assert 0 < report.rows == augmenter.stats()["augmented"] < ROWS
    assert report.original == pytest.approx(float(kept.mean()), rel=1e-4)


@pytest.mark.parametrize(("power", "within"), [(0.0, 0.03), (4.0, 0.1)])
def test_it_agrees_with_the_report_of_a_loader(
    power: float, within: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On synthetic motion, for a model that no longer changes.

    By default, training prefers rare poses, which `report(loader)` does not.
    """
    monkeypatch.setattr(recorder, "ROWS_KEPT", 8192)
    torch.manual_seed(0)
    batches = make_loader(synthetic.make(0)[0], batch_size=256)
    layers = nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 48)
    model = nn.Sequential(nn.Flatten(), *layers, nn.Unflatten(1, (16, 3)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    config = PoseAugConfig(rare_pose_power=power)
    augmenter = PoseAugmenter(model, optimizer, "poseaug", config=config, report=True)
    for number, (pose_3d, pose_2d, *_) in enumerate(endless(augmenter.wrap(batches))):
        if number == 100:
            optimizer.param_groups[0]["lr"] = 0.0
        if number == 100 + 8192 // 256:
            break
        optimizer.zero_grad()
        errors_of_rows = model(pose_2d) - (pose_3d - pose_3d[:, :1])
        errors_of_rows.square().mean().backward()
        optimizer.step()
    recorded, measured = augmenter.report(), augmenter.report(batches, 30)
    assert set(recorded.bins) == set(measured.bins) == set(QUANTITIES)
    assert recorded.rows > 3500
    assert recorded.error == pytest.approx(measured.error, rel=within)
    assert recorded.original == pytest.approx(measured.original, rel=0.03)
    for name, error in measured.joints.items():
        assert recorded.joints[name] == pytest.approx(error, rel=2 * within, abs=1)
    for one, two in zip(recorded.bins["yaw"], measured.bins["yaw"]):
        assert one.error == pytest.approx(two.error, rel=2 * within)


@pytest.mark.parametrize("preset", ["default", "random", "paper", "released"])
def test_recording_changes_nothing(preset: str) -> None:
    def run(report: bool) -> list[Any]:
        augmenter, model, optimizer = attached(small(preset), norm=False, report=report)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            train(model, optimizer, augmenter.wrap(loader(shuffle=True)), epochs=3)
        if report and augmenter.stats()["augmented"]:  # "released" has to learn to place people
            assert augmenter.report().rows
        return [snapshot(model, optimizer, augmenter), streams()]

    assert same(run(True), run(False))


def test_reporting_changes_nothing() -> None:
    augmenter, model, optimizer = attached(small(), report=True)
    train(model, optimizer, augmenter.wrap(loader()))
    before = snapshot(model, optimizer, augmenter), streams()
    assert str(augmenter.report()) == str(augmenter.report())
    assert same(snapshot(model, optimizer, augmenter), before[0])
    assert streams() == before[1]


def test_all_rows_augmented_leave_no_original_error(tmp_path: Any) -> None:
    augmenter, model = recording(small("random", ratio=1.0, depth=0.0011, frame_height=2.0))
    model(augmenter(batch(rows=4))[1])
    report = augmenter.report()
    if report.rows == 4:
        assert math.isnan(report.original)
    report.save(tmp_path / "report.json")
    assert str(ErrorReport.load(tmp_path / "report.json")) == str(report)


# Where there is nothing to report


def test_without_the_option_the_error_names_it() -> None:
    augmenter, model, _ = attached(small("random"))
    assert not model._forward_hooks
    with pytest.raises(ConfigError, match=r"PoseAugmenter\(\.\.\., report=True\)"):
        augmenter.report()


def test_before_training_the_error_says_so() -> None:
    augmenter, _ = recording()
    with pytest.raises(DataError, match=r"no augmented row yet.*not called"):
        augmenter.report()
    augmenter, model = recording(small("random", ratio=0.01))
    model(augmenter(batch())[1])
    with pytest.raises(DataError, match="only seen original rows"):
        augmenter.report()


def test_passes_and_formats_without_outputs_are_refused() -> None:
    model = Lifter()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ConfigError, match="mix='passes'"):
        PoseAugmenter(model, optimizer, config={"mix": "passes"}, report=True)

    class OnlyReads:
        def read(self, *_: Any) -> Any: ...

        def write(self, *_: Any) -> Any: ...

    with pytest.raises(ConfigError, match="no method inputs"):
        PoseAugmenter(model, optimizer, OnlyReads(), report=True)
    PoseAugmenter(model, optimizer, OnlyReads())  # the optimizer is still free
    assert not model._forward_hooks


WRONG: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "normalised": (lambda model, x: model(x - x[:, :1]), "not the 2D of the batch"),
    "too few rows": (lambda model, x: model(x[1:]), r"is of shape \(7, 16, 2\), but the 2D.*\(8, "),
    "evaluated": (lambda model, x: model.eval()(x), "not called with a batch in training mode"),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_loop_whose_rows_are_not_recognised_is_told_once(how: str) -> None:
    call, pattern = WRONG[how]
    augmenter, model = recording()

    def loop() -> None:
        for seed in range(30):
            call(model, augmenter(batch(seed=seed))[1])
            model.train()

    with pytest.warns(PoseAugWarning, match=pattern) as caught:
        loop()
    assert ["report=True has recorded nothing" in str(w.message) for w in caught] == [True]
    with pytest.raises(DataError, match=pattern):
        augmenter.report()


def test_a_model_that_returns_no_tensor_is_told_and_not_disturbed() -> None:
    class Pair(Lifter):
        def forward(self, pose_2d: Tensor) -> Any:
            return super().forward(pose_2d), pose_2d

    augmenter, model = recording(model=Pair(norm=False))
    assert isinstance(model(augmenter(batch())[1]), tuple)
    with pytest.raises(DataError, match="gives a tuple, not the 3D; pass predict="):
        augmenter.report()
    augmenter, model = recording(model=Pair(norm=False), predict=lambda m, x: m(x)[0])
    model(augmenter(batch())[1])
    assert told(augmenter)[0] == 4


def test_an_output_that_does_not_fit_is_told_and_not_disturbed() -> None:
    augmenter, model = recording(model=nn.Sequential(nn.Flatten(), nn.Linear(32, 7)))
    assert model(augmenter(batch())[1]).shape == (8, 7)
    with pytest.raises(DataError, match="cannot be read: BatchError"):
        augmenter.report()


# Which rows count


def test_only_training_counts() -> None:
    augmenter, model = recording()
    pose_2d = augmenter(batch())[1]
    with torch.no_grad():
        model(pose_2d)
    model.eval()(pose_2d)
    model.train()
    augmenter.report([batch()])  # calls of the plugin itself
    augmenter.disable()
    model(pose_2d)
    augmenter.enable()
    with pytest.raises(DataError, match="no augmented row yet"):
        augmenter.report()
    model(pose_2d)
    assert told(augmenter)[0] == 4


def test_only_the_first_call_with_a_row_counts() -> None:
    augmenter, model = recording()
    pose_2d = augmenter(batch())[1]
    model(pose_2d)
    once = told(augmenter)
    with torch.no_grad():
        model.last.bias += 1
    model(pose_2d)
    assert told(augmenter) == once
    model(augmenter(batch(seed=1))[1])
    assert told(augmenter)[0] == 2 * once[0]


@pytest.mark.parametrize("ahead", [1, 3])
@pytest.mark.parametrize("mix", ["replace", "append"])
def test_a_loop_that_reads_ahead_is_recorded(ahead: int, mix: Any) -> None:
    """As a prefetcher that takes the next batch before each call, or a thread with a queue."""

    def reported(ahead: int) -> ErrorReport:
        augmenter, model = recording(HALF.replace(mix=mix))
        waiting: list[Any] = []
        for seed in range(6):
            waiting.append(augmenter(batch(seed=seed))[1])
            if len(waiting) > ahead:
                model(waiting.pop(0))
        for pose_2d in waiting:
            model(pose_2d)
        return augmenter.report()

    assert reported(ahead) == reported(0)


def test_a_call_with_a_batch_may_end_after_the_next_one_is_read() -> None:
    """As a thread that reads two batches ahead does: one more is expected than are read ahead."""
    augmenter, model = recording(ALL)
    made = [augmenter(batch(seed=seed))[1] for seed in range(3)]
    model(made[0])
    made += [augmenter(batch(seed=seed))[1] for seed in (3, 4)]
    for pose_2d in made[1:]:
        model(pose_2d)
    assert augmenter.report().rows == augmenter.stats()["augmented"]


def test_a_usual_loop_expects_calls_of_one_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(recorder.ErrorRecorder, "_record", lambda self, *args: calls.append(args))
    augmenter, model = recording()
    for seed in range(4):
        model(augmenter(batch(seed=seed))[1])
    assert len(calls) == 4
    for seed in range(10):  # a loop that skips batches, and never calls the model with them
        augmenter(batch(seed=seed))
    model(batch()[1])
    assert len(calls) == 4 + recorder.MOST_AHEAD


def test_rows_that_the_loop_has_changed_do_not_count() -> None:
    """Here they are mirrored; the small noise of a loop does not matter."""
    augmenter, model = recording(ALL)
    pose_3d, pose_2d, *_ = augmenter(batch(rows=ROWS))
    changed = pose_2d + 1e-3 * pose_2d.abs().max() * torch.randn_like(pose_2d).clamp(-2, 2)
    changed[::2, :, 0] += 0.5
    predicted = model(changed)
    rows = torch.tensor(changed_rows(batch(rows=ROWS)[0], pose_3d))
    rows = rows[rows % 2 == 1]
    wanted = errors(predicted, pose_3d)[rows]
    assert told(augmenter) == (len(rows), pytest.approx(float(wanted.mean()), rel=1e-4))
    model(pose_2d)  # the others count with the call in which they are unchanged
    assert told(augmenter)[0] == len(changed_rows(batch(rows=ROWS)[0], pose_3d))


def test_original_rows_that_the_loop_has_changed_do_not_count() -> None:
    augmenter, model = recording()
    given = batch(rows=ROWS)
    pose_3d, pose_2d, *_ = augmenter(given)
    changed = pose_2d.clone()
    changed[::2, :, 0] += 0.5
    found, rows = errors(model(changed), pose_3d), changed_rows(given[0], pose_3d)
    left = [float(found[i]) for i in range(1, ROWS, 2) if i not in rows]
    assert augmenter.report().original == pytest.approx(sum(left) / len(left), rel=1e-4)


def test_a_row_with_nan_does_not_count() -> None:
    augmenter, model = recording(ALL)
    for seed in range(2):
        given = batch(rows=ROWS, seed=seed)
        given[0][3] = torch.nan if seed else given[0][3]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model(augmenter(given)[1])
    report = augmenter.report()
    assert report.rows == augmenter.stats()["augmented"]
    assert math.isfinite(report.error)


INPUTS: dict[str, Callable[[Any, Tensor], Any]] = {
    "flat": lambda model, x: model(x.flatten(1)),
    "float64": lambda model, x: model(x.double().float()),
    "in half precision": lambda model, x: model(x.half().float()),
    "bfloat16": lambda model, x: model(x.bfloat16().float()),
    "by name": lambda model, x: model(x=x),
    "after another argument": lambda model, x: model(None, x),
    "in a dictionary": lambda model, x: model({"x": x}),
    "with a confidence": lambda model, x: model(nn.functional.pad(x, (0, 1), value=1.0)),
}


class Flexible(Lifter):
    def forward(self, *args: Any, x: Any = None) -> Tensor:
        x = args[-1] if args else x
        x = x["x"] if isinstance(x, dict) else x
        return super().forward(x.view(len(x), 16, -1)[..., :2])


@pytest.mark.parametrize("how", INPUTS)
def test_the_model_may_be_called_in_many_ways(how: str) -> None:
    augmenter, model = recording(model=Flexible(norm=False, dropout=0.0))
    given = batch(rows=ROWS)
    written = augmenter(given)
    found = errors(INPUTS[how](model, written[1]), written[0])
    rows = changed_rows(given[0], written[0])
    assert told(augmenter) == (len(rows), pytest.approx(float(found[rows].mean()), rel=1e-4))


def test_half_precision_outputs_are_read() -> None:
    augmenter, model = recording()
    pose_3d, pose_2d, *_ = written = augmenter(batch(rows=ROWS))
    with torch.autocast("cpu", torch.bfloat16):
        predicted = model(pose_2d)
    assert predicted.dtype == torch.bfloat16
    found = errors(predicted.float(), pose_3d)[changed_rows(batch(rows=ROWS)[0], written[0])]
    assert told(augmenter)[1] == pytest.approx(float(found.mean()), rel=1e-4)


def test_predict_says_what_the_outputs_mean() -> None:
    """It is given what the model has returned in training; the model is not called again."""
    calls = []

    class Millimetres(Lifter):
        def forward(self, flat: Tensor, scale: float) -> Any:
            calls.append(len(flat))
            return {"pose": 1000 * scale * super().forward(flat.view(-1, 16, 2))}

    def predict(model: Any, pose_2d: Tensor) -> Tensor:
        answer = model(pose_2d.flatten(1), scale=2.0)["pose"]
        torch.rand(3)
        return answer.div_(1000)  # in place

    augmenter, model = recording(model=Millimetres(norm=False, dropout=0.0), predict=predict)
    given = batch(rows=ROWS)
    written = augmenter(given)
    before = streams()
    predicted = model(written[1].flatten(1), 2.0)["pose"]
    assert streams() == before
    assert calls == [ROWS]
    predicted.sum().backward()
    rows = changed_rows(given[0], written[0])
    wanted = float(errors(predicted / 1000, written[0])[rows].mean())
    assert told(augmenter) == (len(rows), pytest.approx(wanted, rel=1e-4))


def test_a_predict_that_calls_twice_is_told() -> None:
    augmenter, model = recording(predict=lambda m, x: (m(x) + m(x.flip(1))) / 2)
    model(augmenter(batch())[1])
    with pytest.raises(DataError, match="calls the model 2 times"):
        augmenter.report()


# Mixes, formats and wrappers


@pytest.mark.parametrize("mix", ["append", "alternate"])
@pytest.mark.parametrize("preset", ["random", "released"])
def test_other_mixes_count_each_row_once(mix: str, preset: str) -> None:
    some_rejected = dict(distance=(1.5, 5.0), depth=3.0)
    augmenter, model = recording(small(preset, mix=mix, prior=True, ratio=1.0, **some_rejected))
    augmented, original = [], []
    for (pose_3d, pose_2d, *_), given in zip(
        augmenter.wrap([batch(rows=ROWS)]), [batch(rows=ROWS)] * 2
    ):
        found = errors(model(pose_2d), pose_3d).tolist()
        real = given[0].repeat_interleave(2, 0) if mix == "append" else given[0]
        rows = changed_rows(real, pose_3d)
        augmented += [found[i] for i in rows]
        if mix == "append":
            original += found[::2]
        elif not original:
            original += found
    report = augmenter.report()
    assert report.rows == len(augmented) == augmenter.stats()["augmented"]
    assert 0 < len(augmented) < ROWS
    assert report.error == pytest.approx(sum(augmented) / len(augmented), rel=1e-4)
    assert report.original == pytest.approx(sum(original) / len(original), rel=1e-4)


def clips(frames: int) -> Any:
    who = people(ROWS, frames)
    return [torch.from_numpy(x) for x in (who.pose_3d, who.pose_2d, who.camera)]


class CentreFrame(Lifter):
    def forward(self, pose_2d: Tensor) -> Tensor:
        return super().forward(pose_2d)[:, pose_2d.shape[1] // 2, None]


CLIPS = dict(pose_3d=0, pose_2d=1, camera=2, root="absolute")


@pytest.mark.parametrize("lifter", [Lifter, CentreFrame])
def test_windows_are_recorded(lifter: Any) -> None:
    augmenter, model = recording(model=lifter(norm=False, dropout=0.0), fmt=CLIPS)
    given = clips(5)
    pose_3d, pose_2d, _ = augmenter(given)
    predicted = model(pose_2d)
    target = pose_3d if predicted.shape[1] == 5 else pose_3d[:, 2, None]
    found = errors(predicted, target).mean(1)[changed_rows(given[0], pose_3d)]
    assert told(augmenter) == (len(found), pytest.approx(float(found.mean()), rel=1e-4))
    kept = augmenter._recorder._kept[0]  # type: ignore[union-attr]
    assert kept.pose_3d.untyped_storage().nbytes() == ROWS * 16 * 3 * 4  # no whole clip


def test_the_place_is_that_of_the_root_joint_which_need_not_be_the_first() -> None:
    fmt = dict(pose_3d=0, pose_2d=1, camera=3, root="absolute")
    augmenter, model = recording(ALL, fmt=fmt, skeleton=reordered(LAST_ROOT))
    pose_3d, pose_2d, *others = batch(rows=64)
    given = (pose_3d[:, LAST_ROOT], pose_2d[:, LAST_ROOT], *others)
    made = augmenter(given)
    model(made[1])
    bins = augmenter.report().bins["place"]
    place = made[1][changed_rows(given[0], made[0]), 15].norm(dim=-1)
    assert (bins[0].low, bins[-1].high) == pytest.approx((float(place.min()), float(place.max())))


def test_a_loop_may_leave_out_the_confidence() -> None:
    pose_3d, pose_2d, *others = batch(rows=64)
    seen = torch.cat([pose_2d, torch.ones(64, 16, 1)], -1)
    augmenter, model = recording(ALL)
    made = augmenter((pose_3d, seen, *others))
    model(made[1][..., :2])
    assert augmenter.report().rows == len(changed_rows(pose_3d, made[0])) > 0


def test_windows_are_grouped_by_their_centre_frame() -> None:
    augmenter, model = recording(ALL, fmt=CLIPS)
    given = clips(5)
    pose_3d, pose_2d, _ = augmenter(given)
    model(pose_2d)
    rows = changed_rows(given[0], pose_3d)
    bins = augmenter.report().bins
    for name, values in (
        ("distance", pose_3d[rows, 2, 0, 2]),
        ("place", pose_2d[rows, 2, 0].norm(dim=-1)),
    ):
        ends = bins[name][0].low, bins[name][-1].high
        assert ends == pytest.approx((float(values.min()), float(values.max())), abs=1e-4)


def test_scenes_in_pixels_as_integers_are_recorded() -> None:
    width, height = 1000.0, 800.0
    pose_3d, pose_2d, _ = (x[:, 0] if x.ndim == 4 else x for x in clips(1))
    pixels = ((pose_2d + torch.tensor([1, height / width])) * width / 2).round().short()
    given = [pose_3d.view(-1, 2, 16, 3), pixels.view(-1, 2, 16, 2)]
    fmt = dict(pose_3d=0, pose_2d=1, root="absolute", screen=(width, height), scenes=True)
    augmenter, model = recording(small("random", ratio=1.0), fmt=fmt)
    written = augmenter(given)
    found = errors(model(written[1].float() / width), written[0])
    with pytest.raises(DataError):  # divided by the loop: these are not the numbers of the batch
        augmenter.report()
    found = errors(model(written[1].float()), written[0])
    rows = (written[0] != given[0]).flatten(2).any(2)
    assert rows.any()
    assert told(augmenter) == (
        int(rows.sum()),
        pytest.approx(float(found[rows].mean()), rel=1e-4),
    )


def test_image_space_is_recorded_as_the_report_of_a_loader_measures_it() -> None:
    pose_3d, pose_2d, _ = clips(3)
    depth = pose_3d[..., 2:] - pose_3d[:, :, :1, 2:]
    given = [torch.cat([pose_2d, depth / pose_3d[:, :, :1, 2:]], -1), pose_2d]
    fmt = dict(pose_3d=0, pose_2d=1, root="absolute", space="image")
    augmenter, model = recording(HALF, fmt=fmt)
    for _ in range(20):
        model(augmenter(given)[1])
    recorded, measured = augmenter.report(), augmenter.report([given] * 20, 20)
    assert recorded.error == pytest.approx(measured.error, rel=0.15)
    assert recorded.original == pytest.approx(measured.original, rel=0.15)


def test_a_wrapper_around_the_model_is_no_hindrance() -> None:
    """Passed wrapped or not, and called either way; replicas of DataParallel do not count."""
    inner = Lifter(norm=False, dropout=0.0)
    for passed in (inner, DataParallel(inner)):
        augmenter, _ = recording(model=passed)
        DataParallel(inner)(augmenter(batch())[1])
        if passed is inner:
            assert told(augmenter)[0] == 4
        else:
            passed(augmenter(batch())[1])
            assert told(augmenter)[0] == 4
        augmenter.detach()
    augmenter, model = recording(model=inner)
    pose_2d = augmenter(batch())[1]
    copy.copy(model)(pose_2d)  # with the same hooks, as a replica
    with pytest.raises(DataError):
        augmenter.report()


def test_compiled_models_are_recorded_and_compiled_steps_are_told() -> None:
    augmenter, model = recording(model=torch.compile(Lifter(norm=False), backend="eager"))
    model(augmenter(batch())[1])
    assert told(augmenter)[0] == 4
    augmenter, model = recording()
    whole = torch.compile(lambda x: model(x).sum(), backend="eager", fullgraph=True)
    whole(augmenter(batch())[1]).backward()
    with pytest.raises(DataError, match="pass the compiled model"):
        augmenter.report()


# What it keeps


def test_memory_is_bounded_and_nothing_of_the_caller_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorder, "ROWS_KEPT", 3 * ROWS)
    augmenter, model = recording()
    kept: list[weakref.ref[Any]] = []

    def loop(seed: int) -> None:
        given = batch(rows=ROWS, seed=seed)
        written = augmenter(given)
        predicted = model(written[1])
        predicted.sum().backward()
        kept[:] = [weakref.ref(x) for x in (*given, *written, predicted) if torch.is_tensor(x)]

    for seed in range(5):
        loop(seed)
        gc.collect()
        assert not any(x() is not None for x in kept)
    assert told(augmenter)[0] == 3 * ROWS / 2
    parts = augmenter._recorder._kept  # type: ignore[union-attr]
    assert not any(x.requires_grad for part in parts for x in vars(part).values())


def test_a_saved_state_has_no_report() -> None:
    augmenter, model = recording()
    model(augmenter(batch())[1])
    plain = PoseAugmenter(*_fresh(), "poseaug", config=HALF)
    plain(batch())
    state = augmenter.state_dict()
    assert state.keys() == plain.state_dict().keys()
    plain.load_state_dict(state)  # with or without the option
    augmenter.load_state_dict(state)
    with pytest.raises(DataError, match="no augmented row yet"):
        augmenter.report()


def _fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Lifter(norm=False)
    return model, torch.optim.SGD(model.parameters(), lr=0.0)


def test_detach_removes_the_hook_and_keeps_the_report() -> None:
    plain = Lifter(norm=False)
    keys = set(vars(plain))
    augmenter, model = recording()
    written = augmenter(batch())
    model(written[1])
    before = told(augmenter)
    augmenter.detach()
    augmenter.detach()
    assert set(vars(model)) == keys
    assert not model._forward_hooks
    assert not model._forward_hooks_with_kwargs
    model(written[1])
    assert told(augmenter) == before
    assert b"poseaug" not in pickle.dumps(model)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_of_the_model_record_nothing(clone: Any) -> None:
    augmenter, model = recording()
    copied = clone(model)
    assert len(pickle.dumps(copied)) < len(pickle.dumps(Lifter(norm=False))) + 500
    copied(augmenter(batch())[1])
    with pytest.raises(DataError):
        augmenter.report()
    model(augmenter(batch())[1])
    assert told(augmenter)[0] == 4
    both = copy.deepcopy(augmenter)  # with its own model
    both.detach()
    assert told(both) == told(augmenter)
    assert model._forward_hooks


def test_an_unreferenced_augmenter_is_freed() -> None:
    augmenter, model = recording()
    written = augmenter(batch())
    model(written[1])
    reference = weakref.ref(augmenter)
    del augmenter
    gc.collect()
    assert reference() is None
    model(written[1])


def test_a_report_of_a_loader_draws_other_numbers_for_each_batch() -> None:
    augmenter, _, _ = attached(ALL)
    given = batch(rows=ROWS)
    once, twice = (augmenter.report([given] * times) for times in (1, 2))
    assert twice.rows > once.rows
    assert twice.error != pytest.approx(once.error, rel=1e-6)


def test_steps_of_the_usual_loop_are_recorded() -> None:
    augmenter, model, optimizer = attached(PoseAugConfig.default(), report=True)
    for _ in range(2):
        for each in augmenter.wrap(loader(rows=64, size=ROWS)):
            step(model, optimizer, each)
    assert augmenter.report().rows >= 0.7 * augmenter.stats()["augmented"]
