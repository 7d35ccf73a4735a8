"""In-domain and cross-dataset errors of estimators trained with and without the plugin.

python -m benchmarks.generalization                              # synthetic motion
python -m benchmarks.generalization --data FOLDER --jobs 2       # Human3.6M's files and a test set
python -m benchmarks.generalization --data FOLDER --validate --set bend=0.4   # validation split
python -m benchmarks.generalization --data FOLDER --estimators tcn27    # windows of 27 frames

All methods get the same number of updates on the same rows. The last weights are tested once.
Finished runs are stored in `--results` and are not repeated.
"""

from __future__ import annotations

import argparse
import ast
import json
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from poseaug_plugin.data import TRAIN

from ..environment import environment_info
from ..options import comma_separated, names_among
from ..parallel import OnProgress, progress_bar, run_parallel
from ..tables import markdown_table, mean_std
from . import diversity
from .runs import ESTIMATORS, METHODS, ORACLE, WITH_TARGET, Run, train_and_test
from .splits import VALIDATION

SINGLE_FRAME = [name for name, estimator in ESTIMATORS.items() if estimator.frames == 1]
BUDGETS = {"small": 400, "full": 1500}  # updates
Record = dict[str, Any]


# Runs


def make_runs(args: argparse.Namespace) -> list[Run]:
    """All combinations selected on the command line, ordered by seed."""
    return [
        Run(
            estimator=estimator,
            method=label,
            config=config and config.replace(seed=seed),
            data=args.data and str(args.data.resolve()),
            detections=args.detections,
            subjects=tuple(args.subjects),
            validate=args.validate,
            seed=seed,
            updates=args.updates or BUDGETS[args.budget],
            batch_size=args.batch_size,
            target_2d=label.split()[0] in WITH_TARGET,
            peak=args.peak,
        )
        for seed in args.seeds
        for estimator in args.estimators
        for label, config in [
            *configs_of(args.methods, dict(args.set)).items(),
            *[(ORACLE, None)] * args.oracle,
        ]
    ]


