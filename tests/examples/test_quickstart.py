"""The examples run from their command lines, and the printed numbers are the measured ones."""

import importlib
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

import semgcn
import target_2d
from poseaug_plugin.data import synthetic


def test_the_quickstart_is_the_demo(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["quickstart.py", "--updates", "3", "--methods", "random"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(Path(semgcn.__file__).with_name("quickstart.py")), run_name="__main__")
    assert ended.value.code == 0
    assert "3 updates each" in capsys.readouterr().out


@pytest.mark.parametrize("script", ["semgcn", "videopose3d"])
def test_the_other_loops_run_with_their_three_lines(script, capsys, monkeypatch):
    module = importlib.import_module(script)
    monkeypatch.setattr(module, "load", lambda *_: [pairs[:660] for pairs in synthetic.make()])
    module.main(["--epochs", "1", "--rows", "600", "--batch-size", "64", "--device", "cpu"])
    assert "cross-dataset" in capsys.readouterr().out
    source = Path(module.__file__).read_text()
    assert [f"# {i} of 3" in source for i in (1, 2, 3)] == [True] * 3


def test_hands_are_placed_where_hands_are(capsys):
    module = importlib.import_module("hands")
    module.main(["--epochs", "1", "--batch-size", "512", "--device", "cpu"])
    printed = capsys.readouterr().out
    low, high = re.search(r"hands are (0\.\d+) to (0\.\d+) m away", printed).groups()
    assert 0.2 < float(low) < 0.4 < float(high) < 0.9
    assert all(f"{name}: MPJPE, mm: same studio" in printed for name in ("plain", "plugin"))
    source = Path(module.__file__).read_text()
    assert [f"# {i} of 3" in source for i in (1, 2, 3)] == [True] * 3


def test_the_loop_with_unlabelled_poses_has_a_fourth_line(capsys, tmp_path):
    poses = tmp_path / "poses.npy"
    np.save(poses, synthetic.make(1)[2].pose_2d[:500])
    argv = ["--epochs", "1", "--rows", "600", "--batch-size", "128", "--device", "cpu"]
    target_2d.main([*argv, "--target-2d", str(poses)])
    printed = capsys.readouterr().out
    assert "500 unlabelled 2D poses, 4 batches compared" in printed
    assert printed.count("cross-dataset MPJPE") == 2
    source = Path(target_2d.__file__).read_text()
    assert [f"# {i} of 4" in source for i in (1, 2, 3, 4)] == [True] * 4


def test_unlabelled_poses_are_needed_with_data(capsys):
    with pytest.raises(SystemExit):
        target_2d.main(["--data", "folder"])
    assert "--data needs --target-2d" in capsys.readouterr().err
