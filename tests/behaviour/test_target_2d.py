"""`target_2d=` of the augmenter: what it changes in a run, resuming, warnings, errors."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from loop_helpers import attached, batch, same, seed_all, snapshot, step, streams, trained
from poseaug_plugin import (
    CheckpointError,
    ConfigError,
    EstimatorError,
    PoseAugConfig,
    PoseAugmenter,
    PoseAugWarning,
    plugin,
)
from poseaug_plugin.augment.lifting import Lifting
from poseaug_plugin.data import synthetic


@pytest.fixture(scope="module")
def poses() -> Tensor:
    return synthetic.make()[2].pose_2d


def new_run(target_2d: Any, config: Any = None) -> tuple[PoseAugmenter, Any, Any]:
    model, optimizer = trained(norm=False)
    augmenter = PoseAugmenter(model, optimizer, "poseaug", 4, config=config, target_2d=target_2d)
    return augmenter, model, optimizer


def run(augmenter: PoseAugmenter, model: Any, optimizer: Any, seeds: range) -> None:
    for each in augmenter.wrap([batch(seed=i, rows=16) for i in seeds]):
        step(model, optimizer, each)


@pytest.mark.parametrize("config", ["default", "random", dict(learned=True, width=8, d_width=8)])
def test_a_resumed_run_equals_an_uninterrupted_one(config: Any, poses: Tensor) -> None:
    whole = new_run(poses, config)
    run(*whole, range(3))
    state = copy.deepcopy([thing.state_dict() for thing in whole])
    seed_all(5)  # `step` draws from the global generators
    run(*whole, range(3, 6))

    second = new_run(poses[:50], config)  # the poses are part of the state
    for thing, saved in zip(second, state):
        thing.load_state_dict(saved)
    seed_all(5)
    run(*second, range(3, 6))
    assert same(snapshot(*second), snapshot(*whole))
    assert second[0].stats()["target_poses"] == len(poses)


def test_stats_and_the_table(poses: Tensor) -> None:
    augmenter, model, optimizer = new_run(poses)
    assert augmenter.target is None
    run(augmenter, model, optimizer, range(4))
    stats = augmenter.stats()
    assert stats["target_poses"] == len(poses)
    assert stats["target_visible"] == 1
    assert 0 < stats["target_error"] < 0.05
    assert stats["target_proportions"] > 0.01
    assert "unlabelled 2D poses" in str(augmenter.target)


@pytest.mark.parametrize("joint_offset", [None, 0.02])
def test_check_and_stats_tell_how_far_joints_are_moved(
    joint_offset: float | None, poses: Tensor
) -> None:
    augmenter, model, optimizer = new_run(poses, dict(joint_offset=joint_offset))
    found = [augmenter.check([batch()])[0].ranges["joint_offset"]]
    run(augmenter, model, optimizer, range(2))
    found += [augmenter.check([batch()])[0].ranges["joint_offset"]]
    found += [augmenter.stats()["joint_offset"]]
    assert found == pytest.approx([joint_offset or 0.0] * 3)


def test_without_a_target_the_batches_are_those_of_before() -> None:
    (one, *_), (other, *_) = new_run(None), attached(PoseAugConfig.default(), epochs=4)
    assert same(one(batch()), other(batch()))
    assert one.target is None
    assert not any(name.startswith("target") for name in one.stats())


def test_preview_changes_nothing_that_is_learned(poses: Tensor) -> None:
    augmenter, model, optimizer = new_run(poses)
    run(augmenter, model, optimizer, range(2))
    before = snapshot(augmenter)
    augmenter.preview(batch())
    assert same(snapshot(augmenter), before)


@pytest.mark.parametrize("options", [dict(bl=False), dict(rt=False), dict(mix="append")])
def test_parts_that_are_off_stay_off(options: dict[str, Any], poses: Tensor) -> None:
    augmenter, model, optimizer = new_run(poses, options)
    run(augmenter, model, optimizer, range(3))
    _, _, augmentation = augmenter.preview(batch())
    if options.get("bl") is False:
        assert augmentation.gamma_bl is None
    assert augmenter.stats()["bad_batches"] == 0


def test_a_state_with_a_target_needs_a_target(poses: Tensor) -> None:
    with_target, without = new_run(poses), new_run(None)
    for each in (with_target, without):
        run(*each, range(1))
    with pytest.raises(CheckpointError, match=r"saved with target_2d.* without target_2d"):
        without[0].load_state_dict(with_target[0].state_dict())
    with pytest.raises(CheckpointError, match=r"saved without target_2d.* with target_2d"):
        with_target[0].load_state_dict(without[0].state_dict())


@pytest.mark.parametrize("entry", ["pose_2d", "log_factor", "reach"])
def test_a_damaged_state_is_refused(entry: str, poses: Tensor) -> None:
    augmenter, model, optimizer = new_run(poses)
    run(augmenter, model, optimizer, range(1))
    state = augmenter.state_dict()
    state["engine"]["sampler"]["target"][entry][0] = torch.nan
    with pytest.raises(CheckpointError, match=rf"target\.{entry} has numbers that are not finite"):
        augmenter.load_state_dict(state)


def without_legs(pose_2d: Tensor) -> Tensor:
    missing = torch.zeros(16, 1)
    missing[1:7] = torch.nan
    return pose_2d + missing


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda x: x[:5], "the 5 poses of target_2d"),
        (lambda x: x * torch.tensor([1.0, -1.0]), "upside down"),
        (lambda x: batch(rows=64)[1], "the training data"),
        (
            without_legs,
            r"only 0\.0% of the poses .* three quarters of the joints \(none shows .*knee",
        ),
        (
            lambda x: torch.cat([x[:9], without_legs(x[9:])]),
            r"only 0\.\d% of the poses .* joints, and",
        ),
    ],
)
def test_warnings(made: Any, message: str, poses: Tensor) -> None:
    augmenter, *_ = new_run(made(poses))
    with pytest.warns(PoseAugWarning, match=message):
        augmenter(batch(rows=64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        augmenter(batch(rows=64, seed=1))


def test_poses_that_nobody_lifts_may_lack_joints(poses: Tensor) -> None:
    augmenter, *_ = new_run(without_legs(poses), dict(lifted_poses=0.0))
    augmenter(batch(rows=64))


def test_reading_a_shuffled_loader_draws_from_no_global_stream(poses: Tensor) -> None:
    loader = DataLoader(TensorDataset(torch.zeros(len(poses)), poses), 256, shuffle=True)
    (augmenter, *_), given = new_run(loader), batch()
    before = streams()
    augmenter(given)
    assert same(streams(), before)
    assert augmenter.stats()["target_poses"] == len(poses)


def test_an_unreadable_target_is_an_error_of_the_first_batch() -> None:
    augmenter, *_ = new_run(torch.zeros(4, 5, 2))
    with pytest.raises(ConfigError, match="target_2d cannot be read"):
        augmenter(batch())


class Counting(nn.Module):
    """A lifter with BatchNorm that counts its calls in training and in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.out = nn.BatchNorm1d(32), nn.Linear(32, 48)
        self.calls = {True: 0, False: 0}

    def forward(self, pose_2d: Tensor) -> Tensor:
        self.calls[self.training] += 1
        return self.out(self.norm(pose_2d.flatten(1))).view(-1, 16, 3)


