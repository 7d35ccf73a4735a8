"""The trainer and the sampler: construction, samples, updates, and training on two ranks."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import two_ranks

from loop_helpers import (
    Lifter,
    people,
    reproject,
    run_script,
    same,
    small,
    snapshot,
)
from poseaug_plugin import Camera, PoseAugConfig, PoseBatch, Skeleton
from poseaug_plugin.adversarial import collapse
from poseaug_plugin.adversarial.objectives import estimator_feedback, judge
from poseaug_plugin.adversarial.trainer import Trainer
from poseaug_plugin.augment import sampler as sampler_module
from poseaug_plugin.augment.sampler import Sampler
from poseaug_plugin.batches.presets import FORMATS
from poseaug_plugin.engine import Engine
from poseaug_plugin.geometry.bones import Bones, kcs
from poseaug_plugin.geometry.camera import project
from poseaug_plugin.loop.estimator import Estimator
from poseaug_plugin.schedule import EpochSchedule

H36M, CPU = Skeleton.of("h36m_16"), torch.device("cpu")
POSEAUG = FORMATS["poseaug"]


def sampler(preset: str = "residual", **changes: Any) -> Sampler:
    return Engine(H36M, small(preset, **changes), CPU).sampler


def trainer(preset: str = "residual", **changes: Any) -> Trainer:
    return Trainer(Sampler(H36M, small(preset, **changes), CPU))


def poses(rows: int = 8, frames: int = 1, seed: int = 0) -> PoseBatch:
    data = people(rows, frames, seed)
    return POSEAUG.read((data.pose_3d, data.pose_2d, None, data.camera), H36M, Camera())


def update(trainer: Trainer, seed: int = 0, model: Any = None) -> Any:
    """One update with the same estimator each time."""
    torch.manual_seed(3)
    estimator = Estimator(model or Lifter(norm=False))
    with estimator.untouched():
        return trainer.update(poses(seed=seed), estimator, POSEAUG, EpochSchedule(None, 0))


# Construction


@pytest.mark.parametrize(
    ("config", "parts", "pools"),
    [
        (small(), {"augmentor", "d3d"}, {"d3d"}),
        (small("paper"), {"augmentor", "d3d", "d2d"}, {"d3d", "d2d"}),
        (small("released"), {"augmentor", "d3d", "d2d"}, {"d3d", "d2d"}),
        (small("paper", adv3d=0.0), {"augmentor", "d2d"}, {"d2d"}),
        (small(adv3d=0.0), {"augmentor"}, set()),
    ],
)
def test_a_part_that_is_off_is_not_built(
    config: PoseAugConfig, parts: set[str], pools: set[str]
) -> None:
    built = Engine(H36M, config, CPU).trainer
    assert built is not None
    assert set(built.nets) == set(built.optimizers) == parts
    assert set(built.pools) == pools


@pytest.mark.parametrize(
    "config", [PoseAugConfig(), small("random"), small(ba=False, bl=False, rt=False)]
)
def test_without_learning_there_is_no_trainer(config: PoseAugConfig) -> None:
    assert Engine(H36M, config, CPU).trainer is None


def test_weights_and_samples_depend_on_the_seed() -> None:
    torch.manual_seed(1)
    first = Engine(H36M, small("released", seed=5), CPU)
    torch.manual_seed(2)
    second, other = (Engine(H36M, small("released", seed=seed), CPU) for seed in (5, 6))
    assert same(snapshot(first), snapshot(second))
    assert not same(snapshot(first.trainer)[0]["nets"], snapshot(other.trainer)[0]["nets"])
    samples = [engine.sampler.sample(poses())[0].pose_3d for engine in (first, second, other)]
    assert torch.equal(samples[0], samples[1])
    assert not torch.equal(samples[0], samples[2])


def test_reset_builds_new_weights() -> None:
    paper = trainer("paper")
    before = snapshot(paper.nets["d3d"])
    paper.reset("d3d")
    assert not same(snapshot(paper.nets["d3d"]), before)


# Samples


@pytest.mark.parametrize("frames", [1, 120])
@pytest.mark.parametrize("preset", ["residual", "random"])
def test_a_sample_is_an_exact_pair_and_accepted_if_in_frame(preset: str, frames: int) -> None:
    original = poses(32, frames)
    sample, accepted, _ = sampler(preset, distance=(1.5, 5.0), depth=1.5).sample(original)
    absolute = sample.absolute
    residual = reproject(absolute, sample.camera) - sample.pose_2d.numpy()
    assert abs(residual[accepted]).max() < 1e-5
    assert sample.pose_3d[:, :, 0].abs().max() == 0
    inside = ((sample.pose_2d.abs() <= 1).all(-1) & (absolute[..., 2] >= 1.5)).all(-1)
    assert torch.equal(accepted, inside.all(1))
    assert torch.equal(accepted, inside[:, 0]) is (frames == 1)  # some leave the frame later
    assert 2 < accepted.sum() < 32
    assert not sample.pose_3d.requires_grad


def test_sampling_does_not_change_the_poses() -> None:
    original = poses()
    tensors = [original.pose_2d, original.pose_3d, original.root, original.camera]
    before = snapshot(tensors)
    sampler().sample(original)
    assert same(snapshot(tensors), before)


def test_the_root_does_not_move_in_clips_without_a_trajectory() -> None:
    data = people(4, 5)
    original = FORMATS["semgcn"].read((data.relative, data.pose_2d), H36M, Camera())
    sample, _, _ = sampler().sample(original)
    assert (sample.root - sample.root[:, :1]).abs().max() < 1e-6


# Updates


@pytest.mark.parametrize("preset", ["residual", "paper", "released"])
def test_measures_of_an_update(preset: str) -> None:
    trained = trainer(preset)
    assert update(trained) == []
    discriminators = ["d3d"] if preset == "residual" else ["d3d", "d2d"]
    expected = {"hardness", "feedback", "grad_norm", "loss_augmentor", "gamma_ba", "gamma_bl"}
    expected |= {"diversity_ba", "diversity_bl", "implausible", "implausible_prior"}
    expected |= {"evenness_r", "evenness_t", "model_error", "share_feedback", "share_reg"}
    expected |= {"share_angles"} if preset == "residual" else set()
    for name in discriminators:
        expected |= {f"loss_{name}", f"{name}_real", f"{name}_fake", f"share_{name}"}
    assert set(trained.measures) == expected
    assert not any(value.requires_grad for value in trained.measures.values())
    assert all(value.isfinite() for value in trained.measures.values())
    assert trained.measures["hardness"] > 0
    assert trained.updates == 1


def test_discriminators_learn_to_recognise_fakes() -> None:
    trained = trainer(lr=0.01, bend=2.0, reg_weight=0.0, feedback="off", adv2d=1.0)
    for i in range(40):
        update(trained, seed=i)
    for part in ("d3d", "d2d"):
        assert trained.measures[f"{part}_real"] > trained.measures[f"{part}_fake"] + 0.2


NO_LOSS = dict(adv3d=0.0, adv2d=0.0, reg_weight=0.0, reg_angles=0.0, feedback="off")
#: Regularisation of any output; of the published networks, because others start at 0.
NO_THRESHOLD = dict(reg_ba=0.0, reg_bl=0.0, prior=False, networks="separate")


def test_the_threshold_regularisation_ignores_the_parameters_of_the_prior() -> None:
    trained = trainer(**NO_LOSS | {"reg_weight": 1.0}, bend=2.0, reg_ba=0.0, reg_bl=0.0)
    update(trained)
    assert float(trained.measures["gamma_ba"]) > 0.1
    assert float(trained.measures["loss_augmentor"]) == 0


@pytest.mark.parametrize(
    ("weight", "others"),
    [
        ("adv3d", {}),
        ("adv2d", {}),
        ("reg_weight", NO_THRESHOLD),
        ("reg_weight", dict(reg="range", bend_target=0.0, bend_band=0.0)),
        ("reg_angles", dict(prior=False, networks="separate")),
        ("feedback_weight", dict(feedback="exp")),
        ("feedback_weight", dict(feedback="log")),
        ("ba_weight", dict(feedback="range", rt_weight=0.0, ba_band=0.0)),
        ("rt_weight", dict(feedback="range", ba_weight=0.0, rt_band=0.0)),
    ],
)
def test_each_weight_scales_its_part_of_the_loss(weight: str, others: dict[str, Any]) -> None:
    losses = []
    for value in (1.0, 3.0):
        trained = trainer(**{**NO_LOSS, **others, weight: value})
        trained.angles.bounds.zero_()  # real poses had right angles alone: the new ones are outside
        update(trained)
        losses.append(float(trained.measures["loss_augmentor"]))
    assert losses[0] > 1e-4
    assert losses[1] == pytest.approx(3 * losses[0], rel=1e-4)


@pytest.mark.parametrize(
    ("weight", "term", "others"),
    [
        ("adv2d", "d2d", {}),
        ("reg_weight", "reg", NO_THRESHOLD),
        ("reg_angles", "angles", dict(prior=False, networks="separate")),
        ("feedback_weight", "feedback", dict(feedback="exp")),
        ("feedback_weight", "feedback", dict(feedback="log", beta=(1e3, 1e3))),
        ("feedback_weight", "feedback", dict(feedback="range", ba_band=0.0, rt_band=0.0)),
    ],
)
def test_weights_are_shares_of_the_gradient(weight: str, term: str, others: dict[str, Any]) -> None:
    """Losses are brought to one size first, and weights must still count then."""
    ratios = []
    for value in (1.0, 3.0):
        trained = trainer(**{**NO_LOSS, "adv3d": 1.0, **others, weight: value})
        trained.angles.bounds.zero_()
        update(trained)
        ratios.append(float(trained.measures[f"share_{term}"] / trained.measures["share_d3d"]))
    assert ratios[0] > 1e-3
    assert ratios[1] == pytest.approx(3 * ratios[0], rel=1e-4)


class Origin(Lifter):
    """Predicts the origin for all joints, so its error depends on the body size only."""

    def forward(self, pose_2d: torch.Tensor) -> torch.Tensor:
        return 0 * super().forward(pose_2d)


def test_feedback_equals_the_formula_of_the_paper_if_only_the_view_changes() -> None:
    trained = trainer(**{**NO_LOSS, "feedback": "exp"}, ba=False, bl=False)
    update(trained, model=Origin())
    error = poses().pose_3d.square().sum(-1).mean((1, 2))  # the same before and after
    beta = trained.config.beta[1]
    expected = (1 - torch.exp((error - beta * error).mean())).abs()
    assert trained.measures["feedback"] == pytest.approx(float(expected), rel=1e-4)
    assert trained.measures["hardness"] == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("feedback", ["log", "exp", "range"])
def test_hardness_does_not_depend_on_the_root_position(feedback: str) -> None:
    trained = trainer(feedback=feedback)
    update(trained, model=Origin())
    assert 0.7 < trained.measures["hardness"] < 1.4


def test_reset_after_a_resume_gives_the_same_weights() -> None:
    first, second = trainer(), trainer()
    first.reset("d3d")
    second.load_state_dict(first.state_dict())
    for each in (first, second):
        each.reset("d3d")
    assert same(snapshot(first), snapshot(second))


def test_a_perfect_estimator_gives_finite_losses() -> None:
    class Perfect(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def forward(self, pose_2d: torch.Tensor) -> torch.Tensor:
            return self.scale * poses().pose_3d[:, 0]

    for feedback in ("log", "exp", "range"):
        trained = trainer(feedback=feedback)
        update(trained, model=Perfect())
        assert all(value.isfinite() for value in trained.measures.values())
        assert all(v.isfinite().all() for v in trained.nets["augmentor"].state_dict().values())


def test_clip_bounds_the_gradient_norm() -> None:
    """The step of plain SGD is at most lr * clip long."""
    trained = trainer(clip=0.01)
    net = trained.nets["augmentor"]
    trained.optimizers["augmentor"] = torch.optim.SGD(net.parameters(), lr=1.0)
    before = [p.detach().clone() for p in net.parameters()]
    trained.config = trained.config.replace(lr=1.0)
    update(trained)
    steps = [p.detach() - b for p, b in zip(net.parameters(), before)]
    length = torch.cat([step.flatten() for step in steps]).norm()
    assert float(length) == pytest.approx(0.01, rel=1e-3)
    assert trained.measures["grad_norm"] > 0.01


def learned(**changes: Any) -> Trainer:
    """A trainer whose augmentor changes what the prior has drawn."""
    trained = trainer(**changes)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trained.nets["augmentor"].parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=draw)
    return trained


def test_the_feedback_is_that_of_the_accepted_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hardness is that of their mean losses; its gradient counts like a mean over all rows."""
    hardness = []
    for rows in (torch.arange(8) < 2, torch.arange(8) >= 2, torch.arange(8) < 8):
        trained = trainer()
        monkeypatch.setattr(trained.sampler, "accepted", lambda *_, rows=rows: rows)
        made = forward(trained, poses())
        means = made.feedback.means
        assert means[2] == rows.float().mean()
        assert made.losses["feedback"] == means[0]
        hardness.append(judge(made.feedback, means, "log", 1.0).log_hardness.item())
    least, middle, most = sorted(hardness)  # a ratio of sums lies between those of its parts
    assert hardness[2] == middle
    assert least < middle < most
    none = trainer()
    monkeypatch.setattr(none.sampler, "accepted", lambda *_: torch.zeros(8, dtype=torch.bool))
    update(none)
    assert none.measures["hardness"] == none.measures["share_feedback"] == 0


