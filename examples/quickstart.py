"""Train one lifter twice, plain and with three more lines, and compare it where it was not trained.

python examples/quickstart.py                  # embedded motion, no data needed
python examples/quickstart.py --data FOLDER    # Human3.6M's files and another data set's test
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
from poseaug_plugin.data.h36m import Pairs
from poseaug_plugin.data.loading import endless, load, make_loader
from poseaug_plugin.lifters import SimpleBaseline
from poseaug_plugin.metrics import evaluate
from poseaug_plugin.plots import gallery


def train(
    pairs: Pairs, args: argparse.Namespace, with_plugin: bool, tick: Callable[[], None]
) -> tuple[SimpleBaseline, PoseAugmenter | None]:
    """A plain training loop of `args.updates` steps; the plugin is three lines of it."""
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
        tick()
    return model, augmenter


def compare(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Both runs and their numbers; the second run's picture."""
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
                "source": evaluate(model, test, args.device),
                "cross": evaluate(model, cross, args.device),
            }
    if augmenter is not None:
        results["stats"] = augmenter.stats()
        chosen = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(args.seed))[:64]
        few = pairs[chosen]
        gallery(augmenter, (few.pose_3d, few.pose_2d, chosen, few.camera), args.picture)
    return results


def table(results: dict[str, Any]) -> Table:
    """The one table: error at home, error elsewhere, cost."""
    made = Table("", "plain", "plugin", "change", title="errors in mm, after equally many updates")
    for column in made.columns[1:]:
        column.justify = "right"

    def row(name: str, plain: float, plugin: float, unit: str) -> None:
        made.add_row(
            name, f"{plain:.1f} {unit}", f"{plugin:.1f} {unit}", f"{plugin / plain - 1:+.1%}"
        )

    plain, plugin = results["plain"], results["plugin"]
    for place, title in (("source", "source test"), ("cross", "cross-dataset")):
        for metric in ("MPJPE", "PA-MPJPE"):
            row(f"{title} {metric}", plain[place][metric], plugin[place][metric], "mm")
    row("training time", plain["seconds"], plugin["seconds"], "s")
    return made


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the field's files; embedded if absent")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--updates", type=int, default=1500, help="of the lifter, in either run")
    parser.add_argument("--batch-size", type=int, default=512)
    presets = ("default", "random", "paper", "released")
    parser.add_argument("--config", choices=presets, default="default", help="the plugin's preset")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    parser.add_argument("--picture", type=Path, metavar="FILE", default=Path("out/quickstart.png"))
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    args, console = arguments(argv), Console()
    torch.set_num_threads(1)  # steps are too small to share; with a busy neighbour two crawl
    results = compare(args, console)
    console.print(table(results))
    console.print(f"picture: {args.picture}")
    if args.json:
        settings = {name: str(value) for name, value in vars(args).items()}
        args.json.write_text(json.dumps({"arguments": settings, **results}, indent=2))
    return results


if __name__ == "__main__":
    main()
