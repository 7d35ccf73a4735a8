"""Examples run from any folder, benchmarks from the repository root."""

from __future__ import annotations

import json
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


#: Prints the help of each command of a folder, as `python SCRIPT` and `python -m MODULE` do. One
#: process for all of them, because importing torch takes longer than anything else here.
PRINT_HELP = """
import contextlib, io, json, runpy, sys, traceback
from pathlib import Path

printed, own_path = {}, sys.path[1:]
for name in sys.argv[1:]:
    sys.argv = [name, "--help"]
    is_script, out = name.endswith(".py"), io.StringIO()
    sys.path[:] = [str(Path(name).parent) if is_script else str(Path.cwd()), *own_path]
    with contextlib.redirect_stdout(out):
        try:
            (runpy.run_path if is_script else runpy.run_module)(name, run_name="__main__")
        except SystemExit as end:
            failure = f"exit code {end.code}" if end.code else ""
        except BaseException:
            failure = traceback.format_exc()
        else:
            failure = "it ran on"
    printed[name] = failure or out.getvalue()
print(json.dumps(printed))
"""


def help_texts(names: list[str], folder: Path) -> dict[str, str]:
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", PRINT_HELP, *names]
    done = subprocess.run(command, cwd=folder, env=bare, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    texts: dict[str, str] = json.loads(done.stdout)
    return texts


@pytest.fixture(scope="module")
def help_of_examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    names = [str(ROOT / "examples" / name) for name in EXAMPLES]
    texts = help_texts(names, tmp_path_factory.mktemp("anywhere"))
    return {Path(name).name: text for name, text in texts.items()}


@pytest.fixture(scope="module")
def help_of_benchmarks() -> dict[str, str]:
    return help_texts(BENCHMARKS, ROOT)


@pytest.mark.parametrize("script", EXAMPLES)
def test_an_example_prints_its_options(script: str, help_of_examples: dict[str, str]) -> None:
    assert help_of_examples[script].startswith("usage: ")


@pytest.mark.parametrize("module", BENCHMARKS)
def test_a_benchmark_prints_its_options(module: str, help_of_benchmarks: dict[str, str]) -> None:
    assert help_of_benchmarks[module].startswith("usage: ")


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
