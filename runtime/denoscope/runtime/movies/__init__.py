"""Movies of every format, checked before anything is read and never read whole.

Modules are imported when their names are first used, because a recording from a camera reads no movie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from denoscope.runtime.late import late_names

if TYPE_CHECKING:
    from .check import check_regular, check_zarr_metadata
    from .converted import as_float32
    from .folders.names import is_beside, other_parts, stream_of_name
    from .folders.png import PngImage
    from .folders.prairie import CYCLE, Cycles, cycles_beside
    from .headers.pages_of import page_axes
    from .lazy import LazyMovie
    from .opening import FORMATS, AnyMovie, MovieFormat, open_movie

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
    "cycles_beside",
    "is_beside",
    "open_movie",
    "other_parts",
    "page_axes",
    "stream_of_name",
]

_MODULES = {
    "check": (
        "check_regular",
        "check_zarr_metadata",
    ),
    "converted": ("as_float32",),
    "lazy": ("LazyMovie",),
    "folders.names": (
        "is_beside",
        "other_parts",
        "stream_of_name",
    ),
    "opening": (
        "FORMATS",
        "AnyMovie",
        "MovieFormat",
        "open_movie",
    ),
    "headers.pages_of": ("page_axes",),
    "folders.png": ("PngImage",),
    "folders.prairie": (
        "CYCLE",
        "Cycles",
        "cycles_beside",
    ),
}
__getattr__ = late_names(__name__, _MODULES)


def __dir__() -> list[str]:
    return __all__
