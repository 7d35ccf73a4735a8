"""A loop in VideoPose3D's style, with the plugin's three lines: windows, numpy, centre-frame 3D.

    python examples/videopose3d.py                  # embedded motion
    python examples/videopose3d.py --data FOLDER    # Human3.6M's files

Kept as in that codebase: a generator with `next_epoch()` that reuses float64 buffers and flips half
the windows, (camera, 3D, 2D) batches with the trajectory in joint 0, a training and an evaluation
model, learning rate and BatchNorm momentum that decay by epoch.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from poseaug_plugin import PoseAugmenter  # 1 of 3
from poseaug_plugin.data.h36m import Pairs
from poseaug_plugin.data.loading import load
from poseaug_plugin.lifters import TemporalLifter
from poseaug_plugin.metrics import mpjpe

LEFT, RIGHT = [4, 5, 6, 10, 11, 12], [1, 2, 3, 13, 14, 15]
Array = NDArray[Any]


def clips(pairs: Pairs, shortest: int = 20) -> Iterator[Pairs]:
    """Runs of rows that are one motion before one camera."""
    root = pairs.pose_3d[:, 0]
    jump = (root[1:] - root[:-1]).norm(dim=-1) > 0.4
    other = (pairs.camera[1:] != pairs.camera[:-1]).any(-1)
    names = pairs.subject + pairs.action
    cut = jump | other | torch.from_numpy(names[1:] != names[:-1])
    bounds = [0, *(cut.nonzero()[:, 0] + 1).tolist(), len(pairs)]
    for start, end in itertools.pairwise(bounds):
        if end - start >= shortest:
            yield pairs[start:end]


class WindowGenerator:
    """Windows of 2D around every frame, with that frame's 3D; edges repeat."""

    def __init__(self, pairs: Pairs, batch_size: int, pad: int, seed: int, flip: bool) -> None:
        found = list(clips(pairs))
        self.cameras = [clip.camera[0].numpy() for clip in found]
        self.poses_2d = [clip.pose_2d.numpy() for clip in found]
        self.poses_3d = [slot(clip) for clip in found]
        frames = [(i, t) for i, clip in enumerate(found) for t in range(len(clip))]
        self.places = np.array([(i, t, f) for i, t in frames for f in range(1 + flip)])
        self.pad, self.batch_size, self.random = pad, batch_size, np.random.RandomState(seed)
        self.batch_cam = np.empty((batch_size, 9))
        self.batch_3d = np.empty((batch_size, 1, 16, 3))
        self.batch_2d = np.empty((batch_size, 2 * pad + 1, 16, 2))

    def next_epoch(self) -> Iterator[tuple[Array, Array, Array]]:
        order = self.random.permutation(len(self.places))
        for start in range(0, len(order), self.batch_size):
            chosen = self.places[order[start : start + self.batch_size]]
            for row, (clip, frame, flip) in enumerate(chosen):
                window = np.arange(frame - self.pad, frame + self.pad + 1)
                seen = window.clip(0, len(self.poses_2d[clip]) - 1)
                self.batch_2d[row] = self.poses_2d[clip][seen]
                self.batch_3d[row] = self.poses_3d[clip][frame]
                self.batch_cam[row] = self.cameras[clip]
                if flip:
                    for batch in (self.batch_2d[row], self.batch_3d[row]):
                        batch[..., 0] *= -1
                        batch[:, LEFT + RIGHT] = batch[:, RIGHT + LEFT]
                    self.batch_cam[row, [2, 7]] *= -1
            count = len(chosen)
            yield self.batch_cam[:count], self.batch_3d[:count], self.batch_2d[:count]


def slot(clip: Pairs) -> Array:
    """Root-relative 3D with the trajectory in joint 0, as VideoPose3D keeps it."""
    pose = clip.root_relative.clone()
    pose[:, 0] = clip.pose_3d[:, 0]
    made: Array = pose.numpy()
    return made


def train(args: argparse.Namespace, train_generator: WindowGenerator) -> TemporalLifter:
    model_pos_train = TemporalLifter(width=args.width).to(args.device)
    lr, momentum = args.lr, 0.1
    optimizer = torch.optim.Adam(model_pos_train.parameters(), lr=lr, amsgrad=True)
    augmenter = PoseAugmenter(  # 2 of 3
        model_pos_train, optimizer, "videopose3d", args.epochs, config=args.config
    )
    train_generator = augmenter.wrap(train_generator)  # 3 of 3

    for epoch in range(args.epochs):
        model_pos_train.train()
        total = count = 0.0
        for _, batch_3d, batch_2d in train_generator.next_epoch():
            inputs_3d = torch.from_numpy(batch_3d.astype("float32")).to(args.device)
            inputs_2d = torch.from_numpy(batch_2d.astype("float32")).to(args.device)
            inputs_3d[:, :, 0] = 0
            optimizer.zero_grad()
            loss = (model_pos_train(inputs_2d) - inputs_3d).norm(dim=-1).mean()
            loss.backward()
            optimizer.step()
            total, count = total + loss.item() * len(inputs_3d), count + len(inputs_3d)
        print(f"epoch {epoch + 1}: training MPJPE {1000 * total / count:.1f} mm, lr {lr:.2e}")
        lr *= 0.95
        for group in optimizer.param_groups:
            group["lr"] *= 0.95
        momentum *= 0.9
        model_pos_train.set_bn_momentum(momentum)
    return model_pos_train


@torch.no_grad()
def evaluate(model: TemporalLifter, pairs: Pairs, windows: bool, device: str) -> float:
    """MPJPE; single frames (no clips to look at) as windows that stand still."""
    model.eval()
    answers, targets = [], []
    for clip in clips(pairs) if windows else [pairs]:
        around = torch.arange(-model.pad, model.pad + 1) * windows
        seen = (torch.arange(len(clip))[:, None] + around).clamp(0, len(clip) - 1)
        answers += [model(clip.pose_2d[rows].to(device)).cpu()[:, 0] for rows in seen.split(1024)]
        targets.append(clip.root_relative)
    return mpjpe(torch.cat(answers), torch.cat(targets))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help="folder of Human3.6M's files; embedded if absent")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, help="train on the first so many rows only")
    parser.add_argument("--config", default="default", help="the plugin's preset")
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    pairs, test, cross = load(args.data, args.seed)
    pairs = pairs[: args.rows]
    generator = WindowGenerator(pairs, args.batch_size, TemporalLifter.pad, args.seed, flip=True)
    model = train(args, generator)
    print(f"MPJPE, mm: source test {evaluate(model, test, True, args.device):.1f}", end=", ")
    print(f"cross-dataset {evaluate(model, cross, False, args.device):.1f}")


if __name__ == "__main__":
    main()
