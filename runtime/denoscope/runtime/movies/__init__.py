"""Movies of every format, checked before anything is read and never read whole."""

from __future__ import annotations

from .check import check_regular, check_zarr_metadata
from .converted import as_float32, converted
from .lazy import LazyMovie
from .names import other_parts, stream_of_name
from .opening import FORMATS, AnyMovie, MovieFormat, open_movie
from .pages_of import page_axes
from .png import PngImage
from .prairie import CYCLE, Cycles, cycles_beside

__all__ = [
    "CYCLE",
    "FORMATS",
    "AnyMovie",
    "Cycles",
    "LazyMovie",
    "MovieFormat",
    "PngImage",
    "as_float32",
    "check_regular",
    "check_zarr_metadata",
    "converted",
    "cycles_beside",
    "open_movie",
    "other_parts",
    "page_axes",
    "stream_of_name",
]
