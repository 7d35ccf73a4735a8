"""Measurements of time, arithmetic operations and memory."""

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
    "Quartiles",
    "Times",
    "Work",
    "count_flops",
    "growth_exponent",
    "peak_bytes",
    "processor_clock",
    "quartiles",
    "ratios",
    "time_interleaved",
]

Work = Callable[[], object]  # code to measure
Times = dict[str, list[float]]  # name: seconds of each round


class Quartiles(NamedTuple):
    """Lower quartile, median and upper quartile."""

    lower: float
    median: float
    upper: float


def time_interleaved(
    functions: Mapping[str, Work],
    rounds: int,
    device: str = "cpu",
    title: str = "",
    clock: Callable[[], float] = time.perf_counter,
) -> Times:
    """Seconds of each function in each round. A round calls every function once.

    Other load on the machine then slows all functions equally. Each round starts with a different
    function. A warm-up round comes first and is not counted.
    """
    names, times = list(functions), {name: list[float]() for name in functions}
    for number in track(range(rounds + 1), description=title, transient=True):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            _synchronize(device)
            start = clock()
            functions[name]()
            _synchronize(device)
            if number:
                times[name].append(clock() - start)
    return times


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def processor_clock(device: str) -> Callable[[], float]:
    """Processor time on one thread of a CPU, which other load hardly changes; else wall time."""
    alone = device == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


def quartiles(values: Sequence[float]) -> Quartiles:
    values = values if len(values) > 1 else [*values, *values]
    return Quartiles(*statistics.quantiles(values, n=4, method="inclusive"))


def ratios(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """Ratios round by round, so that load that slowed a whole round cancels."""
    return [value / other for value, other in zip(values, others, strict=True)]


def growth_exponent(sizes: Sequence[float], times: Sequence[float]) -> float:
    """Exponent of a power law fitted to the points by least squares in logarithms."""
    x, y = ([math.log(value) for value in values] for values in (sizes, times))
    return statistics.linear_regression(x, y).slope


def count_flops(work: Work) -> int:
    """Floating-point operations of matrix products and convolutions, backward passes included."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def peak_bytes(work: Work, device: str) -> int:
    """Peak memory that torch allocates during `work`, beyond the memory allocated before.

    On the CPU this is the sum of the profiler's allocator events, which excludes scratch memory of
    MKL and oneDNN.
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
    allocated = peak = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        allocated += change.nbytes()
        peak = max(peak, allocated)
    return peak
