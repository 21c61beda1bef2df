"""Numbers of a session's denoising: frames by what became of them, latencies, missing pixels."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

from denoscope.acquisition.notes.nan_count import NanCount

from .latency import STAGES, LatencyHistogram

__all__ = ["Tally"]


class Tally:
    """Count frames from two threads; histograms are the lane's thread's alone.

    Attributes
    ----------
    received
        Frames that were offered.
    latency, startup
        Seconds from a frame's arrival to its output, in step with the camera and while starting up.
    processing
        Seconds of computing one output.
    stages
        Seconds by stage of a frame's way, in step with the camera; see `STAGES`.
    phase, by_phase
        Name of what goes on beside the session, empty for nothing that matters, and the latencies of each phase.
    nan
        Pixels of outputs that hold no number.
    latency_from
        What latencies are counted from.
    """

    def __init__(self, latency_from: str) -> None:
        self._lock = threading.Lock()
        self._dropped: Counter[str] = Counter()
        self._skips: Counter[str] = Counter()
        self._emitted = 0
        self.received = 0
        self.latency = LatencyHistogram()
        self.startup = LatencyHistogram()
        self.phase = ""
        self.by_phase: dict[str, LatencyHistogram] = {}
        self.processing = LatencyHistogram()
        self.stages = {stage: LatencyHistogram() for stage in STAGES}
        self.nan = NanCount()
        self.latency_from = latency_from

    def counts(self) -> tuple[int, Mapping[str, int]]:
        """Return how many frames were denoised, and how many dropped by reason."""
        with self._lock:
            return self._emitted, dict(self._dropped)

    def left(self) -> int:
        """Return how many frames are neither denoised nor dropped."""
        emitted, dropped = self.counts()
        return self.received - emitted - sum(dropped.values())

    def drop(self, reason: str, frames: int = 1) -> None:
        """Count dropped frames."""
        if frames:
            with self._lock:
                self._dropped[reason] += frames

    def emit(self) -> None:
        """Count one denoised frame."""
        with self._lock:
            self._emitted += 1

    def add_latency(self, seconds: float) -> None:
        """Count the latency of one output that was in step with the camera."""
        self.latency.add(seconds)
        if self.phase:
            self.by_phase.setdefault(self.phase, LatencyHistogram()).add(seconds)

    def skips(self, dropped: Mapping[str, int]) -> None:
        """Take over how many outputs the denoiser has left out, by reason."""
        for reason, frames in dropped.items():
            self.drop(reason, frames - self._skips[reason])
            self._skips[reason] = frames
