"""What used to harm a run without a word: each of these failed before its mend."""

from __future__ import annotations

import copy
import pickle
import threading
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from helpers import people
from loop_helpers import Lifter, attached, batch, loader, same, small, snapshot, step, train
from poseaug_plugin import EstimatorError, PoseAugmenter, PoseAugWarning
from poseaug_plugin.adversarial import collapse
from poseaug_plugin.geometry.camera import Camera, project
from poseaug_plugin.loop.estimator import Estimator, full_precision
from poseaug_plugin.loop.loader import AugmentedLoader


def test_a_loader_in_another_thread_is_augmented_while_networks_update() -> None:
    """The model is in evaluation mode then, which is the plugin's own doing."""
    model = Lifter(norm=False).train()
    estimator, seen = Estimator(model), []
    with estimator.untouched():
        assert not model.training
        thread = threading.Thread(target=lambda: seen.append(estimator.training))
        thread.start()
        thread.join()
        assert estimator.training
    assert seen == [True]
    model.eval()
    with estimator.untouched():
        assert not estimator.training
    assert not estimator.training


def test_a_deep_copys_detach_leaves_the_original_attached() -> None:
    augmenter, model, optimizer = attached(small("residual"))
    copied = copy.deepcopy(augmenter)
    copied.detach()
    train(model, optimizer, augmenter.wrap(loader()))
    assert augmenter.stats()["updates"] > 0
    with pytest.raises(ValueError, match="has an augmenter already"):
        PoseAugmenter(model, optimizer, "poseaug")
    augmenter.detach()
    PoseAugmenter(model, optimizer, "poseaug")


def test_next_indices_and_pickles_work_as_on_the_loader_itself() -> None:
    augmenter, _, _ = attached(small("random", ratio=1.0))
    batches = [batch(seed=i) for i in range(3)]
    wrapped: Any = augmenter.wrap(iter(batches))
    first, second = next(wrapped), next(wrapped)
    assert not torch.equal(first[0], batches[0][0])
    assert not torch.equal(second[0], batches[1][0])
    assert len(list(wrapped)) == 1
    indexed: Any = augmenter.wrap(batches)
    assert indexed[1] is batches[1]
    assert not hasattr(augmenter.wrap(loader()), "__next__")
    assert not hasattr(augmenter.wrap(loader()), "__getitem__")
    again = pickle.loads(pickle.dumps(augmenter.wrap(batches)))
    assert same(snapshot(again), snapshot(batches))
    assert isinstance(copy.copy(augmenter.wrap(batches)), AugmentedLoader)


def test_tf32_is_off_in_our_arithmetic_and_back_afterwards() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with full_precision(torch.device("cpu")):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def test_an_error_before_the_update_does_not_reach_the_callers_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from poseaug_plugin.geometry.pose_batch import PoseBatch

    augmenter, model, optimizer = attached(small("residual"))
    augmenter(batch())

    def broken(self: PoseBatch) -> PoseBatch:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(PoseBatch, "usable", broken)
    with pytest.warns(PoseAugWarning, match="out of memory"):
        step(model, optimizer, batch())


def test_a_failed_update_is_counted_and_reported() -> None:
    events: list[str] = []
    fails = False

    def predict(net: Any, pose_2d: Tensor) -> Any:
        if fails:
            raise RuntimeError("out of memory")
        return net(pose_2d)

    augmenter, model, optimizer = attached(
        small("residual"),
        predict=predict,
        callbacks=[lambda e: events.append(e.message) if e.kind == "failed_update" else None],
    )
    wrapped = augmenter.wrap(loader())
    train(model, optimizer, wrapped)
    fails = True
    with pytest.warns(PoseAugWarning, match="failed and was skipped"):
        train(model, optimizer, wrapped)
    assert augmenter.stats()["failed_updates"] == len(events) == 2
    assert augmenter.stats()["updates"] == 2


def test_a_look_in_inference_mode_does_not_prevent_updates() -> None:
    """Networks made in inference mode cannot be trained."""
    augmenter, model, optimizer = attached(small("residual"))
    with torch.inference_mode():
        augmenter.preview(batch())
    train(model, optimizer, augmenter.wrap(loader()))
    assert augmenter.stats()["updates"] == augmenter.stats()["steps"] == 2


