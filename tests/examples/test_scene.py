"""The example of several people in one image runs, and people keep apart."""

import re
from pathlib import Path

import scene


def test_a_short_run_augments_scenes_without_new_contacts(capsys):
    scene.main(["--epochs", "1", "--scenes", "600", "--device", "cpu"])
    printed = capsys.readouterr().out
    augmented, chosen = map(int, re.findall(r"(\d+) of (\d+) chosen people", printed)[0])
    assert 0.4 * chosen < augmented <= chosen
    before, after = map(int, re.findall(r"in (\d+)% before and (\d+)% after", printed)[0])
    assert after <= before
    assert "cross-dataset" in printed


def test_the_plugin_is_three_lines():
    source = Path(scene.__file__).read_text()
    assert [f"# {i} of 3" in source for i in (1, 2, 3)] == [True] * 3
