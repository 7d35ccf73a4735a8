"""Past fakes, so that a discriminator cannot forget what it once caught."""

from __future__ import annotations

import torch
from torch import Tensor

from ..augment.draws import uniform

__all__ = ["FakePool"]


class FakePool:
    """A fixed number of rows that lives on the device of what is put in.

    Until it is full, rows go in and come out as they are. Then each row, by a fair coin, either
    passes or takes the place of a random stored row, which comes out instead.

    Source: Shrivastava et al., CVPR 2017, and the released code's pool, which loops over rows and
    may hit one slot twice in a batch; here the slots of a batch are distinct, and there is no loop.

    Args:
        size: rows kept.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.filled = 0
        self.items: Tensor | None = None

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Put in (B, ...) detached rows, get (B, ...) back."""
        if self.items is None:
            self.items = rows.new_zeros((self.size, *rows.shape[1:]))
        free = min(self.size - self.filled, len(rows))
        if free:
            self.items[self.filled : self.filled + free] = rows[:free]
            self.filled += free
        if free == len(rows):
            return rows
        chunks = rows[free:].split(self.size)  # a batch larger than the pool goes in turns
        return torch.cat([rows[:free], *(self._swap(c, self.items, generator) for c in chunks)])

    def _swap(self, rows: Tensor, items: Tensor, generator: torch.Generator) -> Tensor:
        slot = torch.randperm(self.size, generator=generator, device=rows.device)[: len(rows)]
        coin = uniform(generator, len(rows)) < 0.5
        swap = coin.view(-1, *[1] * (rows.ndim - 1))
        old = items[slot]
        items[slot] = torch.where(swap, rows, old)
        return torch.where(swap, old, rows)

    def state_dict(self) -> dict[str, object]:
        return {"filled": self.filled, "items": None if self.items is None else self.items.clone()}

    def load_state_dict(self, state: dict[str, object], device: torch.device) -> None:
        items = state["items"]
        self.filled = int(state["filled"])  # type: ignore[call-overload]
        self.items = items.to(device, copy=True) if isinstance(items, Tensor) else None
