"""Skeletons, bones, poses, operators and cameras: pure functions without configuration."""
