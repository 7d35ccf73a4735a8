"""Every script starts from a shell, where nothing has put the examples on Python's path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(
    path.relative_to(ROOT)
    for folder in ("examples", "benchmarks")
    for path in (ROOT / folder).glob("*.py")
    if '__name__ == "__main__"' in path.read_text()
)


def test_there_are_scripts() -> None:
    assert {path.name for path in SCRIPTS} >= {"quickstart.py", "generalization.py"}


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_it_tells_its_options(script: Path) -> None:
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, script, "--help"], cwd=ROOT, env=bare, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")
