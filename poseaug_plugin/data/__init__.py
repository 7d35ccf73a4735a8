"""Readers of the field's files, and a synthetic set that needs none."""
