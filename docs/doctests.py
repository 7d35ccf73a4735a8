"""A griffe extension: doctests in docstrings are shown as code, wherever they stand."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_DOCTEST = re.compile(r"(?m)^( *)>>> .*\n?(?:^\1\S.*\n?|^\1 +.*\n?)*")


class Doctests(Extension):
    """Puts each doctest into a fenced block of its own."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Change the docstring of one object."""
        if obj.docstring is not None and ">>> " in obj.docstring.value:
            text = obj.docstring.value.replace("Example:\n", "\n")
            obj.docstring.value = _DOCTEST.sub(_fenced, text)


def _fenced(match: re.Match[str]) -> str:
    indent, code = match[1], match[0].rstrip("\n")
    return f"\n{indent}```pycon\n{code}\n{indent}```\n"
