"""The metrics against hand-worked numbers and slow loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from poseaug_plugin import Skeleton, SkeletonError, metrics
from poseaug_plugin.geometry.bones import lengths, pose_to_bones


def poses(count: int = 6, joints: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(count, joints, 3, generator=torch.Generator().manual_seed(seed)) * 0.4


def rotations(count: int, seed: int = 1) -> Tensor:
    """Proper rotations (count, 3, 3)."""
    noise = torch.randn(count, 3, 3, generator=torch.Generator().manual_seed(seed))
    q: Tensor = torch.linalg.qr(noise)[0]
    return q * torch.linalg.det(q)[:, None, None]


def test_mpjpe_of_a_hand_worked_pose() -> None:
    target = torch.zeros(2, 2, 3)
    predicted = torch.tensor([[[0.003, 0.004, 0.0], [0, 0, 0]], [[0, 0, 0.1], [0, 0, 0.2]]])
    assert metrics.mpjpe(predicted, target) == pytest.approx((5 + 0 + 100 + 200) / 4)


def test_pa_mpjpe_ignores_rotation_scale_and_translation() -> None:
    target = poses()
    moved = 1.7 * target @ rotations(6) + torch.tensor([0.3, -2.0, 5.0])
    assert metrics.mpjpe(moved, target) > 1000
    assert metrics.pa_mpjpe(moved, target) < 1e-3


def test_pa_mpjpe_of_a_mirrored_pose_is_not_zero() -> None:
    target = poses()
    assert metrics.pa_mpjpe(target * torch.tensor([-1.0, 1.0, 1.0]), target) > 50


def test_pa_mpjpe_of_a_hand_worked_pose() -> None:
    # A cross of half-arms 1 m and 2 m predicted with equal arms: the best scale is 3 / 2, so that
    # each of the four tips ends half a metre from its place.
    arms = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0], [0, -1.0, 0]])
    target = arms * torch.tensor([1.0, 2.0, 1.0])
    assert metrics.pa_mpjpe(arms[None], target[None]) == pytest.approx(500)


def test_pa_mpjpe_is_the_best_similarity() -> None:
    """No small change of rotation, scale or translation has a smaller squared error."""
    predicted, target = poses(1, seed=3).double(), poses(1, seed=4).double()
    best = metrics._procrustes(predicted, target)
    least = float((best - target).square().sum())
    middle = best.mean(dim=1, keepdim=True)
    for seed in range(50):
        noise = np.random.default_rng(seed).normal(0, 0.02, 7)
        rotation = torch.linalg.matrix_exp(
            torch.tensor(
                [
                    [0, -noise[2], noise[1]],
                    [noise[2], 0, -noise[0]],
                    [-noise[1], noise[0], 0],
                ]
            )
        )
        other = (best - middle) @ rotation * (1 + noise[3]) + middle + torch.tensor(noise[4:])
        assert float((other - target).square().sum()) > least


def test_pa_mpjpe_of_degenerate_poses_is_finite() -> None:
    target = poses(1)
    spread = float((target - target.mean(1, keepdim=True)).norm(dim=-1).mean()) * 1000
    assert metrics.pa_mpjpe(torch.zeros_like(target), target) == pytest.approx(spread, rel=1e-5)
    line = torch.linspace(0, 1, 16)[None, :, None] * torch.tensor([1.0, 0, 0])
    assert metrics.pa_mpjpe(line, line @ rotations(1)) < 1e-3
    assert metrics.pa_mpjpe(torch.zeros_like(target), torch.zeros_like(target)) == 0
    assert math.isfinite(metrics.pa_mpjpe(line, target))


def test_pck_and_auc_equal_a_slow_loop() -> None:
    predicted, target = poses(5), poses(5) + poses(5, seed=9) * 0.15
    errors = [
        1000 * math.dist(predicted[n, j].tolist(), target[n, j].tolist())
        for n in range(5)
        for j in range(16)
    ]
    scores = [100 * sum(error < t for error in errors) / 80 for t in np.linspace(0, 150, 31)]
    assert metrics.pck(predicted, target) == pytest.approx(scores[-1])
    assert metrics.pck(predicted, target, threshold_mm=50) == pytest.approx(scores[10])
    assert metrics.auc(predicted, target) == pytest.approx(np.mean(scores))
    assert 20 < metrics.auc(predicted, target) < 80


def test_pck_is_strict_and_auc_of_a_perfect_prediction_is_30_of_31() -> None:
    target = torch.zeros(1, 2, 3)
    predicted = torch.tensor([[[0.125, 0, 0], [0, 0.0625, 0]]])  # exact in binary
    assert metrics.pck(predicted, target, threshold_mm=125) == 50
    assert metrics.pck(predicted, target, threshold_mm=125.1) == 100
    assert metrics.auc(target, target) == pytest.approx(100 * 30 / 31)


def test_n_mpjpe_ignores_scale_alone() -> None:
    target = poses()
    assert metrics.n_mpjpe(target * torch.linspace(0.5, 2, 6)[:, None, None], target) < 1e-3
    assert metrics.n_mpjpe(target @ rotations(6), target) > 100
    # Arms of 1 m predicted at right angles to each other; each pose has the scale that fits best.
    predicted, target = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]]), torch.tensor([[[2.0, 0, 0]] * 2])
    assert metrics.n_mpjpe(predicted, target) == pytest.approx(500 * (1 + math.sqrt(5)))
    assert metrics.n_mpjpe(torch.zeros(1, 2, 3), target) == pytest.approx(2000)


def test_n_mpjpe_lies_between_the_others_on_average() -> None:
    target = poses(50)
    predicted = 0.7 * target + poses(50, seed=2) * 0.1
    scores = metrics.report(predicted, target)
    assert scores["PA-MPJPE"] < scores["N-MPJPE"] < scores["MPJPE"]


CHAIN = Skeleton(parents=(-1, 0, 1), left=(), right=())


def test_bone_metrics_of_a_hand_worked_chain() -> None:
    """Bones of 1 m and 0.5 m; the second is predicted 0.1 m longer and turned by 90 degrees."""
    target = torch.tensor([[[0, 0, 0], [1.0, 0, 0], [1.5, 0, 0]]])
    predicted = torch.tensor([[[0, 0, 0], [1.0, 0, 0], [1.0, 0.6, 0]]])
    assert metrics.bone_length_error(predicted, target, CHAIN) == pytest.approx(50)
    assert metrics.orientation_error(predicted, target, CHAIN) == pytest.approx(45)
    moved = 3 * predicted + torch.tensor([5.0, 1, 2])
    assert metrics.orientation_error(moved, target, CHAIN) == pytest.approx(45)
    assert metrics.bone_length_error(target @ rotations(1), target, CHAIN) < 1e-3


def test_orientation_of_bones_without_length_is_left_out() -> None:
    target = torch.tensor([[[0, 0, 0], [1.0, 0, 0], [1.0, 0, 0]]])
    predicted = torch.tensor([[[0, 0, 0], [0, 1.0, 0], [0, 1.5, 0]]])
    assert metrics.orientation_error(predicted, target, CHAIN) == pytest.approx(90)
    assert math.isnan(metrics.orientation_error(0 * target, target, CHAIN))
    assert math.isnan(metrics.orientation_error(predicted * math.nan, target, CHAIN))


@pytest.mark.parametrize("name", ["h36m_17", "mpi_inf_3dhp_17", "hand_21"])
def test_bone_metrics_take_any_skeleton(name: str) -> None:
    joints = Skeleton.of(name).num_joints
    target = poses(joints=joints)
    scores = metrics.report(1.1 * target, target, name)
    size = lengths(pose_to_bones(target, Skeleton.of(name))).mean()
    assert scores["bone lengths"] == pytest.approx(100 * float(size), rel=1e-4)
    assert scores["orientation"] < 1e-3
    with pytest.raises(SkeletonError, match=r"expected \(..., \d+, 3\)"):
        metrics.report(target[:, 1:], target[:, 1:], name)


def test_acceleration_error_of_a_hand_worked_clip() -> None:
    """One joint jumps 10 mm to the side in one frame: second differences of 10, -20 and 10 mm."""
    target = torch.arange(5.0)[:, None, None] * torch.tensor([[0.1, 0, 0], [0, 0.2, 0]])
    predicted = target.clone()
    predicted[2, 1, 2] += 0.01
    assert metrics.acceleration_error(predicted, target) == pytest.approx(40 / 6)
    assert metrics.acceleration_error(predicted, target, fps=10) == pytest.approx(4000 / 6)
    assert metrics.acceleration_error(target + 0.3, target) < 1e-3
    assert metrics.acceleration_error(2 * target, target) < 1e-3  # another speed, no jitter
    clips = torch.stack([predicted, target])
    assert metrics.acceleration_error(clips, torch.stack([target, target])) == pytest.approx(20 / 6)


@pytest.mark.parametrize("shape", [(2, 16, 3), (16, 3), (5, 16, 2), (0, 5, 16, 3)])
def test_acceleration_error_needs_clips(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least three frames"):
        metrics.acceleration_error(torch.zeros(shape), torch.zeros(shape))


def test_report_has_all_metrics_of_frames() -> None:
    predicted, target = poses(), poses(seed=1)
    frames = {
        "MPJPE": metrics.mpjpe(predicted, target),
        "PA-MPJPE": metrics.pa_mpjpe(predicted, target),
        "N-MPJPE": metrics.n_mpjpe(predicted, target),
        "PCK": metrics.pck(predicted, target),
        "AUC": metrics.auc(predicted, target),
    }
    assert metrics.report(predicted, target) == frames
    assert metrics.report(predicted, target, "h36m_16") == {
        **frames,
        "bone lengths": metrics.bone_length_error(predicted, target, "h36m_16"),
        "orientation": metrics.orientation_error(predicted, target, "h36m_16"),
    }


def test_a_diverged_prediction_is_nan_not_a_crash() -> None:
    predicted = poses()
    predicted[2, 3, 0] = math.nan
    scores = metrics.report(predicted, poses())
    assert math.isnan(scores["MPJPE"])
    assert math.isnan(scores["PA-MPJPE"])
    assert scores["PCK"] == pytest.approx(100 * 95 / 96)


def test_evaluate_is_the_report_of_root_relative_poses_in_evaluation_mode() -> None:
    class Copy(nn.Module):
        def forward(self, pose_2d: Tensor) -> Tensor:
            assert not self.training
            assert not torch.is_grad_enabled()
            return nn.functional.pad(pose_2d, (0, 1))

    pose_3d = poses(7) + 3
    pose_2d = pose_3d[..., :2] - pose_3d[:, :1, :2] + 0.01
    expected = metrics.report(nn.functional.pad(pose_2d, (0, 1)), pose_3d - pose_3d[:, :1])
    assert metrics.evaluate(Copy(), pose_2d, pose_3d, batch_size=3) == expected


def test_evaluate_knows_the_root_of_the_skeleton() -> None:
    """The root of mpi_inf_3dhp_17 is joint 14."""
    target = poses(joints=17)
    target -= target[:, 14:15].clone()
    scores = metrics.evaluate(
        nn.Identity(), target, target + torch.tensor([1.0, 2, 3]), skeleton="mpi_inf_3dhp_17"
    )
    assert scores["MPJPE"] < 1e-3


def test_inputs_are_unchanged_and_gradients_do_not_leak() -> None:
    predicted, target = poses().requires_grad_(), poses(seed=1)
    before = predicted.detach().clone(), target.clone()
    metrics.report(predicted, target)
    assert torch.equal(predicted, before[0])
    assert torch.equal(target, before[1])
    assert predicted.grad is None


@pytest.mark.parametrize("name", ["mpjpe", "n_mpjpe", "pa_mpjpe", "pck", "auc", "report"])
@pytest.mark.parametrize(
    ("first", "second"),
    [((4, 16, 3), (4, 17, 3)), ((16, 3), (16, 3)), ((4, 16, 2), (4, 16, 2)), ((0, 16, 3),) * 2],
)
def test_wrong_shapes_are_named(name: str, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected the same") as caught:
        getattr(metrics, name)(torch.zeros(first), torch.zeros(second))
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)
