"""Contrast limits that follow a movie without flicker."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["AutoContrast"]

_SAMPLES = 1 << 14
_PERCENTILES = (1.0, 99.5)
_SETTLE_S = 1.5
_CEILINGS = tuple(2**bits - 1 for bits in (8, 10, 11, 12, 13, 14, 15, 16))  # of cameras and digitisers
_LEAST = 1e-6  # of the values, between the limits of a picture of floats


class AutoContrast:
    """Percentiles of a sample of each frame, smoothed over time.

    One frame costs the sorting of at most 16,384 of its pixels. A single odd frame moves the limits
    little; a lasting change has moved them by two thirds after 1.5 s. Pixels that are not finite are left out.
    """

    def __init__(self) -> None:
        self._limits: npt.NDArray[np.float64] | None = None
        self._seen_s = 0.0

    def update(self, frame: npt.NDArray[Any], now_s: float) -> tuple[float, float]:
        """Take one frame and return the limits, the upper one above the lower one.

        A frame that is saturated as a whole is shown white, and any other flat one black.

        Parameters
        ----------
        frame
            ``(H, W)``.
        now_s
            A clock in seconds.
        """
        step = max(1, math.ceil(math.sqrt(frame.size / _SAMPLES)))
        sample = frame[::step, ::step]
        whole_numbers = frame.dtype.kind in "iu"
        if not whole_numbers:
            sample = sample[np.isfinite(sample)]
        found = np.percentile(sample, _PERCENTILES) if sample.size else self._limits
        if found is None:
            return 0.0, 1.0
        if self._limits is None:
            self._limits = found
        else:
            share = 1.0 - math.exp(-max(now_s - self._seen_s, 0.0) / _SETTLE_S)
            self._limits = self._limits + share * (found - self._limits)
        self._seen_s = now_s
        low, high = float(self._limits[0]), float(self._limits[1])
        if whole_numbers and found[0] == found[1] and found[0] in _CEILINGS:
            return 0.0, float(found[1])
        least = (
            1.0 if whole_numbers else max(_LEAST * max(abs(low), abs(high)), float(np.finfo(np.float32).tiny))
        )
        return low, max(high, low + least)
