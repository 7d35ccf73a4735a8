"""Estimators trained with and without the plugin, tested where they were not trained.

python -m benchmarks.generalization                              # embedded motion
python -m benchmarks.generalization --data FOLDER --jobs 2       # the field's files
python -m benchmarks.generalization --data FOLDER --validate --set bend=0.4   # to choose by

Every recipe gets the same number of estimator updates, of the same rows; the last weights are
tested once. Finished runs are kept in `--results` and not run again.
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

from poseaug_plugin.data.h36m import TRAIN

from ..environment import circumstances, markdown, spread
from ..parallel import Tick, progress, several, work
from . import diversity
from .runs import ESTIMATORS, ORACLE, RECIPES, Run, compete

BUDGETS = {"small": 400, "full": 1500}  # updates
Record = dict[str, Any]


# What to run


def runs(args: argparse.Namespace) -> list[Run]:
    """The matrix that the command line asks for, a seed of everything before the next."""
    return [
        Run(
            estimator=estimator,
            recipe=label,
            config=config and config.but(seed=seed),
            data=args.data and str(args.data.resolve()),
            detections=args.detections,
            subjects=tuple(args.subjects),
            validate=args.validate,
            seed=seed,
            updates=args.updates or BUDGETS[args.budget],
            batch_size=args.batch_size,
        )
        for seed in args.seeds
        for estimator in args.estimators
        for label, config in [
            *recipes(args.recipes, dict(args.set)).items(),
            *[(ORACLE, None)] * args.oracle,
        ]
    ]


def recipes(names: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Label and config of each recipe, with `--set` applied to all that have a config."""
    suffix = "".join(f" {name}={value}" for name, value in overrides.items())
    configs = {name: RECIPES[name] for name in names}
    return {
        name + suffix * (config is not None): config and config.but(**overrides)
        for name, config in configs.items()
    }


# Running


def looked_at(chosen: Sequence[Run], folder: Path, console: Console) -> Record:
    """Pictures and numbers of how varied and how hard the first runs' augmented poses are."""
    torch.set_num_threads(1)
    with progress(console) as bar:
        task = bar.add_task("updates, for the pictures", total=sum(run.updates for run in chosen))
        return diversity.look_closely(chosen, folder, lambda: bar.advance(task))


def _compete(run: Run, out: Path, device: str, tick: Tick) -> Record:
    return compete(run, lambda: tick(1 / run.updates))


# Results


def read(results: Path, fresh: bool = False) -> dict[str, Record]:
    """The last record of each run in the file of results, by `Run.key`.

    Args:
        fresh: only of the present commit, and none where files differ from it.
    """
    if not results.exists():
        return {}
    commit = circumstances()["commit"]
    records: dict[str, Record] = {}
    for line in results.read_text().splitlines():
        record = json.loads(line)
        stale = record["circumstances"]["commit"] != commit or commit.endswith("+")
        if not (fresh and stale):
            records[json.dumps(record["settings"])] = record
    return records


def table(records: Sequence[Record]) -> str:
    """Recipe by estimator, mean and standard deviation over seeds, as Markdown."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        settings = record["settings"]
        groups.setdefault((settings["estimator"], settings["recipe"]), []).append(record)
    tests = list(records[0]["tests"]) if records else []
    head = ["estimator", "recipe", *(f"{test} {name}" for test in tests for name in _SHOWN[test])]
    head += ["cross / random's", "s, CPU", "s", "seeds"]
    rows = []
    for (estimator, recipe), group in groups.items():
        row = [estimator, recipe]
        for test in tests:
            row += [spread(r["tests"][test][name] for r in group) for name in _SHOWN[test]]
        control = groups.get((estimator, "random" + recipe[len(recipe.split()[0]) :]))
        row.append(f"{_cross(group) / _cross(control):.3f}" if control else "")
        row += [spread(r["seconds"][clock] for r in group) for clock in ("cpu", "wall")]
        rows.append([*row, str(len(group))])
    return markdown(head, rows)


_SHOWN = {
    "source": ["MPJPE", "PA-MPJPE"],
    "views": ["MPJPE"],
    "studio": ["MPJPE", "PA-MPJPE"],
    "cross": ["MPJPE", "PA-MPJPE", "PCK", "AUC"],
}


def _cross(group: Sequence[Record]) -> float:
    return statistics.fmean(record["tests"]["cross"]["MPJPE"] for record in group)


# Command line


def override(text: str) -> tuple[str, Any]:
    """`name=value` for `--set`; a value that is no Python literal is a word."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, help="folder of the field's files; embedded if absent")
    add("--recipes", type=several(RECIPES), default="plain,random,default", metavar="NAMES|all")
    add("--estimators", type=several(ESTIMATORS), default="all", metavar="NAMES|all")
    add("--subjects", type=several(TRAIN), default="all", metavar="NAMES|all", help="trained on")
    add("--detections", default="gt", help="the source's 2D, as its file is named: gt, det")
    add("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default="0,1,2")
    add("--set", type=override, nargs="+", default=[], metavar="NAME=VALUE", help="of the config")
    add("--validate", action="store_true", help="test on a part of the training set, to choose by")
    add("--oracle", action="store_true", help="with --validate: also train on what its tests hold")
    add("--budget", choices=BUDGETS, default="full", help="updates: " + str(BUDGETS))
    add("--updates", type=int, help="of the estimator, instead of the budget's")
    add("--batch-size", type=int, default=512, help="rows of an update")
    add("--jobs", type=int, default=1, help="runs side by side")
    add("--fresh", action="store_true", help="repeat runs of another commit, or of changed files")
    add("--results", type=Path, metavar="FILE", default=Path("out/generalization.jsonl"))
    add("--json", type=Path, metavar="FILE", help="write all runs and how to repeat them")
    add("--markdown", type=Path, metavar="FILE", help="write the table")
    add("--pictures", type=Path, metavar="FOLDER", help="train the first seed and estimator again")
    args = parser.parse_args(argv)
    if args.oracle and not args.validate:
        parser.error("--oracle needs --validate: what the tests themselves hold is not trained on")
    return args


def main(argv: list[str] | None = None) -> list[Record]:
    args, console = arguments(argv), Console()
    wanted = runs(args)
    found = read(args.results, args.fresh)
    todo = [run for run in wanted if run.key not in found]
    console.print(f"{len(wanted)} runs, {len(todo)} of them to do")
    args.results.parent.mkdir(parents=True, exist_ok=True)
    with args.results.open("a") as file:
        folder = args.results.parent
        for record in work(
            _compete, todo, "runs", folder, device="cpu", jobs=args.jobs, console=console
        ):
            file.write(json.dumps(record) + "\n")
            file.flush()
    found = read(args.results)
    records = [found[run.key] for run in wanted]
    made = table(records)
    numbers: Record = {}
    if args.pictures:
        first = wanted[0]
        same = [r for r in wanted if (r.seed, r.estimator) == (first.seed, first.estimator)]
        numbers = looked_at([run for run in same if run.config], args.pictures, console)
        made += "\n\n" + diversity.table(numbers)
    console.print(made, soft_wrap=True, highlight=False)
    if args.markdown:
        args.markdown.parent.mkdir(parents=True, exist_ok=True)
        args.markdown.write_text(made + "\n")
    if args.json:
        command = shlex.join(["python", "-m", "benchmarks.generalization", *(argv or sys.argv[1:])])
        args.json.parent.mkdir(parents=True, exist_ok=True)
        told = {"command": command, **circumstances(), "runs": records, "pictures": numbers}
        args.json.write_text(json.dumps(told, indent=2))
    return records
