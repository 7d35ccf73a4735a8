"""Mutation testing with mutmut: what share of small faults in a folder its tests find.

pip install mutmut
python -m benchmarks.mutants geometry loop                # several minutes a folder
python -m benchmarks.mutants augment --sample 30 --seed 0 # at most 30 mutants of each module

It works on a copy in `--out` and changes nothing here. Called again, it continues.
"""

from __future__ import annotations

import argparse
import json
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

#: The tests of each folder, without those that take seconds each.
TESTS = {
    "geometry": ("tests/geometry", "tests/augment", "poseaug_plugin/geometry"),
    "batches": ("tests/batches", "tests/hosts/test_groups.py"),
    "augment": ("tests/augment", "tests/adversarial"),
    "adversarial": ("tests/adversarial", "tests/behaviour/test_feedback_values.py"),
    "loop": ("tests/loop", "tests/behaviour/test_promises.py", "tests/behaviour/test_harm.py"),
}
SETTINGS = """
    [tool.mutmut]
    source_paths = ["poseaug_plugin"]
    only_mutate = ["poseaug_plugin/{folder}/*"]
    also_copy = ["tests", "examples", "benchmarks", "docs", "setup.cfg", "README.md"]
    pytest_add_cli_args_test_selection = {tests}
    pytest_add_cli_args = ["-m", "not slow", "-p", "no:xdist", "-p", "no:cacheprovider"]
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
        settings = SETTINGS.format(folder=folder, tests=json.dumps(TESTS[folder]))
        with (copy / "pyproject.toml").open("a") as file:
            file.write(textwrap.dedent(settings))
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", "1"]
    subprocess.run([*command, *chosen(copy, folder, sample, seed)], cwd=copy, check=False)


#: Run in the copy, since mutmut reads its settings from there: the names of a folder's mutants.
LIST = """
import sys
from pathlib import Path
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.utils.format_utils import get_mutant_name
for path in sorted(Path("poseaug_plugin", sys.argv[1]).glob("*.py")):
    for name in mutate_file_contents(str(path), path.read_text()).mutant_names:
        print(path, get_mutant_name(path, name))
"""


def chosen(copy: Path, folder: str, sample: int | None, seed: int) -> list[str]:
    """Names of mutants drawn without replacement, `sample` of each module; none: all of them."""
    if sample is None:
        return []
    listed = subprocess.check_output([sys.executable, "-c", LIST, folder], cwd=copy, text=True)
    modules: dict[str, list[str]] = {}
    for path, name in map(str.split, listed.splitlines()):
        modules.setdefault(path, []).append(name)
    draw = random.Random(seed)
    return [
        name for names in modules.values() for name in draw.sample(names, min(sample, len(names)))
    ]


def mutants(results: Path) -> list[Row]:
    """Mutants by module. A mutant that runs for ever is found, too. Survivors may be equivalent:
    read them with `mutmut show NAME` in the folder of the copy.
    """
    rows = []
    for path in sorted(results.glob("poseaug_plugin/*/*.py.meta")):
        codes = json.loads(path.read_text())["exit_code_by_key"]
        kinds = Counter(_kind(code) for code in codes.values())
        tried = kinds["killed"] + kinds["survived"]
        if tried:
            rows.append(
                {
                    "module": f"{path.parent.name}/{path.name.removesuffix('.meta')}",
                    "mutants": len(codes),
                    "tried": tried,
                    "killed": kinds["killed"],
                    "share": f"{kinds['killed'] / tried:.1%}",
                    "survivors": [n for n, code in codes.items() if _kind(code) == "survived"],
                }
            )
    return rows


def _kind(code: int | None) -> str:
    if code is None:
        return "not tried"
    return "survived" if code in SURVIVED else "killed"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", choices=sorted(TESTS))
    parser.add_argument("--out", type=Path, default=Path("out/mutants"))
    parser.add_argument("--sample", type=int, metavar="N", help="mutants of each module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-run", action="store_true", help="show the results so far")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    args, rows = arguments(argv), []
    for folder in args.folders:
        if not args.no_run:
            run(folder, args.out.absolute(), args.sample, args.seed)
        rows += mutants(args.out / folder / "mutants")
    if rows:
        Console().print(console_table("mutants", rows))
    return save_results(args, {"mutants": rows} if rows else {}, {"mutants": mutants})


if __name__ == "__main__":
    main()
