"""New entries in the tables of discriminators and operators."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from helpers import H36M, generator
from loop_helpers import (
    Lifter,
    attached,
    augmentor_weights,
    batch,
    loader,
    same,
    small,
    snapshot,
    train,
)
from poseaug_plugin import PoseAugWarning, Skeleton
from poseaug_plugin.adversarial import collapse
from poseaug_plugin.adversarial.discriminators import DISCRIMINATORS, Discriminator
from poseaug_plugin.adversarial.layers import ParallelLinear
from poseaug_plugin.augment.augmentation import BONE_OPERATORS, Operator
from poseaug_plugin.augment.draws import uniform
from poseaug_plugin.geometry.bones import Bones


class LengthDiscriminator(torch.nn.Module):
    """A discriminator of bone lengths."""

    def __init__(self, skeleton: Skeleton, rng: torch.Generator) -> None:
        super().__init__()
        self.first = ParallelLinear(1, skeleton.num_bones, 8, rng)
        self.last = ParallelLinear(1, 8, 1, rng)

    def forward(self, length: torch.Tensor) -> torch.Tensor:
        score: torch.Tensor = self.last(self.first(length[None]).relu())[0]
        return score


def entry(weight: float) -> Discriminator:
    return Discriminator(
        weight=lambda config: weight,
        build=lambda skeleton, config, rng: LengthDiscriminator(skeleton, rng),
        view=lambda pairs: pairs.bones.length,
    )


@pytest.fixture
def third_discriminator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DISCRIMINATORS, "lengths", entry(2.0))


@pytest.mark.usefixtures("third_discriminator")
def test_a_new_discriminator_is_trained_saved_and_resumed() -> None:
    config = small("residual", lr=0.01, stretch=0.9, body_scale=0.9)
    augmenter, model, optimizer = attached(config)
    before = copy.deepcopy(trained(augmenter, model, optimizer, 1))
    state = snapshot(augmenter)[0]["engine"]["trainer"]
    for kind in ("nets", "optimizers", "pools"):
        assert set(state[kind]) >= {"d3d", "lengths"}
    after = trained(augmenter, model, optimizer, 30)
    assert not same(before, after)
    stats = augmenter.stats()
    assert stats["lengths_real"] > stats["lengths_fake"] + 0.1
    other, _, _ = attached(config)
    other.load_state_dict(augmenter.state_dict())
    assert same(snapshot(other)[0]["engine"], snapshot(augmenter)[0]["engine"])


@pytest.mark.usefixtures("third_discriminator")
def test_a_new_discriminator_is_restarted_after_a_collapse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collapse, "WINDOW", 2)
    monkeypatch.setattr(collapse, "DISCRIMINATOR_LOSS_RANGE", (1e3, 1e4))  # so all have collapsed
    events: list[Any] = []
    augmenter, model, optimizer = attached(small("residual"), callbacks=[events.append])
    with pytest.warns(PoseAugWarning, match="what is learned has collapsed"):
        trained(augmenter, model, optimizer, 2)
    messages = [event.message for event in events if event.kind == "collapse"]
    assert any(message.startswith("lengths restarted") for message in messages)


def test_a_new_discriminator_trains_the_augmentor(monkeypatch: pytest.MonkeyPatch) -> None:
    no_other_loss = dict(adv3d=0.0, adv2d=0.0, reg_weight=0.0, reg_angles=0.0, feedback="off")
    changed = []
    for weight in (0.0, 2.0):
        monkeypatch.setitem(DISCRIMINATORS, "lengths", entry(weight))
        augmenter, model, optimizer = attached(small("residual", **no_other_loss))
        trained(augmenter, model, optimizer, 1)
        before = augmentor_weights(augmenter)
        trained(augmenter, model, optimizer, 1)
        after = augmentor_weights(augmenter)
        changed.append(not same(after, before))
    assert changed == [False, True]


def trained(augmenter: Any, model: Lifter, optimizer: Any, epochs: int) -> Any:
    """Train, and return the state of the discriminator of lengths."""
    train(model, optimizer, augmenter.wrap(loader()), epochs=epochs)
    return snapshot(augmenter)[0]["engine"]["trainer"]["nets"].get("lengths")


def test_a_new_operator_is_drawn_and_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator leans the trunk bones backward by one random amount per row."""

    def lean(bones: Bones, amount: torch.Tensor) -> Bones:
        step = bones.axes[..., 2] * amount
        trunk = torch.zeros(bones.skeleton.num_bones, 1)
        trunk[list(bones.skeleton.trunk)] = 1
        return bones.bend(step[..., None, :] * trunk)

    operator = Operator(
        on=lambda config, skeleton: True,
        uniform=lambda skeleton: 1,
        draw=lambda uniform, rng, skeleton, config: uniform,
        apply=lean,
    )
    monkeypatch.setitem(BONE_OPERATORS, "lean", operator)
    augmenter, _, _ = attached(
        small("random", bend=0.0, stretch=0.0, body_scale=0.0, swap_lengths=False)
    )
    original = batch(rows=8)
    source = Bones.of((original[0] - original[0][:, :1])[:, None], H36M)
    augmented, _, aug = augmenter.preview(original)
    assert aug.parameters["lean"].shape == (8, 1)
    applied = aug.apply(source.pose_3d, H36M)
    assert torch.allclose(applied, augmented.absolute, atol=1e-5)
    leaning = aug.stretch(aug.bend(source))
    cosine = (leaning.direction * source.direction).sum(-1)[:, 0]
    trunk = list(H36M.trunk)
    assert (cosine[:, trunk] < 0.999).any()
    others = [bone for bone in range(H36M.num_bones) if bone not in trunk]
    assert torch.allclose(cosine[:, others], torch.ones(()), atol=1e-5)


def test_random_numbers_are_float32_for_any_default_dtype() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert uniform(generator(), 2, 3).dtype is torch.float32
    finally:
        torch.set_default_dtype(torch.float32)
