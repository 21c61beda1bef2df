"""Short events that no neighbouring frame foretells: flashes of somata and processes, one to a few frames long."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["add_flashes"]

FloatArray = npt.NDArray[np.float32]

_SIZES_PX = (1.5, 8.0)
_AMPLITUDES = (0.3, 8.0)  # of the movie's mean brightness
_LONGEST = 24  # frames


def add_flashes(brightness: FloatArray, per_frame: float, rng: np.random.Generator) -> None:
    """Add flashes to a movie in place.

    Parameters
    ----------
    brightness
        (T, H, W) expected brightness in any unit.
    per_frame
        Mean number of flashes that begin in a frame and 10,000 pixels.
    rng
        Source of every choice.
    """
    length, height, width = brightness.shape
    mean = float(brightness.mean())
    for _ in range(int(rng.poisson(per_frame * length * height * width / 1e4))):
        start = int(rng.integers(length))
        course = _course(rng)[: length - start]
        amplitude = mean * float(np.exp(rng.uniform(*np.log(_AMPLITUDES))))
        (top, left), patch = _patch(height, width, rng)
        rows, columns = patch.shape
        brightness[start : start + len(course), top : top + rows, left : left + columns] += (
            amplitude * course[:, None, None] * patch
        )


def _course(rng: np.random.Generator) -> FloatArray:
    """Return brightness over time, peak 1: one frame, a few equal frames, or a fast exponential decay."""
    kind = rng.random()
    if kind < 0.4:
        return np.ones(1, np.float32)
    if kind < 0.7:
        return np.ones(int(rng.integers(2, 6)), np.float32)
    decay = float(rng.uniform(0.7, 6.0))
    return np.exp(-np.arange(_LONGEST) / decay).astype(np.float32)


def _patch(height: int, width: int, rng: np.random.Generator) -> tuple[tuple[int, int], FloatArray]:
    """Return the corner and the image of a soft ellipse with its centre in the frame, peak 1."""
    radius = float(np.exp(rng.uniform(*np.log(_SIZES_PX))))
    stretch, angle = float(np.exp(rng.uniform(0.0, 0.9))), float(rng.uniform(0, np.pi))
    reach = int(np.ceil(radius * stretch)) + 2
    y, x = float(rng.uniform(0, height)), float(rng.uniform(0, width))
    top, left = max(0, int(y) - reach), max(0, int(x) - reach)
    rows = np.arange(top, min(height, int(y) + reach + 1))[:, None] - y
    columns = np.arange(left, min(width, int(x) + reach + 1))[None, :] - x
    u = (np.cos(angle) * columns + np.sin(angle) * rows) / stretch
    v = (-np.sin(angle) * columns + np.cos(angle) * rows) * stretch
    edge = np.clip((np.hypot(u, v) - radius) / 0.4, -30, 30)
    return (top, left), (1 / (1 + np.exp(edge))).astype(np.float32)
