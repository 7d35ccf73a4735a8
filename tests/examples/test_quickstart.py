"""The examples run from their command lines, and the printed numbers are the measured ones."""

import importlib
import json
from pathlib import Path

import pytest

import quickstart


def test_every_option_works_and_the_numbers_agree(tmp_path, capsys):
    numbers, picture = tmp_path / "q.json", tmp_path / "sub" / "q.png"
    argv = (
        f"--updates 12 --batch-size 64 --seed 3 --device cpu --json {numbers} --picture {picture}"
    )
    quickstart.main(argv.split())
    printed, saved = capsys.readouterr().out, json.loads(numbers.read_text())
    assert saved["arguments"]["seed"] == "3"
    assert saved["stats"]["augmented"] > 0
    for run in ("plain", "plugin"):
        assert f"{saved[run]['cross']['MPJPE']:.1f} mm" in printed
    assert picture.stat().st_size > 10_000


def test_the_plugin_is_three_lines():
    source = Path(quickstart.__file__).read_text().splitlines()
    marked = [line for line in source if "of 3" in line]
    assert len(marked) == 3
    calls = [line for line in source if "PoseAugmenter(" in line or ".wrap(" in line]
    assert set(calls) < set(marked)


@pytest.mark.slow
def test_lower_cross_dataset_error_with_the_plugin(tmp_path):
    results = quickstart.main(["--updates", "400", "--picture", str(tmp_path / "q.png")])
    assert results["plugin"]["cross"]["MPJPE"] < results["plain"]["cross"]["MPJPE"]


@pytest.mark.parametrize("script", ["semgcn", "videopose3d"])
def test_the_other_loops_run_with_their_three_lines(script, capsys):
    module = importlib.import_module(script)
    module.main(["--epochs", "1", "--rows", "1200", "--batch-size", "128", "--device", "cpu"])
    assert "cross-dataset" in capsys.readouterr().out
    source = Path(module.__file__).read_text()
    assert [f"# {i} of 3" in source for i in (1, 2, 3)] == [True] * 3
