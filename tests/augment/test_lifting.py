"""Poses of the target that the model lifts: what is kept, drawn and given to augmented rows."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import helpers
from helpers import H36M, NO_STATISTICS, poses_of
from poseaug_plugin import PoseAugConfig
from poseaug_plugin.augment.lifting import Lifting
from poseaug_plugin.augment.sampler import Sampler
from poseaug_plugin.augment.target import Target
from poseaug_plugin.batches.format import BatchFormat
from poseaug_plugin.data import Pairs, synthetic
from poseaug_plugin.geometry.bones import Bones, body_axes, pose_to_bones, unit
from poseaug_plugin.geometry.camera import project
from poseaug_plugin.geometry.pose_batch import PoseBatch
from poseaug_plugin.loop.estimator import Estimator
from poseaug_plugin.schedule import EpochSchedule

CPU = torch.device("cpu")
PEOPLE = 2048
#: Only the pose of a row changes: no other body, view or place.
POSE_ONLY = dict(**NO_STATISTICS, bl=False, rt=False, swap_lengths=False)


@lru_cache
def made() -> tuple[Pairs, Pairs, Pairs]:
    return synthetic.make()


@lru_cache
def people() -> Pairs:
    """Other people than those of training."""
    found = made()[1]
    return found[torch.linspace(0, len(found) - 1, PEOPLE).long()]


def exact_2d(pairs: Pairs) -> Tensor:
    """A camera without distortion, whose focal length is the one that is assumed."""
    camera = torch.zeros(9)
    camera[:2] = 2.0
    return project(pairs.pose_3d, camera.expand(len(pairs), 9))


def target_of(pose_2d: Tensor) -> Target:
    return Target(pose_2d, H36M, CPU)


def kept(predicted: Tensor, pairs: Pairs | None = None) -> Target:
    target = target_of(exact_2d(pairs or people()))
    target.keep_lifted(torch.arange(PEOPLE), predicted, torch.tensor(2.0))
    return target


def true_directions(pairs: Pairs) -> Tensor:
    return unit(pose_to_bones(pairs.root_relative, H36M))


def angle(one: Tensor, other: Tensor) -> float:
    """Mean angle between unit bones, degrees."""
    return float(torch.rad2deg(torch.acos((one * other).sum(-1).clamp(-1, 1))).mean())


def to_nearest(poses: Tensor, others: Tensor) -> Tensor:
    """Distance (B,) to the nearest of the others."""
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(poses.flatten(1), others.flatten(1), compute_mode=exact).amin(1)


def batch_of(rows: int, frames: int = 1) -> PoseBatch:
    chosen = made()[0][: rows * frames]
    shape = (rows, frames)
    pose_3d = chosen.root_relative.view(*shape, 16, 3)
    root = chosen.pose_3d[:, 0].view(*shape, 3)
    camera = chosen.camera[::frames].clone()
    return PoseBatch(chosen.pose_2d.view(*shape, 16, 2).clone(), pose_3d, root, camera)


def test_a_pose_that_is_lifted_rightly_is_kept_as_it_is() -> None:
    target = kept(people().root_relative)
    assert target.fits.all()
    assert angle(target.lifted, true_directions(people())) < 1


def test_neither_the_size_nor_the_focal_length_has_to_be_known() -> None:
    target = target_of(exact_2d(people()))
    target.keep_lifted(torch.arange(PEOPLE), 1.3 * people().root_relative, torch.tensor(1.5))
    assert target.fits.float().mean() > 0.98
    assert angle(target.lifted, true_directions(people())) < 2


def test_joints_move_onto_their_rays() -> None:
    """What the model gets wrong across the image is corrected; its depths are believed."""
    noise = 0.03 * torch.randn(PEOPLE, 16, 3, generator=torch.Generator().manual_seed(0))
    for axes, largest in (((1.0, 1.0, 0.0), 3.0), ((1.0, 1.0, 1.0), 9.0)):
        predicted = people().root_relative + noise * torch.tensor(axes)
        before = angle(unit(pose_to_bones(predicted, H36M)), true_directions(people()))
        after = angle(kept(predicted).lifted, true_directions(people()))
        assert after < min(largest, 0.8 * before)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1)),
        lambda x: x * torch.tensor([1.0, -1.0, 1.0]),  # upside down
        lambda x: -x,
        lambda x: x.roll(700, 0),  # of other rows
        lambda x: torch.full_like(x, torch.nan),
        lambda x: torch.full_like(x, 1e30),
        torch.zeros_like,
        lambda x: x * torch.tensor([1.0, 1.0, 300.0]),  # absurd depths
    ],
)
def test_a_pose_that_does_not_fit_its_2d_is_never_drawn(wrong: Any) -> None:
    target = kept(wrong(people().root_relative))
    assert target.fits.float().mean() < 0.2
    assert target.lifted.isfinite().all()
    _, chosen = target.draw_poses(500, 1.0, torch.Generator().manual_seed(0))
    assert target.fits.any() or not chosen.any()


def test_the_limit_of_a_fit() -> None:
    """Joints that are off by 0.4 mean bone lengths, on average."""
    target = target_of(exact_2d(people()))
    bone_3d = Bones.of(people().root_relative, H36M).length.mean()
    sizes = {}
    for off in (0.3, 0.6):
        noise = torch.randn(PEOPLE, 16, 3, generator=torch.Generator().manual_seed(2))
        noise = off * bone_3d * noise / noise[..., :2].norm(dim=-1).mean()
        target.keep_lifted(torch.arange(PEOPLE), people().root_relative + noise, torch.tensor(2.0))
        sizes[off] = float(target.fits.float().mean())
    assert sizes[0.3] > 0.9
    assert sizes[0.6] < 0.2


def test_the_limit_of_the_depths() -> None:
    """Bones that are five times as long as in the image, on average."""
    for factor, low, high in ((7.0, 0.9, 1.0), (20.0, 0.0, 0.1)):
        target = kept(people().root_relative * torch.tensor([1.0, 1.0, factor]))
        assert low <= target.fits.float().mean() <= high


def test_a_share_of_the_rows_gets_a_pose_that_fits() -> None:
    predicted = people().root_relative.clone()
    predicted[::2] = -predicted[::2]
    target = kept(predicted)
    assert not target.fits[::2].any()
    directions, chosen = target.draw_poses(4000, 0.3, torch.Generator().manual_seed(0))
    assert float(chosen.float().mean()) == pytest.approx(0.3, abs=0.03)
    fitting = {tuple(row.flatten().tolist()) for row in target.lifted[target.fits]}
    drawn = [tuple(row.flatten().tolist()) for row in directions[chosen]]
    assert set(drawn) <= fitting
    assert len(set(drawn)) > 500


def sampler_with(target: Target, **changes: Any) -> Sampler:
    return Sampler(H36M, PoseAugConfig.default(**{**POSE_ONLY, **changes}), CPU, target)


def test_rows_take_the_pose_and_keep_bones_place_and_camera() -> None:
    target, poses = kept(people().root_relative), batch_of(256)
    sampler = sampler_with(target, lifted_poses=1.0)
    pairs, accepted = sampler.pairs(poses, torch.arange(256))
    assert accepted.float().mean() > 0.9
    new, old = (Bones.of(x.pose_3d[:, 0], H36M) for x in (pairs, poses))
    torch.testing.assert_close(new.length, old.length)
    torch.testing.assert_close(pairs.root, poses.root)
    assert float(to_nearest(new.direction, target.lifted).max()) < 1e-3
    torch.testing.assert_close(pairs.pose_2d, project(pairs.absolute, pairs.camera[:, None]))


def test_other_rows_keep_their_poses() -> None:
    target, poses = kept(people().root_relative), batch_of(256)
    pairs, _ = sampler_with(target, lifted_poses=0.5).pairs(poses, torch.arange(256))
    off = (pairs.pose_3d - poses.pose_3d).abs().amax((1, 2, 3))
    assert 0.4 < float((off < 1e-4).float().mean()) < 0.6


def test_other_rows_are_as_without_it() -> None:
    """Exchanged limbs and bends are for rows of the batch: a lifted pose is taken whole."""
    whole = dict(limb_crossover=True, bend_sigma=2.0, lifted_poses=0.5)
    target, poses = kept(people().root_relative), batch_of(256)
    sampler = sampler_with(target, **whole)
    pairs, _ = sampler.pairs(poses, torch.arange(256))
    new = Bones.of(pairs.pose_3d[:, 0], H36M).direction
    is_lifted = to_nearest(new, target.lifted) < 1e-3
    assert 0.4 < float(is_lifted.float().mean()) < 0.6
    own = Bones.of(poses.pose_3d[:, 0], H36M).direction
    assert not (to_nearest(new, own) < 1e-3)[~is_lifted].any()


def test_a_clip_takes_the_pose_in_its_centre_and_moves_as_before() -> None:
    frames, middle = 9, 4
    target, poses = kept(people().root_relative), poses_of(helpers.people(24, frames))
    pairs, _ = sampler_with(target, lifted_poses=1.0).pairs(poses, torch.arange(24))
    new, old = (Bones.of(x.pose_3d, H36M) for x in (pairs, poses))
    torch.testing.assert_close(new.length, old.length)
    in_body = target.lifted @ body_axes(target.lifted, H36M)
    centre = new.body_direction[:, middle]
    assert float(to_nearest(centre, in_body).max()) < 1e-3
    speed_new, speed_old = (
        torch.linalg.vector_norm(b.direction.diff(dim=1), dim=-1).mean() for b in (new, old)
    )
    assert float(speed_new) == pytest.approx(float(speed_old), rel=0.3)
    torch.testing.assert_close(new.axes[:, middle], old.axes[:, middle])  # it faces as before


class Oracle(nn.Module):
    """Knows the 3D of every pose that it is shown, of any number of frames."""

    def __init__(self, pairs: Pairs) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.known_2d, self.known_3d = exact_2d(pairs), pairs.root_relative
        self.seen: list[Tensor] = []

    def forward(self, pose_2d: Tensor) -> Tensor:
        self.seen.append(pose_2d)
        shape = pose_2d.shape[:-2]
        rows = torch.cdist(pose_2d[..., :2].reshape(-1, 32), self.known_2d.flatten(1)).argmin(1)
        return self.scale * self.known_3d[rows].view(*shape, 16, 3)


def lifted_by(model: nn.Module, sampler: Sampler, poses: PoseBatch, updates: int) -> Lifting:
    lifting, fmt = Lifting(sampler), BatchFormat(pose_2d=0, pose_3d=1)
    estimator = Estimator(model)
    for _ in range(updates):
        with estimator.untouched():
            assert lifting.update(poses, estimator, fmt, EpochSchedule(None, 0.0)) == []
    return lifting


def test_a_lifted_pose_by_its_definition() -> None:
    """Of 100 poses, with joints that are missing; some of them fit."""
    generator = torch.Generator().manual_seed(4)
    pose_2d = exact_2d(people())
    pose_2d[torch.rand(PEOPLE, 16, generator=generator) < 0.2] = torch.nan
    target, focal = target_of(pose_2d), 1.7
    predicted = people().root_relative
    predicted = predicted + 0.1 * torch.randn(predicted.shape, generator=generator)
    target.keep_lifted(torch.arange(PEOPLE), predicted, torch.tensor(focal))
    assert 0.2 < target.fits.float().mean() < 0.8
    for row in range(0, PEOPLE, PEOPLE // 100):
        seen, pose = target.visible[row], predicted[row]
        observed = target.pose_2d[row] - target.pose_2d[row, seen].mean(0)
        across = pose[:, :2] - pose[seen, :2].mean(0)
        metres = (observed * across)[seen].sum() / observed[seen].square().sum()
        rays = target.pose_2d[row] * (metres + pose[:, 2:] / focal)
        rays = torch.where(seen[:, None], rays - rays[seen].mean(0), across)
        bones = pose_to_bones(torch.cat([rays, pose[:, 2:]], -1), H36M)
        torch.testing.assert_close(target.lifted[row], unit(bones), atol=1e-5, rtol=0)
        off = (rays - across)[seen].norm(dim=-1).mean()
        length = bones.norm(dim=-1).mean()
        fits = off < 0.4 * length and length < 5 * metres * target.size[row]
        assert bool(target.fits[row]) == bool(fits)


@pytest.mark.parametrize("frames", [1, 5])
def test_all_poses_are_lifted_in_turns(frames: int) -> None:
    target = target_of(exact_2d(people()))
    model, sampler = Oracle(people()), sampler_with(target)
    lifting = lifted_by(model, sampler, batch_of(500, frames), 4)
    assert int(target.fits.sum()) == 2000
    lifting = lifted_by(model, sampler, batch_of(500, frames), 5)
    assert target.fits.all()
    assert lifting.updates == 5
    assert angle(target.lifted, true_directions(people())) < 3  # the cameras' focal length
    again = Lifting(sampler)
    again.load_state_dict(lifting.state_dict())
    assert again.updates == 5


def test_what_is_kept_is_the_centre_frame_in_the_mean_camera(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Numbered(nn.Module):
        """Returns the number of the frame in every coordinate but the root's."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, pose_2d: Tensor) -> Tensor:
            number = torch.arange(5.0)[:, None, None].expand(len(pose_2d), 5, 16, 3).clone()
            number[:, :, 0] = 0
            return self.scale * number

    target, poses, kept = target_of(exact_2d(people())), batch_of(64, 5), []
    monkeypatch.setattr(target, "keep_lifted", lambda *given: kept.append(given))
    lifted_by(Numbered(), sampler_with(target), poses, 2)
    for number, (rows, pose_3d, focal) in enumerate(kept):
        assert rows.tolist() == list(range(64 * number, 64 * (number + 1)))
        assert (pose_3d[:, 1:] == 2).all()
        assert float(focal) == pytest.approx(float(poses.camera[:, :2].mean()))


