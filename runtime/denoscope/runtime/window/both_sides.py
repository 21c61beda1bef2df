"""Long memory of a recorded movie: exponential averages of what came before a window, and of what comes after it.

The averages after a window run backwards from the end of the movie. They are linear in the frames, so a first look at
the movie, in its own order and without any network, gives them at a few frames; from there each frame that enters the
window is taken out again: if ``later = keep * next + (1 - keep) * frame``, then ``next = (later - (1 - keep) * frame)
/ keep``. What is lost by that in rounding grows by a factor e for each time constant, so each average is kept every
few time constants, in 64 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .temporary import TemporaryArrays

__all__ = ["BothSides"]

Float64 = npt.NDArray[np.float64]

_CONSTANTS = 8  # time constants between two averages that are kept: rounding grows 3000-fold
_IN_MEMORY = 256_000_000  # bytes of averages; beyond that they go to a temporary file


class BothSides:
    """Averages of the usable frames before and after the window that moves along a movie.

    Each frame is taken in twice by a stream: with `look` the first time, in the order of the movie, and with `enter`
    and `leave` when it enters and leaves the window. A movie falls into scenes (`end_scene`); frames of one are
    nothing to another. Without a first look nothing is known of what comes after.

    Parameters
    ----------
    decay
        Time constants, in frames.
    in_memory
        Bytes of averages that are kept in memory.
    """

    def __init__(self, decay: Sequence[float], *, in_memory: int = _IN_MEMORY) -> None:
        constants = np.asarray(decay, np.float64)
        self._keep = np.exp(-1 / constants)
        self._blocks = [max(1, round(_CONSTANTS * constant)) for constant in constants]
        self._in_memory = in_memory
        self._store: _Store | None = None
        self._scenes: list[_Scene] = []
        self._scene = 0
        self._looking = False
        self._restart()

    def _restart(self) -> None:
        """Begin a scene."""
        self._seen = 0  # frames of this scene so far
        self._left = 0  # of them, those that have left the window
        self._before: list[Float64] = []
        self._after: list[Float64] = []

    @property
    def size_bytes(self) -> int:
        """Return the size of the averages that are kept."""
        return 0 if self._store is None else self._store.size_bytes

    @property
    def looking(self) -> bool:
        """True during the first look."""
        return self._looking

    def begin_look(self) -> None:
        """Forget what is known, and begin the first look at a movie."""
        self.forget()
        self._store, self._looking = _Store(self._in_memory), True

    def look(self, cells: npt.NDArray[np.float32]) -> None:
        """Take in a frame (C, h, w) of the scene, normalised."""
        if not self._seen:
            self._after = [np.zeros(cells.shape) for _ in self._keep]
            self._scenes.append(_Scene([[] for _ in self._keep]))
        assert self._store is not None
        for m, (keep, block) in enumerate(zip(self._keep, self._blocks, strict=True)):
            within = self._seen % block
            self._after[m] += (1 - keep) * keep**within * cells
            if within == block - 1:
                self._scenes[-1].kept[m].append(self._store.add(self._after[m]))
                self._after[m][...] = 0
        self._seen += 1
        self._scenes[-1].frames = self._seen

    def end_look(self) -> None:
        """Turn the sums of the parts into averages from the end of each scene."""
        self.end_scene()
        self._looking, self._scene = False, 0

    def end_scene(self) -> None:
        """Begin another scene; does nothing before its first frame."""
        if not self._seen:
            return
        if self._looking:
            self._sum_up(self._scenes[-1])
        else:
            self._scene += 1
        self._restart()

    def _sum_up(self, scene: _Scene) -> None:
        assert self._store is not None
        for m, (keep, block) in enumerate(zip(self._keep, self._blocks, strict=True)):
            places = scene.kept[m]
            if self._seen % block:
                places.append(self._store.add(self._after[m]))
            later: Float64 | None = None
            for index in reversed(range(len(places))):
                average = self._store.get(places[index])
                if later is not None:
                    average += keep**block * later
                    self._store.put(places[index], average)
                later = average

    def enter(self, cells: npt.NDArray[np.float32]) -> None:
        """Take a frame (C, h, w) that enters the window out of what comes after it."""
        if self._looking:
            self.look(cells)
            return
        scene = self._of_look
        if scene is not None:
            if not self._seen:
                assert self._store is not None
                self._after = [self._store.get(places[0]) for places in scene.kept]
            last = self._seen + 1 >= scene.frames
            for m, (keep, block) in enumerate(zip(self._keep, self._blocks, strict=True)):
                after = self._after[m]
                if last:
                    after[...] = 0
                elif self._seen % block == block - 1:
                    assert self._store is not None
                    self._after[m] = self._store.get(scene.kept[m][self._seen // block + 1])
                else:
                    after -= (1 - keep) * cells
                    after /= keep
        self._seen += 1

    def leave(self, cells: npt.NDArray[np.float32]) -> None:
        """Take in a frame (C, h, w) that leaves the window."""
        if self._looking:
            return
        if not self._before:
            self._before = [np.zeros(cells.shape) for _ in self._keep]
        for keep, before in zip(self._keep, self._before, strict=True):
            before *= keep
            before += (1 - keep) * cells
        self._left += 1

    def join(self, memory: npt.NDArray[Any], weight: npt.NDArray[Any]) -> None:
        """Write the averages (1, 2 m C, h, w), those before the window first, and their weights (2 m,)."""
        m = len(self._keep)
        channels = memory.shape[1] // (2 * m)
        scene = self._of_look
        to_come = 0 if scene is None else max(0, scene.frames - self._seen)
        for side, (averages, frames) in enumerate(((self._before, self._left), (self._after, to_come))):
            there = memory[0, side * m * channels : (side + 1) * m * channels]
            weight[side * m : (side + 1) * m] = 1 - self._keep**frames
            if frames and averages:
                for index, average in enumerate(averages):
                    there[index * channels : (index + 1) * channels] = average
            else:
                there[...] = 0

    def forget(self) -> None:
        """Forget the movie, and what the first look found."""
        if self._store is not None:
            self._store.close()
        self._store, self._looking, self._scene = None, False, 0
        self._scenes.clear()
        self._restart()

    @property
    def _of_look(self) -> _Scene | None:
        """Return this scene as the first look found it."""
        return self._scenes[self._scene] if self._scene < len(self._scenes) else None


@dataclass
class _Scene:
    """Frames of a scene, and where the averages after the start of each block lie, for each time constant."""

    kept: list[list[int]]
    frames: int = 0


@dataclass
class _Store:
    """Arrays by number: in memory, and in a temporary file what does not fit there."""

    limit: int
    size_bytes: int = 0
    _arrays: list[Float64 | tuple[int, tuple[int, ...]]] = field(default_factory=list)
    _file: TemporaryArrays = field(
        default_factory=lambda: TemporaryArrays("that the memory of both sides of time needs")
    )
    _written: int = 0

    def add(self, array: Float64) -> int:
        """Keep a copy; return its number."""
        self.size_bytes += array.nbytes
        if self.size_bytes <= self.limit:
            self._arrays.append(array.copy())
        else:
            self._arrays.append((self._written, array.shape))
            self._file.write(self._written, array, in_all=self.size_bytes)
            self._written += array.nbytes
        return len(self._arrays) - 1

    def get(self, number: int) -> Float64:
        """Return a copy."""
        kept = self._arrays[number]
        if isinstance(kept, np.ndarray):
            return kept.copy()
        place, shape = kept
        array = np.empty(shape)
        self._file.read(place, array)
        return array

    def put(self, number: int, array: Float64) -> None:
        """Keep another array of the same shape under a number."""
        kept = self._arrays[number]
        if isinstance(kept, np.ndarray):
            kept[...] = array
        else:
            self._file.write(kept[0], array, in_all=self.size_bytes)

    def close(self) -> None:
        """Let the file go."""
        self._arrays.clear()
        self._file.close()
