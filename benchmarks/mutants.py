"""Mutation testing with mutmut: what share of small faults in the package its fast tests find.

pip install mutmut
python -m benchmarks.mutants geometry loop             # every mutant of two folders
python -m benchmarks.mutants all --sample 5 --seed 0   # at most 5 mutants of each module

Mutants that change nothing but the text of a message are left out. It works on a copy in `--out`
and changes nothing here. Called again, it continues.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import random
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console

from .environment import ROOT
from .tables import Row, console_table, save_results

#: The tests that judge each folder, without those that take seconds each. "top" are the modules
#: that lie in no folder. Of these, mutmut runs those that reach the function of the mutant.
TESTS = {
    "geometry": ("tests/geometry", "tests/augment", "tests/batches", "poseaug_plugin/geometry"),
    "batches": (
        "tests/batches",
        "tests/behaviour/test_bad_input.py",
        "tests/hosts/test_groups.py",
        "tests/hosts/test_hosts.py",
    ),
    "augment": ("tests/augment", "tests/adversarial/test_trainer.py", "tests/batches"),
    "adversarial": (
        "tests/adversarial",
        "tests/behaviour/test_feedback_promises.py",
        "tests/behaviour/test_feedback_values.py",
        "tests/loop/test_messages.py",
    ),
    "loop": ("tests/loop", "tests/behaviour/test_promises.py", "tests/hosts/test_bad_scripts.py"),
    "data": ("tests/data", "poseaug_plugin/data"),
    "integrations": ("tests/integrations",),
    "plots": ("tests/plots",),
    "top": (
        *(f"tests/test_{name}.py" for name in ("cli", "config", "demo", "files", "lifters")),
        *(f"tests/test_{name}.py" for name in ("loggers", "metrics", "progress", "report")),
        *(f"tests/test_{name}.py" for name in ("engine", "schedule", "stats")),
        "tests/behaviour/test_bad_input.py",
        "tests/behaviour/test_promises.py",
        "tests/behaviour/test_recorded_report.py",
        "tests/behaviour/test_resume.py",
        "tests/behaviour/test_saved_state.py",
        "tests/behaviour/test_target_2d.py",
        "tests/loop/test_hooks.py",
    ),
}
#: Start a process without mutmut's settings, read the source, in which all mutants are, or look at
#: the stack, on which mutmut has frames of its own.
SKIPPED = (
    "tests/behaviour/test_bad_input.py::test_warnings_point_at_the_callers_line",
    "tests/test_cli.py::test_a_closed_pipe_is_no_error",
    "tests/test_cli.py::test_the_module_is_the_command",
    "tests/test_demo.py::test_the_plugin_is_three_lines",
)
ARGUMENTS = ["-m", "not slow", "-p", "no:xdist", "-p", "no:cacheprovider"]
SETTINGS = """
    [tool.mutmut]
    source_paths = ["poseaug_plugin"]
    only_mutate = {modules}
    also_copy = ["tests", "examples", "benchmarks", "docs", "setup.cfg", "README.md"]
    pytest_add_cli_args_test_selection = {tests}
    pytest_add_cli_args = {arguments}
    mutate_only_covered_lines = false
    use_git_change_detection = false
"""
SURVIVED = {0, 5, 33}  # exit codes: all tests pass, pytest found none, mutmut knows none


def run(folder: str, out: Path, sample: int | None, seed: int) -> None:
    """Run mutmut on a copy of the project, `out / folder`."""
    copy = out / folder
    if not copy.exists():
        listed = subprocess.check_output(["git", "-C", str(ROOT), "ls-files"], text=True)
        for name in listed.splitlines():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
        arguments = [*ARGUMENTS, *(f"--deselect={name}" for name in SKIPPED)]
        values = dict(modules=modules_of(folder), tests=TESTS[folder], arguments=arguments)
        settings = SETTINGS.format(**{name: json.dumps(value) for name, value in values.items()})
        with (copy / "pyproject.toml").open("a") as file:
            file.write(textwrap.dedent(settings))
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", "1"]
    subprocess.run([*command, *chosen(copy, folder, sample, seed)], cwd=copy, check=False)


def modules_of(folder: str) -> list[str]:
    """Paths of the modules of a folder of the package, from the root of the project."""
    package = ROOT / "poseaug_plugin"
    paths = (package if folder == "top" else package / folder).glob("*.py")
    return sorted(path.relative_to(ROOT).as_posix() for path in paths)


#: Run in the copy, since mutmut reads its settings from there: the mutants of some modules.
LIST = """
import json, sys
from pathlib import Path
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.utils.format_utils import get_mutant_name
from benchmarks.mutants import only_text
modules = {}
for path in sys.argv[1:]:
    found = mutate_file_contents(path, Path(path).read_text())
    text = only_text(found.code)
    names = [name for name in found.mutant_names if name not in text]
    modules[path] = [get_mutant_name(Path(path), name) for name in names]
