"""Train a lifter without and with PoseAug, and compare both on data they were not trained on.

python examples/quickstart.py                  # synthetic motion, no data needed
python examples/quickstart.py --data FOLDER    # Human3.6M's files and a cross-dataset test set
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from poseaug_plugin import PoseAugmenter  # 1 of 3
from poseaug_plugin.data import Pairs, endless, load, make_loader
from poseaug_plugin.lifters import SimpleBaseline
from poseaug_plugin.metrics import evaluate
from poseaug_plugin.plots import plot_augmented


def train(
    pairs: Pairs, args: argparse.Namespace, with_plugin: bool, on_update: Callable[[], None]
) -> tuple[SimpleBaseline, PoseAugmenter | None]:
    """Train for `args.updates` steps. The plugin adds the three marked lines."""
    torch.manual_seed(args.seed)
    model = SimpleBaseline().to(args.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-2, total_steps=args.updates)
    train_loader = make_loader(pairs, args.batch_size)
    epochs = math.ceil(args.updates / len(train_loader))

    augmenter = None
    if with_plugin:
        augmenter = PoseAugmenter(model, optimizer, "poseaug", epochs, config=args.config)  # 2 of 3
        train_loader = augmenter.wrap(train_loader)  # 3 of 3

    model.train()
    for pose_3d, pose_2d, _, _ in itertools.islice(endless(train_loader), args.updates):
        target = (pose_3d - pose_3d[:, :1]).to(args.device)
        loss = (model(pose_2d.to(args.device)) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        on_update()
    return model, augmenter


def compare(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Train and evaluate without and with the plugin, and plot augmented poses."""
    pairs, test, cross = load(args.data, args.seed)
    results: dict[str, Any] = {}
    with Progress(console=console) as progress:
        for name in ("plain", "plugin"):
            bar = progress.add_task(f"training, {name}", total=args.updates)
            start = time.perf_counter()
            model, augmenter = train(
                pairs, args, name == "plugin", functools.partial(progress.advance, bar)
            )
            results[name] = {
                "seconds": time.perf_counter() - start,
                "source": evaluate(model, test.pose_2d, test.pose_3d, args.device),
                "cross": evaluate(model, cross.pose_2d, cross.pose_3d, args.device),
            }
    if augmenter is not None:
        results["stats"] = augmenter.stats()
        chosen = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(args.seed))[:64]
        some = pairs[chosen]
        batch = (some.pose_3d, some.pose_2d, chosen, some.camera)
        plot_augmented(augmenter, batch, args.picture)
    return results


def make_table(results: dict[str, Any]) -> Table:
    """In-domain error, cross-dataset error and training time of both runs."""
    table = Table("", "plain", "plugin", "change", title="after the same number of updates")
    for column in table.columns[1:]:
        column.justify = "right"

    def add_row(name: str, plain: float, plugin: float, unit: str) -> None:
        table.add_row(
            name, f"{plain:.1f} {unit}", f"{plugin:.1f} {unit}", f"{plugin / plain - 1:+.1%}"
        )

    plain, plugin = results["plain"], results["plugin"]
    for test, title in (("source", "in-domain"), ("cross", "cross-dataset")):
        for metric in ("MPJPE", "PA-MPJPE"):
            add_row(f"{title} {metric}", plain[test][metric], plugin[test][metric], "mm")
    add_row("training time", plain["seconds"], plugin["seconds"], "s")
    return table


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="folder of data files (default: synthetic motion)"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--updates", type=int, default=1500, help="optimizer steps of each run")
    parser.add_argument("--batch-size", type=int, default=512)
    presets = ("default", "random", "paper", "released")
    parser.add_argument("--config", choices=presets, default="default", help="preset of the plugin")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers")
    parser.add_argument("--picture", type=Path, metavar="FILE", default=Path("out/quickstart.png"))
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    args, console = arguments(argv), Console()
    torch.set_num_threads(1)  # the network is too small to benefit from more threads
    results = compare(args, console)
    console.print(make_table(results))
    console.print(f"picture: {args.picture}")
    if args.json:
        settings = {name: str(value) for name, value in vars(args).items()}
        args.json.write_text(json.dumps({"arguments": settings, **results}, indent=2))
    return results


if __name__ == "__main__":
    main()
