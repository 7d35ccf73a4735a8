"""Small replicas of public training scripts, with tiny models and synthetic people.

The code is our own. Each replica matches its original in the order, types, frames and units of its
batches, and in its in-place edits, clipping, schedules and evaluation.

| script | a batch | 3D | loop |
| --- | --- | --- | --- |
| VideoPose3D | camera, 3D, 2D: numpy float64, buffers reused | slot, centre frame | `next_epoch()`, flips, target zeroed, lr by epoch, a model of its own for evaluation |
| VideoPose3D, 27 frames | the same, windows of 2D | slot, centre frame | the same |
| VideoPose3D, HumanEva | None, 3D, 2D | slot | the same |
| VideoPose3D, HumanEva, 27 frames | None, 3D, windows of 2D | slot, centre frame | the same |
| VideoPose3D, semi-supervised | the same, zipped with unlabelled ones | slot | pose and trajectory model, one optimizer, 1 / z |
| PoseFormer | camera, 3D, 2D | slot, centre frame | `.module`, the camera converted in the loop |
| PoseFormerV2 | None, 3D, 2D | slot, centre frame | `.module`, no camera |
| SemGCN | 3D, 2D, action | root-relative | lr by step, zero_grad after forward, gradients off globally to evaluate |
| SemGCN, linear | 3D, 2D, action | root-relative | flat input, no hip in the output |
| GraFormer | 3D, 2D, action | root-relative | the model takes a mask |
| PoseAug, baseline | 3D, 2D, action, camera | absolute | made root-relative in the loop |
| Martinez (weigq) | 2D, 3D, flat | mm, standardised, no hip | pixels without nose, clipping |
| ST-GCN | list of 8 | slot, all frames | two models, permuted inputs, camera and root's depth in the loss |
| ST-GCN, `crop_uv` | the same, 2D and camera in pixels | slot, all frames | the same |
| MHFormer | list of 8 | slot, all frames | one model, all frames predicted |
| P-STMO, MPI-INF-3DHP | list of 8, cameras of zeros | slot in joint 14, mm, all frames | permuted inputs, two outputs |
| MotionBERT | 2D + confidence, 2.5D | image space | `.module`, target edited in place, three losses |
| MotionAGFormer | 2D + confidence, 2.5D | image space | the same, root subtracted from the target |
| MotionAGFormer, MPI-INF-3DHP | 2D + confidence, 3D | mm / 1024, root 14 | velocity loss |
| AdaptPose | 3D, 2D, action, camera; (B, 1, T, 16, C) | absolute | zero rows filtered out |
| mmpose, VideoPoseLifting | dict of lists: (2J, 1), data samples | root-relative | the loss inside the model, clipping |
| mmpose, VideoPoseLifting, 27 frames | the same, (2J, 27), `keypoints_3d` | root-relative, centre frame | flips of 2D and target alone |
| mmpose, ImagePoseLifting | the same, (2J, 1) | standardised, no hip | 2D in pixels, standardised |
| mmpose, MotionBERT | the same, (T, J, 3) with visibility | 2.5D, root subtracted | velocity loss |
"""  # noqa: E501

from __future__ import annotations

import copy
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from loop_helpers import CAM9, People, people, reproject
from poseaug_plugin import BatchFormat, Skeleton
from poseaug_plugin.batches.presets import martinez

IDEAL = (2.29, 2.29, 0, 0, 0, 0, 0, 0, 0)  # assumed by the plugin if a batch has no camera
MPI_INF_3DHP = (1.46, 1.46, 0, 0, 0, 0, 0, 0, 0)  # likewise, in the formats of that data set


# People with the joints of other data sets


def h36m_17(p: np.ndarray) -> np.ndarray:
    nose = p[..., 8:10, :].mean(-2, keepdims=True) + np.array([0, 0, -0.06])
    return np.concatenate([p[..., :9, :], nose, p[..., 9:, :]], -2)


def mpi_inf_3dhp_17(p: np.ndarray) -> np.ndarray:
    head = p[..., 8:10, :].mean(-2, keepdims=True) + np.array([0, 0, -0.06])
    order = [9, 8, 13, 14, 15, 10, 11, 12, 1, 2, 3, 4, 5, 6, 0, 7]
    return np.concatenate([p[..., order, :], head], -2)


def humaneva_15(p: np.ndarray) -> np.ndarray:
    return p[..., [0, 8, 10, 11, 12, 13, 14, 15, 4, 5, 6, 1, 2, 3, 9], :]


JOINTS = dict(h36m_17=h36m_17, mpi_inf_3dhp_17=mpi_inf_3dhp_17, humaneva_15=humaneva_15)


def clips(joints: str, rows: int, frames: int, seed: int = 0, cam: Any = CAM9) -> People:
    """Absolute metres, screen and camera of moving people, float32."""
    who = people(rows, frames, seed)
    pose = JOINTS.get(joints, np.asarray)(who.pose_3d).astype(np.float32)
    camera = np.tile(np.float32(cam), (rows, 1))
    camera[:, :2] *= np.linspace(0.98, 1.02, rows, dtype=np.float32)[:, None] if cam == CAM9 else 1
    return People(pose, reproject(pose, camera).astype(np.float32), camera)


def slotted(pose: np.ndarray) -> np.ndarray:
    """Root-relative poses, with the root position in joint 0."""
    return np.concatenate([pose[..., :1, :], pose[..., 1:, :] - pose[..., :1, :]], -2)


def unslotted(pose: Any) -> np.ndarray:
    pose = np.asarray(pose, np.float64)
    return np.concatenate([pose[..., :1, :], pose[..., 1:, :] + pose[..., :1, :]], -2)


# Models


