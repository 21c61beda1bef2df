"""Light that changes as a whole, and frames without a picture: frame means, dim tissue, and the frames around."""

from __future__ import annotations

import numpy as np

from denoscope.runtime import FrameMeta, Stream
from support.field_inputs import active_cells, counts

from . import Case, Outcome

_LENGTH = 64
_BRIGHT = 0.02  # of the slope


def cases() -> list[Case]:
    """Return the cases of this module: kinds of light over photons and sizes, and dark frames."""
    kinds = ("flicker", "step", "alternating", "stimulus")
    return [
        Case(
            "light",
            f"{kind}, {photons} photons, {size} pixels",
            "slope of frame means as without the change of light, within 0.04",
            lambda _folder, kind=kind, photons=photons, size=size: _light(kind, photons, size),
            slow=size > 96,
        )
        for size in (96, 256)
        for photons in (6, 60)
        for kind in kinds
    ] + [
        Case(
            "light",
            f"dark frames {first} to {last}",
            "dark frames as measured; mean of the others within 2 counts of 80",
            lambda _folder, first=first, last=last: _dark(first, last),
        )
        for first, last in ((0, 0), (40, 49))
    ]


def _run(movie: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    with Stream("live", look_ahead=1) as stream:
        outputs = []
        for number, frame in enumerate(movie):
            outputs += stream.push(frame, FrameMeta(number, 0.0))
        outputs += stream.flush()
        return np.stack([o.frame for o in outputs]), dict(stream.counters.unusual)


def _slope(truth: np.ndarray, found: np.ndarray) -> float:
    return float(np.polyfit(truth.mean((1, 2))[5:], found.mean((1, 2))[5:], 1)[0])


def _light(kind: str, photons: float, size: int) -> Outcome:
    random = np.random.default_rng(3)
    light = active_cells(_LENGTH, size, size, photons=photons)[0] - 100
    t = np.arange(_LENGTH)
    gain = {
        "flicker": 1 + 0.15 * random.uniform(-1, 1, _LENGTH),
        "step": np.where(t < 30, 1, 1.4),
        "alternating": np.where(t % 2, 1, 0.5),
        "stimulus": np.ones(_LENGTH),
    }[kind]
    added = np.where(t // 5 % 4 == 3, light.mean(), 0) if kind == "stimulus" else np.zeros(_LENGTH)

    def slope(clean: np.ndarray) -> float:
        noisy = random.poisson(clean / 20) * 20.0 + 100 + random.normal(0, 3, clean.shape)
        return _slope(clean, _run(counts(noisy))[0])

    changed, steady = slope(light * gain[:, None, None] + added[:, None, None]), slope(light)
    passed = min(steady, 1) - 2 * _BRIGHT < changed < 1 + 2 * _BRIGHT
    return Outcome(f"slope {changed:.3f}, {steady:.3f} without", passed)


def _dark(first: int, last: int) -> Outcome:
    movie = counts(active_cells()[1])
    plain = _run(movie)[0]
    block = slice(first, last + 1)
    movie[block] = counts(100 + np.random.default_rng(5).normal(0, 3, movie[block].shape))
    found, unusual = _run(movie)
    same = bool((found[block] == movie[block]).all())
    away = np.abs(found.mean((1, 2)) - plain.mean((1, 2)))
    away[block] = 0
    passed = same and unusual == {"dark": last - first + 1} and away.max() < 2
    return Outcome(f"dark as measured: {same}; others within {away.max():.2f} counts; {unusual}", passed)
