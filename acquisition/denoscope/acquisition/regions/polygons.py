"""Pixels inside outlines, by the rule that ImageJ and matplotlib follow: the centre of the pixel decides."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["ellipse_pixels", "polygon_pixels", "rectangle_pixels"]

Points = npt.NDArray[np.float64]
Flat = npt.NDArray[np.intp]


def _box(low: npt.ArrayLike, high: npt.ArrayLike, shape: tuple[int, int]) -> tuple[slice, slice]:
    first = np.clip(np.floor(np.asarray(low, float)).astype(int) - 1, 0, shape)
    last = np.clip(np.ceil(np.asarray(high, float)).astype(int) + 1, 0, shape)
    return slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1]))


def _flat(inside: npt.NDArray[np.bool_], box: tuple[slice, slice], shape: tuple[int, int]) -> Flat:
    rows, columns = np.nonzero(inside)
    flat: Flat = ((rows + box[0].start) * shape[1] + columns + box[1].start).astype(np.intp)
    return flat


def polygon_pixels(corners: Points, shape: tuple[int, int]) -> Flat:
    """Return the flat indices of the pixels whose centres lie in a polygon, by the even-odd rule.

    Parameters
    ----------
    corners
        ``(n, 2)``: row and column, where the centre of the first pixel is (0.5, 0.5).
    shape
        ``(H, W)`` of the frame.
    """
    box = _box(corners.min(0), corners.max(0), shape)
    rows = np.arange(box[0].start, box[0].stop) + 0.5
    columns = np.arange(box[1].start, box[1].stop) + 0.5
    inside = np.zeros((len(rows), len(columns)), bool)
    for (y0, x0), (y1, x1) in zip(corners, np.roll(corners, -1, 0), strict=True):
        if y0 == y1:
            continue
        between = (rows >= min(y0, y1)) & (rows < max(y0, y1))
        crossing = x0 + (rows[between] - y0) * (x1 - x0) / (y1 - y0)
        inside[between] ^= columns[None, :] < crossing[:, None]
    return _flat(inside, box, shape)


def rectangle_pixels(top: float, left: float, bottom: float, right: float, shape: tuple[int, int]) -> Flat:
    """Return the flat indices of the pixels whose centres lie in a rectangle."""
    corners = np.array([[top, left], [top, right], [bottom, right], [bottom, left]], float)
    return polygon_pixels(corners, shape)


def ellipse_pixels(top: float, left: float, bottom: float, right: float, shape: tuple[int, int]) -> Flat:
    """Return the flat indices of the pixels whose centres lie in the ellipse that fills a rectangle."""
    box = _box((top, left), (bottom, right), shape)
    rows = np.arange(box[0].start, box[0].stop)[:, None] + 0.5
    columns = np.arange(box[1].start, box[1].stop)[None, :] + 0.5
    height, width = max(bottom - top, 1e-9) / 2, max(right - left, 1e-9) / 2
    across = (rows - (top + bottom) / 2) ** 2 / height**2 + (columns - (left + right) / 2) ** 2 / width**2
    return _flat(across <= 1.0, box, shape)
