"""The command line: what each command prints and with which status it ends."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from poseaug_plugin import __version__, cli
from poseaug_plugin.data import synthetic
from poseaug_plugin.report import Bin, ErrorReport

SOME = synthetic.make()[0][::400]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, except for a file with good data and one in millimetres."""
    monkeypatch.chdir(tmp_path)
    rows = dict(pose2d=SOME.pose_2d.numpy(), pose3d=SOME.pose_3d.numpy(), cam=SOME.camera.numpy())
    np.savez(tmp_path / "good.npz", **rows)
    np.savez(tmp_path / "mm.npz", **{**rows, "pose3d": rows["pose3d"] * 1000})
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], command: str) -> tuple[int, str, str]:
    status = cli.main(command.split())
    out, err = capsys.readouterr()
    return status, out, err


def test_an_object_is_imported_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_loaders.py").write_text("loader = [1]\ndef make():\n    return [2]\n")
    monkeypatch.chdir(tmp_path)
    assert cli._load_object("my_loaders:loader") == [1]
    assert cli._load_object("my_loaders:make") == [2]
    for name, error in (("my_loaders", ValueError), ("my_loaders:x", ValueError)):
        with pytest.raises(error, match="my_loaders"):
            cli._load_object(name)
    with pytest.raises(ImportError):
        cli._load_object("no_such_module:x")


def test_demo_writes_table_numbers_and_picture(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "demo --updates 6 --batch-size 64 --device cpu --json q.json")
    assert status == 0
    saved = json.loads(Path("q.json").read_text())
    assert [r["method"] for r in saved["runs"]] == ["plain", "random", "default"]
    for line in saved["runs"]:
        assert f"{line['cross_dataset']['MPJPE']:.1f}" in out
    assert out.startswith("Synthetic motion; seed 0; 6 updates each; errors in mm")
    assert "poseaug-plugin check FILE" in out
    assert "training 2 of 3, random, seed 0" in err
    assert Path("poseaug-demo.png").stat().st_size > 10_000


def test_options_of_the_demo_are_those_of_the_comparison() -> None:
    given = vars(cli.parser().parse_args(["demo"]))
    for name, parameter in inspect.signature(cli.compare).parameters.items():
        if name not in ("device", "progress"):
            default = parameter.default
            assert given[name] == (list(default) if isinstance(default, tuple) else default), name


def test_demo_without_matplotlib_writes_a_page(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    status, out, _ = run(capsys, "demo --updates 3 --batch-size 64 --methods random")
    assert status == 0
    assert "poseaug-demo.html (pictures need matplotlib)" in out
    assert not Path("poseaug-demo.png").exists()
    assert "<html" in Path("poseaug-demo.html").read_text()


def test_preview_writes_a_picture_and_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "preview good.npz --out a/b.png --html c.html --config random")
    assert (status, out) == (0, "a/b.png and c.html\n")
    assert Path("a/b.png").stat().st_size > 10_000
    assert "<html" in Path("c.html").read_text()
    assert run(capsys, "preview good.npz --html c.html --config random yaw=0.5")[0] == 0
    assert run(capsys, "preview good.npz")[0] == 2
    assert run(capsys, "preview good.npz --out x.png --config paper")[0] == 2


def test_a_picture_without_matplotlib_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [*sys.modules]:
        drawing = name in ("poseaug_plugin.plots.poses", "poseaug_plugin.plots.drawing")
        if drawing or name.startswith("matplotlib"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, out, err = run(capsys, "preview good.npz --out x.png")
    assert (status, out) == (2, "")
    assert err.rstrip().endswith("; pip install matplotlib")


def test_demo_with_a_wrong_folder_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "demo --data nowhere")
    assert (status, out) == (2, "")
    assert err.splitlines()[-1] == "poseaug-plugin demo: error: there is no folder nowhere"


def test_check_tells_good_from_bad_by_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "check good.npz")
    assert status == 0
    assert out.startswith(f"good.npz: arrays, {len(SOME)} rows\n")
    assert "no problem found\n1 of 1 batches without a problem" in out
    status, out, _ = run(capsys, "check mm.npz")
    assert status == 1
    assert "unit=0.001" in out
    assert "0 of 1 batches without a problem" in out
    assert run(capsys, "check mm.npz --batch unit=0.001")[0] == 0


@pytest.mark.parametrize("wrong", ["--skeleton nonsense", "--batch foo=1", "--batch semgcn"])
def test_wrong_arguments_of_check_are_not_bad_data(
    wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, f"check good.npz {wrong}")
    assert status == 2
    assert "error: " in err


