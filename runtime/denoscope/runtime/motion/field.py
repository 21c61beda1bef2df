"""Displacement that differs from place to place, given at the knots of a coarse grid.

A field (2, KNOTS, KNOTS) says how far (rows, columns), in pixels, a frame lies off the scene around each knot:
``frame(p + field(p)) = scene(p)``. The knots lie at the centres of KNOTS x KNOTS equal parts of the picture; between
them it is bilinear. The graphs `align` and `recall` take it as places to sample at, see `places`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "KNOTS",
    "Extent",
    "between",
    "constant",
    "interpolation",
    "inverse",
    "lead",
    "places",
    "spreading",
]

KNOTS = 12  # along each axis
_INVERSION_STEPS = 4  # the slope of a field is well below one, so each gains a factor of three or more

Field = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Extent:
    """A picture on what the knots lie over: its size (H, W) with its padding, and where its corner lies."""

    size: tuple[int, int]
    corner: tuple[int, int] = (0, 0)


def interpolation(at: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """Return the weights (n, KNOTS) of the knots at places along an axis of length 1, linear beyond the last ones."""
    steps = np.asarray(at, np.float64) * KNOTS - 0.5
    left = np.clip(np.floor(steps).astype(np.intp), 0, KNOTS - 2)
    weights = np.zeros((len(steps), KNOTS), np.float32)
    rows = np.arange(len(steps))
    weights[rows, left] = left + 1 - steps
    weights[rows, left + 1] = steps - left
    return weights


def spreading(
    shape: tuple[int, int], made: tuple[int, int], corner: tuple[int, int] = (0, 0)
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the weights (H, KNOTS) and (KNOTS, W) that spread knots over the pixels of a picture; see `places`.

    Parameters
    ----------
    shape
        Of what the knots lie over.
    made
        (H, W) of the picture, with its padding at the end.
    corner
        Where on it the picture's corner lies, rows and columns.
    """
    rows, columns = (
        interpolation((start + np.arange(long) + 0.5) / length)
        for start, long, length in zip(corner, made, shape, strict=True)
    )
    return rows, columns.T


def constant(displacement: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return the field of a displacement (y, x) that is the same everywhere."""
    return np.broadcast_to(np.array(displacement, np.float32)[:, None, None], (2, KNOTS, KNOTS))


def between(fields: Field, whole: tuple[int, int], part: tuple[slice, slice]) -> npt.NDArray[np.float32]:
    """Return fields (..., 2, KNOTS, KNOTS) over a picture of the size `whole` with their knots over a part of it."""
    rows, columns = (
        interpolation((side.start + _knots(side.stop - side.start)) / length)
        for side, length in zip(part, whole, strict=True)
    )
    return np.asarray(rows @ fields @ columns.T, np.float32)


def inverse(field: Field, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return g with ``scene(p - g(p)) = frame(p)`` for a field with ``frame(p + field(p)) = scene(p)``.

    The knots are spread over a picture of the size `shape`.
    """
    back: npt.NDArray[np.float64] = np.asarray(field, np.float64)
    for _ in range(_INVERSION_STEPS):
        back = _sampled(field, -back, shape)
    return back


def lead(field: Field, back: Field, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return the displacement from a frame with a field to one with the inverse field `back`.

    On that one's grid: ``frame(p + lead(p)) = other(p)``.
    """
    return np.asarray(_sampled(field, -np.asarray(back), shape) - back, np.float64)


def places(
    displacement: Field, shape: tuple[int, int], padded: tuple[int, int], corner: tuple[int, int] = (0, 0)
) -> npt.NDArray[np.float32]:
    """Return where to sample a picture, as the graphs take it: (1, 2, KNOTS, KNOTS), columns first, from -1 to 1.

    Parameters
    ----------
    displacement
        (2, KNOTS, KNOTS) rows and columns, in pixels.
    shape, padded
        (H, W) of what the knots lie over, and of the picture that is sampled with its padding at the end.
    corner
        Where on the first the corner of the second lies, rows and columns.
    """
    rows = (_knots(shape[0])[:, None] - corner[0] + displacement[0]) * (2 / padded[0]) - 1
    columns = (_knots(shape[1]) - corner[1] + displacement[1]) * (2 / padded[1]) - 1
    return np.stack([columns, rows])[None].astype(np.float32)


def _knots(length: int) -> npt.NDArray[np.float64]:
    """Return where the knots lie along a picture, in pixels from its edge."""
    return np.asarray((np.arange(KNOTS) + 0.5) * (length / KNOTS), np.float64)


def _sampled(field: Field, displacement: Field, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return a field at its own knots, displaced by pixels; beyond the outer knots it stays as it is there."""
    knots = np.arange(KNOTS, dtype=np.float64)
    y = np.clip(knots[:, None] + displacement[0] * (KNOTS / shape[0]), 0, KNOTS - 1)
    x = np.clip(knots + displacement[1] * (KNOTS / shape[1]), 0, KNOTS - 1)
    top, left = np.minimum(y.astype(np.intp), KNOTS - 2), np.minimum(x.astype(np.intp), KNOTS - 2)
    v, u = y - top, x - left
    upper = field[:, top, left] * (1 - u) + field[:, top, left + 1] * u
    lower = field[:, top + 1, left] * (1 - u) + field[:, top + 1, left + 1] * u
    return np.asarray(upper * (1 - v) + lower * v, np.float64)
