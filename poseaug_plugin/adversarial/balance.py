"""Combines the gradients of the augmentor's losses, so that each of them is heard.

The losses differ by orders of magnitude in the size of their gradients: a loss in square metres
beside one of scores. A fixed weight for each cannot help, because these sizes change in training.
Here the gradient of each loss with respect to each output of the augmentor is divided by its
running root mean square. Weights are then shares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..loop.distributed import average

__all__ = ["Balance", "Term"]

MOMENTUM = 0.05  # weight of an update in the running mean squares


class Term(NamedTuple):
    """A term of the augmentor's loss.

    Attributes:
        loss: a scalar.
        weight: a number, or a scalar without gradient.
    """

    loss: Tensor
    weight: float | Tensor


class Balance:
    """Combines the gradients of several terms with respect to the outputs of a network.

    Args:
        terms: names of all terms.
        outputs: number of outputs.
        device: device of the outputs.
        on: False: the plain sum of the weighted gradients, without normalisation.

    Attributes:
        squares: running mean square of the gradient of each term, (outputs,), by name. It is 0
            until a gradient is not.
    """

    def __init__(self, terms: Iterable[str], outputs: int, device: torch.device, on: bool) -> None:
        self.on = on
        self.squares = {
            name: torch.zeros(outputs, device=device, dtype=torch.float32) for name in terms
        }

    def combine(
        self, terms: Mapping[str, Term], outputs: Sequence[Tensor]
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return the gradient for each output, and the share of each term in them.

        A share is the root mean square of a weighted gradient, divided by the sum of those of all
        terms. The graph of the losses is freed by the last term, which must be that of the
        estimator: a compiled model refuses a backward pass that keeps its graph.
        """
        grads, used = {}, [name for name, term in terms.items() if term.loss.requires_grad]
        for name in used:
            grads[name] = torch.autograd.grad(
                terms[name].loss, outputs, retain_graph=name != used[-1], allow_unused=True
            )
        now = {
            name: torch.stack([_mean_square(g, output) for g, output in zip(grad, outputs)])
            for name, grad in grads.items()
        }
        average(now.values())  # all ranks scale alike
        combined = [torch.zeros_like(output) for output in outputs]
        sizes: dict[str, Tensor] = {}
        for name, grad in grads.items():
            weight, size = terms[name].weight, now[name]
            factor = torch.ones_like(size)
            if self.on:
                factor = self._factor(name, size) / len(outputs[0])
            sizes[name] = (weight * _mean_of_nonzero(size * factor.square()).sqrt()).abs()
            for i, g in enumerate(grad):
                if g is not None:
                    combined[i] = combined[i] + weight * factor[i] * g
        total = torch.stack([*sizes.values(), next(iter(outputs)).new_zeros(())]).sum()
        return combined, {name: (size / total).nan_to_num(0.0) for name, size in sizes.items()}

    def _factor(self, name: str, size: Tensor) -> Tensor:
        """Update the running mean squares, and return one over their root; 0 where they are 0."""
        old = self.squares[name]
        new = torch.where(old > 0, torch.lerp(old, size, MOMENTUM), size)
        usable = size.isfinite() & (size > 0)
        self.squares[name] = new = torch.where(usable, new, old)
        return torch.where(new > 0, new.rsqrt(), 0.0)


def _mean_square(grad: Tensor | None, output: Tensor) -> Tensor:
    """Return the mean square of the elements of a gradient that are not 0, a scalar."""
    return output.new_zeros(()) if grad is None else _mean_of_nonzero(grad.square())


def _mean_of_nonzero(x: Tensor) -> Tensor:
    return x.sum() / x.count_nonzero().clamp_min(1)