class Frames(nn.Module):
    """(..., J, C) to (..., K, 3), frame by frame."""

    def __init__(self, joints: int, out: int, channels: int = 2, norm: bool = False) -> None:
        super().__init__()
        self.out = out
        self.net = nn.Sequential(
            nn.Linear(joints * channels, 16),
            nn.BatchNorm1d(16) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(0.25),
            nn.Linear(16, out * 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.flatten(-2).flatten(0, -2)).view(*x.shape[:-2], self.out, 3)


class Windows(nn.Module):
    """(B, T, J, 2) to (B, T - 2 pad, K, 3), as a temporal convolution does."""

    def __init__(self, joints: int, out: int, pad: int, norm: bool = True) -> None:
        super().__init__()
        self.out = out
        self.net = nn.Sequential(
            nn.Conv1d(joints * 2, 16, 2 * pad + 1),
            nn.BatchNorm1d(16, momentum=0.1) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(0.25),
            nn.Conv1d(16, out * 3, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x.flatten(2).transpose(1, 2)).transpose(1, 2)
        return y.unflatten(2, (self.out, 3))


class Parallel(nn.Module):
    """Like nn.DataParallel: the model is in `.module`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.calls = module, 0

    def forward(self, *x: Tensor) -> Tensor:
        self.calls += 1
        return self.module(*x)


def mpjpe(predicted: Tensor, target: Tensor, weight: Any = 1.0) -> Tensor:
    return (weight * (predicted - target).norm(dim=-1)).mean()


# The largest distance of 2D and projected 3D in each row, screen units


def off_in(camera: Any, pose_3d: Any, pose_2d: Any) -> np.ndarray:
    """With the batch's own camera (N, 9)."""
    return _worst(reproject(pose_3d, camera) - np.asarray(pose_2d, np.float64))


def off_in_any(pose_3d: Any, pose_2d: Any) -> np.ndarray:
    """With the focal length and position that fit each frame best: u (Z + tz) = f X + f tx."""
    pose_3d, pose_2d = (np.asarray(x, np.float64) for x in (pose_3d, pose_2d))
    off = np.empty(pose_2d.shape)
    for at in np.ndindex(pose_3d.shape[:2]):
        x, observed = pose_3d[at], pose_2d[at]
        one = np.broadcast_to([[1.0, 0], [0, 1]], (len(x), 2, 2))
        a = np.concatenate([x[:, :2, None], one, -observed[..., None]], -1).reshape(-1, 4)
        f, tx, ty, tz = np.linalg.lstsq(a, (observed * x[:, 2:]).ravel(), rcond=None)[0]
        off[at] = (f * x[:, :2] + [tx, ty]) / (x[:, 2:] + tz) - observed
        assert 0.5 < f < 3, f
    return _worst(off)


def _worst(off: np.ndarray) -> np.ndarray:
    return np.abs(off).reshape(len(off), -1).max(1)


# Scripts


class Script:
    """A training script, and what the tests need to know about it."""

    format: Any
    predict: Any = None
    by_step = False  # whether its learning rate follows the number of steps
    norm = False  # whether its model has BatchNorm
    model: nn.Module
    optimizer: torch.optim.Optimizer
    loader: Any

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.steps = 0

    def train(self) -> None:
        """One epoch."""
        raise NotImplementedError

    def evaluate(self) -> float:
        raise NotImplementedError

    def off(self, batch: Any) -> np.ndarray:
        """The distance of each row's 2D and projected 3D, (N,), of what `fields` returns."""
        raise NotImplementedError

    def fields(self, batch: Any) -> list[Any]:
        """The fields of a batch that have rows."""
        return list(batch)

    def decay(self, factor: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] *= factor

    def finish(self, loss: Tensor, clip: float | None = None) -> None:
        """Step, with zero_grad after the forward pass and clipping before the step."""
        self.optimizer.zero_grad()
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=clip)
        self.optimizer.step()
        self.losses.append(loss.item())

    def decay_by_step(self) -> None:
        self.steps += 1
        if self.steps % 2 == 0 or self.steps == 1:
            for group in self.optimizer.param_groups:
                group["lr"] = 1e-3 * 0.96 ** (self.steps / 2)


class Chunks:
    """Windows of 2D around frames of 3D, in buffers that the next batch overwrites."""

    def __init__(
        self,
        batch_size: int,
        cameras: list[np.ndarray] | None,
        poses_3d: list[np.ndarray] | None,
        poses_2d: list[np.ndarray],
        *,
        pad: int = 0,
        sides: Skeleton | None = None,
        endless: bool = False,
    ) -> None:
        self.batch_size, self.pad, self.causal_shift, self.endless = batch_size, pad, 0, endless
        self.cameras, self.poses_3d, self.poses_2d = cameras, poses_3d, poses_2d
        self.random = np.random.RandomState(1234)
        self.augment = sides is not None
        if sides is not None:
            self.kps_left = self.joints_left = list(sides.left)
            self.kps_right = self.joints_right = list(sides.right)
        flips = (False, True) if self.augment else (False,)
        self.pairs = [
            (s, i, i + 1, flip)
            for s, poses in enumerate(poses_2d)
            for flip in flips
            for i in range(len(poses))
        ]
        self.num_batches = -(-len(self.pairs) // batch_size)
        joints = poses_2d[0].shape[-2]
        self.batch_cam = None if cameras is None else np.empty((batch_size, 9))
        self.batch_3d = None if poses_3d is None else np.empty((batch_size, 1, joints, 3))
        self.batch_2d = np.empty((batch_size, 1 + 2 * pad, joints, poses_2d[0].shape[-1]))

    def num_frames(self) -> int:
        return self.num_batches * self.batch_size

    def random_state(self) -> np.random.RandomState:
        return self.random

    def set_random_state(self, random: np.random.RandomState) -> None:
        self.random = random

    def augment_enabled(self) -> bool:
        return self.augment

    def next_epoch(self) -> Iterator[tuple[Any, Any, np.ndarray]]:
        while True:
            pairs = self.random.permutation(np.array(self.pairs, dtype=int))
            for first in range(0, len(pairs), self.batch_size):
                rows = pairs[first : first + self.batch_size]
                for row, (s, start, end, flip) in enumerate(rows):
                    self._fill(row, s, start, end, bool(flip))
                buffers = (self.batch_cam, self.batch_3d, self.batch_2d)
                yield tuple(None if b is None else b[: len(rows)] for b in buffers)  # type: ignore[misc]
            if not self.endless:
                return

    def _fill(self, row: int, s: int, start: int, end: int, flip: bool) -> None:
        first, last = start - self.pad - self.causal_shift, end + self.pad - self.causal_shift
        self._cut(self.batch_2d, row, self.poses_2d[s], first, last)
        if flip:
            self.batch_2d[row, :, :, 0] *= -1
            left, right = self.kps_left, self.kps_right
            self.batch_2d[row][:, left + right] = self.batch_2d[row][:, right + left]
        if self.batch_3d is not None and self.poses_3d is not None:
            self._cut(self.batch_3d, row, self.poses_3d[s], start, end)
            if flip:
                self.batch_3d[row, :, :, 0] *= -1
                left, right = self.joints_left, self.joints_right
                self.batch_3d[row][:, left + right] = self.batch_3d[row][:, right + left]
        if self.batch_cam is not None and self.cameras is not None:
            self.batch_cam[row] = self.cameras[s]
            if flip:
                self.batch_cam[row, [2, 7]] *= -1

    @staticmethod
    def _cut(buffer: np.ndarray, row: int, poses: np.ndarray, first: int, last: int) -> None:
        low, high = max(first, 0), min(last, len(poses))
        edges = ((low - first, last - high), (0, 0), (0, 0))
        buffer[row] = np.pad(poses[low:high], edges, "edge")


class VideoPose3D(Script):
    """Supervised, single frames; the loop of run.py."""

    format, norm = "videopose3d", True
    pad, size, joints, has_camera = 0, 16, "h36m_17", True
    lengths: tuple[int, ...] = (12, 9)

    def __init__(self) -> None:
        super().__init__()
        who = clips(self.joints, len(self.lengths), max(self.lengths), cam=self.lens)
        cut = [slice(n) for n in self.lengths]
        self.poses_3d = [slotted(p[c]) for p, c in zip(who.pose_3d, cut)]
        self.poses_2d = [p[c] for p, c in zip(who.pose_2d, cut)]
        self.cameras = list(who.camera) if self.has_camera else None
        self.loader = self.chunks(self.poses_2d)
        count = who.pose_3d.shape[-2]
        self.model = Windows(count, count, self.pad)
        self.eval_model = Windows(count, count, self.pad)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, amsgrad=True)

    @property
    def lens(self) -> Any:
        return CAM9 if self.has_camera else IDEAL

    def chunks(self, poses_2d: list[np.ndarray]) -> Chunks:
        sides = Skeleton.of(self.joints)
        return Chunks(self.size, self.cameras, self.poses_3d, poses_2d, pad=self.pad, sides=sides)

    def train(self) -> None:
        self.model.train()
        for _, batch_3d, batch_2d in self.loader.next_epoch():
            inputs_3d = torch.from_numpy(batch_3d.astype("float32"))
            inputs_2d = torch.from_numpy(batch_2d.astype("float32"))
            inputs_3d[:, :, 0] = 0
            self.optimizer.zero_grad()
            loss = mpjpe(self.model(inputs_2d), inputs_3d)
            self.losses.append(loss.item())
            loss.backward()
            self.optimizer.step()
        self.decay(0.95)
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.momentum *= 0.9  # type: ignore[operator]

    def evaluate(self) -> float:
        with torch.no_grad():
            self.eval_model.load_state_dict(self.model.state_dict())
            self.eval_model.eval()
            errors = []
            for pose_3d, pose_2d in zip(self.poses_3d, self.poses_2d):
                whole = np.pad(pose_2d, ((self.pad, self.pad), (0, 0), (0, 0)), "edge")
                target = torch.from_numpy(pose_3d[None].astype("float32"))
                target[:, :, 0] = 0
                inputs = torch.from_numpy(whole[None].astype("float32"))
                errors.append(mpjpe(self.eval_model(inputs), target).item())
            return float(np.mean(errors))

    def off(self, batch: Any) -> np.ndarray:
        camera, pose_3d, pose_2d = batch
        centre = pose_2d[:, self.pad : self.pad + 1]
        if camera is None:
            return off_in_any(unslotted(pose_3d), centre)
        return off_in(camera, unslotted(pose_3d), centre)


class VideoPose3D27(VideoPose3D):
    """Windows of 27 frames of 2D with the 3D of the centre frame; clips are padded."""

    pad, size, lengths = 13, 24, (31, 20)


class HumanEva(VideoPose3D):
    """VideoPose3D's other data set: 15 joints and no camera."""

    joints, has_camera = "humaneva_15", False


class HumanEva27(HumanEva):
    pad, size, lengths = 13, 24, (31, 20)


class PoseFormer(VideoPose3D):
    """The same generator, DataParallel, and a camera that is converted but not used."""

    pad, size, norm = 4, 16, False

    def __init__(self) -> None:
        super().__init__()
        self.model, self.eval_model = (Parallel(Windows(17, 17, 4, norm=False)) for _ in "ab")
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.1)

    def train(self) -> None:
        self.model.train()
        for cameras_train, batch_3d, batch_2d in self.loader.next_epoch():
            torch.from_numpy(cameras_train.astype("float32"))
            inputs_3d = torch.from_numpy(batch_3d.astype("float32"))
            inputs_2d = torch.from_numpy(batch_2d.astype("float32"))
            inputs_3d[:, :, 0] = 0
            self.optimizer.zero_grad()
            loss = mpjpe(self.model(inputs_2d), inputs_3d)
            self.losses.append(loss.item())
            loss.backward()
            self.optimizer.step()
        self.decay(0.99)


