"""The augmentor: proposed parameters, networks, and the poses that result."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import H36M, PRESETS, cameras, generator, people, random_poses, settings
from poseaug_plugin.adversarial.augmentor import Augmentor
from poseaug_plugin.augment.augmentation import Augmentation
from poseaug_plugin.augment.sampler import Draft, Sampler
from poseaug_plugin.config import PoseAugConfig
from poseaug_plugin.geometry.bones import Bones, body_axes, lengths, pose_to_bones, unit
from poseaug_plugin.geometry.camera import Camera, project
from poseaug_plugin.geometry.operators import axis_angle_to_matrix, bend
from poseaug_plugin.geometry.pose_batch import PoseBatch
from poseaug_plugin.geometry.skeleton import SKELETONS, Skeleton

CPU = torch.device("cpu")

NO_PRIOR = ("paper", "released")
ALL = ("residual", "random", *NO_PRIOR)
#: A prior without randomness: the body unchanged, upright, 4 m away, in the image centre.
CONSTANT = dict(
    yaw=0.0, tilt=(0.0, 0.0), roll=0.0, distance=(4.0, 4.0), image_offset=0.0, focal=(1.0, 1.0)
)
CONSTANT.update(bend=0.0, stretch=0.0, body_scale=0.0, joint_offset=0.0, swap_lengths=False)


def inputs(rows: int, frames: int = 1, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Root-relative poses, roots of centre frames, cameras, and paths of the roots."""
    pose = people(rows, frames, seed=seed)
    root, middle = pose[:, :, 0], frames // 2
    return pose - pose[:, :, :1], root[:, middle], cameras(rows), root - root[:, middle, None]


class Net:
    """An augmentor and a sampler, which adds its proposals to the prior."""

    def __init__(self, config: PoseAugConfig, skeleton: Skeleton = H36M) -> None:
        self.config, self.skeleton = config, skeleton
        self.net = Augmentor(skeleton, config, generator(7))
        self.learned: dict[str, Tensor] = {}
        self.net.eval()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.net, name)

    def __call__(
        self, pose: Tensor, root: Tensor, camera: Tensor, rng: torch.Generator
    ) -> Augmentation:
        sampler, bones = Sampler(self.skeleton, self.config, CPU), Bones.of(pose, self.skeleton)
        sampler.generator = rng
        if self.net.heads:
            sampler.propose = lambda draft: self.net(draft, rng)
        roots = root[:, None].expand(-1, pose.shape[1], -1)
        poses = PoseBatch(pose[..., :2], pose, roots, camera)
        aug, self.draft, proposal = sampler.augment(poses, bones)
        self.learned = proposal.parameters
        return aug


@torch.no_grad()
def sample(net: Net, rows: int = 6, frames: int = 1, seed: int = 3) -> Augmentation:
    pose, root, camera, _ = inputs(rows, frames)
    return net(pose, root, camera, generator(seed))


def make(name: str = "residual", skeleton: Skeleton = H36M, **changes: object) -> Net:
    return Net(settings(name, **changes), skeleton)


def with_large_outputs(net: Net, scale: float = 5.0) -> Net:
    """The net with large random weights in its last layer, so that outputs reach their limits."""
    with torch.no_grad():
        net.last.weight.copy_(torch.randn(net.last.weight.shape, generator=generator(8)) * scale)
    return net


def with_constant_outputs(net: Net, **outputs: list[float]) -> Net:
    """The net with the same outputs before the limits, by head, for all rows."""
    with torch.no_grad():
        net.last.weight.zero_()
        start = 0
        for i, (name, size) in enumerate(net.heads.items()):
            row, begin = (i, 0) if net.nets > 1 else (0, start)
            net.last.bias[row, 0, begin : begin + size] = torch.tensor(outputs[name]).expand(size)
            start += size
    return net


def same(one: Augmentation, two: Augmentation) -> bool:
    first, second = ({**a.parameters, "R": a.R, "t": a.t, "camera": a.camera} for a in (one, two))
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


# Parameters


