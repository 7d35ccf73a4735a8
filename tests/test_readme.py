"""What the documents say is true: the README's code runs, and what they name exists."""

import dataclasses
import importlib.util
import inspect
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from poseaug_plugin import BatchFormat, Camera, PoseAugConfig, PoseAugmenter
from poseaug_plugin.config import RENAMED
from poseaug_plugin.data import synthetic
from poseaug_plugin.lifters import SimpleBaseline

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "examples/README.md", *sorted(ROOT.glob("benchmarks/*.md"))]
OPTIONS = {field.name for field in dataclasses.fields(PoseAugConfig)}


def blocks(*languages):
    """Code blocks in order; of a diff, the text after the change."""
    found = re.findall(rf"```({'|'.join(languages)})\n(.*?)```", README, flags=re.DOTALL)
    return [
        re.sub(r"^[+ ]", "", text, flags=re.MULTILINE) if language == "diff" else text
        for language, text in found
    ]


@pytest.fixture(scope="module")
def names():
    """What a reader has at the first block: SemGCN's loader, model and criterion."""
    train, _, _ = synthetic.make(0)
    model = SimpleBaseline(width=32)
    chosen = train[torch.arange(0, len(train), 50)]
    rows = list(zip(chosen.root_relative, chosen.pose_2d, chosen.action))
    return {
        "torch": torch,
        "nn": nn,
        "model": model,
        "GraphLifter": lambda: model,
        "train_loader": torch.utils.data.DataLoader(rows, batch_size=64),
        "criterion": nn.MSELoss(),
        "epochs": 2,
        "device": torch.device("cpu"),
    }


@pytest.mark.filterwarnings("ignore:Starting from v1.9.0:UserWarning")  # Lightning's, of loggers
def test_code_blocks_run_in_order(names):
    before = [p.clone() for p in names["model"].parameters()]
    found = blocks("diff", "python")
    assert len(found) >= 6
    for block in found:
        exec(compile(block, "README.md", "exec"), names)
    assert any((p != b).any() for p, b in zip(names["model"].parameters(), before))


def test_two_commands_run_the_main_job_and_the_tests():
    main_job, tests = blocks("bash")
    assert main_job.rstrip().endswith("python examples/quickstart.py")
    assert tests.rstrip().endswith("python -m pytest")
    for name in ("constraints.txt", "examples/quickstart.py", "examples/quickstart.png"):
        assert name in README
        assert (ROOT / name).exists()


def test_named_modules_and_functions_exist():
    named = re.findall(
        r"`((?!examples/|tests/|benchmarks/)[\w/]+\.py)`(?:: ((?:`\w+`(?:, )?)+))?", README
    )
    assert len(named) >= 15
    for module, functions in named:
        source = (ROOT / "poseaug_plugin" / module.removeprefix("poseaug_plugin/")).read_text()
        for function in re.findall(r"`(\w+)`", functions):
            assert re.search(rf"\b(def|class) {function}\b", source), f"{module}: no {function}"


def test_named_files_and_packages_exist():
    for path in re.findall(r"`((?:examples|tests|benchmarks)/[\w/.]+)`", README):
        assert (ROOT / path).exists(), path
    for module in re.findall(r"`(poseaug_plugin(?:\.\w+)+)`", README):
        assert importlib.util.find_spec(module), module


def test_named_options_exist():
    arguments = {*inspect.signature(PoseAugmenter).parameters, *OPTIONS} | {
        field.name for described in (BatchFormat, Camera) for field in dataclasses.fields(described)
    }
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    spans = re.findall(r"`([^`]+)`", prose)
    used = {name for span in spans for name in re.findall(r"\b(\w+)=", span)} - {"preset"}
    assert {"ratio", "learned", "config", "groups"} <= used
    assert not used - arguments

    table = prose.split("| to change | options |")[1].split("\n\n")[0]
    cells = [row.split("|")[2] for row in table.splitlines()[2:]]
    listed = {name for cell in cells for name in re.findall(r"`(\w+)(?:=[^`]*)?`", cell)}
    assert {"ba", "yaw", "joint_offset", "adv2d"} <= listed
    assert not listed - OPTIONS


def test_presets_are_those_of_the_config():
    table = README.split("| preset | content |")[1].split("\n\n")[0]
    for name in re.findall(r"^\| `(\w+)`", table, flags=re.MULTILINE):
        assert isinstance(getattr(PoseAugConfig, name)(), PoseAugConfig)


def test_the_changelog_lists_the_renamed_options():
    rows = re.findall(
        r"^ *\| `(\w+)` \| `(\w+)` \|$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert dict(rows) == RENAMED


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_commands_exist(document):
    text = document.read_text()
    commands = set(re.findall(r"python -m (benchmarks(?:\.[a-z_]+)+)", text))
    scripts = set(re.findall(r"python (examples/\w+\.py)", text))
    assert commands | scripts
    for module in commands:
        spec = importlib.util.find_spec(module)
        assert spec, module
        if spec.submodule_search_locations:
            assert importlib.util.find_spec(f"{module}.__main__"), module
        else:
            assert '__name__ == "__main__"' in Path(spec.origin).read_text(), module
    for script in scripts:
        assert (ROOT / script).exists(), script
