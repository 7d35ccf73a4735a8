"""What MkDocs does beyond its plugins: pages from outside `docs/`.

`benchmarks/*.md` and `CHANGELOG.md` stay where they are, and are pages of the site.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ("CHANGELOG.md", "benchmarks/*.md", "benchmarks/pictures/*", "examples/*.png")


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
    """Resolve links between `docs/` and the other folders."""
    if (ROOT / "docs" / page.file.src_uri).exists():
        markdown = re.sub(
            r"(\]\(|src=\")\.\./((?:\.\./)*(?:benchmarks|examples|CHANGELOG))", r"\1\2", markdown
        )
    else:
        markdown = re.sub(r"(\]\((?:\.\./)*)docs/", r"\1", markdown)
    return markdown
