"""The loops with Accelerate, Fabric and Lightning run on two real processes."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TWO = [sys.executable, "-W", "ignore"]
COMMANDS = {
    "accelerate": [
        *[*TWO, "-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv_endpoint=localhost:0"],
        *["--rdzv_backend=c10d", "examples/accelerate_loop.py", "--cpu"],
    ],
    "fabric": [*TWO, "examples/fabric_loop.py", "--accelerator=cpu", "--devices=2"],
    "lightning": [*TWO, "examples/lightning_loop.py", "--accelerator=cpu", "--devices=2"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_two_processes_share_the_batches_and_augment_them(name: str) -> None:
    pytest.importorskip("lightning" if name == "fabric" else name, exc_type=ImportError)
    done = subprocess.run(
        [*COMMANDS[name], "--rows=640", "--epochs=2", "--batch-size=64"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    printed = re.findall(r"2 processes; (\{.*\})", done.stdout)
    assert len(printed) == 1  # by the first process alone
    stats = ast.literal_eval(printed[0])
    assert stats["steps"] == stats["batches"] == 10  # 5 of 64 rows for each process and epoch
    assert stats["epochs"] == 2
    assert stats["bad_batches"] == 0
    assert 0.5 < stats["rows"] / 640 < 0.9
    assert stats["accepted"] > 0.9
    assert "cross-dataset MPJPE" in done.stdout
