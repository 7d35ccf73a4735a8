"""Types of command-line options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import TypeVar

__all__ = ["comma_separated", "names_among"]

T = TypeVar("T")


def comma_separated(convert: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    """Parser of comma-separated values, for `type=` of an argument.

    >>> comma_separated(int)("0,1,2")
    (0, 1, 2)
    """

    def parse(text: str) -> tuple[T, ...]:
        return tuple(map(convert, text.split(",")))

    parse.__name__ = f"comma-separated {convert.__name__}"  # argparse prints it
    return parse


def names_among(choices: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    """Parser of comma-separated names among the choices. `all` selects all of them.

    >>> names_among(["mlp", "semgcn", "stgcn"])("mlp,stgcn")
    ('mlp', 'stgcn')
    """
    known = tuple(choices)

    def parse(text: str) -> tuple[str, ...]:
        names = known if text == "all" else tuple(text.split(","))
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"unknown name {', '.join(unknown)}, expected some of {', '.join(known)}, or all"
            )
        return names

    return parse
