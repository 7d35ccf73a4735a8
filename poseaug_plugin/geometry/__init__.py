"""Poses, bones, skeletons, operators and cameras: pure functions that know no configuration."""
