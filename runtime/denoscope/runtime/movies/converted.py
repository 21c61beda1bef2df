"""A movie of other values than those on disk, converted where and when it is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .arguments import check_movie
from .lazy import LazyMovie
from .opening import AnyMovie

__all__ = ["as_float32", "converted"]

Float32 = npt.NDArray[np.float32]
Convert = Callable[[npt.NDArray[Any], slice, slice], Float32]


def converted(movie: AnyMovie, convert: Convert, part: tuple[slice, slice] | None = None) -> LazyMovie:
    """Return a movie (T, H, W), float32, of what `convert` makes of frames and the rows and columns they show.

    Parameters
    ----------
    movie
        What is read.
    convert
        Called with frames, rows and columns.
    part
        Rows and columns that are kept of each frame; None for the whole.
    """
    name, limit = getattr(movie, "_name", "the movie"), getattr(movie, "_limit_bytes", 64 * 2**30)
    return LazyMovie(_ConvertedReader(movie, convert, part), name, limit)


def as_float32(movie: AnyMovie) -> AnyMovie:
    """Return the same movie (T, H, W) in float32, so that what is made of it is not rounded to whole counts.

    Parameters
    ----------
    movie
        (T, H, W) of any dtype that a movie may have.

    Returns
    -------
    ndarray or LazyMovie
        (T, H, W) float32, the same values; a movie that is not in memory is converted when it is read.

    Examples
    --------
    >>> import numpy as np
    >>> as_float32(np.full((2, 4, 4), 7, np.uint16)).dtype
    dtype('float32')
    """
    check_movie(movie)
    return movie if movie.dtype == np.float32 else converted(movie, _values)


def _values(counts: npt.NDArray[Any], _rows: slice, _columns: slice) -> Float32:
    return counts.astype(np.float32)


class _ConvertedReader:
    """Reads from a movie and converts what was read; a `Reader` of a `LazyMovie`."""

    dtype = np.dtype(np.float32)

    def __init__(self, movie: Any, convert: Convert, part: tuple[slice, slice] | None = None) -> None:
        length, height, width = movie.shape
        self._top = self._left = 0
        if part is not None:
            self._top, self._left = part[0].start, part[1].start
            height, width = part[0].stop - self._top, part[1].stop - self._left
        self.shape: tuple[int, int, int] = (length, height, width)
        self.piece: tuple[int, int, int] = getattr(movie, "piece", (1, 1, width))
        self.note: str = getattr(movie, "note", "")
        self._movie = movie
        self._convert = convert

    def read(self, start: int, stop: int, rows: slice, columns: slice) -> Float32:
        rows = slice(rows.start + self._top, rows.stop + self._top)
        columns = slice(columns.start + self._left, columns.stop + self._left)
        return self._convert(np.asarray(self._movie[start:stop, rows, columns]), rows, columns)