class PoseFormerV2(PoseFormer):
    """The same without cameras."""

    format, has_camera = "poseformerv2", False

    def train(self) -> None:
        self.model.train()
        for _, batch_3d, batch_2d in self.loader.next_epoch():
            inputs_3d = torch.from_numpy(batch_3d.astype("float32"))
            inputs_2d = torch.from_numpy(batch_2d.astype("float32"))
            inputs_3d[:, :, 0] = 0
            self.optimizer.zero_grad()
            loss = mpjpe(self.model(inputs_2d), inputs_3d)
            self.losses.append(loss.item())
            loss.backward()
            self.optimizer.step()
        self.decay(0.99)


class VideoPose3DSemi(VideoPose3D):
    """Labelled and unlabelled batches together, two models with one optimizer."""

    def __init__(self) -> None:
        super().__init__()
        other = clips("h36m_17", 2, 10, seed=3)
        self.semi = Chunks(16, list(other.camera), None, list(other.pose_2d), endless=True)
        self.traj = Windows(17, 1, self.pad)
        both = [*self.model.parameters(), *self.traj.parameters()]
        self.optimizer = torch.optim.Adam(both, lr=1e-3, amsgrad=True)

    def train(self) -> None:
        self.model.train()
        self.traj.train()
        batches = zip(self.loader.next_epoch(), self.semi.next_epoch())
        for (_, batch_3d, batch_2d), (cam_semi, _, batch_2d_semi) in batches:
            inputs_3d = torch.from_numpy(batch_3d.astype("float32"))
            semi_2d = torch.from_numpy(batch_2d_semi.astype("float32"))
            cam = torch.from_numpy(cam_semi.astype("float32"))[:, None, None]
            traj = inputs_3d[:, :, :1].clone()
            inputs_3d[:, :, 0] = 0
            split = inputs_3d.shape[0]
            x = torch.cat((torch.from_numpy(batch_2d.astype("float32")), semi_2d))
            self.optimizer.zero_grad()
            pose, root = self.model(x), self.traj(x)
            loss_pose = mpjpe(pose[:split], inputs_3d)
            loss_root = mpjpe(root[:split], traj, 1 / traj[..., 2])
            absolute = pose[split:] + root[split:]
            ray = (absolute[..., :2] / absolute[..., 2:]).clamp(-1, 1)
            loss_2d = mpjpe(ray * cam[..., :2] + cam[..., 2:4], semi_2d)
            bone = (pose[:, :, 1:] - pose[:, :, :1]).norm(dim=-1)
            loss_bone = (bone[:split].mean(0) - bone[split:].mean(0)).abs().mean()
            loss = loss_pose + loss_root + loss_2d + loss_bone
            self.losses.append(loss.item())
            loss.backward()
            self.optimizer.step()
        self.decay(0.95)


