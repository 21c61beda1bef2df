"""Find cells in the first denoised frames: bright blobs of about one size (Marr and Hildreth 1980)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime import InvalidInput

from .regions import Regions

__all__ = ["FIND_FRAMES", "RegionFinder", "find_cells"]

FIND_FRAMES = 100
"""Denoised frames in which cells are searched."""

_NOISE = 5.0  # robust standard deviations of the response that a cell stands above
_MOST = 5000

Picture = npt.NDArray[np.float64]


class RegionFinder:
    """Collect the first denoised frames, then find the cells in their mean and in their changes.

    Parameters
    ----------
    radius_px
        Radius of a cell.
    frames
        How many frames are collected.
    """

    def __init__(self, radius_px: float, frames: int = FIND_FRAMES) -> None:
        self._radius_px = radius_px
        self._frames = frames
        self._count = 0
        self._sum: Picture | None = None
        self._most: Picture | None = None

    def add(self, denoised: npt.NDArray[Any]) -> Regions | None:
        """Take a frame; return the regions with the last one that is needed.

        Raises
        ------
        InvalidInput
            When there is no cell in the frames.
        """
        frame = denoised.astype(np.float64)
        if self._sum is None or self._most is None or self._sum.shape != frame.shape:
            self._sum, self._most, self._count = np.zeros_like(frame), frame.copy(), 0
        self._sum += frame
        np.maximum(self._most, frame, out=self._most)
        self._count += 1
        return self.found() if self._count == self._frames else None

    def found(self) -> Regions:
        """Return the cells in the frames so far."""
        if self._sum is None or self._most is None:
            raise InvalidInput("there was no denoised frame to find cells in.")
        mean = self._sum / self._count
        # The mean shows cells that are always bright, the largest values those that flash.
        return find_cells([mean, self._most - mean], self._radius_px)


def find_cells(pictures: list[Picture], radius_px: float) -> Regions:
    """Return bright blobs of about `radius_px` in any of the pictures ``(H, W)``, the brightest first.

    A cell is a maximum of the Laplacian of a Gaussian that stands above the scatter of the whole response, with the
    pixels around it where the response is positive and that are nearer to it than to any other.

    Parameters
    ----------
    pictures
        Pictures ``(H, W)`` of one scene, such as its mean and its deviation over time.
    radius_px
        Radius of a cell in pixels.

    Returns
    -------
    Regions
        Pixels of each cell.

    Raises
    ------
    InvalidInput
        When there is none, or the radius does not fit the picture.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> rows, columns = np.mgrid[:64, :64]
    >>> cell = (rows - 30) ** 2 + (columns - 40) ** 2 < 36
    >>> picture = (rng.normal(100, 2, (64, 64)) + 60 * cell).astype(np.float32)
    >>> len(find_cells([picture], 6).names)
    1
    """
    shape = pictures[0].shape
    if 4 * radius_px > min(shape):
        raise InvalidInput(
            f"cells of {radius_px:g} pixels radius do not fit frames of {shape[0]} x {shape[1]} pixels; give a "
            "smaller radius, as in find:4."
        )
    responses = [_response(picture, radius_px) for picture in pictures]
    strength = np.maximum.reduce([response / max(_scatter(response), 1e-12) for response in responses])
    peaks = _peaks(strength, radius_px)
    if len(peaks) == 0:
        raise InvalidInput(
            f"no cell of about {radius_px:g} pixels radius was found in the first frames; give another radius, as in "
            "find:4, or draw regions and give their file."
        )
    owner = np.zeros(shape, np.int32)
    nearest = np.full(shape, np.inf)
    reach = int(np.ceil(1.5 * radius_px))
    for number, (y, x) in enumerate(peaks, 1):
        rows = slice(max(0, y - reach), min(shape[0], y + reach + 1))
        columns = slice(max(0, x - reach), min(shape[1], x + reach + 1))
        distance = np.hypot(
            np.arange(rows.start, rows.stop)[:, None] - y, np.arange(columns.start, columns.stop)[None, :] - x
        )
        inside = (
            (strength[rows, columns] > 0)
            & (distance <= 1.5 * radius_px)
            & (distance < nearest[rows, columns])
        )
        nearest[rows, columns][inside] = distance[inside]
        owner[rows, columns][inside] = number
    return Regions.from_labels(owner, origin=f"cells found in the first {FIND_FRAMES} frames")


def _response(picture: Picture, radius_px: float) -> Picture:
    """Return the negative Laplacian of the smoothed picture, scaled so that it does not depend on the radius."""
    sigma = radius_px / np.sqrt(2)
    reach = int(np.ceil(4 * sigma))
    x = np.arange(-reach, reach + 1)
    smooth = np.exp(-(x**2) / (2 * sigma**2))
    smooth /= smooth.sum()
    curved = (x**2 / sigma**2 - 1) * smooth
    curved -= curved.mean()
    padded = np.pad(np.nan_to_num(picture), reach, mode="reflect")
    across = _along(_along(padded, curved, 0), smooth, 1) + _along(_along(padded, smooth, 0), curved, 1)
    return -across


def _along(picture: Picture, kernel: Picture, axis: int) -> Picture:
    """Return the picture convolved along one axis, without the ends."""
    length = picture.shape[axis] - len(kernel) + 1
    total = np.zeros([length if each == axis else size for each, size in enumerate(picture.shape)])
    for place, weight in enumerate(kernel):
        total += weight * np.take(picture, range(place, place + length), axis)
    return total


def _scatter(response: Picture) -> float:
    centre = np.median(response)
    return float(1.4826 * np.median(np.abs(response - centre)))


def _peaks(strength: Picture, radius_px: float) -> list[tuple[int, int]]:
    """Return the maxima above the noise, the strongest first, none within a radius of a stronger one."""
    inner = strength[1:-1, 1:-1]
    around = [
        strength[1 + dy : strength.shape[0] - 1 + dy, 1 + dx : strength.shape[1] - 1 + dx]
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
        if (dy, dx) != (0, 0)
    ]
    rows, columns = np.nonzero((inner > _NOISE) & (inner >= np.maximum.reduce(around)))
    rows, columns = rows + 1, columns + 1
    order = np.argsort(-strength[rows, columns], kind="stable")[:_MOST]
    kept: list[tuple[int, int]] = []
    blocked = np.zeros(strength.shape, bool)
    reach = max(1, round(radius_px))
    for y, x in zip(rows[order], columns[order], strict=True):
        if not blocked[y, x]:
            kept.append((int(y), int(x)))
            blocked[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = True
    return kept
