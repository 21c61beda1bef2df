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


class AutoContrast:
    """Percentiles of a sample of each frame, smoothed over time.

    One frame costs the sorting of at most 16,384 of its pixels. A single odd frame moves the limits
    little; a lasting change has moved them by two thirds after 1.5 s.
    """

    def __init__(self) -> None:
        self._limits: npt.NDArray[np.float64] | None = None
        self._seen_s = 0.0

    def update(self, frame: npt.NDArray[Any], now_s: float) -> tuple[float, float]:
        """Take one frame and return the limits, the upper one above the lower one.

        Parameters
        ----------
        frame
            ``(H, W)``.
        now_s
            A clock in seconds.
        """
        step = max(1, math.ceil(math.sqrt(frame.size / _SAMPLES)))
        found = np.percentile(frame[::step, ::step], _PERCENTILES)
        if self._limits is None:
            self._limits = found
        else:
            share = 1.0 - math.exp(-max(now_s - self._seen_s, 0.0) / _SETTLE_S)
            self._limits = self._limits + share * (found - self._limits)
        self._seen_s = now_s
        low, high = float(self._limits[0]), float(self._limits[1])
        return low, max(high, low + 1.0)