class SemGCN(Script):
    """The loop of main_gcn.py."""

    format, by_step = "semgcn", True

    def __init__(self) -> None:
        super().__init__()
        self.rows = self.data()
        self.loader = DataLoader(self.rows, batch_size=8, shuffle=True)
        self.model = self.net()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def data(self) -> list[Any]:
        who = clips("h36m_16", 20, 1)
        actions = [f"Walking {i}" for i in range(20)]
        return list(zip(who.relative[:, 0], who.pose_2d[:, 0], actions))

    def net(self) -> nn.Module:
        return Frames(16, 16)

    def lift(self, inputs_2d: Tensor, targets_3d: Tensor) -> tuple[Tensor, Tensor]:
        return self.model(inputs_2d), targets_3d

    def train(self) -> None:
        torch.set_grad_enabled(True)
        self.model.train()
        for targets_3d, inputs_2d, *_ in self.loader:
            self.decay_by_step()
            targets_3d, inputs_2d = targets_3d.to("cpu"), inputs_2d.to("cpu")
            outputs_3d, targets_3d = self.lift(inputs_2d, targets_3d)
            self.finish(nn.functional.mse_loss(outputs_3d, targets_3d), clip=1.0)

    def evaluate(self) -> float:
        torch.set_grad_enabled(False)  # stays off until training
        self.model.eval()
        errors = []
        for targets_3d, inputs_2d, *_ in DataLoader(self.rows, batch_size=8):
            errors.append(mpjpe(*self.lift(inputs_2d, targets_3d)).item())
        return float(np.mean(errors))

    def off(self, batch: Any) -> np.ndarray:
        return off_in_any(batch[0][:, None], batch[1][:, None])


class SemGCNLinear(SemGCN):
    """main_linear.py: flat input, fifteen joints as output."""

    @staticmethod
    def predict(model: nn.Module, x: Tensor) -> Tensor:
        return nn.functional.pad(model(x.flatten(1)).view(len(x), -1, 3), (0, 0, 1, 0))

    def net(self) -> nn.Module:
        return nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Dropout(0.25), nn.Linear(16, 45))

    def lift(self, inputs_2d: Tensor, targets_3d: Tensor) -> tuple[Tensor, Tensor]:
        rows = len(inputs_2d)
        return self.model(inputs_2d.view(rows, -1)).view(rows, -1, 3), targets_3d[:, 1:]


class Masked(Frames):
    """Takes a mask, as GraFormer's attention does."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x * mask[..., None])


class GraFormer(SemGCN):
    """main_GraFormer.py: SemGCN's batches, and a model with a mask."""

    format = "graformer"

    @staticmethod
    def predict(model: nn.Module, x: Tensor) -> Tensor:
        return model(x, torch.ones(1, 16))

    def net(self) -> nn.Module:
        return Masked(16, 16)

    def lift(self, inputs_2d: Tensor, targets_3d: Tensor) -> tuple[Tensor, Tensor]:
        return self.model(inputs_2d, torch.ones(1, 16)), targets_3d


class PoseAugBaseline(SemGCN):
    """run_baseline.py: absolute targets, made root-relative in the loop."""

    format, norm = "poseaug", True

    def data(self) -> list[Any]:
        who = clips("h36m_16", 20, 1)
        actions = [f"Walking {i}" for i in range(20)]
        return list(zip(who.pose_3d[:, 0], who.pose_2d[:, 0], actions, who.camera))

    def net(self) -> nn.Module:
        return Frames(16, 16, norm=True)

    def lift(self, inputs_2d: Tensor, targets_3d: Tensor) -> tuple[Tensor, Tensor]:
        return self.model(inputs_2d), targets_3d - targets_3d[:, :1]

    def off(self, batch: Any) -> np.ndarray:
        return off_in(batch[3], batch[0], batch[1])