class Checkpointed(Lifter):
    """Saves memory by computing activations twice; "detached" has no gradient at all."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, pose_2d: Tensor) -> Tensor:
        if self.how == "detached":
            return super().forward(pose_2d).detach()
        reentrant = self.how == "reentrant"
        answer: Tensor = checkpoint(super().forward, pose_2d, use_reentrant=reentrant)
        return answer


@pytest.mark.parametrize("how", ["reentrant", "not reentrant", "detached"])
def test_a_model_without_gradients_for_the_feedback_is_found_at_the_first_batch(how: str) -> None:
    model = Checkpointed(how)
    optimizer = torch.optim.Adam(model.parameters())
    augmenter = PoseAugmenter(model, optimizer, "poseaug", config=small("residual"))
    if how == "not reentrant":
        train(model, optimizer, augmenter.wrap(loader()))
        assert augmenter.stats()["updates"] == 2
        return
    with pytest.raises(EstimatorError, match=r"no gradient.*use_reentrant=False.*feedback='off'"):
        augmenter(batch())
    assert all(p.grad is None for p in model.parameters())
    assert all(m.training for m in model.modules())
    augmenter.detach()
    other = PoseAugmenter(model, optimizer, "poseaug", config=small("residual", feedback="off"))
    other(batch())
    optimizer.step()
    assert other.stats()["updates"] == 1


# Collapse


def watched(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tuple[Any, Any, Any, list[str]]:
    monkeypatch.setattr(collapse, "WINDOW", 20)
    events: list[str] = []
    augmenter, model, optimizer = attached(
        small("residual", **changes),
        callbacks=[lambda e: events.append(e.message) if e.kind == "collapse" else None],
    )
    return augmenter, model, optimizer, events


def test_a_discriminator_that_explodes_is_found_and_restarted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    augmenter, model, optimizer, events = watched(monkeypatch)
    train(model, optimizer, augmenter.wrap(loader()))
    with torch.no_grad():
        for parameter in augmenter._trainer.nets["d3d"].parameters():
            parameter *= 1000
    with pytest.warns(PoseAugWarning, match="has collapsed") as told:
        train(model, optimizer, augmenter.wrap(loader()), epochs=12)
    assert any("d3d restarted: its loss is" in str(w.message) for w in told)
    assert any("d3d restarted" in event and "diverged" in event for event in events)
    assert augmenter.stats()["loss_d3d"] < 10


class Sick(Lifter):
    """Predicts NaN while it is sick."""

    sick = False

    def forward(self, pose_2d: Tensor) -> Tensor:
        answer: Tensor = super().forward(pose_2d)
        return answer * float("nan") if self.sick else answer


def test_an_estimator_that_predicts_nan_and_recovers_costs_no_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collapse, "WINDOW", 20)
    monkeypatch.delitem(collapse.LIMITS, "model_error")  # the estimator has learned nothing
    events: list[str] = []
    model = Sick(norm=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    augmenter = PoseAugmenter(
        model,
        optimizer,
        "poseaug",
        config=small("residual"),
        callbacks=[lambda e: events.append(e.message) if e.kind == "collapse" else None],
    )
    for number in range(45):
        model.sick = 10 <= number < 20
        augmenter(batch(seed=number))
        optimizer.step()
    assert augmenter.stats()["updates"] == 45
    assert not events
    assert all(v.isfinite().all() for v in augmenter._trainer.nets["augmentor"].parameters())


def test_an_augmentor_of_nan_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    augmenter, model, optimizer, events = watched(monkeypatch)
    train(model, optimizer, augmenter.wrap(loader()))
    with torch.no_grad():
        for parameter in augmenter._trainer.nets["augmentor"].parameters():
            parameter.fill_(float("nan"))
    with pytest.warns(PoseAugWarning, match="has collapsed") as told:
        train(model, optimizer, augmenter.wrap(loader()), epochs=12)
    assert any("d3d restarted: its loss is nan" in str(w.message) for w in told)
    assert any("augmentor restarted" in event for event in events)
    assert all(v.isfinite().all() for v in augmenter._trainer.nets["augmentor"].parameters())


# Shares


@pytest.mark.filterwarnings("ignore:almost no augmented pair")  # these people touch each other
@pytest.mark.parametrize("people_per_image", [2, 4, 6])
@pytest.mark.parametrize("ratio", [0.1, 0.35, 0.8])
def test_the_share_of_rows_holds_for_whole_scenes(people_per_image: int, ratio: float) -> None:
    fmt = dict(pose_3d=0, pose_2d=1, groups=2, root="absolute")
    augmenter, _, _ = attached(small("random", ratio=ratio), batch=fmt)
    pose_3d = people(24)[:, 0]
    groups = torch.arange(24) // people_per_image
    given = pose_3d, project(pose_3d, Camera().intrinsics), groups
    for _ in range(60):
        augmenter(given)
    assert augmenter.stats()["rows"] / (60 * 24) == pytest.approx(ratio, abs=0.01)


def test_few_usable_pairs_are_told_with_the_reason() -> None:
    """A giant, or millimetres taken for metres: nobody fits into the image."""
    augmenter, _, _ = attached(small("random", ratio=1.0, distance=(0.3, 0.4)))
    for number in range(19):
        augmenter(batch(seed=number))
    with pytest.warns(PoseAugWarning, match=r"almost no augmented pair.*\d+% .*distance="):
        augmenter(batch())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        augmenter(batch())
        fine, _, _ = attached(small("random", ratio=1.0))
        for number in range(25):
            fine(batch(seed=number))


def test_a_warm_up_is_no_reason_to_tell_of_few_usable_pairs() -> None:
    """In it nothing is augmented, and networks that have learned nothing say nothing yet."""
    augmenter, model, optimizer = attached(small("released", warmup_steps=30))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "almost no augmented pair")
        for number in range(30):
            augmenter(given := batch(seed=number))
            step(model, optimizer, given)
    assert augmenter.stats()["rows"] == 0
    with torch.no_grad():
        for parameter in augmenter._trainer.nets["augmentor"].last.parameters():
            parameter.zero_()  # everybody at the camera
    for number in range(19):
        augmenter(batch(seed=number))
    with pytest.warns(PoseAugWarning, match="almost no augmented pair"):
        augmenter(batch())


def test_batches_in_which_no_row_is_due_are_not_judged() -> None:
    augmenter, _, _ = attached(small("random", ratio=1e-3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(25):
            augmenter(batch(seed=number))
    assert augmenter.stats()["rows"] == 0


def test_the_reason_changes_no_random_number() -> None:
    drawn = []
    for few in (0.0, 1.0):
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            patch.setattr("poseaug_plugin.plugin.FEW_ACCEPTED", few)
            augmenter, _, _ = attached(small("random", ratio=1.0))
            drawn.append([augmenter(batch(seed=number))[0] for number in range(22)])
    assert all(torch.equal(a, b) for a, b in zip(*drawn))
