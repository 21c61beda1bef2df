"""Fine structure (H, W) of tissue: granular neuropil, dendrites, axons with their swellings, capillaries."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .shapes import blurred_noise

__all__ = ["fibres", "granular", "random_fibres"]

FloatArray = npt.NDArray[np.float32]

_STEP = 0.5  # pixels between two points of a fibre


def granular(shape: tuple[int, int], contrast: float, rng: np.random.Generator) -> FloatArray:
    """Grains of a few pixels and less, denser in some places than in others, (H, W) with mean one.

    Parameters
    ----------
    shape
        Of the image.
    contrast
        Standard deviation of the grains.
    rng
        Source of every choice.
    """
    density = 10 ** rng.uniform(-1.5, 0.5)  # grains a pixel: few bright ones, or many that overlap
    coarse = rng.uniform(0.8, 2.5)
    field = np.zeros(shape, np.float32)
    for width, weight in ((rng.uniform(0.45, 0.9), 1.0), (coarse, rng.uniform(0.3, 1.0))):
        grains = ndimage.gaussian_filter(rng.standard_gamma(density, shape), width, mode="wrap")
        field += weight * ((grains - grains.mean()) / (grains.std() + 1e-9)).astype(np.float32)
    field /= field.std() + 1e-9
    places = np.exp(0.6 * blurred_noise(shape, rng.uniform(6, 25), rng))
    return np.asarray((1 + contrast * field * places / places.mean()).clip(0.05), np.float32)


def fibres(
    shape: tuple[int, int],
    starts: npt.NDArray[np.float64],
    length: float,
    rng: np.random.Generator,
    *,
    width: float,
    wander: float = 0.08,
) -> FloatArray:
    """Fibres that wind from their starts, (H, W): their middle line has a light of about one.

    Parameters
    ----------
    shape
        Of the image.
    starts
        (n, 2) as (y, x) in pixels.
    length
        Of each fibre, in pixels; what lies outside the image is cut.
    rng
        Source of every choice.
    width
        Standard deviation of the profile, in pixels.
    wander
        Standard deviation of the turn in each half pixel, in radians.
    """
    count, steps = len(starts), max(2, int(length / _STEP))
    angle = rng.uniform(0, 2 * np.pi, (count, 1)) + np.cumsum(rng.normal(0, wander, (count, steps)), axis=1)
    points = starts[:, None] + _STEP * np.cumsum(np.stack([np.sin(angle), np.cos(angle)], axis=-1), axis=1)
    beads = ndimage.gaussian_filter1d(rng.standard_normal((count, steps)), 2.0, axis=1, mode="wrap")
    light = np.exp(rng.uniform(0.2, 1.0) * 2.6 * beads)  # the filter leaves 0.38 of the deviation
    inside = ((points >= 0) & (points < np.asarray(shape) - 1)).all(axis=-1)
    points, light = points[inside], light[inside]
    corner = points.astype(np.intp)
    rest = points - corner
    image = np.zeros(shape)
    for y in (0, 1):
        for x in (0, 1):
            share = np.abs(1 - y - rest[:, 0]) * np.abs(1 - x - rest[:, 1])
            np.add.at(image, (corner[:, 0] + y, corner[:, 1] + x), light * share)
    blurred = ndimage.gaussian_filter(image, width, mode="constant")
    return np.asarray(blurred * (np.sqrt(2 * np.pi) * width * _STEP), np.float32)


def random_fibres(shape: tuple[int, int], count: int, rng: np.random.Generator) -> FloatArray:
    """Fibres of one neuron out of focus and in it, anywhere in the image, (H, W)."""
    starts = rng.uniform((0, 0), shape, (count, 2))
    length = float(np.exp(rng.uniform(np.log(8), np.log(100))))
    return fibres(
        shape, starts, length, rng, width=rng.uniform(0.45, 1.1), wander=10 ** rng.uniform(-1.6, -0.7)
    )
