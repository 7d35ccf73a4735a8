"""The paper's four questions: which runs answer each, and how their numbers are told.

Every question is a grid of estimators, kinds of 2D, training subjects, recipes and seeds.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from poseaug_plugin import PoseAugConfig
from poseaug_plugin.data.h36m import KEYPOINTS, TRAIN

from ..environment import markdown, spread
from .protocol import BEST, WARMUP, Budget, Run, Setup

__all__ = ["ABLATIONS", "PRESETS", "QUESTIONS", "Asked", "Question", "grid", "told"]

Record = dict[str, Any]
Labels = tuple[str, ...]  # estimator, 2D, subjects, recipe

PUBLISHED = ("mlp", "semgcn", "stgcn", "videopose")
PRESETS = ("plain", "released", "paper", "default", "random")
HEAD = ("estimator", "2D", "trained on", "recipe")


def _modules() -> dict[str, dict[str, Any]]:
    """Every sum of bone angles, bone lengths, and rotation with translation."""
    names = ("ba", "bl", "rt")
    sums = (pick for count in (1, 2, 3) for pick in itertools.combinations(names, count))
    return {" + ".join(pick).upper(): {n: n in pick for n in names} for pick in sums}


#: What each ablation changes in the base recipe.
ABLATIONS: dict[str, dict[str, Any]] = {
    **_modules(),
    "D2d and D3d": {},
    "D2d alone": {"adv3d": 0.0},
    "D3d alone": {"adv2d": 0.0},
    "no discriminator": {"adv2d": 0.0, "adv3d": 0.0},
    "part-aware KCS": {"kcs": "parts"},
    "whole-body KCS": {"kcs": "whole"},
    "no KCS": {"adv3d": 0.0},  # D3d sees nothing else, so this is D2d alone
    "feedback off": {"feedback": "off"},
    "feedback range": {"feedback": "range"},
    "feedback exp": {"feedback": "exp"},
    "with its traps": {"traps": True},
    "in passes": {"mix": "passes"},
    **{f"beta {b:g}": {"feedback": "exp", "beta": (b, b)} for b in (1.0, 1.5, 2.0, 3.0, 6.0)},
}


@dataclass(frozen=True)
class Question:
    """What a question compares; the command line may ask for less."""

    title: str
    estimators: tuple[str, ...] = ("mlp",)
    recipes: tuple[str, ...] = PRESETS
    keypoints: tuple[str, ...] = ("gt",)
    subjects: tuple[tuple[str, ...], ...] = (TRAIN,)
    metrics: tuple[str, ...] = ("MPJPE", "PA-MPJPE")


QUESTIONS = {
    "q1": Question(
        "How far off are estimators at home and on data that they never saw?",
        estimators=PUBLISHED,
        metrics=("MPJPE", "PA-MPJPE", "PCK", "AUC"),
    ),
    "q2": Question("How varied are the augmented poses?", recipes=PRESETS[1:]),
    "q3": Question(
        "Does it help with detected 2D, and with few people to train on?",
        estimators=PUBLISHED,
        recipes=("plain", "released"),
        keypoints=tuple(KEYPOINTS),
        subjects=(("S1",), ("S1", "S5"), TRAIN),
    ),
    "q4": Question("Which part of it does what?", recipes=("plain", *ABLATIONS)),
}


@dataclass(frozen=True)
class Asked:
    """What the command line asks for.

    Attributes:
        data: the folder of files; None: embedded.
        base: the preset that ablations change.
        best: also report `BEST`.
    """

    question: str
    data: Path | None
    budget: Budget
    estimators: tuple[str, ...]
    recipes: tuple[str, ...]
    keypoints: tuple[str, ...]
    subjects: tuple[tuple[str, ...], ...]
    seeds: tuple[int, ...]
    base: str = "released"
    best: bool = False


def grid(asked: Asked) -> dict[Labels, list[Run]]:
    """The runs of each row of the table, a seed each.

    All kinds of 2D are crossed with the last subjects alone, and all subjects with the first 2D.
    """
    kinds = [(kind, asked.subjects[-1]) for kind in asked.keypoints]
    few = [(asked.keypoints[0], subjects) for subjects in asked.subjects]
    budget = asdict(asked.budget)
    epochs = budget.pop("epochs")
    runs: dict[Labels, list[Run]] = {}
    for estimator in asked.estimators:
        for kind, subjects in dict.fromkeys(kinds + few):
            for recipe, seed in itertools.product(asked.recipes, asked.seeds):
                data = None if asked.data is None else str(asked.data.resolve())
                setup = Setup(estimator, data, kind, subjects, seed, **budget)
                run = Run(setup, _config(recipe, asked.base, seed), epochs, asked.best)
                runs.setdefault((estimator, kind, ",".join(subjects), recipe), []).append(run)
    return runs


def _config(recipe: str, base: str, seed: int) -> PoseAugConfig | None:
    if recipe == "plain":
        return None
    preset = base if recipe in ABLATIONS else recipe
    return PoseAugConfig.of(preset).but(seed=seed, **ABLATIONS.get(recipe, {}))


# Telling

#: MPJPE in mm without and with PoseAug: Human3.6M, and MPI-INF-3DHP never trained on (figure 1).
PAPER = {
    "semgcn": (("44.4", "97.4"), ("41.5", "86.1")),
    "mlp": (("43.3", "85.3"), ("39.4", "76.2")),
    "stgcn": (("41.7", "87.8"), ("36.9", "74.9")),
    "videopose": (("41.8", "86.6"), ("38.2", "73.0 (PCK 88.6, AUC 57.3)")),
}
_AS_IN_PAPER = {"pre-trained": 0, "paper": 1, "released": 1}  # without, with


def told(
    asked: Asked, records: Mapping[Labels, Sequence[Record]], absent: Mapping[str, str]
) -> str:
    """The question, its table, and what the numbers hinge on, as Markdown.

    Args:
        absent: what was asked for and is not there, and how to get it.
    """
    question = QUESTIONS[asked.question]
    everything = [record for group in records.values() for record in group]
    missing = {name: how for record in everything for name, how in record["missing"].items()}
    facts = [
        f"data: {_data(asked, everything)}",
        *(f"not there: {name}: {how}" for name, how in {**missing, **absent}.items()),
        "protocol: " + _PROTOCOL,
        "budget: " + _listed(asdict(asked.budget)),
        "seeds: " + ", ".join(map(str, asked.seeds)),
        *sorted({"ran on: " + _listed(record["circumstances"]) for record in everything}),
    ]
    if asked.question == "q1":
        facts.append(_WHOSE)
    if asked.question == "q4":
        facts.append(f"ablations change the preset `{asked.base}`")
    rows = _rows(records)
    table = _table(rows, question.metrics, reference=asked.question == "q1")
    return "\n".join(
        [f"# {asked.question}: {question.title}", "", table, "", *(f"- {f}" for f in facts), ""]
    )


_PROTOCOL = (
    "pre-trained plain, then trained on by each recipe with equally many updates of the estimator, "
    f"2 x batches x (epochs - {WARMUP}); the last weights, tested once, no flips; MPJPE and "
    "PA-MPJPE in mm, PCK (150 mm) and AUC in percent, mean ± standard deviation over seeds"
)


_WHOSE = (
    "the paper's numbers are of Human3.6M and MPI-INF-3DHP, with and without 50 epochs of PoseAug, "
    "each the best epoch by its test error: on other data, or of the last weights, for reference"
)


def _data(asked: Asked, records: Sequence[Record]) -> str:
    name = "embedded motion" if asked.data is None else f"folder {asked.data.name}"
    sizes = {test: rows for record in records for test, rows in record["rows"].items()}
    sizes.pop("training", None)
    return f"{name}; tests " + ", ".join(f"{test} ({rows} poses)" for test, rows in sizes.items())


def _listed(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items())


def _rows(records: Mapping[Labels, Sequence[Record]]) -> dict[Labels, list[Record]]:
    """With rows of the pre-trained estimators and, where it was asked for, of `BEST`."""
    rows: dict[Labels, list[Record]] = {}
    for (*where, recipe), group in records.items():
        before = [{**r, "tests": r["pretrained"], "updates": 0} for r in group]
        rows.setdefault((*where, "pre-trained"), before)
        rows[(*where, recipe)] = list(group)
        if BEST in group[0]:
            rows[(*where, f"{recipe}, {BEST}")] = [{**r, "tests": r[BEST]} for r in group]
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
            spread(r["tests"].get(t, {}).get(m) for r in group) for t in tests for m in metrics
        ]
        phase = "pretrain" if labels[-1] == "pre-trained" else "train"
        clocks = [spread(r["seconds"][phase][clock] for r in group) for clock in ("wall", "cpu")]
        sizes = [str(first["rows"]["training"]), str(first["updates"])]
        theirs = _theirs(labels) if reference else []
        lines.append([*labels, *scores, *sizes, *clocks, str(len(group)), *theirs])
    return markdown(head, lines, labels=len(HEAD))


def _theirs(labels: Labels) -> list[str]:
    """The paper's numbers, in the rows of what it compares."""
    estimator, kind, subjects, recipe = labels
    comparable = kind == "gt" and subjects == ",".join(TRAIN)
    if not comparable or recipe not in _AS_IN_PAPER or estimator not in PAPER:
        return [""]
    return [" / ".join(PAPER[estimator][_AS_IN_PAPER[recipe]])]
