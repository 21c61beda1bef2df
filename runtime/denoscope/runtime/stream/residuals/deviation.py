"""Factor of the predicted deviations while motion is tracked, measured from the movie itself.

The network predicts one deviation a pixel from one window. Where the parts of a scene move, it does not know how well
the frames were put onto each other: its deviations then have the right proportions, and are too small as a whole. The
measured frame tells: what denoising took away should be noise, and noise does not know where the edges of the picture
are. In blocks of the frame it is compared with the picture's gradient, which it resembles where the picture lies beside
the scene. That resemblance, over the predicted variance, gives the factor; see decisions 76 and 109.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.noise.noise import Intensity

__all__ = ["DeviationFactor", "Rows", "rows_of"]

Frame = npt.NDArray[Any]
Rows = tuple[slice, Frame]
"""Rows of a frame, and their measured counts (h, W)."""

_BLOCK = 32  # pixels along an edge of a block
_PIXELS = 1 << 14  # looked at in each frame, in whole rows of blocks: the next ones in the next frame
_FRAMES = 500  # over which is averaged
_SLOPE = 0.13  # logarithm of the factor: this times arcsinh(evidence / _SCALE)
_SCALE = 10.0
_LARGEST = 1.6
_LEAST_LEFT = 1e-6  # predicted variance, in variances of the noise
_PRIOR = 8  # frames that speak for 1
_FLAT = 1e-6  # squared gradient of a block without structure, in variances of the noise


def rows_of(number: int, frame: Frame) -> Rows | None:
    """Return a copy of the rows of a frame that are looked at; None for a frame smaller than a block."""
    height, width = frame.shape
    there = height // _BLOCK
    if not there or width < _BLOCK:
        return None
    taken = max(1, min(there, _PIXELS // (_BLOCK * width)))
    first = min(number * taken % there, there - taken) * _BLOCK
    rows = slice(first, first + taken * _BLOCK)
    return rows, frame[rows].copy()


class DeviationFactor:
    """Learn by how much the predicted deviations of one scene are too small.

    It is 1 where too little was seen, or where nothing speaks for more.

    Attributes
    ----------
    factor
        To multiply the predicted deviations with, 1 to 1.6.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget the scene."""
        self.factor = 1.0
        self._frames = 0
        self._alike = self._scatter = 0.0

    def learn(self, rows: Rows, denoised: Frame, std: npt.NDArray[np.float32], intensity: Intensity) -> None:
        """Compare rows of a measured frame with the denoised frame (H, W) and its predicted deviation, in counts."""
        where, measured = rows
        picture = denoised[where].astype(np.float32)
        light = (picture - np.float32(intensity.offset)) * np.float32(intensity.noise_slope / intensity.scale)
        light += np.float32(1)
        precision = np.float32(1 / intensity.scale) / np.sqrt(
            np.maximum(light, np.float32(intensity.noise_floor))
        )
        residual = (measured.astype(np.float32) - picture) * precision
        residual -= residual.mean(axis=1, keepdims=True)  # noise that a row shares
        found = [_likeness(residual, _gradient(picture, axis) * precision) for axis in (0, 1)]
        likeness, blocks = (sum(pair) for pair in zip(*found, strict=True))
        left = float(np.mean(np.square(std[where] * precision)))
        if not blocks or not np.isfinite(likeness) or not left > _LEAST_LEFT:
            return
        self._frames = min(self._frames + 1, _FRAMES)
        share = 1 / self._frames
        # Of noise alone the likeness is 1 with the variance 1 in each block, as the mean of both directions.
        self._alike += ((likeness / blocks - 1) / left - self._alike) * share
        self._scatter += (2 / (blocks * left**2) - self._scatter) * share
        doubt = np.sqrt(self._scatter / self._frames)
        evidence = max(self._alike - doubt, 0.0)
        found = _SLOPE * np.arcsinh(evidence / np.hypot(_SCALE, doubt))
        self.factor = min(float(np.exp(found * self._frames / (self._frames + _PRIOR))), _LARGEST)


def _gradient(picture: npt.NDArray[np.float32], axis: int) -> npt.NDArray[np.float32]:
    """Return the central difference along an axis, zero at its ends."""
    made = np.zeros_like(picture)
    if axis == 0:
        np.subtract(picture[2:], picture[:-2], out=made[1:-1])
    else:
        np.subtract(picture[:, 2:], picture[:, :-2], out=made[:, 1:-1])
    made *= np.float32(0.5)
    return made


def _likeness(residual: npt.NDArray[np.float32], gradient: npt.NDArray[np.float32]) -> tuple[float, int]:
    """Return the sum over blocks of (sum of residual * gradient)^2 / sum of gradient^2, and how many have structure."""
    across, along_it = _blocks(gradient), _blocks(residual)
    steep = np.einsum("aibj,aibj->ab", across, across).astype(np.float64)
    along = np.einsum("aibj,aibj->ab", across, along_it).astype(np.float64)
    there = steep > _FLAT * _BLOCK * _BLOCK
    return float(np.sum(along[there] ** 2 / steep[there])), int(there.sum())


def _blocks(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a view (rows of blocks, rows, columns of blocks, columns) of whole blocks."""
    height, width = values.shape[0] // _BLOCK, values.shape[1] // _BLOCK
    return values[: height * _BLOCK, : width * _BLOCK].reshape(height, _BLOCK, width, _BLOCK)
