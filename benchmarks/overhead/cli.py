"""Cost of the plugin compared with a plain training loop, by component, and with published code.

python -m benchmarks.overhead                                      # loops, loaders, memory, imports
python -m benchmarks.overhead --components --profile --scaling     # selected sections
python -m benchmarks.overhead --published FOLDER                   # a checkout of PoseAug

Everything that is compared is timed in one process in interleaved blocks and in steady state:
feedback is active from the start (warmup=0) and the discriminators' pools are full.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ..options import comma_separated
from ..tables import Row, console_table, save_results
from .loops import MODELS
from .sections import BASIC, SECTIONS


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overhead", description=(__doc__ or "").splitlines()[0]
    )
    for name, section in SECTIONS.items():
        option: dict[str, Any] = {"action": "store_true"}
        if name == "published":
            option = {"type": Path, "metavar": "FOLDER"}
        parser.add_argument(f"--{name}", help=section.__doc__, **option)
    names, numbers = comma_separated(str), comma_separated(int)
    gpu = torch.cuda.is_available()
    parser.add_argument("--device", type=names, default=["cpu", *["cuda"] * gpu])
    parser.add_argument("--models", type=names, default=list(MODELS), help=",".join(MODELS))
    parser.add_argument("--batches", type=numbers, default=[256, 1024, 4096])
    methods = ["random", "default", "residual", "released"]
    parser.add_argument("--methods", type=names, default=methods)
    parser.add_argument(
        "--report", action="store_true", help="--loops: each method also with report=True"
    )
    parser.add_argument("--rounds", type=int, default=9, help="number of timed rounds")
    parser.add_argument("--sizes", type=int, help="number of sizes per axis of --scaling")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--data", type=Path, help="folder of data files (default: synthetic motion)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    args, console = arguments(argv), Console()
    torch.set_num_threads(args.threads)
    chosen = [name for name in SECTIONS if getattr(args, name)] or BASIC
    results: dict[str, list[Row]] = {}
    for name in chosen:
        results[name] = list(SECTIONS[name](args))
        console.print(console_table(name, results[name]))
    return save_results(args, results, SECTIONS)
