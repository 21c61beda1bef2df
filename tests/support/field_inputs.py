"""Movies of the kinds that people have and that once failed, from fixed seeds; for tests and benchmarks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["active_cells", "counts"]

FloatMovie = npt.NDArray[np.float64]


def active_cells(
    length: int = 120,
    height: int = 96,
    width: int = 112,
    *,
    seed: int = 0,
    photons: float = 6.0,
    gain: float = 20.0,
    offset: float = 100.0,
    read_noise: float = 3.0,
) -> tuple[FloatMovie, FloatMovie]:
    """Return (clean, noisy) movies (T, H, W) in counts: fourteen round cells that flash over an even background."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    light = np.full((height, width), 0.6)
    active = []
    for _ in range(14):
        cy, cx = random.uniform(6, height - 6), random.uniform(6, width - 6)
        radius = random.uniform(3, 5)
        cell = np.exp(-(((y - cy) ** 2 + (x - cx) ** 2) / (2 * radius**2)))
        light += cell * random.uniform(0.3, 1.2)
        trace = np.zeros(length)
        for start in random.choice(length, 2, replace=False):
            trace[start:] += np.exp(-np.arange(length - start) / 12.0) * random.uniform(1, 3)
        active.append((cell, trace))
    rate = np.broadcast_to(light, (length, height, width)).copy()
    for cell, trace in active:
        rate += trace[:, None, None] * cell
    rate *= photons
    noisy = random.poisson(rate) * gain + offset + random.normal(0, read_noise, rate.shape)
    return rate * gain + offset, noisy


def counts(movie: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Return the movie as 16-bit counts, rounded and clipped to what they can hold."""
    return np.clip(np.rint(movie), 0, 65535).astype(np.uint16)
