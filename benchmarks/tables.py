"""Tables of results, on the console and in Markdown, and files that hold all results."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from .environment import environment_info
from .timing import Quartiles

__all__ = ["Row", "console_table", "format_value", "markdown_table", "mean_std", "save_results"]

Row = dict[str, Any]  # column: value; lists are only written to the JSON file


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], labels: int = 1) -> str:
    """Format a Markdown table.

    Args:
        head: Column titles.
        rows: Cells of each row.
        labels: Number of left-aligned columns. The others are right-aligned.
    """
    rules = [*["---"] * labels, *["---:"] * (len(head) - labels)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rules, *rows])


def mean_std(values: Iterable[float | None]) -> str:
    """Format the mean and, for several values, the standard deviation. None is ignored."""
    numbers = [value for value in values if value is not None]
    if not numbers:
        return ""
    mean = f"{statistics.fmean(numbers):.1f}"
    return mean + (f" ± {statistics.stdev(numbers):.1f}" if len(numbers) > 1 else "")


def format_value(value: object) -> str:
    """Format a number with three digits, and quartiles as median (lower to upper)."""
    if isinstance(value, Quartiles):
        lower, median, upper = map(format_value, value)
        return f"{median} ({lower} to {upper})"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def format_rows(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Column titles and cells of a table. Columns that hold lists are left out."""
    head = [name for name, value in rows[0].items() if not isinstance(value, list)]
    return head, [[format_value(row[name]) for name in head] for row in rows]


def console_table(title: str, rows: Sequence[Row]) -> Table:
    head, cells = format_rows(rows)
    table = Table(*head, title=title)
    for column, value in zip(table.columns, rows[0].values()):
        column.justify = "left" if isinstance(value, str) else "right"
    for line in cells:
        table.add_row(*line)
    return table


def save_results(
    args: argparse.Namespace, results: Mapping[str, Sequence[Row]], sections: Mapping[str, object]
) -> dict[str, Any]:
    """Write all results to the files given by `--json` and `--markdown`.

    Args:
        args: Parsed command line, with `json` and `markdown`.
        results: Rows of each section.
        sections: Functions of the sections. Their docstrings are printed above the tables.

    Returns:
        The results with arguments and environment, as written to the JSON file.
    """
    arguments = {name: str(value) for name, value in vars(args).items()}
    content = {"arguments": arguments, "environment": environment_info(), **results}
    if args.json:
        args.json.write_text(json.dumps(content, indent=2))
    if args.markdown:
        pages = (
            f"### {name}\n\n{sections[name].__doc__}\n\n{markdown_table(*format_rows(rows))}\n"
            for name, rows in results.items()
        )
        args.markdown.write_text("\n".join(pages))
    return content
