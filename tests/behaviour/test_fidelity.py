"""The preset `released` against an independent implementation of the published method.

The reference shares no code with the package. It loops over the rows, joints and bones of
Human3.6M's 16 joints in float64, and rotates with quaternions. The last part tests where the plugin
deliberately differs from the released code.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import unit_bones
from loop_helpers import Lifter, people
from poseaug_plugin import Camera, ConfigError, PoseAugConfig, PoseBatch, Skeleton
from poseaug_plugin.adversarial.discriminators import Discriminator2d, Discriminator3d
from poseaug_plugin.adversarial.fake_pool import FakePool
from poseaug_plugin.adversarial.feedback import ratio_feedback, tier_errors
from poseaug_plugin.adversarial.losses import (
    lsgan_discriminator,
    lsgan_generator,
    outside_band,
    past_limit,
)
from poseaug_plugin.adversarial.objectives import regularisation
from poseaug_plugin.adversarial.trainer import Trainer
from poseaug_plugin.augment.sampler import Draft, Proposal, Sampler
from poseaug_plugin.batches.presets import FORMATS
from poseaug_plugin.geometry.bones import Bones, bones_to_pose, kcs, lengths, pose_to_bones, unit
from poseaug_plugin.geometry.camera import in_frame, project
from poseaug_plugin.geometry.operators import axis_angle_to_matrix, bend, move, stretch
from poseaug_plugin.loop.estimator import Estimator
from poseaug_plugin.schedule import EpochSchedule

H36M, CPU, POSEAUG = Skeleton.of("h36m_16"), torch.device("cpu"), FORMATS["poseaug"]

# The published constants.
PARENT = (None, 0, 1, 2, 0, 4, 5, 0, 7, 8, 8, 10, 11, 8, 13, 14)  # bone k ends at joint k + 1
GROUP = (0, 1, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 6, 7, 8)  # length ratio of each bone
FROZEN_BONES, FROZEN_GROUP = (6, 7), 4  # pelvis-spine, spine-thorax; length of spine-thorax
ARMS = (7, 9, 10, 11), (7, 12, 13, 14)
LEGS = (0, 1, 2, 3, 6), (0, 3, 4, 5, 6)
PARTS = (*ARMS, *LEGS, (0, 3, 6, 7, 8, 9, 12))
TIERS = (1, 4, 10, 13), (2, 5, 9, 11, 14), (3, 6, 12, 15)
WEIGHTS = (1, 5, 2, 1, 5, 2, 1, 1, 1, 1, 5, 2, 1, 5, 2, 1)
NOISE, WIDTH, ROWS, POOL = 4, 8, 6, 8

Pose = list[Tensor]  # 16 points (3,) or (2,)
Weights = dict[str, Tensor]


# The reference: operators


def size(v: Tensor) -> Tensor:
    return sum(x * x for x in v) ** 0.5


def points(pose: Tensor) -> Pose:
    return [pose[j] for j in range(len(pose))]


def slow_bones(pose: Pose) -> list[Tensor]:
    return [pose[j] - pose[PARENT[j]] for j in range(1, 16)]


def slow_pose(bones: list[Tensor], root: Tensor) -> Pose:
    pose = [root]
    for j in range(1, 16):
        pose.append(pose[PARENT[j]] + bones[j - 1])
    return pose


def slow_bend(pose: Pose, gamma: Tensor) -> Pose:
    bones = slow_bones(pose)
    for k in range(15):
        if k not in FROZEN_BONES:
            long = size(bones[k])
            bent = bones[k] / long + gamma[k]
            bones[k] = bent / size(bent) * long
    return slow_pose(bones, pose[0])


def slow_stretch(pose: Pose, gamma: Sequence[Tensor]) -> Pose:
    bones = slow_bones(pose)
    return slow_pose([bones[k] * (1 + gamma[GROUP[k]]) for k in range(15)], pose[0])


def quaternion_product(a: Sequence[Tensor], b: Sequence[Tensor]) -> list[Tensor]:
    return [
        a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
        a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
        a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
        a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
    ]


def slow_rotate(v: Tensor, axis_angle: Tensor) -> Tensor:
    angle = size(axis_angle)
    half = torch.sin(angle / 2) / angle
    q = [torch.cos(angle / 2), *(half * a for a in axis_angle)]
    back = [q[0], -q[1], -q[2], -q[3]]
    nothing = torch.zeros((), dtype=torch.float64)
    return torch.stack(quaternion_product(quaternion_product(q, [nothing, *v]), back)[1:])


def slow_move(pose: Pose, axis_angle: Tensor, t: Tensor) -> Pose:
    return [slow_rotate(joint - pose[0], axis_angle) + t for joint in pose]


def slow_project(pose: Pose, camera: Tensor, clamped: bool = True) -> Pose:
    fx, fy, cx, cy, k1, k2, k3, p1, p2 = camera.tolist()
    projected = []
    for joint in pose:
        x, y = joint[0] / joint[2], joint[1] / joint[2]
        if clamped:
            x, y = (max(-1.0, min(1.0, v.item())) if abs(v) > 1 else v for v in (x, y))
        r2 = x * x + y * y
        factor = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + p1 * x + p2 * y
        both = fx * (x * factor + p1 * r2) + cx, fy * (y * factor + p2 * r2) + cy
        projected.append(torch.stack([torch.as_tensor(v, dtype=torch.float64) for v in both]))
    return projected


# The reference: networks


def slow_linear(x: Tensor, w: Weights, layer: str, net: int = 0) -> Tensor:
    return w[layer + ".weight"][net].T @ x + w[layer + ".bias"][net, 0]


def slow_leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.01 * x)


def slow_norm(rows: list[Tensor], w: Weights, layer: str, net: int) -> list[Tensor]:
    mean = sum(rows) / len(rows)
    spread = (sum((row - mean) ** 2 for row in rows) / len(rows) + 1e-5) ** 0.5
    scale, shift = w[layer + ".weight"][net, 0], w[layer + ".bias"][net, 0]
    return [(row - mean) / spread * scale + shift for row in rows]


def slow_network(poses: list[Pose], noise: Tensor, w: Weights, net: int) -> list[Tensor]:
    """One of the four networks; only that for bone lengths gets bone lengths as input."""
    rows = []
    for pose, draw in zip(poses, noise[net]):
        shown = [size(b) if net == 1 else torch.tensor(0.0) for b in slow_bones(pose)]
        x = torch.cat([*pose, torch.stack(shown).double(), draw.double()])
        rows.append(slow_linear(x, w, "first", net))
    rows = [slow_leaky(row) for row in slow_norm(rows, w, "norms.0", net)]
    for i in range(4):
        rows = [slow_linear(row, w, f"blocks.{i}", net) for row in rows]
        rows = [slow_leaky(row) for row in slow_norm(rows, w, f"norms.{i + 1}", net)]
    return [slow_linear(row, w, "last", net) for row in rows]


def slow_parameters(poses: list[Pose], noise: Tensor, w: Weights) -> list[tuple[Tensor, ...]]:
    """gamma_ba (15, 3), gamma_bl (9,), axis-angle (3,) and t (3,) of every row."""
    parameters = []
    for ba, bl, r, t in zip(*(slow_network(poses, noise, w, net) for net in range(4))):
        free = torch.tensor([float(g != FROZEN_GROUP) for g in range(9)], dtype=torch.float64)
        place = torch.stack([t[0], t[1], t[2] ** 2])
        parameters.append(
            (ba[:45].view(15, 3), 0.2 * torch.tanh(bl[:9]) * free, math.pi * r[:3].tanh(), place)
        )
    return parameters


def slow_score_3d(pose: Pose, w: Weights) -> list[Tensor]:
    bones = slow_bones(pose)
    units = [bone / size(bone) for bone in bones]
    scores = []
    for path, part in enumerate(PARTS):
        cosines = torch.stack([sum(units[a] * units[b]) for a in part for b in part])
        h1 = slow_leaky(slow_linear(cosines, w, f"first.{path // 2}", path % 2))  # by size
        h2 = slow_leaky(slow_linear(h1, w, "second", path))
        h3 = slow_linear(h2, w, "third", path) + h1
        h4 = slow_leaky(slow_linear(h3, w, "last", path))
        scores.append(slow_linear(h4, w, "score", path)[0])
    return scores


def slow_score_2d(pose: Pose, w: Weights) -> list[Tensor]:
    h1 = slow_leaky(slow_linear(torch.cat(list(pose)), w, "first"))
    h2 = slow_leaky(slow_linear(h1, w, "second"))
    h3 = slow_leaky(slow_linear(h2, w, "third") + h1)
    h4 = slow_linear(h3, w, "fourth")
    return [slow_linear(slow_leaky(slow_linear(h4, w, "last")), w, "score")[0]]


SCORE = {"d3d": slow_score_3d, "d2d": slow_score_2d}


# The reference: losses


def half_mean_square(scores: list[Tensor], label: float) -> Tensor:
    return sum((score - label) ** 2 for score in scores) / len(scores) / 2


def slow_band(values: list[Tensor], target: float, band: float) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for value in values:
        if abs(value - target) > band:
            total = total + (value - target) ** 2
    return total / len(values)


def slow_tiers(predicted: Pose, pose: Pose) -> list[Tensor]:
    tiers = []
    for tier in TIERS:
        errors = [WEIGHTS[j] * size(predicted[j] - (pose[j] - pose[0])) for j in tier]
        tiers.append(sum(errors) / len(errors))
    return tiers


def slow_bent(before: Pose, after: Pose) -> Tensor:
    """Mean of 1 - cos(angle) over the bends of all bones."""
    pairs = list(zip(slow_bones(before), slow_bones(after)))
    return sum(1 - sum(a * b) / (size(a) * size(b)) for a, b in pairs) / 15


def slow_swap(poses: list[Pose], other: list[int]) -> list[list[Tensor]]:
    """For each row, the ratio of another row's bone lengths to its own, averaged over sides."""
    means = []
    for pose in poses:
        long = [size(bone) for bone in slow_bones(pose)]
        members = [[k for k in range(15) if GROUP[k] == g] for g in range(9)]
        means.append([sum(long[k] for k in ks) / len(ks) for ks in members])
    return [[means[o][g] / means[i][g] for g in range(9)] for i, o in enumerate(other)]


