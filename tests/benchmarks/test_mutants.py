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
    row, together = found["mutants"]
    assert (row["module"], row["tried"]) == ("geometry/bones.py", 5)
    assert (row["killed"], row["share"], row["survivors"]) == (3, "60.0%", ["b", "e"])
    assert (together["tried"], together["killed"]) == (5, 3)
    assert together["interval"] == "23% to 88%"  # Wilson's interval


def test_mutants_that_change_text_alone_are_left_out():
    code = """
def x_f__mutmut_orig(a):
    if a > 1:
        raise ValueError(f"a is {a}", a)
    warn("a is small", key="a")
def x_f__mutmut_1(a):
    if a >= 1:
        raise ValueError(f"a is {a}", a)
    warn("a is small", key="a")
def x_f__mutmut_2(a):
    if a > 1:
        raise ValueError(None, a)
    warn("a is small", key="a")
def x_f__mutmut_3(a):
    if a > 1:
        raise ValueError(f"a is {a}", a)
    warn("XXa is smallXX", key="a")
def x_f__mutmut_4(a):
    if a > 1:
        raise ValueError(f"a is {a}", a)
    warn("a is small", key="XXaXX")
"""
    assert mutants.only_text(code) == {"x_f__mutmut_2", "x_f__mutmut_3"}


def test_every_folder_is_judged_by_tests_that_exist():
    package = mutants.ROOT / "poseaug_plugin"
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    assert set(mutants.TESTS) == folders | {"top"}
    for tests in mutants.TESTS.values():
        assert all((mutants.ROOT / name).exists() for name in tests)