def test_angles_that_are_implausible_are_told_apart_from_those_of_the_prior() -> None:
    trained = learned()
    made = forward(trained, poses())
    trained.angles.add(made.real.bones.direction)
    measures = trained._measure(made)
    for name, bones in (("implausible", made.fake.bones), ("implausible_prior", made.draft.bones)):
        assert measures[name] == trained.angles.outside(bones.direction)
    assert measures["implausible"] != measures["implausible_prior"]


def test_without_a_prior_the_augmentor_learns_in_the_warm_up() -> None:
    trained, estimator = trainer("paper"), Estimator(Lifter(norm=False))
    before = snapshot(trained.nets["augmentor"])
    with estimator.untouched():
        trained.update(poses(), estimator, POSEAUG, EpochSchedule(None, 1, 0))
    assert not same(snapshot(trained.nets["augmentor"]), before)


def test_a_window_of_the_collapse_watch_has_only_what_its_updates_have_computed() -> None:
    trained = trainer(d_every=3)
    for _ in range(4):
        update(trained)
    assert (trained.watch.counts["loss_d3d"], trained.watch.counts["grad_norm"]) == (2, 4)


def test_all_of_a_state_is_restored() -> None:
    first, second = trainer("paper"), trainer("paper")
    for seed in (0, 1):
        update(first, seed)
    saved = copy.deepcopy(first.state_dict())
    second.load_state_dict(copy.deepcopy(saved))
    assert same(snapshot(second.state_dict()), snapshot(saved))
    second.sampler.load_state_dict(first.sampler.state_dict())
    for each in (first, second):
        update(each, 2)
    assert same(snapshot(second.state_dict()), snapshot(first.state_dict()))
    assert not same(snapshot(first.state_dict()), snapshot(saved))


