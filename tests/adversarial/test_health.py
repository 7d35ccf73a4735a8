"""A learned augmentor is on target, diverse, audible and plausible, with a frozen estimator."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
import torch
from torch import nn

from helpers import H36M
from loop_helpers import Lifter, attached, batch, loader, people, same, small, snapshot, step, train
from poseaug_plugin import Camera, PoseAugConfig, PoseBatch
from poseaug_plugin.adversarial.balance import Balance, gradients_of, sums_of_squares
from poseaug_plugin.adversarial.feedback import log_feedback, raising_slope, steer
from poseaug_plugin.adversarial.objectives import Feedback, judge, regularisation
from poseaug_plugin.adversarial.plausibility import AngleRange, diversity, evenness
from poseaug_plugin.adversarial.trainer import Trainer
from poseaug_plugin.augment.sampler import Proposal, Sampler
from poseaug_plugin.augment.target import Target
from poseaug_plugin.batches.presets import FORMATS
from poseaug_plugin.geometry.bones import Bones, kcs
from poseaug_plugin.loop.estimator import Estimator
from poseaug_plugin.schedule import EpochSchedule

CPU, POSEAUG = torch.device("cpu"), FORMATS["poseaug"]
UPDATES = 170


def poses(rows: int, seed: int) -> PoseBatch:
    data = people(rows, seed=seed)
    return POSEAUG.read((data.pose_3d, data.pose_2d, None, data.camera), H36M, Camera())


@pytest.fixture(scope="module")
def lifter() -> nn.Module:
    """A lifter that has been trained on people like those of the tests, without augmentation."""
    torch.manual_seed(0)
    model = Lifter(norm=False, dropout=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    data = poses(512, 99)
    for _ in range(300):
        error = model(data.pose_2d[:, 0]) - data.pose_3d[:, 0]
        optimizer.zero_grad()
        error.square().mean().backward()
        optimizer.step()
    return model.eval()


def run(
    lifter: nn.Module, updates: int = UPDATES, preset: str = "residual", **changes: Any
) -> dict[str, float]:
    """Means of the measures over the last 40 updates with a frozen estimator."""
    defaults = dict(width=48, d_width=32, bend=0.3, lr=3e-3, d_every=2)
    config = small(preset, **{**defaults, **changes})
    trainer, estimator = Trainer(Sampler(H36M, config, CPU)), Estimator(lifter)
    history = []
    for i in range(updates):
        schedule = EpochSchedule(None, 1, done=int(i >= 20))
        with estimator.untouched():
            assert trainer.update(poses(64, i), estimator, POSEAUG, schedule) == []
        history.append({name: float(value) for name, value in trainer.measures.items()})
    return {name: statistics.fmean(h[name] for h in history[-40:]) for name in history[-1]}


@pytest.fixture(scope="module")
def prior_hardness(lifter: nn.Module) -> float:
    return run(lifter, 60, lr=0.0)["hardness"]


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_the_hardness_reaches_its_target(
    lifter: nn.Module, prior_hardness: float, factor: float
) -> None:
    beta = factor * prior_hardness
    means = run(lifter, beta=(beta, beta))
    assert means["hardness"] == pytest.approx(beta, rel=0.2)
    assert min(means["diversity_ba"], means["diversity_bl"]) > 0.95
    assert means["implausible"] < 1.1 * means["implausible_prior"] + 5e-4


def test_far_below_the_target_feedback_and_discriminator_are_both_audible(
    lifter: nn.Module,
) -> None:
    means = run(lifter, 80, beta=(1e3, 1e3))
    assert 0.1 < means["share_feedback"] / means["share_d3d"] < 10


def test_pairs_are_not_made_easier(lifter: nn.Module, prior_hardness: float) -> None:
    """The estimator would learn what it believes already."""
    means = run(lifter, 80, beta=(0.3 * prior_hardness, 0.3 * prior_hardness))
    assert means["share_feedback"] == 0
    assert means["feedback"] == 0
    assert means["hardness"] == pytest.approx(prior_hardness, rel=0.2)


def test_the_feedback_of_the_paper_is_audible_too(lifter: nn.Module) -> None:
    means = run(lifter, 60, feedback="exp", beta=(2.0, 2.0))
    assert 0.1 < means["share_feedback"] / means["share_d3d"] < 10


@pytest.mark.parametrize("beta", [2.0, 4.0, 8.0])
def test_from_the_rows_as_they_are_the_hardness_reaches_its_target(
    beta: float, lifter: nn.Module
) -> None:
    """Without a prior it starts at 1."""
    means = run(lifter, preset="paper", beta=(beta, beta))
    assert means["hardness"] == pytest.approx(beta, rel=0.2)
    assert 0.1 < means["share_feedback"] / means["share_d3d"] < 10
    assert means["implausible"] < 0.1


# The warm-up


@pytest.mark.parametrize("changes", [dict(warmup=1), dict(warmup=0, warmup_steps=2)])
def test_discriminators_learn_before_the_augmentor_moves(changes: dict[str, Any]) -> None:
    augmenter, model, optimizer = attached(small("residual", d_every=4, **changes))
    wrapped = augmenter.wrap(loader())  # two batches
    train(model, optimizer, wrapped, epochs=1)
    nets = snapshot(augmenter)[0]["engine"]["trainer"]["nets"]
    new = Trainer(Sampler(H36M, augmenter.config, CPU)).state_dict()["nets"]
    assert same(nets["augmentor"], snapshot(new)[0]["augmentor"])
    assert not same(nets["d3d"], snapshot(new)[0]["d3d"])
    assert augmenter.stats()["augmented"] > 0
    train(model, optimizer, wrapped, epochs=1)
    nets = snapshot(augmenter)[0]["engine"]["trainer"]["nets"]
    assert not same(nets["augmentor"], snapshot(new)[0]["augmentor"])


def test_a_warm_up_in_steps_is_resumed() -> None:
    augmenter, model, optimizer = attached(small("residual", warmup_steps=3))
    for i in range(3):
        step(model, optimizer, augmenter(batch(seed=i)))
    assert "share_d3d" not in augmenter.stats()
    other, model, optimizer = attached(small("residual", warmup_steps=3))
    other.load_state_dict(augmenter.state_dict())
    step(model, optimizer, other(batch(seed=3)))
    assert other.stats()["share_d3d"] > 0


# The parts


def test_the_regularisation_can_fire_within_the_limits() -> None:
    config = PoseAugConfig.default(learned=True)
    for name, shape, limit in (
        ("gamma_ba", (4, 15, 3), config.limit_ba),
        ("gamma_bl", (4, 9), config.limit_bl),
    ):
        gamma = torch.full(shape, 0.9 * limit, requires_grad=True)
        loss = regularisation(
            Proposal({name: gamma}), torch.zeros(4, 15, 3), torch.zeros(4, 15, 3), config
        )
        (grad,) = torch.autograd.grad(loss, gamma)
        assert loss > 0
        assert grad.all()


@pytest.mark.parametrize("form", ["log", "exp", "range"])
def test_the_hardness_is_the_ratio_of_the_mean_losses_of_the_pairs_in_use(form: str) -> None:
    """Of three pairs, two with losses of 4 and 9 are in use, from 1 and 3."""
    feedback = Feedback(torch.ones(()), torch.zeros(5), torch.ones(()))

    def judged(augmented: float, original: float, share: float) -> Any:
        means = torch.tensor([augmented, original, share, 0.3, 0.2])
        return judge(feedback, means, form, 2.0)

    assert judged(13 / 3, 4 / 3, 2 / 3).log_hardness.exp().item() == pytest.approx(13 / 4)
    assert judged(0.0, 0.0, 0.0).log_hardness == 0
    for numbers in (judged(1.0, 0.0, 1.0), judged(0.0, 1.0, 1.0), judged(0.0, 0.0, 0.0)):
        assert all(number.isfinite() for number in numbers)


def test_the_slope_is_that_of_the_feedback() -> None:
    """Of the log hardness with "log", which is steered, and of the loss with "exp"."""
    feedback = Feedback(torch.ones(()), torch.zeros(5), torch.ones(()))
    for augmented, sign in ((0.3, -1.0), (0.5, 1.0)):  # below and above twice 0.2
        means = torch.tensor([augmented, 0.2, 1.0, augmented, 0.2])
        slope = judge(feedback, means, "exp", 2.0).slope
        assert slope.item() == pytest.approx(sign * math.exp(augmented - 0.4))
        assert judge(feedback, means, "log", 2.0).slope.item() == pytest.approx(1 / augmented)


def test_the_controller_fades_at_its_target() -> None:
    beta = 3.0
    for hardness, slope in ((30.0, 1.0), (3.0, 0.0), (0.3, -1.0)):
        log_hardness = torch.tensor(hardness).log().requires_grad_()
        (grad,) = torch.autograd.grad(log_feedback(log_hardness, beta), log_hardness)
        assert float(grad) == pytest.approx(min(slope, 0.0), abs=1e-6)
        assert steer(log_hardness, beta).item() == pytest.approx(slope, abs=1e-6)
    inside = torch.tensor(2.7).log().requires_grad_()
    (grad,) = torch.autograd.grad(log_feedback(inside, beta), inside)
    assert float(grad) == pytest.approx(steer(inside, beta).item())
    assert -0.7 < float(grad) < -0.4
    for hardness, slope in ((30.0, 0.0), (3.0, 0.0), (2.7, float(grad)), (0.3, -1.0)):
        found = raising_slope(torch.tensor(hardness).log(), beta)
        assert float(found) == pytest.approx(slope, abs=1e-6)
    assert log_feedback(torch.zeros(()), 0.0) == 0  # a target of 0 asks for nothing


def test_normalised_gradients_have_the_size_of_their_weights() -> None:
    """A loss that is a million times smaller is heard as well; zero gradients are left out."""
    output = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    other = torch.zeros(50, 2, requires_grad=True)

    weights = {"large": 1.0, "small": 3.0, "none": 0.0}

    def losses() -> dict[str, torch.Tensor]:
        large, small_one = (output * output.detach()).mean(), 1e-6 * output[:, :3].sum()
        return {"large": large, "small": small_one, "none": large}

    outputs = [output, other]
    gradients = gradients_of(losses(), outputs)
    sums = sums_of_squares(gradients, outputs)
    (combined, unused), shares = Balance(weights, 2, CPU, True).combine(
        gradients, sums, weights, outputs
    )
    expected = output / output.square().mean().sqrt() + torch.tensor([3.0] * 3 + [0.0] * 3)
    assert torch.allclose(combined * 50, expected, atol=1e-5)
    assert not unused.any()
    assert [round(float(shares[name]), 5) for name in weights] == [0.25, 0.75, 0.0]
    (plain, _), shares = Balance(weights, 2, CPU, False).combine(gradients, sums, weights, outputs)
    sum_of_losses = torch.stack([weights[n] * loss for n, loss in losses().items()]).sum()
    assert torch.allclose(plain, torch.autograd.grad(sum_of_losses, output)[0])
    assert shares["small"] < 1e-3


def test_a_share_is_that_of_the_outputs_that_a_term_depends_on() -> None:
    """A term that one output knows alone is as loud as one that both know. Shares have no sign."""
    outputs = [torch.ones(4, 2, requires_grad=True) for _ in range(2)]
    one, other = outputs
    losses = {"one": one.sum(), "both": one.sum() + other.sum()}
    gradients = gradients_of(losses, outputs)
    sums = sums_of_squares(gradients, outputs)
    for weights in ({"one": 1.0, "both": 3.0}, {"one": -1.0, "both": 3.0}):
        _, shares = Balance(losses, 2, CPU, True).combine(gradients, sums, weights, outputs)
        assert (float(shares["one"]), float(shares["both"])) == pytest.approx((0.25, 0.75))


def test_the_last_graph_is_freed() -> None:
    """A compiled model refuses a backward pass that keeps its graph."""
    output = torch.ones(3, requires_grad=True)
    losses = {"first": output.square().sum(), "none": torch.zeros(()), "last": output.exp().sum()}
    assert list(gradients_of(losses, [output])) == ["first", "last"]
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(losses["last"], output)


@pytest.mark.parametrize("size", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_leaves_the_running_means_alone(size: float) -> None:
    output = torch.ones(4, 2, requires_grad=True)
    balance = Balance(["a"], 1, CPU, True)

    def combine(factor: float) -> None:
        gradients = gradients_of({"a": output.sum() * factor}, [output])
        balance.combine(gradients, sums_of_squares(gradients, [output]), {"a": 1.0}, [output])

    combine(1.0)
    before = balance.squares["a"].clone()
    combine(size)
    assert torch.equal(balance.squares["a"], before)


def test_a_gradient_far_above_the_others_is_capped_and_forgotten() -> None:
    """After a gradient that is 10,000 times as large, later ones are as loud as before."""
    output = torch.ones(4, 2, requires_grad=True)
    balance = Balance(["a"], 1, CPU, True)

    def loudness(factor: float) -> float:
        gradients = gradients_of({"a": output.sum() * factor}, [output])
        sums = sums_of_squares(gradients, [output])
        (combined,), _ = balance.combine(gradients, sums, {"a": 1.0}, [output])
        return float(combined.abs().mean()) * len(output)

    assert loudness(1.0) == pytest.approx(1.0)
    assert loudness(1e4) == pytest.approx(0.05**-0.5)
    assert 0.5 < loudness(1.0) < 1.0
    for _ in range(30):
        loudness(1.0)
    assert 0.85 < loudness(1.0) < 1.0


def test_no_common_bend_is_left_in_the_paper_preset() -> None:
    """Its lengths and bends differ between rows; what people are like on average stays."""
    augmenter, model, optimizer = attached(small("paper", warmup_steps=0))
    for i in range(60):
        step(model, optimizer, augmenter(batch(rows=64, seed=i)))
    stats = augmenter.stats()
    assert min(stats["diversity_ba"], stats["diversity_bl"]) > 0.99
    assert min(stats["evenness_r"], stats["evenness_t"]) > 0.8


def test_diversity_is_the_share_that_differs_between_rows() -> None:
    one, other = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert diversity(torch.stack([one, one])) == 0
    assert diversity(torch.stack([one, -one])) == 1
    assert diversity(torch.stack([one, other])) == pytest.approx(0.5)
    assert diversity(torch.zeros(3, 2)) == 1


def test_evenness_is_the_share_of_the_directions_that_are_used() -> None:
    line = torch.linspace(-1, 1, 5)[:, None] * torch.tensor([1.0, 2.0, 3.0])
    axes = torch.cat([torch.eye(3), -torch.eye(3)])
    assert evenness(line + 7) == pytest.approx(1 / 3)
    assert evenness(axes) == pytest.approx(1)
    assert evenness(axes * torch.tensor([1.0, 1.0, 0.0])) == pytest.approx(2 / 3)
    assert evenness(torch.ones(4, 3)) == 1


def test_angles_outside_the_range_of_the_real_poses_are_counted() -> None:
    real = Bones.of(poses(200, 0).pose_3d[:, 0], H36M)
    angles = AngleRange(H36M, CPU)
    assert angles.outside(real.direction) == 1  # nothing is known yet
    angles.add(real.direction)
    cosine = kcs(real.direction)  # each pair of bones has a range of its own
    assert torch.allclose(angles.low, cosine.amin(0), atol=1e-5)
    assert torch.allclose(angles.high, cosine.amax(0), atol=1e-5)
    assert angles.outside(real.direction) == 0
    assert angles.excess(real.direction, real.direction) == 0
    bent = real.bend(0.8 * torch.randn(200, 15, 3, generator=torch.Generator().manual_seed(0)))
    assert 0.05 < angles.outside(bent.direction) < 0.5
    assert angles.excess(bent.direction, real.direction) > 0.05
    state, copy = angles.state_dict(), AngleRange(H36M, CPU)
    copy.load_state_dict(state)
    copy.add(bent.direction)
    assert copy.outside(bent.direction) == 0
    copy.load_state_dict(state)
    outside = angles.outside(bent.direction)
    assert torch.equal(copy.outside(bent.direction), outside)
    angles.add(bent.direction)
    copy.load_state_dict(state)  # which training does not change
    assert torch.equal(copy.outside(bent.direction), outside)


def test_angles_are_those_of_each_two_bones_of_a_part() -> None:
    generator = torch.Generator().manual_seed(0)
    real = Bones.of(poses(200, 0).pose_3d[:, 0], H36M).direction
    bent = Bones.of(poses(50, 0).pose_3d[:, 0], H36M)
    bent = bent.bend(0.8 * torch.randn(50, 15, 3, generator=generator)).direction
    angles = AngleRange(H36M, CPU)
    assert angles.excess(bent, bent[:1]) == 0  # nothing is known yet
    angles.add(real)
    shares, excess = [], 0.0
    for one in range(15):
        for other in range(one + 1, 15):
            if any(one in part and other in part for part in H36M.parts):
                known, found = ((x[:, one] * x[:, other]).sum(-1) for x in (real, bent))
                over = (known.min() - found).relu() + (found - known.max()).relu()
                shares.append(float((over > 0).float().mean()))
                excess += float(over.mean())
    assert float(angles.outside(bent)) == pytest.approx(statistics.fmean(shares), abs=1e-4)
    assert float(angles.excess(bent, real[:50])) == pytest.approx(excess, rel=1e-4)
    assert excess > 0.1


def test_angles_that_a_prior_has_put_outside_are_not_undone() -> None:
    """In long runs that cost 2 mm: the prior's poses are beyond those of the data on purpose."""
    generator = torch.Generator().manual_seed(0)
    real = Bones.of(poses(200, 0).pose_3d[:, 0], H36M)
    angles = AngleRange(H36M, CPU)
    angles.add(real.direction)
    start = real.bend(0.8 * torch.randn(200, 15, 3, generator=generator))
    assert angles.outside(start.direction) > 0.05
    assert angles.excess(start.direction, start.direction) == 0
    steps = 0.1 * torch.randn(200, 15, 3, generator=generator)
    steps.requires_grad_()
    bent = start.bend(steps).direction
    excess = angles.excess(bent, start.direction)
    assert 0 < excess < angles.excess(bent, real.direction)
    (grad,) = torch.autograd.grad(excess, [steps])
    back = start.bend(steps.detach() - 0.3 * len(steps) * grad).direction
    assert 0 < angles.excess(back, start.direction) < excess
    assert angles.outside(back) > 0.05  # as the prior's own


def test_with_a_target_its_poses_are_the_real_ones_of_the_2d_discriminator() -> None:
    """Root at 0 and a mean bone length of 1 for both; the place and the size play no part."""
    seen = poses(300, 5).pose_2d[:, 0]
    config = small("residual", adv2d=1.0)
    target = Target(seen, H36M, CPU)
    trainer = Trainer(Sampler(H36M, config, CPU, target))
    real, fake = torch.rand(40, 16, 2), poses(40, 6).pose_2d[:, 0]
    real_2d, fake_2d = trainer._compared_2d(real, fake)
    known = {tuple(row) for row in target.normalised.flatten(1).tolist()}
    assert all(tuple(row) in known for row in real_2d.flatten(1).tolist())
    assert not fake_2d[:, 0].any()
    assert torch.allclose(trainer._compared_2d(real, 0.4 + 3 * fake)[1], fake_2d, atol=1e-4)
    assert len({tuple(row) for row in real_2d.flatten(1).tolist()}) > 20
    seen[:, [3, 6]] = torch.nan  # nobody is visible as a whole
    for none in (None, Target(seen, H36M, CPU)):
        without = Trainer(Sampler(H36M, config, CPU, none))
        assert torch.equal(without._compared_2d(real, fake)[0], real)
