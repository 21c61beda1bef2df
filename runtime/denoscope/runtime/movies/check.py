"""Checks that every format passes before a pixel of it is read."""

from __future__ import annotations

import math
import stat
from pathlib import Path
from typing import Any

import numpy as np

from denoscope.runtime.errors import InvalidInput

__all__ = [
    "ALLOWED_DTYPES",
    "check_claim",
    "check_dtype",
    "check_regular",
    "check_zarr_metadata",
    "one_line",
]

ALLOWED_DTYPES = ("uint8", "uint16", "int16", "float32")
# Read as float32: exact up to 24 bits, which no camera exceeds.
_WIDER_DTYPES = ("int8", "int32", "uint32", "int64", "uint64", "float16", "float64")

# Noise does not compress: a recording shrinks to a half or a third. What claims to have shrunk a
# hundredfold is damaged, a bomb, or an array of which next to nothing was written.
_LARGEST_RATIO = 100
_ZARR_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
_LARGEST_METADATA = 64 * 2**20
_ALWAYS_FINE_BYTES = 64_000_000


def check_regular(path: Path) -> None:
    """Refuse a pipe, a device or a socket before it is opened: reading one may wait for ever or never end.

    Raises
    ------
    InvalidInput
        If `path` exists and is neither a regular file nor a folder.
    """
    try:
        mode = (
            path.stat().st_mode
        )  # once: a program that writes may remove the file and make it again meanwhile
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InvalidInput(
            f"{path} is a pipe or a device, not a file: give the path of a movie file or folder."
        )


def check_zarr_metadata(folder: Path) -> None:
    """Refuse metadata of a Zarr array or group that are no regular file or too large, before a library reads them.

    Raises
    ------
    InvalidInput
        For such a file.
    """
    for name in _ZARR_METADATA:
        file = folder / name
        check_regular(file)
        if file.is_file() and (size := file.stat().st_size) > _LARGEST_METADATA:
            raise InvalidInput(f"{file} has {size / 1e6:.0f} MB of metadata: it is damaged; copy it again.")


def check_dtype(name: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return `dtype` in native byte order if denoscope takes it, or reads it as float32."""
    if dtype.newbyteorder("=").name not in ALLOWED_DTYPES + _WIDER_DTYPES:
        raise InvalidInput(f"{name} holds {dtype.name}; save it as one of {', '.join(ALLOWED_DTYPES)}.")
    return dtype.newbyteorder("=")


def check_claim(
    name: str,
    shape: tuple[int, ...],
    itemsize: int,
    *,
    piece: tuple[int, ...],
    stored_bytes: int,
    compressed: bool,
    limit_bytes: int,
) -> None:
    """Refuse pixels that the file cannot hold, and frames or chunks that memory shall not hold.

    Parameters
    ----------
    name
        Of the movie, for the error.
    shape, itemsize
        Claims of the header: all axes of what is stored, and bytes a pixel.
    piece
        The least that is decoded at once; a frame is added to it.
    stored_bytes, compressed
        Size on disk of what holds the pixels, and whether it may hold more than its size.
    limit_bytes
        Largest array that one read may give.
    """
    if min(shape, default=0) < 1:
        raise InvalidInput(f"{name} has the shape {shape}: it holds no pixels.")
    claimed = math.prod(shape) * itemsize
    most = max(_ALWAYS_FINE_BYTES, _LARGEST_RATIO * stored_bytes) if compressed else stored_bytes
    if claimed > most:
        raise InvalidInput(
            f"{name} claims {_mb(claimed)} of pixels in {_mb(stored_bytes)} on disk "
            f"(limit {_mb(most)}): the file is damaged or was never filled; record or save it again."
        )
    at_once = max(math.prod(shape[-2:]), math.prod(piece)) * itemsize
    if at_once > min(limit_bytes, max(most, _ALWAYS_FINE_BYTES)):
        raise InvalidInput(
            f"{name} needs {_mb(at_once)} for a single frame or chunk "
            f"(limit {_mb(min(limit_bytes, most))}): crop it or save it with smaller chunks."
        )


def _mb(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count >= 10_000_000 else f"{count / 1e6:.2g} MB"


def one_line(error: BaseException) -> str:
    """Return what `error` says, in one line of bounded length."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