# Two processes


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder with the results of both ranks, and what the processes printed."""
    folder = tmp_path_factory.mktemp("ranks")
    return folder, run_script(Path(two_ranks.__file__), folder)


@pytest.mark.slow
@pytest.mark.parametrize("case", two_ranks.CASES)
def test_two_ranks_keep_the_same_weights(case: str, ranks: tuple[Path, str]) -> None:
    folder, printed = ranks
    files = [folder / f"{case} {rank}.pt" for rank in (0, 1)]
    assert all(file.exists() for file in files), printed[-3000:]
    a, b = (torch.load(file, weights_only=False) for file in files)
    assert same(a["start"], b["start"])
    assert same(a["nets"], b["nets"])
    assert not same(a["nets"], a["start"])
    assert same(a["model"], b["model"])
    assert not torch.equal(a["sample"], b["sample"])
    assert a["updates"] == b["updates"] >= 2
    assert a["mean"] == b["mean"] == 0.5
    assert a["votes"] == b["votes"] == [True, False, False]


def test_ranks_draw_different_samples_after_a_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them load the same state, usually that of rank 0."""
    saved = sampler("random").state_dict()
    samples = []
    for number in range(3):
        monkeypatch.setattr(sampler_module, "rank", lambda number=number: number)
        resumed = sampler("random")
        resumed.load_state_dict(saved)
        samples.append(resumed.sample(poses())[0].pose_3d)
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(samples))