def counted(target_2d: Any, steps: int = 8, **config: Any) -> tuple[Counting, PoseAugmenter]:
    torch.manual_seed(0)
    model = Counting()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    augmenter = PoseAugmenter(
        model, optimizer, "poseaug", 4, config=config or None, target_2d=target_2d
    )
    run(augmenter, model, optimizer, range(steps))
    return model, augmenter


def test_the_model_lifts_some_poses_after_every_few_steps(poses: Tensor) -> None:
    model, augmenter = counted(poses)
    assert model.calls == {True: 8, False: 2 + 1}  # one of them is the check of the first batch
    assert augmenter.stats()["updates"] == 2
    assert counted(poses, update_every=2)[0].calls[False] == 4 + 1
    assert model.training


@pytest.mark.parametrize("config", [dict(lifted_poses=0.0), dict(ba=False), dict(preset="random")])
def test_the_model_is_not_called_where_nothing_is_lifted(config: Any, poses: Tensor) -> None:
    model, augmenter = counted(poses, **config)
    assert model.calls == {True: 8, False: 0}
    assert augmenter.stats()["updates"] == augmenter.stats()["target_lifted"] == 0
    assert counted(None)[0].calls[False] == 0


def test_lifting_changes_neither_the_model_nor_a_random_stream(
    poses: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buffers of BatchNorm and all draws are those of a run in which nothing is lifted."""
    found = []
    for _ in range(2):
        seed_all(3)
        model, augmenter = counted(poses)
        found.append((snapshot(model), torch.rand(4), augmenter.stats()["accepted"]))
        monkeypatch.setattr(Lifting, "update", lambda *_: [])
    assert same(*found)


def test_a_model_that_cannot_be_called_is_told_with_the_cure(poses: Tensor) -> None:
    class TwoInputs(Counting):
        def forward(self, pose_2d: Tensor, lengths: Tensor) -> Tensor:
            return super().forward(pose_2d)

    model = TwoInputs()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    augmenter = PoseAugmenter(model, optimizer, "poseaug", 4, target_2d=poses)
    with pytest.raises(EstimatorError, match=r"pass predict=.*lifted_poses=0 in config="):
        augmenter(batch())
    augmenter.detach()
    config: dict[str, Any] = dict(learned=True, width=8, d_width=8)
    augmenter = PoseAugmenter(model, optimizer, "poseaug", 4, target_2d=poses, config=config)
    with pytest.raises(EstimatorError) as caught:  # it would call the model all the same
        augmenter(batch())
    assert "lifted_poses" not in str(caught.value)
    augmenter.detach()
    config = dict(lifted_poses=0.0)
    PoseAugmenter(model, optimizer, "poseaug", 4, target_2d=poses, config=config)(batch())


def test_a_model_that_fails_later_costs_no_step(poses: Tensor) -> None:
    class Fragile(Counting):
        def forward(self, pose_2d: Tensor) -> Tensor:
            if not self.training and self.calls[False] == 2:
                raise RuntimeError("out of memory")
            return super().forward(pose_2d)

    torch.manual_seed(0)
    model = Fragile()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    augmenter = PoseAugmenter(model, optimizer, "poseaug", 4, target_2d=poses)
    with pytest.warns(PoseAugWarning, match="out of memory"):
        run(augmenter, model, optimizer, range(12))
    assert model.calls[True] == 12
    assert augmenter.stats()["failed_updates"] == 2
    assert model.training


def test_a_model_without_a_clue_gives_no_poses(poses: Tensor) -> None:
    _, augmenter = counted(poses)
    assert augmenter.stats()["target_lifted"] < 0.05
    _, augmenter = counted(poses, learned=True, width=8, d_width=8)
    assert augmenter.stats()["updates"] == 2


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_model_that_lifts_nothing_is_told(
    mirrored: bool, poses: Tensor, monkeypatch: pytest.MonkeyPatch, recwarn: Any
) -> None:
    """A model whose x axis points to the left; the warning comes once."""
    monkeypatch.setattr(plugin, "UPDATES_TO_JUDGE", 2)

    def predict(model: Any, pose_2d: Tensor) -> Tensor:
        flat = pose_2d - pose_2d[:, :1]
        sign = torch.tensor([-1.0 if mirrored else 1.0, 1.0])
        return torch.cat([2 * sign * flat, 0 * flat[..., :1]], -1)

    model, optimizer = trained(norm=False)
    augmenter = PoseAugmenter(model, optimizer, "poseaug", 4, target_2d=poses, predict=predict)
    run(augmenter, model, optimizer, range(12))
    told = [str(w.message) for w in recwarn if "lifts 0.0% of the poses" in str(w.message)]
    assert (len(told), augmenter.stats()["target_lifted"] > 0.01) == (mirrored, not mirrored)
