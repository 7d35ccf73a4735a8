"""Archives are read as NumPy reads them, but nothing in them runs, and no header is believed."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poseaug_plugin.data.archives import Archive
from poseaug_plugin.data.h36m import load_h36m


def test_arrays_and_dictionaries_come_back(tmp_path: Path) -> None:
    table = {"S1": {"Walking 1": np.arange(6.0).reshape(1, 2, 3)}, "n": [1, 2.5, "x", None, True]}
    table["scalar"] = np.float32(3)  # type: ignore[assignment]
    given = {
        "numbers": np.arange(12).reshape(3, 4)[:, ::2],
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "empty": np.zeros((0, 16, 3)),
        "names": np.array(["a", "bc"]),
        "ragged": np.array([np.zeros(2), np.ones(3)], dtype=object),
    }
    np.savez_compressed(tmp_path / "a.npz", table=table, **given)  # type: ignore[arg-type]
    archive = Archive(tmp_path / "a.npz")
    assert set(archive) == {"table", *given}
    for name, value in given.items():
        found = archive[name]
        assert (found.dtype, found.shape) == (value.dtype, value.shape)
        assert all(np.array_equal(a, b) for a, b in zip(found, value))
    found = archive["table"].item()
    assert np.array_equal(found["S1"]["Walking 1"], table["S1"]["Walking 1"])
    assert found["n"] == table["n"]
    assert found["scalar"] == 3
    archive["numbers"][0] = 7  # writable, as NumPy's
    with pytest.raises(KeyError):
        archive["other"]


def test_members_may_have_any_version_and_no_suffix(tmp_path: Path) -> None:
    given = np.arange(6.0).reshape(2, 3)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        for version in ((1, 0), (2, 0), (3, 0)):
            stream = io.BytesIO()
            np.lib.format.write_array(stream, given, version)
            file.writestr(f"v{version[0]}" + ".npy" * (version[0] < 3), stream.getvalue())
    archive = Archive(tmp_path / "a.npz")
    assert [*archive] == ["v1", "v2", "v3"]
    assert len(archive) == 3
    for found in archive.values():
        assert np.array_equal(found, given)


def test_text_of_python_2_is_read(tmp_path: Path) -> None:
    """Its pickles hold bytes in place of text, also beyond ASCII."""
    stream = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": ()}
    np.lib.format.write_array_header_1_0(stream, header)
    stream.write(b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR")
    stream.write(b"(I1\n(tcnumpy\ndtype\n(S'O8'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI63\ntb")
    stream.write(b"I00\n(lp0\n(dp1\nS'caf\\xe9'\nI3\nsatb.")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("table.npy", stream.getvalue())
    assert Archive(tmp_path / "a.npz")["table"].item() == {"café": 3}


class Runs:
    """What runs a command when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


def test_nothing_in_a_file_runs(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    np.savez(tmp_path / "data_3d_h36m.npz", positions_3d={"S1": Runs(trace)})  # type: ignore[arg-type]
    np.savez(tmp_path / "data_2d_h36m_gt.npz", positions_2d={})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"data_3d_h36m.npz, positions_3d: .*system"):
        load_h36m(tmp_path, ["S1"])
    assert not trace.exists()


def test_a_header_that_asks_for_more_than_there_is_takes_no_memory(tmp_path: Path) -> None:
    header = io.BytesIO()
    huge = {"descr": "<f8", "fortran_order": False, "shape": (10**9, 17, 3)}
    np.lib.format.write_array_header_1_0(header, huge)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("x.npy", header.getvalue() + bytes(48))
    with pytest.raises(
        ValueError, match=r"x.npz, x: its header says 408000000000 bytes, but .* 48"
    ):
        Archive(tmp_path / "x.npz")["x"]


def test_what_is_no_archive_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"no \.npz archive"):
        Archive(tmp_path / "x.npz")


def member(value: Any, shape: tuple[int, ...] | None = None) -> bytes:
    """A member as NumPy writes it; with a header that says another shape if one is given."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(value), (1, 0))
    if shape is None:
        return stream.getvalue()
    own = str(np.asarray(value).shape).encode()
    return stream.getvalue().replace(own, str(shape).encode().ljust(len(own)))


TABLE = np.array([{"a": 1}, {"b": 2}], dtype=object)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (member(np.zeros(6)) + b"x", "48 bytes, but the file has 49"),
        (member(np.zeros(6))[:-1], "48 bytes, but the file has 47"),
        (member(TABLE)[:-3], "a.npz, table: "),
        (member(TABLE)[:-1] + b"?", "a.npz, table: "),
        (member(TABLE, (3,)), "a.npz, table: cannot reshape"),
        (b"no array", "a.npz, table: "),
    ],
    ids=["longer", "shorter", "cut off", "another end", "another shape", "no array"],
)
def test_a_damaged_member_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("table.npy", content)
    with pytest.raises(ValueError, match=message):
        Archive(tmp_path / "a.npz")["table"]


def test_a_member_with_a_wrong_checksum_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("table.npy", member(np.zeros(6)))
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content.replace(bytes(48), b"1" + bytes(47)))
    with pytest.raises(ValueError, match=r"a\.npz, table: Bad CRC-32"):
        Archive(tmp_path / "a.npz")["table"]