def test_poses_with_a_missing_joint_are_not_lifted_if_others_are_complete() -> None:
    pose_2d = exact_2d(people())
    pose_2d[::2, 9] = torch.nan
    target, model = target_of(pose_2d), Oracle(people())
    lifted_by(model, sampler_with(target), batch_of(256), 4)
    assert not target.fits[::2].any()
    assert target.fits[1::2].all()


@pytest.mark.parametrize(
    ("complete", "with_most", "lifted", "some_are_missing"),
    [(103, 500, 103, False), (102, 500, 602, True), (50, 500, 550, True), (50, 0, 50, True)],
)
def test_the_poses_that_show_most_are_lifted(
    complete: int, with_most: int, lifted: int, some_are_missing: bool
) -> None:
    """Complete ones alone, if they are 5 % of 2,048; never those that lack five joints."""
    pose_2d = exact_2d(people())
    pose_2d[complete : complete + with_most, 3:6] = torch.nan
    pose_2d[complete + with_most :, [2, 3, 5, 6, 9]] = torch.nan
    rows, missing = target_of(pose_2d).liftable(BatchFormat(pose_2d=0, pose_3d=1))
    assert rows.tolist() == list(range(lifted))
    assert missing is some_are_missing


def test_poses_that_lack_more_than_a_quarter_of_the_joints_are_not_lifted() -> None:
    pose_2d = exact_2d(people())
    pose_2d[:, [2, 3, 5, 6, 9]] = torch.nan
    target, model = target_of(pose_2d), Oracle(people())
    lifting = lifted_by(model, sampler_with(target), batch_of(256), 2)
    assert not target.fits.any()
    assert not model.seen
    assert lifting.updates == 0


