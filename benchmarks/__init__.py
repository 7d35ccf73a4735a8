"""Measurements: each subpackage is run as `python -m benchmarks.NAME`."""
