"""Ranges of views that widen while the estimator can follow."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import H36M
from loop_helpers import Lifter, attached, batch, people, same, seed_all, snapshot, step, train
from poseaug_plugin import Camera, PoseAugConfig, PoseAugmenter, PoseBatch
from poseaug_plugin.adversarial import collapse
from poseaug_plugin.adversarial.widening import Widening
from poseaug_plugin.augment.ranges import VIEW
from poseaug_plugin.augment.sampler import Sampler
from poseaug_plugin.batches.presets import FORMATS
from poseaug_plugin.geometry.bones import Bones, kcs
from poseaug_plugin.loop.estimator import Estimator

CPU, POSEAUG = torch.device("cpu"), FORMATS["poseaug"]
YAW, DISTANCE, FOCAL = (VIEW.index(name) for name in ("yaw", "distance", "log_focal"))


def config(beta: float = 1.2, **changes: Any) -> PoseAugConfig:
    # The distance is limited so that most pairs are in frame.
    options = dict(widen_views=beta, update_every=1, ratio=0.5, distance=(3.0, 8.0))
    return PoseAugConfig(**{**options, **changes})


class Oracle(nn.Module):
    """Answers what the augmenter has just made, off by an error that depends on the pair."""

    def __init__(self, error: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))
        self._error, self.pairs = error, None

    def forward(self, pose_2d: Tensor) -> Tensor:
        if self.pairs is None:
            return pose_2d.new_zeros(len(pose_2d), 16, 3) + self.unused
        error = self._error(self.pairs)[:, None, None]
        off_root = (torch.arange(16) > 0)[:, None].expand(16, 3)
        return self.pairs.pose_3d[:, 0] + error * off_root + 0 * self.unused


def widened(error: Callable[[Any], Tensor], updates: int = 60, **changes: Any) -> Tensor:
    """The shares (2, 7) after some updates beside an oracle with an error."""
    seed_all()
    model = Oracle(error)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    augmenter = PoseAugmenter(model, optimizer, "poseaug", config=config(**changes))
    batches = [batch(rows=256, seed=number) for number in range(4)]
    augmenter(batches[0])
    engine = augmenter._engine
    assert engine is not None
    sample_in = engine.sampler.sample_in

    def recorded(poses: Any, low: Tensor, high: Tensor) -> Any:
        made, accepted = sample_in(poses, low, high)
        recorded.made.append(made)
        return made, accepted

    def predict(net: Any, pose_2d: Tensor) -> Tensor:
        net.pairs = next(m for m in recorded.made if torch.equal(m.pose_2d[:, 0], pose_2d))
        return net(pose_2d)

    recorded.made = []
    engine.sampler.sample_in = recorded
    augmenter._estimator._predict = predict
    for number in range(updates):
        augmenter(batches[number % 4])
        recorded.made = []
        optimizer.step()
    stats = augmenter.stats()
    assert stats["updates"] == updates
    assert stats["failed_updates"] == 0
    shares = engine.sampler.own_views.shares
    assert stats["widened_yaw"] == pytest.approx(float(shares[:, YAW].mean()))
    return shares


def test_what_is_equally_hard_everywhere_widens_to_the_limits() -> None:
    shares = widened(lambda pairs: torch.full((len(pairs),), 0.05))
    # Nothing but pairs that leave the image stops it.
    assert (shares[:, [YAW, FOCAL]] > 0.9).all()
    assert shares.mean() > 0.6


def test_what_is_too_hard_stays_at_the_own_view() -> None:
    """Errors grow with the distance alone, 10 % for each metre."""
    shares = widened(lambda pairs: 0.05 * 1.1 ** pairs.root[:, 0, 2])
    assert (shares[:, YAW] > 0.8).all()
    assert shares[0, DISTANCE] > 0.8  # nearer is easier
    # The people are 4.5 m away: 1.2 times the squared error is 0.95 m further, a third of the way.
    assert shares[1, DISTANCE] == pytest.approx(0.33, abs=0.08)
    wider = widened(lambda pairs: 0.05 * 1.1 ** pairs.root[:, 0, 2], beta=4.0)
    assert wider[1, DISTANCE] > 0.8


def test_an_update_is_a_small_step() -> None:
    shares = widened(lambda pairs: torch.full((len(pairs),), 0.05), updates=1)
    assert 0 < shares.max() <= 0.02 + 1e-6


def test_ranges_narrow_again_where_the_model_fails() -> None:
    calls = []

    def error(pairs: Any) -> Tensor:
        calls.append(1)
        far = pairs.root[:, 0, 2] > 5.0
        fails = len(calls) > 80  # two calls an update
        return torch.where(far & fails, 0.5, 0.05)

    early = widened(error, updates=35)
    calls.clear()
    late = widened(error, updates=100)
    assert early[1, DISTANCE] > 0.4
    assert late[1, DISTANCE] < early[1, DISTANCE] - 0.2


def test_a_model_that_predicts_nan_changes_no_range_to_nan() -> None:
    shares = widened(lambda pairs: torch.full((len(pairs),), torch.nan), updates=5)
    assert not shares.any()


def widening(rows: int = 200, **fields: Tensor) -> tuple[Widening, PoseBatch]:
    """Half way to all limits, with some rows to measure with."""
    sampler = Sampler(H36M, config(), CPU)
    assert sampler.own_views is not None
    sampler.own_views.shares.fill_(0.5)
    given = people(rows)
    read = POSEAUG.read((given.pose_3d, given.pose_2d, None, given.camera), H36M, Camera())
    return Widening(sampler, sampler.own_views, 1.5), replace(read, **fields)


def measure(
    learner: Widening, poses: PoseBatch
) -> tuple[tuple[Tensor, Tensor], list[tuple[Any, ...]]]:
    """What an update measures, and what was asked for and made."""
    sampler, calls = learner._sampler, []
    sample_in = sampler.sample_in

    def recorded(poses: PoseBatch, low: Tensor, high: Tensor) -> Any:
        made = sample_in(poses, low, high)
        calls.append((low, high, *made))
        return made

    sampler.sample_in = recorded  # type: ignore[method-assign]
    estimator = Estimator(Lifter(norm=False))
    with estimator.untouched(), torch.no_grad():
        measured = learner._measure(poses, estimator, POSEAUG)
    sampler.sample_in = sample_in  # type: ignore[method-assign]
    return measured, calls


def test_a_row_is_at_one_end_and_compared_with_the_same_person_in_its_own_view() -> None:
    learner, poses = widening()
    (sums, error), ((low, high, made, _), (own_low, own_high, reference, _)) = measure(
        learner, poses
    )
    lowest, highest = learner._views.ends(poses)
    at_low, at_high = (high == lowest) & (low == lowest), (low == highest) & (high == highest)
    at_end = torch.cat([at_low, at_high], 1)
    assert (at_end.sum(1) == 1).all()
    assert at_end.any(0).all()
    between = ~(at_low | at_high)
    assert torch.equal(low[between], lowest[between])
    assert torch.equal(high[between], highest[between])
    assert torch.equal(sums[0], at_end.sum(0).float())
    assert torch.equal(own_low, own_high)
    assert torch.equal(own_low, learner._views.own(poses))
    new, old = (Bones.of(x.pose_3d[:, 0], H36M) for x in (made, reference))
    assert torch.allclose(new.length, old.length, atol=1e-4)
    assert torch.allclose(kcs(new.direction), kcs(old.direction), atol=1e-3)
    assert 0 < error < math.inf


def test_padding_is_not_tried_and_scenes_are_at_one_end() -> None:
    rows = torch.arange(200)
    learner, poses = widening(valid=rows % 5 > 0, group=rows // 4)
    ends = []
    for _ in range(2):
        (sums, _), ((low, high, *_), _) = measure(learner, poses)
        assert sums[0].sum() == 160
        at_end = (low == high).view(50, 4, -1)
        assert (at_end == at_end[:, :1]).all()
        assert at_end.any(0).all()
        ends.append(at_end)
    assert not torch.equal(*ends)


def test_a_step_by_its_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Down if few pairs are in frame or they are too hard, up if they are too easy."""
    learner, poses = widening()
    sums, wanted = torch.zeros(3, 14), torch.zeros(14)
    cases = [(10, 2, -9.0, -1.0), (10, 3, 0.0, 0.0), (10, 10, 0.5, -0.5), (10, 10, -2.0, 1.0)]
    for i, (tried, accepted, off, move) in enumerate(cases, 5):
        log_ratio = math.log(1.5) + off * math.log(1.2)
        sums[:, i], wanted[i] = torch.tensor([tried, accepted, accepted * log_ratio]), move
    monkeypatch.setattr(learner, "_measure", lambda *_: (sums, torch.ones(())))
    learner.update(poses, None, None, None)  # type: ignore[arg-type]
    steps = (learner._views.shares - 0.5).flatten() / 0.02
    assert torch.allclose(steps, wanted, atol=1e-4)
    assert learner.measures["widened_distance"] == learner._views.shares[:, DISTANCE].mean()
    assert learner._views.shares[0, DISTANCE] != learner._views.shares[1, DISTANCE]
    state = learner.state_dict()
    other, _ = widening()
    other.load_state_dict({**state, "shares": state["shares"] + torch.tensor([[-9.0], [9.0]])})
    assert other.updates == 1
    assert other._views.shares.tolist() == [[0.0] * 7, [1.0] * 7]


