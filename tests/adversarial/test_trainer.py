"""The plugin's own networks: what is built, what a sample is, and that ranks stay together."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from loop_helpers import (
    Lifter,
    attached,
    batch,
    people,
    reproject,
    same,
    small,
    snapshot,
)
from poseaug_plugin import Camera, PoseAugConfig, PoseBatch, Skeleton
from poseaug_plugin.adversarial import collapse
from poseaug_plugin.adversarial.trainer import Trainer
from poseaug_plugin.augment import sampler as sampler_module
from poseaug_plugin.augment.sampler import Sampler
from poseaug_plugin.batches.presets import FORMATS
from poseaug_plugin.engine import Engine
from poseaug_plugin.geometry.bones import Bones
from poseaug_plugin.loop.distributed import all_agree, average
from poseaug_plugin.loop.estimator import Estimator
from poseaug_plugin.schedule import EpochSchedule

H36M, CPU = Skeleton.of("h36m_16"), torch.device("cpu")
POSEAUG = FORMATS["poseaug"]


def sampler(preset: str = "residual", **changes: Any) -> Sampler:
    return Engine(H36M, small(preset, **changes), CPU).sampler


def trainer(preset: str = "residual", **changes: Any) -> Trainer:
    return Trainer(Sampler(H36M, small(preset, **changes), CPU))


def poses(rows: int = 8, frames: int = 1, seed: int = 0) -> PoseBatch:
    who = people(rows, frames, seed)
    return POSEAUG.read((who.pose_3d, who.pose_2d, None, who.camera), H36M, Camera())


def turn(made: Trainer, seed: int = 0, model: Any = None) -> Any:
    torch.manual_seed(3)
    estimator = Estimator(model or Lifter(norm=False))
    with estimator.untouched():
        return made.update(poses(seed=seed), estimator, POSEAUG, EpochSchedule(None, 0))


# What is built


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
    made = Engine(H36M, config, CPU).trainer
    assert made is not None
    assert set(made.nets) == set(made.optimizers) == parts
    assert set(made.pools) == pools


@pytest.mark.parametrize(
    "config", [PoseAugConfig(), small("random"), small(ba=False, bl=False, rt=False)]
)
def test_where_nothing_learns_there_is_no_trainer(config: PoseAugConfig) -> None:
    assert Engine(H36M, config, CPU).trainer is None


def test_weights_and_draws_come_from_the_seed() -> None:
    torch.manual_seed(1)
    first = Engine(H36M, small("paper", seed=5), CPU)
    torch.manual_seed(2)
    second, other = (Engine(H36M, small("paper", seed=seed), CPU) for seed in (5, 6))
    assert same(snapshot(first), snapshot(second))
    assert not same(snapshot(first.trainer)[0]["nets"], snapshot(other.trainer)[0]["nets"])
    drawn = [made.sampler.sample(poses())[0].pose_3d for made in (first, second, other)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_restarted_part_is_new() -> None:
    made = trainer("paper")
    before = snapshot(made.nets["d3d"])
    made.start("d3d")
    assert not same(snapshot(made.nets["d3d"]), before)


# Samples


@pytest.mark.parametrize("frames", [1, 120])
@pytest.mark.parametrize("preset", ["residual", "random"])
def test_a_sample_is_a_true_pair(preset: str, frames: int) -> None:
    given = poses(32, frames)
    made, good, _ = sampler(preset, distance=(1.5, 5.0), depth=1.5).sample(given)
    placed = made.absolute
    off = reproject(placed, made.camera) - made.pose_2d.numpy()
    assert abs(off[good]).max() < 1e-5
    assert made.pose_3d[:, :, 0].abs().max() == 0
    inside = ((made.pose_2d.abs() <= 1).all(-1) & (placed[..., 2] >= 1.5)).all(-1)
    assert torch.equal(good, inside.all(1))
    assert torch.equal(good, inside[:, 0]) is (frames == 1)  # some leave the frame later
    assert 2 < good.sum() < 32
    assert torch.equal(made.extra_2d, given.extra_2d)
    assert not made.pose_3d.requires_grad


def test_the_detectors_error_comes_along_as_large_as_the_person() -> None:
    given = poses(32, 3)
    clean, good, _ = sampler("random").sample(given)
    same_2d, _, _ = sampler("random", keep_detection_error=True).sample(given)
    assert torch.allclose(same_2d.pose_2d, clean.pose_2d, atol=1e-5)  # exact 2D stays exact
    off = 0.02 * torch.randn(given.pose_2d.shape, generator=torch.Generator().manual_seed(0))
    detected = replace(given, pose_2d=given.pose_2d + off)
    made, still_good, _ = sampler("random", keep_detection_error=True).sample(detected)
    assert torch.equal(made.pose_3d, clean.pose_3d)
    assert torch.equal(still_good, good)
    seen = made.camera[:, None, :2] / made.root[..., 2:]
    size = seen / (given.camera[:, None, :2] / given.root[..., 2:])
    assert size.min() < 0.7
    assert size.max() > 1.2
    wanted = clean.pose_2d + off * size[:, :, None]
    assert torch.allclose(made.pose_2d[good], wanted[good], atol=1e-5)


def test_sampling_leaves_the_poses_alone() -> None:
    given = poses()
    before = snapshot([given.pose_2d, given.pose_3d, given.root, given.camera])
    sampler().sample(given)
    assert same(snapshot([given.pose_2d, given.pose_3d, given.root, given.camera]), before)


def test_relative_clips_stay_on_the_spot() -> None:
    who = people(4, 5)
    fmt = FORMATS["semgcn"]
    given = fmt.read((who.relative, who.pose_2d), H36M, Camera())
    made, _, _ = sampler().sample(given)
    assert (made.root - made.root[:, :1]).abs().max() < 1e-6


# Turns


@pytest.mark.parametrize("preset", ["residual", "paper", "released"])
def test_measures_of_a_turn(preset: str) -> None:
    made = trainer(preset)
    assert turn(made) == []
    judges = ["d3d"] if preset == "residual" else ["d3d", "d2d"]
    expected = {"hardness", "feedback", "grad_norm", "loss_augmentor", "gamma_ba", "gamma_bl"}
    for name in judges:
        expected |= {f"loss_{name}", f"{name}_real", f"{name}_fake"}
    assert set(made.measures) == expected
    assert all(value.isfinite() and not value.requires_grad for value in made.measures.values())
    assert made.updates == 1


def test_discriminators_learn_to_tell() -> None:
    made = trainer(lr=0.01, bend=2.0, reg_weight=0.0, feedback="off", adv2d=1.0)
    for i in range(40):
        turn(made, seed=i)
    for part in ("d3d", "d2d"):
        assert made.measures[f"{part}_real"] > made.measures[f"{part}_fake"] + 0.2


QUIET = dict(adv3d=0.0, adv2d=0.0, reg_weight=0.0, feedback="off")
NO_SLACK = dict(reg_ba=0.0, reg_bl=0.0, prior=False)  # on a prior the networks start at 0


def test_what_the_prior_bends_is_not_the_networks_to_pay_for() -> None:
    made = trainer(**QUIET | {"reg_weight": 1.0}, bend=2.0, reg_ba=0.0, reg_bl=0.0)
    turn(made)
    assert float(made.measures["gamma_ba"]) > 0.1
    assert float(made.measures["loss_augmentor"]) == 0


@pytest.mark.parametrize(
    ("weight", "others"),
    [
        ("adv3d", {}),
        ("adv2d", {}),
        ("reg_weight", NO_SLACK),
        ("reg_weight", dict(reg="range", bend_target=0.0, bend_band=0.0)),
        ("feedback_weight", dict(feedback="exp")),
        ("ba_weight", dict(feedback="range", rt_weight=0.0, ba_band=0.0)),
        ("rt_weight", dict(feedback="range", ba_weight=0.0, rt_band=0.0)),
    ],
)
def test_each_weight_scales_its_part_of_the_loss(weight: str, others: dict[str, Any]) -> None:
    losses = []
    for value in (1.0, 3.0):
        made = trainer(**{**QUIET, **others, weight: value})
        turn(made)
        losses.append(float(made.measures["loss_augmentor"]))
    assert losses[0] > 1e-4
    assert losses[1] == pytest.approx(3 * losses[0], rel=1e-4)


class Origin(Lifter):
    """Errs by the size of a body, wherever that stands and however it is turned."""

    def forward(self, pose_2d: torch.Tensor) -> torch.Tensor:
        return 0 * super().forward(pose_2d)


def test_feedback_is_the_papers_number_for_bodies_that_only_turn() -> None:
    made = trainer(**{**QUIET, "feedback": "exp"}, ba=False, bl=False)
    turn(made, model=Origin())
    error = poses().pose_3d.square().sum(-1).mean((1, 2))  # of the original and of the turned body
    beta = made.config.beta[1]
    expected = (1 - torch.exp(error - beta * error)).abs().mean()
    assert made.measures["feedback"] == pytest.approx(float(expected), rel=1e-4)
    assert made.measures["hardness"] == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("feedback", ["exp", "range"])
def test_hardness_compares_poses_and_not_places(feedback: str) -> None:
    made = trainer(feedback=feedback)
    turn(made, model=Origin())
    assert 0.7 < made.measures["hardness"] < 1.4


def test_a_part_restarts_alike_after_a_resume() -> None:
    first, second = trainer(), trainer()
    first.start("d3d")
    second.load_state_dict(first.state_dict())
    for made in (first, second):
        made.start("d3d")
    assert same(snapshot(first), snapshot(second))


def test_a_perfect_estimator_is_no_reason_to_divide_by_zero() -> None:
    class Perfect(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def forward(self, pose_2d: torch.Tensor) -> torch.Tensor:
            return self.scale * poses().pose_3d[:, 0]

    for feedback in ("exp", "range"):
        made = trainer(feedback=feedback)
        turn(made, model=Perfect())
        assert all(value.isfinite() for value in made.measures.values())
        assert all(v.isfinite().all() for v in made.nets["augmentor"].state_dict().values())


def test_a_clip_of_one_gradient_norm() -> None:
    """The step is bounded by `clip`: with plain SGD it is at most lr * clip long."""
    made = trainer(clip=0.01)
    made.optimizers["augmentor"] = torch.optim.SGD(made.nets["augmentor"].parameters(), lr=1.0)
    before = [p.detach().clone() for p in made.nets["augmentor"].parameters()]
    made.config = made.config.replace(lr=1.0)
    turn(made)
    moved = [p.detach() - b for p, b in zip(made.nets["augmentor"].parameters(), before)]
    length = torch.cat([m.flatten() for m in moved]).norm()
    assert float(length) == pytest.approx(0.01, rel=1e-3)
    assert made.measures["grad_norm"] > 0.01


# Two processes

CASES = ["plain", "shorter batch on one", "collapse", "bad batch on one", "a peek on one"]


def rank_main(rank: int, folder: str) -> None:
    """One of two ranks; what it ends with is saved, case by case."""
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=5),
    )
    for what in CASES:
        if what == "collapse":
            split_verdicts(rank)
        torch.save(run(rank, what), f"{folder}/{what} {rank}.pt")
        dist.barrier()
    dist.destroy_process_group()


def split_verdicts(rank: int) -> None:
    """Set the watch so that one rank's own numbers call for a restart and the other's do not."""
    hardness: list[float] = []
    judge = collapse.CollapseWatch._judge
    collapse.WINDOW = 2
    collapse.CollapseWatch._judge = (  # type: ignore[method-assign]
        lambda self, means: hardness.append(means["hardness"]) or []
    )
    run(rank, "plain")
    collapse.CollapseWatch._judge = judge  # type: ignore[method-assign]
    both: list[Any] = [None, None]
    dist.all_gather_object(both, hardness[0])
    collapse.HARDNESS = 0.0, sum(both) / 2


def run(rank: int, what: str) -> dict[str, Any]:
    """A loop as under DistributedDataParallel: one model, gradients averaged, data apart."""
    every = 2 if what == "a peek on one" else 1
    augmenter, model, optimizer = attached(
        small("residual", adv2d=1.0, lr=1e-3, update_every=every)
    )
    batches = [list(batch(seed=10 * rank + i)) for i in range(4)]
    if what == "bad batch on one" and rank == 1:
        batches[1][0] = batches[1][0] * float("nan")
    if what == "shorter batch on one" and rank == 1:
        batches[1] = [field[:3] for field in batches[1]]
    if what == "a peek on one" and rank == 1:
        next(iter(augmenter.wrap(batches)))
    result: dict[str, Any] = {}
    for i, each in enumerate(augmenter.wrap(batches)):
        if i == 0:
            result["start"] = snapshot(augmenter)[0]["engine"]["trainer"]["nets"]
            result["sample"] = augmenter.preview(batch())[0].pose_3d
        optimizer.zero_grad()
        model(each[1]).square().mean().backward()
        for p in model.parameters():
            dist.all_reduce(p.grad)
            p.grad /= 2
        optimizer.step()
    mean = torch.tensor([float(rank)])
    average([mean])
    return {
        **result,
        "mean": float(mean),
        "votes": [all_agree(yes, CPU) for yes in (True, rank == 0, False)],
        "nets": snapshot(augmenter)[0]["engine"]["trainer"]["nets"],
        "model": snapshot(model),
        "updates": augmenter.stats()["updates"],
    }


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder with the results of both, and why they stopped early if they did."""
    folder = tmp_path_factory.mktemp("ranks")
    try:
        mp.spawn(rank_main, (str(folder),), nprocs=2)
    except Exception as error:  # told by the test whose case is missing
        return folder, str(error)
    return folder, ""


