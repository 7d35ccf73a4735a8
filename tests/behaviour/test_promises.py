"""The plugin does not change the caller's model, optimizer and random streams, bit for bit."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import pickle
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from loop_helpers import (
    attached,
    batch,
    loader,
    same,
    seed_all,
    small,
    snapshot,
    step,
    streams,
    train,
    trained,
)
from poseaug_plugin import AttachError, PoseAugmenter, PoseAugWarning

PRESETS = ["default", "random", "paper", "released"]


# Inactive


@contextlib.contextmanager
def inactive(how: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Any]:
    """The loader wrapped by an inactive plugin, or the plain loader."""
    plain = loader(shuffle=True)
    if how == "plain":
        yield plain
        return
    config = small(ratio=0.0) if how == "ratio 0" else small()
    augmenter = PoseAugmenter(model, optimizer, "poseaug", config=config)
    wrapped = augmenter.wrap(plain)
    if how == "disabled":
        augmenter.disable()
    if how == "detached":
        augmenter.detach()
    with augmenter.paused() if how == "paused" else contextlib.nullcontext():
        yield wrapped


def result_of(how: str, closure: bool) -> list[Any]:
    model, optimizer = trained()
    seed_all(1)
    with inactive(how, model, optimizer) as batches:
        train(model, optimizer, batches, epochs=3, closure=closure)
    return [snapshot(model, optimizer), streams()]


@pytest.mark.parametrize("closure", [False, True], ids=["plain step", "closure"])
@pytest.mark.parametrize("how", ["disabled", "ratio 0", "detached", "paused"])
def test_training_with_an_inactive_plugin_equals_plain_training(how: str, closure: bool) -> None:
    assert same(result_of(how, closure), result_of("plain", closure))


@pytest.mark.parametrize("closure", [False, True], ids=["plain step", "closure"])
def test_an_active_plugin_changes_training(closure: bool) -> None:
    augmenter, model, optimizer = attached(norm=True)
    train(model, optimizer, augmenter.wrap(loader()), closure=closure)
    plain = trained()
    train(*plain, loader(), closure=closure)
    assert augmenter.stats()["updates"] == 2
    assert not same(snapshot(model), snapshot(plain[0]))


# Active


@pytest.mark.parametrize("preset", PRESETS)
def test_an_active_plugin_leaves_shuffles_and_dropout_alone(preset: str) -> None:
    def run(plugin: bool) -> tuple[Any, list[Any], float]:
        model, optimizer = trained()
        batches, updates, actions = loader(shuffle=True), 0.0, []
        if plugin:
            config = small(preset, mix="replace")
            augmenter = PoseAugmenter(model, optimizer, "poseaug", 4, config=config)
            batches = augmenter.wrap(batches)
        for _ in range(2):
            for each in batches:
                actions.append(each[2])
                step(model, optimizer, each)
        if plugin:
            updates = augmenter.stats().get("updates", 0)
        return streams(), actions, updates

    with_plugin, without = run(True), run(False)
    assert same(with_plugin[:2], without[:2])
    assert with_plugin[2] == (0 if preset == "random" else 4)


class PartlyFrozen(nn.Module):
    """A lifter with a frozen part, as in fine-tuning."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Sequential(nn.Linear(32, 24), nn.BatchNorm1d(24), nn.Dropout(0.5))
        self.head = nn.Sequential(nn.BatchNorm1d(24), nn.Dropout(0.5), nn.Linear(24, 48))
        self.frozen.requires_grad_(False)

    def forward(self, pose_2d: torch.Tensor) -> torch.Tensor:
        return self.head(self.frozen(pose_2d.flatten(1))).view(-1, 16, 3)


