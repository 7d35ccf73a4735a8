"""Examples run from any folder, benchmarks from the repository root."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
BENCHMARKS = [
    *(f"benchmarks.{path.parent.name}" for path in sorted(ROOT.glob("benchmarks/*/__main__.py"))),
    "benchmarks.reproduction.datasets",
]


def test_there_are_commands() -> None:
    assert {"quickstart.py", "semgcn.py", "videopose3d.py"} <= set(EXAMPLES)
    assert {"benchmarks.generalization", "benchmarks.overhead"} <= set(BENCHMARKS)


def help_text(command: list[str], folder: Path) -> str:
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *command, "--help"], cwd=folder, env=bare, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", EXAMPLES)
def test_an_example_prints_its_options(script: str, tmp_path: Path) -> None:
    assert help_text([str(ROOT / "examples" / script)], tmp_path).startswith("usage: ")


@pytest.mark.parametrize("module", BENCHMARKS)
def test_a_benchmark_prints_its_options(module: str) -> None:
    assert help_text(["-m", module], ROOT).startswith("usage: ")


def test_no_script_changes_the_import_path() -> None:
    scripts = [*ROOT.glob("examples/*.py"), *ROOT.glob("benchmarks/**/*.py")]
    # This module imports the published code from a checkout.
    others = [path for path in scripts if path.name != "published_step.py"]
    assert not [path for path in others if "sys.path" in path.read_text()]


def test_an_example_imports_only_the_package_and_libraries() -> None:
    own = {path.stem for path in ROOT.glob("examples/*.py")} | {"benchmarks", "examples", "tests"}
    for path in ROOT.glob("examples/*.py"):
        lines = [line.split() for line in path.read_text().splitlines()]
        used = {words[1] for words in lines if words[:1] in (["import"], ["from"])}
        assert not {name.split(".")[0] for name in used} & own
