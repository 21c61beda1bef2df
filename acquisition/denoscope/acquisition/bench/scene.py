"""A synthetic movie whose noise is known, so that no session needs to be calibrated for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime import Intensity

__all__ = ["POOL", "Scene", "make_scene"]

POOL = 8  # frames that are drawn; the camera sends them in turn

_OFFSET, _GAIN, _READ_NOISE = 100.0, 2.0, 3.0  # counts, counts per photon, counts
_DARKEST, _BRIGHTEST = 2.0, 60.0  # photons a pixel and frame
_GRAIN = 6.0  # pixels, the size of what the texture shows


@dataclass(frozen=True)
class Scene:
    """Noisy frames of one still texture.

    Attributes
    ----------
    frames
        (POOL, H, W) uint16, in counts.
    intensity
        The transform and the noise that the frames were drawn with.
    """

    frames: npt.NDArray[np.uint16]
    intensity: Intensity


def make_scene(shape: tuple[int, int], *, seed: int = 0) -> Scene:
    """Draw Poisson frames with read noise over a fixed texture.

    Parameters
    ----------
    shape
        (H, W) in pixels.
    seed
        Of the texture and the noise.
    """
    rng = np.random.default_rng(seed)
    photons = _texture(shape, rng)
    frames = np.empty((POOL, *shape), np.uint16)
    for frame in frames:
        counts = _OFFSET + _GAIN * rng.poisson(photons) + rng.normal(0.0, _READ_NOISE, shape)
        frame[...] = np.clip(np.rint(counts), 0, 65535)
    return Scene(frames, _intensity(photons))


def _texture(shape: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return photons per pixel (H, W): white noise, smoothed, most of it dark as in fluorescence."""
    rows = np.fft.fftfreq(shape[0])[:, None]
    columns = np.fft.rfftfreq(shape[1])[None, :]
    smoothing = np.exp(-2 * (np.pi * _GRAIN / 2) ** 2 * (rows**2 + columns**2))
    smooth = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * smoothing, s=shape)
    rank = (smooth - smooth.min()) / max(float(np.ptp(smooth)), 1e-12)
    photons: npt.NDArray[Any] = _DARKEST + (_BRIGHTEST - _DARKEST) * rank**3
    return photons


def _intensity(photons: npt.NDArray[np.float64]) -> Intensity:
    constant = _READ_NOISE**2 + 1 / 12  # rounding to whole counts
    offset = _OFFSET + _GAIN * float(np.median(photons))
    scale = float(np.sqrt(_GAIN * (offset - _OFFSET) + constant))
    darkest = _GAIN * _GAIN * float(photons.min()) + constant
    # The variance of a pixel with p photons is gain^2 p = gain (mean - offset of the camera).
    at_median = _GAIN * (offset - _OFFSET) + constant
    return Intensity(
        offset=offset, scale=scale, noise_slope=_GAIN / scale, noise_floor=min(darkest / at_median, 1.0)
    )
