"""A pool of past fake samples, so that a discriminator does not forget those it once recognised."""

from __future__ import annotations

import torch
from torch import Tensor

from ..augment.draws import uniform

__all__ = ["FakePool"]


class FakePool:
    """Keeps a fixed number of past rows, and mixes them with new ones.

    Until the pool is full, it stores all rows and returns them unchanged. Then, with probability
    1/2, a row is stored in place of a random row of the pool, which is returned instead.

    Source: Shrivastava et al., CVPR 2017, and the pool of the released code. That code loops over
    the rows and may choose a slot twice in a batch. Here the slots of a batch are distinct, and
    there is no loop.

    Args:
        size: number of rows.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.filled = 0
        self.items: Tensor | None = None  # on the device of the first rows

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Store some of the new rows, and return new and past rows.

        Args:
            rows: (B, ...), without gradient.
            generator: on the device of the rows.

        Returns:
            (B, ...).
        """
        if self.items is None:
            self.items = rows.new_zeros((self.size, *rows.shape[1:]))
        free = min(self.size - self.filled, len(rows))
        if free:
            self.items[self.filled : self.filled + free] = rows[:free]
            self.filled += free
        if free == len(rows):
            return rows
        chunks = rows[free:].split(self.size)  # slots are distinct, so at most `size` rows at once
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
