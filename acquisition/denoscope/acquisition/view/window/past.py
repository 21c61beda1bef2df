"""Frames of the past, read from a recording's files while it goes on; the recording is not asked."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.view.board.board import Board, Picture, Place, Slot

__all__ = ["PastFrames"]

_MOST_BYTES = 1 << 23  # of a frame that is shown, as of a board
_MOST_STEPS = 4096  # pages that are looked at for one of the stream that is shown


class PastFrames:
    """Read frames that the recording has said to be complete on the disk.

    Parameters
    ----------
    places
        Of the session's `Board`, which may be closed before.
    folder
        Run folder.
    """

    def __init__(self, places: npt.NDArray[np.uint64], folder: Path) -> None:
        self._places = places
        self._folder = folder

    @property
    def longest(self) -> int:
        """Frames that can be gone back at most."""
        return int(self._places.shape[1])

    def find(self, page: int, stream: int) -> int | None:
        """Return the page itself, or the last one before it, that shows a stream."""
        for each in range(page, max(-1, page - _MOST_STEPS), -1):
            place = Board.place_of(self._places, Slot.RAW, each)
            if place is not None and place.stream == stream:
                return each
        return None

    def newest_denoised(self, page: int, stream: int) -> int | None:
        """Return the last page up to one that was denoised, in a stream."""
        for each in range(page, max(-1, page - _MOST_STEPS), -1):
            place = Board.place_of(self._places, Slot.DENOISED, each)
            if place is not None and place.stream == stream:
                return each
        return None

    def read(self, slot: Slot, page: int) -> Picture | None:
        """Return the raw or the denoised frame of a page; None where there is none or its file is gone."""
        place = Board.place_of(self._places, slot, page)
        if place is None:
            return None
        pixels = _pixels(self._folder / place.file, place)
        if pixels is None:
            return None
        step = max(1, math.ceil(math.sqrt(pixels.nbytes / _MOST_BYTES)))
        return Picture(np.ascontiguousarray(pixels[::step, ::step]), place.number, step, page)


def _pixels(path: Path, place: Place) -> npt.NDArray[Any] | None:
    count = place.shape[0] * place.shape[1]
    try:
        with path.open("rb", buffering=0) as file:  # never kept open: the user may move the folder
            file.seek(place.at)
            found = np.fromfile(file, place.dtype.newbyteorder("<"), count)
    except OSError:
        return None
    return found.astype(place.dtype).reshape(place.shape) if len(found) == count else None
