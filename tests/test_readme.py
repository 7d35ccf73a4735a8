"""The README's words hold: its code runs, its commands are the ones that exist."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from poseaug_plugin.data import synthetic as embedded
from poseaug_plugin.lifters import SimpleBaseline

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def names():
    """What a reader has at the first block: SemGCN's loader, model, optimizer, criterion."""
    train, _, _ = embedded.make(0)
    model = SimpleBaseline(width=32)
    chosen = train[torch.arange(0, len(train), 50)]
    rows = list(zip(chosen.root_relative, chosen.pose_2d, chosen.action))
    return {
        "model": model,
        "optimizer": torch.optim.Adam(model.parameters(), lr=1e-3),
        "train_loader": torch.utils.data.DataLoader(rows, batch_size=64),
        "criterion": nn.MSELoss(),
        "epochs": 2,
        "device": torch.device("cpu"),
    }


@pytest.mark.filterwarnings("ignore:Starting from v1.9.0:UserWarning")  # Lightning's, of loggers
def test_code_blocks_run_in_order(names):
    before = [p.clone() for p in names["model"].parameters()]
    found = blocks("python")
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
    for module, functions in re.findall(
        r"`((?!examples/|tests/)[\w/]+\.py)`(?:: ((?:`\w+`(?:, )?)+))?", README
    ):
        source = (ROOT / "poseaug_plugin" / module).read_text()
        for function in re.findall(r"`(\w+)`", functions):
            assert f"def {function}(" in source, f"{module} has no {function}"
