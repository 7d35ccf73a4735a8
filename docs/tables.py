"""Writes the tables of `docs/*.md` that are made from the code: `python docs/tables.py`.

Such a table stands between the lines `<!-- table: NAME ARGUMENTS -->` and `<!-- end of table -->`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

from poseaug_plugin import PoseAugConfig, stats
from poseaug_plugin.config import PRESETS

PAGES = sorted(Path(__file__).resolve().parent.glob("*.md"))


def presets() -> str:
    """The options in which presets differ, as a Markdown table; changes of the default in bold."""
    configs = {name: PoseAugConfig.of(name) for name in PRESETS}
    changed = dict.fromkeys(option for preset in PRESETS.values() for option in preset)
    rows = [["option", *(f"`{name}`" for name in configs)], ["---"] * (1 + len(configs))]
    for option in (f.name for f in dataclasses.fields(PoseAugConfig) if f.name in changed):
        values = [getattr(config, option) for config in configs.values()]
        cells = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in values]
        bold = [c if v == values[0] else f"**{c}**" for c, v in zip(cells, values)]
        rows.append([f"`{option}`", *bold])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


TABLES: dict[str, Callable[..., str]] = {
    "options": PoseAugConfig.table,
    "stats": stats.table,
    "presets": presets,
}


def with_tables(page: str) -> str:
    """Return the text of a page with its tables made anew."""

    def table(match: re.Match[str]) -> str:
        name, argument = match.groups()
        made = TABLES[name](*filter(None, [argument]))
        return f"{match[0].splitlines()[0]}\n\n{made}\n\n<!-- end of table -->"

    pattern = r"<!-- table: (\w+)(?: ([^\n]+?))? -->\n.*?<!-- end of table -->"
    return re.sub(pattern, table, page, flags=re.DOTALL)


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