class SlowAdam:
    """Adam on the weights of one network, with gradients clipped to a total norm of 1."""

    def __init__(self, net: torch.nn.Module) -> None:
        self.weights = {
            name: p.detach().double().clone().requires_grad_() for name, p in net.named_parameters()
        }
        self.first = {name: torch.zeros_like(p.detach()) for name, p in self.weights.items()}
        self.second = {name: torch.zeros_like(p.detach()) for name, p in self.weights.items()}
        self.steps, self.norm = 0, 0.0

    def descend(self, loss: Tensor, lr: float) -> None:
        grads = torch.autograd.grad(loss, list(self.weights.values()))
        self.norm = math.sqrt(sum((g * g).sum().item() for g in grads))
        shrink = 1 / (self.norm + 1e-6) if self.norm > 1 else 1.0
        self.steps += 1
        for name, grad in zip(self.weights, grads):
            g = grad * shrink
            self.first[name] = 0.9 * self.first[name] + 0.1 * g
            self.second[name] = 0.999 * self.second[name] + 0.001 * g * g
            m = self.first[name] / (1 - 0.9**self.steps)
            v = self.second[name] / (1 - 0.999**self.steps)
            moved = self.weights[name].detach() - lr * m / (v.sqrt() + 1e-8)
            self.weights[name] = moved.requires_grad_()