@pytest.mark.parametrize("networks", ["shared", "separate"])
def test_new_networks_add_nothing_to_the_prior(networks: str) -> None:
    learned, control = make(networks=networks), make("random")
    pose, root, camera, _ = inputs(6)
    assert same(sample(learned), control(pose, root, camera, generator(3)))
    assert learned.learned
    assert not any(value.any() for value in learned.learned.values())
    assert not same(sample(with_large_outputs(learned)), sample(make(networks=networks)))


@pytest.mark.parametrize("preset", ALL)
def test_parameters_depend_on_the_generator_only(preset: str) -> None:
    net, before = make(preset), torch.get_rng_state()
    net = with_large_outputs(net, 0.1) if net.heads else net
    first, again, other = (sample(net, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert same(first, again)
    for name in ("gamma_ba", "gamma_bl", "R", "t"):
        assert not torch.equal(getattr(first, name), getattr(other, name))


@pytest.mark.parametrize("preset", ALL)
@pytest.mark.parametrize("networks", ["shared", "separate"])
@pytest.mark.parametrize("off", ["ba", "bl", "rt"])
def test_a_part_that_is_off_changes_nothing(preset: str, networks: str, off: str) -> None:
    net = make(preset, networks=networks, **{off: False})
    aug = sample(with_large_outputs(net) if net.heads else net)
    _, root, camera, _ = inputs(6)
    for name in ("ba", "bl"):
        gamma = aug.parameters.get(f"gamma_{name}")
        assert (gamma is not None and bool(gamma.any())) == (name != off)
    not_moved = torch.equal(aug.R, torch.eye(3).expand(6, 3, 3)) and torch.equal(aug.t, root)
    assert not_moved == (off == "rt")
    if off == "rt":
        assert torch.equal(aug.camera, camera)
    heads = {"ba": {"ba"}, "bl": {"bl"}, "rt": {"r", "t"}}
    assert set(net.heads) == ({"ba", "bl", "r", "t"} - heads[off] if net.config.learned else set())


def test_with_everything_off_nothing_changes() -> None:
    net = make(ba=False, bl=False, rt=False)
    pose, root, camera, path = inputs(4, 3)
    aug = net(pose, root, camera, generator())
    placed = pose + (root[:, None] + path)[:, :, None]
    assert torch.allclose(aug.apply(pose, H36M, path), placed, atol=1e-5)
    assert not list(net.parameters())


@pytest.mark.parametrize(
    ("preset", "frozen"), [("residual", True), ("released", True), ("paper", False)]
)
def test_a_frozen_trunk_is_not_changed_by_the_networks(preset: str, frozen: bool) -> None:
    changes = CONSTANT if preset == "residual" else {"swap_lengths": False}
    net = with_large_outputs(make(preset, **changes))
    bent = sample(net).gamma_ba.ne(0).any(-1).all(0)
    stretched = net.learned["gamma_bl"].ne(0).all(0)
    assert [k for k in range(15) if not bent[k]] == ([6, 7] if frozen else [])
    assert [g for g in range(9) if not stretched[g]] == ([4] if frozen else [])


def test_a_frozen_trunk_is_bent_by_the_prior() -> None:
    assert sample(make()).gamma_ba[:, [6, 7]].ne(0).all()


def test_learned_parameters_stay_within_their_limits() -> None:
    net = with_large_outputs(
        make(**CONSTANT, limit_ba=0.25, limit_bl=0.08, limit_r=0.4, limit_t=0.15), 50.0
    )
    aug = sample(net, rows=200)
    assert float(net.learned["gamma_ba"].abs().max()) == pytest.approx(0.25)
    assert float(aug.gamma_bl.abs().max()) == pytest.approx(0.08)
    assert torch.equal(aug.gamma_bl, net.learned["gamma_bl"])
    trace = aug.R.diagonal(dim1=-2, dim2=-1).sum(-1)
    angle = torch.acos((trace - 1) / 2)
    assert float(angle.max()) == pytest.approx(0.4 * math.sqrt(3), rel=1e-3)  # 0.4 per axis
    distance = aug.t[:, 2]
    assert float(distance.min()) == pytest.approx(4 * math.exp(-0.15), rel=1e-4)
    assert float(distance.max()) == pytest.approx(4 * math.exp(0.15), rel=1e-4)
    image_offset = aug.t[:, :2] / distance[:, None] * aug.camera[:, :2]
    assert float(image_offset.abs().max()) == pytest.approx(0.15, rel=1e-4)


def test_learned_parameters_are_added_to_the_prior() -> None:
    outputs = {"ba": [0.3], "bl": [-0.2], "r": [0.1, -0.4, 0.2], "t": [0.5, -0.3, 0.8]}
    changes = dict(limit_ba=0.3, limit_bl=0.1, limit_r=0.3, limit_t=0.2, swap_lengths=False)
    net = with_constant_outputs(make(**changes, freeze_trunk=False), **outputs)
    aug, prior = sample(net), sample(make(**changes, freeze_trunk=False))
    axes = Bones.of(inputs(6)[0][:, 0], H36M).axes
    in_body_frame = (aug.gamma_ba - prior.gamma_ba) @ axes
    assert torch.allclose(in_body_frame, torch.tensor(0.3 * math.tanh(0.3)), atol=1e-6)
    assert torch.allclose(aug.gamma_bl - prior.gamma_bl, torch.tensor(0.1 * math.tanh(-0.2)))
    learned_R = axis_angle_to_matrix(0.3 * torch.tensor(outputs["r"]).tanh())
    assert torch.allclose(aug.R, learned_R @ prior.R, atol=1e-6)
    assert torch.allclose(aug.camera, prior.camera)
    assert torch.allclose(aug.t[:, 2], prior.t[:, 2] * math.exp(0.2 * math.tanh(0.8)))
    learned_offset = 0.2 * torch.tensor(outputs["t"][:2]).tanh()
    offsets = [(m.t[:, :2] / m.t[:, 2:] * m.camera[:, :2]) for m in (aug, prior)]
    assert torch.allclose(offsets[0] - offsets[1], learned_offset.expand(6, 2), atol=1e-5)


def test_without_a_prior_shared_networks_start_from_the_rows_as_they_are() -> None:
    aug, (_, root, camera, _) = sample(make("paper")), inputs(6)
    assert not aug.gamma_ba.any()
    assert not aug.gamma_bl.any()
    assert torch.equal(aug.R, torch.eye(3).expand(6, 3, 3))
    assert torch.allclose(aug.t, root, atol=1e-5)
    assert torch.allclose(aug.camera, camera)


def test_without_a_prior_shared_networks_change_the_rows_own_view() -> None:
    outputs = {"ba": [0.3], "bl": [-0.2], "r": [0.1, -0.4, 0.2], "t": [0.5, -0.3, 0.8]}
    net = with_constant_outputs(make("paper"), **outputs)
    aug, (_, root, camera, _) = sample(net), inputs(6)
    assert torch.allclose(aug.gamma_bl, torch.tensor(0.2 * math.tanh(-0.2)))
    R = axis_angle_to_matrix(math.pi * torch.tensor(outputs["r"]).tanh())
    assert torch.allclose(aug.R, R.expand(6, 3, 3), atol=1e-6)
    assert torch.allclose(aug.t[:, 2], root[:, 2] * math.exp(0.5 * math.tanh(0.8)))
    learned_offset = 0.5 * torch.tensor(outputs["t"][:2]).tanh()
    offsets = [(t[:, :2] / t[:, 2:] * camera[:, :2]) for t in (aug.t, root)]
    assert torch.allclose(offsets[0] - offsets[1], learned_offset.expand(6, 2), atol=1e-5)
    assert torch.allclose(aug.camera, camera)


def test_without_a_prior_separate_networks_have_the_published_outputs() -> None:
    outputs = {"ba": [0.7], "bl": [0.9], "r": [0.2, -0.5, 1.0], "t": [0.3, -0.6, -2.0]}
    net = with_constant_outputs(make("released", swap_lengths=False), **outputs)
    aug = sample(net)
    trainable = [k for k in range(15) if k not in (6, 7)]
    assert torch.equal(aug.gamma_ba[:, trainable], torch.full((6, len(trainable), 3), 0.7))
    ratio = aug.gamma_bl[:, [0, 1, 2, 3, 5, 6, 7, 8]]
    assert torch.allclose(ratio, torch.tensor(0.2 * math.tanh(0.9)))
    R = axis_angle_to_matrix(math.pi * torch.tensor(outputs["r"]).tanh())
    assert torch.allclose(aug.R, R.expand(6, 3, 3), atol=1e-6)
    assert torch.allclose(aug.t, torch.tensor([0.3, -0.6, 4.0]).expand(6, 3))
    assert torch.equal(aug.camera, cameras(6))


@pytest.mark.parametrize("preset", NO_PRIOR)
def test_without_a_prior_lengths_change_by_at_most_a_fifth_and_depth_is_positive(
    preset: str,
) -> None:
    aug = sample(with_large_outputs(make(preset, swap_lengths=False), 50.0), rows=200)
    assert float(aug.gamma_bl.abs().max()) == pytest.approx(0.2)
    assert aug.t[:, 2].min() >= 0
    assert aug.t[:, 0].min() < 0


def test_the_image_offset_of_the_root_is_that_of_the_prior_after_the_zoom() -> None:
    camera = Camera(f=(2.2, 2.4), c=(0.05, -0.1)).intrinsics.expand(300, 9)
    pose, root, _, _ = inputs(300)
    aug = make("random", image_offset=0.4, focal=(0.5, 2.0))(pose, root, camera, generator())
    image_offset = project(aug.t[:, None], aug.camera)[:, 0] - camera[:, 2:4]
    assert 0.38 < float(image_offset.abs().max()) <= 0.4 + 1e-5
    factor = aug.camera[:, :2] / camera[:, :2]
    assert torch.allclose(factor[:, 0], factor[:, 1])
    assert 0.5 <= float(factor.min()) < 0.55 < 1.8 < float(factor.max()) <= 2


# What the networks see


def test_the_networks_see_the_body_and_the_view_that_the_prior_has_drawn() -> None:
    net = with_large_outputs(make(), 0.0)
    aug, (pose, _, camera, _) = sample(net), inputs(6)
    seen = net.draft
    drawn = aug.apply(pose, H36M)[:, 0]
    assert torch.allclose(seen.bones.pose_3d, drawn - drawn[:, :1], atol=1e-5)
    offset, log_distance, log_focal = seen.place.split([2, 1, 1], -1)
    assert torch.allclose(log_distance.exp()[:, 0], aug.t[:, 2])
    assert torch.allclose(offset, aug.t[:, :2] / aug.t[:, 2:] * aug.camera[:, :2], atol=1e-6)
    assert torch.allclose(log_focal.exp() * camera[:, :1], aug.camera[:, :1])


@pytest.mark.parametrize("preset", NO_PRIOR)
def test_without_a_prior_the_networks_see_the_original(preset: str) -> None:
    net, (pose, root, camera, _) = make(preset, swap_lengths=False), inputs(6)
    sample(net)
    assert torch.allclose(net.draft.bones.pose_3d, pose[:, 0], atol=1e-6)
    if preset == "released":
        assert net.draft.place is None
    else:
        offset = root[:, :2] / root[:, 2:] * camera[:, :2]
        place = torch.cat([offset, root[:, 2:].log(), torch.zeros(6, 1)], 1)
        assert torch.allclose(net.draft.place, place, atol=1e-6)


def test_the_people_of_a_group_are_seen_in_the_view_of_their_leader() -> None:
    net = make()
    pose, root, camera, _ = inputs(4)
    sampler = Sampler(H36M, net.config, CPU)
    drafts = []
    sampler.propose = lambda draft: drafts.append(draft) or net.net(draft, generator())
    group = torch.tensor([0, 0, 1, 1])
    poses = PoseBatch(pose[..., :2], pose, root[:, None], camera, group=group)
    sampler.augment(poses, Bones.of(pose, H36M))
    (place,) = (draft.place for draft in drafts)
    assert torch.equal(place[::2], place[1::2])
    assert not torch.equal(place[0], place[2])


def test_the_mean_over_rows_is_removed() -> None:
    """The 3D discriminator cannot know that all rows were bent alike."""
    net = with_large_outputs(make(), 3.0)
    net.train()
    pose, root, camera, _ = inputs(64)
    net(pose, root, camera, generator())
    for name, limit in (("gamma_ba", 0.3), ("gamma_bl", 0.1)):
        assert net.learned[name].mean(0).abs().max() < 1e-6
        assert 0.5 * limit < net.learned[name].abs().max() <= limit


def test_in_evaluation_mode_a_row_does_not_depend_on_the_others() -> None:
    net = with_large_outputs(make(), 1.0)
    pose, root, camera, _ = inputs(64)
    net.train()
    for _ in range(60):
        net(pose, root, camera, generator())
    train = net.learned["gamma_ba"]
    net.eval()
    net(pose, root, camera, generator())
    assert torch.allclose(net.learned["gamma_ba"], train, atol=1e-3)
    draft = net.draft
    alone = Draft(draft.bones.pick(torch.tensor([5])), draft.place[5:6])
    with torch.no_grad():
        net.first.weight[:, -48:] = 0  # no noise
        both = [net.net(d, generator()).parameters["gamma_ba"] for d in (draft, alone)]
    assert torch.allclose(both[0][5], both[1][0], atol=1e-6)


# Networks


def test_every_weight_of_the_published_networks_has_a_gradient() -> None:
    net = make("released")
    pose, root, camera, path = inputs(8, 3)
    aug = net(pose, root, camera, generator())
    aug.project(aug.apply(pose, H36M, path), limit=1.0).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.flatten(1).ne(0).any(1).all(), name


@pytest.mark.parametrize("preset", ["residual", "paper"])
def test_networks_that_start_at_zero_have_a_gradient_of_the_last_layer_alone(preset: str) -> None:
    net = make(preset)
    pose, root, camera, _ = inputs(8)
    aug = net(pose, root, camera, generator())
    aug.apply(pose, H36M).square().sum().backward()
    with_gradient = {name for name, p in net.named_parameters() if p.grad.any()}
    assert with_gradient == {"last.weight", "last.bias"}


@pytest.mark.parametrize(
    ("preset", "nets", "norms"), [("residual", 1, 0), ("paper", 1, 0), ("released", 4, 5)]
)
def test_networks_are_shared_or_one_per_head(preset: str, nets: int, norms: int) -> None:
    net = make(preset)
    assert net.nets == nets
    assert sum(type(norm) is not nn.Identity for norm in net.norms) == norms


def test_separate_networks_start_with_the_scale_of_their_own_input_size() -> None:
    std = make("released").first.weight.detach().std((1, 2))
    expected = torch.tensor([2 / (48 + bones + 48) for bones in (0, 15, 0, 0)]).sqrt()
    assert torch.allclose(std, expected, rtol=0.025)


@pytest.mark.parametrize(
    ("preset", "changed"), [("released", {"bl"}), ("paper", {"ba", "bl", "rt"})]
)
def test_only_a_network_with_the_length_head_sees_lengths(preset: str, changed: set[str]) -> None:
    net = with_large_outputs(make(preset, swap_lengths=False), 0.1)
    before = sample(net)
    with torch.no_grad():
        net.first.weight[:, 48:63] += 1  # the bone lengths, after the 48 coordinates
    after = sample(net)
    is_changed = {
        "ba": not torch.equal(before.gamma_ba, after.gamma_ba),
        "bl": not torch.equal(before.gamma_bl, after.gamma_bl),
        "rt": not torch.equal(before.R, after.R) or not torch.equal(before.t, after.t),
    }
    assert {name for name, value in is_changed.items() if value} == changed


@pytest.mark.parametrize(("head", "changed"), [*enumerate(["gamma_ba", "gamma_bl", "R", "t"])])
def test_separate_networks_do_not_influence_each_other(head: int, changed: str) -> None:
    net = make("released", swap_lengths=False)
    before = sample(net)
    with torch.no_grad():
        net.blocks[1].weight[head] *= -1
    after = sample(net)
    for name in ("gamma_ba", "gamma_bl", "R", "t"):
        assert torch.equal(getattr(before, name), getattr(after, name)) == (name != changed)


@pytest.mark.parametrize("preset", ALL)
@pytest.mark.parametrize("name", PRESETS)
def test_a_single_row_of_any_skeleton_works(preset: str, name: str) -> None:
    skeleton = SKELETONS[name]
    net = make(preset, skeleton, width=8)
    pose = random_poses(skeleton, 1, 2, dtype=torch.float32)
    pose = pose - pose[:, :, skeleton.root, None]
    aug = net(pose, torch.tensor([[0.0, 0.0, 4.0]]), cameras(1), generator())
    assert aug.gamma_ba.shape == (1, skeleton.num_bones, 3)
    assert aug.gamma_bl.shape == (1, skeleton.num_groups)
    assert aug.R.shape == (1, 3, 3)
    final = aug.apply(pose, skeleton)
    assert final.shape == pose.shape
    assert aug.project(final, limit=1.0).isfinite().all()


# Poses


@pytest.mark.parametrize("preset", ALL)
def test_applying_again_gives_equal_poses(preset: str) -> None:
    net = make(preset)
    pose, root, camera, path = inputs(5, 3)
    aug = net(pose, root, camera, generator())
    augmented, bones = aug.apply(pose, H36M, path), Bones.of(pose, H36M)
    assert torch.equal(augmented, aug.apply(pose, H36M, path))
    assert torch.equal(aug.project(augmented), aug.project(augmented))
    assert torch.equal(augmented, aug.place(aug.stretch(aug.bend(bones)), bones, path))


def test_parameters_and_view_are_constant_in_a_clip_and_motion_is_kept() -> None:
    net = with_large_outputs(make(), 1.0)
    pose, root, camera, path = inputs(4, 5)
    aug = net(pose, root, camera, generator())
    moved = aug.apply(pose, H36M, path)
    before, after = (lengths(pose_to_bones(p, H36M)) for p in (pose, moved))
    assert torch.allclose((after / before).std(1), torch.zeros(4, 15), atol=1e-5)
    for row in range(4):
        for frame in range(5):
            root = aug.t[row] + aug.R[row] @ path[row, frame]
            assert torch.allclose(moved[row, frame, 0], root, atol=1e-5)
        bent = bend(pose[row, 2], aug.gamma_ba[row], H36M)  # the others turn with the person
        assert torch.allclose(aug.bend(Bones.of(pose, H36M)).pose_3d[row, 2], bent, atol=1e-6)
        spine = (moved[row, 2, 7] - moved[row, 2, 0]) / after[row, 2, 6]
        assert torch.allclose(spine, aug.R[row] @ (bent[7] / bent[7].norm()), atol=1e-5)
    assert torch.allclose(moved[:, 2, 0], aug.t)  # the root of the centre frame is at t
    without_path = aug.apply(pose, H36M)
    assert torch.allclose(without_path[:, :, 0], aug.t[:, None].expand(4, 5, 3))


def test_joint_offsets_are_constant_in_a_clip() -> None:
    net = make("random", **{**CONSTANT, "joint_offset": 0.05})
    pose, root, camera, path = inputs(4, 5)
    aug = net(pose, root, camera, generator())
    moved = aug.apply(pose, H36M, path)
    assert aug.offset is not None
    for frame in range(5):
        axes = body_axes(unit(pose_to_bones(pose[:, frame], H36M)), H36M)
        offset = (moved - moved[:, :, :1] - pose)[:, frame] @ aug.R @ axes
        assert torch.allclose(offset, aug.offset, atol=1e-5)
    assert aug.offset.norm(dim=-1).max() > 0.05


def test_the_input_of_the_network_is_the_centre_frame() -> None:
    net = with_large_outputs(make("paper"), 0.1)
    pose, root, camera, _ = inputs(3, 3)
    aug = net(pose, root, camera, generator())
    of_centre_frame = net(pose[:, 1:2], root, camera, generator())
    assert same(aug, of_centre_frame)
    assert not same(aug, net(pose[:, :1], root, camera, generator()))


def test_projection_uses_the_zoomed_camera_of_each_row() -> None:
    net = make("random")
    pose, root, camera, _ = inputs(3, 2)
    aug = net(pose, root, camera, generator())
    final = aug.apply(pose, H36M)
    for row in range(3):
        expected = project(final[row], aug.camera[row], limit=1.0)
        assert torch.allclose(aug.project(final, limit=1.0)[row], expected)
    assert not torch.allclose(aug.camera[0], aug.camera[1])
