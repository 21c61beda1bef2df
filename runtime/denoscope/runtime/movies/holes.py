"""Pixels that are NaN or infinite, as motion correction leaves them at a frame's border.

They are filled before a frame is denoised, because one NaN would spread to all pixels around it and stay in the
memory of the stream, and are NaN in the denoised frame. Only frames of floats can have them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.types import Denoised, FrameMeta, StageTimes

from .arguments import check_movie

if TYPE_CHECKING:
    from denoscope.runtime.movies import AnyMovie

__all__ = [
    "Holes",
    "check_magnitude",
    "fill_sources",
    "filled",
    "filled_when_read",
    "holes_of",
    "measurable",
    "measured_part",
    "unmasked",
    "with_values",
    "without_holes",
]

Frame = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

_MOSTLY = 0.9  # share of a line's values that are there, in all frames, for it to be no border
_LOOKED_AT = 16  # frames
_SMALLEST_VALUE, _LARGEST_VALUE = 1e-12, 1e15
_LEAST_EDGE, _LEAST_SHARE = 16, 0.25  # of what is left without the border: pixels, and of the area


def holes_of(frame: Frame) -> Mask | None:
    """Return which values of an array are NaN or infinite; None where all are numbers."""
    # One pass without a temporary finds that there are none.
    if frame.dtype.kind != "f":
        return None
    with np.errstate(invalid="ignore"):  # infinite of both signs
        if np.isfinite(frame.sum(dtype=np.float64)):
            return None
    holes = ~np.isfinite(frame)
    return holes if holes.any() else None


def unmasked(frames: Any, what: str = "The movie") -> Any:
    """Return a masked array of floats with NaN where it is masked, and any other array as it is.

    Raises
    ------
    InvalidInput
        For integers with masked pixels: they have no value that says that one is missing.
    """
    # Nobody has a masked array where `numpy.ma` is not imported, which takes 10 ms in each process.
    if "numpy.ma" not in sys.modules or not isinstance(frames, np.ma.MaskedArray):
        return frames
    if not np.ma.is_masked(frames):
        return np.asarray(frames.data)
    if frames.dtype.kind == "f":
        return np.asarray(frames.filled(np.nan))
    raise InvalidInput(
        f"{what} is a masked array of {frames.dtype.name} with {int(np.ma.getmaskarray(frames).sum())} masked pixels, "
        "and integers cannot say that a pixel is missing: convert it with astype('float32'), or fill it with filled()."
    )


def check_magnitude(frames: Frame) -> None:
    """Raise InvalidInput where values of floats are too large or too small for their squares to be computed."""
    if frames.dtype.kind != "f" or not frames.size:
        return
    largest = float(max(-frames.min(), frames.max()))
    if largest == 0 or not np.isfinite(largest) or _SMALLEST_VALUE <= largest <= _LARGEST_VALUE:
        return
    raise InvalidInput(
        f"The movie's values reach {largest:.3g} at most; values of {_SMALLEST_VALUE:g} to {_LARGEST_VALUE:g} can be "
        "denoised: multiply the movie by a constant, or remove pixels with wrong values."
    )


def filled(frame: Frame, holes: Mask | None = None) -> Frame:
    """Return a frame (H, W) whose holes have the value of the nearest pixel of their row.

    A row without values becomes like the nearest row that has some; a frame without values is returned as it is.
    The frame itself is never changed; without holes it is returned.
    """
    holes = holes_of(frame) if holes is None else holes
    if holes is None or holes.all():
        return frame
    source = fill_sources(holes)
    out = frame.copy()
    out[holes] = frame.ravel()[source]
    return out


def fill_sources(holes: Mask) -> npt.NDArray[np.intp]:
    """Return for each hole, row by row, the index of the pixel in the flat frame that fills it."""
    width = holes.shape[1]
    at, there = np.flatnonzero(holes), np.flatnonzero(~holes)
    row = at // width
    before = at - np.arange(len(at))  # pixels with values that come before each hole
    left, right = there[np.maximum(before - 1, 0)], there[np.minimum(before, len(there) - 1)]
    far = 2 * width
    to_left = np.where((left < at) & (left // width == row), at - left, far)
    to_right = np.where((right > at) & (right // width == row), right - at, far)
    source = np.where(to_left <= to_right, left, right)
    nowhere = np.minimum(to_left, to_right) == far
    if nowhere.any():
        whole = np.arange(holes.size)
        whole[at] = source
        of_row = _nearest(np.asarray(holes.all(axis=1)))
        source[nowhere] = whole[of_row[row[nowhere]] * width + at[nowhere] % width]
    return np.asarray(source)


def _nearest(holes: Mask) -> npt.NDArray[np.intp]:
    """Return for each place of a line the nearest one that is no hole, of two the first."""
    there = np.flatnonzero(~holes)
    return np.asarray(there[np.abs(np.arange(len(holes))[:, None] - there).argmin(axis=1)])


def with_values(frames: AnyMovie | Frame, step: int = 1) -> Iterator[Frame]:
    """Yield one in `step` frames (H, W) of a movie with their holes filled, without those that have no values."""
    for index in range(0, len(frames), step):
        frame = np.asarray(frames[index])
        holes = holes_of(frame)
        if holes is None or not holes.all():
            yield filled(frame, holes)


def measurable(frames: Frame) -> Frame:
    """Return frames (T, H, W) with their holes filled, without those that have no values.

    If there are no holes, the array itself is returned.
    """
    if holes_of(frames) is None:
        return frames
    there = list(with_values(frames))
    return np.stack(there) if there else frames[:0]


def measured_part(frames: Frame) -> tuple[slice, slice]:
    """Return rows and columns of frames (T, H, W) without the borders in which values are missing.

    If hardly anything would be left, it is the whole frame.
    """
    height, width = frames.shape[1:]
    whole = slice(0, height), slice(0, width)
    if holes_of(frames) is None:
        return whole
    finite = np.isfinite(frames)
    share = finite[finite.any(axis=(1, 2))].sum(axis=0) / max(finite.any(axis=(1, 2)).sum(), 1)
    top, bottom, left, right = 0, height, 0, width
    while bottom - top > 1 and right - left > 1:
        part = share[top:bottom, left:right]
        sides = part[0].mean(), part[-1].mean(), part[:, 0].mean(), part[:, -1].mean()
        worst = int(np.argmin(sides))
        if sides[worst] >= _MOSTLY:
            break
        top, bottom = top + (worst == 0), bottom - (worst == 1)
        left, right = left + (worst == 2), right - (worst == 3)
    rows, columns = bottom - top, right - left
    if min(rows, columns) < _LEAST_EDGE or rows * columns < _LEAST_SHARE * height * width:
        return whole
    return slice(top, bottom), slice(left, right)


def without_holes(movie: AnyMovie, *more: Frame) -> tuple[Frame, ...]:
    """Return a movie in memory, and more of the same shape, without their holes, to train on or to measure.

    Borders in which one of them has NaN or infinite values are cut off and frames without values left out, in all of
    them; other holes are filled.

    Parameters
    ----------
    movie, more
        (T, H, W); returned as they are where none has a hole.

    Returns
    -------
    tuple of ndarray
        The movie and the others, (T', H', W') each.

    Raises
    ------
    InvalidInput
        If no frame has a value.

    Examples
    --------
    >>> import numpy as np
    >>> movie = np.ones((4, 32, 32), np.float32)
    >>> movie[:, :3] = np.nan  # a border of three lines
    >>> movie[2] = np.nan
    >>> without_holes(movie)[0].shape
    (3, 29, 32)
    """
    for each in (movie, *more):
        check_movie(each)
    movies = [np.asarray(unmasked(each)) for each in (movie, *more)]
    if all(holes_of(each) is None for each in movies):
        return tuple(movies)
    finite = np.logical_and.reduce([np.isfinite(each) for each in movies])
    there = finite.any(axis=(1, 2))
    if not there.any():
        raise InvalidInput("The movie holds nothing but NaN or infinite values: choose another.")
    part = (slice(None), *measured_part(np.where(finite, np.float32(0), np.float32(np.nan))))
    return tuple(np.stack([filled(frame) for frame in each[there][part]]) for each in movies)


def filled_when_read(movie: AnyMovie) -> AnyMovie:
    """Return a movie on disk without pixels that have no value (NaN, infinite), filled part by part as it is read.

    Borders of such pixels in 16 frames from all over the movie are cut off. No frame is left out: pixels without a
    value in all frames that are read at once become the movie's median. A movie of integers is returned as it is.
    `without_holes` does the same in memory.

    Parameters
    ----------
    movie
        (T, H, W), opened and not read.

    Returns
    -------
    ndarray or LazyMovie
        (T, H', W') of the movie's dtype, without NaN and infinite values; the movie itself where it holds integers.

    Raises
    ------
    InvalidInput
        If nothing is left without the borders, or what is read holds no finite value.

    Examples
    --------
    >>> import numpy as np
    >>> movie = np.ones((4, 32, 32), np.float32)
    >>> movie[:, :3] = np.nan  # a border of three lines
    >>> filled_when_read(movie)[:].shape
    (4, 29, 32)
    """
    check_movie(movie)
    if movie.dtype.kind != "f":
        return movie
    from .converted import converted

    some = np.unique(np.linspace(0, len(movie) - 1, _LOOKED_AT).astype(int))
    frames = np.stack([np.asarray(movie[int(n)]) for n in some])
    part = measured_part(frames)
    values = frames[np.isfinite(frames)]
    median = np.float32(np.median(values)) if values.size else np.float32(0)

    def convert(counts: Frame, _rows: slice, _columns: slice) -> Frame:
        if holes_of(counts) is None:
            return counts
        whole = np.stack([filled(frame) for frame in counts])
        whole[~np.isfinite(whole)] = median
        return whole

    return converted(movie, convert, part)


@dataclass(frozen=True, slots=True)
class _Blank:
    """A frame without values on its way through a stream."""

    meta: FrameMeta
    pushed: float
    shape: tuple[int, int]
    dtype: np.dtype[Any]


class Holes:
    """Holes of the frames that are in a stream, and the frames that have no values at all."""

    def __init__(self) -> None:
        self._masks: dict[int, Mask] = {}
        self._blanks: list[_Blank] = []

    @property
    def waiting(self) -> int:
        """Frames without values that have not been returned."""
        return len(self._blanks)

    def fill(self, frame: Frame, meta: FrameMeta, pushed: float) -> Frame | None:
        """Return a frame without holes, and remember them; None for a frame without values."""
        holes = holes_of(frame)
        if holes is None:
            return frame
        if holes.all():
            shape = (frame.shape[0], frame.shape[1])
            self._blanks.append(_Blank(meta, pushed, shape, frame.dtype.newbyteorder("=")))
            return None
        self._masks[meta.number] = holes
        return filled(frame, holes)

    def restore(self, outputs: list[Denoised]) -> None:
        """Make NaN of the pixels that were not measured."""
        for out in outputs if self._masks else ():
            holes = self._masks.pop(out.meta.number, None)
            if holes is None:
                continue
            out.frame[holes] = np.nan
            if out.std is not None:
                out.std[holes] = np.nan

    def forget(self, last: int) -> None:
        """Forget the holes of frames up to a number, which have been returned or dropped."""
        for number in [number for number in self._masks if number <= last]:
            del self._masks[number]

    def due(self, last: int | None) -> int:
        """Return how many frames without values wait that have numbers up to `last`, or of any number."""
        return sum(last is None or each.meta.number <= last for each in self._blanks)

    def drop(self, count: int) -> None:
        """Forget the first frames without values."""
        del self._blanks[:count]

    def blanks(self, count: int, now: float, *, std: bool) -> list[Denoised]:
        """Return the first frames without values, as frames of NaN."""
        outputs = []
        for each in self._blanks[:count]:
            times = StageTimes(each.meta.t_received_s, each.pushed, now, now, now, now)
            deviation = np.full(each.shape, np.nan, np.float32) if std else None
            outputs.append(Denoised(np.full(each.shape, np.nan, each.dtype), deviation, each.meta, times))
        self.drop(count)
        return outputs

    def clear(self) -> None:
        """Forget all frames."""
        self._masks.clear()
        self._blanks.clear()
