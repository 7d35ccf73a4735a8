"""One thread, since results must not hinge on the machine; synthetic motion that is generated once;
and a CUDA device, real or simulated.
"""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Iterator

import pytest
import torch

from poseaug_plugin.data import Pairs, synthetic
from simulated_cuda import SimulatedCuda

torch.set_num_threads(1)

#: Without it, cuBLAS refuses to multiply in deterministic mode. It is read once, at the start.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def pytest_configure(config: pytest.Config) -> None:
    """Let xdist take the files in order. By default those with few tests, the slowest, are last."""
    config.option.loadscopereorder = False


generated = functools.lru_cache(maxsize=2)(synthetic.make)


@functools.wraps(synthetic.make)
def make(seed: int = 0) -> tuple[Pairs, Pairs, Pairs]:
    return copy.deepcopy(generated(seed))


#: Dozens of tests need the same motion, which takes half a second. `__wrapped__` is the original.
synthetic.make = make


@pytest.fixture
def cuda() -> Iterator[SimulatedCuda | None]:
    """Provide a CUDA device: None for a real one, otherwise the simulation."""
    if torch.cuda.is_available():
        yield None
    else:
        with SimulatedCuda() as simulated:
            yield simulated
