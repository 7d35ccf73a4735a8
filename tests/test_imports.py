"""Import rules of the folders, third-party imports, one version literal, a silent import."""

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
#: What each folder may import from the rest of the package. Modules at the top level may import
#: everything.
TOOLS = {"config", "counters", "errors", "schedule"}
RULES = {
    "geometry": {"errors"},
    "loop": {"errors", "random_streams"},
    "batches": {"errors", "random_streams", "geometry"},
    "augment": {"errors", "config", "geometry", "loop", "batches"},
    "adversarial": {*TOOLS, "geometry", "loop", "batches", "augment"},
    "data": {"geometry"},
    "plots": {"geometry"},
    "integrations": {"config", "errors", "loop", "batches", "plugin"},
}
ALLOWED = {"torch", "numpy", "einops"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(number of dots, name) of every import in a file that is executed."""
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


def folder_of(path: Path) -> str:
    """The folder of the package that has the module; "" at the top level."""
    return "" if path.parent == PACKAGE else path.parent.name


def places(path: Path) -> set[str]:
    """Folders and top-level modules that a module imports, except its own folder."""
    found = set()
    for dots, name in imports(path):
        if dots == (1 if folder_of(path) == "" else 2):
            found.add(name.split(".")[0])
    return found


def test_every_folder_has_a_rule() -> None:
    assert {folder_of(path) for path in modules()} == {*RULES, ""}


@pytest.mark.parametrize("path", modules(), ids=lambda p: f"{folder_of(p)}/{p.stem}")
def test_imports_follow_the_rule_of_their_folder(path: Path) -> None:
    assert not any(m.startswith("poseaug_plugin") for _, m in imports(path))
    if folder_of(path):
        assert places(path) <= RULES[folder_of(path)]


def test_there_are_no_circular_imports() -> None:
    graph = {}
    for path in modules():
        own = path.relative_to(PACKAGE).with_suffix("").parts
        graph[own] = {
            target
            for dots, name in imports(path)
            if dots
            for parts in [(*own[: len(own) - dots], *name.split("."))]
            for target in [parts, (*parts, "__init__")]
        }
    checked: set[tuple[str, ...]] = set()

    def walk(module: tuple[str, ...], above: tuple[tuple[str, ...], ...]) -> None:
        assert module not in above, " -> ".join("/".join(m) for m in (*above, module))
        if module not in checked:
            for target in graph[module] & graph.keys():
                walk(target, (*above, module))
            checked.add(module)

    for module in graph:
        walk(module, ())


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.stem)
def test_only_torch_numpy_and_einops_are_required(path: Path) -> None:
    if folder_of(path) in {"integrations", "plots"}:
        pytest.skip("it imports an optional package")
    used = {module.split(".")[0] for dots, module in imports(path) if not dots}
    assert used <= ALLOWED | sys.stdlib_module_names


def test_the_schedule_needs_no_torch() -> None:
    assert not {m for _, m in imports(PACKAGE / "schedule.py")} & ALLOWED


def test_the_version_is_one_literal() -> None:
    holders = [
        p.name for p in modules() if re.search(r"^__version__ = \"[\d.]+\"$", p.read_text(), re.M)
    ]
    assert holders == ["__init__.py"]
    version = poseaug_plugin.__version__
    others = [p.name for p in modules() if version in p.read_text() and p.name != "__init__.py"]
    assert others == []
    setup = configparser.ConfigParser()
    assert setup.read(PACKAGE.parent / "setup.cfg")
    assert setup["metadata"]["version"] == "attr: poseaug_plugin.__version__"


def test_public_names_exist_and_are_sorted() -> None:
    names = poseaug_plugin.__all__
    assert names == sorted(names)
    assert all(hasattr(poseaug_plugin, name) for name in names)


def run_python(code: str, warnings: str) -> None:
    """Run code in a new process; it prints nothing."""
    result = subprocess.run(
        [sys.executable, "-W", warnings, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=PACKAGE.parent,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_importing_has_no_side_effects_and_commands_need_no_optional_package() -> None:
    run_python(
        "import sys, random, torch; state = torch.get_rng_state(), random.getstate()\n"
        "import poseaug_plugin\n"
        "assert torch.equal(state[0], torch.get_rng_state()) and state[1] == random.getstate()\n"
        "assert not {'matplotlib', 'rich', 'hypothesis', 'pytest'} & set(sys.modules)\n"
        "assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32\n"
        "sys.modules['matplotlib'] = None\n"
        "import poseaug_plugin.cli, poseaug_plugin.loggers, poseaug_plugin.plots.page\n"
        "assert not {'rich', 'lightning', 'mmengine', 'tensorboard'} & set(sys.modules)\n",
        warnings="error",
    )


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.stem)
def test_no_module_prints_or_exits(path: Path) -> None:
    if path.stem == "cli":
        pytest.skip("it is a program")
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"print", "exit", "quit", "input", "breakpoint"}


def test_presets_without_learning_never_import_the_learned_part() -> None:
    """In a run with batches, steps, and a state that is saved and loaded."""
    code = """
import sys, torch
from poseaug_plugin import PoseAugmenter
from poseaug_plugin.data.synthetic import make
from poseaug_plugin.lifters import SimpleBaseline
few = make()[0][:8]
for preset in ("default", "random", "paper"):
    model = SimpleBaseline(width=8)
    optimizer = torch.optim.Adam(model.parameters())
    augmenter = PoseAugmenter(model, optimizer, "semgcn", epochs=2, config=preset)
    for _ in range(2):
        augmenter((few.root_relative, few.pose_2d, few.action))
        model(few.pose_2d).square().mean().backward()
        optimizer.step()
    augmenter.load_state_dict(augmenter.state_dict())
    loaded = [name for name in sys.modules if name.startswith("poseaug_plugin.adversarial.")]
    assert bool(loaded) is (preset == "paper"), (preset, loaded)
"""
    run_python(code, warnings="ignore")