@pytest.mark.parametrize("missing", [[9], [7, 8], [10, 13], [0]], ids=str)
def test_joints_that_are_missing_are_where_one_expects_them(missing: list[int]) -> None:
    """The model gets them near their true places, and the poses are lifted."""
    pose_2d = exact_2d(people())
    pose_2d[:, missing] = torch.nan
    target, model = target_of(pose_2d), Oracle(people())
    lifted_by(model, sampler_with(target), batch_of(256, 3), 2)
    given, true = torch.cat(model.seen)[:, 1], exact_2d(people())[:512]
    seen = [joint for joint in range(16) if joint not in missing]
    assert torch.equal(given[:, seen], true[:, seen])
    size = target.size[:512, None]
    off = ((given - true).norm(dim=-1) / size)[:, missing].mean()
    nearest = ((true[:, missing, None] - true[:, None, seen]).norm(dim=-1).amin(2) / size).mean()
    assert off < 0.7 * nearest  # better than the place of another joint
    assert target.fits[:512].float().mean() > 0.9


def test_a_filled_pose_by_its_definition() -> None:
    """The mean of a normal distribution, given the visible joints, wherever the person stands."""
    generator = torch.Generator().manual_seed(7)
    pose_2d, rows = exact_2d(people()), torch.arange(0, PEOPLE, 40)
    pose_2d[torch.rand(PEOPLE, 16, generator=generator) < 0.2] = torch.nan
    target, others = target_of(pose_2d), batch_of(300).pose_2d[:, 0]
    found = target.filled(rows, others)
    known = target.normalise(others).flatten(1).double()
    anywhere = torch.eye(2, dtype=torch.float64).repeat(16, 16)
    covariance = known.T.cov(correction=0) + 0.01 * torch.eye(32) + 10 * anywhere
    for row, filled in zip(rows.tolist(), found):
        seen = target.visible[row]
        both, pose = seen.repeat_interleave(2), target.pose_2d[row].double()
        place, size = pose[seen].mean(0), target.size[row]
        off = (((pose - place) / size).flatten() - known.mean(0))[both]
        inverse = torch.linalg.inv(covariance[both][:, both])
        expected = known.mean(0) + covariance[:, both] @ inverse @ off
        expected = expected.view(16, 2) * size + place
        torch.testing.assert_close(filled[seen], target.pose_2d[row, seen])
        torch.testing.assert_close(filled[~seen].double(), expected[~seen], atol=2e-4, rtol=0)


