"""One thread, since results must not hinge on the machine; and a CUDA device, real or simulated."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from simulated_cuda import SimulatedCuda

torch.set_num_threads(1)

#: Without it, cuBLAS refuses to multiply in deterministic mode. It is read once, at the start.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture
def cuda() -> Iterator[SimulatedCuda | None]:
    """Provide a CUDA device: None for a real one, otherwise the simulation."""
    if torch.cuda.is_available():
        yield None
    else:
        with SimulatedCuda() as simulated:
            yield simulated