class SlowPool:
    """First stores and returns rows; once full, swaps each row with a stored one at chance 1/2."""

    def __init__(self) -> None:
        self.items: list[Pose] = []

    def __call__(self, rows: list[Pose], rng: torch.Generator) -> list[Pose]:
        free = min(POOL - len(self.items), len(rows))
        self.items += rows[:free]
        returned, rest = rows[:free], rows[free:]
        if rest:
            slots = torch.randperm(POOL, generator=rng).tolist()
            coins = torch.rand(len(rest), generator=rng).tolist()
            for row, slot, coin in zip(rest, slots, coins):
                returned.append(self.items[slot] if coin < 0.5 else row)
                if coin < 0.5:
                    self.items[slot] = row
        return returned


class Reference:
    """Updates the augmentor, and every second time the discriminators on its new output."""

    def __init__(self, trainer: Trainer, model: torch.nn.Module) -> None:
        self.parts = {name: SlowAdam(net) for name, net in trainer.nets.items()}
        self.pools = {"d3d": SlowPool(), "d2d": SlowPool()}
        self.model = copy.deepcopy(model).eval()
        self.updates = 0
        self.losses: dict[str, float] = {}

    def lift(self, pose_2d: Pose) -> Pose:
        return points(self.model(torch.stack(pose_2d)[None])[0])

    def update(self, poses: list[Pose], camera: Tensor, rng: torch.Generator, done: int) -> None:
        """`poses` are absolute; `done` of 50 epochs are finished."""
        lr = 1e-4 * (1 - done / 51)
        relative = [[joint - pose[0] for joint in pose] for pose in poses]
        swaps = slow_swap(relative, torch.randperm(ROWS, generator=rng).tolist())
        poses = [slow_stretch(pose, [s - 1 for s in swap]) for pose, swap in zip(poses, swaps)]
        relative = [[joint - pose[0] for joint in pose] for pose in poses]
        noise = torch.randn(4, ROWS, NOISE, generator=rng)
        drawn = slow_parameters(relative, noise, self.parts["augmentor"].weights)

        real_2d = [slow_project(pose, cam) for pose, cam in zip(poses, camera)]
        bent, placed, bent_2d, placed_2d = [], [], [], []
        for row, (ba, bl, r, t) in enumerate(drawn):
            bent.append(slow_bend(poses[row], ba))
            placed.append(slow_move(slow_stretch(bent[row], bl), r, t))
            bent_2d.append(slow_project(bent[row], camera[row]))
            placed_2d.append(slow_project(placed[row], camera[row]))

        fakes, reals = {"d3d": bent, "d2d": placed_2d}, {"d3d": poses, "d2d": real_2d}
        loss = 3 * slow_band([slow_bent(a, b) for a, b in zip(poses, bent)], 0.205, 0.165)
        loss = loss + 3 * slow_band([g for _, bl, _, _ in drawn for g in bl], 0.0, 0.1)
        for part, weight in (("d2d", 1), ("d3d", 6)):
            w = self.parts[part].weights
            scores = [score for fake in fakes[part] for score in SCORE[part](fake, w)]
            loss = loss + weight * half_mean_square(scores, 1)
        if done >= 2:
            ba_ratio = 3 + (5 - 3) * (done + 1) / 50
            ratio: dict[str, list[Tensor]] = {"ba": [], "rt": []}
            for row in range(ROWS):
                easier = slow_tiers(self.lift(real_2d[row]), poses[row])
                harder_ba = slow_tiers(self.lift(bent_2d[row]), bent[row])
                harder_rt = slow_tiers(self.lift(placed_2d[row]), placed[row])
                for tier in range(3):
                    ratio["ba"].append(harder_ba[tier] / easier[tier].detach())
                    ratio["rt"].append(harder_rt[tier] / easier[tier].detach())
            feedback = 0.1 * slow_band(ratio["ba"], ba_ratio, 2)
            feedback = feedback + 0.01 * slow_band(ratio["rt"], 17, 15)
            self.losses["feedback"] = feedback.item()
            loss = loss + feedback
        self.losses["augmentor"] = loss.item()
        self.parts["augmentor"].descend(loss, lr)
        if self.updates % 2 == 0:
            for part in ("d3d", "d2d"):
                self._update_discriminator(part, reals[part], fakes[part], rng, lr)
        self.updates += 1

    def _update_discriminator(
        self, part: str, reals: list[Pose], fakes: list[Pose], rng: torch.Generator, lr: float
    ) -> None:
        old = self.pools[part]([[joint.detach() for joint in fake] for fake in fakes], rng)
        w = self.parts[part].weights
        on_real = [score for pose in reals for score in SCORE[part](pose, w)]
        on_fake = [score for pose in old for score in SCORE[part](pose, w)]
        loss = half_mean_square(on_real, 1) + half_mean_square(on_fake, 0)
        self.losses[part] = loss.item()
        self.parts[part].descend(loss, lr)


# Inputs of both


def released(**changes: Any) -> PoseAugConfig:
    return PoseAugConfig.released(
        **{"width": WIDTH, "d_width": WIDTH, "noise": NOISE, "pool": POOL, **changes}
    )


