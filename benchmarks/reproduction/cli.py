"""The paper's four questions, one command each, on the field's files or on embedded motion.

    python -m benchmarks.reproduction q1 --data FOLDER    # estimators at home and on unseen data
    python -m benchmarks.reproduction q2 --data FOLDER    # how varied the augmented poses are
    python -m benchmarks.reproduction q3 --data FOLDER    # detected 2D, few people to train on
    python -m benchmarks.reproduction q4 --data FOLDER    # ablations

The protocol is in `protocol`. Finished runs are kept in `--out` and not run again, also not by
another question; interrupted ones go on where they were.
"""

from __future__ import annotations

import argparse
import functools
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from poseaug_plugin.data.h36m import OFFERS, TRAIN, Pairs, keypoint_name

from .. import pose_diversity as variety
from ..environment import circumstances, markdown
from ..parallel import Tick, logged, several, work
from .protocol import BUDGETS, SAMPLE, Run, Setup, pretrain, train
from .published_lifters import ESTIMATORS
from .questions import ABLATIONS, PRESETS, QUESTIONS, Asked, Labels, Record, grid, told

# Running


def answered(runs: Sequence[Run], args: argparse.Namespace, console: Console) -> dict[str, Record]:
    """The record of each run by its key; what the file of results lacks is run first."""
    results = args.out / "results.jsonl"
    found = read(results)
    todo = list({run.key: run for run in runs if run.key not in found}.values())
    console.print(f"{len({run.key for run in runs})} runs, {len(todo)} of them to do")
    setups = list(dict.fromkeys(run.setup for run in todo))
    run = functools.partial(work, out=args.out, device=args.device, jobs=args.jobs, console=console)
    with results.open("a") as file, logged(args.out):
        for _ in run(_pretrain, setups, "pre-training"):
            pass
        for record in run(_train, todo, "second phase"):
            file.write(json.dumps(record) + "\n")
            file.flush()
    return read(results)


def read(results: Path) -> dict[str, Record]:
    """The last record of each run in the file of results, by `Run.key`."""
    lines = results.read_text().splitlines() if results.exists() else []
    records = (json.loads(line) for line in lines)
    return {json.dumps(record["settings"]): record for record in records}


def _pretrain(setup: Setup, out: Path, device: str, tick: Tick) -> None:
    pretrain(setup, out, device, tick)


def _train(run: Run, out: Path, device: str, tick: Tick) -> Record:
    return {**train(run, out, device, tick), "circumstances": circumstances()}


# Pictures


def looked_at(cells: dict[Labels, list[Run]], out: Path, folder: Path) -> Record:
    """Draw what each recipe of the first estimator and seed makes of a sample of rows."""
    first = next(iter(cells))[:-1]
    augmented = {
        recipe: runs[0]
        for (*where, recipe), runs in cells.items()
        if runs[0].config and tuple(where) == first
    }
    data = next(iter(augmented.values())).setup.sets()
    away = next((name for name in data.tests if name != "source"), "source")
    made = {recipe: _made(out / "runs" / f"{run.name}.pt") for recipe, run in augmented.items()}
    poses = {
        "source": variety.some(data.train, SAMPLE, 0),
        **made,
        "cross": variety.some(data.tests[away], SAMPLE, 0),
    }
    variety.draw(poses, folder)
    return {"test": away, "coverage": variety.coverage(poses)}


def _made(file: Path) -> Pairs:
    made = torch.load(file, map_location="cpu", weights_only=True)["made"]
    nobody = np.full(len(made["pose_2d"]), "")
    return Pairs(made["pose_2d"], made["pose_3d"], made["camera"], nobody, nobody)


def coverage_table(numbers: Record, pictures: Path) -> str:
    """How near the poses of the cross-dataset test each set comes."""
    head = ["poses", "nearest, mm", "nearer than source, %", "posture alone, mm", "nearer, %"]
    rows = numbers["coverage"].items()
    table = markdown(head, ([name, *(f"{x:.1f}" for x in row.values())] for name, row in rows))
    drawn = ", ".join(sorted(file.name for file in pictures.glob("*.png")))
    return (
        f"From each pose of the test `{numbers['test']}` to the nearest of as many others, of the "
        "first seed: as the camera sees it, and with everybody turned to face the same way. "
        f"Pictures in `{pictures.name}`: {drawn}.\n\n{table}"
    )


