"""What MkDocs does beyond its plugins: pages from outside `docs/`, and tables from the code.

`benchmarks/*.md` and `CHANGELOG.md` stay where they are, and are pages of the site.
A line `<!-- table: NAME ARGUMENTS -->` is replaced by a table of `TABLES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from poseaug_plugin import PoseAugConfig, stats

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ("CHANGELOG.md", "benchmarks/*.md", "benchmarks/pictures/*", "examples/*.png")

TABLES: dict[str, Callable[..., str]] = {"options": PoseAugConfig.table, "stats": stats.table}


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
