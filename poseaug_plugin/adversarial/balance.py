"""Combines the gradients of the augmentor's losses, so that each of them is heard.

The losses differ by orders of magnitude in the size of their gradients: a loss in square metres
beside one of scores. A fixed weight for each cannot help, because these sizes change in training.
Here the gradient of each loss with respect to each output of the augmentor is divided by the root
of its running mean square. Weights are then shares. The mean is a geometric one: gradients that
were 10,000 times larger at the start are forgotten as soon as others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["Balance", "gradients_of", "sums_of_squares"]

MOMENTUM = 0.05  # weight of an update in the running means


class Balance:
    """Combines the gradients of several terms with respect to the outputs of a network.

    Args:
        terms: names of all terms.
        outputs: number of outputs.
        device: device of the outputs.
        on: False: the plain sum of the weighted gradients, without normalisation.

    Attributes:
        squares: running geometric mean of the mean square of the gradient of each term, (outputs,),
            by name, of the elements that are not 0 and for one row. It is 0 until a gradient is
            not.
    """

    def __init__(self, terms: Iterable[str], outputs: int, device: torch.device, on: bool) -> None:
        self.on = on
        self.squares = {
            name: torch.zeros(outputs, device=device, dtype=torch.float32) for name in terms
        }

    def combine(
        self,
        gradients: Mapping[str, Sequence[Tensor | None]],
        sums: Mapping[str, Tensor],
        weights: Mapping[str, float | Tensor],
        outputs: Sequence[Tensor],
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return the gradient for each output, and the share of each term in them.

        A share is the root mean square of a weighted gradient, divided by the sum of those of all
        terms.

        Args:
            gradients: the gradients of each term, see `gradients_of`.
            sums: see `sums_of_squares`. In a distributed run, those of all ranks, so that all
                ranks scale alike.
            weights: the weight of each term, a number or a scalar without gradient.
            outputs: the outputs of the network.
        """
        combined = [torch.zeros_like(output) for output in outputs]
        sizes: dict[str, Tensor] = {}
        for name, grad in gradients.items():
            weight, (total, count) = weights[name], sums[name]
            size = total / count.clamp_min(1e-6)
            factor = self._factor(name, size) if self.on else torch.ones_like(size)
            sizes[name] = (weight * _mean_of_nonzero(size * factor.square()).sqrt()).abs()
            for i, g in enumerate(grad):
                if g is not None:
                    combined[i] = combined[i] + weight * factor[i] * g
        whole = torch.stack([*sizes.values(), next(iter(outputs)).new_zeros(())]).sum()
        return combined, {name: (size / whole).nan_to_num(0.0) for name, size in sizes.items()}

    def _factor(self, name: str, size: Tensor) -> Tensor:
        """Update the running mean squares, and return one over their root; 0 where they are 0.

        A gradient far above the mean is divided by a part of its own size, so that none counts
        more than about four times its weight.
        """
        old = self.squares[name]
        usable = size.isfinite() & (size > 0)
        mean = torch.where(old > 0, old ** (1 - MOMENTUM) * size**MOMENTUM, size)
        self.squares[name] = mean = torch.where(usable, mean, old)
        scale = torch.where(usable, torch.maximum(mean, MOMENTUM * size), mean)
        return torch.where(scale > 0, scale.rsqrt(), 0.0)


def gradients_of(
    losses: Mapping[str, Tensor], outputs: Sequence[Tensor]
) -> dict[str, tuple[Tensor | None, ...]]:
    """Return the gradients of the losses that have one, with respect to each output.

    The graph is freed with the last loss, which must be that of the estimator: a compiled model
    refuses a backward pass that keeps its graph.
    """
    used = [name for name, loss in losses.items() if loss.requires_grad]
    return {
        name: torch.autograd.grad(
            losses[name], outputs, retain_graph=name != used[-1], allow_unused=True
        )
        for name in used
    }


def sums_of_squares(
    gradients: Mapping[str, Sequence[Tensor | None]], outputs: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Return sums of squares and numbers of the elements of each gradient that are not 0.

    A loss is a mean over rows, so its gradient shrinks with their number. The squares are those of
    the gradients times that number.

    Returns:
        (2, outputs) for each term, by name.
    """
    return {
        name: torch.stack([_sum_of_squares(g, output) for g, output in zip(grad, outputs)], 1)
        for name, grad in gradients.items()
    }


def _sum_of_squares(grad: Tensor | None, output: Tensor) -> Tensor:
    if grad is None:
        return output.new_zeros(2)
    return torch.stack([(len(output) * grad).square().sum(), grad.count_nonzero()])


def _mean_of_nonzero(x: Tensor) -> Tensor:
    return x.sum() / x.count_nonzero().clamp_min(1)
