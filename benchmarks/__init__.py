"""Benchmarks. Each subpackage is run with `python -m benchmarks.NAME`."""
