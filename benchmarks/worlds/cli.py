"""In-domain and cross-dataset errors in five worlds, with fixed, fitted and hand-tuned ranges.

python -m benchmarks.worlds                                    # all worlds, three seeds
python -m benchmarks.worlds --worlds hands --pictures out      # and pictures of augmented rows

All methods get the same number of updates on the same rows. The last weights are tested once.
Finished runs are stored in `--results` and are not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ..options import comma_separated, names_among
from ..parallel import OnProgress, run_parallel
from ..tables import markdown_table, mean_std
from .runs import METHODS, Run, train_and_test
from .worlds import WORLDS

__all__ = ["main", "results_table"]

Record = dict[str, Any]


def results_table(records: Sequence[Record]) -> str:
    """Mean and standard deviation over seeds of each world and method, and what was accepted."""
    head = ["world", "method", "in-domain, mm", "cross-dataset, mm", "of plain", "of tuned"]
    head += ["distances, m", "accepted", "CPU s", "seeds"]
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        settings = record["settings"]
        groups.setdefault((settings["world"], settings["method"]), []).append(record)
    cross = {key: _mean(group, "cross") for key, group in groups.items()}
    rows = []
    for (world, method), group in groups.items():
        row = [world, method]
        row += [mean_std(r["tests"][test] for r in group) for test in ("test", "cross")]
        for reference in ("plain", "tuned"):
            share = cross[world, method] / cross.get((world, reference), float("nan"))
            row.append(f"{share:.2f}")
        stats = group[0]["stats"]
        row += (
            [
                f"{stats['distance_low']:.2g} to {stats['distance_high']:.2g}",
                f"{statistics.fmean(r['stats']['accepted'] for r in group):.0%}",
            ]
            if stats
            else ["", ""]
        )
        row += [mean_std(r["seconds"] for r in group), str(len(group))]
        rows.append(row)
    return markdown_table(head, rows, labels=2)


def _mean(group: Sequence[Record], test: str) -> float:
    return statistics.fmean(record["tests"][test] for record in group)


def _execute(run: Run, out: Path, device: str, on_progress: OnProgress) -> Record:
    return train_and_test(run, lambda: on_progress(1 / run.updates))


def _read(results: Path) -> dict[str, Record]:
    """The last record of each run, by `Run.key`."""
    lines = results.read_text().splitlines() if results.exists() else []
    return {json.dumps(r["settings"]): r for r in map(json.loads, lines)}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.worlds", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--worlds", type=names_among(WORLDS), default="all", metavar="NAMES|all")
    add("--methods", type=names_among(METHODS), default="all", metavar="NAMES|all")
    add("--seeds", type=comma_separated(int), default="0,1,2")
    add("--updates", type=int, default=Run.updates, help="optimizer steps of each run")
    add("--batch-size", type=int, default=Run.batch_size, help="rows per update")
    add("--jobs", type=int, default=1, help="parallel runs")
    add("--fresh", action="store_true", help="repeat finished runs")
    add("--results", type=Path, metavar="FILE", default=Path("out/worlds.jsonl"))
    add("--markdown", type=Path, metavar="FILE", help="write the table")
    add("--pictures", type=Path, metavar="FOLDER", help="plot augmented rows of the first seed")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> list[Record]:
    args, console = arguments(argv), Console()
    runs = [
        Run(world, method, seed, args.updates, args.batch_size)
        for seed in args.seeds
        for world in args.worlds
        for method in args.methods
    ]
    found = {} if args.fresh else _read(args.results)
    todo = [run for run in runs if run.key not in found]
    console.print(f"{len(runs)} runs, {len(todo)} to execute")
    args.results.parent.mkdir(parents=True, exist_ok=True)
    with args.results.open("a") as file:
        folder = args.results.parent
        for record in run_parallel(
            _execute, todo, "runs", folder, device="cpu", jobs=args.jobs, console=console
        ):
            file.write(json.dumps(record) + "\n")
            file.flush()
    found = _read(args.results)
    records = [found[run.key] for run in sorted(runs, key=lambda run: args.worlds.index(run.world))]
    table = results_table(records)
    console.print(table, soft_wrap=True, highlight=False)
    if args.markdown:
        args.markdown.parent.mkdir(parents=True, exist_ok=True)
        args.markdown.write_text(table + "\n")
    if args.pictures:
        from .pictures import plot

        for name in args.worlds:
            plot(WORLDS[name](args.seeds[0]), args.pictures / f"{name}.png")
    return records
