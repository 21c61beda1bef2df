"""Running baseline of traces, from the past alone, so that live and recorded movies have the same."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["BASELINE", "Baseline"]

Values = npt.NDArray[np.float64]

_BLOCK = 4  # frames that are averaged into one value
_BLOCKS = 150
_PERCENT = 20
_TURNS = 16  # a region's baseline is computed anew once in so many frames

BASELINE = (
    f"{_PERCENT}th percentile of the region's denoised mean over the last {_BLOCK * _BLOCKS} frames, "
    f"in means of {_BLOCK} frames, computed anew every {_TURNS} frames"
)
"""Definition of the baseline, as it is written beside traces."""


class Baseline:
    """Follow the baseline of many traces; see `BASELINE`.

    Before the first four frames are complete the baseline is the mean so far.

    Parameters
    ----------
    count
        Number of traces.
    """

    def __init__(self, count: int) -> None:
        self._values = np.full(count, np.nan)
        self._blocks = np.empty((count, _BLOCKS))
        self._sum = np.zeros(count)
        self._frames = 0

    def add(self, values: Values) -> Values:
        """Take one value of each trace; return the baselines, which belong to this object."""
        # A frame without numbers says nothing about the baseline.
        self._sum += np.where(np.isfinite(values), values, self._known(values))
        self._frames += 1
        inside = self._frames % _BLOCK
        done = self._frames // _BLOCK
        if inside == 0:
            self._blocks[:, (done - 1) % _BLOCKS] = self._sum / _BLOCK
            self._sum[:] = 0.0
        if done == 0:
            self._values = self._sum / self._frames
        else:
            first, every = (0, 1) if inside == 0 and done <= _TURNS else (self._frames % _TURNS, _TURNS)
            filled = self._blocks[first::every, : min(done, _BLOCKS)]
            if inside == 0 or done > _TURNS:
                place = _PERCENT * (filled.shape[1] - 1) // 100
                self._values[first::every] = np.partition(filled, place, axis=1)[:, place]
        return self._values

    def _known(self, values: Values) -> Values:
        return np.where(np.isfinite(self._values), self._values, 0.0 * np.nan_to_num(values))
