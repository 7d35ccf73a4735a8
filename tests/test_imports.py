"""Imports point down, few are third-party, the version is one literal, importing is silent."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import poseaug_plugin

PACKAGE = Path(poseaug_plugin.__file__).parent
EXAMPLES = Path(__file__).parent.parent / "examples"
# Every module may import only those before it.
# fmt: off
ORDER = [
    "errors", "distributed", "skeleton_presets", "metainfo", "skeleton", "layout", "codec",
    "bones", "operators", "camera", "image_space", "losses", "pool", "nets", "config", "curriculum",
    "collapse", "limbs", "repertoire", "prior", "tally", "augmentor", "discriminators", "feedback",
    "estimator", "containers", "poses", "batch", "formats", "windows", "recognise",
    "measures", "check", "intake", "objectives", "training", "mixing", "checkpoint", "hooks",
    "loader", "events", "plugin",
    "__init__",
]
# fmt: on
ALLOWED = {"torch", "numpy", "einops"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(dots, dotted name) of every import that runs, wherever in a file it stands."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield 0, alias.name
        elif isinstance(node, ast.ImportFrom):
            if node.module:
                yield node.level, node.module
            else:
                for alias in node.names:
                    yield node.level, alias.name


def test_the_order_names_every_module() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == set(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_imports_point_down(name: str) -> None:
    before = set(ORDER[: ORDER.index(name)])
    used = {module.split(".")[0] for dots, module in imports(PACKAGE / f"{name}.py") if dots}
    assert used <= before
    assert not any(m.startswith("poseaug_plugin") for _, m in imports(PACKAGE / f"{name}.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.stem)
def test_only_torch_numpy_and_einops_are_needed(path: Path) -> None:
    if path.parent.name == "integrations":
        pytest.skip("imports its framework, on demand")
    used = {module.split(".")[0] for dots, module in imports(path) if not dots}
    own = {"examples", *(file.stem for file in EXAMPLES.glob("*.py"))}
    assert not used & own
    assert used <= ALLOWED | sys.stdlib_module_names


def test_the_curriculum_needs_no_torch() -> None:
    assert not {m for _, m in imports(PACKAGE / "curriculum.py")} & ALLOWED


def test_the_version_is_one_literal() -> None:
    holders = [
        p.name for p in modules() if re.search(r"^__version__ = \"[\d.]+\"$", p.read_text(), re.M)
    ]
    assert holders == ["__init__.py"]
    version = poseaug_plugin.__version__
    others = [p.name for p in modules() if version in p.read_text() and p.name != "__init__.py"]
    assert others == []
    setup = configparser.ConfigParser()
    assert setup.read(EXAMPLES.parent / "setup.cfg")
    assert setup["metadata"]["version"] == "attr: poseaug_plugin.__version__"


def test_public_names_are_there_and_sorted() -> None:
    names = poseaug_plugin.__all__
    assert names == sorted(names)
    assert all(hasattr(poseaug_plugin, name) for name in names)


def test_importing_prints_nothing_and_leaves_the_examples_alone() -> None:
    code = (
        "import sys, random, torch; state = torch.get_rng_state(), random.getstate()\n"
        "import poseaug_plugin\n"
        "assert torch.equal(state[0], torch.get_rng_state()) and state[1] == random.getstate()\n"
        "assert not {'matplotlib', 'rich', 'hypothesis', 'pytest'} & set(sys.modules)\n"
        "assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=PACKAGE.parent,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.stem)
def test_no_module_prints_or_exits(path: Path) -> None:
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"print", "exit", "quit", "input", "breakpoint"}
