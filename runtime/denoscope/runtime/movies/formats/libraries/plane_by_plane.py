"""Readers of vendors' formats: one plane read at a time, by a library that this file never names."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.movies.check import check_claim, check_dtype, one_line
from denoscope.runtime.movies.headers.facts import Facts
from denoscope.runtime.movies.lazy import Reader
from denoscope.runtime.movies.pick import Axis, Wanted, pick, pick_index

__all__ = ["Choice", "PlaneByPlane", "choose", "one_sentence", "only_image", "open_by_library"]


@contextmanager
def one_sentence(name: str, what: str) -> Iterator[None]:
    """Turn whatever a library raises on a damaged file into one sentence, and keep its warnings from the user."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InvalidInput:
        raise
    except Exception as error:  # decoders of damaged files raise anything
        raise InvalidInput(
            f"{name} cannot be read as {what} ({one_line(error)}): the file is damaged or was cut short; copy it "
            "again, or export it as OME-TIFF from the program that recorded it."
        ) from error


def open_by_library(path: Path, what: str, opener: str, arrange: Callable[[Any], Reader]) -> Reader:
    """Open a file with a library, and close it again unless a movie can be made of it.

    Parameters
    ----------
    path
        The file.
    what
        Name of its format, for errors.
    opener
        ``module:class`` of the library, called with the path.
    arrange
        Makes the reader of the opened file.

    Raises
    ------
    InvalidInput
        If the library cannot read it.
    """
    module, _, name = opener.partition(":")
    library: Any = import_module(module)
    with one_sentence(str(path), what):
        file = getattr(library, name)(str(path))
        try:
            return arrange(file)
        except BaseException:
            file.close()
            raise


@dataclass(frozen=True)
class Choice:
    """Planes of a file that are the movie: the fixed index of every axis, and the one that is time."""

    fixed: tuple[int, ...]
    time: int | None
    length: int
    note: str = ""

    def at(self, t: int) -> tuple[int, ...]:
        """Return the index of frame `t` along every axis."""
        return tuple(t if i == self.time else index for i, index in enumerate(self.fixed))


def choose(name: str, axes: list[Axis], wanted: Wanted) -> Choice:
    """Return the planes that the user's choice, or the file alone, makes a movie."""
    chosen = pick(name, axes, wanted)
    time = chosen.index(None) if None in chosen else None
    return Choice(tuple(i or 0 for i in chosen), time, 1 if time is None else axes[time].size, chosen.note)


def only_image(name: str, labels: tuple[str, ...], wanted: Wanted) -> tuple[int, Wanted]:
    """Return which of several images of one file is wanted, and what is left to choose in it.

    If the file has one image, `position` chooses in that image.
    """
    if len(labels) == 1:
        return 0, wanted
    at = pick_index(name, Axis("position", len(labels), labels), wanted.position)
    return at, Wanted(wanted.channel, wanted.plane, None, wanted.interleaved)


class PlaneByPlane:
    """A movie whose library gives one plane after another; a `Reader`.

    Parameters
    ----------
    name
        Of the movie, for errors.
    shape, dtype
        (T, H, W), and what the library gives.
    plane
        Gives frame `t`, (H, W).
    close
        Closes the file when the reader is no longer used.
    stored_bytes, compressed, limit_bytes
        As for `check_claim`.
    note
        Sentence for the user on how the file was read.
    facts
        Pixel size, times and names.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        plane: Callable[[int], npt.NDArray[Any]],
        close: Callable[[], Any],
        *,
        stored_bytes: int,
        compressed: bool,
        limit_bytes: int,
        note: str = "",
        facts: Facts = Facts(),  # noqa: B008 - it never changes
    ) -> None:
        self.facts = facts
        self.dtype = check_dtype(name, np.dtype(dtype))
        self.shape = (int(shape[0]), int(shape[1]), int(shape[2]))
        self.piece = (1, self.shape[1], self.shape[2])
        self.note = note
        check_claim(
            name,
            self.shape,
            self.dtype.itemsize,
            piece=self.piece,
            stored_bytes=stored_bytes,
            compressed=compressed,
            limit_bytes=limit_bytes,
        )
        self._plane = plane
        self._lock = threading.Lock()
        weakref.finalize(self, close)

    def read(self, start: int, stop: int, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Return (stop - start, rows, columns)."""
        result = np.empty((stop - start, rows.stop - rows.start, columns.stop - columns.start), self.dtype)
        with self._lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for i, t in enumerate(range(start, stop)):
                plane = np.asarray(self._plane(t))
                if plane.shape != self.shape[1:] or plane.dtype.newbyteorder("=") != self.dtype:
                    raise ValueError(
                        f"{plane.shape} {plane.dtype} instead of {self.shape[1:]} {self.dtype.name}"
                    )
                result[i] = plane[rows, columns]
        return result
