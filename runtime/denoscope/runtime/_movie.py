"""Open a recorded movie, checked before anything is read and memory-mapped where it can be."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile

from ._errors import InvalidInput

__all__ = ["AnyMovie", "open_movie"]

_DTYPES = ("uint8", "uint16", "int16", "float32")

AnyMovie = npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | npt.NDArray[np.int16] | npt.NDArray[np.float32]


def open_movie(path: Path, *, limit_bytes: int = 64 * 2**30) -> AnyMovie:
    """Open a TIFF movie (TIFF, BigTIFF, OME-TIFF, ImageJ) as (T, H, W), memory-mapped where it can be.

    Parameters
    ----------
    path
        The file.
    limit_bytes
        Largest decoded size accepted; checked against the header and the file before anything is read.

    Raises
    ------
    InvalidInput
        If the file is missing, no TIFF, empty, claims more data than it can hold, or is not one
        channel of one plane over time in uint8, uint16, int16 or float32.
    """
    if not path.is_file():
        raise InvalidInput(f"There is no movie at {path}: give the path of a TIFF file.")
    if path.stat().st_size == 0:
        raise InvalidInput(f"{path} is empty (0 bytes): the recording was not written; choose another file.")
    try:
        with tifffile.TiffFile(path) as tif:
            if not tif.series:
                raise InvalidInput(f"{path} holds no images: give a movie of at least one frame.")
            series = tif.series[0]
            shape = tuple(n for n in series.shape if n != 1)
            size, dtype = math.prod(series.shape) * series.dtype.itemsize, series.dtype
            compressed = series.keyframe.compression != 1
            dense = series.dataoffset is not None
    except (tifffile.TiffFileError, ValueError, KeyError, IndexError, TypeError, OSError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(
            f"{path} cannot be read as a TIFF movie ({error}): check that it opens in Fiji."
        ) from error
    if len(shape) == 2:
        shape = (1, *shape)
    if len(shape) != 3:
        raise InvalidInput(
            f"{path} has the shape {series.shape}; denoscope takes one channel and one plane over time "
            f"(T, H, W): split channels and planes first."
        )
    if dtype.name not in _DTYPES:
        raise InvalidInput(f"{path} holds {dtype.name}; save it as one of {', '.join(_DTYPES)}.")
    if size > limit_bytes or (not compressed and size > path.stat().st_size):
        raise InvalidInput(
            f"{path} claims {size / 1e6:.0f} MB of pixels in a file of {path.stat().st_size / 1e6:.1f} MB "
            f"(limit {limit_bytes / 1e6:.0f} MB): the file is damaged or too large to read at once."
        )
    if dense and not compressed:
        mapped: AnyMovie = tifffile.memmap(path, mode="r").reshape(shape)
        return mapped
    movie: AnyMovie = tifffile.imread(path).reshape(shape)
    return movie