class Martinez(Script):
    """main.py of weigq's 3d-pose-baseline: all fields flat and standardised."""

    by_step, norm = True, True

    def __init__(self) -> None:
        super().__init__()
        who = clips("h36m_17", 20, 1)
        pixels = (np.delete(who.pose_2d[:, 0], 9, 1).reshape(20, 32) + 1) * 500
        mm = (1000 * who.relative[:, 0, 1:]).reshape(20, 48)
        self.stat_2d, self.stat_3d = ((x.mean(0), x.std(0)) for x in (pixels, mm))
        self.format = martinez(self.stat_2d, self.stat_3d)
        fields = ((pixels, self.stat_2d), (mm, self.stat_3d))
        rows_2d, rows_3d = (((x - mean) / std).astype(np.float32) for x, (mean, std) in fields)
        self.rows: list[Any] = list(zip(rows_2d, rows_3d))
        self.loader = DataLoader(self.rows, batch_size=8, shuffle=True)
        layers = (nn.Linear(32, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5))
        self.model = nn.Sequential(*layers, nn.Linear(16, 48))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def train(self) -> None:
        self.model.train()
        for inps, tars in self.loader:
            self.decay_by_step()
            outputs = self.model(inps)
            self.finish(nn.functional.mse_loss(outputs, tars), clip=1.0)

    def evaluate(self) -> float:
        self.model.eval()
        mean, std = self.stat_3d
        errors = []
        for inps, tars in DataLoader(self.rows, batch_size=8):
            outputs = self.model(inps).detach().numpy() * std + mean
            errors.append(np.abs(outputs - (tars.numpy() * std + mean)).mean())
        return float(np.mean(errors))

    def off(self, batch: Any) -> np.ndarray:
        fields = zip(batch, (self.stat_2d, self.stat_3d))
        pixels, mm = (np.asarray(x, np.float64) * std + mean for x, (mean, std) in fields)
        pose_3d = np.pad(mm.reshape(-1, 16, 3) / 1000, ((0, 0), (1, 0), (0, 0)))
        observed = np.delete(pose_3d, 9, 1)  # no nose in 2D
        return off_in_any(observed[:, None], pixels.reshape(-1, 1, 16, 2) / 500 - 1)


class Graph(nn.Module):
    """(N, C, T, J, 1) to (N, 3, T, J, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = Frames(17, 17)

    def forward(self, x: Tensor, out_all_frame: bool) -> Tensor:
        assert out_all_frame
        return self.frames(x[..., 0].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)[..., None]


class STGCN(Script):
    """main_graph.py: eight fields; uvd is converted to xyz in the loss."""

    format = "stgcn"

    @staticmethod
    def predict(model: nn.Module, x: Tensor) -> Tensor:
        return model(x.permute(0, 3, 1, 2).unsqueeze(-1), True)

    def __init__(self) -> None:
        super().__init__()
        rows = 20
        who = clips("h36m_17", rows, 5)
        extras = (
            [f"Eating {i}" for i in range(rows)],
            ["S1", "S5"] * (rows // 2),
            np.linspace(0.9, 1.1, rows),
            np.arange(rows * 4).reshape(rows, 4),
            np.arange(rows) % 4,
        )
        self.rows = list(zip(who.camera, slotted(who.pose_3d), who.pose_2d, *extras))
        self.loader = DataLoader(self.rows, batch_size=8, shuffle=True)
        self.models = {"st_gcn": Graph(), "post_refine": nn.Linear(6, 3)}
        self.model = self.models["st_gcn"]
        every = [p for m in self.models.values() for p in m.parameters()]
        self.optimizer = torch.optim.Adam(every, lr=1e-3, amsgrad=True)

    def step(self, loader: Any, training: bool) -> float:
        for model in self.models.values():
            model.train(training)
        errors = []
        for cam, gt_3d, input_2d, _action, _subject, scale, bb_box, cam_ind in loader:
            assert scale.dtype == torch.float64
            assert bb_box.dtype == cam_ind.dtype == torch.int64
            assert len(scale) == len(bb_box) == len(gt_3d)
            out_target = gt_3d.clone()
            out_target[:, :, 0] = 0
            x = input_2d.permute(0, 3, 1, 2).unsqueeze(-1)
            pose = self.models["st_gcn"](x, True)[..., 0].permute(0, 2, 3, 1)
            pose = torch.cat([torch.zeros_like(pose[:, :, :1]), pose[:, :, 1:]], 2)
            depth = pose[..., 2:] + gt_3d[:, :, :1, 2:]
            lens = cam[:, None, None]
            xyz = torch.cat([(input_2d - lens[..., 2:4]) / lens[..., :2] * depth, depth], -1)
            refined = self.models["post_refine"](torch.cat([pose, xyz - xyz[:, :, :1]], -1))
            motion = (pose.diff(dim=1) - out_target.diff(dim=1)).square().mean()
            error = mpjpe(refined, out_target)
            errors.append(error.item())
            if training:
                self.finish(mpjpe(pose, out_target) + motion + error)
        return float(np.mean(errors))

    def train(self) -> None:
        self.step(self.loader, True)
        self.decay(0.95)

    def evaluate(self) -> float:
        with torch.no_grad():
            return self.step(DataLoader(self.rows, batch_size=8), False)

    def off(self, batch: Any) -> np.ndarray:
        return off_in(batch[0], unslotted(batch[1]), batch[2])


class STGCNCrop(STGCN):
    """The same with --crop_uv 1: 2D and cameras in pixels of a (1000, 1000) image."""

    format = BatchFormat(camera=0, pose_3d=1, pose_2d=2, root="slot", screen=(1000, 1000))

    def __init__(self) -> None:
        super().__init__()
        self.rows = [
            (_in_pixels(cam), pose_3d, (pose_2d + 1) * np.float32(500), *rest)
            for cam, pose_3d, pose_2d, *rest in self.rows
        ]
        self.loader = DataLoader(self.rows, batch_size=8, shuffle=True)

    def off(self, batch: Any) -> np.ndarray:
        camera = np.asarray(batch[0], np.float64).copy()
        camera[:, :2] /= 500
        camera[:, 2:4] = camera[:, 2:4] / 500 - 1
        pose_2d = np.asarray(batch[2], np.float64) / 500 - 1
        return off_in(camera, unslotted(batch[1]), pose_2d)


def _in_pixels(camera: np.ndarray) -> np.ndarray:
    pixels = camera.copy()
    pixels[:2] *= 500
    pixels[2:4] = (pixels[2:4] + 1) * 500
    return pixels


class MHFormer(STGCN):
    """main.py of MHFormer: ST-GCN's batches, and one model that predicts all frames."""

    format, predict = "mhformer", None

    def __init__(self) -> None:
        super().__init__()
        self.model = Frames(17, 17)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, amsgrad=True)

    def step(self, loader: Any, training: bool) -> float:
        self.model.train(training)
        errors = []
        for _cam, gt_3d, input_2d, _action, _subject, _scale, _box, _number in loader:
            output_3d = self.model(input_2d)
            out_target = gt_3d.clone()
            out_target[:, :, 0] = 0
            loss = mpjpe(output_3d, out_target)
            errors.append(loss.item())
            if training:
                self.finish(loss)
        return float(np.mean(errors))


