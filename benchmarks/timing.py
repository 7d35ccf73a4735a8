"""How the benchmarks measure: time in turns with others, arithmetic, memory."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from rich.progress import track
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

__all__ = [
    "Spread",
    "Times",
    "Work",
    "flops",
    "interleaved",
    "peak_bytes",
    "quartiles",
    "ratios",
    "slope",
]

Work = Callable[[], object]
Times = dict[str, list[float]]  # seconds of each round


class Spread(NamedTuple):
    """Lower quartile, median, upper quartile."""

    low: float
    middle: float
    high: float


def interleaved(
    recipes: Mapping[str, Work], rounds: int, device: str = "cpu", title: str = ""
) -> Times:
    """Seconds that every recipe took in every round, one after the other within a round.

    A busy neighbour then slows all of them alike. Each round starts with another recipe; the
    first round warms up and is not counted.
    """
    names, times = list(recipes), {name: list[float]() for name in recipes}
    for number in track(range(rounds + 1), description=title, transient=True):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            _settle(device)
            start = time.perf_counter()
            recipes[name]()
            _settle(device)
            if number:
                times[name].append(time.perf_counter() - start)
    return times


def _settle(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def quartiles(values: Sequence[float]) -> Spread:
    several = values if len(values) > 1 else [*values, *values]
    return Spread(*statistics.quantiles(several, n=4, method="inclusive"))


def ratios(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """Round by round, so that what slowed both in a round cancels."""
    return [value / other for value, other in zip(values, others, strict=True)]


def slope(sizes: Sequence[float], times: Sequence[float]) -> float:
    """The exponent of a power law through the points, by least squares in logarithms."""
    x, y = ([math.log(value) for value in values] for values in (sizes, times))
    return statistics.linear_regression(x, y).slope


def flops(work: Work) -> int:
    """Floating point operations of matrix products and convolutions, backward passes included."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def peak_bytes(work: Work, device: str) -> int:
    """The most that torch held at once in `work`, above what it held before.

    On the CPU the sum of what its allocator reports to the profiler; scratch memory of MKL and
    oneDNN is not in it.
    """
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    recorded = profiler.profiler.kineto_results.events()
    changes = [event for event in recorded if event.name() == "[memory]"]
    held = most = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        held += change.nbytes()
        most = max(most, held)
    return most