@pytest.mark.parametrize("preset", ["default", "paper", "released"])
def test_an_update_does_not_change_the_model(preset: str) -> None:
    model = PartlyFrozen()
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.0)
    augmenter = PoseAugmenter(model, optimizer, "poseaug", config=small(preset, mix="replace"))
    model(batch()[1]).sum().backward()
    model.train()
    model.frozen.eval()

    def state() -> list[Any]:
        parameters = list(model.parameters())
        grads = [p.grad if p.grad is None else p.grad.clone() for p in parameters]
        flags = [m.training for m in model.modules()]
        return [snapshot(model, optimizer), grads, [p.requires_grad for p in parameters], flags]

    before = state()
    augmenter(batch())
    optimizer.step()
    assert augmenter.stats()["updates"] == 1
    assert augmenter.stats()["feedback"] != 0
    assert same(state(), before)
    assert all(p.grad is None for p in model.frozen.parameters())


def test_clipped_gradients_stay_clipped() -> None:
    augmenter, model, optimizer = attached()
    for each in augmenter.wrap(loader()):
        optimizer.zero_grad()
        model(each[1]).square().sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        norms = torch.stack([p.grad.norm() for p in model.parameters()])
        assert float(norms.norm()) <= 0.5 + 1e-5
    assert augmenter.stats()["updates"] == 2


# On and off


def hooks(optimizer: torch.optim.Optimizer) -> int:
    return len(optimizer._optimizer_step_post_hooks) + len(optimizer._optimizer_step_pre_hooks)


def test_detach_removes_everything_and_may_be_repeated() -> None:
    model, optimizer = trained()
    keys = set(vars(model))
    augmenter = PoseAugmenter(model, optimizer, "poseaug", config=small())
    assert hooks(optimizer) == 1
    train(model, optimizer, augmenter.wrap(loader()))
    augmenter.detach()
    augmenter.detach()
    assert hooks(optimizer) == 0
    assert set(vars(model)) == keys
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_detached_augmenter_cannot_be_enabled() -> None:
    augmenter, model, optimizer = attached()
    wrapped = augmenter.wrap([batch()])
    augmenter.detach()
    augmenter.enable()
    given = batch()
    assert augmenter(given) is given
    train(model, optimizer, wrapped)
    assert augmenter.stats()["steps"] == 0


def test_attach_again_after_detach() -> None:
    first, model, optimizer = attached()
    first.detach()
    second = PoseAugmenter(model, optimizer, "poseaug", config=small())
    first.detach()  # must not remove the hook of the second one
    train(model, optimizer, second.wrap(loader()))
    assert second.stats()["updates"] == 2
    with pytest.raises(AttachError, match="already"):
        PoseAugmenter(model, optimizer)


def test_enable_after_disable() -> None:
    augmenter, model, optimizer = attached()
    wrapped = augmenter.wrap(loader())
    train(model, optimizer, wrapped)
    augmenter.disable()
    train(model, optimizer, wrapped)
    assert augmenter.stats()["updates"] == 2
    augmenter.enable()
    train(model, optimizer, wrapped)
    assert augmenter.stats()["updates"] == 4


@pytest.mark.parametrize("before", [True, False])
def test_paused_restores_the_state_even_after_an_error(before: bool) -> None:
    augmenter, _, _ = attached()
    if not before:
        augmenter.disable()

    def fail() -> None:
        assert not augmenter.active
        raise RuntimeError("the caller's own")

    with pytest.raises(RuntimeError, match="the caller's own"), augmenter.paused():
        fail()
    assert augmenter.active is before


def test_a_batch_read_before_a_pause_trains_nothing_inside_it() -> None:
    augmenter, _, optimizer = attached()
    augmenter(batch())
    with augmenter.paused():
        optimizer.step()
    optimizer.step()
    assert augmenter.stats()["updates"] == 0


@pytest.mark.parametrize("how", ["eval", "no_grad", "inference", "set_grad_enabled"])
def test_nothing_is_augmented_outside_training(how: str) -> None:
    augmenter, model, optimizer = attached()
    batches = [batch()]
    guard: Any = contextlib.nullcontext()
    if how == "eval":
        model.eval()
    elif how == "inference":
        guard = torch.inference_mode()
    else:
        guard = torch.no_grad() if how == "no_grad" else torch.set_grad_enabled(False)
    with guard:
        (returned,) = list(augmenter.wrap(batches))
    assert returned is batches[0]
    optimizer.step()
    assert {k: v for k, v in augmenter.stats().items() if v} == {"steps": 1}


