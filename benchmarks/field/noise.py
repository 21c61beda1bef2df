"""Noise of few photons to many on four detectors: the estimate never collapses, and the light is kept."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from denoscope.runtime import estimate_intensity
from support.field_inputs import DETECTORS, detected

from . import Case, Outcome
from ._warm import denoised

# Pixels by frames: the small movie has twice as many values as that of 32 frames.
_SIZES = {5: 96, 16: 96, 32: 96, 300: 48}
_SEEDS = 12
_THIRDS = ((0.01, 0.03, 0.1), (0.3, 1.0, 3.0), (10.0, 100.0, 1000.0))
_FACTOR = 2.0  # by which the variance may be off, in the mean and in each tenth of the brightness
_FACTOR_SAID = 3.0  # the same where the user is warned
# Pixels; in smaller pictures one with so many times the noise would decide about a tenth.
_LARGE, _HOT = 96 * 96, 10.0
_SHARE = 0.01  # of the light above the camera's offset, by which the mean may be off,
_ERRORS = 3.0  # and standard errors,
_ROUNDING = 0.5  # and counts: outputs are whole numbers
_OFFSETS = {"poisson": 200.0, "gamma pulses": 1500.0, "emccd": 1000.0, "scmos": 100.0}
_RIGHT_NOISE = (
    "variance within a factor of 2, of 3 with a warning, in the mean and in each tenth of the brightness"
)
_WITHOUT_HOT = " (of pictures below 96 x 96 without hot pixels, which have a noise of their own)"

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.uint16]


def cases() -> list[Case]:
    """Return the cases of this module: detectors over photons, lengths and seeds."""
    found = [
        _case(detector, (photons,), length, 1, f"{detector}, {photons:g} photons, {length} frames")
        for detector in DETECTORS
        for photons, length in ((0.01, 16), (0.1, 5), (1.0, 5), (1000.0, 5))
    ]
    found += [
        _case(
            *(detector, third, length, _SEEDS),
            f"grid: {detector}, {third[0]:g} to {third[-1]:g} photons, {length} frames",
            slow=True,
        )
        for length in _SIZES
        for detector in DETECTORS
        for third in _THIRDS
    ]
    return found


def _case(
    detector: str, photons: tuple[float, ...], length: int, seeds: int, name: str, *, slow: bool = False
) -> Case:
    hot = _WITHOUT_HOT if detector == "scmos" and _SIZES[length] < 96 else ""
    right = f"{_RIGHT_NOISE}{hot}; mean within 1 % of the light, 3 standard errors and half a count"
    return Case("noise", name, right, lambda _folder: _means(detector, photons, length, seeds), slow)


def _means(detector: str, photons: tuple[float, ...], length: int, seeds: int) -> Outcome:
    ratios, lost, wrong = [1.0], [0.0], []
    for level in photons:
        for seed in range(seeds):
            movie = detected(detector, level, length, seed=seed, shape=(_SIZES[length], _SIZES[length]))
            low, high, said = _estimate(*movie)
            off, allowed = _mean(detector, *movie)
            ratios += [low, high]
            lost.append(off / allowed)
            if not _is_right(low, high, said) or abs(off) > allowed:
                wrong.append(f"{level:g} photons, seed {seed}")
    return Outcome(
        f"{len(photons) * seeds} movies: variance {min(ratios):.2f} to {max(ratios):.2f} times the truth, "
        f"mean off by {abs(max(lost, key=abs)):.0%} of what is allowed at most, {len(wrong)} wrong{_which(wrong)}",
        passed=not wrong,
    )


def _which(wrong: list[str]) -> str:
    return f"; wrong: {', '.join(wrong[:4])}{' ...' if len(wrong) > 4 else ''}" if wrong else ""


def _is_right(low: float, high: float, said: bool) -> bool:
    factor = _FACTOR_SAID if said else _FACTOR
    return low >= 1 / factor and high <= factor


def _estimate(clean: Floats, variance: Floats, frames: Counts) -> tuple[float, float, bool]:
    """Return least and largest ratio of the estimated variance, and whether the user is warned."""
    found = estimate_intensity(frames[:32])
    z = (clean - found.offset) / found.scale
    noise = (np.maximum(found.noise_slope * z + 1, found.noise_floor) * found.scale**2).ravel()
    rounded = variance.ravel() + 1 / 12
    order = np.argsort(clean.ravel())
    if clean.size < _LARGE:
        order = order[rounded[order] < _HOT * np.median(rounded)]
    parts = [np.arange(clean.size), *np.array_split(order, 10)]
    ratios = [float(noise[part].mean() / rounded[part].mean()) for part in parts]
    return min(ratios), max(ratios), found.warning() is not None


def _mean(detector: str, clean: Floats, variance: Floats, frames: Counts) -> tuple[float, float]:
    """Return by how much the mean of the denoised movie is off, and may be."""
    outputs = denoised(frames)[0]
    off = float(np.mean([out.frame.mean() for out in outputs])) - float(frames.mean())
    light = float(clean.mean()) - _OFFSETS[detector]
    allowed = _SHARE * light + _ERRORS * float(np.sqrt(variance.mean() / frames.size)) + _ROUNDING
    return off, allowed
