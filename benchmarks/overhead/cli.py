"""What the plugin costs: beside a plain training loop, part by part, and beside the published code.

python -m benchmarks.overhead                              # loops, loaders, memory, imports
python -m benchmarks.overhead --parts --profile --growth   # these instead
python -m benchmarks.overhead --published FOLDER           # a checkout of the published code

Everything that is compared is timed in one run, block by block in turn, in steady state: feedback
counts from the start (warmup=0) and the discriminators' pools are full.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from ..environment import circumstances, markdown
from ..timing import Spread
from .loops import MODELS
from .sections import BASIC, SECTIONS, Row


def cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Head and body of a table."""
    head = [name for name, value in rows[0].items() if not isinstance(value, list)]
    return head, [[text(row[name]) for name in head] for row in rows]


def text(value: object) -> str:
    if isinstance(value, Spread):
        return f"{text(value.middle)} ({text(value.low)} to {text(value.high)})"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def shown(title: str, rows: Sequence[Row]) -> Table:
    head, body = cells(rows)
    table = Table(*head, title=title)
    for column, value in zip(table.columns, rows[0].values()):
        column.justify = "left" if isinstance(value, str) else "right"
    for line in body:
        table.add_row(*line)
    return table


def kept(
    args: argparse.Namespace, results: Mapping[str, Sequence[Row]], sections: Mapping[str, object]
) -> dict[str, Any]:
    """All that was found and how, written where `--json` and `--markdown` say.

    Args:
        sections: whose docstrings stand above the tables.
    """
    settings = {name: str(value) for name, value in vars(args).items()}
    found = {"arguments": settings, "circumstances": circumstances(), **results}
    if args.json:
        args.json.write_text(json.dumps(found, indent=2))
    if args.markdown:
        pages = (
            f"### {name}\n\n{sections[name].__doc__}\n\n{markdown(*cells(rows))}\n"
            for name, rows in results.items()
        )
        args.markdown.write_text("\n".join(pages))
    return found


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, section in SECTIONS.items():
        kind: dict[str, Any] = {"action": "store_true"}
        if name == "published":
            kind = {"type": Path, "metavar": "FOLDER"}
        parser.add_argument(f"--{name}", help=section.__doc__, **kind)
    names, gpu = partial(str.split, sep=","), torch.cuda.is_available()
    parser.add_argument("--device", type=names, default=["cpu", *["cuda"] * gpu])
    parser.add_argument("--models", type=names, default=list(MODELS), help=",".join(MODELS))
    parser.add_argument("--batches", type=numbers, default=[256, 1024, 4096])
    presets = ["random", "default", "residual", "released"]
    parser.add_argument("--recipes", type=names, default=presets)
    parser.add_argument("--rounds", type=int, default=9, help="of blocks, beside one to warm up")
    parser.add_argument("--sizes", type=int, help="of growth, the first so many of an axis")
    parser.add_argument("--threads", type=int, default=1, help="more are no faster if shared")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="folder of the field's files; embedded if absent")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables")
    return parser.parse_args(argv)


def numbers(listed: str) -> list[int]:
    return [int(number) for number in listed.split(",")]


def main(argv: list[str] | None = None) -> dict[str, Any]:
    args, console = arguments(argv), Console()
    torch.set_num_threads(args.threads)
    chosen = [name for name in SECTIONS if getattr(args, name)] or BASIC
    results: dict[str, list[Row]] = {}
    for name in chosen:
        results[name] = list(SECTIONS[name](args))
        console.print(shown(name, results[name]))
    return kept(args, results, SECTIONS)