def test_a_pose_with_a_missing_joint_is_not_a_rare_pose() -> None:
    original = poses(64)
    original.pose_3d[0, :, 12] = original.pose_3d[0, :, 11]  # no left forearm
    resampling = sampler("default", rare_pose_power=20.0)
    bones = Bones.of(original.pose_3d, H36M)
    resampling.source_rows(original, bones, torch.arange(64))
    assert 0 not in resampling.source_rows(original, bones, torch.arange(64).repeat(50))


# What an update compares


def forward(trained: Trainer, given: PoseBatch) -> Any:
    torch.manual_seed(3)
    estimator = Estimator(Lifter(norm=False))
    with estimator.untouched():
        return trained._forward(given, estimator, POSEAUG, EpochSchedule(None, 0), True)


@pytest.mark.parametrize("frames", [1, 3])
def test_discriminators_compare_exact_centre_frames(frames: int) -> None:
    """Detected 2D has noise that the 2D of augmented pairs has not."""
    exact = poses(16, frames)
    noise = 0.05 * torch.randn(exact.pose_2d.shape, generator=torch.Generator().manual_seed(0))
    trained = trainer(adv2d=1.0, bend=0.6, swap_lengths=False)
    made = forward(trained, replace(exact, pose_2d=exact.pose_2d + noise))
    middle = frames // 2
    assert torch.allclose(made.real.pose_2d, exact.pose_2d[:, middle], atol=1e-4)
    real = Bones.of(exact.pose_3d[:, middle], H36M)
    assert torch.equal(made.real.bones.direction, real.direction)
    aug = made.aug
    placed = aug.apply(exact.pose_3d, H36M, exact.path)[:, middle]
    augmented = Bones.of(placed - placed[:, :1], H36M)
    assert torch.allclose(made.fake.bones.length, augmented.length, atol=1e-4)
    assert not torch.allclose(made.fake.bones.length, real.length, atol=1e-2)
    assert torch.allclose(made.fake.bones.direction @ aug.R.mT, augmented.direction, atol=1e-4)
    seen = project(placed, aug.camera, limit=1.0)
    assert torch.allclose(made.fake.pose_2d, seen, atol=1e-4)
    assert not made.real.pose_2d.requires_grad
    assert made.fake.pose_2d.requires_grad