def doubles(seed: int = 0, aside: float = 0.0) -> PoseBatch:
    """People in float64, the first moved by `aside` metres, with the published projection."""
    who = people(ROWS, seed=seed)
    read = POSEAUG.read((who.pose_3d, who.pose_2d, None, who.camera), H36M, Camera())
    fields = {name: getattr(read, name).double() for name in ("pose_3d", "root", "camera")}
    fields["root"][0, :, 0] += aside
    placed = (fields["pose_3d"] + fields["root"][:, :, None])[:, 0]
    pose_2d = [torch.stack(slow_project(points(p), c)) for p, c in zip(placed, fields["camera"])]
    return replace(read, pose_2d=torch.stack(pose_2d)[:, None], **fields)


def absolute(poses: PoseBatch) -> Tensor:
    return poses.pose_3d[:, 0] + poses.root


def stacked(poses: list[Pose]) -> Tensor:
    return torch.stack([torch.stack(list(pose)) for pose in poses])


def trainer(**changes: Any) -> Trainer:
    return Trainer(Sampler(H36M, released(**changes), CPU))


def doubled_trainer(**changes: Any) -> Trainer:
    """A trainer in float64 that places everybody about 3 m away, half outside the image."""
    plugin = trainer(**changes)
    for net in plugin.nets.values():
        net.double()
    with torch.no_grad():
        last = plugin.nets["augmentor"].last
        last.weight[3] *= 0.1
        last.bias[3, 0, :3] = torch.tensor([3.0, -0.1, 1.8])
    return plugin


def lifter(root: bool = False) -> torch.nn.Module:
    """A lifter in training mode, with BatchNorm and dropout, that predicts a standing person."""
    torch.manual_seed(1)
    model = Lifter().double()
    with torch.no_grad():
        model.norm.running_mean.normal_()
        model.norm.running_var.uniform_(0.5, 2)
        model.last.weight *= 0.2
        model.last.bias.copy_(doubles().pose_3d.mean((0, 1)).flatten())
        if not root:
            model.last.weight[:3] = 0
    return model


def randoms(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=rng, dtype=torch.float64)


def close(a: Tensor, b: Tensor, atol: float = 1e-11) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=atol)


# Constants and sizes


def test_the_preset_has_the_published_numbers() -> None:
    config = PoseAugConfig.released()
    published = dict(
        ba_ratio=(3, 5), ba_band=2, ba_weight=0.1, rt_ratio=(17, 17), rt_band=15, rt_weight=0.01
    )
    published |= dict(bend_target=0.205, bend_band=0.165, reg_bl=0.1, limit_bl=0.2, limit_ba=None)
    published |= dict(adv2d=1, adv3d=6, reg_weight=3, lr=1e-4, clip=1, update_every=1, d_every=2)
    published |= dict(pool=4096, warmup=2, noise=48, width=256, d_width=256, update_rows=None)
    published |= dict(normalize_gradients=False, reg_angles=0, warmup_steps=None)
    published |= dict(feedback="range", reg="range", networks="separate", kcs="parts", prior=False)
    assert {name: getattr(config, name) for name in published} == published


def test_the_networks_have_the_published_sizes() -> None:
    plugin = Trainer(Sampler(H36M, PoseAugConfig.released(), CPU))
    augmentor, d3d, d2d = (plugin.nets[name] for name in ("augmentor", "d3d", "d2d"))
    assert augmentor.heads == {"ba": 45, "bl": 9, "r": 3, "t": 3}
    assert augmentor.sees_lengths.flatten().tolist() == [0, 1, 0, 0]
    assert augmentor.first.weight.shape == (4, 48 + 15 + 48, 256)
    assert [layer.weight.shape for layer in augmentor.blocks] == [(4, 256, 256)] * 4
    assert [f.weight.shape for f in d3d.first] == [(2, 16, 256), (2, 25, 256), (1, 49, 256)]
    assert d3d.second.weight.shape == d3d.third.weight.shape == (5, 256, 256)
    assert d3d.last.weight.shape == (5, 256, 100)
    assert d2d.first.weight.shape == (1, 32, 100)
    hidden = d2d.second, d2d.third, d2d.fourth, d2d.last
    assert [layer.weight.shape for layer in hidden] == [(1, 100, 100)] * 4
    assert all(type(o) is torch.optim.Adam for o in plugin.optimizers.values())


@pytest.mark.parametrize("epoch", [1, 3, 25, 50])
def test_schedules(epoch: int) -> None:
    """The released code counts epochs from 1; the learning rate decays by finished epochs."""
    schedule, config = EpochSchedule(50, 2, epoch - 1), released()
    assert schedule.warm is (epoch > 2)
    assert schedule.between(config.ba_ratio) == pytest.approx(3 + 2 * epoch / 50)
    assert schedule.between(config.rt_ratio) == 17
    assert schedule.lr_factor == pytest.approx(1 - (epoch - 1) / 51)


# Operators


def test_pose_to_bones_and_back() -> None:
    pose = absolute(doubles())
    bones = pose_to_bones(pose, H36M)
    slow = [slow_bones(points(p)) for p in pose]
    assert close(bones, torch.stack([torch.stack(b) for b in slow]))
    origin = torch.zeros(3, dtype=torch.float64)
    assert close(bones_to_pose(bones, H36M), stacked([slow_pose(b, origin) for b in slow]))
    assert close(bones_to_pose(bones, H36M) + pose[:, :1], pose)


