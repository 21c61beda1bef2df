"""The offset between odd and even lines of a scanner that scans in both directions, measured."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["measure_line_offset"]

FloatArray = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]

_LARGEST = 8  # pixels
_MOST_FOUND = 7.25  # pixels; beyond, the peak is cut off
_LEAST = 0.5  # pixels; most scanners are off by a little
_SIGMAS = 4.0  # by which the lines must fit better when shifted,
_CERTAIN = 7.5  # or standard errors of the offset,
_CERTAIN_EXPLAINED = 0.8, 1.05  # where the shift brings together all that the lines share, and no more,
_FULL = 96 * 96  # pixels; a smaller picture holds few structures, and must be as much more certain
_CERTAIN_LEAST, _CERTAIN_HALVES = 0.7, 0.65  # from this offset on, pixels by which the halves may differ
_REPEATS = 0.7  # of the best fit, above what lies between: a pattern that repeats itself fits so at another shift too
_HALVES_AGREE = 0.75  # pixels, or this share of the offset
_HALVES_SHARE = 0.35
_EXPLAINED = 0.35  # of what odd and even lines have in common, at least, that the shift must bring together
_WHOLE = 0.3, 0.35  # pixels from a whole number that count as whole, by how certain the offset is
_SMALLEST = 32  # pixels of an edge
_MOST = 512
_FEWEST = 4  # frames
_FADED = 0.08  # of a picture's edge, at each end
_BINS = 24  # of spatial frequency


def measure_line_offset(frames: npt.NDArray[Any]) -> float:
    """Return how many pixels the odd lines are shifted to the right against the even ones; 0 where they are not.

    The mean picture's even and odd lines are two pictures of one scene. Their cross-spectrum, each frequency
    weighted by what it holds beyond noise, says where they fit best (maximum likelihood of a shift between two
    noisy signals).
    An offset is believed where the lines fit better by many standard deviations, by most of what they have in common,
    or where it is many times its own error and the lines then share nearly all; in both halves of the picture alike.
    A pattern that repeats itself fits at several shifts: it shows none.

    Parameters
    ----------
    frames
        (T, H, W) raw counts, in the order in which they came.

    Notes
    -----
    Movies of fewer than 4 frames or 32 pixels an edge are not measured. Offsets below 0.5 or above 7 pixels are
    not found.
    """
    if len(frames) < _FEWEST or min(frames.shape[1:]) < _SMALLEST:
        return 0.0
    pairs = len(frames) // 2 * 2
    part = _middle(frames.shape[1]), _middle(frames.shape[2])
    one, two = (
        np.asarray(np.mean(frames[(slice(k, pairs, 2), *part)], axis=0, dtype=np.float64)) for k in (0, 1)
    )
    mean, noise = (one + two) / 2, (one - two) / 2
    if not np.isfinite(mean).all():
        return 0.0
    whole = _shift(mean, noise)
    if whole is None:
        return 0.0
    found = whole.pixels
    middle = len(mean) // 4 * 2
    apart = max(_HALVES_AGREE, _HALVES_SHARE * abs(found)) if whole.better else _CERTAIN_HALVES
    for half in (np.s_[:middle], np.s_[middle:]):
        other = _shift(mean[half], noise[half], sure=False)
        if other is None or abs(other.pixels - found) > apart:
            return 0.0
    return found


def _middle(length: int) -> slice:
    """Return the middle of an axis, beginning with an even line, where it is too long to look at all of it."""
    first = max(0, length - _MOST) // 4 * 2
    return slice(first, first + _MOST)


class _Shift(NamedTuple):
    """A shift between odd and even lines, and whether they fit far better with it."""

    pixels: float
    better: bool = True


def _shift(mean: FloatArray, noise: FloatArray, *, sure: bool = True) -> _Shift | None:
    """Return the shift that makes odd and even lines fit best; None where that is not a better fit than none."""
    lines = (len(mean) - 1) // 2
    width = mean.shape[1] - 2 * _LARGEST
    inner = np.s_[:, _LARGEST : _LARGEST + width]
    even, odd = _spectra(mean, lines, width)
    ky = np.abs(np.fft.fftfreq(lines))[:, None] * 0.5  # lines are two pixels apart
    kx = np.fft.rfftfreq(width)[None]
    usable = (kx > 0) & (kx < 0.5) & (ky >= 0)
    bins = np.minimum((np.hypot(ky, kx) * 2 / np.sqrt(1.25) * _BINS).astype(int), _BINS - 1)
    counts = np.maximum(np.bincount(bins[usable], minlength=_BINS), 1)

    def smooth(power: FloatArray) -> FloatArray:
        return np.asarray((np.bincount(bins[usable], power[usable], _BINS) / counts)[bins])

    noise_even, noise_odd = (smooth(np.abs(_spectrum(f[inner])) ** 2) for f in _fields(noise, lines))
    power_even, power_odd = smooth(np.abs(even) ** 2), smooth(np.abs(odd[_LARGEST]) ** 2)
    signal = np.sqrt(np.maximum(power_even - noise_even, 0) * np.maximum(power_odd - noise_odd, 0))
    spread = power_even * power_odd
    weight = np.where(usable & (spread > 0), signal / np.maximum(spread, 1e-300), 0.0)
    crosses = [weight * each * np.conj(even) for each in odd]
    # Minus half the squared differences, but for what is the same for all shifts.
    fits = np.array(
        [
            cross.real.sum() - (weight * np.square(np.abs(each))).sum() / 2
            for cross, each in zip(crosses, odd, strict=True)
        ]
    )
    best = int(np.argmax(fits))
    if best in (0, 2 * _LARGEST):
        return None
    # The rest of a pixel, by a parabola.
    before, top, after = fits[best - 1 : best + 2]
    bend = 2 * top - before - after
    rest = float(np.clip((after - before) / (2 * bend), -0.5, 0.5)) if bend > 0 else 0.0
    found = best - _LARGEST + rest
    if not sure:
        return _Shift(found)
    if abs(found) > _MOST_FOUND or _repeats(fits, best):
        return None
    at_best = odd[best] * np.conj(even) * np.exp(2j * np.pi * kx * rest)
    common = np.maximum(smooth(at_best.real), 0)
    other = weight**2 * np.maximum(spread - np.square(common), 0)
    better = top + (after - before) * rest / 4 - fits[_LARGEST]
    apart = np.square(np.abs(1 - np.exp(2j * np.pi * kx * found)))
    error = np.sqrt(float((other * apart).sum()) / 2)
    k2 = np.square(2 * np.pi * kx)
    uncertain = np.sqrt(float((other * k2).sum()) / 2) / max(float((weight * common * k2).sum()), 1e-300)
    together, fit = float((weight * signal).sum()), float((weight * at_best.real).sum())
    if abs(found) < _LEAST:
        return None
    far_better = bool(better >= _SIGMAS * error and fit >= _EXPLAINED * together)
    errors = _CERTAIN * max(1.0, _FULL / mean.size)
    certain = abs(found) >= max(errors * uncertain, _CERTAIN_LEAST)
    least, most = (share * together for share in _CERTAIN_EXPLAINED)
    if not (far_better or (certain and better > 0 and least <= fit <= most)):
        return None
    near = float(round(found))
    return _Shift(near if abs(found - near) <= np.clip(2 * uncertain, *_WHOLE) else found, far_better)


def _spectra(mean: FloatArray, lines: int, width: int) -> tuple[ComplexArray, list[ComplexArray]]:
    """Return the spectrum of the even lines, and that of the odd ones at every shift."""
    # The lines above and below an odd line, so that slanting structures have no preference.
    even, odd = _fields(mean, lines)
    # The odd lines' window moves with the shift: a fixed one would prefer none.
    windows = (odd[:, begin : begin + width] for begin in range(2 * _LARGEST + 1))
    return _spectrum(even[:, _LARGEST : _LARGEST + width]), [_spectrum(each) for each in windows]


def _repeats(fits: FloatArray, best: int) -> bool:
    """Say whether the lines fit at another shift about as well, with shifts between that fit far worse."""
    for other in range(len(fits)):
        if abs(other - best) < 2:
            continue
        low, high = sorted((other, best))
        worst = float(fits[low : high + 1].min())
        if fits[other] - worst > _REPEATS * (fits[best] - worst):
            return True
    return False


def _fields(image: FloatArray, lines: int) -> tuple[FloatArray, FloatArray]:
    even, odd = (image[0 : 2 * lines : 2] + image[2 : 2 * lines + 1 : 2]) / 2, image[1 : 2 * lines : 2]
    # What a column has in all lines may be the detector's, which does not move with the lines.
    return even - even.mean(axis=0), odd - odd.mean(axis=0)


def _spectrum(field: FloatArray) -> ComplexArray:
    """Return the spectrum of a field of lines, its borders faded out."""
    fade = _faded(field.shape[0])[:, None] * _faded(field.shape[1])[None]
    level = (field * fade).sum() / fade.sum()
    return np.asarray(np.fft.rfft2((field - level) * fade))


def _faded(length: int) -> FloatArray:
    """Return weights of 1 that fall to 0 at both ends."""
    edge = max(2, round(_FADED * length))
    rise = np.sin(np.pi / 2 * (np.arange(edge) + 0.5) / edge) ** 2
    return np.concatenate([rise, np.ones(length - 2 * edge), rise[::-1]])
