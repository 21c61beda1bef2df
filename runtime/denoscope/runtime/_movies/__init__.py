"""Movies of every format, checked before anything is read and never read whole."""

from __future__ import annotations

from ._check import check_regular
from ._converted import as_float32, converted
from ._lazy import LazyMovie
from ._names import stream_of_name
from ._open import FORMATS, AnyMovie, MovieFormat, open_movie
from ._pages_of import page_axes

__all__ = [
    "FORMATS",
    "AnyMovie",
    "LazyMovie",
    "MovieFormat",
    "as_float32",
    "check_regular",
    "converted",
    "open_movie",
    "page_axes",
    "stream_of_name",
]
