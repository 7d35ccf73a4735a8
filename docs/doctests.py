"""Griffe extensions: doctests are shown as code, and options with their defaults alone."""

from __future__ import annotations

import re
from typing import Any

from griffe import Attribute, ExprCall, Extension, Object

_DOCTEST = re.compile(r"(?m)^( *)>>> .*\n?(?:^\1\S.*\n?|^\1 +.*\n?)*")


class Defaults(Extension):
    """Shows a field `option(default, ...)` or `number(default, ...)` as its default."""

    def on_attribute_instance(self, *, attr: Attribute, **_: Any) -> None:
        """Change the value of one attribute."""
        value = attr.value
        if isinstance(value, ExprCall) and str(value.function) in ("option", "number"):
            attr.value = value.arguments[0]


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
