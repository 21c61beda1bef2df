"""A frame as motion is told from it: binned, smoothed, without its coarse brightness, and what is asked of it at knots.

Everything large is slices and sums: a matrix product of a threaded library leaves threads spinning that take the cores
from the graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.noise.noise import Intensity

from .field import KNOTS

__all__ = ["LARGEST", "Array", "Equations", "Image", "Scene", "binned", "binning", "joined"]

Image = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]

LARGEST = 256  # pixels of an edge after binning: accurate to a fraction of a pixel, and quick
_SMOOTH = 1.2  # pixels, standard deviation: what is finer is noise
_RADIUS = 4  # pixels of that kernel


class Scene:
    """Makes frames of one size comparable.

    Parameters
    ----------
    shape
        (H, W) of the frames.
    margin
        Pixels of the scene beyond the frame on each side; the knots are spread over the scene.
    intensity
        Transform and noise of the session.
    largest
        Pixels of an edge after binning.

    Attributes
    ----------
    bin, size
        How many pixels are joined along each axis, and the size (h, w) of an image then.
    passed
        Share of white noise that is left in `detail`.
    count
        (KNOTS, KNOTS) pixels of an image that a knot stands for.
    """

    def __init__(
        self, shape: tuple[int, int], margin: int, intensity: Intensity, *, largest: int = LARGEST
    ) -> None:
        self._unit = intensity
        self.bin, self.size = binning(shape, largest)
        self._axes = [
            _Axis(n, (margin + self.bin * (np.arange(n) + 0.5)) / (length + 2 * margin))
            for n, length in zip(self.size, shape, strict=True)
        ]
        taps = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SMOOTH) ** 2)
        self._taps = (taps / taps.sum()).astype(np.float32)
        self.passed = float(np.square(self._taps).sum()) ** 2
        self.count = np.maximum(self.gather(np.ones(self.size, np.float32)), 1e-6)

    def image(self, frame: npt.NDArray[Any]) -> Image:
        """Return a frame (H, W) of raw counts, normalised and binned."""
        return binned(frame, self.bin, self.size, self._unit)

    def noise(self, image: Image) -> Array:
        """Return the variance of the camera's noise in an image, around each knot."""
        variance = self._unit.noise_slope * self.gather(image) / self.count + 1
        return np.asarray(np.maximum(variance, self._unit.noise_floor) / self.bin**2, np.float64)

    def detail(self, image: Image) -> Image:
        """Return the image without noise finer, and brightness coarser, than what tells motion."""
        for axis in range(2):
            pad = [(0, 0), (0, 0)]
            pad[axis] = (_RADIUS, _RADIUS)
            wide, n = np.pad(image, pad, mode="edge"), image.shape[axis]
            image = sum(
                (
                    tap * (wide[i : i + n] if axis == 0 else wide[:, i : i + n])
                    for i, tap in enumerate(self._taps)
                ),
                np.zeros_like(image),
            )
        return image - self.spread(self.gather(image) / self.count)

    def equations(self, reference: Image, doubt: Array) -> Equations:
        """Return what says where a frame's detail lies off a reference, errors having a variance (KNOTS, KNOTS)."""
        return Equations(tuple(np.gradient(reference)), doubt, self.gather)

    def misfit(self, error: Image, noise: Array) -> Array:
        """Return the variance of an error around each knot, in those of the noise left in `detail`; at least 1."""
        return np.maximum(self.gather(np.square(error)) / self.count / (noise * self.passed), 1.0)

    def gather(self, image: Image) -> Array:
        """Sum an image at the knots, weighted by how near they are."""
        rows, columns = self._axes
        return columns.gather(rows.gather(image).T).T.astype(np.float64)

    def spread(self, knots: Array) -> Image:
        """Interpolate between knots."""
        rows, columns = self._axes
        return rows.spread(columns.spread(knots.T.astype(np.float32)).T)


