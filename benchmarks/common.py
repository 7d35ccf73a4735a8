"""Where the benchmarks find the examples, and what they share with them."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Benchmarks run the examples' estimators, readers and metrics, which are scripts and not installed.
sys.path.insert(0, str(ROOT / "examples"))

from circumstances import circumstances, markdown, spread  # noqa: E402

__all__ = ["ROOT", "circumstances", "markdown", "spread"]
