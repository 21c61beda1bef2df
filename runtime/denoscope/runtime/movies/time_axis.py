"""Check of arrays without names of axes: which one is time, from the picture that all frames show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput

from .lazy import Reader

__all__ = ["check_time_is_first"]

_FRAMES = 32  # fewer are not looked at
_FEWEST = 16  # rows and columns without missing pixels
_PAIRS = (32, 96)  # neighbouring frames that are read: at first, and where these do not decide
_PIXELS = 160
_CERTAIN = 4.5  # standard errors
_LIKE = 0.5
_CLEARLY = 2.0
_FAR_MORE = 4.0
_LITTLE = 0.3
_MOST_ASPECT = 16
_ASPECT_ASKED = 4
_NO_MEAN = 1e-4
_READ_FOR_MEANS = 2**29  # bytes

Picture = npt.NDArray[np.float64]


def check_time_is_first(name: str, reader: Reader, *, pages: bool = False) -> None:
    """Refuse an array whose time is the last axis (or the first of MATLAB's files), or may be.

    Time is the axis along which one picture stays the same. Where axes have names nothing is asked, nor where frames
    are pages of their own and no picture tells, nor of frames below 32 pixels or more than four times as long as wide.

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
    unclear = []
    for time in (2, 1) if matlab else (2,):
        seen = reader if time == 2 else _Turned(reader)
        if not _may_be_last(seen.shape, _MOST_ASPECT):
            continue
        found = _time_axis(seen)
        if found == "last":
            raise _refused(name, reader, time, sure=True, matlab=matlab)
        if found == "unclear" and min(seen.shape) >= _FRAMES and _may_be_last(seen.shape, _ASPECT_ASKED):
            unclear.append(time)
    if unclear and not pages:
        length, _, width = reader.shape
        other = 1 if 1 in unclear and length == width else unclear[0]
        raise _refused(name, reader, other, sure=False, matlab=matlab)


def _may_be_last(shape: tuple[int, ...], aspect: int) -> bool:
    """Say whether the first two axes could be the sides of frames, and the last one time."""
    length, height, width = shape
    return (
        min(length, height) >= _FEWEST
        and max(length, height) >= _FRAMES
        and width >= _FEWEST
        and max(length, height) <= aspect * min(length, height)
    )


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


def _time_axis(reader: Reader) -> str:
    """Return which axis is time: ``first``, ``last``, or ``unclear`` where no picture tells."""
    if reader.dtype.kind == "f" and (found := _without_mean(reader)) is not None:
        return found
    found = "unclear"
    for pairs in _PAIRS:
        sample = _sample(reader, pairs)
        if min(sample.shape) < _FEWEST:  # missing pixels
            break
        if np.ptp(sample) == 0:  # nothing that could be read wrong
            return "first"
        found = _told_by_pictures(sample)
        if found != "unclear" or 2 * pairs >= reader.shape[0]:
            break
    return found


def _sample(reader: Reader, pairs: int) -> Picture:
    """Return the middle of pairs of neighbouring frames from the whole movie, without pixels that are missing."""
    length, height, width = reader.shape
    rows = slice(max(height - _PIXELS, 0) // 2, (height + _PIXELS + 1) // 2 if height > _PIXELS else height)
    columns = slice(max(width - _PIXELS, 0) // 2, (width + _PIXELS + 1) // 2 if width > _PIXELS else width)
    first = np.unique(np.linspace(0, length // 2 - 1, pairs).astype(np.intp)) * 2
    sample = np.concatenate([reader.read(int(t), int(t) + 2, rows, columns) for t in first])
    return _without_missing(sample).astype(np.float64)


def _without_missing(sample: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a sample without the pairs of frames, rows and columns that lack most pixels, until none is missing."""
    missing = ~np.isfinite(sample)
    if not missing.any():
        return sample
    there = (~missing.all(axis=(1, 2))).reshape(-1, 2).all(axis=1).repeat(2)
    count = missing[there].sum(axis=0)
    rows, columns = (np.arange(n) for n in count.shape)
    while (lacking := count[np.ix_(rows, columns)]).any():
        by_row, by_column = lacking.mean(axis=1), lacking.mean(axis=0)
        if by_row.max() > by_column.max():
            rows = np.delete(rows, by_row.argmax())
        else:
            columns = np.delete(columns, by_column.argmax())
    kept: npt.NDArray[Any] = sample[there][:, rows][:, :, columns]
    return kept


def _without_mean(reader: Reader) -> str | None:
    """Return the axis along which a mean was taken off each pixel, as of movies of changes, or None.

    Along the last axis it may be the mean of each row that was taken off, against noise of lines: ``unclear``.
    """
    length, height, width = reader.shape
    for axis, found in ((0, "first"), (2, "unclear")):
        rows = slice(height // 2 - 4, height // 2 + 4)
        columns = slice(width // 2 - 4, width // 2 + 4) if axis == 0 else slice(0, width)
        start, stop = (0, length) if axis == 0 else (length // 2 - 4, length // 2 + 4)
        piece = [max(reader.piece[0], 1), max(reader.piece[1], 8), max(reader.piece[2], 8)]
        decoded = (stop - start + piece[0]) * piece[1] * (piece[2] if axis == 0 else width + piece[2])
        if decoded * reader.dtype.itemsize > _READ_FOR_MEANS:
            continue
        block = reader.read(start, stop, rows, columns).astype(np.float64)
        if not np.isfinite(block).all() or (spread := float(block.std())) == 0:
            continue
        if np.abs(block.mean(axis=axis)).max() < _NO_MEAN * spread:
            return found
    return None


@dataclass(frozen=True)
class _Agreement:
    """How far two pictures of different frames show the same.

    Attributes
    ----------
    smooth, white
        Covariance of neighbouring pixels, the smaller one of both directions, and of the same pixel.
    error
        Standard error of either where the pictures are noise.
    alike
        Correlation of neighbouring pixels.
    """

    smooth: float
    white: float
    error: float
    alike: float

    @property
    def certain(self) -> bool:
        return self.smooth > _CERTAIN * self.error or self.alike > _LIKE


def _told_by_pictures(sample: Picture) -> str:
    """Say along which axis one picture stays; see `_time_axis`.

    Light that varies, noise of lines and motion also look like a picture along the wrong axis: the first has the form
    of a product and is taken out, the second has no neighbours that are alike, the third stays less.
    """
    third = max(sample.shape[0] // 6, 1) * 2
    first = _agreement(sample[:third].mean(axis=0), sample[-third:].mean(axis=0))
    third = sample.shape[2] // 3
    last = _agreement(sample[:, :, :third].mean(axis=2), sample[:, :, -third:].mean(axis=2), pairs=True)
    if first.certain and first.smooth > _CLEARLY * last.smooth:
        return "first"
    if last.certain and last.smooth > _CLEARLY * first.smooth:
        moving = _in_neighbouring_frames(sample) / last.smooth
        return "last" if moving < _LITTLE else "unclear"
    if last.certain:
        return "unclear"
    # What moves shows no picture from end to end.
    odd = np.arange(sample.shape[0]) // 2 % 2 == 1
    halves = _agreement(sample[odd].mean(axis=0), sample[~odd].mean(axis=0))
    across = _agreement(sample[:, :, ::2].mean(axis=2), sample[:, :, 1::2].mean(axis=2), pairs=True)
    moves = halves.certain and halves.smooth > _FAR_MORE * across.smooth
    # Pixels that differ from each other, as those of a camera.
    fixed = first.white > _CERTAIN * first.error and last.white < _CERTAIN * last.error
    return "first" if moves or fixed else "unclear"


def _in_neighbouring_frames(sample: Picture) -> float:
    """Return how far neighbouring frames show the same, in the units of `_Agreement.smooth`; 0 if that may be noise.

    Where a layered scene moves up and down, the rows of all columns change alike, which looks like a picture that stays
    along the last axis. Neighbouring frames of such a scene are alike; what stays along the last axis is not in them.
    """
    pairs = [_agreement(*sample[start : start + 2]) for start in range(0, sample.shape[0] - 1, 2)]
    smooth = float(np.mean([pair.smooth for pair in pairs]))
    error = float(np.mean([pair.error for pair in pairs])) / len(pairs) ** 0.5
    return smooth if smooth > _CERTAIN * error else 0.0


def _agreement(one: Picture, other: Picture, *, pairs: bool = False) -> _Agreement:
    """Compare two pictures without what rows and columns have in common; with `pairs`, rows are neighbours in twos."""
    one, other = _without_products(one), _without_products(other)
    above, below = slice(0, None, 2 if pairs else 1), slice(1, None, 2 if pairs else 1)
    rows = _both_ways(one, other, above, below)
    columns = _both_ways(one.T, other.T, slice(0, None), slice(1, None))
    scale = float(np.sqrt((one**2).mean() * (other**2).mean()))
    smooth, error = min(rows, columns), scale / np.sqrt(one.size / (2 if pairs else 1))
    return _Agreement(smooth, float((one * other).mean()), float(error), smooth / scale if scale > 0 else 0.0)


def _both_ways(one: Picture, other: Picture, above: slice, below: slice) -> float:
    """Return the covariance of rows of one picture with the next rows of the other, in both directions."""
    count = min(one[above].shape[0], one[below].shape[0])
    up = (one[above][:count] * other[below][:count]).mean()
    down = (one[below][:count] * other[above][:count]).mean()
    return float(up + down) / 2


def _without_products(picture: Picture) -> Picture:
    """Return a picture without the means of its rows and columns and without their product.

    The product is the interaction of Tukey (1949), Biometrics 5: light that changes over an uneven field.
    """
    rows = picture.mean(axis=1, keepdims=True) - picture.mean()
    columns = picture.mean(axis=0, keepdims=True) - picture.mean()
    rest: Picture = picture - picture.mean() - rows - columns
    product = rows * columns
    size = float((product**2).sum())
    if size > 0:
        rest = rest - product * (float((rest * product).sum()) / size)
    return rest
