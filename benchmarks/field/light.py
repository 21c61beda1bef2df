"""Light that changes as a whole, and frames without a picture: frame means, dim tissue, and the frames around."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from support.field_inputs import active_cells, active_light, counts

from . import Case, Outcome
from ._warm import denoised

_LENGTHS = {96: 64, 256: 64, 512: 48}  # frames; the large pictures have photons enough
_GAIN, _OFFSET, _READ = 20, 100, 3  # counts a photon, counts, counts
_SLOPE = 0.02  # by which the slope may be off; no method can promise less
_ERRORS = 3.0  # than so many standard errors that the photons give the slope of the measured frames
_ROUNDING = 0.02  # more for dim tissue, where the output is in whole counts
_DIM = 0.3  # of the pixels, the darkest
_KINDS = ("flicker", "step", "alternating", "stimulus", "shutter", "bleaching jump", "ramp")
_KINDS_DIM = ("alternating", "step", "flicker")
_SCENES = {96: 6, 256: 3}  # whose slopes in dim tissue are averaged: what is left is the error of the method


def cases() -> list[Case]:
    """Return the cases of this module: kinds of light over photons and sizes, and dark frames."""
    return (
        [
            Case(
                "light",
                f"{kind}, {photons} photons, {size} pixels, {bundle}",
                "slope on true frame means 0.98 to 1.02, or 3 standard errors of the photons off; dimmest 30 %: both",
                lambda _folder, kind=kind, photons=photons, size=size, bundle=bundle: _light(
                    kind, photons, size, bundle
                ),
                slow=size > 96,
            )
            for bundle, photon_levels in (("live", (1, 6, 20, 60)), ("live-fast", (6, 20)))
            for size in (96, 256, 512)
            for photons in photon_levels
            for kind in _KINDS
            if bundle == "live" or size == 96
        ]
        + [
            Case(
                "light",
                f"dim tissue, {kind}, {photons} photons, {size} pixels",
                f"dimmest 30 % of {scenes} movies: mean slope 0.98 to 1.02, or 3 standard errors of the photons off",
                lambda _folder, kind=kind, photons=photons, size=size: _dim(kind, photons, size),
                slow=size > 96,
            )
            for size, scenes in _SCENES.items()
            for photons in (1, 6, 60)
            for kind in _KINDS_DIM
        ]
        + [
            Case(
                "light",
                f"dark frames {first} to {last}",
                "dark frames as measured; mean of the others within 2 counts of 80",
                lambda _folder, first=first, last=last: _dark(first, last),
            )
            for first, last in ((0, 0), (40, 49))
        ]
    )


def _run(movie: np.ndarray, bundle: str = "live") -> tuple[np.ndarray, dict[str, int]]:
    outputs, stream, _ = denoised(movie, bundle, look_ahead=1)
    return np.stack([o.frame for o in outputs]), dict(stream.counters.unusual)


@cache
def _light_of_cells(size: int, scene: int = 0) -> npt.NDArray[Any]:
    """Return the light (T, H, W) of a scene for one photon of brightness."""
    light = active_light(_LENGTHS[size], size, size, np.random.default_rng(scene))
    return light.astype(np.float32)


def _lit(kind: str, photons: float, size: int, scene: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a movie under some kind of light: true light in counts, measured counts, and which pixels are dim."""
    random = np.random.default_rng(3 + scene)
    length = _LENGTHS[size]
    light = _light_of_cells(size, scene) * np.float32(photons)
    t = np.arange(length)
    gain = {
        "flicker": 1 + 0.15 * random.uniform(-1, 1, length),
        "step": np.where(t < 30, 1, 1.4),
        "alternating": np.where(t % 2, 1, 0.5),
        "stimulus": np.ones(length),
        "shutter": np.where(t % 23 >= 19, 0.0, 1.0),
        "bleaching jump": np.exp(-t / 200) * np.where(t < 32, 1, 0.7),
        "ramp": np.linspace(1, 1.6, length),
    }[kind].astype(np.float32)
    dim = light.mean(0) <= np.quantile(light.mean(0), _DIM)
    if kind == "stimulus":
        light += np.where(t // 5 % 4 == 3, light.mean(), 0).astype(np.float32)[:, None, None]
    else:
        light *= gain[:, None, None]
    movie = _measured(light, random)
    return light * _GAIN, movie, dim


@dataclass(frozen=True)
class _Slopes:
    """Slope of denoised and of measured on true means, and the standard error that the photons give the latter."""

    made: float
    measured: float
    error: float


def _slopes(clean: np.ndarray, found: np.ndarray, movie: np.ndarray, part: np.ndarray) -> _Slopes:
    truth, made, raw = (frames[:, part].mean(1, dtype=np.float64) for frames in (clean, found, movie))
    noise = float((_GAIN * truth.mean() + _READ**2) / part.sum()) ** 0.5
    error = noise / (float(truth[5:].std()) * (len(truth) - 5) ** 0.5)
    return _Slopes(_slope(truth, made), _slope(truth, raw), error)


def _slope(truth: np.ndarray, found: np.ndarray) -> float:
    return float(np.polyfit(truth[5:], found[5:], 1)[0])


def _light(kind: str, photons: float, size: int, bundle: str) -> Outcome:
    clean, movie, dim = _lit(kind, photons, size)
    found, unusual = _run(movie, bundle)
    said, passed = [], True
    for name, part in (("all", np.ones_like(dim)), ("dim", dim)):
        slopes = _slopes(clean, found, movie, part)
        error = slopes.error
        most = max(_SLOPE, _ERRORS * error) if name == "all" else _ROUNDING + _ERRORS * error
        passed &= abs(slopes.made - 1) <= most
        beyond = ", more than 0.02 because of the photons" if name == "all" and most > _SLOPE else ""
        said.append(
            f"{name} {slopes.made:.3f} (measured {slopes.measured:.3f}, by photons +-{error:.3f}, "
            f"allowed +-{most:.3f}{beyond})"
        )
    passed &= set(unusual) <= {"dark"} and (kind == "shutter" or not unusual)
    return Outcome(f"slope {', '.join(said)}; {unusual or 'no frame left out'}", bool(passed))


def _dim(kind: str, photons: float, size: int) -> Outcome:
    found = []
    for scene in range(_SCENES[size]):
        clean, movie, dim = _lit(kind, photons, size, scene)
        found.append(_slopes(clean, _run(movie)[0], movie, dim))
    made, measured, error = (
        float(np.mean([getattr(each, name) for each in found])) for name in ("made", "measured", "error")
    )
    error /= len(found) ** 0.5
    most = max(_SLOPE, _ERRORS * error)
    beyond = ", more than 0.02 because of the photons" if most > _SLOPE else ""
    got = (
        f"slope {made:.3f} (measured {measured:.3f}, by photons +-{error:.3f}, allowed +-{most:.3f}{beyond})"
    )
    return Outcome(got, abs(made - 1) <= most)


def _measured(light: npt.NDArray[Any], random: np.random.Generator) -> npt.NDArray[np.uint16]:
    """Return what a camera measures of photons (T, H, W), made frame by frame to keep the memory small."""
    movie = np.empty(light.shape, np.uint16)
    for frame, made in zip(light, movie, strict=True):
        read = random.standard_normal(frame.shape, np.float32) * _READ
        made[...] = counts(random.poisson(frame) * float(_GAIN) + _OFFSET + read)
    return movie


@cache
def _undisturbed() -> np.ndarray:
    return _run(counts(active_cells()[1]))[0]


def _dark(first: int, last: int) -> Outcome:
    movie = counts(active_cells()[1])
    plain = _undisturbed()
    block = slice(first, last + 1)
    movie[block] = counts(100 + np.random.default_rng(5).normal(0, 3, movie[block].shape))
    found, unusual = _run(movie)
    same = bool((found[block] == movie[block]).all())
    away = np.abs(found.mean((1, 2)) - plain.mean((1, 2)))
    away[block] = 0
    passed = same and unusual == {"dark": last - first + 1} and bool(away.max() < 2)
    return Outcome(f"dark as measured: {same}; others within {away.max():.2f} counts; {unusual}", passed)