def test_poses_are_filled_in_their_own_dtype() -> None:
    """The caller may have changed the default."""
    pose_2d = exact_2d(people())
    pose_2d[:, 9] = torch.nan
    target, others = target_of(pose_2d), batch_of(64).pose_2d[:, 0]
    rows = torch.arange(5)
    expected = target.filled(rows, others)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(target.filled(rows, others), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_complete_poses_are_lifted_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "filled", None)
    target, model = target_of(exact_2d(people())), Oracle(people())
    lifted_by(model, sampler_with(target), batch_of(256), 1)
    assert torch.equal(model.seen[0], target.pose_2d[:256])


def test_a_loaded_state_has_poses_of_its_own() -> None:
    """The target is part of the sampler's state: which poses can be lifted is found again."""
    first, second = exact_2d(people()), exact_2d(people())
    first[100:, 5:11], second[:1000, 5:11] = torch.nan, torch.nan
    sampler, model = sampler_with(target_of(first)), Oracle(people())
    lifting = lifted_by(model, sampler, batch_of(256), 1)
    other = sampler_with(target_of(second))
    sampler.load_state_dict(other.state_dict())
    lifting.load_state_dict({"updates": 0})
    with Estimator(model).untouched():
        lifting.update(
            batch_of(256),
            Estimator(model),
            BatchFormat(pose_2d=0, pose_3d=1),
            EpochSchedule(None, 0),
        )
    assert sampler.target is not None
    assert sampler.target.fits.nonzero()[:, 0].tolist() == list(range(1000, 1256))


