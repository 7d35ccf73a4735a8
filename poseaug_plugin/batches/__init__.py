"""Converts the caller's batches to `PoseBatch` and back, and checks that they are read right."""
