"""The table of mutants is made from mutmut's files."""

import json

from benchmarks import mutants


def test_killed_and_surviving_mutants_are_counted_by_module(tmp_path):
    folder = tmp_path / "geometry" / "mutants" / "poseaug_plugin" / "geometry"
    folder.mkdir(parents=True)
    codes = {"a": 1, "b": 0, "c": None, "d": -24, "e": 33, "f": 1}
    (folder / "bones.py.meta").write_text(json.dumps({"exit_code_by_key": codes}))
    (folder / "empty.py.meta").write_text(json.dumps({"exit_code_by_key": {}}))
    found = mutants.main(["geometry", "--no-run", "--out", str(tmp_path)])
    (row,) = found["mutants"]
    assert (row["module"], row["mutants"], row["tried"]) == ("geometry/bones.py", 6, 5)
    assert (row["killed"], row["share"], row["survivors"]) == (3, "60.0%", ["b", "e"])


def test_every_folder_of_tests_exists():
    for tests in mutants.TESTS.values():
        assert all((mutants.ROOT / name).exists() for name in tests)
