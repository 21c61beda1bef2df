"""States of a session, why it ended, and the snapshot of it that the screen draws.

::

             PAUSED  raw frames are written, nothing is denoised
              ^  |
              |  v
    NEW -> RECORDING -> STOPPING -> FINISHED
             |  camera armed   |  camera stopped; buffered frames are popped, written and denoised
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

__all__ = ["FinishReason", "SessionState", "SessionStatus"]


class SessionState(Enum):
    """State of a session."""

    NEW = "new"
    RECORDING = "recording"
    PAUSED = "paused"
    STOPPING = "stopping"
    FINISHED = "finished"


class FinishReason(Enum):
    """Why a session ended."""

    FRAMES_REACHED = "the number of frames asked for was reached"
    TIME_REACHED = "the time asked for was reached"
    SOURCE_ENDED = "the camera stopped by itself"
    INTERRUPTED = "interrupted by the user"
    STOPPED = "the user asked it to stop"
    CORE_OVERFLOW = "the core's buffer overflowed"
    SOURCE_FAILED = "the source failed"
    DISK_LOW = "the disk is nearly full"
    RAW_WRITE_FAILED = "writing raw frames failed"
    FOLDER_REMOVED = "the run folder was removed"

    @property
    def exit_code(self) -> int:
        """Exit code of the shell for this reason, if nothing else went wrong."""
        return _EXIT_CODES.get(self, 0)


_EXIT_CODES = {
    FinishReason.INTERRUPTED: 130,
    FinishReason.CORE_OVERFLOW: 1,
    FinishReason.SOURCE_FAILED: 1,
    FinishReason.DISK_LOW: 2,
    FinishReason.RAW_WRITE_FAILED: 2,
    FinishReason.FOLDER_REMOVED: 1,
}


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """A snapshot of a running or finished session.

    Parameters
    ----------
    state, reason
        Where it stands, and why it ended (None while it runs).
    elapsed_s
        Seconds since the camera was armed; stands still at the end of recording.
    received
        Frames popped from the core.
    written_raw
        Frames complete in ``raw.tif``.
    rescued_raw
        Frames that its disk did not take and that are saved in another place.
    emitted
        Denoised frames written.
    dropped
        Frames deliberately not denoised, by reason.
    in_flight
        Frames received and neither denoised nor dropped yet.
    missing
        Frames lost before they reached the core's output, from jumps of ``ImageNumber``.
    fps_in, fps_out
        Frames per second received and denoised over the last seconds.
    latency_s
        Quantiles ``p50``, ``p95``, ``p99`` and ``max`` from the core's time stamp to the denoised
        frame, in seconds; empty before the first.
    problems
        What went wrong so far, one sentence each.
    busy_s
        Seconds for which the source has been too busy to answer; 0 while it answers.
    disk_wait_s
        Seconds for which the disk has not answered to one write of raw frames; 0 while it answers.
    """

    state: SessionState
    reason: FinishReason | None
    elapsed_s: float
    received: int
    written_raw: int
    emitted: int
    dropped: Mapping[str, int]
    in_flight: int
    missing: int
    fps_in: float
    fps_out: float
    latency_s: Mapping[str, float] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    busy_s: float = 0.0
    rescued_raw: int = 0
    disk_wait_s: float = 0.0

    @property
    def degraded(self) -> bool:
        """True where something went wrong that the user must know of."""
        return bool(self.problems)
