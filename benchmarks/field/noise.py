"""Noise of few photons to many on four detectors: the estimate never collapses, and the light is kept."""

from __future__ import annotations

import numpy as np

from denoscope.runtime import FrameMeta, Stream, estimate_intensity
from support.field_inputs import DETECTORS, detected

from . import Case, Outcome

_PHOTONS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0, 1000.0)
_LENGTHS = (5, 16, 32, 300)
_SEEDS = 12
_FACTOR = 2.0  # by which the variance may be off, in the mean and in each tenth of the brightness
_SHARE = 0.01  # of the light above the camera's offset, by which the mean may be off,
_ERRORS = 3.0  # and standard errors,
_ROUNDING = 0.5  # and counts: outputs are whole numbers
_OFFSETS = {"poisson": 200.0, "gamma pulses": 1500.0, "emccd": 1000.0, "scmos": 100.0}


def cases() -> list[Case]:
    """Return the cases of this module: detectors over photons, lengths and seeds."""
    found = [
        _case(detector, (photons,), (length,), 1, f"{detector}, {photons:g} photons, {length} frames")
        for detector in DETECTORS
        for photons, length in ((0.01, 16), (0.1, 5), (1.0, 5), (1000.0, 5))
    ]
    found += [
        _case(detector, _PHOTONS, (length,), _SEEDS, f"grid: {detector}, {length} frames", slow=True)
        for detector in DETECTORS
        for length in _LENGTHS
    ]
    return found


def _case(
    detector: str,
    photons: tuple[float, ...],
    lengths: tuple[int, ...],
    seeds: int,
    name: str,
    *,
    slow: bool = False,
) -> Case:
    right = "variance within a factor of 2; mean within 1 % of the light, 3 standard errors and half a count"
    return Case("noise", name, right, lambda _folder: _judge(detector, photons, lengths, seeds), slow)


def _judge(detector: str, photons: tuple[float, ...], lengths: tuple[int, ...], seeds: int) -> Outcome:
    ratios, lost, wrong, movies = [1.0], [0.0], [], 0
    for level in photons:
        for length in lengths:
            for seed in range(seeds):
                low, high, off, allowed = _movie(detector, level, length, seed)
                movies += 1
                ratios += [low, high]
                lost.append(off / allowed)
                if low < 1 / _FACTOR or high > _FACTOR or abs(off) > allowed:
                    wrong.append(f"{level:g} photons, seed {seed}")
    worst = max(lost, key=abs)
    which = f"; wrong: {', '.join(wrong[:4])}{' ...' if len(wrong) > 4 else ''}" if wrong else ""
    return Outcome(
        f"{movies} movies: variance {min(ratios):.2f} to {max(ratios):.2f} times the truth, "
        f"mean off by {abs(worst):.0%} of what is allowed at most, {len(wrong)} wrong{which}",
        passed=not wrong,
    )


def _movie(detector: str, photons: float, length: int, seed: int) -> tuple[float, float, float, float]:
    """Return least and largest ratio of the variance, and by how much the mean is and may be off."""
    clean, variance, frames = detected(detector, photons, length, seed=seed, shape=(96, 96))
    found = estimate_intensity(frames[:32])
    z = (clean - found.offset) / found.scale
    noise = (np.maximum(found.noise_slope * z + 1, found.noise_floor) * found.scale**2).ravel()
    rounded = variance.ravel() + 1 / 12
    parts = [np.arange(clean.size), *np.array_split(np.argsort(clean.ravel()), 10)]
    ratios = [float(noise[part].mean() / rounded[part].mean()) for part in parts]
    with Stream("live") as stream:
        outputs = [out for t, frame in enumerate(frames) for out in stream.push(frame, FrameMeta(t, 0.0))]
        outputs += stream.flush()
    off = float(np.mean([out.frame.mean() for out in outputs])) - float(frames.mean())
    light = float(clean.mean()) - _OFFSETS[detector]
    allowed = _SHARE * light + _ERRORS * float(np.sqrt(variance.mean() / frames.size)) + _ROUNDING
    return min(ratios), max(ratios), off, allowed