def test_bone_angles() -> None:
    pose, gamma = absolute(doubles()), randoms(ROWS, 15, 3)
    gamma[:, list(FROZEN_BONES)] = 0
    fast = bend(pose, gamma, H36M)
    assert close(fast, stacked([slow_bend(points(p), g) for p, g in zip(pose, gamma)]))
    assert close(lengths(pose_to_bones(fast, H36M)), lengths(pose_to_bones(pose, H36M)))


def test_bone_lengths() -> None:
    pose, gamma = absolute(doubles()), randoms(ROWS, 9, scale=0.1)
    fast = stretch(pose, gamma, H36M)
    assert close(fast, stacked([slow_stretch(points(p), g) for p, g in zip(pose, gamma)]))


def test_view_and_position() -> None:
    pose, axis_angle, t = absolute(doubles()), randoms(ROWS, 3, seed=1), randoms(ROWS, 3, seed=2)
    fast = move(pose, axis_angle_to_matrix(axis_angle), t, H36M)
    slow = [slow_move(points(p), r, where) for p, r, where in zip(pose, axis_angle, t)]
    assert close(fast, stacked(slow))
    assert close(fast[:, 0], t)  # the root is replaced, not shifted


@pytest.mark.parametrize("clamped", [True, False])
def test_projection(clamped: bool) -> None:
    poses = doubles()
    near = absolute(poses) - torch.tensor([1.0, 0.0, 3.2]).double()  # some rays past 45 degrees
    assert near[..., 2].min() > 0.05
    assert ((near[..., :2] / near[..., 2:]).abs() > 1).any()
    fast = project(near, poses.camera, limit=1.0 if clamped else None)
    slow = [slow_project(points(p), c, clamped) for p, c in zip(near, poses.camera)]
    assert close(fast, stacked(slow), atol=1e-9)


def test_all_operators_in_the_published_order() -> None:
    """Angles, then lengths, then view, with the published ranges of the network outputs."""
    plugin, poses = doubled_trainer(swap_lengths=False), doubles()
    rng = torch.Generator().manual_seed(5)
    noise = torch.randn(4, ROWS, NOISE, generator=torch.Generator().manual_seed(5))
    plugin.sampler.generator = rng
    bones = Bones.of(poses.pose_3d, H36M)
    aug, _, proposal = plugin.sampler.augment(poses, bones)
    fast = aug.apply(poses.pose_3d, H36M)[:, 0]
    relative = [points(p) for p in poses.pose_3d[:, 0]]
    weights = {name: p.detach() for name, p in plugin.nets["augmentor"].named_parameters()}
    slow = []
    for row, (ba, bl, r, t) in enumerate(slow_parameters(relative, noise, weights)):
        slow.append(slow_move(slow_stretch(slow_bend(relative[row], ba), bl), r, t))
        assert close(proposal.parameters["gamma_bl"][row].detach(), bl)
        assert close(aug.t[row].detach(), t)
        assert 0 < bl.abs().max() < 0.2
        assert bl[FROZEN_GROUP] == 0
    assert close(fast.detach(), stacked(slow))
    assert close(
        aug.project(aug.apply(poses.pose_3d, H36M))[0, 0].detach(),
        stacked([slow_project(slow[0], poses.camera[0], clamped=False)])[0],
        atol=1e-9,
    )


# Discriminators and losses


def test_kcs_of_unit_bones_are_cosines() -> None:
    pose = absolute(doubles())
    matrix = kcs(unit(pose_to_bones(pose, H36M)))
    for row in range(ROWS):
        bones = slow_bones(points(pose[row]))
        slow = [[sum(a * b) / (size(a) * size(b)) for b in bones] for a in bones]
        assert close(matrix[row], torch.stack([torch.stack(line) for line in slow]))


@pytest.mark.parametrize("width", [WIDTH, 256])
def test_the_3d_discriminator(width: int) -> None:
    discriminator = Discriminator3d(H36M, torch.Generator(), width=width).double()
    weights = {name: p.detach() for name, p in discriminator.named_parameters()}
    pose = absolute(doubles())
    slow = [torch.stack(slow_score_3d(points(p), weights)) for p in pose]
    assert close(discriminator(unit_bones(pose)).detach(), torch.stack(slow), atol=1e-9)


def test_the_2d_discriminator() -> None:
    discriminator, pose_2d = (
        Discriminator2d(H36M, torch.Generator()).double(),
        doubles().pose_2d[:, 0],
    )
    weights = {name: p.detach() for name, p in discriminator.named_parameters()}
    slow = [torch.stack(slow_score_2d(points(p), weights)) for p in pose_2d]
    assert close(discriminator(pose_2d).detach(), torch.stack(slow), atol=1e-9)


def test_adversarial_losses() -> None:
    real, fake = randoms(ROWS, 5), randoms(ROWS, 5, seed=1)
    flat_real, flat_fake = ([*scores.flatten()] for scores in (real, fake))
    slow = half_mean_square(flat_real, 1) + half_mean_square(flat_fake, 0)
    assert close(lsgan_discriminator(real, fake), slow)
    assert close(lsgan_generator(fake), half_mean_square(flat_fake, 1))


def test_joint_errors_in_three_tiers() -> None:
    target, predicted = doubles().pose_3d, randoms(ROWS, 1, 16, 3, scale=0.3)
    slow = [slow_tiers(points(p[0]), points(t[0])) for p, t in zip(predicted, target)]
    assert close(tier_errors(predicted, target, H36M), stacked(slow))


