"""Movies of every format, checked before anything is read and never read whole."""

from __future__ import annotations

from ._converted import as_float32, converted
from ._lazy import LazyMovie
from ._open import FORMATS, AnyMovie, MovieFormat, open_movie

__all__ = ["FORMATS", "AnyMovie", "LazyMovie", "MovieFormat", "as_float32", "converted", "open_movie"]
