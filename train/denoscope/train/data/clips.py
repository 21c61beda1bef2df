"""Training on movies larger than memory: a few clips at a time, replaced one by one as steps go."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime import LazyMovie

__all__ = ["Clip", "ClipPool"]

_CENTRES = 240  # frames of a clip that windows are drawn around
_MARGIN = 64  # pixels by which the region of a clip is wider than a crop
_POOL_BYTES = 256 * 2**20
_MOST_CLIPS = 12
_FIRST_CLIPS = 2
_LEAST_INTERVAL = 25  # steps from one new clip to the next
_BYTES_A_STEP = 4_000_000  # read and decoded at most, averaged over the steps
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Clip:
    """A part of a movie in memory.

    Attributes
    ----------
    frames
        (t, h, w) of the clip.
    first
        Number in the movie of the clip's first frame.
    centres
        Numbers in the movie of the frames that windows are drawn around; their past and their
        look-ahead are in the clip as far as the movie has them.
    corner
        Row and column in the movie of the clip's upper left pixel.
    """

    frames: npt.NDArray[Any]
    first: int
    centres: range
    corner: tuple[int, int]


class ClipPool:
    """The clips of one movie that are in memory at a step, decided by the seed and the step alone.

    Every `interval` steps a clip is added and, once the pool is full, the oldest leaves. The interval
    grows with what reading a clip costs, so that the time per step depends neither on the movie's length
    nor, by much, on its format. A training that is resumed reads the same clips again.

    Parameters
    ----------
    movie
        On disk.
    crop
        Edge of the windows in pixels; at most the movie's.
    past, ahead
        Frames before and after a centre that a window may use.
    seed
        Decides which clips.
    first
        Number of the first frame that may be a centre.
    """

    def __init__(
        self, movie: LazyMovie, *, crop: int, past: int, ahead: int, seed: int, first: int = 0
    ) -> None:
        self._movie, self._past, self._ahead, self._seed = movie, past, ahead, seed
        self._first = first
        length, height, width = movie.shape
        deep, tall, wide = movie.piece
        frames = min(length, past + _CENTRES + ahead)
        itemsize = movie.dtype.itemsize
        edge = crop + _MARGIN
        if tall * wide > edge * edge:  # every read decodes more than that anyway
            edge = max(edge, min(math.isqrt(_POOL_BYTES // (4 * frames * itemsize)), max(tall, wide)))
        self.region = min(edge, height), min(edge, width)
        clip_bytes = frames * self.region[0] * self.region[1] * itemsize
        self.size = max(_FIRST_CLIPS, min(_MOST_CLIPS, _POOL_BYTES // clip_bytes))
        # Uncompressed frames are read in whole rows; chunks are decoded whole.
        rows = min(height, self.region[0] + tall - 1)
        columns = width if wide == 1 else min(width, self.region[1] + wide - 1)
        cost = (frames + deep - 1) * rows * columns * itemsize
        self.interval = max(_LEAST_INTERVAL, -(-cost // _BYTES_A_STEP))
        self._clips: dict[int, Clip] = {}

    def numbers(self, step: int | None) -> range:
        """Return which clips are in the pool at `step`; the first that fill it, if None."""
        stop = self.size if step is None else _FIRST_CLIPS + step // self.interval
        return range(max(0, stop - self.size), stop)

    def draw(self, step: int | None, rng: np.random.Generator) -> Clip:
        """Return one of the clips that are in the pool at `step`, chosen by `rng`."""
        numbers = self.numbers(step)
        for number in [n for n in self._clips if n not in numbers]:
            del self._clips[number]
        number = numbers[int(rng.integers(len(numbers)))]
        if number not in self._clips:
            self._clips[number] = self._read(number)
        return self._clips[number]

    def _read(self, number: int) -> Clip:
        """Read a clip: the golden ratio spreads their times, a generator chooses their places."""
        length, height, width = self._movie.shape
        rng = np.random.default_rng((self._seed, 4, number))
        start = np.random.default_rng((self._seed, 4)).random()
        blocks = -(-(length - self._first) // _CENTRES)
        begin = self._first + int((start + number * _GOLDEN) % 1 * blocks) * _CENTRES
        centres = range(begin, min(length, begin + _CENTRES))
        first, last = max(0, centres.start - self._past), min(length, centres.stop + self._ahead)
        y = int(rng.integers(height - self.region[0] + 1))
        x = int(rng.integers(width - self.region[1] + 1))
        frames = self._movie[first:last, y : y + self.region[0], x : x + self.region[1]]
        return Clip(np.ascontiguousarray(frames), first, centres, (y, x))
