"""Reads `.npz` archives without running code from them.

VideoPose3D's files hold pickled dictionaries. A pickle can run any code when it is loaded, so this
reader only builds arrays, dictionaries, lists, tuples, strings and numbers.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

__all__ = ["Archive"]

# What NumPy's own pickles are made with, under its module names before and since version 2.
_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),  # bytes in pickles of Python 2
    *(
        (f"numpy.{core}.{module}", name)
        for core in ("core", "_core")
        for module, name in (
            ("multiarray", "_reconstruct"),
            ("multiarray", "scalar"),
            ("numeric", "_frombuffer"),
        )
    ),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise ValueError(
                f"it holds a pickled {module}.{name}, expected only arrays, dictionaries, lists, "
                "strings and numbers; do not load this file unless you trust its source"
            )
        return super().find_class(module, name)


class Archive(Mapping[str, NDArray[Any]]):
    """The arrays of an `.npz` file by name; each is read when it is asked for.

    Raises:
        ValueError: the file is no `.npz` archive. Reading an array: its file is shorter than its
            header says, or it holds other objects than arrays, dictionaries, lists, strings and
            numbers.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with zipfile.ZipFile(path) as file:
                self._names = [name.removesuffix(".npy") for name in file.namelist()]
        except zipfile.BadZipFile as error:
            raise ValueError(f"{path.name} is no .npz archive: {error}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._names:
            raise KeyError(name)
        with zipfile.ZipFile(self._path) as file:
            member = f"{name}.npy" if f"{name}.npy" in file.namelist() else name
            size = file.getinfo(member).file_size
            try:
                with file.open(member) as stream:
                    return _read(stream, size)
            except (ValueError, pickle.UnpicklingError, EOFError, zipfile.BadZipFile) as error:
                raise ValueError(f"{self._path.name}, {name}: {error}") from None


def _read(stream: IO[bytes], size: int) -> NDArray[Any]:
    version = npy.read_magic(stream)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran_order, dtype = read_header(stream)
    if dtype.hasobject:
        array: NDArray[Any] = _Unpickler(stream, encoding="latin1").load()
        return array.reshape(shape)
    needed, there = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if needed != there:  # before any memory is taken
        raise ValueError(f"its header says {needed} bytes, but the file has {there}")
    flat = np.frombuffer(bytearray(stream.read()), dtype=dtype)
    return flat.reshape(shape, order="F" if fortran_order else "C")
