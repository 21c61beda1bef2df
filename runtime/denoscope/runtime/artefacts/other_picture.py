"""Recognise single frames that show another picture than the calm frames before them, in part or as a whole.

Half of a frame is dark where a shutter closes or a scanner stops, a flash covers a part, a frame of another
channel slips in. Scenes that move or flash change too. So a frame is only called another picture if the
frames before it were alike, and the difference is beyond what a moving or active scene shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["CALM_FRAMES", "LEAST_PART", "other_picture"]

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

CALM_FRAMES = 8  # that are kept to know what is usual
_FEWEST = 6
_LEAST_BLOCKS = 64
_SIGMAS = 6.0  # standard deviations of a block's noise that its change must have
_LIT = 0.25  # of the mean light: what is darker says nothing
_DARK, _BRIGHT = 0.35, 4.0  # light of a block in that of the frames before: less, or more, is no scene
LEAST_PART, _MOST = 0.125, 0.9  # of the blocks
_STRAY = 1 / 64  # of the blocks: may change as much in usual frames
_SAME = (0.7, 1.5)  # light of the other blocks, in that of before
_BAND = 0.8  # of a row's or column's lit blocks: it belongs to the dark part,
_IN_BANDS = 0.7  # which holds so much of what is dark
_STRUCTURE = 10.0  # variance over the blocks, in that of their noise
_CALM, _OTHER, _SHIFTED = (
    0.9,
    0.3,
    0.6,
)  # correlations: of usual frames, of another picture, of one that has moved


def other_picture(
    x: Array,
    last: Array,
    recent: Sequence[Array],
    size: tuple[int, int],
    floor: float,
    variance: Array,
    flash: Mask | None = None,
) -> str:
    """Return ``partly dark``, ``partly bright``, ``of another picture``, or an empty string.

    Parameters
    ----------
    x, last
        Means of the blocks of a frame, and of the usual picture in its light.
    recent
        Those of the last usual frames, the oldest first.
    size
        Rows and columns of blocks.
    floor
        Counts of no light.
    variance
        Of the blocks by noise.
    flash
        Blocks that saturate, and did not in the last usual frames; `x` may hold what lies beside them instead.
    """
    if len(recent) < _FEWEST or len(x) < _LEAST_BLOCKS:
        return ""
    floor = min(floor, float(x.min()), float(last.min()))
    dark, bright, lit = _changed(x, last, floor, variance)
    if flash is not None:
        dark, bright = dark & ~flash, bright | flash
    for kind, part, other in (("partly dark", dark, bright), ("partly bright", bright, dark)):
        if not LEAST_PART <= _share(part) <= _MOST or _share(other) > _STRAY:
            continue
        rest = lit & ~part
        if rest.sum() < 4:
            continue
        same = float(np.median((x[rest] - floor) / (last[rest] - floor)))
        if not _SAME[0] < same < _SAME[1] or not (kind == "partly bright" or _in_bands(part, lit, size)):
            continue
        if all(
            max(_share(each) for each in _changed(b, a, floor, variance)[:2]) <= _STRAY
            for a, b in _pairs(recent)
        ):
            return kind
    if _alike(x, last) >= _OTHER:  # nearly every frame
        return ""
    noise = float(np.median(variance))
    pictured = min(float(np.var(x)), float(np.var(last))) > _STRUCTURE * noise
    calm = _CALM * (1 - noise / max(float(np.var(last)), noise))
    if pictured and all(_alike(a, b) > calm for a, b in _pairs(recent)):
        moved = _best_shift(x.reshape(size), last.reshape(size))
        if moved < _SHIFTED and all(_alike(x, each) < _OTHER for each in recent):
            return "of another picture"
    return ""


def _share(part: Mask) -> float:
    return np.count_nonzero(part) / part.size


def _pairs(recent: Sequence[Array]) -> list[tuple[Array, Array]]:
    return list(zip(list(recent)[:-1], list(recent)[1:], strict=True))


def _changed(x: Array, last: Array, floor: float, variance: Array) -> tuple[Mask, Mask, Mask]:
    """Return which blocks have lost their light, which have got far more, and which had some."""
    before = last - floor
    least = _LIT * float(before.mean())
    lit = before > least
    sure = np.abs(x - last) > _SIGMAS * np.sqrt(2 * variance)
    dark = lit & sure & (x - floor < _DARK * before)
    bright = sure & (x - floor > _BRIGHT * np.maximum(before, least))
    return dark, bright, lit


def _in_bands(part: Mask, lit: Mask, size: tuple[int, int]) -> bool:
    """Say whether the dark blocks fill whole rows or columns."""
    dark, there = part.reshape(size), lit.reshape(size)
    for axis in (1, 0):
        whole = dark.sum(axis) >= _BAND * np.maximum(there.sum(axis), 1)
        if float(dark.sum(axis)[whole].sum()) > _IN_BANDS * float(dark.sum()):
            return True
    return False


def _alike(a: Array, b: Array) -> float:
    """Return the correlation of two pictures."""
    a, b = a - np.add.reduce(a) / a.size, b - np.add.reduce(b) / b.size
    return float(a @ b) / max(float(np.sqrt((a @ a) * (b @ b))), 1e-30)


def _best_shift(a: Array, b: Array) -> float:
    """Return the largest correlation of two pictures that are shifted against each other, wrapped around."""
    a, b = a - a.mean(), b - b.mean()
    product = np.fft.irfft2(np.fft.rfft2(a) * np.conj(np.fft.rfft2(b)), a.shape)
    return float(product.max()) / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-30)
