"""A movie that stays on disk: it is indexed like an array and reads only what is asked for."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, overload

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput

from .check import one_line
from .headers.facts import Facts, facts_of

__all__ = ["LazyMovie", "Reader"]

_BLOCK_BYTES = 256 * 2**20  # the most that is kept of a format whose chunks span several frames


class Reader(Protocol):
    """Reader of one format: geometry, and pixels of a range of frames.

    Attributes
    ----------
    shape
        (T, H, W).
    dtype
        Native byte order.
    piece
        Frames, rows and columns of the least that is read or decoded at once.
    note
        Sentence for the user on how the file was read; empty if there is nothing to say.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    piece: tuple[int, int, int]
    note: str

    def read(self, start: int, stop: int, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Return (stop - start, rows, columns); bounds are inside the movie and steps are 1."""
        ...


class LazyMovie:
    """A movie (T, H, W) on disk.

    ``movie[t]`` is a frame, ``movie[a:b]`` a lazy part, ``movie[a:b, y0:y1, x0:x1]`` an array for which
    only those pixels are read (and what shares their chunks), ``np.asarray(movie)`` everything.

    Parameters
    ----------
    reader
        Of the file's format.
    name
        Said in errors.
    limit_bytes
        Largest array that one read may give.
    reopen
        Gives the reader again in another process that the movie is sent to; None sends the reader.
    frames
        The reader's frames that the movie consists of; all of them by default.

    Examples
    --------
    >>> import numpy as np, tifffile, tempfile, pathlib
    >>> from denoscope.runtime import open_movie
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "movie.tif"
    >>> tifffile.imwrite(path, np.ones((9, 32, 32), "uint16"), compression="zlib")
    >>> movie = open_movie(path)
    >>> movie.shape, movie[3].shape, movie[2:8].shape, movie[2:8, :16, 4:8].shape
    ((9, 32, 32), (32, 32), (6, 32, 32), (6, 16, 4))
    """

    ndim = 3

    def __init__(
        self,
        reader: Reader,
        name: str,
        limit_bytes: int,
        reopen: Callable[[], Reader] | None = None,
        frames: range | None = None,
    ) -> None:
        self._reader = reader
        self._reopen = reopen
        self._name = name
        self._limit_bytes = limit_bytes
        self._frames = range(reader.shape[0]) if frames is None else frames
        self._block: tuple[int, npt.NDArray[Any]] | None = None
        self._lock = threading.Lock()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows, columns."""
        return (len(self._frames), *self._reader.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels, in native byte order."""
        return self._reader.dtype

    @property
    def nbytes(self) -> int:
        """Size of the movie in memory, if it were read whole."""
        length, height, width = self.shape
        return length * height * width * self.dtype.itemsize

    @property
    def size(self) -> int:
        """Number of pixels in all frames."""
        return self.nbytes // self.dtype.itemsize

    @property
    def piece(self) -> tuple[int, int, int]:
        """Frames, rows and columns of the least that is read at once."""
        return self._reader.piece

    @property
    def note(self) -> str:
        """Sentence for the user on how the file was read; empty if there is nothing to say."""
        return self._reader.note

    @property
    def facts(self) -> Facts:
        """Pixel size, times and names, where the file's format gives them."""
        return facts_of(self._reader).of_frames(self._frames)

    def __len__(self) -> int:
        return len(self._frames)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reopen is None:
            return LazyMovie, (self._reader, self._name, self._limit_bytes, None, self._frames)
        return _again, (self._reopen, self._name, self._limit_bytes, self._frames)

    def __repr__(self) -> str:
        return f"<LazyMovie {self._name} {self.shape} {self.dtype}>"

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return (self[t] for t in range(len(self)))

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError(f"{self._name} is on disk: an array of it is always a copy.")
        whole = self._read(self._frames, slice(0, self.shape[1]), slice(0, self.shape[2]))
        return whole if dtype is None else whole.astype(dtype, copy=False)

    @overload
    def __getitem__(self, key: slice) -> LazyMovie: ...

    @overload
    def __getitem__(
        self, key: int | Sequence[int] | npt.NDArray[Any] | tuple[Any, ...]
    ) -> npt.NDArray[Any]: ...

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return LazyMovie(self._reader, self._name, self._limit_bytes, self._reopen, self._frames[key])
        time, *area = key if isinstance(key, tuple) else (key,)
        if len(area) > 2:
            raise IndexError(f"a movie has 3 axes, and {len(area) + 1} were indexed")
        bounds, steps = [], []
        for length, index in zip(self.shape[1:], [*area, slice(None), slice(None)][:2], strict=True):
            bound, step = _bounds(index, length)
            bounds.append(bound)
            steps.append(step)
        if isinstance(time, slice):
            return self._read(self._frames[time], *bounds)[(slice(None), *steps)]
        if isinstance(time, Sequence | np.ndarray):
            numbers = [self._frames[operator.index(t)] for t in np.arange(len(self))[time]]
            frames = [self._read(range(t, t + 1), *bounds) for t in numbers]
            return np.concatenate(frames)[(slice(None), *steps)]
        at = self._frames[operator.index(time)]
        return self._read(range(at, at + 1), *bounds)[(0, *steps)]

    def _read(self, frames: range, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Read these frames of the file, checked against the limit first."""
        shape = (len(frames), rows.stop - rows.start, columns.stop - columns.start)
        needed = shape[0] * shape[1] * shape[2] * self.dtype.itemsize
        if needed > self._limit_bytes:
            raise InvalidInput(
                f"Reading {shape[0]} frames of {self._name} takes {needed / 1e6:.0f} MB at once "
                f"(limit {self._limit_bytes / 1e6:.0f} MB): read fewer frames at a time."
            )
        if 0 in shape:
            return np.empty(shape, self.dtype)
        try:
            if len(frames) == 1 and self._reader.piece[0] > 1:
                return self._from_block(frames[0], rows, columns)
            if frames.step == 1:
                return self._reader.read(frames.start, frames.stop, rows, columns)
            return np.concatenate([self._reader.read(t, t + 1, rows, columns) for t in frames])
        except InvalidInput:
            raise
        except Exception as error:  # decoders of damaged files raise anything; none may escape
            which = f"frame {frames[0]}" if len(frames) == 1 else f"frames {frames[0]} to {frames[-1]}"
            raise InvalidInput(
                f"{self._name}: {which} cannot be read ({one_line(error)}): "
                "the file is damaged or was cut short; save the frames before it as a separate movie."
            ) from error

    def _from_block(self, t: int, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Read one frame of a format that decodes several at once, keeping them for the next call."""
        length, height, width = self._reader.shape
        deep = self._reader.piece[0]
        if min(deep, length) * height * width * self.dtype.itemsize > min(_BLOCK_BYTES, self._limit_bytes):
            return self._reader.read(t, t + 1, rows, columns)
        first = t // deep * deep
        with self._lock:
            if self._block is None or self._block[0] != first:
                stop = min(first + deep, length)
                self._block = first, self._reader.read(first, stop, slice(0, height), slice(0, width))
            return self._block[1][t - first : t - first + 1, rows, columns].copy()


def _again(reopen: Callable[[], Reader], name: str, limit_bytes: int, frames: range) -> LazyMovie:
    return LazyMovie(reopen(), name, limit_bytes, reopen, frames)


def _bounds(index: Any, length: int) -> tuple[slice, Any]:
    """Return the contiguous part of an axis that an index needs, and what to index that part with."""
    if not isinstance(index, slice):
        at = range(length)[operator.index(index)]
        return slice(at, at + 1), 0
    chosen = range(length)[index]
    if not chosen:
        return slice(0, 0), slice(None)
    low, high = min(chosen[0], chosen[-1]), max(chosen[0], chosen[-1])
    return slice(low, high + 1), slice(None, None, chosen.step)
