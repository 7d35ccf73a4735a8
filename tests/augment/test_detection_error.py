"""`keep_detection_error`: augmented 2D has the errors of the detector that the real rows have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import generator, people, poses_of
from loop_helpers import NO_STATISTICS
from poseaug_plugin import Camera, PoseAugConfig, PoseBatch, Skeleton
from poseaug_plugin.augment.sampler import Sampler
from poseaug_plugin.geometry.camera import project

H36M, CPU = Skeleton.of("h36m_16"), torch.device("cpu")
ROWS = 400


def poses(error: float = 0.0, frames: int = 1, rows: int = ROWS) -> PoseBatch:
    """Poses whose 2D has a normal error in screen units, about 4 % of a person's size for 0.02."""
    exact = poses_of(people(rows, frames), Camera().intrinsics)
    noise = torch.randn(exact.pose_2d.shape, generator=generator(5))
    return replace(exact, pose_2d=exact.pose_2d + error * noise)


def sampler(share: float = 1.0, **changes: Any) -> Sampler:
    options = {**NO_STATISTICS, "bend": 0.3, "keep_detection_error": share, **changes}
    return Sampler(H36M, PoseAugConfig(**options), CPU)


def pairs(poses: PoseBatch, made_by: Sampler) -> tuple[PoseBatch, Tensor]:
    return made_by.pairs(poses, torch.arange(len(poses)))


def off(poses: PoseBatch) -> Tensor:
    """Observed minus projected 2D, screen units."""
    return poses.pose_2d - project(poses.absolute, poses.camera[:, None])


@pytest.mark.parametrize("frames", [1, 9])
def test_the_error_of_a_row_is_kept_in_proportion_to_the_size_on_the_screen(frames: int) -> None:
    exact, detected = poses(0.0, frames), poses(0.02, frames)
    wanted, _ = pairs(exact, sampler(0.0))
    made, accepted = pairs(detected, sampler())
    ratio = made.camera[:, None, :2] / made.root[..., 2:]
    ratio = ratio / (detected.camera[:, None, :2] / detected.root[..., 2:])
    assert ratio.min() < 0.7
    assert ratio.max() > 1.2
    # `people` of one batch have their own bodies, so that each row is made from itself.
    expected = off(detected) * ratio[:, :, None]
    torch.testing.assert_close(off(made), expected, atol=1e-4, rtol=0)
    assert torch.allclose(made.pose_3d, wanted.pose_3d, atol=1e-4)
    assert (made.pose_2d[accepted].abs() <= 1).all()
    assert accepted.float().mean() > 0.3


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_a_share_of_the_rows_keeps_its_error(share: float) -> None:
    made, _ = pairs(poses(0.02), sampler(share))
    kept = off(made).abs().flatten(1).amax(1) > 1e-3
    assert abs(float(kept.float().mean()) - share) < 0.08
    assert float(off(made)[~kept].abs().max()) < 1e-4


@pytest.mark.parametrize(("error", "detected"), [(0.0, False), (0.001, False), (0.01, True)])
def test_the_first_batch_tells_whether_2d_is_detected(error: float, detected: bool) -> None:
    found = sampler()
    assert found.detected is None
    pairs(poses(error), found)
    assert found.detected is detected
    pairs(poses(0.05 - error), found)
    assert found.detected is detected  # later batches do not change it


@pytest.mark.parametrize(("error", "detected"), [(0.0, False), (0.001, False), (0.01, True)])
def test_a_camera_that_is_not_known_does_not_make_exact_2d_detected(
    error: float, detected: bool
) -> None:
    """The image's centre is 9 cm off, and the focal length 5 %."""
    given = replace(poses(error), has_camera=False)
    assumed = given.camera * torch.tensor([1.05, 1.05, 1, 1, 1, 1, 1, 1, 1])
    assumed[:, 2:4] += torch.tensor([0.04, -0.03])
    found = sampler()
    made, _ = pairs(replace(given, camera=assumed), found)
    assert found.detected is detected
    if not detected:
        assert off(made).abs().max() < 1e-4


def test_a_few_rows_with_large_errors_are_not_detected_2d() -> None:
    given, wild = poses(), poses(0.5)
    few = (torch.arange(ROWS) % 5 < 2)[:, None, None, None]
    found = sampler()
    pairs(replace(given, pose_2d=torch.where(few, wild.pose_2d, given.pose_2d)), found)
    assert found.detected is False


def test_exact_2d_gives_exact_pairs_and_the_same_draws() -> None:
    (with_it, _), (without, _) = (pairs(poses(), sampler(share)) for share in (1.0, 0.0))
    assert torch.equal(with_it.pose_2d, without.pose_2d)


@pytest.mark.parametrize("scale", [0.2, 5.0])
def test_what_counts_as_detected_depends_on_the_size_of_the_body(scale: float) -> None:
    """Hands are smaller than people, and nearer: the error in screen units is the same."""

    def scaled(error: float) -> PoseBatch:
        given = poses(error)
        return replace(given, pose_3d=scale * given.pose_3d, root=scale * given.root)

    for error, detected in ((0.001, False), (0.01, True)):
        found = sampler(body_scale=0.1)
        pairs(scaled(error), found)
        assert found.detected is detected


@pytest.mark.parametrize("corner", [0.0, -1.0])
def test_joints_that_were_not_found_leave_no_error(corner: float) -> None:
    """Detectors put them at (0, 0) pixels or, where these are normalised, into a corner."""
    given, missing = poses(0.01), torch.arange(ROWS) % 5 == 0
    exact = given.pose_2d - off(given)
    lost = replace(given, pose_2d=given.pose_2d.clone())
    lost.pose_2d[missing, :, 12] = corner
    far = (exact[missing, 0, 12] - corner).norm(dim=-1) > 0.3
    assert far.sum() > 10
    made, _ = pairs(lost, sampler())
    rows = missing.nonzero()[:, 0][far]
    assert float(off(made)[rows, :, 12].abs().max()) < 1e-4
    assert float(off(made)[rows, :, 11].abs().max()) > 1e-3


def test_padding_rows_are_not_asked() -> None:
    given = poses(0.02)
    valid = torch.arange(ROWS) % 4 == 0
    exact = given.pose_2d - off(given)
    mixed = torch.where(valid[:, None, None, None], given.pose_2d, exact)
    found = sampler()
    pairs(replace(given, pose_2d=mixed, valid=valid), found)
    assert found.detected
    nobody = sampler()
    pairs(replace(given, valid=valid & ~valid), nobody)
    assert nobody.detected is False


def test_it_is_part_of_a_saved_state() -> None:
    one, other = sampler(), sampler()
    pairs(poses(0.02), one)
    other.load_state_dict(one.state_dict())
    assert other.detected is True


def test_presets_of_publications_and_the_control_keep_no_errors() -> None:
    shares = {
        name: getattr(PoseAugConfig, name)().keep_detection_error
        for name in ("default", "random", "paper", "released")
    }
    assert shares == {"default": 0.5, "random": 0.0, "paper": 0.0, "released": 0.0}
