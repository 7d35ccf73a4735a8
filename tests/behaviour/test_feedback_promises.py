"""The update after each step: what it trains, calls, and reports, and what can be switched off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from loop_helpers import (
    Lifter,
    attached,
    augmentor_weights,
    batch,
    changed_rows,
    loader,
    same,
    small,
    snapshot,
    step,
    train,
    trained,
)
from poseaug_plugin import (
    EstimatorError,
    Event,
    PoseAugConfig,
    PoseAugmenter,
    PoseAugWarning,
    Skeleton,
)
from poseaug_plugin.adversarial import collapse

H36M = Skeleton.of("h36m_16")
QUIET = dict(adv3d=0.0, adv2d=0.0, feedback="off", reg_weight=0.0, reg_angles=0.0)


def updates_of(augmenter: PoseAugmenter, optimizer: Any, steps: int) -> None:
    """Augment and step; without gradients, so that the model does not change."""
    for i in range(steps):
        augmenter(batch(seed=i))
        optimizer.step()


def nets(augmenter: PoseAugmenter) -> Any:
    return snapshot(augmenter)[0]["engine"]["trainer"]["nets"]


# What is trained


@pytest.mark.parametrize("preset", ["residual", "paper", "released"])
def test_an_update_trains_only_the_plugins_networks(preset: str) -> None:
    augmenter, model, optimizer = attached(small(preset, mix="replace"))
    updates_of(augmenter, optimizer, 1)
    old, before = nets(augmenter), snapshot(model)
    updates_of(augmenter, optimizer, 1)
    new = nets(augmenter)
    assert set(new) == {"augmentor", "d3d"} | ({"d2d"} if preset != "residual" else set())
    for part in new:
        assert not same(new[part], old[part])
    assert same(snapshot(model), before)


@pytest.mark.parametrize("preset", ["default", "paper", "released", "random"])
def test_every_preset_runs_and_stays_finite(preset: str) -> None:
    config = small(preset, mix="replace", warmup=1)
    augmenter, model, optimizer = attached(config, epochs=4)
    train(model, optimizer, augmenter.wrap(loader()), epochs=4)
    tensors = [p.detach() for p in model.parameters()]
    trainer = augmenter.state_dict()["engine"]["trainer"]
    for state in trainer["nets"].values() if trainer else ():
        tensors += [value for value in state.values() if isinstance(value, Tensor)]
    assert all(t.isfinite().all() for t in tensors)
    assert all(np.isfinite(v) for v in augmenter.stats().values())
    assert augmenter.stats()["epochs"] == 4
    assert augmenter.stats()["rows"] > 0


def test_random_trains_nothing_and_does_not_call_the_model() -> None:
    def never(model: nn.Module, pose_2d: Tensor) -> Tensor:
        raise AssertionError("the model was called")

    augmenter, _, optimizer = attached(small("random"), predict=never)
    updates_of(augmenter, optimizer, 3)
    assert augmenter.stats()["updates"] == 0
    assert augmenter.state_dict()["engine"]["trainer"] is None


def test_feedback_moves_the_augmentor() -> None:
    """With all losses off nothing is trained; each loss alone trains the augmentor."""

    def moved(**changes: Any) -> bool:
        augmenter, _, optimizer = attached(small("residual", **{**QUIET, **changes}))
        updates_of(augmenter, optimizer, 1)
        old = augmentor_weights(augmenter)
        updates_of(augmenter, optimizer, 1)
        return not same(augmentor_weights(augmenter), old)

    assert not moved()
    assert not moved(feedback="exp", feedback_weight=0.0)
    assert moved(feedback="log")
    assert moved(feedback="exp")
    assert moved(feedback="range")
    assert moved(adv3d=1.0)
    assert moved(adv2d=1.0)
    published = dict(prior=False, networks="separate")  # the outputs of others start at 0
    assert moved(reg_angles=1.0, **published)
    assert moved(reg_weight=1.0, reg_ba=0.0, **published)


# How the model is called


class ReturnsDict(nn.Module):
    """A model with a further argument, that returns a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.lifter = Lifter()

    def forward(self, pose_2d: Tensor, scale: float) -> dict[str, Tensor]:
        return {"pose": self.lifter(pose_2d) * scale}


