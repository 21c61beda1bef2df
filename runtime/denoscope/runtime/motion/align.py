"""A recorded movie as the graphs would see it live: its rigid motion followed, whole pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.movies import AnyMovie, LazyMovie
from denoscope.runtime.noise.noise import Intensity

from .field import between
from .moves import moves_anywhere
from .placement import Placement

__all__ = ["SceneMotion", "align_movie", "follow_motion", "shown_by_all"]

_KEPT_BYTES = 2**28  # a movie up to this size is aligned in memory, once
_LIMIT_BYTES = 2**34  # of one read


@dataclass(frozen=True)
class SceneMotion:
    """How a scene moves, frame by frame.

    Attributes
    ----------
    displacements
        (n, 2) rows and columns, float32, in pixels, ``frame_t(p + d_t) = scene(p)``. Rounded they are the whole pixels
        by which a session moves the frame. n is less than the movie's length when the scene drifts farther than the
        canvas reaches: the frames before that.
    fields
        (n, 2, KNOTS, KNOTS) float32: how far each part of the frame, moved by whole pixels, lies off the scene; what is
        left of the displacement included. The knots are spread over the frame (`_field`).
    """

    displacements: npt.NDArray[np.float32]
    fields: npt.NDArray[np.float32]


def follow_motion(
    movie: AnyMovie,
    intensity: Intensity,
    *,
    calibration_frames: int = 32,
    on_frame: Callable[[int], None] = lambda _done: None,
) -> SceneMotion | None:
    """Track the motion of a movie as a session does that tracks it from its first frame; None if the scene is still.

    Parameters
    ----------
    movie
        (T, H, W) raw counts.
    intensity
        Its transform and noise.
    calibration_frames
        First frames that decide whether the movie moves from its beginning; some of all say whether it does later.
    on_frame
        Called with the number of frames done.

    Returns
    -------
    SceneMotion or None
        Displacement of each frame, (T, 2) float32 in pixels, rows before columns; None where the scene is still.

    Examples
    --------
    >>> import numpy as np
    >>> from denoscope.runtime import estimate_intensity
    >>> still = np.random.default_rng(0).poisson(50, (40, 32, 32)).astype(np.uint16)
    >>> follow_motion(still, estimate_intensity(still)) is None
    True
    """
    height, width = movie.shape[1:]
    if not moves_anywhere(movie, intensity, first=calibration_frames):
        return None
    placement = Placement((height, width), intensity, follow=True, parts=True)
    found, fields = [], []
    for t in range(len(movie)):
        _, change = placement.find(movie[t])
        if change == "drifted":
            break
        found.append(np.add(placement.whole, placement.rest))
        fields.append(placement.field)
        on_frame(t + 1)
    over_the_frame = between(np.array(fields), placement.scene, placement.home)
    return SceneMotion(np.array(found, np.float32).reshape(-1, 2), over_the_frame)


def shown_by_all(shape: tuple[int, int], displacements: npt.NDArray[np.floating[Any]]) -> tuple[slice, slice]:
    """Return the part of the scene, at its rest position, that every frame shows; it may be empty.

    Parameters
    ----------
    shape
        (H, W) of the frames, in pixels.
    displacements
        (T, 2) displacement of each frame from the rest position in y and x, in pixels.

    Returns
    -------
    tuple of slice
        Rows, columns.

    Examples
    --------
    >>> import numpy as np
    >>> shown_by_all((32, 48), np.array([[0, 0], [3, -2]]))
    (slice(0, 29, None), slice(2, 48, None))
    """
    whole = np.rint(displacements)
    (top, left), (bottom, right) = whole.min(0), whole.max(0)
    height, width = shape
    rows = slice(max(0, -int(top)), max(0, min(height, height - int(bottom))))
    columns = slice(max(0, -int(left)), max(0, min(width, width - int(right))))
    return rows, columns


def align_movie(
    movie: AnyMovie,
    displacements: npt.NDArray[np.floating[Any]],
    name: str,
    *,
    part: tuple[slice, slice] | None = None,
) -> AnyMovie:
    """Move every frame back to the rest position by whole pixels, borders repeated.

    Parameters
    ----------
    movie
        (T, H, W).
    displacements
        (n, 2) as in `SceneMotion`, n at most T.
    name
        Said in errors.
    part
        Rows and columns of the rest position to return; all of them when None.

    Returns
    -------
    ndarray or LazyMovie
        (n, H, W), or the size of the part. A small movie is moved at once, a large one frame by frame when it is read.

    Examples
    --------
    >>> import numpy as np
    >>> movie = np.zeros((2, 32, 32), np.uint16)
    >>> movie[0, 8, 8] = movie[1, 10, 7] = 9  # the second frame has moved by (2, -1) pixels
    >>> still = align_movie(movie, np.array([[0, 0], [2, -1]], np.float32), "movie")
    >>> [tuple(map(int, np.argwhere(frame)[0])) for frame in still]
    [(8, 8), (8, 8)]
    """
    rows, columns = part or (slice(0, movie.shape[1]), slice(0, movie.shape[2]))
    size = rows.stop - rows.start, columns.stop - columns.start
    corner = np.array([rows.start, columns.start], np.intp)
    whole = np.rint(displacements).astype(np.intp)
    reopen = partial(_Aligned, movie[: len(displacements)], whole + corner, size)
    lazy = LazyMovie(reopen(), name, _LIMIT_BYTES, reopen)
    if not isinstance(movie, LazyMovie) and lazy.nbytes <= _KEPT_BYTES:
        kept: AnyMovie = np.asarray(lazy)
        return kept
    return lazy


class _Aligned:
    """Reads another movie and moves what it reads; see `Reader`."""

    def __init__(self, movie: AnyMovie, displacements: npt.NDArray[np.intp], size: tuple[int, int]) -> None:
        self._movie = movie
        self._displacements = displacements
        self.shape: tuple[int, int, int] = (len(movie), *size)
        self.dtype: np.dtype[Any] = movie.dtype
        self.piece = movie.piece if isinstance(movie, LazyMovie) else (1, 1, 1)
        self.note = "aligned to its rest position, whole pixels"

    def read(self, start: int, stop: int, rows: slice, columns: slice) -> npt.NDArray[Any]:
        height, width = self._movie.shape[1:]
        moved = self._displacements[start:stop]
        # Read once what all the frames need, then pick each frame's own part of it.
        (top, left), (bottom, right) = moved.min(0), moved.max(0)
        y0, y1 = _within(rows.start + top, rows.stop + bottom, height)
        x0, x1 = _within(columns.start + left, columns.stop + right, width)
        block = self._movie[start:stop, y0:y1, x0:x1]
        result = np.empty((stop - start, rows.stop - rows.start, columns.stop - columns.start), self.dtype)
        for frame, source, (y, x) in zip(result, block, moved, strict=True):
            from_rows = np.clip(np.arange(rows.start, rows.stop) + y, 0, height - 1) - y0
            from_columns = np.clip(np.arange(columns.start, columns.stop) + x, 0, width - 1) - x0
            frame[...] = source[np.ix_(from_rows, from_columns)]
        return result


def _within(start: int, stop: int, length: int) -> tuple[int, int]:
    """Return the part of an axis that a range needs when places beyond its ends repeat them."""
    low = min(max(int(start), 0), length - 1)
    return low, max(min(int(stop), length), low + 1)
