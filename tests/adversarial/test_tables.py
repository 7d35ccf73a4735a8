"""What one row of a table adds: a discriminator, an operator."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from helpers import H36M, generator
from loop_helpers import Lifter, attached, batch, loader, same, small, snapshot, train
from poseaug_plugin import Skeleton
from poseaug_plugin.adversarial import collapse
from poseaug_plugin.adversarial.discriminators import DISCRIMINATORS, Discriminator
from poseaug_plugin.adversarial.layers import ParallelLinear
from poseaug_plugin.augment.augmentation import BONE_OPERATORS, Operator
from poseaug_plugin.augment.draws import uniform
from poseaug_plugin.geometry.bones import Bones


class OnLengths(torch.nn.Module):
    """A discriminator of bone lengths."""

    def __init__(self, skeleton: Skeleton, draws: torch.Generator) -> None:
        super().__init__()
        self.first = ParallelLinear(1, skeleton.num_bones, 8, draws)
        self.last = ParallelLinear(1, 8, 1, draws)

    def forward(self, length: torch.Tensor) -> torch.Tensor:
        score: torch.Tensor = self.last(self.first(length[None]).relu())[0]
        return score


@pytest.fixture
def third(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Discriminator(
        weight=lambda config: 2.0,
        build=lambda skeleton, config, draws: OnLengths(skeleton, draws),
        view=lambda pairs: pairs.bones.length,
    )
    monkeypatch.setitem(DISCRIMINATORS, "lengths", entry)


@pytest.mark.usefixtures("third")
def test_a_third_discriminator_is_one_row_trained_saved_and_resumed() -> None:
    config = small("residual", lr=0.01, stretch=0.9, body_scale=0.9)
    augmenter, model, optimizer = attached(config)
    before = copy.deepcopy(trained(augmenter, model, optimizer, 1))
    state = snapshot(augmenter)[0]["engine"]["trainer"]
    for kind in ("nets", "optimizers", "pools"):
        assert set(state[kind]) >= {"d3d", "lengths"}
    after = trained(augmenter, model, optimizer, 30)
    assert not same(before, after)
    stats = augmenter.stats()
    assert stats["lengths_real"] > stats["lengths_fake"] + 0.1  # it has learned to tell
    other, _, _ = attached(config)
    other.load_state_dict(augmenter.state_dict())
    assert same(snapshot(other)[0]["engine"], snapshot(augmenter)[0]["engine"])


@pytest.mark.usefixtures("third")
def test_a_third_discriminator_is_watched_and_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collapse, "WINDOW", 2)
    monkeypatch.setattr(collapse, "WON", 1e3)  # every discriminator has won by that
    told: list[Any] = []
    augmenter, model, optimizer = attached(small("residual"), callbacks=[told.append])
    trained(augmenter, model, optimizer, 2)
    events = [event.message for event in told if event.kind == "collapse"]
    assert any(message.startswith("lengths restarted") for message in events)


def test_its_loss_reaches_the_augmentor(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = dict(adv3d=0.0, adv2d=0.0, reg_weight=0.0, feedback="off", lr=1e-3)
    moved = []
    for weight in (0.0, 2.0):
        entry = Discriminator(
            weight=lambda config, weight=weight: weight,  # type: ignore[misc]
            build=lambda skeleton, config, draws: OnLengths(skeleton, draws),
            view=lambda pairs: pairs.bones.length,
        )
        monkeypatch.setitem(DISCRIMINATORS, "lengths", entry)
        augmenter, model, optimizer = attached(small("residual", **quiet))
        trained(augmenter, model, optimizer, 1)
        before = snapshot(augmenter)[0]["engine"]["trainer"]["nets"]["augmentor"]
        trained(augmenter, model, optimizer, 1)
        moved.append(
            not same(snapshot(augmenter)[0]["engine"]["trainer"]["nets"]["augmentor"], before)
        )
    assert moved == [False, True]


def trained(augmenter: Any, model: Lifter, optimizer: Any, epochs: int) -> Any:
    train(model, optimizer, augmenter.wrap(loader()), epochs=epochs)
    return snapshot(augmenter)[0]["engine"]["trainer"]["nets"].get("lengths")


def test_an_operator_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hunch: every unmirrored bone leans forward by the same share, drawn per row."""

    def hunch(bones: Bones, share: torch.Tensor) -> Bones:
        lean = bones.axes[..., 2] * share
        trunk = torch.zeros(bones.skeleton.num_bones, 1)
        trunk[list(bones.skeleton.trunk)] = 1
        return bones.bend(lean[..., None, :] * trunk)

    entry = Operator(
        on=lambda config, skeleton: True,
        uniform=lambda skeleton: 1,
        draw=lambda share, draws, skeleton, config: share,
        apply=hunch,
    )
    monkeypatch.setitem(BONE_OPERATORS, "hunch", entry)
    augmenter, _, _ = attached(
        small("random", bend=0.0, stretch=0.0, body_scale=0.0, swap_lengths=False)
    )
    given = batch(rows=8)
    source = Bones.of((given[0] - given[0][:, :1])[:, None], H36M)
    made, _, aug = augmenter.preview(given)
    assert aug.parameters["hunch"].shape == (8, 1)
    again = aug.apply(source.pose_3d, H36M)
    assert torch.allclose(again, made.absolute, atol=1e-5)
    hunched = aug.stretch(aug.bend(source))
    cosine = (hunched.direction * source.direction).sum(-1)[:, 0]
    trunk = list(H36M.trunk)
    assert (cosine[:, trunk] < 0.999).any()
    others = [bone for bone in range(H36M.num_bones) if bone not in trunk]
    assert torch.allclose(cosine[:, others], torch.ones(()), atol=1e-5)


def test_random_numbers_are_float32_whatever_the_default() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert uniform(generator(), 2, 3).dtype is torch.float32
    finally:
        torch.set_default_dtype(torch.float32)