def test_with_swapped_lengths_the_real_pairs_are_the_swapped_ones() -> None:
    given = poses(16, 3)
    real = forward(trainer(adv2d=1.0, swap_lengths=True), given).real
    own = Bones.of(given.pose_3d[:, 1], H36M)
    assert torch.allclose(real.bones.direction, own.direction, atol=1e-5)
    assert not torch.allclose(real.bones.length, own.length, atol=1e-2)
    placed = real.bones.pose_3d + given.root[:, 1, None]
    assert torch.allclose(real.pose_2d, project(placed, given.camera, limit=1.0), atol=1e-4)


@pytest.mark.parametrize("reg_angles", [0.0, 1.0])
def test_the_range_of_angles_is_that_of_the_centre_frames(reg_angles: float) -> None:
    trained, given = trainer(reg_angles=reg_angles), poses(16, 3)
    torch.manual_seed(3)
    estimator = Estimator(Lifter(norm=False))
    with estimator.untouched():
        trained.update(given, estimator, POSEAUG, EpochSchedule(None, 0))
    cosine = kcs(Bones.of(given.pose_3d[:, 1], H36M).direction)
    assert torch.allclose(trained.angles.low, cosine.amin(0), atol=1e-5)
    assert torch.allclose(trained.angles.high, cosine.amax(0), atol=1e-5)


def test_the_learning_rate_of_every_network_follows_the_schedule() -> None:
    trained = trainer(adv2d=1.0, lr=0.01)
    estimator = Estimator(Lifter(norm=False))
    for done, factor in ((0, 1.0), (3, 0.4), (0, 1.0)):
        with estimator.untouched():
            trained.update(poses(), estimator, POSEAUG, EpochSchedule(4, 0, done))
        for optimizer in trained.optimizers.values():
            assert [g["lr"] for g in optimizer.param_groups] == [pytest.approx(0.01 * factor)]


def test_a_network_that_is_reset_forgets_its_past_fakes_and_its_moments() -> None:
    trained = trainer()
    update(trained)
    assert trained.pools["d3d"].filled == 8
    assert trained.optimizers["d3d"].state
    trained.reset("d3d")
    assert trained.pools["d3d"].filled == 0
    assert not trained.optimizers["d3d"].state
    squares = {name: value.clone() for name, value in trained.balance.squares.items()}
    assert squares["d3d"].any()
    trained.reset("augmentor")
    assert not any(value.any() for value in trained.balance.squares.values())