def configs_of(names: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Label and config of each method, with overrides applied to every config."""
    suffix = "".join(f" {name}={value}" for name, value in overrides.items())
    configs = {name: METHODS[name] for name in names}
    return {
        name + suffix * (config is not None): config and config.replace(**overrides)
        for name, config in configs.items()
    }


def plot_diversity(runs: Sequence[Run], folder: Path, console: Console) -> Record:
    """Train the runs again to plot and measure the diversity and difficulty of augmented poses."""
    torch.set_num_threads(1)
    with progress_bar(console) as bar:
        row = bar.add_task("training for the plots", total=sum(run.updates for run in runs))
        return diversity.analyse(runs, folder, lambda: bar.advance(row))


def _execute(run: Run, out: Path, device: str, on_progress: OnProgress) -> Record:
    return train_and_test(run, lambda: on_progress(1 / run.updates))


# Results


def read_results(results: Path, fresh: bool = False) -> dict[str, Record]:
    """Read the last record of each run, by `Run.key`.

    Args:
        results: JSON Lines file. It may be missing.
        fresh: Only return records of the current commit, and none if tracked files are modified.
    """
    if not results.exists():
        return {}
    commit = environment_info()["commit"]
    records: dict[str, Record] = {}
    for line in results.read_text().splitlines():
        record = json.loads(line)
        stale = record["environment"]["commit"] != commit or commit.endswith("+")
        if not (fresh and stale):
            records[json.dumps(record["settings"])] = record
    return records


def results_table(records: Sequence[Record]) -> str:
    """Format mean and standard deviation over seeds for each estimator and method."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        settings = record["settings"]
        groups.setdefault((settings["estimator"], settings["method"]), []).append(record)
    scores = [record["tests"] for record in records]
    columns = [
        (test, name)
        for test, names in _METRICS.items()
        for name in names
        if any(name in tests.get(test, {}) for tests in scores)
    ]
    head = ["estimator", "method", *(" ".join(column) for column in columns)]
    head += ["cross / random's", "s, CPU", "s", "seeds"]
    rows = []
    for (estimator, method), group in groups.items():
        row = [estimator, method]
        for test, name in columns:
            row.append(mean_std(r["tests"].get(test, {}).get(name) for r in group))
        control = groups.get((estimator, "random" + method[len(method.split()[0]) :]))
        row.append(f"{_cross_mpjpe(group) / _cross_mpjpe(control):.3f}" if control else "")
        row += [mean_std(r["seconds"][clock] for r in group) for clock in ("cpu", "wall")]
        rows.append([*row, str(len(group))])
    return markdown_table(head, rows)


_METRICS = {
    "source": ["MPJPE", "PA-MPJPE", "acceleration"],
    "views": ["MPJPE"],
    "cross": ["MPJPE", "PA-MPJPE", "N-MPJPE", "bone lengths", "PCK", "AUC", "acceleration"],
    "cross det": ["MPJPE", "PA-MPJPE", "N-MPJPE", "bone lengths", "PCK", "AUC", "acceleration"],
    "studio": ["MPJPE", "PA-MPJPE"],
    "target": ["MPJPE", "N-MPJPE", "bone lengths"],
}


def _cross_mpjpe(group: Sequence[Record]) -> float:
    return statistics.fmean(record["tests"]["cross"]["MPJPE"] for record in group)


# Command line


def parse_override(text: str) -> tuple[str, Any]:
    """Parse `name=value`. A value that is not a Python literal is a string."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.generalization", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--data", type=Path, help="folder of data files (default: synthetic motion)")
    add("--methods", type=names_among(METHODS), default="plain,random,default", metavar="NAMES|all")
    add(
        "--estimators",
        type=names_among(ESTIMATORS),
        default=",".join(SINGLE_FRAME),
        metavar="NAMES|all",
        help="lifters (default: those of single frames)",
    )
    add(
        "--subjects",
        type=names_among(TRAIN),
        default="all",
        metavar="NAMES|all",
        help="training subjects",
    )
    add("--detections", default="gt", help="2D poses of the source: gt or det")
    add("--seeds", type=comma_separated(int), default="0,1,2")
    add(
        "--set",
        type=parse_override,
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="config fields",
    )
    add(
        "--validate",
        choices=VALIDATION,
        nargs="?",
        const="actions",
        help="test on a validation split, which holds out a subject and the rarest actions "
        "(default), or a subject alone",
    )
    add("--oracle", action="store_true", help="also train on data like the tests; needs --validate")
    add("--budget", choices=BUDGETS, default="full", help=f"number of updates: {BUDGETS}")
    add("--updates", type=int, help="number of updates (default: of the budget)")
    add("--batch-size", type=int, default=512, help="rows per update")
    add("--peak", type=float, help="peak learning rate (default: the estimator's)")
    add("--jobs", type=int, default=1, help="parallel runs")
    add("--fresh", action="store_true", help="repeat runs of other commits or of modified files")
    add("--results", type=Path, metavar="FILE", default=Path("out/generalization.jsonl"))
    add("--json", type=Path, metavar="FILE", help="write all runs and the command")
    add("--markdown", type=Path, metavar="FILE", help="write the table")
    add(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="plot diversity for the first seed and estimator",
    )
    args = parser.parse_args(argv)
    if args.oracle and not args.validate:
        parser.error("--oracle needs --validate: training on the test data is not allowed")
    if args.pictures and args.estimators[0] not in SINGLE_FRAME:
        parser.error("--pictures shows single frames: begin --estimators with one of them")
    return args


def main(argv: list[str] | None = None) -> list[Record]:
    args, console = arguments(argv), Console()
    runs = make_runs(args)
    found = read_results(args.results, args.fresh)
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
    found = read_results(args.results)
    records = [found[run.key] for run in runs]
    table = results_table(records)
    numbers: Record = {}
    if args.pictures:
        first = runs[0]
        same = [r for r in runs if (r.seed, r.estimator) == (first.seed, first.estimator)]
        numbers = plot_diversity([run for run in same if run.config], args.pictures, console)
        table += "\n\n" + diversity.results_table(numbers)
    console.print(table, soft_wrap=True, highlight=False)
    if args.markdown:
        args.markdown.parent.mkdir(parents=True, exist_ok=True)
        args.markdown.write_text(table + "\n")
    if args.json:
        command = shlex.join(["python", "-m", "benchmarks.generalization", *(argv or sys.argv[1:])])
        args.json.parent.mkdir(parents=True, exist_ok=True)
        content = {"command": command, **environment_info(), "runs": records, "pictures": numbers}
        args.json.write_text(json.dumps(content, indent=2))
    return records