class PSTMO3DHP(MHFormer):
    """run_3dhp.py: cameras of zeros, millimetres, root 14; predicts one frame and all frames."""

    format = "pstmo_3dhp"

    @staticmethod
    def predict(model: nn.Module, x: Tensor) -> Tensor:
        return model(x.permute(0, 3, 1, 2).unsqueeze(-1))[0]

    def __init__(self) -> None:
        super().__init__()
        who = clips("mpi_inf_3dhp_17", 20, 5, cam=MPI_INF_3DHP)
        root = who.pose_3d[:, :, 14:15]
        slot = 1000 * (who.pose_3d - root)
        slot[:, :, 14:15] = 1000 * root
        others = [row[3:] for row in self.rows]
        self.rows = [(np.zeros(9), *row, *rest) for *row, rest in zip(slot, who.pose_2d, others)]
        self.loader = DataLoader(self.rows, batch_size=8, shuffle=True)
        self.model = CentreAndAll()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, amsgrad=True)

    def step(self, loader: Any, training: bool) -> float:
        self.model.train(training)
        errors = []
        for _cam, gt_3d, input_2d, *_others in loader:
            out_target = gt_3d.clone()
            out_target[:, :, 14] = 0
            centre, every = self.model(input_2d.permute(0, 3, 1, 2).unsqueeze(-1))
            loss = mpjpe(every, out_target) + mpjpe(centre, out_target[:, 2:3])
            errors.append(loss.item())
            if training:
                self.finish(loss)
        return float(np.mean(errors))

    def off(self, batch: Any) -> np.ndarray:
        relative = np.asarray(batch[1], np.float64) / 1000
        relative[:, :, 14] = 0
        return off_in_any(relative, batch[2])


class CentreAndAll(nn.Module):
    """The 3D of the centre frame and of all frames, from a graph (N, C, T, J, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = Frames(17, 17)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        every = 1000 * self.frames(x[..., 0].permute(0, 2, 3, 1))
        return every[:, every.shape[1] // 2, None], every


def with_confidence(pose_2d: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    return np.concatenate([pose_2d, confidence.astype(np.float32)], -1)


class MotionBERT(Script):
    """train.py: 2D with confidence; targets in image space, edited in place."""

    format = "motionbert"

    def __init__(self) -> None:
        super().__init__()
        who = clips("h36m_17", 20, 9, cam=IDEAL)
        confidence = np.random.RandomState(2).rand(*who.pose_2d.shape[:3], 1)
        self.rows: list[Any] = list(
            zip(with_confidence(who.pose_2d, confidence), self.targets(who))
        )
        self.loader = DataLoader(self.rows, batch_size=8, shuffle=True)
        self.model = Parallel(Frames(17, 17, 3))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.01)

    def targets(self, who: People) -> np.ndarray:
        z = who.pose_3d[..., 2:]
        root = z[:, :, :1]
        return np.concatenate([who.pose_2d, (z - root) * who.camera[0, 0] / root], -1)

    def train(self) -> None:
        self.model.train()
        for batch_input, batch_gt in self.loader:
            batch_input, batch_gt = batch_input.to("cpu"), batch_gt.to("cpu")
            with torch.no_grad():
                batch_gt[..., 2] = batch_gt[..., 2] - batch_gt[:, 0:1, 0:1, 2]
            predicted = self.model(batch_input)
            norm = (predicted * batch_gt).sum((-1, -2), keepdim=True) / (
                predicted.square().sum((-1, -2), keepdim=True) + 1e-6
            )
            loss = mpjpe(predicted, batch_gt) + 0.5 * mpjpe(norm * predicted, batch_gt)
            self.finish(loss + 20 * mpjpe(predicted.diff(dim=1), batch_gt.diff(dim=1)))
        self.decay(0.99)

    def evaluate(self) -> float:
        self.model.eval()
        with torch.no_grad():
            batches = DataLoader(self.rows, batch_size=8)
            return float(np.mean([mpjpe(self.model(x), y).item() for x, y in batches]))

    def off(self, batch: Any) -> np.ndarray:
        pose_2d, target = (np.asarray(x, np.float64) for x in batch)
        return _worst(target[..., :2] - pose_2d[..., :2])


class MotionAGFormer(MotionBERT):
    """train.py: MotionBERT's batches; the root is subtracted from the target in the loop."""

    format = "motionagformer"

    def train(self) -> None:
        self.model.train()
        for x, y in self.loader:
            with torch.no_grad():
                y[..., 2] = y[..., 2] - y[:, 0:1, 0:1, 2]
            predicted = self.model(x)
            self.finish(mpjpe(predicted, y) + 20 * mpjpe(predicted.diff(dim=1), y.diff(dim=1)))
        self.decay(0.99)


