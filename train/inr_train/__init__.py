"""Fit a neural representation to a video."""
