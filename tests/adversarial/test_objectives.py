"""The terms of the augmentor's loss by their definitions, and the first call of the estimator."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import H36M, people, poses_of, settings, unit_bones
from poseaug_plugin import PoseBatch
from poseaug_plugin.adversarial.losses import outside_band, past_limit, threshold_penalty
from poseaug_plugin.adversarial.objectives import (
    check_estimator,
    estimator_feedback,
    judge,
    regularisation,
)
from poseaug_plugin.augment.sampler import Proposal
from poseaug_plugin.batches.format import BatchFormat
from poseaug_plugin.errors import EstimatorError
from poseaug_plugin.loop.estimator import Estimator
from poseaug_plugin.schedule import EpochSchedule

FMT = BatchFormat(pose_2d=0, pose_3d=1)
GAMMA_BA = torch.linspace(-0.5, 0.9, 180).view(4, 15, 3)
GAMMA_BL = torch.linspace(-0.1, 0.4, 36).view(4, 9)


def test_each_regularisation_has_a_limit_of_its_own() -> None:
    bones = torch.zeros(4, 15, 3)
    config = settings("residual", reg_ba=0.5, reg_bl=0.2)
    given = {"gamma_ba": GAMMA_BA, "gamma_bl": GAMMA_BL}
    wanted = {
        name: threshold_penalty(gamma, limit)
        for (name, gamma), limit in zip(given.items(), (0.5, 0.2))
    }
    for names in (["gamma_ba"], ["gamma_bl"], ["gamma_ba", "gamma_bl"], []):
        proposal = Proposal({name: given[name] for name in names})
        found = regularisation(proposal, bones, bones, config)
        assert float(found) == pytest.approx(sum(float(wanted[name]) for name in names))
    assert wanted["gamma_ba"] != threshold_penalty(GAMMA_BA, 0.2)
    assert wanted["gamma_bl"] != threshold_penalty(GAMMA_BL, 0.5)


def test_the_released_regularisation_is_that_of_the_mean_bend_and_of_the_lengths() -> None:
    config = settings("released", reg_bl=0.2, bend_target=0.1, bend_band=0.05)
    original, bent = (unit_bones(people(4, seed=seed)[:, 0]) for seed in (0, 1))
    bend = (1 - (original * bent).sum(-1)).mean(1)
    wanted = outside_band(bend, 0.1, 0.05)
    assert wanted > 0
    found = regularisation(Proposal(), original, bent, config)
    assert torch.allclose(found, wanted)
    found = regularisation(Proposal({"gamma_bl": GAMMA_BL}), original, bent, config)
    assert torch.allclose(found, wanted + past_limit(GAMMA_BL, 0.2))


@pytest.mark.parametrize("kind", ["log", "exp", "range"])
def test_the_target_of_the_feedback_follows_the_schedule(kind: str) -> None:
    """After the first half of the run it is half way between its two ends."""
    ends = dict(beta=(1.0, 5.0), rt_ratio=(2.0, 6.0), ba_ratio=(1.0, 9.0))
    half = dict(beta=(3.0, 3.0), rt_ratio=(4.0, 4.0), ba_ratio=(5.0, 5.0))
    poses = poses_of(people(6))
    pairs = {"rt": poses_of(people(6, seed=1)), "ba": poses_of(people(6, seed=2))}

    def predict_pairs(given: PoseBatch) -> tuple[Tensor, Tensor]:
        return given.pose_3d * (1.3 if given is pairs["ba"] else 1.2), given.pose_3d

    def loss(changes: Any, schedule: EpochSchedule) -> float:
        config = settings("residual", feedback=kind, rt_band=0.0, ba_band=0.0, **changes)
        accepted = torch.ones(6, dtype=torch.bool)
        given = poses, pairs, accepted, predict_pairs, config, schedule, H36M
        found = estimator_feedback(*given)
        return float(judge(found, found.means, config.feedback, schedule.between(config.beta)).loss)

    found, wanted = loss(ends, EpochSchedule(4, 0, done=1)), loss(half, EpochSchedule(None, 0))
    assert found == pytest.approx(wanted)
    assert found != pytest.approx(loss(ends, EpochSchedule(None, 0)), rel=1e-3)


class Detached(nn.Module):
    """Remembers how it was called; its answers have no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, pose_2d: Tensor) -> Tensor:
        self.shapes.append(tuple(pose_2d.shape))
        return (self.scale * torch.cat([pose_2d, pose_2d[..., :1]], -1)).detach()


def test_the_first_call_has_two_rows_and_asks_for_a_gradient_if_one_is_needed() -> None:
    """With one row, a model that squeezes its output would be refused."""
    model = Detached()
    given = Estimator(model), FMT, H36M, poses_of(people(6))
    check_estimator(*given, needs_gradient=False)
    with pytest.raises(EstimatorError, match="gives no gradient of its prediction"):
        check_estimator(*given, needs_gradient=True)
    assert model.shapes == [(2, 16, 2)] * 2
