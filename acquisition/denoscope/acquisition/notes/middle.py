"""The middle of a movie, that notes about it are made from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["middle_of"]


def middle_of(frames: Any, length: int, height: int, width: int) -> npt.NDArray[Any]:
    """Return frames (T, H, W) from the middle of a movie and of the picture, of at most the size asked for.

    They are read one by one, so that large frames are not in memory together.
    """
    begin, top, left = (
        max(whole - part, 0) // 2 for whole, part in zip(frames.shape, (length, height, width), strict=True)
    )
    numbers = range(begin, min(begin + length, frames.shape[0]))
    return np.stack([np.asarray(frames[t])[top : top + height, left : left + width] for t in numbers])
