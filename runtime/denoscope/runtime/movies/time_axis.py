"""Check of arrays without names of axes: frames that lie along the first two axes, with time as the last."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput

from .lazy import Reader

__all__ = ["check_time_is_first"]

_FRAMES = 32
_PIXELS = 128
_FEWEST = 16  # rows and columns without missing pixels
_SURE, _LITTLE = 0.5, 0.25
_DARK = 0.02
_ALIKE = 0.3
_MOST_ASPECT = 4

Picture = npt.NDArray[np.float64]


def check_time_is_first(name: str, reader: Reader) -> None:
    """Refuse an array (H, W, T): halves of it agree on a picture there, and on far less in what should be frames.

    Only arrays are looked at whose first two axes could be rows and columns: alike in length, and the third another
    one than the second. Where they differ, neighbours along the first axis must be alike too, as rows of a picture are:
    in a movie without a still background, noise of lines is alike within a row and new in every frame.

    Raises
    ------
    InvalidInput
        If time is the last axis.
    """
    length, height, width = reader.shape
    if (
        height == width
        or min(length, height) < _FRAMES
        or max(length, height) > _MOST_ASPECT * min(length, height)
    ):
        return
    middle = (
        slice(0, height)
        if length == height
        else slice(max(height - _PIXELS, 0) // 2, (height + _PIXELS) // 2)
    )
    rows, columns = slice(middle.start, min(middle.stop, height)), slice(0, width)
    step = max((rows.stop - rows.start) // _PIXELS, 1), max(width // _PIXELS, 1)

    def sampled(taken: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
        frames = [reader.read(int(t), int(t) + 1, rows, columns)[0, :: step[0], :: step[1]] for t in taken]
        return np.stack(frames)

    sample = sampled(np.linspace(0, length - 1, _FRAMES).astype(np.intp))
    finite = np.isfinite(sample)
    sample = sample[:, finite.all(axis=(0, 2))][:, :, finite.all(axis=(0, 1))].astype(np.float64)
    if min(sample.shape) < _FEWEST:  # what moves with missing pixels is no picture
        return
    # Light that changes as a whole is taken out along the last axis, where time may be.
    trace = sample.mean(axis=(0, 1))
    sample = sample * (trace.mean() / np.where(np.abs(trace) > _DARK * np.abs(trace).max(), trace, np.inf))
    across = _agreement(sample[:, :, ::2].mean(axis=2), sample[:, :, 1::2].mean(axis=2))
    frame = _agreement(sample[::2].mean(axis=0), sample[1::2].mean(axis=0))
    last = across[0] > _SURE and abs(frame[1]) < _LITTLE * across[1]
    if last and length != height:
        block = np.nan_to_num(sampled(np.arange(_FRAMES) + (length - _FRAMES) // 2).astype(np.float64)).mean(
            axis=2
        )
        last = _agreement(block[:-1], block[1:])[0] > _ALIKE
    if last:
        raise InvalidInput(
            f"{name} has the shape {reader.shape}, and its frames lie along the first two axes, with time as the last: "
            "save it as (T, H, W), in Python with numpy.moveaxis(movie, -1, 0)."
        )


def _agreement(first: Picture, second: Picture) -> tuple[float, float]:
    """Return correlation and covariance of two pictures of the same, without the means of rows and columns."""
    one, other = (p - p.mean(axis=0) - p.mean(axis=1, keepdims=True) + p.mean() for p in (first, second))
    scale, shared = float(np.sqrt((one**2).mean() * (other**2).mean())), float((one * other).mean())
    return (shared / scale if scale > 0 else 0.0), shared
