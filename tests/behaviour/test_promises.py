"""Nothing changes unless asked: the caller's model, optimizer and random streams, bit for bit."""

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
from poseaug_plugin import AttachError, PoseAugmenter

PRESETS = ["default", "random", "paper", "released"]


# Neutral


@contextlib.contextmanager
def neutral(how: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Any]:
    """The loader as a neutral plugin wraps it, or as it is."""
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
    with neutral(how, model, optimizer) as batches:
        train(model, optimizer, batches, epochs=3, closure=closure)
    return [snapshot(model, optimizer), streams()]


@pytest.mark.parametrize("closure", [False, True], ids=["plain step", "closure"])
@pytest.mark.parametrize("how", ["disabled", "ratio 0", "detached", "paused"])
def test_a_neutral_plugin_equals_plain_training(how: str, closure: bool) -> None:
    assert same(result_of(how, closure), result_of("plain", closure))


@pytest.mark.parametrize("closure", [False, True], ids=["plain step", "closure"])
def test_an_active_plugin_does_change_training(closure: bool) -> None:
    augmenter, model, optimizer = attached(norm=True)
    train(model, optimizer, augmenter.wrap(loader()), closure=closure)
    plain = trained()
    train(*plain, loader(), closure=closure)
    assert augmenter.stats()["updates"] == 2
    assert not same(snapshot(model), snapshot(plain[0]))


# Active, and yet


@pytest.mark.parametrize("preset", PRESETS)
def test_an_active_plugin_leaves_shuffles_and_dropout_alone(preset: str) -> None:
    def run(plugin: bool) -> tuple[Any, list[Any], float]:
        model, optimizer = trained()
        batches, updates, seen = loader(shuffle=True), 0.0, []
        if plugin:
            config = small(preset, mix="replace")
            augmenter = PoseAugmenter(model, optimizer, "poseaug", 4, config=config)
            batches = augmenter.wrap(batches)
        for _ in range(2):
            for each in batches:
                seen.append(each[2])
                step(model, optimizer, each)
        if plugin:
            updates = augmenter.stats().get("updates", 0)
        return streams(), seen, updates

    with_plugin, without = run(True), run(False)
    assert same(with_plugin[:2], without[:2])
    assert with_plugin[2] == (0 if preset == "random" else 4)


class Mixed(nn.Module):
    """A lifter some of whose parts are frozen by hand, as in fine-tuning."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Sequential(nn.Linear(32, 24), nn.BatchNorm1d(24), nn.Dropout(0.5))
        self.head = nn.Sequential(nn.BatchNorm1d(24), nn.Dropout(0.5), nn.Linear(24, 48))
        self.frozen.requires_grad_(False)

    def forward(self, pose_2d: torch.Tensor) -> torch.Tensor:
        return self.head(self.frozen(pose_2d.flatten(1))).view(-1, 16, 3)


@pytest.mark.parametrize("preset", ["default", "paper", "released"])
def test_a_turn_leaves_the_model_as_it_was(preset: str) -> None:
    model = Mixed()
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


def test_detach_leaves_no_trace_and_may_be_repeated() -> None:
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


def test_nothing_brings_a_detached_augmenter_back() -> None:
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
    first.detach()  # an old handle must not unhook the new one
    train(model, optimizer, second.wrap(loader()))
    assert second.stats()["updates"] == 2
    with pytest.raises(AttachError, match="already"):
        PoseAugmenter(model, optimizer)


def test_enable_goes_on_after_disable() -> None:
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
def test_paused_restores_what_was_even_after_an_error(before: bool) -> None:
    augmenter, _, _ = attached()
    if not before:
        augmenter.disable()

    def fail() -> None:
        assert not augmenter.active
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"), augmenter.paused():
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
def test_silent_outside_training(how: str) -> None:
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
        (passed,) = list(augmenter.wrap(batches))
    assert passed is batches[0]
    optimizer.step()
    assert {k: v for k, v in augmenter.stats().items() if v} == {"steps": 1}


# Copies


def by_saving(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("clone", [copy.deepcopy, by_saving, AveragedModel])
def test_copies_of_the_model_do_not_carry_the_plugin(clone: Any) -> None:
    model, optimizer = trained()
    plain = set(vars(model))
    augmenter = PoseAugmenter(model, optimizer, "poseaug", config=small())
    train(model, optimizer, augmenter.wrap(loader()))
    optimizer.zero_grad()  # gradients would be copied too
    made = clone(model)
    inner = made.module if isinstance(made, AveragedModel) else made
    assert set(vars(inner)) == plain
    assert b"poseaug" not in pickle.dumps(inner)  # its size hinges on addresses
    other = torch.optim.SGD(made.parameters(), lr=0.1)
    step(made, other, batch())
    assert augmenter.stats()["steps"] == 2
    PoseAugmenter(made, other, "poseaug")  # a copy is free to have its own


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_of_the_optimizer_do_not_run_the_plugin(clone: Any) -> None:
    augmenter, _, optimizer = attached()
    augmenter(batch())
    clone(optimizer).step()
    assert augmenter.stats()["steps"] == 0
    optimizer.step()
    assert augmenter.stats()["updates"] == 1


def test_dropping_the_augmenter_frees_it() -> None:
    augmenter, model, optimizer = attached()
    train(model, optimizer, augmenter.wrap(loader()))
    gone = weakref.ref(augmenter)
    del augmenter
    gc.collect()
    assert gone() is None
    step(model, optimizer, batch())
    PoseAugmenter(model, optimizer, "poseaug")


def test_the_wrapped_loader_alone_keeps_the_plugin_working() -> None:
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


# What the caller has set for the whole program


@pytest.mark.parametrize("preset", PRESETS)
def test_autocast_round_the_whole_loop_changes_nothing_of_ours(preset: str) -> None:
    """A Trainer's step, or a caller's, may stand inside it; bones of 5 mm are lost to bfloat16."""

    def made(autocast: bool) -> list[Any]:
        augmenter, model, optimizer = attached(small(preset), norm=False)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            assert augmenter.check(loader())[0].ok
            given = [copy.deepcopy(each) for each in augmenter.wrap(loader())]
            shown = augmenter.preview(batch())[0].pose_3d
            for each in augmenter.wrap(loader()):
                model(each[1])
                optimizer.step()  # without gradients the model stays as it is
        assert augmenter.stats()["bad_batches"] == 0
        return [given, shown, snapshot(augmenter)]

    assert same(made(True), made(False))


@pytest.mark.parametrize("preset", PRESETS)
def test_another_default_dtype_changes_nothing_of_ours(preset: str) -> None:
    def made() -> list[Any]:
        augmenter, model, optimizer = attached(small(preset), norm=False)
        model.float()
        given = [copy.deepcopy(each) for each in augmenter.wrap(loader())]
        for each in augmenter.wrap(loader()):
            model(each[1])
            optimizer.step()
        assert augmenter.stats()["bad_batches"] == 0
        return [given, (snapshot(augmenter)[0]["engine"]["trainer"] or {}).keys()]

    expected = made()
    torch.set_default_dtype(torch.float64)
    try:
        found = made()
    finally:
        torch.set_default_dtype(torch.float32)
    assert same(found, expected)