@pytest.mark.parametrize(("target", "band"), [(3.0, 2.0), (5.0, 2.0), (17.0, 15.0)])
def test_feedback_is_zero_inside_the_band(target: float, band: float) -> None:
    easier = randoms(20, 3).abs() + 0.1
    ratios = target + band * torch.linspace(-1.5, 1.5, 60, dtype=torch.float64).view(20, 3)
    slow = slow_band([*ratios.flatten()], target, band)
    assert close(ratio_feedback(ratios * easier, easier, target, band), slow, atol=1e-9)
    inside = ratios[(ratios - target).abs() < 0.99 * band]
    assert 30 < len(inside) < 60
    assert ratio_feedback(inside * 0.2, 0.2 * torch.ones_like(inside), target, band) == 0


def test_regularisation_of_angles_is_above_0_without_any_bend() -> None:
    plugin, poses = doubled_trainer(swap_lengths=False), doubles()
    calm = Proposal()
    absolute_poses = absolute(poses)
    for scale in (0.0, 0.5, 1.0, 3.0):
        gamma = randoms(ROWS, 15, 3, scale=scale)
        gamma[:, list(FROZEN_BONES)] = 0
        bent = bend(poses.pose_3d, gamma[:, None], H36M)
        before, after = unit_bones(poses.pose_3d[:, 0]), unit_bones(bent[:, 0])
        fast = regularisation(calm, before, after, plugin.config)
        slow = [
            slow_bent(points(p), slow_bend(points(p), g)) for p, g in zip(absolute_poses, gamma)
        ]
        assert close(fast, slow_band(slow, 0.205, 0.165))
        if scale == 0:
            assert float(fast) == pytest.approx(0.205**2)
        if scale == 0.5:
            assert float(fast) == 0


def test_regularisation_of_lengths() -> None:
    gamma = randoms(ROWS, 9, scale=0.1)
    assert (gamma.abs() < 0.1).any()
    assert close(past_limit(gamma, 0.1), slow_band([*gamma.flatten()], 0.0, 0.1))
    assert outside_band(torch.tensor([0.05, -0.09]), 0.0, 0.1) == 0


# The pool


def test_the_pool_first_fills_up_and_then_swaps_half_of_the_rows() -> None:
    pool, rng = FakePool(1000), torch.Generator().manual_seed(0)
    first = torch.arange(1000.0)[:, None]
    for part in first.split(300):
        assert torch.equal(pool(part, rng), part)
    late = torch.arange(1000.0, 2000.0)[:, None]
    out = pool(late, rng)
    swapped = out != late
    assert 430 < swapped.sum() < 570
    assert (out[swapped] < 1000).all()
    everything = torch.cat([out, pool.items]).flatten().sort().values
    assert torch.equal(everything, torch.arange(2000.0))  # nothing is lost or duplicated


# Whole updates


@pytest.mark.parametrize(("done", "updates"), [(10, 3), (1, 1)])
def test_updates_equal_the_published_ones(done: int, updates: int) -> None:
    """Augmentor and discriminators; the augmentor alone; all again, with a pool that is full."""
    plugin, model = doubled_trainer(), lifter()
    reference, estimator = Reference(plugin, model), Estimator(model)
    for i in range(updates):
        poses, rng = doubles(i, aside=4.5), torch.Generator()
        rng.set_state(plugin.sampler.generator.get_state())
        reference.update([points(p) for p in absolute(poses)], poses.camera, rng, done)
        with estimator.untouched():
            plugin.update(poses, estimator, POSEAUG, EpochSchedule(50, 2, done))

        losses, measures = reference.losses, plugin.measures
        for part, slow in reference.parts.items():
            steps = i + 1 if part == "augmentor" else i // 2 + 1
            if part == "augmentor" or i != 1:
                assert float(measures[f"loss_{part}"]) == pytest.approx(losses[part], rel=1e-9)
            state = plugin.optimizers[part].state
            for name, p in plugin.nets[part].named_parameters():
                assert int(state[p]["step"]) == slow.steps == steps
                assert close(state[p]["exp_avg"], slow.first[name], atol=1e-10), (part, name)
                assert close(p.detach(), slow.weights[name].detach(), atol=1e-9), (part, name)
        assert float(measures["grad_norm"]) == pytest.approx(reference.parts["augmentor"].norm)
        assert ("feedback" in measures) is (done >= 2)
        if done >= 2:
            assert float(measures["feedback"]) == pytest.approx(losses["feedback"], rel=1e-9)
            assert losses["feedback"] > 0
    assert model.training


def test_an_update_in_float32_is_equal_up_to_rounding() -> None:
    """The initial weights are equal; the reference computes in float64."""
    plugin, model = trainer(), lifter()
    given = doubles(aside=4.5)
    with torch.no_grad():
        plugin.nets["augmentor"].last.weight[3] *= 0.1
        plugin.nets["augmentor"].last.bias[3, 0, :3] = torch.tensor([3.0, -0.1, 1.8])
    reference, rng = Reference(plugin, model), torch.Generator()
    rng.set_state(plugin.sampler.generator.get_state())
    names = "pose_2d", "pose_3d", "root", "camera"
    singles: Any = {name: getattr(given, name).float() for name in names}
    reference.update([points(p) for p in absolute(given)], given.camera, rng, 10)
    estimator = Estimator(model.float())
    with estimator.untouched():
        plugin.update(replace(given, **singles), estimator, POSEAUG, EpochSchedule(50, 2, 10))
    for part, slow in reference.parts.items():
        loss = float(plugin.measures[f"loss_{part}"])
        assert loss == pytest.approx(reference.losses[part], rel=1e-4)
        state = plugin.optimizers[part].state
        for name, p in plugin.nets[part].named_parameters():
            assert close(state[p]["exp_avg"].double(), slow.first[name], atol=1e-5), (part, name)


