"""Check of arrays without names of axes: frames that lie along the first two axes, with time as the last."""

from __future__ import annotations

from collections.abc import Callable
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
_MOST_ASPECT = 16

Picture = npt.NDArray[np.float64]


def check_time_is_first(name: str, reader: Reader, *, pages: bool = False) -> None:
    """Refuse an array whose axes may be read in two ways, with time as the last or, in MATLAB's files, as the first.

    Two axes of one length look like rows and columns. Where they are not those that are taken for them, a picture must
    show that they are not: without one the question goes to the user. Other lengths are taken as (T, H, W) unless
    pictures say otherwise. Where axes have names, and where each frame is a page, nothing is asked.

    Parameters
    ----------
    name
        Of the movie, for the error.
    reader
        What was opened, (T, H, W).
    pages
        Whether each frame is a page of a file.

    Raises
    ------
    InvalidInput
        If time is, or may be, another axis.
    """
    if getattr(reader, "named", False):
        return
    matlab = getattr(reader, "in_matlabs_order", False)
    if _is_time_last(reader):
        raise _refused(name, reader, 2, sure=True, matlab=matlab)
    if matlab and _is_time_last(_Turned(reader)):
        raise _refused(name, reader, 1, sure=True, matlab=matlab)
    length, height, width = reader.shape
    if (
        pages
        or height == width
        or min(reader.shape) < _FEWEST
        or length < _FRAMES
        or max(height, width) < _FRAMES
    ):
        return
    other = 2 if length == height else 1 if length == width and matlab else 0
    if other and not _is_time_first(reader):
        raise _refused(name, reader, other, sure=False, matlab=matlab)


def _refused(name: str, reader: Reader, time: int, *, sure: bool, matlab: bool) -> InvalidInput:
    """Return the refusal of an array whose axis `time`, as it is read, may be time."""
    seen = (1, 2, 0) if matlab else (0, 1, 2)  # axes as they are read, in the order that the user knows
    sides = iter("YX")
    order = "".join("T" if axis == time else next(sides) for axis in seen)
    usual = "YXT" if matlab else "TYX"
    shape = tuple(reader.shape[axis] for axis in seen)
    where = {"T": "first", "Y": "second", "X": "last"}["TYX"[order.index("T")]]
    if matlab or where != "last":
        remedy = f"give `axes` {order}"
    else:
        remedy = f"give `axes` {order}, or save it as (T, H, W), in Python with numpy.moveaxis(movie, -1, 0)"
    if sure:
        among = "first" if where == "last" else "last"
        return InvalidInput(
            f"{name} has the shape {shape}, and its frames lie along the {among} two axes, with time as the {where}: "
            f"{remedy}."
        )
    return InvalidInput(
        f"{name} has the shape {shape} and does not say which axis is time: give `axes` {order} if it is the {where}, "
        f"or `axes` {usual}."
    )


class _Turned:
    """A reader whose rows are columns."""

    note = ""

    def __init__(self, reader: Reader) -> None:
        length, height, width = reader.shape
        self.shape, self.dtype = (length, width, height), reader.dtype
        self.piece = (reader.piece[0], reader.piece[2], reader.piece[1])
        self._reader = reader

    def read(self, start: int, stop: int, rows: slice, columns: slice) -> npt.NDArray[Any]:
        return self._reader.read(start, stop, columns, rows).swapaxes(1, 2)


def _is_time_last(reader: Reader) -> bool:
    """Say whether halves of an array agree on a picture along its first two axes, and on far less in its frames.

    Only arrays are looked at whose first two axes could be rows and columns: alike in length, and the third another
    one than the second. Where they differ, neighbours along the first axis must be alike too, as rows of a picture are:
    in a movie without a still background, noise of lines is alike within a row and new in every frame.
    """
    length, height, width = reader.shape
    if (
        height == width
        or min(length, height) < _FRAMES
        or max(length, height) > _MOST_ASPECT * min(length, height)
    ):
        return False
    sample, sampled = _sample(reader)
    if min(sample.shape) < _FEWEST:  # what moves with missing pixels is no picture
        return False
    across, frame = _agreements(sample)
    last = across[0] > _SURE and abs(frame[1]) < _LITTLE * across[1] and _is_picture(sample)
    if last and length != height:
        block = np.nan_to_num(sampled(np.arange(_FRAMES) + (length - _FRAMES) // 2).astype(np.float64)).mean(
            axis=2
        )
        last = _agreement(block[:-1], block[1:])[0] > _ALIKE
    return last


def _is_picture(sample: Picture) -> bool:
    """Say whether both ends of the last axis show one picture.

    Halves that lie between each other agree in any movie that is smooth along the last axis, whatever they show.
    """
    third = sample.shape[2] // 3
    ends = sample[:, :, :third].mean(axis=2), sample[:, :, -third:].mean(axis=2)
    return _agreement(*ends)[0] > _ALIKE


def _is_time_first(reader: Reader) -> bool:
    """Say whether halves of the frames agree on a picture, and on far less along the first two axes."""
    sample, _ = _sample(reader)
    if min(sample.shape) < 2:
        return False
    across, frame = _agreements(sample)
    return frame[0] > _SURE and abs(across[1]) < _LITTLE * frame[1]


def _sample(
    reader: Reader,
) -> tuple[npt.NDArray[np.float64], Callable[[npt.NDArray[np.intp]], npt.NDArray[Any]]]:
    """Return pixels of frames from the whole movie, without those that are missing, and what reads more of them."""
    length, height, width = reader.shape
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
    return sample, sampled


def _agreements(sample: Picture) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return how halves of the last axis agree on a picture along the first two, and halves of the frames on theirs."""
    # Light that changes as a whole is taken out along the last axis, where time may be.
    trace = sample.mean(axis=(0, 1))
    sample = sample * (trace.mean() / np.where(np.abs(trace) > _DARK * np.abs(trace).max(), trace, np.inf))
    across = _agreement(sample[:, :, ::2].mean(axis=2), sample[:, :, 1::2].mean(axis=2))
    frame = _agreement(sample[::2].mean(axis=0), sample[1::2].mean(axis=0))
    return across, frame


def _agreement(first: Picture, second: Picture) -> tuple[float, float]:
    """Return correlation and covariance of two pictures of the same, without the means of rows and columns."""
    one, other = (p - p.mean(axis=0) - p.mean(axis=1, keepdims=True) + p.mean() for p in (first, second))
    scale, shared = float(np.sqrt((one**2).mean() * (other**2).mean())), float((one * other).mean())
    return (shared / scale if scale > 0 else 0.0), shared
