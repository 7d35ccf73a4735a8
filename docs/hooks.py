"""What MkDocs does beyond its plugins: pages from outside `docs/`, and tables from the code.

`benchmarks/*.md` and `CHANGELOG.md` stay where they are, and are pages of the site.
A line `<!-- table: NAME ARGUMENTS -->` is replaced by a table of `TABLES`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from poseaug_plugin import PoseAugConfig, stats
from poseaug_plugin.config import PRESETS

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ("CHANGELOG.md", "benchmarks/*.md", "benchmarks/pictures/*", "examples/*.png")


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


def on_config(config: Any) -> Any:
    """List each page of `benchmarks/` that `nav` does not name at the end of the results."""
    results = next(section["Results"] for section in config.nav if "Results" in section)
    for path in sorted(ROOT.glob("benchmarks/*.md")):
        if f"benchmarks/{path.name}" not in str(config.nav):
            title = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
            results.append({title: f"benchmarks/{path.name}"})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and pictures that are not in `docs/`."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Insert tables, and resolve links between `docs/` and the other folders."""
    if (ROOT / "docs" / page.file.src_uri).exists():
        markdown = re.sub(
            r"(\]\(|src=\")\.\./((?:\.\./)*(?:benchmarks|examples|CHANGELOG))", r"\1\2", markdown
        )
    else:
        markdown = re.sub(r"(\]\((?:\.\./)*)docs/", r"\1", markdown)
    return re.sub(r"<!-- table: (\w+)(?: (.+?))? -->", _table, markdown)


def _table(match: re.Match[str]) -> str:
    name, argument = match.groups()
    return TABLES[name](*filter(None, [argument]))
