"""Count what becomes of each frame of a stream, and the seconds of each stage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import numpy as np

from denoscope.runtime.types import Rebind, StageClock, StreamCounters

__all__ = ["FAILED", "Accounts"]

FAILED = "failed"
"""Drop reason of frames that were in flight when the backend raised."""


class Accounts:
    """Counts of one stream.

    Attributes
    ----------
    received, emitted, missing
        Frames pushed, returned denoised, and left out by the numbers.
    dropped, unusual
        Frames by the reason why they were not denoised, and by why they were shown as measured.
    rebinds
        Times at which the stream started anew.
    seconds
        Of each stage.
    """

    def __init__(self) -> None:
        self.received = self.emitted = self.missing = 0
        self.dropped: dict[str, int] = {}
        self.unusual: dict[str, int] = {}
        self.rebinds: list[Rebind] = []
        self.seconds = StageClock()

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Count nothing but seconds within the block."""
        counts = self.received, self.emitted, self.missing
        kept = dict(self.dropped), dict(self.unusual), list(self.rebinds)
        try:
            yield
        finally:
            self.received, self.emitted, self.missing = counts
            self.dropped, self.unusual, self.rebinds = kept

    def drop(self, reason: str, frames: int = 1) -> None:
        """Count frames whose outputs are not computed."""
        self.dropped[reason] = self.dropped.get(reason, 0) + frames

    def show(self, kind: str) -> None:
        """Count a frame that is shown as measured."""
        self.unusual[kind] = self.unusual.get(kind, 0) + 1

    def lose_the_rest(self) -> None:
        """Count every frame in flight as lost to a failure."""
        self.drop(FAILED, self.received - self.emitted - sum(self.dropped.values()))

    def counters(self, in_flight: int) -> StreamCounters:
        """Return the counts, with the number of frames that are still held."""
        return StreamCounters(self.received, self.emitted, dict(self.dropped), in_flight, dict(self.unusual))

    def start_anew(
        self,
        number: int,
        shape: tuple[int, int],
        dtype: np.dtype[np.generic],
        motion: Literal["moves", "drifted", "scene"],
    ) -> None:
        """Note that the stream starts anew with a frame of the same shape and dtype, and why."""
        self.rebinds.append(Rebind(number, shape, shape, dtype.name, dtype.name, motion=motion))
