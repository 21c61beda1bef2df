"""Movies of the kinds that people have and that once failed, from fixed seeds; for tests and benchmarks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["DETECTORS", "active_cells", "active_light", "counts", "detected", "lines_shifted"]

DETECTORS = ("poisson", "gamma pulses", "emccd", "scmos")

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
    rate = active_light(length, height, width, random)
    rate *= photons
    noisy = random.poisson(rate) * gain + offset + random.normal(0, read_noise, rate.shape)
    return rate * gain + offset, noisy


def active_light(length: int, height: int, width: int, random: np.random.Generator) -> FloatMovie:
    """Return the light (T, H, W) of `active_cells` for one photon of brightness."""
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
    return rate


def counts(movie: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Return the movie as 16-bit counts, rounded and clipped to what they can hold."""
    return np.clip(np.rint(movie), 0, 65535).astype(np.uint16)


def detected(
    detector: str, photons: float, length: int, *, seed: int = 0, shape: tuple[int, int] = (128, 128)
) -> tuple[FloatMovie, FloatMovie, npt.NDArray[np.uint16]]:
    """Return what a still, dim scene with a few brighter cells gives on one of the `DETECTORS`.

    Parameters
    ----------
    detector
        ``poisson``: 100 counts a photon above 200, read noise 4; ``gamma pulses``: a photomultiplier whose photons
        give gamma-shaped pulses of 1500 counts above 1500, electronics 150; ``emccd``: 400 counts a photon with an
        excess noise of 2 above 1000, read noise 40; ``scmos``: 2 counts a photon above 100, and a read noise of each
        pixel of its own, 20 counts in one pixel of 1000. The gain is lower where the light is so
        bright that 16 bits would not hold it.
    photons
        Mean of the frame.
    length, shape
        Frames, and their height and width.

    Returns
    -------
    tuple
        Clean counts (H, W), the variance of the noise of each pixel (H, W), and counts (T, H, W).
    """
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    light = np.full(shape, 0.8)
    for _ in range(6):
        cy, cx, radius = random.uniform(0, shape[0]), random.uniform(0, shape[1]), random.uniform(3, 6)
        light += random.uniform(0.5, 2) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * radius**2))
    light *= photons / light.mean()
    pulses = random.poisson(light, (length, *shape)).astype(np.float64)
    gain, excess, offset, read = {
        "poisson": (100.0, 1.0, 200.0, np.full(shape, 4.0)),
        "gamma pulses": (1500.0, 2.0, 1500.0, np.full(shape, 150.0)),
        "emccd": (400.0, 2.0, 1000.0, np.full(shape, 40.0)),
        "scmos": (2.0, 1.0, 100.0, 1.5 * np.exp(0.4 * random.normal(size=shape))),
    }[detector]
    if detector == "scmos":
        read[random.random(shape) < 0.001] = 20.0
    gain = min(gain, 12000 / photons)
    if excess > 1:
        pulses = random.gamma(np.maximum(pulses, 1e-9), 1.0) * (pulses > 0)
    noisy = offset + gain * pulses + read * random.normal(size=pulses.shape)
    return offset + gain * light, excess * gain**2 * light + read**2, counts(noisy)


def lines_shifted(
    pixels: float, length: int = 120, height: int = 96, width: int = 112, **scene: Any
) -> tuple[npt.NDArray[np.uint16], FloatMovie]:
    """Return (noisy, clean) movies of `active_cells` whose odd lines are shifted to the right."""
    margin = 8
    wide = active_cells(length, height, width + 2 * margin, **scene)[0]
    clean = wide[:, :, margin : margin + width].copy()
    whole = int(np.floor(pixels))
    for share, shift in ((1 - (pixels - whole), whole), (pixels - whole, whole + 1)):
        moved = wide[:, 1::2, margin - shift : margin - shift + width]
        clean[:, 1::2] = share * moved + (0 if shift == whole else clean[:, 1::2])
    random = np.random.default_rng(3)
    noisy = random.poisson((clean - 100) / 20) * 20.0 + 100 + random.normal(0, 3, clean.shape)
    return counts(noisy), clean
