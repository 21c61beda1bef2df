"""Movies of every format, checked before anything is read and never read whole."""

from __future__ import annotations

from .check import check_regular, check_zarr_metadata
from .converted import as_float32, converted
from .lazy import LazyMovie
from .names import other_parts, stream_of_name
from .opening import FORMATS, AnyMovie, MovieFormat, open_movie
from .pages_of import page_axes

__all__ = [
    "FORMATS",
    "AnyMovie",
    "LazyMovie",
    "MovieFormat",
    "as_float32",
    "check_regular",
    "check_zarr_metadata",
    "converted",
    "open_movie",
    "other_parts",
    "page_axes",
    "stream_of_name",
]