def test_predictions_may_be_in_double_precision() -> None:
    target, poses = target_of(exact_2d(people())), batch_of(64)
    model = Oracle(people()).double()
    model.known_2d, model.known_3d = model.known_2d.double(), model.known_3d.double()
    lifted_by(model, sampler_with(target), poses, 1)
    assert target.fits[:64].all()


def test_no_pose_is_lifted_twice_in_an_update() -> None:
    """On a GPU, which of the two is kept would be left to chance."""
    pose_2d = exact_2d(people())
    pose_2d[100:, 5:11] = torch.nan
    target, model = target_of(pose_2d), Oracle(people())
    lifted_by(model, sampler_with(target), batch_of(256), 2)
    assert [len(seen) for seen in model.seen] == [100, 100]
    assert target.fits.nonzero()[:, 0].tolist() == list(range(100))


def test_a_joint_that_the_model_never_sees_may_be_missing() -> None:
    """Its place is that of the model, beside the other joints."""
    joints = tuple(joint for joint in range(16) if joint != 9)
    pose_2d = exact_2d(people())
    pose_2d[:, 9] = torch.nan
    target = target_of(pose_2d)
    rows, some_are_missing = target.liftable(BatchFormat(pose_2d=0, pose_3d=1))
    assert (len(rows), some_are_missing) == (PEOPLE, True)
    rows, some_are_missing = target.liftable(BatchFormat(pose_2d=0, pose_3d=1, joints_2d=joints))
    assert (len(rows), some_are_missing) == (PEOPLE, False)
    target.keep_lifted(torch.arange(PEOPLE), people().root_relative, torch.tensor(2.0))
    assert target.fits.all()
    assert angle(target.lifted, true_directions(people())) < 2


def test_every_joint_is_as_certain_as_the_most_certain_one() -> None:
    poses = batch_of(64)
    confidence = torch.rand(64, 1, 16, 1, generator=torch.Generator().manual_seed(0))
    confidence[3, 0, 5] = torch.nan
    target, model = target_of(exact_2d(people())), Oracle(people())
    lifted_by(model, sampler_with(target), replace(poses, extra_2d=confidence), 1)
    (seen,) = model.seen
    assert seen.shape == (64, 16, 3)
    assert (seen[..., 2] == confidence.nan_to_num(0.0).max()).all()


def test_a_target_is_restored_with_its_lifted_poses() -> None:
    target = kept(people().root_relative)
    again = Target.restored(target.state_dict(), H36M, CPU)
    for name in ("lifted", "fits"):
        torch.testing.assert_close(getattr(again, name), getattr(target, name))
    assert target.stats()["target_lifted"] == 1
