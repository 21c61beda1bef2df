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
_FEWEST_PIXELS = 256
_ALIKE = 0.3  # correlation of what the two halves of the frames show; of noise alone it is at most 0.1
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
    shown = part.reshape(count, -1).astype(np.float64)
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
    first, second = (
        different[at : at + half].reshape(-1, pictures, different.shape[1]).mean(axis=0) for at in (0, half)
    )
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    alike = float((first * second).sum())
    return alike / pictures if alike > _ALIKE * scale else 0.0