@pytest.mark.parametrize("repair", [True, False])
def test_a_collapsed_network_is_reset_only_if_it_is_to_be_repaired(
    repair: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collapse, "WINDOW", 1)
    monkeypatch.setattr(collapse, "DISCRIMINATOR_LOSS_RANGE", (1e3, 1e4))
    monkeypatch.delitem(collapse.LIMITS, "model_error")  # the estimator has learned nothing
    trained = trainer(repair=repair)
    before = trained.nets["d3d"]
    (report,) = update(trained)
    assert report.part == "d3d"
    assert (trained.nets["d3d"] is before) is not repair


def test_discriminators_alone_learn_in_every_step_of_the_warm_up() -> None:
    trained = trainer(d_every=3)
    estimator = Estimator(Lifter(norm=False))
    moved = []
    for done in (0, 0, 1, 1, 1):
        before = snapshot(trained.nets["augmentor"], trained.nets["d3d"])
        with estimator.untouched():
            trained.update(poses(), estimator, POSEAUG, EpochSchedule(None, 1, done))
        after = snapshot(trained.nets["augmentor"], trained.nets["d3d"])
        moved.append(tuple(not same(a, b) for a, b in zip(before, after)))
    assert moved == [(False, True), (False, True), (True, False), (True, True), (True, False)]


@pytest.mark.parametrize("preset", ["default", "released"])
def test_networks_that_do_not_learn_keep_their_running_means(preset: str) -> None:
    """Also those that have learned before, as after a resume with a longer warm-up."""
    trained = trainer(preset, prior=True, lr=0.01)
    estimator = Estimator(Lifter(norm=False))
    states = []
    for done in (1, 1, 0):
        with estimator.untouched():
            trained.update(poses(), estimator, POSEAUG, EpochSchedule(None, 1, done))
        assert not any(net.training for net in trained.nets.values())
        states.append(snapshot(dict(trained.nets["augmentor"].named_buffers()))[0])
    assert states[0]
    assert not same(states[0], states[1])
    assert same(states[1], states[2])


def test_the_range_feedback_has_only_the_tiers_of_the_skeleton() -> None:
    """A body of limbs of one bone has no elbows: an empty tier has no error, and no ratio."""
    star, given = Skeleton([-1, 0, 0, 0]), poses(4)
    few = replace(given, pose_3d=given.pose_3d[:, :, :4], pose_2d=given.pose_2d[:, :, :4])
    config = small("released", rt_ratio=(5.0, 5.0), rt_band=0.5, ba_ratio=(3.0, 3.0), ba_band=0.5)

    def predict(times: dict[int, float]) -> Any:
        def predict_pairs(pairs: PoseBatch) -> tuple[torch.Tensor, torch.Tensor]:
            return pairs.pose_3d + 0.1 * times[id(pairs)], pairs.pose_3d

        return predict_pairs

    pairs = {"rt": replace(few), "ba": replace(few)}
    for rt, ba in ((5.0, 3.0), (6.0, 3.0), (5.0, 4.5)):
        times = {id(few): 1.0, id(pairs["rt"]): rt, id(pairs["ba"]): ba}
        accepted, schedule = torch.ones(4, dtype=torch.bool), EpochSchedule(None, 0)
        found = estimator_feedback(few, pairs, accepted, predict(times), config, schedule, star)
        wanted = config.rt_weight * (rt - 5) ** 2 + config.ba_weight * (ba - 3) ** 2
        judged = judge(found, found.means, "range", 1.0)
        assert float(judged.loss) == pytest.approx(wanted, rel=1e-4, abs=1e-6)
        assert float(judged.log_hardness) == pytest.approx(2 * math.log(rt), rel=1e-4)


def test_the_range_feedback_is_a_weighted_sum_of_both_ratios() -> None:
    """If only the view changes, the errors of the origin do not, so both ratios are 1."""
    changes = {**NO_LOSS, "feedback": "range", "rt_weight": 0.5, "ba_weight": 3.0}
    changes |= dict(rt_ratio=(4.0, 4.0), ba_ratio=(2.0, 2.0), rt_band=0.0, ba_band=0.0)
    trained = trainer(**changes, ba=False, bl=False)
    update(trained, model=Origin())
    wanted = 0.5 * (1 - 4.0) ** 2 + 3.0 * (1 - 2.0) ** 2
    assert trained.measures["feedback"] == pytest.approx(wanted, rel=1e-3)