class Equations:
    """The equations of Lucas and Kanade at the knots: a symmetric 2 x 2 matrix for each, and their right-hand side.

    Parameters
    ----------
    slopes
        Of the reference, along rows and columns.
    doubt
        (KNOTS, KNOTS) variance of an error.
    gather
        Sums an image at the knots.
    """

    def __init__(self, slopes: Sequence[Image], doubt: Array, gather: Callable[[Image], Array]) -> None:
        self._slopes, self._doubt, self._gather = slopes, doubt, gather
        rows, columns = slopes
        self.own = gather(rows * rows) / doubt, gather(columns * columns) / doubt
        self.crossed = gather(rows * columns) / doubt

    def right(self, error: Image) -> Array:
        """Return the right-hand side (2, KNOTS, KNOTS)."""
        return np.stack([self._gather(slope * error) / self._doubt for slope in self._slopes])

    def product(self, field: Array) -> Array:
        """Multiply a field by the matrices."""
        return joined(*self.own, self.crossed, field)

    def common(self, error: Image, off: Array, variance: float) -> Array:
        """Return the displacement (2,) of the whole that explains what is left at `off`: one for all knots.

        Beforehand it is believed to have a variance, in bins^2, along either axis.
        """
        (yy, xx), yx = (float(a.sum()) for a in self.own), float(self.crossed.sum())
        matrix = np.array([[yy, yx], [yx, xx]])
        right = self.right(error).sum(axis=(1, 2)) + matrix @ off
        return np.asarray(np.linalg.solve(matrix + np.eye(2) / variance, right), np.float64)


class _Axis:
    """Linear interpolation between the knots along the first axis of an image, and its adjoint, without products."""

    def __init__(self, length: int, at: Array) -> None:
        steps = np.clip(at * KNOTS - 0.5, 0, KNOTS - 1)
        self._left = np.minimum(steps.astype(np.intp), KNOTS - 2)
        self._far = (steps - self._left).astype(np.float32)[:, None]
        self._near = 1 - self._far
        self._starts = np.flatnonzero(np.diff(self._left, prepend=-1))
        self._used = self._left[self._starts]
        assert len(self._left) == length

    def spread(self, knots: Image) -> Image:
        """Return an image (n, m) from knots (KNOTS, m)."""
        return np.asarray(knots[self._left] * self._near + knots[self._left + 1] * self._far, np.float32)

    def gather(self, image: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
        """Return the sums (KNOTS, m) of an image (n, m)."""
        sums = np.zeros((KNOTS, image.shape[1]), image.dtype)
        far = np.add.reduceat(image * self._far, self._starts, axis=0)
        sums[self._used] = np.add.reduceat(image, self._starts, axis=0) - far
        sums[self._used + 1] += far
        return sums


def joined(yy: Array, xx: Array, yx: Array, field: Array) -> Array:
    """Multiply by a symmetric 2 x 2 matrix at each knot."""
    return np.stack([yy * field[0] + yx * field[1], yx * field[0] + xx * field[1]])


_SHORTEST = 4  # edge after binning; less shows no motion


def binning(shape: tuple[int, int], largest: int = LARGEST) -> tuple[int, tuple[int, int]]:
    """Return how many pixels of a frame (H, W) to join along each axis before looking for motion, and the size then.

    No edge is longer than `largest` then, unless the other one would be shorter than four.
    """
    b = max(1, min(-(-max(shape) // largest), min(shape) // _SHORTEST))
    return b, (shape[0] // b, shape[1] // b)


def binned(
    frame: npt.NDArray[Any], b: int, size: tuple[int, int], unit: Intensity
) -> npt.NDArray[np.float32]:
    """Return the normalised frame, the mean of every `b` x `b` pixels."""
    rows, columns = size
    image = frame[: rows * b, : columns * b]
    if b > 1:
        # Rows first, whole ones: quick. What is left is small.
        sums = np.add.reduce(image.reshape(rows, b, columns * b), axis=1, dtype=np.float32)
        image = np.add.reduce([sums[:, i::b] for i in range(b)]) / np.float32(b * b)
    return (np.asarray(image, np.float32) - np.float32(unit.offset)) / np.float32(unit.scale)
