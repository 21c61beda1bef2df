"""Movies of every format, checked before anything is read and never read whole."""

from __future__ import annotations

from ._float32 import as_float32
from ._lazy import LazyMovie
from ._open import FORMATS, AnyMovie, MovieFormat, open_movie

__all__ = ["FORMATS", "AnyMovie", "LazyMovie", "MovieFormat", "as_float32", "open_movie"]
