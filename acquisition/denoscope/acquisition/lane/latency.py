"""Latencies of a session of any length in constant memory."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

import numpy as np

__all__ = ["STAGES", "LatencyHistogram", "Rate"]

STAGES = ("to_queue", "queue", "hop_to", "compute", "hop_back", "deliver")
"""A frame's way: from the camera into the queue, the wait there, to the process, its work, back, to the sink."""

_SMALLEST_S, _LARGEST_S, _STEP = 1e-5, 1e4, 1.01
_BINS = math.ceil(math.log(_LARGEST_S / _SMALLEST_S) / math.log(_STEP))


class LatencyHistogram:
    """Counts in bins 1 % apart, so that every quantile is exact to 1 %."""

    def __init__(self) -> None:
        self.counts = np.zeros(_BINS, np.int64)
        self._largest_s = 0.0
        self._sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one latency in seconds."""
        position = math.log(max(seconds, _SMALLEST_S) / _SMALLEST_S) / math.log(_STEP)
        self.counts[min(int(position), _BINS - 1)] += 1
        self._largest_s = max(self._largest_s, seconds)
        self._sum_s += seconds

    @staticmethod
    def edges_s() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Return the lower edges of the bins in seconds."""
        return _SMALLEST_S * _STEP ** np.arange(_BINS, dtype=np.float64)

    def quantiles_s(self) -> Mapping[str, float]:
        """Return ``p50``, ``p95``, ``p99``, ``mean`` and ``max`` in seconds; empty before the first."""
        total = int(self.counts.sum())
        if not total:
            return {}
        below = np.cumsum(self.counts)
        centres = self.edges_s() * _STEP**0.5
        values = {
            f"p{percent}": float(
                min(centres[int(np.searchsorted(below, total * percent / 100))], self._largest_s)
            )
            for percent in (50, 95, 99)
        }
        return {**values, "mean": self._sum_s / total, "max": self._largest_s}


class Rate:
    """Events per second over the last `window_s` seconds, from counts sampled now and then."""

    def __init__(self, window_s: float = 3.0) -> None:
        self._window_s = window_s
        self._samples: deque[tuple[float, int]] = deque(maxlen=512)

    def sample(self, now_s: float, count: int) -> float:
        """Record that `count` events had happened at `now_s`; return events per second."""
        self._samples.append((now_s, count))
        while len(self._samples) > 2 and now_s - self._samples[0][0] > self._window_s:
            self._samples.popleft()
        then_s, before = self._samples[0]
        return (count - before) / (now_s - then_s) if now_s > then_s else 0.0
