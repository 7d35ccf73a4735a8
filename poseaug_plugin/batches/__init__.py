"""The caller's batch to a `PoseBatch` and back, and the check that it was read right."""
