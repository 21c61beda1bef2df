"""The parts of `gpu_session.py`: each measures one thing and yields a row as soon as it has it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["BUNDLES", "Plan", "quantiles"]

BUNDLES = ("live", "live-fast", "live-hq")


@dataclass(frozen=True)
class Plan:
    """Settings of a part.

    Attributes
    ----------
    dry
        Run on the processor, with small frames and few repeats, to see that the code works; the numbers mean nothing.
    edge
        Height and width of the frames, in pixels; None for 512, or 32 where it is dry.
    """

    dry: bool
    edge: int | None = None

    @property
    def size(self) -> int:
        """Height and width of the frames, in pixels."""
        return self.edge or (32 if self.dry else 512)

    @property
    def repeats(self) -> int:
        """Runs that are timed."""
        return 3 if self.dry else 300


def quantiles(call: Callable[[], object], repeats: int) -> dict[str, float]:
    """Return median and 99 % quantile of the seconds that a call takes, timed one by one by the host's clock."""
    seconds = np.empty(repeats)
    for i in range(repeats):
        started = time.perf_counter()
        call()
        seconds[i] = time.perf_counter() - started
    return {"p50_s": float(np.median(seconds)), "p99_s": float(np.quantile(seconds, 0.99))}
