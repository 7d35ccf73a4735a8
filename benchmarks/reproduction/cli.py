"""The four experiments of the PoseAug paper, on public files or on synthetic motion.

    python -m benchmarks.reproduction q1 --data FOLDER    # in-domain and cross-dataset errors
    python -m benchmarks.reproduction q2 --data FOLDER    # diversity of augmented poses
    python -m benchmarks.reproduction q3 --data FOLDER    # detected 2D, few training subjects
    python -m benchmarks.reproduction q4 --data FOLDER    # ablations

The protocol is documented in `protocol`. Finished runs are stored in `--out`, shared by all
experiments and not repeated. Interrupted runs are resumed.
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

from poseaug_plugin.data import FILE_SOURCES, TRAIN, Pairs, keypoint_file

from ..environment import environment_info
from ..options import comma_separated, names_among
from ..parallel import OnProgress, log_to_file, run_parallel
from ..pose_diversity import coverage, plot_all, sample_pairs
from ..tables import markdown_table
from .protocol import BUDGETS, SAMPLE, Run, Setup, pretrain, train
from .published_lifters import ESTIMATORS
from .questions import (
    ABLATIONS,
    PRESETS,
    QUESTIONS,
    Labels,
    Record,
    Request,
    format_report,
    grid,
)

# Runs


def execute_missing(
    runs: Sequence[Run], args: argparse.Namespace, console: Console
) -> dict[str, Record]:
    """Execute the runs that are not in the file of results. Returns all records by key."""
    results = args.out / "results.jsonl"
    found = read_results(results)
    todo = list({run.key: run for run in runs if run.key not in found}.values())
    console.print(f"{len({run.key for run in runs})} runs, {len(todo)} to execute")
    setups = list(dict.fromkeys(run.setup for run in todo))
    execute = functools.partial(
        run_parallel, out=args.out, device=args.device, jobs=args.jobs, console=console
    )
    with results.open("a") as file, log_to_file(args.out):
        for _ in execute(_pretrain, setups, "pre-training"):
            pass
        for record in execute(_train, todo, "second phase"):
            file.write(json.dumps(record) + "\n")
            file.flush()
    return read_results(results)


def read_results(results: Path) -> dict[str, Record]:
    """Read the last record of each run, by `Run.key`."""
    lines = results.read_text().splitlines() if results.exists() else []
    records = (json.loads(line) for line in lines)
    return {json.dumps(record["settings"]): record for record in records}


def _pretrain(setup: Setup, out: Path, device: str, on_progress: OnProgress) -> None:
    pretrain(setup, out, device, on_progress)


def _train(run: Run, out: Path, device: str, on_progress: OnProgress) -> Record:
    return {**train(run, out, device, on_progress), "environment": environment_info()}


# Plots


def plot_diversity(cells: dict[Labels, list[Run]], out: Path, folder: Path) -> Record:
    """Plot augmented poses of each method for the first estimator and seed."""
    first = next(iter(cells))[:-1]
    augmented = {
        method: runs[0]
        for (*setting, method), runs in cells.items()
        if runs[0].config and tuple(setting) == first
    }
    data = next(iter(augmented.values())).setup.load_datasets()
    test = next((name for name in data.tests if name != "source"), "source")
    files = {method: out / "runs" / f"{run.name}.pt" for method, run in augmented.items()}
    poses = {
        "source": sample_pairs(data.train, SAMPLE, 0),
        **{method: _augmented_pairs(file) for method, file in files.items()},
        "cross": sample_pairs(data.tests[test], SAMPLE, 0),
    }
    plot_all(poses, folder)
    return {"test": test, "coverage": coverage(poses)}


def _augmented_pairs(file: Path) -> Pairs:
    saved = torch.load(file, map_location="cpu", weights_only=True)["augmented"]
    unknown = np.full(len(saved["pose_2d"]), "")
    return Pairs(saved["pose_2d"], saved["pose_3d"], saved["camera"], unknown, unknown)


def coverage_table(numbers: Record, pictures: Path) -> str:
    """Format the distances from the cross-dataset poses to each set."""
    head = ["poses", "nearest, mm", "nearer than source, %", "posture alone, mm", "nearer, %"]
    rows = numbers["coverage"].items()
    table = markdown_table(
        head, ([name, *(f"{x:.1f}" for x in row.values())] for name, row in rows)
    )
    plots = ", ".join(sorted(file.name for file in pictures.glob("*.png")))
    return (
        f"Mean distance from each pose of the test set `{numbers['test']}` to its nearest pose of "
        "each set, for the first seed: in the camera frame, and in the body frame (posture alone). "
        f"Plots in `{pictures.name}`: {plots}.\n\n{table}"
    )


# Command line


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reproduction", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    titles = "; ".join(f"{name}: {question.title}" for name, question in QUESTIONS.items())
    add("question", choices=QUESTIONS, help=titles)
    add("--data", type=Path, help="folder of data files (default: synthetic motion)")
    add(
        "--out",
        type=Path,
        default=Path("out/reproduce"),
        help="folder of results, weights, tables and log",
    )
    add("--budget", choices=BUDGETS, default="small", help="size and length of training")
    add("--epochs", type=int, help="epochs of the second phase, 2 of warm-up included")
    add("--pretrain", type=int, help="epochs of pre-training")
    add("--batch-size", type=int, help="rows per update")
    add("--fraction", type=float, help="share of the training rows")
    add("--estimators", type=names_among(list(ESTIMATORS)), metavar="NAMES|all")
    add("--methods", type=names_among([*PRESETS, *ABLATIONS]), metavar="NAMES|all")
    add("--base", choices=PRESETS[1:], default="released", help="preset that q4's ablations change")
    add("--keypoints", type=comma_separated(str), help="gt,cpn,detectron,hr, ...")
    add("--subjects", type=names_among(TRAIN), nargs="+", help="training subjects: S1 S1,S5 all")
    add("--seeds", type=comma_separated(int), default=(0,))
    add("--best-on-test", action="store_true", help="also report the best epoch by test error")
    add("--jobs", type=int, default=1, help="parallel runs")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args(argv)


def make_request(args: argparse.Namespace) -> Request:
    """The grid of the command line, with defaults of the experiment."""
    question = QUESTIONS[args.question]
    lengths = ("epochs", "pretrain", "batch_size", "fraction")
    given = {name: getattr(args, name) for name in lengths if getattr(args, name) is not None}
    return Request(
        question=args.question,
        data=args.data,
        budget=replace(BUDGETS[args.budget], **given),
        estimators=args.estimators or question.estimators,
        methods=args.methods or question.methods,
        keypoints=args.keypoints or question.keypoints,
        subjects=tuple(args.subjects or question.subjects),
        seeds=args.seeds,
        base=args.base,
        best=args.best_on_test,
    )


def drop_missing_keypoints(request: Request) -> tuple[Request, dict[str, str]]:
    """Keep only available kinds of 2D. Also returns where to get the others.

    Raises:
        FileNotFoundError: No requested kind is available.
    """
    absent = {}
    for kind in request.keypoints:
        file = keypoint_file(kind)
        if request.data is None and kind != "gt":
            absent[f"2D {kind}"] = "synthetic motion has exact 2D only"
        elif request.data is not None and not (request.data / file).is_file():
            absent[f"2D {kind}"] = f"no {file} ({FILE_SOURCES.get(file, 'not a published file')})"
    available = tuple(kind for kind in request.keypoints if f"2D {kind}" not in absent)
    if not available:
        raise FileNotFoundError("; ".join(absent.values()))
    return replace(request, keypoints=available), absent


def main(argv: list[str] | None = None) -> Record:
    args, console = arguments(argv), Console()
    torch.set_num_threads(1)  # steps are too small to benefit from more
    args.out.mkdir(parents=True, exist_ok=True)
    request, absent = drop_missing_keypoints(make_request(args))
    for name, source in absent.items():
        console.print(f"skipped: {name}: {source}")
    cells = grid(request)
    found = execute_missing([run for runs in cells.values() for run in runs], args, console)
    records = {labels: [found[run.key] for run in runs] for labels, runs in cells.items()}
    text, numbers = format_report(request, records, absent), {}
    if args.question == "q2":
        pictures = args.out / "q2"
        numbers = plot_diversity(cells, args.out, pictures)
        text += "\n" + coverage_table(numbers, pictures) + "\n"
    command = shlex.join(["python", "-m", "benchmarks.reproduction", *(argv or sys.argv[1:])])
    content = {
        "command": command.replace(str(args.data), "FOLDER"),
        "environment": environment_info(),
        "absent": absent,
        "runs": [{"labels": labels, **r} for labels, group in records.items() for r in group],
        **numbers,
    }
    (args.out / f"{args.question}.md").write_text(text)
    (args.out / f"{args.question}.json").write_text(json.dumps(content, indent=2))
    console.print(text, soft_wrap=True, highlight=False)
    return content
