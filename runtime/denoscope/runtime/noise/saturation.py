"""Which pixels reach the most that the camera can count: what is brighter there is lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.movies import AnyMovie
from denoscope.runtime.movies.arguments import check_movie
from denoscope.runtime.movies.holes import holes_of

__all__ = ["Saturation", "is_full", "measure_saturation", "piles_up", "saturated_part"]

_FULL = frozenset(2.0**bits - 1 for bits in range(8, 17))  # counts that a converter ends at
_LOOKED_AT = 32  # frames
_NEAR = 0.75  # share of the largest count: the end of a distribution holds more between this and the largest
_FEW, _LEAST = 4, 1023.0  # fewer pixels than this may reach a count below the other by chance
_WORTH_SAYING = 1e-3  # of the pixels; a camera's hot pixels are fewer


@dataclass(frozen=True)
class Saturation:
    """How much of a movie is brighter than the camera can say.

    Attributes
    ----------
    counts
        The largest count.
    share
        Of the pixels, those that have it where it is the most that a converter delivers; 0 where it is not.
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
    kind = np.dtype(dtype)
    return largest in _FULL or (kind.kind in "iu" and largest >= np.iinfo(kind).max)


def piles_up(frame: npt.NDArray[Any], full: npt.NDArray[np.bool_], ceiling: float) -> bool:
    """Say whether pixels are at the largest count because a converter ends there, not by chance.

    Parameters
    ----------
    frame
        (H, W) raw counts.
    full
        Which of them are the largest.
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


def saturated_part(frames: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
    """Return which pixels (H, W) saturate in one of some frames (T, H, W); None where none does."""
    top = frames.max()
    ceiling = float(top)
    if not is_full(ceiling, frames.dtype):
        return None
    full = frames == top
    count = full.sum(axis=(1, 2))
    worst = int(np.argmax(count))
    return np.asarray(full.any(axis=0)) if piles_up(frames[worst], full[worst], ceiling) else None


def measure_saturation(frames: AnyMovie | npt.NDArray[Any]) -> Saturation:
    """Count the saturated pixels in some frames from all over a movie.

    Parameters
    ----------
    frames
        (T, H, W) raw counts; at most 32 frames are read.

    Raises
    ------
    InvalidInput
        If there are none, or none with a finite value.
    """
    check_movie(frames, "frames")
    chosen = np.unique(np.linspace(0, len(frames) - 1, _LOOKED_AT).astype(int))
    largest, reached, pixels = -np.inf, 0, 0
    for index in chosen:
        frame = np.asarray(frames[int(index)])
        if holes_of(frame) is not None:
            frame = frame[np.isfinite(frame)]
            if not frame.size:
                continue
        top = float(frame.max())
        if top > largest:
            largest, reached = top, 0
        reached += int(np.count_nonzero(frame == largest))
        pixels += frame.size
    if not pixels:
        raise InvalidInput("The frames hold nothing but NaN and infinite values: give frames with a picture.")
    return Saturation(largest, reached / pixels if is_full(largest, frames.dtype) else 0.0)