def test_check_takes_a_loader_of_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    Path("my_script.py").write_text(
        "from poseaug_plugin.data import make_loader, synthetic\n"
        "def loader():\n    return make_loader(synthetic.make()[0], 64)\n"
    )
    status, out, _ = run(capsys, "check my_script:loader --batch poseaug")
    assert status == 0
    assert "3 of 3 batches without a problem" in out
    assert run(capsys, "check my_script:nothing")[0] == 2
    assert run(capsys, "check no_module:loader")[0] == 2


def test_the_first_bad_batch_is_shown_and_fails_the_check(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("my_batches.py").write_text(
        "import numpy as np\nrows = np.load('good.npz')\n"
        "good = rows['pose3d'], rows['pose2d'], None, rows['cam']\n"
        "loader = [good, (1000 * good[0], *good[1:]), good]\n"
    )
    path = [*sys.path]
    status, out, _ = run(capsys, "check my_batches:loader --batch poseaug")
    assert status == 1
    assert "PROBLEM    the longest bone" in out
    assert out.endswith("2 of 3 batches without a problem\n")
    assert run(capsys, "check my_batches:loader --batch poseaug --batches 1")[0] == 0
    assert sys.path == path


def test_an_interrupted_command_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "read_poses", interrupt)
    assert run(capsys, "check good.npz") == (130, "", "interrupted\n")


def test_check_translates_cures_to_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("two.npz", a=SOME.pose_2d, b=SOME.pose_2d, c=SOME.pose_3d)
    status, _, err = run(capsys, "check two.npz")
    assert status == 1
    assert "candidates ['a', 'b'] for 2D" in err
    assert "batch=dict(name=value) is --batch name=value" in err
    assert len(err.splitlines()) == 1
    assert run(capsys, "check two.npz --batch pose_2d=b pose_3d=c")[0] == 0


def test_augment_writes_a_file_that_check_accepts(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "augment good.npz more.npz --copies 2 --config random")
    assert status == 0
    assert out.startswith(f"more.npz: {3 * len(SOME)} rows, of which ")
    assert run(capsys, "check more.npz")[0] == 0
    status, _, err = run(capsys, "augment good.npz more.npz")
    assert status == 2
    assert "more.npz exists" in err
    assert run(capsys, "augment good.npz x.npz --config distanse=3")[0] == 2


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    """As in `poseaug-plugin report FILE | head -0`."""
    joints = {f"joint {i}": 1.0 for i in range(5000)}
    ErrorReport(1, 1.0, 1.0, {}, joints).save(tmp_path / "report.json")
    command = [sys.executable, "-m", "poseaug_plugin", "report", str(tmp_path / "report.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        started.stdout.close()
        assert started.stderr.read() == b""
    assert started.returncode == 141


def test_report_shows_what_was_saved(capsys: pytest.CaptureFixture[str]) -> None:
    bins = {"yaw": [Bin(-180.0, 0.0, 3, 80.0), Bin(0.0, 180.0, 3, 40.0)]}
    saved = ErrorReport(6, 60.0, 30.0, bins, {"pelvis": 0.0, "l_wrist": 120.0})
    saved.save("run.json")
    status, out, _ = run(capsys, "report run.json --out run.png")
    assert (status, out) == (0, f"{saved}\n\nrun.png\n")
    assert Path("run.png").stat().st_size > 5_000
    status, _, err = run(capsys, "report good.npz")
    assert status == 2
    assert "was not written by ErrorReport.save" in err
    assert run(capsys, "report nowhere.json")[0] == 2


def test_info_names_versions_and_presets(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "info")
    assert status == 0
    for word in (__version__, sys.version.split()[0], np.__version__, "semgcn", "h36m_17", "paper"):
        assert word in out


def test_settings_are_python_literals() -> None:
    words = ["random", "distance=2,8", "upright=False", "focal=(0.5, 1)", "mix=append"]
    assert cli._settings(words, "preset") == {
        "preset": "random",
        "distance": (2, 8),
        "upright": False,
        "focal": (0.5, 1),
        "mix": "append",
    }
    assert cli._settings(["semgcn"]) == "semgcn"
    assert cli._settings(None) is None
    for words in (["a", "b"], ["a", "b=1"]):
        with pytest.raises(ValueError, match="expected settings as name=value"):
            cli._settings(words)


def test_the_module_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "poseaug_plugin", "check", "no.npz"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "poseaug-plugin check: error: there is no no.npz\n"


def test_a_command_without_arguments_shows_how_it_is_used(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: poseaug-plugin ")