class MotionAGFormer3DHP(MotionBERT):
    """train_3dhp.py: root-relative mm / 1024 with MPI-INF-3DHP's joints, root 14."""

    format = "mpi3dhp"

    def __init__(self) -> None:
        super().__init__()
        who = clips("mpi_inf_3dhp_17", 20, 9, cam=MPI_INF_3DHP)
        confidence = np.ones((*who.pose_2d.shape[:3], 1))
        relative = who.pose_3d - who.pose_3d[:, :, 14:15]
        self.rows = list(zip(with_confidence(who.pose_2d, confidence), relative * 1000 / 1024))
        self.loader = DataLoader(self.rows, batch_size=8, shuffle=True)

    def train(self) -> None:
        self.model.train()
        for x, y in self.loader:
            with torch.no_grad():
                y = y - y[..., 14:15, :]
            predicted = self.model(x)
            self.finish(mpjpe(predicted, y) + mpjpe(predicted.diff(dim=1), y.diff(dim=1)))
        self.decay(0.99)

    def off(self, batch: Any) -> np.ndarray:
        pose_2d, target = (np.asarray(x, np.float64) for x in batch)
        return off_in_any(target * 1.024, pose_2d[..., :2])


class AdaptPose(SemGCN):
    """model_pos_train.py: windows of 2D and 3D, zero rows at the ends of clips."""

    format = "adaptpose"

    def data(self) -> list[Any]:
        who = clips("h36m_16", 20, 9)
        pose_3d, pose_2d = who.pose_3d[:, None].copy(), who.pose_2d[:, None].copy()
        pose_3d[[3, 11]] = pose_2d[[3, 11]] = 0
        return list(zip(pose_3d, pose_2d, [f"Posing {i}" for i in range(20)], who.camera))

    def net(self) -> nn.Module:
        class Drops(Windows):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(x[:, 0])[:, 0]

        return Drops(16, 16, 4, norm=False)

    def lift(self, inputs_2d: Tensor, targets_3d: Tensor) -> tuple[Tensor, Tensor]:
        valid = inputs_2d.flatten(1).abs().sum(1) > 0
        assert torch.equal(valid, targets_3d.flatten(1).abs().sum(1) > 0)
        targets_3d = targets_3d[valid][:, 0, 4]
        return self.model(inputs_2d[valid]), targets_3d - targets_3d[:, :1]

    def off(self, batch: Any) -> np.ndarray:
        valid = batch[0].flatten(1).any(1).numpy()
        off = np.zeros(len(valid))
        off[valid] = off_in(batch[3][valid], batch[0][valid], batch[1][valid])
        return off


class Lifts(nn.Module):
    """A model with the signature of mmpose's: inputs, samples, mode."""

    def __init__(self, out: int = 17) -> None:
        super().__init__()
        self.head = Frames(17, out)

    def forward(self, inputs: Tensor, samples: Any = None, mode: str = "tensor") -> Any:
        predicted = self.head(inputs[..., 0].unflatten(1, (17, 2)))
        if mode == "tensor":
            return predicted
        labels = [s.gt_instance_labels.lifting_target_label for s in samples]
        return {"loss_pose3d": mpjpe(predicted, torch.cat(labels))}


class MMPose(Script):
    """Runner.train with VideoPoseLifting's samples: a dict of lists; the model returns the loss."""

    format = "mmpose"

    @staticmethod
    def predict(model: nn.Module, x: Tensor) -> Tensor:
        return model(x, mode="tensor")

    def __init__(self) -> None:
        super().__init__()
        who = clips("h36m_17", 20, 1)
        pose_2d = torch.from_numpy(who.pose_2d.reshape(20, 34, 1))
        label = torch.from_numpy(who.relative)
        self.rows = [
            dict(
                inputs=pose_2d[i],
                data_samples=SimpleNamespace(
                    metainfo=dict(img_path=f"{i}.jpg", target_root=who.pose_3d[i, 0, 0]),
                    gt_instance_labels=SimpleNamespace(lifting_target_label=label[i]),
                ),
            )
            for i in range(20)
        ]
        self.loader = self.batches(shuffle=True)
        self.model = Lifts()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def batches(self, shuffle: bool) -> DataLoader[Any]:
        def collate(rows: list[Any]) -> dict[str, list[Any]]:
            rows = copy.deepcopy(rows)  # a pipeline creates new samples each time
            return {key: [row[key] for row in rows] for key in rows[0]}

        return DataLoader(self.rows, 8, shuffle=shuffle, collate_fn=collate)  # type: ignore[arg-type]

    def train(self) -> None:
        self.model.train()
        for data_batch in self.loader:
            inputs = torch.stack(data_batch["inputs"])
            losses = self.model(inputs, data_batch["data_samples"], mode="loss")
            self.finish(sum(losses.values()), clip=1.0)
        self.decay(0.975)

    def evaluate(self) -> float:
        self.model.eval()
        with torch.no_grad():
            return float(
                np.mean(
                    [
                        self.model(torch.stack(b["inputs"]), b["data_samples"], mode="loss")[
                            "loss_pose3d"
                        ]
                        for b in self.batches(shuffle=False)
                    ]
                )
            )

    def off(self, batch: Any) -> np.ndarray:
        return off_in_any(batch[1], np.asarray(batch[0]).reshape(-1, 1, 17, 2))

    def fields(self, batch: Any) -> list[Any]:
        samples = batch["data_samples"]
        labels = [s.gt_instance_labels.lifting_target_label for s in samples]
        paths = [s.metainfo["img_path"] for s in samples]
        return [torch.stack(batch["inputs"]), torch.stack(labels), paths]


