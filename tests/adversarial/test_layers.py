"""Batched layers, against one layer at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from helpers import H36M, generator, people, settings
from poseaug_plugin.adversarial.augmentor import Augmentor
from poseaug_plugin.adversarial.discriminators import Discriminator2d, Discriminator3d
from poseaug_plugin.adversarial.layers import (
    Centring,
    ParallelLinear,
    ParallelNorm,
    Whitening,
    leaky,
)
from poseaug_plugin.augment.sampler import Draft
from poseaug_plugin.geometry.bones import Bones

BUILDERS: dict[str, Callable[[torch.Generator], nn.Module]] = {
    **{
        name: lambda rng, name=name: Augmentor(H36M, settings(name), rng)
        for name in ("residual", "paper", "released")
    },
    "parts": lambda rng: Discriminator3d(H36M, rng),
    "whole": lambda rng: Discriminator3d(H36M, rng, kcs="whole"),
    "d2d": lambda rng: Discriminator2d(H36M, rng),
}


def test_parallel_linear_equals_n_linear_layers() -> None:
    layer = ParallelLinear(3, 5, 7, generator())
    x = torch.randn(3, 11, 5, generator=generator(1))
    for net, out in enumerate(layer(x)):
        expected = F.linear(x[net], layer.weight[net].T, layer.bias[net, 0])
        assert torch.allclose(out, expected, atol=1e-6)


def test_layers_do_not_influence_each_other() -> None:
    layer = ParallelLinear(3, 5, 7, generator())
    layer(torch.ones(3, 4, 5))[1].sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().sum((1, 2)).gt(0).tolist() == [False, True, False]


def test_initial_weights_have_the_scale_of_their_fan_in() -> None:
    layer = ParallelLinear(2, 400, 300, generator(), fan_in=[400, 100])
    for net, width in enumerate((400, 100)):
        std = float(layer.weight[net].std().detach())
        assert std == pytest.approx((2 / width) ** 0.5, rel=0.02)
        assert abs(float(layer.weight[net].mean().detach())) < 0.01 * width**-0.5
        bias = layer.bias[net].detach() * width**0.5
        assert -1 <= float(bias.min()) < -0.9
        assert 0.9 < float(bias.max()) <= 1
    plain = ParallelLinear(1, 100, 300, generator())
    assert float(plain.weight.std().detach()) == pytest.approx(0.02**0.5, rel=0.02)


def test_zero_layers_start_at_zero_and_have_gradients() -> None:
    layer = ParallelLinear(1, 4, 2, generator(), zero=True)
    out = layer(torch.ones(1, 3, 4))
    assert torch.equal(out, torch.zeros(1, 3, 2))
    out.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.ne(0).all()


def test_parallel_norm_equals_batch_norm_in_training_mode() -> None:
    norm = ParallelNorm(3, 6)
    x = 3 * torch.randn(3, 20, 6, generator=generator()) + 2
    with torch.no_grad():
        norm.weight.copy_(torch.rand(3, 1, 6, generator=generator(1)) + 0.5)
        norm.bias.copy_(torch.randn(3, 1, 6, generator=generator(2)))
    for training in (True, False):  # evaluation mode changes nothing
        out = norm.train(training)(x)
        for net in range(3):
            single = nn.BatchNorm1d(6)
            single.load_state_dict(
                {"weight": norm.weight[net, 0], "bias": norm.bias[net, 0]}, strict=False
            )
            assert torch.allclose(out[net], single(x[net]), atol=1e-5)


def test_parallel_norm_of_one_row_is_its_bias() -> None:
    norm = ParallelNorm(2, 3)
    nn.init.constant_(norm.bias, 0.7)
    assert torch.equal(
        norm(torch.randn(2, 1, 3, generator=generator())), torch.full((2, 1, 3), 0.7)
    )


def test_centring_removes_the_mean_of_the_batch_or_the_running_mean() -> None:
    layer = Centring(2)
    x = torch.tensor([[0.5, -0.2], [0.1, 0.6]])
    assert torch.allclose(
        layer(x), torch.tensor([[0.2 / 1.3, -0.4 / 1.2], [-0.2 / 1.3, 0.4 / 1.2]])
    )
    mean = torch.tensor([0.03, 0.02])
    assert torch.allclose(layer.mean, mean)
    layer(x + 0.1)
    mean = mean + 0.1 * (torch.tensor([0.4, 0.3]) - mean)
    assert torch.allclose(layer.mean, mean)
    layer.eval()
    assert torch.allclose(layer(x), (x - mean) / (1 + mean))
    assert torch.allclose(layer(x[:1]), layer(x)[:1])
    assert torch.allclose(layer.mean, mean)
    assert layer(torch.tensor([[1.0, -1.0]])).abs().max() <= 1


def test_whitening_gives_vectors_the_same_variance_in_every_direction() -> None:
    rng = generator()
    along = torch.tensor([[1.0, -2.0, 0.5]]) * torch.randn(4000, 1, generator=rng)
    x = 0.05 * along + 0.02 * torch.randn(4000, 3, generator=rng)
    x = x - x.mean(0)
    layer = Whitening(1, 3)
    white = layer(x)
    before, after = torch.cov(x.T), torch.cov(white.T)
    low, high = torch.linalg.eigvalsh(after)[[0, -1]]
    assert high / low < 1.6
    assert torch.linalg.eigvalsh(before)[-1] / torch.linalg.eigvalsh(before)[0] > 30
    kept = float(after.trace() / before.trace())
    assert kept == pytest.approx(1, rel=0.25)
    assert white.mean(0).abs().max() < 1e-6
    for _ in range(100):
        layer(x)
    layer.eval()
    assert torch.allclose(layer(x), white, atol=1e-3)
    assert torch.allclose(layer(x[:1]), white[:1], atol=1e-3)


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0])
def test_whitening_is_finite_for_vectors_that_are_all_alike_or_along_a_line(scale: float) -> None:
    x = scale * torch.linspace(-1, 1, 20)[:, None] * torch.tensor([[1.0, 0.5, 0.0]])
    x.requires_grad_()
    white = Whitening(1, 3)(x)
    (gradient,) = torch.autograd.grad(white.square().sum(), x)
    assert white.isfinite().all()
    assert gradient.isfinite().all()
    assert white.abs().max() <= 5 * x.abs().max()


def test_every_rotation_and_shift_is_as_likely_in_each_direction() -> None:
    augmentor = Augmentor(H36M, settings("paper"), generator()).train()
    with torch.no_grad():  # all rows turn about one axis and move in one direction
        augmentor.last.weight[..., -6:] = (
            0.2
            * torch.randn(256, 1, generator=generator(1))
            * torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0, 1.0])
        )
        augmentor.last.weight[..., -6:] += 0.06 * torch.randn(256, 6, generator=generator(2))
    bones = Bones.of(people(300)[:, 0], H36M)
    draft = Draft(bones, torch.randn(300, 4, generator=generator()))
    evenness = []
    for _ in range(2):
        proposal = augmentor(draft, generator(1))
        for vectors in (proposal.axis_angle, proposal.t):
            values = torch.linalg.eigvalsh(torch.cov(vectors.detach().T))
            evenness.append(float(values[0] / values[-1]))
        augmentor.whitening.forward = lambda vectors: vectors
    assert max(evenness[2:]) < 0.03 < 0.1 < min(evenness[:2])


@pytest.mark.parametrize("networks", ["shared", "separate"])
def test_every_output_on_top_of_a_prior_has_a_mean_of_zero_over_rows(networks: str) -> None:
    augmentor = Augmentor(H36M, settings("residual", networks=networks), generator())
    nn.init.normal_(augmentor.last.weight, std=0.03)
    bones = Bones.of(people(50)[:, 0], H36M)
    proposal = augmentor(Draft(bones, torch.randn(50, 4, generator=generator())), generator(1))
    assert len(proposal.tensors) == 4
    for output in proposal.tensors:
        size = output.detach().abs().mean()
        assert size > 1e-3
        assert output.detach().mean(0).abs().max() < 1e-4 * max(1.0, float(size))


def test_leaky_has_the_published_slope() -> None:
    x = torch.tensor([-2.0, 0.0, 3.0])
    assert torch.equal(leaky(x), nn.LeakyReLU()(x))


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_initial_weights_depend_on_the_generator_only(name: str) -> None:
    """Not on the global random stream nor the default dtype."""
    before = torch.get_rng_state()
    first, other = (BUILDERS[name](generator(seed)).state_dict() for seed in (5, 6))
    torch.set_default_dtype(torch.float64)
    try:
        same = BUILDERS[name](generator(5)).state_dict()
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)