def test_predict_is_used() -> None:
    calls: list[tuple[nn.Module, tuple[int, ...]]] = []

    def predict(net: nn.Module, pose_2d: Tensor) -> Tensor:
        calls.append((net, tuple(pose_2d.shape)))
        assert not net.training
        predicted: Tensor = net(pose_2d, 1.0)["pose"]
        return predicted

    model = ReturnsDict()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    config = small("residual")
    augmenter = PoseAugmenter(model, optimizer, "poseaug", config=config, predict=predict)
    updates_of(augmenter, optimizer, 1)
    assert augmenter.stats()["updates"] == 1
    assert {net for net, _ in calls} == {model}
    assert [shape for _, shape in calls] == [(2, 16, 2), (8, 16, 2), (8, 16, 2)]


class Parallel(nn.Module):
    """A wrapper like DataParallel, with the model in `module`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, pose_2d: Tensor) -> Tensor:
        raise AssertionError("the plugin called the wrapper")


def test_a_parallel_wrapper_is_unwrapped() -> None:
    outer = Parallel(Lifter())
    optimizer = torch.optim.SGD(outer.parameters(), lr=0.1)
    augmenter = PoseAugmenter(outer, optimizer, "poseaug", config=small())
    updates_of(augmenter, optimizer, 2)
    assert augmenter.stats()["updates"] == 2
    assert all(m.training for m in outer.modules())
    outer.eval()
    given = batch()
    assert augmenter(given) is given


@pytest.mark.parametrize(("rows", "used"), [(3, 3), (None, 8), (99, 8)])
def test_update_rows_limits_the_rows_that_the_model_is_called_with(
    rows: int | None, used: int
) -> None:
    sizes: list[int] = []

    def predict(net: nn.Module, pose_2d: Tensor) -> Tensor:
        sizes.append(len(pose_2d))
        predicted: Tensor = net(pose_2d)
        return predicted

    augmenter, _, optimizer = attached(small("residual", update_rows=rows), predict=predict)
    updates_of(augmenter, optimizer, 1)
    assert sizes == [2, used, used]


def test_an_update_that_fails_is_skipped_with_one_warning() -> None:
    calls: list[int] = []

    def predict(net: nn.Module, pose_2d: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("out of memory")
        predicted: Tensor = net(pose_2d)
        return predicted

    augmenter, model, optimizer = attached(predict=predict, norm=True)
    with pytest.warns(PoseAugWarning, match="out of memory") as caught:
        updates_of(augmenter, optimizer, 3)
    assert len(caught) == 1
    assert augmenter.stats()["updates"] == 0
    assert augmenter.stats()["steps"] == 3
    assert all(m.training for m in model.modules())


# When it runs


@pytest.mark.parametrize(("every", "updates"), [(1, 6), (2, 3), (4, 1)])
def test_update_every_counts_batches(every: int, updates: int) -> None:
    augmenter, _, optimizer = attached(small(update_every=every))
    updates_of(augmenter, optimizer, 6)
    assert augmenter.stats()["updates"] == updates


def test_the_first_update_ends_the_first_interval() -> None:
    augmenter, _, optimizer = attached(small(update_every=3))
    made = []
    for _ in range(7):
        updates_of(augmenter, optimizer, 1)
        made.append(augmenter.stats()["updates"])
    assert made == [0, 0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(("every", "updates"), [(1, 6), (2, 3), (4, 1)])
def test_updates_with_alternate(every: int, updates: int) -> None:
    """Each batch is followed by two steps; the first of them updates the networks."""
    augmenter, _, optimizer = attached(small(mix="alternate", update_every=every))
    for _ in augmenter.wrap([batch(seed=i) for i in range(6)]):
        optimizer.step()
    assert (augmenter.stats()["steps"], augmenter.stats()["updates"]) == (12, updates)


@pytest.mark.parametrize(("batches", "every", "updates"), [(2, 1, 4), (3, 2, 2)])
def test_update_every_counts_steps_with_gradient_accumulation(
    batches: int, every: int, updates: int
) -> None:
    augmenter, _, optimizer = attached(small(update_every=every))
    for i in range(4 * batches):
        augmenter(batch(seed=i))
        if i % batches == batches - 1:
            optimizer.step()
    assert (augmenter.stats()["steps"], augmenter.stats()["updates"]) == (4, updates)


def test_one_batch_gives_one_update_however_often_the_optimizer_steps() -> None:
    augmenter, _, optimizer = attached()
    augmenter(batch())
    for _ in range(3):
        optimizer.step()
    assert augmenter.stats()["updates"] == 1
    assert augmenter.stats()["steps"] == 3


def test_d_every_is_the_interval_of_discriminator_updates() -> None:
    augmenter, _, optimizer = attached(small("paper", d_every=3))
    updates_of(augmenter, optimizer, 1)
    moved = []
    for i in range(6):
        old = nets(augmenter)
        updates_of(augmenter, optimizer, 1)
        new = nets(augmenter)
        assert not same(old["augmentor"], new["augmentor"])
        if not same(old["d3d"], new["d3d"]):
            assert not same(old["d2d"], new["d2d"])
            moved.append(i)
    assert moved == [2, 5]


def test_feedback_is_used_after_the_warm_up() -> None:
    augmenter, _, optimizer = attached(small("residual", warmup=2))
    for epoch in range(4):
        for _ in augmenter.wrap(loader()):
            optimizer.step()
            assert ("hardness" in augmenter.stats()) is (epoch >= 2)


def test_the_learning_rate_decays_over_the_run() -> None:
    augmenter, _, optimizer = attached(small("residual", lr=0.01), epochs=3)
    rates = []
    for _ in range(3):
        for _ in augmenter.wrap([batch()]):
            optimizer.step()
        groups = augmenter.state_dict()["engine"]["trainer"]["optimizers"]["augmentor"][
            "param_groups"
        ]
        rates.append(groups[0]["lr"])
    assert rates == pytest.approx([0.01, 0.0075, 0.005])


# What can be switched off


def lengths(pose_3d: Tensor) -> Tensor:
    bones = pose_3d[:, 1:] - pose_3d[:, list(H36M.parent)]
    return bones.norm(dim=-1)


def cosines(pose_3d: Tensor) -> Tensor:
    bones = nn.functional.normalize(pose_3d[:, 1:] - pose_3d[:, list(H36M.parent)], dim=-1)
    return bones @ bones.transpose(-1, -2)


@pytest.mark.parametrize("off", ["ba", "bl", "rt"])
@pytest.mark.parametrize("preset", ["default", "random", "paper", "released"])
def test_each_operator_can_be_switched_off(preset: str, off: str) -> None:
    changes: dict[str, Any] = {off: False, "ratio": 1.0, "mix": "append"}
    augmenter, _, optimizer = attached(small(preset, lr=1e-2, **changes))
    updates_of(augmenter, optimizer, 3)
    given = batch()
    poses, _, _ = augmenter.preview(given)
    before, after = given[0], poses.absolute[:, 0]

    def close(x: Tensor, y: Tensor) -> bool:
        return bool((x - y).abs().max() < 1e-3)

    kept = {
        "ba": close(cosines(before), cosines(after)),
        "bl": close(lengths(before), lengths(after)),
        "rt": close(before[:, 0], after[:, 0]) and close(given[3], poses.camera),
    }
    assert kept == {name: name == off for name in kept}


def test_with_all_operators_off_poses_do_not_change() -> None:
    augmenter, _, optimizer = attached(small(ba=False, bl=False, rt=False, ratio=1.0))
    given = batch()
    augmented = augmenter(given)
    optimizer.step()
    assert (augmented[0] - given[0]).abs().max() < 1e-5
    assert augmenter.stats()["updates"] == 0


@pytest.mark.parametrize("part", ["d3d", "d2d"])
def test_a_discriminator_of_weight_0_is_not_built(part: str) -> None:
    name = f"adv{part[1:]}"
    augmenter, _, optimizer = attached(small("paper", **{name: 0.0}))
    updates_of(augmenter, optimizer, 2)
    (state,) = snapshot(augmenter)
    for kind in ("nets", "optimizers", "pools"):
        assert part not in state["engine"]["trainer"][kind]
    assert not any(part in key for key in augmenter.stats())
    assert augmenter.stats()["updates"] == 2


def test_without_feedback_the_model_is_never_called() -> None:
    class NotCallable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, pose_2d: Tensor) -> Tensor:
            raise AssertionError("the model was called")

    model = NotCallable()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    augmenter = PoseAugmenter(model, optimizer, "poseaug", config=small("residual", feedback="off"))
    updates_of(augmenter, optimizer, 2)
    assert augmenter.stats()["updates"] == 2
    assert not {"feedback", "hardness"} & set(augmenter.stats())


# What it reports


def test_stats_are_floats_and_correct() -> None:
    augmenter, model, optimizer = attached(small("paper", ratio=1.0))
    assert all(type(v) is float for v in augmenter.stats().values())
    train(model, optimizer, augmenter.wrap(loader()), epochs=2)
    stats = augmenter.stats()
    assert {k: type(v) for k, v in stats.items() if type(v) is not float} == {}
    expected = dict(batches=4, bad_batches=0, steps=4, rows=32, epochs=2, updates=4)
    assert {name: stats[name] for name in expected} == expected
    assert stats["accepted"] == stats["augmented"] / 32
    assert {"hardness", "feedback", "grad_norm", "loss_augmentor", "loss_d3d", "d2d_fake"} <= set(
        stats
    )


def test_callbacks_receive_steps_epochs_and_bad_batches() -> None:
    events: list[Event] = []
    other: list[str] = []
    augmenter, _, optimizer = attached(callbacks=[events.append, lambda e: other.append(e.kind)])
    bad = list(batch())
    bad[0] = bad[0] * float("nan")
    batches = iter(augmenter.wrap([batch(), tuple(bad)]))
    next(batches)
    optimizer.step()
    with pytest.warns(PoseAugWarning, match="NaN"):
        next(batches)
    optimizer.step()
    assert list(batches) == []
    assert [e.kind for e in events] == ["step", "bad_batch", "step", "epoch"]
    assert other == [e.kind for e in events]
    assert all(e.augmenter is augmenter for e in events)
    assert "NaN" in events[1].message
    assert events[0].message == ""


@pytest.mark.parametrize("unit", [1.0, 0.001, 1000.0])
def test_answers_in_another_unit_than_the_batch_are_told(
    unit: float, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(collapse, "WINDOW", 20)
    augmenter, model, optimizer = attached(
        small("residual", warmup_steps=60), predict=lambda net, x: unit * net(x)
    )
    for i in range(80):
        step(model, optimizer, augmenter(batch(rows=32, seed=i)))
    error = augmenter.stats()["model_error"]
    told = [w for w in recwarn if "answers are in another unit" in str(w.message)]
    assert len(told) == (unit != 1)
    # The line that steps the optimizer, and not one of torch, which calls the hook.
    assert all(Path(w.filename).name == "loop_helpers.py" for w in told)
    assert (error > 0.9) is (unit != 1)


@pytest.mark.parametrize("repair", [True, False])
@pytest.mark.parametrize("part", ["augmentor", "d3d", "d2d"])
def test_collapse_is_reported_and_repaired(
    part: str, repair: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collapse, "WINDOW", 3)
    report = collapse.CollapseReport(part, "it is a test")
    monkeypatch.setattr(collapse.CollapseWatch, "_reports", lambda self, means: [report])
    events: list[Event] = []
    config = small("residual", repair=repair, adv2d=1.0, lr=1e-3)
    augmenter, _, optimizer = attached(config, callbacks=[events.append])
    updates_of(augmenter, optimizer, 2)
    assert "collapse" not in {e.kind for e in events}
    cure = "restarted" if repair else "not restarted"
    with pytest.warns(PoseAugWarning, match=f"collapsed: {part} {cure}: it is a test"):
        updates_of(augmenter, optimizer, 1)
    assert [e.message for e in events if e.kind == "collapse"] == [f"{part} {cure}: it is a test"]
    state = snapshot(augmenter)[0]["engine"]["trainer"]
    restarted = {name for name, each in state["optimizers"].items() if not each["state"]}
    assert restarted == ({part} if repair else set())
    empty = {name for name, pool in state["pools"].items() if not pool["filled"]}
    assert empty == ({part} & {"d3d", "d2d"} if repair else set())
    at_prior = not state["nets"]["augmentor"]["last.weight"][1].any()
    assert at_prior is (repair and part == "augmentor")
    updates_of(augmenter, optimizer, 1)  # training continues
    assert augmenter.stats()["updates"] == 4


def test_each_part_that_collapses_is_warned_about_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collapse, "WINDOW", 1)
    parts = iter(["augmentor", "d3d", "augmentor", "d3d"])
    monkeypatch.setattr(
        collapse.CollapseWatch,
        "_reports",
        lambda self, means: [collapse.CollapseReport(next(parts), "it is a test")],
    )
    augmenter, _, optimizer = attached(small("residual"))
    with pytest.warns(PoseAugWarning, match="has collapsed") as told:
        updates_of(augmenter, optimizer, 4)
    assert [str(w.message).split()[5] for w in told] == ["augmentor", "d3d"]


def test_preview_augments_all_rows_and_changes_nothing() -> None:
    augmenter, model, optimizer = attached(small(ratio=1.0))
    updates_of(augmenter, optimizer, 1)
    given = batch()
    before = snapshot(augmenter, model, given)
    poses, good, parameters = augmenter.preview(given)
    assert same(snapshot(augmenter, model, given), before)
    again, _, _ = augmenter.preview(given)
    assert torch.equal(poses.pose_3d, again.pose_3d)
    absolute = poses.absolute
    relative = (given[0] - given[0][:, :1])[:, None]
    assert (parameters.apply(relative, H36M) - absolute).abs().max() < 1e-5
    assert good.shape == (8,)
    assert len(changed_rows(given[0], absolute[:, 0])) == 8


def test_results_depend_on_the_seed_alone() -> None:
    def result(seed: int, noise: int) -> Any:
        torch.manual_seed(noise)
        augmenter, _, optimizer = attached(small(seed=seed))
        torch.manual_seed(noise)
        updates_of(augmenter, optimizer, 1)
        return snapshot(augmenter(batch()))

    assert same(result(0, 1), result(0, 2))
    assert not same(result(0, 1), result(1, 1))


def test_configs_by_name() -> None:
    augmenter, _, _ = attached("random")
    assert augmenter.config == PoseAugConfig.random()
    assert attached(None)[0].config.trains


class WithSubmoduleCalledModule(nn.Module):
    """A model with a submodule called `module`."""

    def __init__(self) -> None:
        super().__init__()
        self.module, self.head = nn.Linear(32, 8), nn.Linear(8, 48)

    def forward(self, pose_2d: Tensor) -> Tensor:
        return self.head(self.module(pose_2d.flatten(1)).relu()).view(-1, 16, 3)


def test_a_submodule_called_module_is_not_the_model() -> None:
    model = WithSubmoduleCalledModule()
    optimizer = torch.optim.SGD(model.head.parameters(), lr=1e-3)
    augmenter = PoseAugmenter(model, optimizer, "poseaug", config=small())
    train(model, optimizer, augmenter.wrap(loader()))
    assert augmenter.stats()["updates"] == 2


def test_nan_predictions_do_not_change_the_networks() -> None:
    """Later updates train them again."""
    factors = iter([1.0, 1.0, float("nan"), 1.0, 1.0])  # the first for the check
    model, optimizer = trained(norm=False)
    augmenter = PoseAugmenter(
        model,
        optimizer,
        "poseaug",
        config=small(),
        predict=lambda net, x: net(x) * next(factors, 1.0),
    )
    for _ in range(6):
        augmenter(batch())
        optimizer.step()
    nets = augmenter.state_dict()["engine"]["trainer"]["nets"]
    assert all(weight.isfinite().all() for weight in nets["augmentor"].values())
    before = augmenter.stats()["augmented"]
    augmenter(batch())
    assert augmenter.stats()["augmented"] > before


def test_a_model_that_changes_its_input_in_place_is_told_with_the_cure() -> None:
    class InPlace(Lifter):
        def forward(self, pose_2d: Tensor) -> Tensor:
            pose_2d -= pose_2d[:, :1].clone()
            answer: Tensor = super().forward(pose_2d)
            return answer

    model = InPlace()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    config = small("residual", warmup_steps=0)
    augmenter = PoseAugmenter(model, optimizer, "poseaug", config=config)
    with pytest.raises(EstimatorError, match=r"in place, pass predict=lambda m, x: m\(x.clone"):
        augmenter(batch())
    augmenter.detach()
    predict = lambda m, x: m(x.clone())  # noqa: E731
    augmenter = PoseAugmenter(model, optimizer, "poseaug", config=config, predict=predict)
    for seed in range(2):
        augmenter(batch(seed=seed))
        optimizer.step()
    stats = augmenter.stats()
    assert (stats["updates"], stats["failed_updates"]) == (2, 0)
