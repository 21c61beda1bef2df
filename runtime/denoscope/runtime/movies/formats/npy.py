"""NumPy's ``.npy``: an array (T, H, W), read from where its pixels lie."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.movies.check import check_claim, check_dtype, one_line
from denoscope.runtime.movies.lazy import Reader
from denoscope.runtime.movies.pick import Axis, Wanted, pick

from .tiff import DenseReader

__all__ = ["open_npy", "open_npy_at", "read_header"]


def open_npy(path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open a ``.npy`` file of three axes as a movie; nothing in it is ever unpickled.

    Raises
    ------
    InvalidInput
        If it is damaged, of other axes, or stored column by column.
    """
    return open_npy_at(path, 0, path.stat().st_size, wanted, limit_bytes)


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether it is stored column by column, and dtype of an array from its header.

    Raises
    ------
    ValueError
        If it is damaged.
    OSError, EOFError
        If it cannot be read.
    """
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = read(file)
    except (OSError, EOFError, ValueError):
        raise
    except Exception as error:  # what parses Python raises many kinds where this is none
        raise ValueError(f"its header is damaged: {one_line(error)}") from error
    if any(side < 0 for side in shape):
        raise ValueError(f"its header says {shape}")
    return tuple(shape), bool(fortran), dtype


def open_npy_at(path: Path, begin: int, length: int, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open an array that lies in a file from byte `begin` on and takes `length` bytes with its header.

    Raises
    ------
    InvalidInput
        As for `open_npy`.
    """
    try:
        with path.open("rb") as file:
            file.seek(begin)
            shape, fortran, dtype = read_header(file)
            offset = file.tell()
    except (ValueError, EOFError, OSError) as error:
        raise InvalidInput(
            f"{path} cannot be read as a NumPy array ({one_line(error)}): save it again."
        ) from error
    if dtype.hasobject:
        raise InvalidInput(
            f"{path} holds Python objects, which are never loaded: save the movie alone, (T, H, W)."
        )
    if len(shape) > 3:  # axes of one entry
        shape = (*(n for n in shape[:-2] if n != 1), *shape[-2:])
    if len(shape) != 3:
        raise InvalidInput(
            f"{path} has the shape {shape}; a movie is (T, H, W): save one channel and plane of it."
        )
    if fortran:
        raise InvalidInput(
            f"{path} is stored column by column: save it again with numpy.save(FILE, numpy.ascontiguousarray(movie))."
        )
    check_dtype(str(path), dtype)
    check_claim(
        str(path),
        shape,
        dtype.itemsize,
        piece=(1, 1, 1),
        stored_bytes=min(begin + length, path.stat().st_size) - offset,
        compressed=False,
        limit_bytes=limit_bytes,
    )
    pick(str(path), [Axis("time", shape[0])], wanted)
    return DenseReader(path, shape, dtype, offset, shape[1] * shape[2] * dtype.itemsize)