# Command line


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    titles = "; ".join(f"{name}: {question.title}" for name, question in QUESTIONS.items())
    add("question", choices=QUESTIONS, help=titles)
    add("--data", type=Path, help="folder of the field's files; embedded if absent")
    add("--out", type=Path, default=Path("out/reproduce"), help="results, weights, tables, log")
    add("--budget", choices=BUDGETS, default="small", help="sizes and lengths of all that follows")
    add("--epochs", type=int, help="of the second phase, its warm-up of 2 included")
    add("--pretrain", type=int, help="epochs of the first phase")
    add("--batch-size", type=int, help="rows of an update")
    add("--fraction", type=float, help="of the training rows")
    add("--estimators", type=several(list(ESTIMATORS)), metavar="NAMES|all")
    add("--recipes", type=several([*PRESETS, *ABLATIONS]), metavar="NAMES|all")
    add("--base", choices=PRESETS[1:], default="released", help="what q4's ablations change")
    add("--keypoints", type=lambda text: tuple(text.split(",")), help="gt,cpn,detectron,hr, ...")
    add("--subjects", type=several(TRAIN), nargs="+", help="trained on: S1 S1,S5 all")
    add("--seeds", type=lambda text: tuple(map(int, text.split(","))), default=(0,))
    add("--best-on-test", action="store_true", help="also as published: best epoch by test error")
    add("--jobs", type=int, default=1, help="runs side by side")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args(argv)


def asked(args: argparse.Namespace) -> Asked:
    """The question's own grid where the command line does not say otherwise."""
    question = QUESTIONS[args.question]
    lengths = ("epochs", "pretrain", "batch_size", "fraction")
    given = {name: getattr(args, name) for name in lengths if getattr(args, name) is not None}
    return Asked(
        question=args.question,
        data=args.data,
        budget=replace(BUDGETS[args.budget], **given),
        estimators=args.estimators or question.estimators,
        recipes=args.recipes or question.recipes,
        keypoints=args.keypoints or question.keypoints,
        subjects=tuple(args.subjects or question.subjects),
        seeds=args.seeds,
        base=args.base,
        best=args.best_on_test,
    )


def without_absent(wanted: Asked) -> tuple[Asked, dict[str, str]]:
    """Only the kinds of 2D that are there, and how to get the others.

    Raises:
        FileNotFoundError: none is there.
    """
    absent = {}
    for kind in wanted.keypoints:
        file = keypoint_name(kind)
        if wanted.data is None and kind != "gt":
            absent[f"2D {kind}"] = "the embedded motion has exact 2D alone"
        elif wanted.data is not None and not (wanted.data / file).is_file():
            absent[f"2D {kind}"] = f"no {file} ({OFFERS.get(file, 'not a published file')})"
    there = tuple(kind for kind in wanted.keypoints if f"2D {kind}" not in absent)
    if not there:
        raise FileNotFoundError("; ".join(absent.values()))
    return replace(wanted, keypoints=there), absent


def main(argv: list[str] | None = None) -> Record:
    args, console = arguments(argv), Console()
    torch.set_num_threads(1)  # steps are too small to share
    args.out.mkdir(parents=True, exist_ok=True)
    wanted, absent = without_absent(asked(args))
    for name, how in absent.items():
        console.print(f"skipped: {name}: {how}")
    cells = grid(wanted)
    found = answered([run for runs in cells.values() for run in runs], args, console)
    records = {labels: [found[run.key] for run in runs] for labels, runs in cells.items()}
    text, numbers = told(wanted, records, absent), {}
    if args.question == "q2":
        pictures = args.out / "q2"
        numbers = looked_at(cells, args.out, pictures)
        text += "\n" + coverage_table(numbers, pictures) + "\n"
    command = shlex.join(["python", "-m", "benchmarks.reproduction", *(argv or sys.argv[1:])])
    answer = {
        "command": command.replace(str(args.data), "FOLDER"),
        "circumstances": circumstances(),
        "absent": absent,
        "runs": [{"labels": labels, **r} for labels, group in records.items() for r in group],
        **numbers,
    }
    (args.out / f"{args.question}.md").write_text(text)
    (args.out / f"{args.question}.json").write_text(json.dumps(answer, indent=2))
    console.print(text, soft_wrap=True, highlight=False)
    return answer