class MMPose27(MMPose):
    """Windows of 2D, the centre frame's 3D, and the window's in `keypoints_3d`; some mirrored."""

    frames = 27

    def __init__(self) -> None:
        super().__init__()
        who = clips("h36m_17", 20, self.frames, cam=IDEAL)
        human = Skeleton.of("h36m_17")
        sides = [*human.left, *human.right], [*human.right, *human.left]
        self.rows = []
        for i in range(20):
            pose_2d, pose_3d = who.pose_2d[i].copy(), who.pose_3d[i].copy()
            if i % 2:  # as RandomFlipAroundRoot, which leaves `keypoints_3d` as it is
                for x in (pose_2d, pose_3d):
                    x[..., 0] *= -1
                    x[:, sides[0]] = x[:, sides[1]]
            middle = self.frames // 2
            label = pose_3d[middle, None] - pose_3d[middle, None, :1]
            sample = SimpleNamespace(
                metainfo=dict(img_path=f"{i}.jpg", target_root=pose_3d[middle, 0]),
                gt_instance_labels=SimpleNamespace(lifting_target_label=torch.from_numpy(label)),
                keypoints_3d=who.pose_3d[i],
            )
            inputs = torch.from_numpy(pose_2d.transpose(1, 2, 0).reshape(34, self.frames).copy())
            self.rows.append(dict(inputs=inputs, data_samples=sample))
        self.loader = self.batches(shuffle=True)
        self.model = LiftsWindows()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def off(self, batch: Any) -> np.ndarray:
        """Of the centre frame."""
        centre = np.asarray(batch[0])[:, :, self.frames // 2]
        return off_in_any(batch[1], centre.reshape(-1, 1, 17, 2))


class LiftsWindows(Lifts):
    """The centre frame's 3D from a window (B, 2J, T)."""

    def forward(self, inputs: Tensor, samples: Any = None, mode: str = "tensor") -> Any:
        return super().forward(inputs[..., inputs.shape[-1] // 2, None], samples, mode)


class MMPoseImage(MMPose):
    """ImagePoseLifting: 2D in pixels and 3D without the hip, both standardised."""

    def __init__(self) -> None:
        super().__init__()
        who = clips("h36m_17", 20, 1)
        pixels = (who.pose_2d[:, 0] + 1) * 500
        relative = who.relative[:, 0, 1:]
        self.stat_2d, self.stat_3d = ((x.mean(0), x.std(0)) for x in (pixels, relative))
        self.format = dict(
            pose_2d="inputs",
            pose_3d="data_samples.gt_instance_labels.lifting_target_label",
            joints_3d=tuple(range(1, 17)),
            screen=(1000, 1000),
            stat_2d=self.stat_2d,
            stat_3d=self.stat_3d,
            skeleton="h36m_17",
        )
        for i, row in enumerate(self.rows):
            x = (pixels[i] - self.stat_2d[0]) / self.stat_2d[1]
            y = (relative[i] - self.stat_3d[0]) / self.stat_3d[1]
            row["inputs"] = torch.from_numpy(x.reshape(34, 1).astype(np.float32))
            label = torch.from_numpy(y[None].astype(np.float32))
            row["data_samples"].gt_instance_labels.lifting_target_label = label
        self.model = Lifts(out=16)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def off(self, batch: Any) -> np.ndarray:
        pixels = np.asarray(batch[0]).reshape(-1, 17, 2) * self.stat_2d[1] + self.stat_2d[0]
        pose_3d = np.asarray(batch[1]).reshape(-1, 16, 3) * self.stat_3d[1] + self.stat_3d[0]
        pose_3d = np.pad(pose_3d, ((0, 0), (1, 0), (0, 0)))
        return off_in_any(pose_3d[:, None], pixels[:, None] / 500 - 1)


class MMPoseMotionBERT(MMPose):
    """MotionBERTLabel: clips with visibility, and 2.5D with the root subtracted."""

    format = "mmpose_motionbert"

    def __init__(self) -> None:
        super().__init__()
        who = clips("h36m_17", 20, 9, cam=IDEAL)
        z = who.pose_3d[..., 2:]
        image = np.concatenate([who.pose_2d, (z - z[:, :, :1]) * IDEAL[0] / z[:, :, :1]], -1)
        image = image - image[:, :, :1]
        visible = with_confidence(who.pose_2d, np.ones((*who.pose_2d.shape[:3], 1)))
        for i, row in enumerate(self.rows):
            row["inputs"] = torch.from_numpy(visible[i])
            label = torch.from_numpy(image[i])
            row["data_samples"].gt_instance_labels.lifting_target_label = label
        self.model = LiftsClips()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def off(self, batch: Any) -> np.ndarray:
        pose_2d, target = (np.asarray(x, np.float64) for x in batch[:2])
        return _worst(target[..., :2] - (pose_2d - pose_2d[:, :, :1])[..., :2])


class LiftsClips(Lifts):
    """All frames' 3D from clips with visibility (B, T, J, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.head = Frames(17, 17, 3)

    def forward(self, inputs: Tensor, samples: Any = None, mode: str = "tensor") -> Any:
        predicted = self.head(inputs)
        if mode == "tensor":
            return predicted
        label = torch.stack([s.gt_instance_labels.lifting_target_label for s in samples])
        loss = mpjpe(predicted, label) + 20 * mpjpe(predicted.diff(dim=1), label.diff(dim=1))
        return {"loss_pose3d": loss}


SCRIPTS: dict[str, type[Script]] = {
    "videopose3d": VideoPose3D,
    "videopose3d 27 frames": VideoPose3D27,
    "videopose3d humaneva": HumanEva,
    "videopose3d humaneva 27 frames": HumanEva27,
    "videopose3d semi": VideoPose3DSemi,
    "poseformer": PoseFormer,
    "poseformerv2": PoseFormerV2,
    "semgcn gcn": SemGCN,
    "semgcn linear": SemGCNLinear,
    "graformer": GraFormer,
    "poseaug baseline": PoseAugBaseline,
    "martinez": Martinez,
    "stgcn": STGCN,
    "stgcn crop_uv": STGCNCrop,
    "mhformer": MHFormer,
    "pstmo 3dhp": PSTMO3DHP,
    "motionbert": MotionBERT,
    "motionagformer": MotionAGFormer,
    "motionagformer 3dhp": MotionAGFormer3DHP,
    "adaptpose": AdaptPose,
    "mmpose": MMPose,
    "mmpose 27 frames": MMPose27,
    "mmpose image": MMPoseImage,
    "mmpose motionbert": MMPoseMotionBERT,
}
