"""Check that what a function was given is a movie, so that anything else is refused in one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np

from denoscope.runtime.errors import InvalidInput

__all__ = ["check_movie"]


def check_movie(movie: Any, name: str = "movie") -> None:
    """Raise InvalidInput unless it is a movie (T, H, W) of real numbers, an array or a `LazyMovie`."""
    remedy = "give an array or an opened movie (T, H, W) of real numbers"
    shape, dtype = getattr(movie, "shape", None), getattr(movie, "dtype", None)
    if not isinstance(shape, tuple) or dtype is None:
        said = repr(movie)
        raise InvalidInput(f"{name} was given {said if len(said) < 60 else type(movie).__name__}: {remedy}.")
    if len(shape) != 3 or not all(shape):
        raise InvalidInput(f"{name} was given frames of shape {shape}: {remedy}.")
    if np.dtype(dtype).kind not in "iuf":
        raise InvalidInput(f"{name} was given values of the dtype {dtype}: {remedy}.")
