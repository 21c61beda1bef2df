"""Saturated pixels: those that reach the most that the camera can count, so that brighter light is lost there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.movies.arguments import check_movie
from denoscope.runtime.movies.holes import holes_of

if TYPE_CHECKING:
    from denoscope.runtime.movies import AnyMovie

__all__ = ["Saturation", "ends_at", "is_full", "measure_saturation", "piles_up", "saturated_part"]

_FULL = frozenset(2.0**bits - 1 for bits in range(8, 17))  # counts that a converter ends at
_LOOKED_AT = 32  # frames
_NEAR = 0.75  # share of the largest count: the end of a distribution holds more between this and the largest
_FEW, _LEAST = 4, 1023.0  # fewer pixels than this may reach a count below the other by chance
_ODD, _MOST = 16, 0.25  # pixels, and share of a frame, that may reach a ceiling that no converter has
_LEAST_ODD = 64.0  # counts: below, the few counts that a movie has are no ceiling
_ALONE = 0.5  # of the ceiling: a stuck pixel has darker pixels on its four sides
_WORTH_SAYING = 1e-3  # of the pixels


@dataclass(frozen=True)
class Saturation:
    """How much of a movie is brighter than the camera can say.

    Attributes
    ----------
    counts
        The largest count.
    share
        Of the pixels, those that have it where it is the most that the camera delivers; 0 where it is not. Pixels
        that are stuck there do not count.
    """

    counts: float
    share: float

    def warning(self) -> str | None:
        """Return one sentence for the user where a thousandth of the pixels or more saturate, else None."""
        if self.share < _WORTH_SAYING:
            return None
        return (
            f"{self.share:.1%} of the pixels reach {self.counts:,.0f}, the most that the camera counts: what is "
            "brighter there is lost; record with less light, exposure or gain"
        )


def is_full(largest: float, dtype: npt.DTypeLike) -> bool:
    """Say whether a movie's largest count is the most that its dtype or a converter of 8 to 16 bits can hold."""
    return largest in _FULL or largest >= _most(np.dtype(dtype))


@cache
def _most(dtype: np.dtype[Any]) -> float:
    """Return the most that a dtype of integers can hold; NaN for others, so that no count reaches it."""
    return float(np.iinfo(dtype).max) if dtype.kind in "iu" else np.nan


def piles_up(frame: npt.NDArray[Any], full: npt.NDArray[np.bool_], ceiling: float) -> bool:
    """Say whether pixels are at the largest count because a converter ends there, not by chance.

    Parameters
    ----------
    frame
        (H, W) raw counts.
    full
        (H, W), true where a pixel has the largest count.
    ceiling
        The largest count, of which `is_full` holds.
    """
    if frame.dtype.kind in "iu" and ceiling >= np.iinfo(frame.dtype).max:
        return True
    count = np.count_nonzero(full)
    if count == full.size:
        return True
    if count < _FEW and ceiling < _LEAST:
        return False
    second = float(frame[~full].max())
    return bool(count > np.count_nonzero(frame >= min(second, _NEAR * ceiling)) - count)


def ends_at(frame: npt.NDArray[Any], full: npt.NDArray[np.bool_], ceiling: float) -> bool:
    """Say whether a frame's largest count is a ceiling: of a converter, or of what was done to its counts.

    12-bit counts that were multiplied by 16, counts less an offset, and floats that were clipped end at any value.
    Then more pixels must lie there than between three quarters of it and the next lower count.

    Parameters
    ----------
    frame
        (H, W) raw counts.
    full
        (H, W), true where a pixel has the largest count.
    ceiling
        The largest count.
    """
    if is_full(ceiling, frame.dtype):
        return piles_up(frame, full, ceiling)
    if ceiling < (_LEAST_ODD if frame.dtype.kind in "iu" else np.finfo(np.float32).tiny):
        return False
    several = _ODD <= np.count_nonzero(full) <= _MOST * full.size
    return bool(several) and piles_up(frame, full, ceiling)


def saturated_part(frames: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
    """Return which pixels (H, W) saturate in one of some frames (T, H, W); None where none does."""
    top = frames.max()
    ceiling = float(top)
    full = frames == top
    count = full.sum(axis=(1, 2))
    worst = int(np.argmax(count))
    return np.asarray(full.any(axis=0)) if ends_at(frames[worst], full[worst], ceiling) else None


def measure_saturation(frames: AnyMovie | npt.NDArray[Any]) -> Saturation:
    """Count the saturated pixels in some frames from all over a movie.

    Parameters
    ----------
    frames
        (T, H, W) raw counts; at most 32 frames are read.

    Returns
    -------
    Saturation
        Largest count, and the share of pixels that reach it, 0 to 1.

    Raises
    ------
    InvalidInput
        If there are none, or none with a finite value.

    Examples
    --------
    >>> import numpy as np
    >>> frames = np.random.default_rng(0).poisson(100, (8, 32, 32)).clip(0, 4095).astype(np.uint16)
    >>> frames[:, :4] = 4095
    >>> measure_saturation(frames)
    Saturation(counts=4095.0, share=0.125)
    """
    check_movie(frames, "frames")
    chosen = np.unique(np.linspace(0, len(frames) - 1, _LOOKED_AT).astype(int))
    largest, reached, pixels, ends = -np.inf, 0, 0, False
    always: npt.NDArray[np.bool_] = np.zeros(0, bool)
    last = np.zeros(0)
    for index in chosen:
        frame = np.asarray(frames[int(index)])
        holes = holes_of(frame)
        if holes is not None:
            frame = np.where(np.isfinite(frame), frame, -np.inf)
            if np.isneginf(frame).all():
                continue
        top = float(frame.max())
        full = frame == max(top, largest)
        if top > largest:
            largest, reached, ends, always = top, 0, False, full
        always = always & full
        last = frame
        reached += int(np.count_nonzero(full))
        pixels += int(np.isfinite(frame).sum()) if holes is not None else frame.size
        ends = ends or (top == largest and ends_at(frame, full, largest))
    if not pixels:
        raise InvalidInput("The frames hold nothing but NaN and infinite values: give frames with a picture.")
    if not (ends or is_full(largest, frames.dtype)):
        return Saturation(largest, 0.0)
    reached -= len(chosen) * _stuck(last, always, largest)
    return Saturation(largest, max(reached, 0) / pixels)


def _stuck(frame: npt.NDArray[Any], always: npt.NDArray[np.bool_], ceiling: float) -> int:
    """Count the pixels that are at the ceiling in every frame, with far darker ones on all four sides."""
    rows, columns = np.nonzero(always)
    alone = np.ones(len(rows), bool)
    for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        y = np.where((rows + dy < 0) | (rows + dy >= frame.shape[0]), rows - dy, rows + dy)
        x = np.where((columns + dx < 0) | (columns + dx >= frame.shape[1]), columns - dx, columns + dx)
        alone &= frame[y, x] < _ALONE * ceiling
    return int(np.count_nonzero(alone))