print(json.dumps(modules))
"""


def chosen(copy: Path, folder: str, sample: int | None, seed: int) -> list[str]:
    """Names of mutants drawn without replacement, `sample` of each module; none: all of them."""
    command = [sys.executable, "-c", LIST, *modules_of(folder)]
    modules = json.loads(subprocess.check_output(command, cwd=copy, text=True))
    draw = random.Random(seed)
    return [
        name
        for names in modules.values()
        for name in draw.sample(names, min(len(names) if sample is None else sample, len(names)))
    ]


def only_text(code: str) -> set[str]:
    """Names of the functions in mutmut's `code` that differ from the original in text alone.

    Text is what is passed to an error that is raised, and strings with a space in them.
    """
    originals: dict[str, str] = {}
    mutated: dict[str, tuple[str, str]] = {}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef) and "__mutmut_" in node.name:
            name, (function, _, number) = node.name, node.name.rpartition("__mutmut_")
            node.name = function
            content = ast.dump(_WithoutText().visit(node))
            if number == "orig":
                originals[function] = content
            else:
                mutated[name] = function, content
    return {name for name, (of, content) in mutated.items() if content == originals[of]}


class _WithoutText(ast.NodeTransformer):
    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant(" ") if isinstance(node.value, str) and " " in node.value else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        parts = [str(part.value) for part in node.values if isinstance(part, ast.Constant)]
        return ast.Constant(" ") if any(" " in part for part in parts) else node


def mutants(results: Path) -> list[Row]:
    """Mutants by module. A mutant that runs for ever is found, too. Survivors may be equivalent:
    read them with `mutmut show NAME` in the folder of the copy.
    """
    rows = []
    for path in sorted((results / "poseaug_plugin").rglob("*.py.meta")):
        codes = json.loads(path.read_text())["exit_code_by_key"]
        kinds = Counter(_kind(code) for code in codes.values())
        tried = kinds["killed"] + kinds["survived"]
        if tried:
            survivors = [name for name, code in codes.items() if _kind(code) == "survived"]
            module = path.relative_to(results / "poseaug_plugin").as_posix()
            rows.append(_row(module.removesuffix(".meta"), tried, kinds["killed"], survivors))
    if rows:
        tried, killed = (sum(row[name] for row in rows) for name in ("tried", "killed"))
        rows.append(_row("together", tried, killed, []))
    return rows


def _row(module: str, tried: int, killed: int, survivors: list[str]) -> Row:
    share, z = killed / tried, 1.96  # Wilson's interval, 95 %
    middle = share + z**2 / (2 * tried)
    half = z * math.sqrt(share * (1 - share) / tried + z**2 / (4 * tried**2))
    lower, upper = ((middle + sign * half) / (1 + z**2 / tried) for sign in (-1, 1))
    return {
        "module": module,
        "tried": tried,
        "killed": killed,
        "share": f"{share:.1%}",
        "interval": f"{lower:.0%} to {upper:.0%}",
        "survivors": survivors,
    }


def _kind(code: int | None) -> str:
    if code is None:
        return "not tried"
    return "survived" if code in SURVIVED else "killed"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", choices=["all", *TESTS])
    parser.add_argument("--out", type=Path, default=Path("out/mutants"))
    parser.add_argument("--sample", type=int, metavar="N", help="mutants of each module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-run", action="store_true", help="show the results so far")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    args, rows = arguments(argv), []
    for folder in TESTS if "all" in args.folders else args.folders:
        if not args.no_run:
            run(folder, args.out.absolute(), args.sample, args.seed)
        rows += mutants(args.out / folder / "mutants")
    if rows:
        Console().print(console_table("mutants", rows))
    return save_results(args, {"mutants": rows} if rows else {}, {"mutants": mutants})


if __name__ == "__main__":
    main()