def test_a_run_resumes_with_its_ranges() -> None:
    first, model, optimizer = attached(config())
    train(model, optimizer, first.wrap([batch(rows=32, seed=i) for i in range(6)]))
    second, *_ = attached(config())
    second.load_state_dict(first.state_dict())
    one, other = first.preview(batch(rows=32)), second.preview(batch(rows=32))
    assert torch.equal(one[0].pose_2d, other[0].pose_2d)
    assert first.stats()["updates"] == second.stats()["updates"] == 6
    assert first.stats()["widened_yaw"] == second.stats()["widened_yaw"] > 0


def test_the_model_is_called_but_not_changed() -> None:
    seed_all()
    model = Lifter(norm=True, dropout=0.3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    augmenter = PoseAugmenter(model, optimizer, "poseaug", config=config())
    augmenter(batch(rows=64))
    before = snapshot(model.state_dict()), torch.get_rng_state()
    optimizer.step()
    assert augmenter.stats()["updates"] == 1
    assert same(before[0], snapshot(model.state_dict()))
    assert torch.equal(before[1], torch.get_rng_state())
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_a_default_dtype_of_float64_does_not_matter() -> None:
    augmenter, _, optimizer = attached(config())
    given = batch(rows=32)
    torch.set_default_dtype(torch.float64)
    try:
        for _ in range(2):
            augmenter(given)
            optimizer.step()
        stats = augmenter.stats()
    finally:
        torch.set_default_dtype(torch.float32)
    assert (stats["updates"], stats["failed_updates"]) == (2, 0)


def test_numbers_of_views_are_those_that_are_learned() -> None:
    augmenter, model, optimizer = attached(config())
    train(model, optimizer, augmenter.wrap([batch(rows=32)]))
    stats = augmenter.stats()
    assert "distance_low" not in stats  # each row has its own
    assert stats["joint_offset"] > 0
    assert not augmenter.check([batch(rows=32)])[0].ranges


def test_it_works_beside_learned_networks() -> None:
    options = dict(learned=True, warmup=0, width=16, d_width=16)
    augmenter, model, optimizer = attached(config(**options))
    train(model, optimizer, augmenter.wrap([batch(rows=32, seed=i) for i in range(3)]))
    stats = augmenter.stats()
    assert stats["updates"] == 3
    assert stats["widened_yaw"] > 0
    assert "loss_d3d" in stats


@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_answers_in_another_unit_than_the_batch_are_told(
    unit: float, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(collapse, "WINDOW", 20)
    augmenter, model, optimizer = attached(config(), predict=lambda net, x: unit * net(x))
    for seed in range(60):  # the model learns something first
        step(model, optimizer, batch(rows=32, seed=seed))
    for seed in range(20):
        step(model, optimizer, augmenter(batch(rows=32, seed=seed)))
    told = [str(w.message) for w in recwarn if "answers are in another unit" in str(w.message)]
    assert len(told) == (unit != 1)
    assert all("widen_views not restarted: it learns from the errors" in text for text in told)
    assert (augmenter.stats()["model_error"] > 0.9) is (unit != 1)
