"""Light that changes as a whole, and frames without a picture: frame means, dim tissue, and the frames around."""

from __future__ import annotations

import numpy as np

from denoscope.runtime import FrameMeta, Stream
from support.field_inputs import active_cells, counts

from . import Case, Outcome

_LENGTH = 64
_SLOPE = 0.02  # by which the slope may be off; no method can promise less
_ERRORS = 3.0  # than so many standard errors that the photons give the slope of the measured frames
_ROUNDING = 0.02  # more for dim tissue, where the output is in whole counts
_DIM = 0.3  # of the pixels, the darkest
_KINDS = ("flicker", "step", "alternating", "stimulus", "shutter", "bleaching jump", "ramp")


def cases() -> list[Case]:
    """Return the cases of this module: kinds of light over photons and sizes, and dark frames."""
    return [
        Case(
            "light",
            f"{kind}, {photons} photons, {size} pixels, {bundle}",
            "slope on true frame means 0.98 to 1.02, or 1 within 3 standard errors of the photons; dimmest 30 %: both",
            lambda _folder, kind=kind, photons=photons, size=size, bundle=bundle: _light(
                kind, photons, size, bundle
            ),
            slow=size > 96 or photons in (1, 60) or bundle != "live",
        )
        for bundle, photon_levels in (("live", (1, 6, 20, 60)), ("live-fast", (6, 20)))
        for size in (96, 256, 512)
        for photons in photon_levels
        for kind in _KINDS
        if bundle == "live" or size == 96
    ] + [
        Case(
            "light",
            f"dark frames {first} to {last}",
            "dark frames as measured; mean of the others within 2 counts of 80",
            lambda _folder, first=first, last=last: _dark(first, last),
        )
        for first, last in ((0, 0), (40, 49))
    ]


def _run(movie: np.ndarray, bundle: str = "live") -> tuple[np.ndarray, dict[str, int]]:
    with Stream(bundle, look_ahead=1) as stream:
        outputs = []
        for number, frame in enumerate(movie):
            outputs += stream.push(frame, FrameMeta(number, 0.0))
        outputs += stream.flush()
        return np.stack([o.frame for o in outputs]), dict(stream.counters.unusual)


def _slope(truth: np.ndarray, found: np.ndarray) -> float:
    return float(np.polyfit(truth[5:], found[5:], 1)[0])


def _light(kind: str, photons: float, size: int, bundle: str) -> Outcome:
    random = np.random.default_rng(3)
    light = active_cells(_LENGTH, size, size, photons=photons)[0] - 100
    t = np.arange(_LENGTH)
    gain = {
        "flicker": 1 + 0.15 * random.uniform(-1, 1, _LENGTH),
        "step": np.where(t < 30, 1, 1.4),
        "alternating": np.where(t % 2, 1, 0.5),
        "stimulus": np.ones(_LENGTH),
        "shutter": np.where(t % 23 >= 19, 0.0, 1.0),
        "bleaching jump": np.exp(-t / 200) * np.where(t < 32, 1, 0.7),
        "ramp": np.linspace(1, 1.6, _LENGTH),
    }[kind]
    added = np.where(t // 5 % 4 == 3, light.mean(), 0) if kind == "stimulus" else np.zeros(_LENGTH)
    clean = light * gain[:, None, None] + added[:, None, None]
    movie = counts(random.poisson(clean / 20) * 20.0 + 100 + random.normal(0, 3, clean.shape))
    found, unusual = _run(movie, bundle)
    dim = light.mean(0) <= np.quantile(light.mean(0), _DIM)
    said, passed = [], True
    for name, part in (("all", np.ones_like(dim)), ("dim", dim)):
        truth, made, raw = (frames[:, part].mean(1) for frames in (clean, found, movie))
        noise = float((20 * clean[:, part].mean() + 9) / part.sum()) ** 0.5
        error = noise / (float(truth[5:].std()) * (_LENGTH - 5) ** 0.5)
        slope = _slope(truth, made)
        most = max(_SLOPE, _ERRORS * error) if name == "all" else _ROUNDING + _ERRORS * error
        passed &= abs(slope - 1) <= most
        beyond = ", more than 0.02 because of the photons" if name == "all" and most > _SLOPE else ""
        said.append(
            f"{name} {slope:.3f} (measured {_slope(truth, raw):.3f}, by photons +-{error:.3f}, "
            f"allowed +-{most:.3f}{beyond})"
        )
    passed &= set(unusual) <= {"dark"} and (kind == "shutter" or not unusual)
    return Outcome(f"slope {', '.join(said)}; {unusual or 'no frame left out'}", bool(passed))


def _dark(first: int, last: int) -> Outcome:
    movie = counts(active_cells()[1])
    plain = _run(movie)[0]
    block = slice(first, last + 1)
    movie[block] = counts(100 + np.random.default_rng(5).normal(0, 3, movie[block].shape))
    found, unusual = _run(movie)
    same = bool((found[block] == movie[block]).all())
    away = np.abs(found.mean((1, 2)) - plain.mean((1, 2)))
    away[block] = 0
    passed = same and unusual == {"dark": last - first + 1} and bool(away.max() < 2)
    return Outcome(f"dark as measured: {same}; others within {away.max():.2f} counts; {unusual}", passed)
