"""Readers made of other readers: several files one after the other, and some frames of many."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.words import counted

from .headers.facts import facts_of
from .lazy import Reader

__all__ = ["Chosen", "Joined", "parts_note"]

_OPEN_FILES = 8
_SHOWN = 6


class Joined:
    """Files of one recording, read as one movie; a file is opened when a frame of it is asked for.

    Parameters
    ----------
    files
        In the order of time.
    lengths
        Frames of each.
    open_file
        Opens one of them.
    first
        The reader of the first file: all others must have its frame size and dtype.
    note
        Sentence for the user on how the movie was put together.
    at_least
        True if files may hold further frames, which are not part of the movie.
    """

    def __init__(
        self,
        files: Sequence[Path],
        lengths: Sequence[int],
        open_file: Callable[[Path], Reader],
        first: Reader,
        note: str = "",
        *,
        at_least: bool = False,
    ) -> None:
        self._files, self._open, self.note, self._at_least = files, open_file, note, at_least
        self._ends = list(accumulate(lengths))
        self.shape = (self._ends[-1], first.shape[1], first.shape[2])
        self.dtype = first.dtype
        self.piece = (1, *first.piece[1:])
        self._readers: OrderedDict[int, Reader] = OrderedDict({0: first})
        self._lock = threading.Lock()

    def _reader(self, index: int) -> Reader:
        """Return the open reader of a file; only a few files are open at once."""
        reader = self._readers.pop(index, None)
        if reader is None:
            reader = self._open(self._files[index])
            if (reader.shape[1:], reader.dtype) != (self.shape[1:], self.dtype):
                raise InvalidInput(
                    f"{self._files[index]} is {reader.shape[1]} x {reader.shape[2]} {reader.dtype}, the first file "
                    f"{self.shape[1]} x {self.shape[2]} {self.dtype}: a movie's images are of one size and type."
                )
            length = self._ends[index] - (self._ends[index - 1] if index else 0)
            if reader.shape[0] != length and not (self._at_least and reader.shape[0] > length):
                raise InvalidInput(
                    f"{self._files[index]} holds {counted(reader.shape[0], 'frame')}, and {length} were expected: it "
                    "is still "
                    "being written, or it is damaged."
                )
        self._readers[index] = reader
        while len(self._readers) > _OPEN_FILES:
            self._readers.popitem(last=False)
        return reader

    def read(self, start: int, stop: int, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Return (stop - start, rows, columns)."""
        result = np.empty((stop - start, rows.stop - rows.start, columns.stop - columns.start), self.dtype)
        with self._lock:
            at = start
            while at < stop:
                index = bisect_right(self._ends, at)
                begin = self._ends[index - 1] if index else 0
                end = min(stop, self._ends[index])
                result[at - start : end - start] = self._reader(index).read(
                    at - begin, end - begin, rows, columns
                )
                at = end
        return result


class Chosen:
    """Some frames of a reader, in a given order: one channel and plane of pages that take turns."""

    def __init__(self, reader: Reader, places: npt.NDArray[np.int64], note: str = "") -> None:
        self._reader, self._places = reader, places
        self.note = "; ".join(filter(None, (reader.note, note)))
        self.shape = (len(places), reader.shape[1], reader.shape[2])
        self.dtype, self.piece = reader.dtype, (1, *reader.piece[1:])
        self.facts = facts_of(reader).of_frames(places.tolist())

    @property
    def base(self) -> Reader:
        """The reader whose frames these are."""
        return self._reader

    def read(self, start: int, stop: int, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Return (stop - start, rows, columns)."""
        places = self._places[start:stop]
        runs = np.split(places, np.flatnonzero(np.diff(places) != 1) + 1)
        parts = [self._reader.read(int(r[0]), int(r[-1]) + 1, rows, columns) for r in runs]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def parts_note(name: str, files: Sequence[Path], lengths: Sequence[int]) -> str:
    """Return a sentence that lists the files of one movie and their frames."""
    each = [f"{file.name} ({length})" for file, length in zip(files, lengths, strict=True)]
    if len(each) > _SHOWN:
        each = [*each[: _SHOWN - 2], "...", each[-1]]
    return f"{name} is one movie of {len(files)} files, frames in brackets: {', '.join(each)}"
