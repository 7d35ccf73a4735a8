"""The paper's four experiments: the runs of each, and the report of their numbers.

Every experiment is a grid of estimators, kinds of 2D, training subjects, methods and seeds.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from poseaug_plugin import PoseAugConfig
from poseaug_plugin.data import KEYPOINTS, TRAIN

from ..tables import markdown_table, mean_std
from .protocol import BEST, WARMUP, Budget, Run, Setup

__all__ = ["ABLATIONS", "PRESETS", "QUESTIONS", "Question", "Request", "format_report", "grid"]

Record = dict[str, Any]
Labels = tuple[str, ...]  # estimator, 2D, subjects, method

PUBLISHED = ("mlp", "semgcn", "stgcn", "videopose")
PRESETS = ("plain", "released", "paper", "default", "random")
HEAD = ("estimator", "2D", "trained on", "method")


def _operators() -> dict[str, dict[str, Any]]:
    """All combinations of bone angles, bone lengths, and rotation with translation."""
    names = ("ba", "bl", "rt")
    combinations = (c for size in (1, 2, 3) for c in itertools.combinations(names, size))
    return {" + ".join(c).upper(): {name: name in c for name in names} for c in combinations}


#: Config fields that each ablation changes.
ABLATIONS: dict[str, dict[str, Any]] = {
    **_operators(),
    "D2d and D3d": {},
    "D2d alone": {"adv3d": 0.0},
    "D3d alone": {"adv2d": 0.0},
    "no discriminator": {"adv2d": 0.0, "adv3d": 0.0},
    "part-aware KCS": {"kcs": "parts"},
    "whole-body KCS": {"kcs": "whole"},
    "no KCS": {"adv3d": 0.0},  # D3d has no other input, so this is D2d alone
    "feedback off": {"feedback": "off"},
    "feedback range": {"feedback": "range"},
    "feedback exp": {"feedback": "exp"},
    "released quirks": {"released_quirks": True},
    "separate passes": {"mix": "passes"},
    **{f"beta {b:g}": {"feedback": "exp", "beta": (b, b)} for b in (1.0, 1.5, 2.0, 3.0, 6.0)},
}


@dataclass(frozen=True)
class Question:
    """Default grid of an experiment. The command line can change it."""

    title: str
    estimators: tuple[str, ...] = ("mlp",)
    methods: tuple[str, ...] = PRESETS
    keypoints: tuple[str, ...] = ("gt",)
    subjects: tuple[tuple[str, ...], ...] = (TRAIN,)
    metrics: tuple[str, ...] = ("MPJPE", "PA-MPJPE")


QUESTIONS = {
    "q1": Question(
        "In-domain and cross-dataset errors",
        estimators=PUBLISHED,
        metrics=("MPJPE", "PA-MPJPE", "PCK", "AUC"),
    ),
    "q2": Question("Diversity of the augmented poses", methods=PRESETS[1:]),
    "q3": Question(
        "Detected 2D and few training subjects",
        estimators=PUBLISHED,
        methods=("plain", "released"),
        keypoints=tuple(KEYPOINTS),
        subjects=(("S1",), ("S1", "S5"), TRAIN),
    ),
    "q4": Question("Ablations", methods=("plain", *ABLATIONS)),
}


@dataclass(frozen=True)
class Request:
    """The grid selected on the command line.

    Attributes:
        data: Folder of data files, or None for synthetic motion.
        base: The preset that ablations change.
        best: Also report `BEST`.
    """

    question: str
    data: Path | None
    budget: Budget
    estimators: tuple[str, ...]
    methods: tuple[str, ...]
    keypoints: tuple[str, ...]
    subjects: tuple[tuple[str, ...], ...]
    seeds: tuple[int, ...]
    base: str = "released"
    best: bool = False


def grid(request: Request) -> dict[Labels, list[Run]]:
    """The runs of each row of the table, one per seed.

    All kinds of 2D are combined with the last subjects only, and all subjects with the first 2D.
    """
    kinds = [(kind, request.subjects[-1]) for kind in request.keypoints]
    few = [(request.keypoints[0], subjects) for subjects in request.subjects]
    budget = asdict(request.budget)
    epochs = budget.pop("epochs")
    runs: dict[Labels, list[Run]] = {}
    for estimator in request.estimators:
        for kind, subjects in dict.fromkeys(kinds + few):
            for method, seed in itertools.product(request.methods, request.seeds):
                data = None if request.data is None else str(request.data.resolve())
                setup = Setup(estimator, data, kind, subjects, seed, **budget)
                run = Run(setup, _config(method, request.base, seed), epochs, request.best)
                runs.setdefault((estimator, kind, ",".join(subjects), method), []).append(run)
    return runs


def _config(method: str, base: str, seed: int) -> PoseAugConfig | None:
    if method == "plain":
        return None
    preset = base if method in ABLATIONS else method
    return PoseAugConfig.of(preset).replace(seed=seed, **ABLATIONS.get(method, {}))


# Report

#: MPJPE in mm without and with PoseAug on Human3.6M and, cross-dataset, MPI-INF-3DHP (figure 1).
PAPER = {
    "semgcn": (("44.4", "97.4"), ("41.5", "86.1")),
    "mlp": (("43.3", "85.3"), ("39.4", "76.2")),
    "stgcn": (("41.7", "87.8"), ("36.9", "74.9")),
    "videopose": (("41.8", "86.6"), ("38.2", "73.0 (PCK 88.6, AUC 57.3)")),
}
_PAPER_COLUMN = {"pre-trained": 0, "paper": 1, "released": 1}  # without PoseAug, with it


def format_report(
    request: Request, records: Mapping[Labels, Sequence[Record]], absent: Mapping[str, str]
) -> str:
    """Format the table of an experiment and all_records that its numbers depend on.

    Args:
        request: The selected grid.
        records: Results of each row of the table.
        absent: Requested data that is not available, and where to get it.
    """
    question = QUESTIONS[request.question]
    all_records = [record for group in records.values() for record in group]
    missing = {name: source for record in all_records for name, source in record["missing"].items()}
    facts = [
        f"data: {_data(request, all_records)}",
        *(f"missing: {name}: {source}" for name, source in {**missing, **absent}.items()),
        "protocol: " + _PROTOCOL,
        "budget: " + _format_facts(asdict(request.budget)),
        "seeds: " + ", ".join(map(str, request.seeds)),
        *sorted({"environment: " + _format_facts(record["environment"]) for record in all_records}),
    ]
    if request.question == "q1":
        facts.append(_PAPER_NUMBERS)
    if request.question == "q4":
        facts.append(f"ablations change the preset `{request.base}`")
    rows = _rows(records)
    table = _table(rows, question.metrics, reference=request.question == "q1")
    return "\n".join(
        [f"# {request.question}: {question.title}", "", table, "", *(f"- {f}" for f in facts), ""]
    )


_PROTOCOL = (
    "pre-trained without PoseAug, then trained further with each method for the same number of "
    f"updates, 2 x batches x (epochs - {WARMUP}); the last weights are tested once without flips; "
    "MPJPE and PA-MPJPE in mm, PCK (150 mm) and AUC in percent; mean ± standard deviation of seeds"
)


_PAPER_NUMBERS = (
    "the paper's numbers are for Human3.6M and MPI-INF-3DHP without and with 50 epochs of PoseAug, "
    "each for the best epoch by test error; they do not compare with other data or last weights"
)


def _data(request: Request, records: Sequence[Record]) -> str:
    name = "synthetic motion" if request.data is None else f"folder {request.data.name}"
    sizes = {test: rows for record in records for test, rows in record["rows"].items()}
    sizes.pop("training", None)
    return f"{name}; tests " + ", ".join(f"{test} ({rows} poses)" for test, rows in sizes.items())


def _format_facts(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items())


def _rows(records: Mapping[Labels, Sequence[Record]]) -> dict[Labels, list[Record]]:
    """Add rows of the pre-trained estimators and, if requested, of `BEST`."""
    rows: dict[Labels, list[Record]] = {}
    for (*setting, method), group in records.items():
        before = [{**r, "tests": r["pretrained"], "updates": 0} for r in group]
        rows.setdefault((*setting, "pre-trained"), before)
        rows[(*setting, method)] = list(group)
        if BEST in group[0]:
            rows[(*setting, f"{method}, {BEST}")] = [{**r, "tests": r[BEST]} for r in group]
    return rows


def _table(rows: Mapping[Labels, Sequence[Record]], metrics: Sequence[str], reference: bool) -> str:
    tests = list(dict.fromkeys(t for group in rows.values() for r in group for t in r["tests"]))
    head = [*HEAD, *(f"{test} {metric}" for test in tests for metric in metrics)]
    head += ["rows", "updates, second phase", "s", "s, CPU", "seeds"]
    head += ["the paper's MPJPE, Human3.6M / 3DHP, for reference"] * reference
    lines = []
    for labels, group in rows.items():
        first = group[0]
        scores = [
            mean_std(r["tests"].get(t, {}).get(m) for r in group) for t in tests for m in metrics
        ]
        phase = "pretrain" if labels[-1] == "pre-trained" else "train"
        clocks = [mean_std(r["seconds"][phase][clock] for r in group) for clock in ("wall", "cpu")]
        sizes = [str(first["rows"]["training"]), str(first["updates"])]
        reference_cell = _paper_numbers(labels) if reference else []
        lines.append([*labels, *scores, *sizes, *clocks, str(len(group)), *reference_cell])
    return markdown_table(head, lines, labels=len(HEAD))


def _paper_numbers(labels: Labels) -> list[str]:
    """The paper's numbers in comparable rows, otherwise an empty cell."""
    estimator, kind, subjects, method = labels
    comparable = kind == "gt" and subjects == ",".join(TRAIN)
    if not comparable or method not in _PAPER_COLUMN or estimator not in PAPER:
        return [""]
    return [" / ".join(PAPER[estimator][_PAPER_COLUMN[method]])]
