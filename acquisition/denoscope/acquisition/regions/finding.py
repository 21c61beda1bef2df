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

FOUND_IN_THE_FIRST = f"cells found in the first {FIND_FRAMES} frames"
"""Origin of regions that were found at the beginning."""

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
    origin
        Says in the regions where they come from.
    """

    def __init__(
        self, radius_px: float, frames: int = FIND_FRAMES, *, origin: str = FOUND_IN_THE_FIRST
    ) -> None:
        self._radius_px = radius_px
        self._frames = frames
        self._origin = origin
        self._count = 0
        self._sum: npt.NDArray[Any] | None = None
        self._most: npt.NDArray[Any] | None = None

    def add(self, denoised: npt.NDArray[Any]) -> Regions | None:
        """Take a frame; return the regions with the last one that is needed.

        Raises
        ------
        InvalidInput
            When there is no cell in the frames.
        """
        return self.found() if self.collect(denoised) else None

    def collect(self, denoised: npt.NDArray[Any]) -> bool:
        """Take a frame; return True with the last one that is needed, after which `found` finds the cells."""
        if self._sum is None or self._most is None or self._sum.shape != denoised.shape:
            exact = denoised.dtype in (np.uint8, np.uint16) and self._frames < 1 << 16
            self._sum = np.zeros(denoised.shape, np.uint32 if exact else np.float64)
            self._most, self._count = denoised.copy(), 0
        np.add(self._sum, denoised, out=self._sum)
        np.maximum(self._most, denoised, out=self._most)
        self._count += 1
        return self._count == self._frames

    def found(self) -> Regions:
        """Return the cells in the frames so far."""
        if self._sum is None or self._most is None:
            raise InvalidInput(
                "there was no denoised frame to find cells in: record longer, or give a file of regions."
            )
        mean = self._sum / self._count
        # The mean shows cells that are always bright, the largest values those that flash.
        return find_cells([mean, self._most - mean], self._radius_px, origin=self._origin)


def find_cells(pictures: list[Picture], radius_px: float, *, origin: str = FOUND_IN_THE_FIRST) -> Regions:
    """Return bright blobs of about `radius_px` in any of the pictures ``(H, W)``, the brightest first.

    A cell is a maximum of the Laplacian of a Gaussian that stands above the scatter of the whole response, with the
    pixels around it where the response is positive and that are nearer to it than to any other.

    Parameters
    ----------
    pictures
        Pictures ``(H, W)`` of one scene, such as its mean and its deviation over time.
    radius_px
        Radius of a cell in pixels.
    origin
        Says in the regions where they come from.

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
    strength = np.full(shape, -np.inf)
    for picture in pictures:
        response = _response(picture, radius_px)
        # Where most of the picture is even, rounding alone is no cell.
        response /= max(_scatter(response), 1e-6 * float(np.abs(response).max()), 1e-12)
        np.maximum(strength, response, out=strength)
    peaks = _peaks(strength, radius_px)
    if len(peaks) == 0:
        raise InvalidInput(
            f"no cell of about {radius_px:g} pixels radius was found in the first frames; give another radius, as in "
            "find:4, or draw regions and give their file."
        )
    owner = np.zeros(shape, np.int32)
    nearest = np.full(shape, 1.5 * radius_px + 1e-9)
    nearest[strength <= 0] = -1.0
    reach = int(np.ceil(1.5 * radius_px))
    offsets = np.arange(-reach, reach + 1)
    disc = np.hypot(offsets[:, None], offsets)
    for number, (y, x) in enumerate(peaks, 1):
        top, left = max(0, y - reach), max(0, x - reach)
        here = np.s_[top : y + reach + 1, left : x + reach + 1]
        near = nearest[here]
        distance = disc[top - y + reach :, left - x + reach :][: near.shape[0], : near.shape[1]]
        inside = distance < near
        near[inside] = distance[inside]
        owner[here][inside] = number
    return Regions.from_labels(owner, origin=origin)


def _response(picture: Picture, radius_px: float) -> Picture:
    """Return the negative Laplacian of the smoothed picture, scaled so that it does not depend on the radius."""
    sigma = radius_px / np.sqrt(2)
    reach = int(np.ceil(4 * sigma))
    x = np.arange(-reach, reach + 1)
    smooth = np.exp(-(x**2) / (2 * sigma**2))
    smooth /= smooth.sum()
    curved = (x**2 / sigma**2 - 1) * smooth
    curved -= curved.mean()
    level = np.nan_to_num(picture)
    level = level - np.median(level)  # the filter takes off what is even; transforms round less without it
    padded = np.pad(level, reach, mode="reflect")
    height, width = (_quick_length(size) for size in padded.shape)
    spectrum = np.fft.rfft2(padded, s=(height, width), axes=(0, 1))
    down, across = np.fft.fft(_centred(curved, height)), np.fft.rfft(_centred(smooth, width))
    kernel = down[:, None] * across
    down, across = np.fft.fft(_centred(smooth, height)), np.fft.rfft(_centred(curved, width))
    kernel += down[:, None] * across
    spectrum *= kernel
    filtered: Picture = np.fft.irfft2(spectrum, s=(height, width), axes=(0, 1))
    return -filtered[reach : reach + picture.shape[0], reach : reach + picture.shape[1]]


def _quick_length(least: int) -> int:
    """Return the next length that a Fourier transform divides into small factors."""
    length = least
    while True:
        rest = length
        for factor in (2, 3, 5, 7):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1


def _centred(kernel: Picture, length: int) -> Picture:
    """Return the kernel with its middle at 0, in a row of this length."""
    row = np.zeros(length)
    row[: len(kernel)] = kernel
    return np.roll(row, -(len(kernel) // 2))


def _scatter(response: Picture) -> float:
    centre = np.median(response)
    return float(1.4826 * np.median(np.abs(response - centre)))


def _peaks(strength: Picture, radius_px: float) -> list[tuple[int, int]]:
    """Return the maxima above the noise, the strongest first, none within a radius of a stronger one."""
    inner = strength[1:-1, 1:-1]
    highest = inner > _NOISE
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            if (dy, dx) != (0, 0):
                highest &= (
                    inner
                    >= strength[1 + dy : strength.shape[0] - 1 + dy, 1 + dx : strength.shape[1] - 1 + dx]
                )
    rows, columns = np.nonzero(highest)
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
