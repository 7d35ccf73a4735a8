"""Draw the pictures of the documents: `python docs/pictures.py`.

All are of synthetic motion, except `results.png`, which is drawn from the tables of
`benchmarks/RESULTS.md`.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from poseaug_plugin import Camera, PoseAugmenter, Skeleton, plots
from poseaug_plugin.data import Pairs, synthetic
from poseaug_plugin.geometry.bones import Bones
from poseaug_plugin.geometry.camera import project
from poseaug_plugin.geometry.operators import (
    bend,
    euler_to_matrix,
    mirrored,
    move,
    shift,
    stretch,
)
from poseaug_plugin.lifters import SimpleBaseline
from poseaug_plugin.plots.drawing import (
    draw_pose,
    extent,
    frame,
    image,
    legend,
    new_figure,
    save,
    shape,
    view,
)
from poseaug_plugin.plots.sides import COLOURS

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs/pictures"
SKELETON = Skeleton.of("h36m_16")
LAYOUT = dict(pose_3d=0, pose_2d=1, camera=3, root="absolute")


def draw_batch(pairs: Pairs, rows: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """A random batch in the format `poseaug`."""
    chosen = torch.randperm(len(pairs), generator=generator)[:rows]
    some = pairs[chosen]
    return some.pose_3d, some.pose_2d, chosen, some.camera


def run(
    pairs: Pairs, steps: int, target_2d: Tensor | None = None, **config: object
) -> tuple[PoseAugmenter, list[dict[str, float]]]:
    """Train a small lifter with the plugin, and note the numbers of every tenth step."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = SimpleBaseline(width=128)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    augmenter = PoseAugmenter(
        model, optimizer, "poseaug", epochs=10, config=config or None, target_2d=target_2d
    )
    history = []
    for step in range(1, steps + 1):
        pose_3d, pose_2d, *_ = augmenter(draw_batch(pairs, 256, generator))
        loss = (model(pose_2d) - (pose_3d - pose_3d[:, :1])).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % max(steps // 10, 1) == 0:
            augmenter.end_epoch()
        if step % 10 == 0:
            history.append(augmenter.stats())
    return augmenter, history


def upright(pose_3d: Tensor) -> Tensor:
    """The pose, upright and facing the camera, relative to its root."""
    axes = Bones.of(pose_3d, SKELETON).axes
    body = (pose_3d - pose_3d[SKELETON.root]) @ axes  # right, up, backward
    return body * torch.tensor([-1.0, -1.0, 1.0])


def plot_views_by_option(pose_3d: Tensor) -> None:
    """One pose under low, middle and high values of each option of the view."""
    degrees = torch.pi / 180
    options: dict[str, tuple[int, list[float], str, float]] = {
        "yaw": (0, [-120, -60, 0, 60, 120], "{:.0f}°", degrees),
        "tilt": (1, [-17, 0, 11, 23, 34], "{:.0f}°", degrees),
        "roll": (2, [-6, -3, 0, 3, 6], "{:.0f}°", degrees),
        "distance": (3, [2.5, 3.5, 4.5, 5.5, 6.5], "{:.1f} m", 1.0),
        "image_offset": (4, [-0.3, -0.15, 0, 0.15, 0.3], "{:.2f}", 1.0),
        "focal": (5, [0.5, 0.6, 0.7, 0.85, 1.0], "{:.2f}", 1.0),
    }
    figure, axes = new_figure([1.0] * len(options), 5, 1.4)
    for line, (name, (index, values, text, unit)) in zip(axes, options.items()):
        line[0].set_ylabel(name, family="monospace")
        for axis, value in zip(line, values):
            chosen = [20 * degrees, 0.1, 0.0, 4.0, 0.0, 0.75]
            chosen[index] = value * unit
            yaw, tilt, roll, distance, offset, focal = chosen
            camera = Camera(f=(2.29 * focal, 2.29 * focal)).intrinsics
            t = torch.tensor([distance * offset / camera[0], 0.0, distance])
            placed = move(
                pose_3d, euler_to_matrix(torch.tensor([[yaw, tilt, roll]]))[0], t, SKELETON
            )
            draw_pose(axis, project(placed, camera), SKELETON, placed[:, 2], width=1.8)
            frame(axis, image(1.0) if index > 2 else (-0.5, 0.5, 0.5, -0.5))
            axis.set_title(text.format(value), fontsize=8)
    legend(figure, COLOURS)
    save(figure, FOLDER / "options-views.png")


def plot_bodies_by_option(pose_3d: Tensor) -> None:
    """One pose with random bodies and poses, of each option by itself."""
    generator = torch.Generator().manual_seed(3)

    def uniform(*size: int) -> Tensor:
        return 2 * torch.rand(size, generator=generator) - 1

    groups, bones = SKELETON.num_groups, SKELETON.num_bones

    def bent() -> Tensor:
        step = torch.randn(bones, 3, generator=generator)
        gamma_ba = 0.6 * uniform(bones, 1).abs() * step / step.norm(dim=-1, keepdim=True)
        return bend(pose_3d, gamma_ba, SKELETON)

    def other_joints() -> Tensor:
        offset = 0.025 * torch.randn(16, 3, generator=generator)
        return shift(pose_3d, mirrored(offset, SKELETON), SKELETON)

    options = {
        "body_scale\n0.15": lambda: pose_3d * (1 + 0.15 * uniform(1)),
        "stretch\n0.1": lambda: stretch(pose_3d, 0.1 * uniform(groups), SKELETON),
        "joint_offset\n0.025 m": other_joints,
        "bend\n0.6 (random)": bent,
    }
    made = {name: [pose_3d, *(change() for _ in range(5))] for name, change in options.items()}
    tilted = euler_to_matrix(torch.tensor([[0.5, 0.1, 0.0]]))[0]
    turned = {name: [view(p @ tilted.T, "camera") for p in poses] for name, poses in made.items()}
    limits = extent(points for poses in turned.values() for points, _ in poses)
    figure, axes = new_figure([shape(limits)] * len(options), 6, 1.25)
    for line, (name, poses) in zip(axes, turned.items()):
        line[0].set_ylabel(name, family="monospace", fontsize=8)
        for axis, (points, depth) in zip(line, poses):
            draw_pose(axis, points, SKELETON, depth, width=1.8)
            frame(axis, limits)
    for axis, title in zip(axes[0], ["as it is"] + ["changed"] * 5):
        axis.set_title(title, fontsize=8)
    legend(figure, COLOURS)
    save(figure, FOLDER / "options-bodies.png")


def plot_clip(pairs: Pairs) -> None:
    """A clip and what replaces it, as a strip and as an animation."""
    assert pairs.frame is not None
    follows = (pairs.frame[1:] - pairs.frame[:-1] == 1).tolist()
    starts = [i for i in range(len(pairs) - 22) if all(follows[i : i + 21])][:: 22 * 7][:24]
    rows = torch.tensor([[start + i for i in range(22)] for start in starts])
    model = SimpleBaseline(width=8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    windows = PoseAugmenter(model, optimizer, LAYOUT, skeleton=SKELETON)
    batch = pairs.pose_3d[rows], pairs.pose_2d[rows], rows[:, 0], pairs.camera[rows[:, 0]]
    after, accepted, _ = windows.preview(batch)
    row = int(accepted.nonzero()[2])
    shown = {"a clip of a batch": batch[0][row], "what replaces it": after.absolute[row]}
    plots.plot_clips(shown, FOLDER / "clip.png", skeleton=SKELETON)
    plots.animate_clips(shown, FOLDER / "clip.gif", skeleton=SKELETON)


def plot_lifted(pairs: Pairs, others: Pairs) -> None:
    """2D poses of other people, as a lifter in training sees them from the side, and the truth."""
    rows = torch.linspace(0, len(others) - 1, 2048).long()  # as many as a target keeps
    chosen = others[rows]
    augmenter, _ = run(pairs, 600, target_2d=chosen.pose_2d)
    target = augmenter.target
    assert target is not None
    lengths = Bones.of(chosen.root_relative, SKELETON).length
    lifted = Bones(target.lifted, lengths, SKELETON).pose_3d
    shown = range(150, 2048, 330)
    lines: dict[str, list[tuple[Tensor, Tensor | None]]]
    lines = {"2D": [(target.normalised[i], None) for i in shown]}
    for name, poses in (("lifted,\nfrom the side", lifted), ("the truth", chosen.root_relative)):
        lines[name] = [view(poses[i], "side") for i in shown]
    limits = [extent(points for points, _ in line) for line in lines.values()]
    figure, axes = new_figure([shape(limit) for limit in limits], len(shown), 1.25)
    for line, name, limit in zip(axes, lines, limits):
        line[0].set_ylabel(name, fontsize=8)
        for axis, (points, depth) in zip(line, lines[name]):
            draw_pose(axis, points, SKELETON, depth, width=1.8)
            frame(axis, limit)
    legend(figure, COLOURS)
    save(figure, FOLDER / "lifted.png")


def plot_results() -> None:
    """Cross-dataset and in-domain error of each method, from the tables of the results."""
    text = (ROOT / "benchmarks/RESULTS.md").read_text()
    section = text.split("### Exact 2D, all training subjects")[1].split("\n### ")[0]
    number = r"([\d.]+)(?: ± ([\d.]+))?"  # one seed has no deviation
    rows = re.findall(rf"^\| ([^|]+) \| `?(\w+)`? \| {number} \| {number} ", section, re.MULTILINE)
    methods = {
        "plain": "#52514e",
        "released": "#b03060",
        "paper": "#c2a400",
        "random": "#2a78d6",
        "default": "#eb6834",
        "target_2d": "#1d8a5a",
    }
    found: dict[str, dict[str, list[float]]] = {}
    for estimator, method, *numbers in rows:
        if method in methods:
            found.setdefault(estimator.strip(), {})[method] = [float(n or 0) for n in numbers]
    figure = Figure(figsize=(9.5, 3.0), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axis, title, at in zip(panels, ("in-domain", "cross-dataset"), (0, 2)):
        for line, errors in enumerate(reversed(found.values())):
            axis.axhline(line, color="#eceae5", zorder=0)
            for method, numbers in errors.items():
                axis.errorbar(
                    numbers[at],
                    line,
                    xerr=numbers[at + 1],
                    fmt="o",
                    color=methods[method],
                    markersize=7,
                    capsize=0,
                )
        axis.set_title(f"MPJPE, {title}, mm", fontsize=10)
        axis.set_yticks(range(len(found)), [*reversed(found)])
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(left=False)
        axis.set(xlim=(0, None), ylim=(-0.4, len(found) - 0.6))
    legend(figure, methods)
    save(figure, ROOT / "benchmarks/pictures/results.png")


def main() -> None:
    """Draw all pictures."""
    torch.set_num_threads(1)
    pairs, _, others = synthetic.make(0)
    augmenter, _ = run(pairs, 40)
    generator = torch.Generator().manual_seed(1)
    batch = draw_batch(pairs, 64, generator)
    plots.plot_augmented(augmenter, batch, ROOT / "examples/quickstart.png")
    plots.plot_sources(augmenter, batch, FOLDER / "sources.png")
    plots.augmented_page(augmenter, batch, FOLDER / "poses.html", rows=12)
    many = draw_batch(pairs, 1500, generator)
    after, accepted, _ = augmenter.preview(many)
    sets = {
        "in the batch": augmenter.read(many),
        "augmented": after.pick(accepted.nonzero()[:, 0]),
    }
    plots.plot_views(sets, FOLDER / "views.png")
    wrists_above_head = (pairs.pose_3d[:, 9, 1] - pairs.pose_3d[:, 12, 1]).argsort()
    some = pairs[wrists_above_head[-40:-39]]  # a person who raises the left hand
    plots.plot_pose(some.pose_3d[0], some.pose_2d[0], path=FOLDER / "pose.png")
    plot_clip(pairs)
    plot_views_by_option(upright(some.pose_3d[0]))
    plot_bodies_by_option(upright(some.pose_3d[0]))
    trained, _ = run(pairs, 1000)
    report = trained.report([draw_batch(pairs, 256, generator) for _ in range(8)])
    plots.plot_report(report, FOLDER / "report.png")
    _, history = run(pairs, 400, learned=True, update_every=2)
    plots.plot_run(history, FOLDER / "run.png")
    plot_lifted(pairs, others)
    plot_results()


if __name__ == "__main__":
    main()
