"""Whether the learned augmentor is healthy in training: measures of each learned preset, plotted.

python -m benchmarks.health                                   # synthetic motion
python -m benchmarks.health --data FOLDER --updates 600 --out out/health.png
python -m benchmarks.health --data FOLDER --frozen            # a trained estimator that stays still

The panels show the hardness with its target, the gradients of feedback and 3D discriminator, how
much of the learned bends differs between rows and how evenly rotations are spread, the 3D
discriminator's answers, and the joint angles that real poses do not have.
"""

from __future__ import annotations

import argparse
import itertools
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from rich.console import Console

from poseaug_plugin import PoseAugConfig, PoseAugmenter
from poseaug_plugin.data import Pairs, endless

from .environment import environment_info
from .generalization.runs import ESTIMATORS, Run, train
from .options import comma_separated
from .parallel import progress_bar
from .tables import markdown_table
from .training import ShuffledBatches, train_step

__all__ = ["PRESETS", "main", "measure"]

History = list[dict[str, float]]

PRESETS: dict[str, Callable[..., PoseAugConfig]] = {
    "learned": lambda **changes: PoseAugConfig.default(learned=True, **changes),
    "paper": PoseAugConfig.paper,
    "released": PoseAugConfig.released,
}

#: Panels: title, and the measures that are drawn in it, with their lines.
PANELS: dict[str, dict[str, str]] = {
    "hardness (-), beta (:)": {"hardness": "-", "beta": ":"},
    "gradient, share of the feedback": {"share_feedback": "-"},
    "gradient, share of the 3D discriminator": {"share_d3d": "-"},
    "bends that differ (-), evenness of R (:)": {"diversity_ba": "-", "evenness_r": ":"},
    "3D discriminator's score: real (-), fake (:)": {"d3d_real": "-", "d3d_fake": ":"},
    "angles out of the data's range (:, prior)": {
        "implausible": "-",
        "implausible_prior": ":",
    },
}


def measure(
    config: PoseAugConfig,
    pairs: Pairs,
    updates: int,
    *,
    model: torch.nn.Module | None = None,
    every: int = 10,
    on_update: Callable[[], None] = lambda: None,
) -> History:
    """Train with a config, and return the numbers of `stats()` after every tenth step.

    Args:
        config: the config.
        pairs: training pairs.
        updates: number of updates of the estimator.
        model: a trained estimator, which is not changed. None: a new one is trained.
        every: steps between two records.
        on_update: called after each update.
    """
    torch.manual_seed(config.seed)
    make, peak, _ = ESTIMATORS["mlp"]
    frozen, model = model is not None, model or make()
    for norm in model.modules():
        if frozen and isinstance(norm, torch.nn.BatchNorm1d):
            norm.momentum = 0.0
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    optimizer.zero_grad()  # gradients of the last step of its training would move a frozen one
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=updates)
    history: History = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="mix='alternate'")
        augmenter = PoseAugmenter(model, optimizer, "poseaug", config=config)
    loader = augmenter.wrap(ShuffledBatches(pairs, 512, config.seed))
    model.train()
    for step, batch in enumerate(itertools.islice(endless(loader), updates)):
        if frozen:
            optimizer.step()  # without gradients it changes nothing
        else:
            train_step(model, optimizer, batch)
            schedule.step()
        if step % every == every - 1:
            history.append({"step": step + 1.0, "beta": config.beta[1], **augmenter.stats()})
        on_update()
    return history


def plot(histories: dict[str, History], path: Path) -> None:
    """Plot the panels of `PANELS`, a colour for each preset."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 6), layout="constrained")
    for axis, (title, lines) in zip(axes.flat, PANELS.items()):
        for number, (name, history) in enumerate(histories.items()):
            for key, line in lines.items():
                points = [(row["step"], row[key]) for row in history if key in row]
                if points and not (key == "beta" and name == "released"):  # it has other targets
                    label = name if line == "-" else None
                    axis.plot(*zip(*points), line, color=f"C{number}", label=label)
        axis.set(title=title, xlabel="updates of the estimator")
    axes.flat[0].set_yscale("log")
    axes.flat[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def results_table(histories: dict[str, History]) -> str:
    """Format the means of the last third of each history."""
    keys = [key for lines in PANELS.values() for key in lines]
    rows = []
    for name, history in histories.items():
        last = history[-max(1, len(history) // 3) :]
        cells = []
        for key in keys:
            values = [row[key] for row in last if key in row]
            cells.append(f"{sum(values) / len(values):.3g}" if values else "")
        rows.append([name, *cells])
    return markdown_table(["preset", *keys], rows)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.health", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--data", type=Path, help="folder of data files (default: synthetic motion)")
    add("--presets", type=comma_separated(str), default="learned,paper,released")
    add("--updates", type=int, default=600, help="updates of the estimator")
    add("--warmup", type=int, default=100, help="steps of warm-up")
    add("--beta", type=float, help="target of the hardness (default: of the preset)")
    add("--frozen", action="store_true", help="with a plainly trained estimator that stays still")
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=Path("out/health.png"), help="the picture; .json beside it")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, History]:
    args, console = arguments(argv), Console()
    torch.set_num_threads(1)
    data = args.data and str(args.data.resolve())
    pairs, _ = Run(data=data, seed=args.seed, validate="actions").splits()
    model = None
    if args.frozen:
        model, _ = train(Run(data=data, seed=args.seed, updates=args.updates), pairs)
    changes: dict[str, Any] = dict(seed=args.seed, warmup_steps=args.warmup)
    changes |= {} if args.beta is None else {"beta": (args.beta, args.beta)}
    histories = {}
    with progress_bar(console) as bar:
        row = bar.add_task("health", total=len(args.presets) * args.updates)
        for name in args.presets:
            config = PRESETS[name](**changes)
            histories[name] = measure(
                config, pairs, args.updates, model=model, on_update=lambda: bar.advance(row)
            )
    plot(histories, args.out)
    args.out.with_suffix(".json").write_text(json.dumps({**environment_info(), "runs": histories}))
    console.print(results_table(histories), soft_wrap=True, highlight=False)
    return histories


if __name__ == "__main__":
    main()