# Copies


def by_saving(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("clone", [copy.deepcopy, by_saving, AveragedModel])
def test_copies_of_the_model_do_not_contain_the_plugin(clone: Any) -> None:
    model, optimizer = trained()
    plain = set(vars(model))
    augmenter = PoseAugmenter(model, optimizer, "poseaug", config=small())
    train(model, optimizer, augmenter.wrap(loader()))
    optimizer.zero_grad()  # gradients would be copied too
    copied = clone(model)
    inner = copied.module if isinstance(copied, AveragedModel) else copied
    assert set(vars(inner)) == plain
    assert b"poseaug" not in pickle.dumps(inner)
    other = torch.optim.SGD(copied.parameters(), lr=0.1)
    step(copied, other, batch())
    assert augmenter.stats()["steps"] == 2
    PoseAugmenter(copied, other, "poseaug")  # a copy may have its own augmenter


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_of_the_optimizer_do_not_run_the_plugin(clone: Any) -> None:
    augmenter, _, optimizer = attached()
    augmenter(batch())
    clone(optimizer).step()
    assert augmenter.stats()["steps"] == 0
    optimizer.step()
    assert augmenter.stats()["updates"] == 1


def test_an_unreferenced_augmenter_is_freed() -> None:
    augmenter, model, optimizer = attached()
    train(model, optimizer, augmenter.wrap(loader()))
    reference = weakref.ref(augmenter)
    del augmenter
    gc.collect()
    assert reference() is None
    step(model, optimizer, batch())
    with pytest.warns(PoseAugWarning, match="dropped without detach"):
        PoseAugmenter(model, optimizer, "poseaug")


def test_a_wrapped_loader_keeps_its_augmenter_alive() -> None:
    model, optimizer = trained(norm=False)
    events: list[str] = []
    wrapped = PoseAugmenter(
        model,
        optimizer,
        "poseaug",
        config=small(),
        callbacks=[lambda event: events.append(event.kind)],
    ).wrap(loader())
    gc.collect()
    train(model, optimizer, wrapped)
    assert events == ["step", "step", "epoch"]


# Global settings of the caller


@pytest.mark.parametrize("preset", PRESETS)
def test_autocast_around_the_whole_loop_does_not_change_the_plugin(preset: str) -> None:
    """A framework may step inside autocast, and bfloat16 is too coarse for bone lengths."""

    def results(autocast: bool) -> list[Any]:
        augmenter, model, optimizer = attached(small(preset), norm=False)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            assert augmenter.check(loader())[0].ok
            given = [copy.deepcopy(each) for each in augmenter.wrap(loader())]
            shown = augmenter.preview(batch())[0].pose_3d
            for each in augmenter.wrap(loader()):
                model(each[1])
                optimizer.step()  # without gradients, the model does not change
        assert augmenter.stats()["bad_batches"] == 0
        return [given, shown, snapshot(augmenter)]

    assert same(results(True), results(False))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_default_dtype_does_not_change_the_plugin(preset: str) -> None:
    def results() -> list[Any]:
        augmenter, model, optimizer = attached(small(preset), norm=False)
        model.float()
        given = [copy.deepcopy(each) for each in augmenter.wrap(loader())]
        for each in augmenter.wrap(loader()):
            model(each[1])
            optimizer.step()
        assert augmenter.stats()["bad_batches"] == 0
        return [given, (snapshot(augmenter)[0]["engine"]["trainer"] or {}).keys()]

    expected = results()
    torch.set_default_dtype(torch.float64)
    try:
        found = results()
    finally:
        torch.set_default_dtype(torch.float32)
    assert same(found, expected)
