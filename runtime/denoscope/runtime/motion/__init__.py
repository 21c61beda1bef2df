"""Measure how the scene moves, and say where each frame lies on it."""
