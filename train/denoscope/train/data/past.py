"""Running averages of a movie in memory, kept every few frames: what a window remembers is a few steps from one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["Past", "averaged", "shares"]

Float32 = npt.NDArray[np.float32]

_EVERY = 16  # frames between two averages that are kept


class Past:
    """Exponential averages of all frames before any frame of a movie.

    Parameters
    ----------
    frames
        (T, H, W) in memory; turned round in time, the averages are of all frames after any frame.
    keep
        (m,): what a frame leaves of each average.
    """

    def __init__(self, frames: npt.NDArray[Any], keep: npt.NDArray[np.float64]) -> None:
        self._frames, self._keep = frames, keep
        kept = self.kept(len(frames))
        self._states = np.zeros((kept, len(keep), *frames.shape[1:]), np.float32)
        for index in range(1, kept):
            block = frames[(index - 1) * _EVERY : index * _EVERY]
            self._states[index] = self._later(self._states[index - 1], block)

    @staticmethod
    def kept(length: int) -> int:
        """Return how many frames of a movie have their averages kept."""
        return (length - 1) // _EVERY + 1

    def before(self, stop: int, area: tuple[slice, slice]) -> tuple[Float32, Float32]:
        """Return the averages (m, h, w) of an area over the frames before `stop`, and their weights (m,)."""
        index = min(stop // _EVERY, len(self._states) - 1)
        state = self._states[index][:, area[0], area[1]]
        since = self._frames[index * _EVERY : stop, area[0], area[1]]
        return self._later(state, since), (1 - self._keep**stop).astype(np.float32)

    def _later(self, state: Float32, since: npt.NDArray[Any]) -> Float32:
        left = (self._keep ** len(since)).astype(np.float32)[:, None, None]
        return state * left + averaged(since, shares(self._keep, len(since)))


def shares(keep: npt.NDArray[np.float64], count: int) -> Float32:
    """Return what each of `count` frames, oldest first, contributes to the averages, (m, count)."""
    age = np.arange(count - 1, -1, -1)
    return ((1 - keep)[:, None] * keep[:, None] ** age).astype(np.float32)


def averaged(frames: npt.NDArray[Any], share: Float32) -> Float32:
    """Return the sums (m, h, w) of frames (t, h, w) by their shares (m, t)."""
    # Writable, as torch wants it: a mapped file is not.
    flat = np.require(frames.reshape(len(frames), math.prod(frames.shape[1:])), np.float32, ["C", "W"])
    # Not numpy's product: the threads of its library go on spinning and take the cores from torch.
    sums: Float32 = (torch.from_numpy(share) @ torch.from_numpy(flat)).numpy()
    return sums.reshape(len(share), *frames.shape[1:])
