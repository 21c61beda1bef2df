"""A denoiser that does nothing, and its process: what is left is the way there and back."""

from __future__ import annotations

import time
from typing import Any

from denoscope.acquisition.denoisers.local import UNKNOWN, DenoiserRequest
from denoscope.acquisition.denoisers.process import main
from denoscope.runtime import Denoised, FrameMeta, StageTimes, StreamCounters, StreamKey


class Nothing:
    """Give back each frame as it came, `look_ahead` frames later; the bundle's name is ``nothing``."""

    def __init__(self, request: DenoiserRequest) -> None:
        self.look_ahead = request.look_ahead or 0
        self.provenance: dict[str, Any] = {"bundle": "nothing", "backend": "none"}
        self._held: list[tuple[Any, FrameMeta]] = []
        self._received = self._emitted = 0
        self._dropped: dict[str, int] = {}

    @property
    def counters(self) -> StreamCounters:
        return StreamCounters(self._received, self._emitted, self._dropped, len(self._held))

    def prepare(self, shape: tuple[int, int], dtype: Any, streams: int) -> None:
        """Do nothing."""

    def push(self, frame: Any, meta: FrameMeta, *, skip: str | None = None) -> list[Denoised]:
        """Return the frame that is due."""
        self._received += 1
        # A frame is not kept after the call: its memory is used again.
        self._held.append((frame if self.look_ahead == 0 else frame.copy(), meta))
        if len(self._held) <= self.look_ahead:
            return []
        return self._give(skip)

    def _give(self, skip: str | None = None) -> list[Denoised]:
        frame, meta = self._held.pop(0)
        if skip is not None:
            self._dropped = {**self._dropped, skip: self._dropped.get(skip, 0) + 1}
            return []
        self._emitted += 1
        now_s = time.perf_counter()
        return [Denoised(frame, None, meta, StageTimes(meta.t_received_s, *[now_s] * 5))]

    def restart(self, key: StreamKey, *, recalibrate: bool) -> list[Denoised]:
        """Give what is held."""
        return self.flush()

    def flush(self) -> list[Denoised]:
        """Give what is held."""
        return [output for _ in range(len(self._held)) for output in self._give()]

    def learned(self) -> Any:
        """Return that nothing is known."""
        return UNKNOWN

    def describe(self) -> dict[str, Any]:
        """Return nothing of note."""
        return {"backend": {}, "resident_bytes": None, "peak_bytes": None}

    stage_seconds = (0.0,) * 9
    steps = 0

    def close(self) -> None:
        """Do nothing."""


if __name__ == "__main__":
    main(Nothing)
