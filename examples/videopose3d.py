"""A training loop in VideoPose3D's style with PoseAug: numpy windows with centre-frame 3D.

    python examples/videopose3d.py                  # synthetic motion
    python examples/videopose3d.py --data FOLDER    # Human3.6M's files

As in VideoPose3D's code, a generator with `next_epoch()` reuses float64 buffers and adds a flipped
copy of each window, batches are (camera, 3D, 2D) with the trajectory in joint 0, and learning rate
and BatchNorm momentum decay every epoch.
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
from poseaug_plugin.data import Pairs, load
from poseaug_plugin.lifters import TemporalLifter
from poseaug_plugin.metrics import mpjpe

LEFT, RIGHT = [4, 5, 6, 10, 11, 12], [1, 2, 3, 13, 14, 15]
Array = NDArray[Any]


def split_clips(pairs: Pairs, min_length: int = 20) -> Iterator[Pairs]:
    """Split into runs of rows with one motion and one camera."""
    root = pairs.pose_3d[:, 0]
    jump = (root[1:] - root[:-1]).norm(dim=-1) > 0.4
    new_camera = (pairs.camera[1:] != pairs.camera[:-1]).any(-1)
    names = pairs.subject + pairs.action
    cut = jump | new_camera | torch.from_numpy(names[1:] != names[:-1])
    bounds = [0, *(cut.nonzero()[:, 0] + 1).tolist(), len(pairs)]
    for start, end in itertools.pairwise(bounds):
        if end - start >= min_length:
            yield pairs[start:end]


class WindowGenerator:
    """2D windows around every frame with the 3D of that frame. Edges are padded by repetition."""

    def __init__(self, pairs: Pairs, batch_size: int, pad: int, seed: int, flip: bool) -> None:
        clips = list(split_clips(pairs))
        self.cameras = [clip.camera[0].numpy() for clip in clips]
        self.poses_2d = [clip.pose_2d.numpy() for clip in clips]
        self.poses_3d = [with_trajectory(clip) for clip in clips]
        frames = [(i, t) for i, clip in enumerate(clips) for t in range(len(clip))]
        self.samples = np.array([(i, t, f) for i, t in frames for f in range(1 + flip)])
        self.pad, self.batch_size, self.random = pad, batch_size, np.random.RandomState(seed)
        self.batch_cam = np.empty((batch_size, 9))
        self.batch_3d = np.empty((batch_size, 1, 16, 3))
        self.batch_2d = np.empty((batch_size, 2 * pad + 1, 16, 2))

    def next_epoch(self) -> Iterator[tuple[Array, Array, Array]]:
        order = self.random.permutation(len(self.samples))
        for start in range(0, len(order), self.batch_size):
            chosen = self.samples[order[start : start + self.batch_size]]
            for row, (clip, frame, flip) in enumerate(chosen):
                window = np.arange(frame - self.pad, frame + self.pad + 1)
                frames = window.clip(0, len(self.poses_2d[clip]) - 1)
                self.batch_2d[row] = self.poses_2d[clip][frames]
                self.batch_3d[row] = self.poses_3d[clip][frame]
                self.batch_cam[row] = self.cameras[clip]
                if flip:
                    for batch in (self.batch_2d[row], self.batch_3d[row]):
                        batch[..., 0] *= -1
                        batch[:, LEFT + RIGHT] = batch[:, RIGHT + LEFT]
                    self.batch_cam[row, [2, 7]] *= -1
            count = len(chosen)
            yield self.batch_cam[:count], self.batch_3d[:count], self.batch_2d[:count]


def with_trajectory(clip: Pairs) -> Array:
    """Root-relative 3D with the trajectory in joint 0, as in VideoPose3D."""
    pose = clip.root_relative.clone()
    pose[:, 0] = clip.pose_3d[:, 0]
    array: Array = pose.numpy()
    return array


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
    """MPJPE in mm. Without `windows`, rows are single frames, repeated to fill the window."""
    model.eval()
    predicted, targets = [], []
    for clip in split_clips(pairs) if windows else [pairs]:
        around = torch.arange(-model.pad, model.pad + 1) * windows
        rows = (torch.arange(len(clip))[:, None] + around).clamp(0, len(clip) - 1)
        predicted += [model(clip.pose_2d[r].to(device)).cpu()[:, 0] for r in rows.split(1024)]
        targets.append(clip.root_relative)
    return mpjpe(torch.cat(predicted), torch.cat(targets))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help="folder of Human3.6M's files (default: synthetic motion)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--rows", type=int, help="number of training rows, the first ones (default: all)"
    )
    parser.add_argument("--config", default="default", help="preset of the plugin")
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    pairs, test, cross = load(args.data, args.seed)
    pairs = pairs[: args.rows]
    generator = WindowGenerator(pairs, args.batch_size, TemporalLifter.pad, args.seed, flip=True)
    model = train(args, generator)
    print(f"MPJPE, mm: in-domain {evaluate(model, test, True, args.device):.1f}", end=", ")
    print(f"cross-dataset {evaluate(model, cross, False, args.device):.1f}")


if __name__ == "__main__":
    main()
