"""Counts the operations that a call starts, whatever the machine and the number of rows."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

import poseaug_plugin

__all__ = ["OperationCounter", "profiled_operations"]

PACKAGE = str(Path(poseaug_plugin.__file__).parent)
# They only look at the memory of another tensor, or reserve some.
WITHOUT_KERNEL = {"_unsafe_view", "detach", "empty", "empty_strided", "new_empty", "lift_fresh"}


class OperationCounter(TorchDispatchMode):
    """Counts the operations inside a `with` block that are no views: about one GPU kernel each.

    Attributes:
        by_module: their number for each module of the package, as `augment/prior`.
        views: the number of the others.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.by_module: Counter[str] = Counter()
        self.views = 0

    @property
    def total(self) -> int:
        """The number of operations that are no views."""
        return sum(self.by_module.values())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        schema = func._schema
        aliases = [returned.alias_info for returned in schema.returns if returned.alias_info]
        is_view = any(not alias.is_write for alias in aliases)
        if is_view or schema.name.removeprefix("aten::") in WITHOUT_KERNEL:
            self.views += 1
        else:
            self.by_module[_module(sys._getframe(1))] += 1
        return func(*args, **(kwargs or {}))


def _module(frame: FrameType | None) -> str:
    """The module of the package that is innermost on the stack."""
    while frame and not frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    if frame is None:
        return "caller"
    return str(Path(frame.f_code.co_filename).relative_to(PACKAGE).with_suffix(""))


def profiled_operations(call: Callable[[], object]) -> int:
    """All ATen operations of a call as torch's profiler lists them, views and nested ones too."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        call()
    events = profiler.key_averages()
    return sum(event.count for event in events if event.key.startswith("aten::"))