# Deliberate differences


def published_frame_test(pose_2d: Tensor) -> Tensor:
    """The published test (B,) of poses (B, 16, 2): no coordinate is above 1."""
    return torch.tensor([all(float(v) <= 1 for v in row.flatten()) for row in pose_2d])


def samples_at(x: float, y: float, z: float, **changes: Any) -> tuple[PoseBatch, Tensor]:
    """Samples of a trainer that places everybody at (x, y, z), and which of them are accepted."""
    plugin = doubled_trainer(swap_lengths=False, **changes)
    with torch.no_grad():
        plugin.nets["augmentor"].last.weight.zero_()
        plugin.nets["augmentor"].last.bias.zero_()
        plugin.nets["augmentor"].last.bias[3, 0, :3] = torch.tensor([x, y, math.sqrt(z)])
    pairs, good, aug = plugin.sampler.sample(doubles())
    assert close(aug.t, torch.tensor([x, y, z]).double().expand(ROWS, 3), atol=1e-6)
    return pairs, good


@pytest.mark.parametrize(
    ("x", "y", "published"),
    [(0, 0, True), (3, 0, False), (-3, 0, True), (0, 3, False), (0, -3, True)],
)
def test_the_image_has_four_borders(x: float, y: float, published: bool) -> None:
    """Published: only the right and the lower border are checked. Plugin: all four are.

    `released_quirks` restores the published test.
    """
    pairs, good = samples_at(x, y, 6.0)
    assert published_frame_test(pairs.pose_2d[:, 0]).tolist() == [published] * ROWS
    assert good.tolist() == [x == y == 0] * ROWS
    assert samples_at(x, y, 6.0, released_quirks=True)[1].tolist() == [published] * ROWS


def test_frame_height_moves_the_upper_and_the_lower_border() -> None:
    assert samples_at(0, -3, 6.0)[1].sum() == 0
    assert samples_at(0, -3, 6.0, frame_height=2.0)[1].all()
    assert samples_at(0, 0, 6.0, frame_height=0.1)[1].sum() == 0
    assert samples_at(-3, 0, 6.0, frame_height=2.0)[1].sum() == 0


def test_a_pose_behind_the_camera_is_rejected() -> None:
    """Published: a person behind the camera is accepted, with mirrored X/Z. Plugin: rejected.

    `released_quirks` accepts it again. `depth` cannot, because it must be above 0.
    """
    poses = doubles()
    behind = absolute(poses) * torch.tensor([1, 1, -1])
    pose_2d = stacked([slow_project(points(p), c) for p, c in zip(behind, poses.camera)])
    assert published_frame_test(pose_2d).all()
    assert not in_frame(behind, pose_2d, depth=released().depth).any()
    assert not in_frame(behind, pose_2d, depth=1e-3).any()
    with pytest.raises(ConfigError):
        released(depth=0.0)


def test_depth_is_the_smallest_accepted_depth() -> None:
    """Published, and with `released_quirks`: any depth. Plugin: `depth`, 0.1 m in this preset."""
    assert released().depth == 0.1
    assert samples_at(0, 0, 6.0)[1].all()
    assert samples_at(0, 0, 6.0, depth=7.0)[1].sum() == 0
    assert samples_at(0, 0, 6.0, depth=7.0, released_quirks=True)[1].all()
    pairs, _ = samples_at(
        0, 0, 0.02, released_quirks=True
    )  # half of each person is behind the camera
    pose_2d = [slow_project(points(p), c) for p, c in zip(absolute(pairs), pairs.camera)]
    assert (absolute(pairs)[..., 2] < 0).any()
    assert close(pairs.pose_2d[:, 0], stacked(pose_2d), atol=1e-9)


def test_a_joint_behind_the_camera_plane_is_projected_from_a_millimetre_in_front_of_it() -> None:
    """Published, and with `released_quirks`: X/Z changes sign at the plane, and is 0/0 on it."""
    camera = torch.tensor([2.0, 2.0, *[0.0] * 7]).double()
    joints = torch.tensor([[0.2, -0.1, -0.01], [0.0, 0.0, 0.0], [0.2, -0.1, 1.0]]).double()
    published = slow_project(points(joints[:1]), camera)
    assert published[0].tolist() == [-2, 2]
    assert (joints[1, 0] / joints[1, 2]).isnan()
    projected = project(joints, camera, limit=1.0)
    assert close(projected, torch.tensor([[2.0, -2.0], [0.0, 0.0], [0.4, -0.2]]).double())
    assert project(joints, camera)[0].tolist() == pytest.approx([400, -200])
    assert close(project(joints[:1], camera, limit=1.0, floor=-math.inf), published[0][None])


def test_the_callers_pairs_are_not_clamped() -> None:
    """Published: 2D is clamped at 45 degrees, which is wrong. Plugin: exact 2D, and rejected.

    Only the inputs of the networks are clamped. `released_quirks` clamps the caller's pairs too.
    """
    pairs, good = samples_at(-3.0, -1.5, 2.0)
    placed = absolute(pairs)
    both = [
        stacked([slow_project(points(p), c, on) for p, c in zip(placed, pairs.camera)])
        for on in (True, False)
    ]
    assert close(pairs.pose_2d[:, 0], both[1], atol=1e-9)
    assert not close(pairs.pose_2d[:, 0], both[0], atol=0.1)
    assert published_frame_test(both[0]).all()
    assert not good.any()
    pairs, good = samples_at(-3.0, -1.5, 2.0, released_quirks=True)
    assert close(pairs.pose_2d[:, 0], both[0], atol=1e-9)
    assert good.all()


