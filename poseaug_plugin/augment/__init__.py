"""Augmentation without learning: sources of poses, body changes, views and projection."""
