"""A movie of integers read as float32, so that what is made of it is not rounded to whole counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ._lazy import LazyMovie
from ._open import AnyMovie

__all__ = ["as_float32"]


def as_float32(movie: AnyMovie) -> AnyMovie:
    """Return the same movie (T, H, W) in float32, converted where and when it is read; itself if it is already."""
    if movie.dtype == np.float32:
        return movie
    name, limit = getattr(movie, "_name", "the movie"), getattr(movie, "_limit_bytes", 64 * 2**30)
    return LazyMovie(_Float32Reader(movie), name, limit)


class _Float32Reader:
    """Reads from a movie and converts what was read; a `Reader` of a `LazyMovie`."""

    dtype = np.dtype(np.float32)

    def __init__(self, movie: AnyMovie) -> None:
        length, height, width = movie.shape
        self.shape: tuple[int, int, int] = (length, height, width)
        self.piece: tuple[int, int, int] = getattr(movie, "piece", (1, 1, width))
        self.note: str = getattr(movie, "note", "")
        self._movie: Any = movie

    def read(self, start: int, stop: int, rows: slice, columns: slice) -> npt.NDArray[np.float32]:
        return np.asarray(self._movie[start:stop, rows, columns], np.float32)