@pytest.mark.slow
@pytest.mark.parametrize("what", CASES)
def test_two_ranks_stay_together(what: str, ranks: tuple[Path, str]) -> None:
    folder, stopped = ranks
    files = [folder / f"{what} {rank}.pt" for rank in (0, 1)]
    assert all(file.exists() for file in files), stopped
    a, b = (torch.load(file, weights_only=False) for file in files)
    assert same(a["start"], b["start"])
    assert same(a["nets"], b["nets"])
    assert not same(a["nets"], a["start"])
    assert same(a["model"], b["model"])
    assert not torch.equal(a["sample"], b["sample"])  # or two ranks would do the work of one
    assert a["updates"] == b["updates"] >= 2
    assert a["mean"] == b["mean"] == 0.5
    assert a["votes"] == b["votes"] == [True, False, False]


def test_a_detectors_error_takes_no_joint_out_of_the_frame() -> None:
    """One row's 2D is nothing like its 3D, so its error is as large as the image and more."""
    given = poses()
    given.pose_2d[0] += 3.0
    made, good, _ = sampler("random", keep_detection_error=True, image_offset=0.0).sample(given)
    assert good.any()
    assert made.pose_2d[good].abs().max() <= 1


def test_a_resumed_rank_draws_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is saved is mostly rank 0's."""
    saved = sampler("random").state_dict()
    drawn = []
    for number in range(3):
        monkeypatch.setattr(sampler_module, "rank", lambda number=number: number)
        made = sampler("random")
        made.load_state_dict(saved)
        drawn.append(made.sample(poses())[0].pose_3d)
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(drawn))


def test_a_person_with_a_missing_joint_is_no_rare_pose() -> None:
    given = poses(64)
    given.pose_3d[0, :, 12] = given.pose_3d[0, :, 11]  # no left forearm
    made = sampler("default", rare_pose_power=20.0)
    bones = Bones.of(given.pose_3d, H36M)
    made.source_rows(given, bones, torch.arange(64))
    assert 0 not in made.source_rows(given, bones, torch.arange(64).repeat(50))
