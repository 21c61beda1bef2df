"""HDF5: the one movie in a file, or the data set named after ``::``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput

from .check import ALLOWED_DTYPES, check_claim, check_dtype, one_line
from .lazy import Reader
from .pick import Axis, Wanted, pick

__all__ = ["open_hdf5"]

_SHOWN = 8
_MOST_OBJECTS = 10_000


def open_hdf5(path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open a data set of an HDF5 file as a movie (T, H, W).

    Raises
    ------
    InvalidInput
        If the file is damaged, holds no such data set or several, or it claims more than it can hold.
    """
    import h5py

    name, _, dataset = str(path).partition("::")
    with _one_sentence(name):
        file = h5py.File(name, "r", rdcc_nbytes=0)
    try:
        with _one_sentence(name):
            found = _named(file, dataset, name) if dataset else _only_movie(file, name)
            return _DataSet(name, file, found, wanted, limit_bytes)
    except BaseException:
        file.close()
        raise


@contextmanager
def _one_sentence(name: str) -> Iterator[None]:
    try:
        yield
    except InvalidInput:
        raise
    except Exception as error:  # h5py passes on whatever the library finds in a damaged file
        raise InvalidInput(
            f"{name} cannot be read as HDF5 ({one_line(error)}): the file is damaged or still being written."
        ) from error


def _arrays(file: Any) -> list[Any]:
    """Return the arrays of frames in a file."""
    import h5py

    arrays: list[Any] = []
    seen = 0

    def visit(_: str, item: Any) -> bool | None:
        nonlocal seen
        seen += 1
        if isinstance(item, h5py.Dataset) and item.ndim >= 3 and item.dtype.kind in "uif":
            arrays.append(item)
        return True if seen >= _MOST_OBJECTS else None

    file.visititems(visit)
    return arrays


def _named(file: Any, dataset: str, name: str) -> Any:
    """Return the data set that the user names."""
    import h5py

    found = file.get(dataset)
    if isinstance(found, h5py.Dataset):
        return found
    listed = ", ".join(f"{d.name} {d.shape}" for d in _arrays(file)[:_SHOWN]) or "no arrays"
    raise InvalidInput(f"{name} has no data set `{dataset}`; it has: {listed}.")


def _only_movie(file: Any, name: str) -> Any:
    """Return the one data set that can be a movie."""
    arrays = [d for d in _arrays(file) if d.dtype.newbyteorder("=").name in ALLOWED_DTYPES] or _arrays(file)
    if len(arrays) == 1:
        return arrays[0]
    if not arrays:
        raise InvalidInput(f"{name} holds no data set (T, H, W): save the movie as one.")
    listed = ", ".join(f"{d.name} {d.shape}" for d in arrays[:_SHOWN])
    raise InvalidInput(
        f"{name} has {len(arrays)} data sets that could be the movie: {listed}; choose with {name}::{arrays[0].name}."
    )


class _DataSet:
    """One data set of an open file."""

    note = ""

    def __init__(self, name: str, file: Any, data: Any, wanted: Wanted, limit_bytes: int) -> None:
        shown = f"{name}::{data.name}"
        self.dtype = check_dtype(shown, data.dtype)
        if data.ndim < 3:
            raise InvalidInput(f"{shown} has the shape {data.shape}; a movie is (T, H, W).")
        shape = tuple(int(n) for n in data.shape)
        chunks = data.chunks or (*(1,) * (data.ndim - 1), shape[-1])
        check_claim(
            shown,
            shape,
            self.dtype.itemsize,
            piece=chunks,
            stored_bytes=int(data.id.get_storage_size()),
            compressed=bool(data.compression) or data.id.get_create_plist().get_nfilters() > 0,
            limit_bytes=limit_bytes,
        )
        if data.external or data.is_virtual:
            raise InvalidInput(
                f"{shown} keeps its pixels in other files: open those, or copy it into one file."
            )
        stored = int(data.id.get_storage_size())
        if not data.chunks and (data.id.get_offset() or 0) + stored > Path(name).stat().st_size:
            raise InvalidInput(
                f"{name} is shorter than its data set {data.name}: it was cut short; copy it again."
            )
        # HDF5 names no axes: of more than three, only those of one entry can be left out.
        if sum(n > 1 for n in shape[:-2]) > 1:
            raise InvalidInput(
                f"{shown} has the shape {shape}; a movie is (T, H, W): save one channel and plane of it."
            )
        chosen = pick(shown, [Axis("time" if n > 1 else "other", n) for n in shape[:-2]], wanted)
        self._time = chosen.index(None) if None in chosen else 0
        self._leading = len(shape) - 2
        self.shape = (shape[self._time], shape[-2], shape[-1])
        self.piece = (int(chunks[self._time]), int(chunks[-2]), int(chunks[-1]))
        if math.prod(chunks) * self.dtype.itemsize < 2**16:
            self.piece = (1, *self.piece[1:])
        self._file, self._data = file, data

    def read(self, start: int, stop: int, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Return (stop - start, rows, columns)."""
        index: list[Any] = [0] * self._leading
        index[self._time] = slice(start, stop)
        return np.asarray(self._data[(*index, rows, columns)], self.dtype)
