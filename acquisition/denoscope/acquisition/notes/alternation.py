"""Movies that alternate between several pictures, such as two channels in one file that does not say so."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .middle import middle_of

__all__ = ["alternation_note"]

_FRAMES, _EDGE = 32, 192  # that are looked at, in the middle of the movie and of the picture
_MOST = 4  # pictures that take turns
_TURNS = 6  # of each that there are at least
_FEWEST_PIXELS = 512
_ALIKE = 0.3  # correlation of what the two halves of the frames show; of noise alone it is at most 0.1
_IN_MOST = 0.5  # of what all turns have in common on average, that the median one has
_MORE = 1.2
_ORDINAL = {2: "every second frame", 3: "every third frame", 4: "every fourth frame"}


def alternation_note(frames: Any) -> str | None:
    """Return a sentence where frames alternate between several pictures, else None.

    Parameters
    ----------
    frames
        (T, H, W); a part of 32 frames is read.
    """
    count = min(frames.shape[0], _FRAMES)
    if not count:
        return None
    part = middle_of(frames, count, _EDGE, _EDGE)
    shown = _without_single_pixels(part.astype(np.float64)).reshape(count, -1)
    shown = shown[:, np.isfinite(shown).all(axis=0)]
    if shown.shape[1] < _FEWEST_PIXELS:
        return None
    found = {n: _repeated(shown, n) for n in range(2, min(_MOST, count // _TURNS) + 1)}
    # Four pictures differ by pairs too, but by more than that.
    pictures = next(
        (n for n, power in found.items() if power and found.get(2 * n, 0.0) < _MORE * power), None
    )
    if pictures is None:
        return None
    turns = ", then ".join(map(str, range(pictures)))
    return (
        f"{_ORDINAL[pictures]} shows the same picture, and those between another: if {pictures} channels or planes "
        f"take turns in this movie, take each alone: `interleaved` {pictures} with `channel` {turns}"
    )


def _without_single_pixels(frames: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return medians of three pixels along rows, then columns: hot ones, which light does not change, are gone."""
    rows = _median(frames[:, :, :-2], frames[:, :, 1:-1], frames[:, :, 2:])
    return _median(rows[:, :-2], rows[:, 1:-1], rows[:, 2:])


def _median(*three: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    one, other, last = three
    low, high = np.minimum(one, other), np.maximum(one, other)
    return np.asarray(np.maximum(low, np.minimum(high, last)))


def _repeated(shown: npt.NDArray[np.float64], pictures: int) -> float:
    """Return by how much frames (T, pixels) differ from those around them in the same way each time, squared."""
    # Without what changes slowly: the mean of as many frames as there are pictures, around each.
    weights = np.ones(pictures) if pictures % 2 else np.array([0.5, *[1.0] * (pictures - 1), 0.5])
    weights /= pictures
    reach = len(weights) // 2
    middle = shown[reach : len(shown) - reach]
    slow = sum(w * shown[i : i + len(middle)] for i, w in enumerate(weights))
    different = middle - slow
    # Without light that changes as a whole: a share of the mean picture, and an offset.
    picture = shown.mean(axis=0) - shown.mean()
    power = float(picture @ picture)
    different -= different.mean(axis=1, keepdims=True)
    if power > 0:
        different -= np.outer(different @ picture / power, picture)
    half = len(different) // (2 * pictures) * pictures
    if half < 2 * pictures:
        return 0.0
    turns = different[: 2 * half].reshape(-1, pictures * different.shape[1])
    begun, ended = turns[: len(turns) // 2], turns[len(turns) // 2 :]
    first, second = begun.mean(axis=0), ended.mean(axis=0)
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    alike = float((first * second).sum())
    # Most of the turns show it, not some frames that by chance are so far apart.
    most = float(np.median(np.concatenate([begun @ second, ended @ first])))
    return alike / pictures if alike > _ALIKE * scale and most > _IN_MOST * alike else 0.0