def test_bones_of_length_0_give_finite_values() -> None:
    """Published: the unit bone is 0/0, so NaN. Plugin: a zero direction."""
    pose = absolute(doubles()).requires_grad_()
    folded = torch.cat([pose[:, :3], pose[:, 2:3], pose[:, 4:]], 1)  # ankle in the knee
    bone = slow_bones(points(folded[0]))[2]
    assert (bone / size(bone)).isnan().all()
    discriminator = Discriminator3d(H36M, torch.Generator(), width=WIDTH).double()
    bent = bend(folded, torch.zeros(ROWS, 15, 3).double(), H36M)
    value = discriminator(unit_bones(bent)).sum()
    (gradient,) = torch.autograd.grad(value, pose)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert close(bent.detach(), folded.detach())


def test_a_bend_that_cancels_its_bone_does_not_change_it() -> None:
    """Published: the sum of bone and gamma is 0, so 0/0. Plugin: the bone is not bent."""
    pose = absolute(doubles())
    gamma = -torch.stack([torch.stack([b / size(b) for b in slow_bones(points(p))]) for p in pose])
    assert close(bend(pose, gamma, H36M), pose)


def test_errors_on_the_original_are_at_least_a_millimetre_in_the_feedback() -> None:
    """Published, and with `released_quirks`: the ratio divides by 0. Plugin: by 1 mm at least."""
    harder, easier = torch.full((1, 3), 0.02).double(), torch.zeros(1, 3).double()
    assert (harder / easier).isinf().all()
    assert float(ratio_feedback(harder, easier, 5.0, 2.0)) == pytest.approx((20 - 5) ** 2)
    poses = doubles()

    def predict(model: torch.nn.Module, pose_2d: Tensor) -> Tensor:
        return poses.pose_3d if pose_2d.equal(poses.pose_2d) else model(pose_2d)

    estimator = Estimator(lifter(), predict)
    for released_quirks in (False, True):
        plugin = doubled_trainer(swap_lengths=False, released_quirks=released_quirks)
        with estimator.untouched():
            plugin.update(poses, estimator, POSEAUG, EpochSchedule(50, 2, 10))
        assert plugin.measures["feedback"].isfinite() == (not released_quirks)


def test_the_estimator_is_called_in_evaluation_mode() -> None:
    """Published: in training mode, with dropout and with an update of BatchNorm's statistics.

    No option restores that.
    """
    model, poses, plugin = lifter(), doubles(), doubled_trainer()
    published = copy.deepcopy(model)
    predictions = [published(poses.pose_2d[:, 0]) for _ in range(2)]
    assert not close(*predictions, atol=1e-3)
    assert not close(published.norm.running_mean, model.norm.running_mean, atol=1e-3)

    before = {name: value.clone() for name, value in model.state_dict().items()}
    estimator = Estimator(model)
    with estimator.untouched():
        predicted = [estimator(poses.pose_2d[:, 0]) for _ in range(2)]
        plugin.update(poses, estimator, POSEAUG, EpochSchedule(50, 2, 10))
    assert torch.equal(*predicted)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())


def test_errors_are_relative_to_the_predicted_root() -> None:
    """Published: the prediction is used as it is. Plugin: it is made root-relative first.

    Both are equal for an estimator that predicts 0 for the root. No option changes that.
    """
    poses = doubles()
    for root in (False, True):
        output = lifter(root).eval()(poses.pose_2d[:, 0]).detach()
        predicted = POSEAUG.outputs(output, poses, H36M)
        published = output[:, None]
        assert close(predicted, published - published[:, :, :1])
        assert close(predicted, published, atol=1e-9) is not root


def test_lengths_are_swapped_before_everything_else() -> None:
    """Published: before each epoch, all training poses get another subject's bone lengths. Plugin:
    each row gets those of another row, drawn again for each batch. In both, networks, real samples
    and original errors use the result. `swap_lengths` switches it off.
    """
    poses = doubles()
    relative = [points(p) for p in poses.pose_3d[:, 0]]
    plugin = doubled_trainer()
    rng = torch.Generator().set_state(plugin.sampler.generator.get_state())
    factors = slow_swap(relative, torch.randperm(ROWS, generator=rng).tolist())
    bodies = [slow_stretch(p, [s - 1 for s in swap]) for p, swap in zip(relative, factors)]
    noise = torch.randn(4, ROWS, NOISE, generator=rng)
    weights = {name: p.detach() for name, p in plugin.nets["augmentor"].named_parameters()}
    drawn = slow_parameters(bodies, noise, weights)
    slow = [
        slow_move(slow_stretch(slow_bend(body, ba), bl), r, t)
        for body, (ba, bl, r, t) in zip(bodies, drawn)
    ]
    pairs, _, aug = plugin.sampler.sample(poses)
    assert close(absolute(pairs), stacked(slow))
    assert close(
        aug.apply(poses.pose_3d, H36M), absolute(pairs)[:, None]
    )  # the parameters include the swap
    ratios = torch.stack([torch.stack(swap) for swap in factors])
    assert close(aug.gamma_bl, (1 + torch.stack([bl for _, bl, _, _ in drawn])) * ratios - 1)
    alone = doubled_trainer(swap_lengths=False)
    bones = Bones.of(poses.pose_3d[:, 0], H36M)
    proposal = alone.propose(Draft(bones))
    alone.sampler.propose = lambda _: proposal
    _, _, plain = alone.sampler.sample(poses)
    assert close(plain.gamma_bl, proposal.parameters["gamma_bl"].detach())
