"""A camera with a fixed clock in front of the live session's denoising lane, and the timeline of each frame."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.contracts import Frame, Stamp
from denoscope.acquisition.denoisers.exchange import STAGES, PushTimes
from denoscope.acquisition.denoisers.remote import RemoteDenoiser
from denoscope.acquisition.lane.lane import PASSED_OVER, QUEUE_FRAMES, DenoiseLane
from denoscope.acquisition.session.settings import SessionSettings

from .results import KeepUp

if TYPE_CHECKING:
    from denoscope.runtime import Denoised, FrameMeta, StageSeconds, Stream, StreamCounters

    from .scene import Scene

__all__ = ["DELIVERED", "HOPS", "KEEP_UP", "WORK", "Plan", "Seconds", "Timeline", "play"]

DELIVERED = "delivered"
OVERRUN = "overrun"
KEPT_UP = "keep-up"

# What a push spends its time on, by the fields of `StageSeconds`; "own" is the runtime's share.
WORK = STAGES
HOPS = ("hop_to", "compute", "hop_back")  # of a push to the denoiser's process

_LEAD_S = 0.05  # from the start of the lane's thread to the first frame

# The policy is the live session's, not one of the benchmark's.
KEEP_UP = KeepUp(
    queue_frames=QUEUE_FRAMES,
    lag_s=SessionSettings.model_fields["lag_s"].default,
    finish_s=SessionSettings.model_fields["finish_s"].default,
)

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """When frames arrive.

    Attributes
    ----------
    fps
        Frames per second; frame i arrives i / fps after the first, whatever became of those before.
    warm_up
        Frames before the measured ones.
    measured
        Frames whose latency counts.
    tail
        Frames after them, so that the last measured ones find their look-ahead.
    """

    fps: float
    warm_up: int
    measured: int
    tail: int

    @property
    def total(self) -> int:
        """All frames."""
        return self.warm_up + self.measured + self.tail

    @property
    def counted(self) -> slice:
        """Indices of the measured frames."""
        return slice(self.warm_up, self.warm_up + self.measured)


@dataclass(frozen=True)
class Timeline:
    """Times of each frame, in seconds after the first frame's arrival; NaN where it never came to that.

    Attributes
    ----------
    plan
        When frames arrived.
    look_ahead
        Frames that each output waits for.
    scheduled
        When the frame was due by the camera's clock; every latency begins here.
    offered
        When the camera's thread got to hand it over.
    taken
        When the denoising thread took it from the queue.
    encoded, fuse_start, fused, emitted
        See `denoscope.runtime.StageTimes`.
    delivered
        When the output was in the hands of its sink.
    outcome
        ``delivered`` or the reason why it was dropped.
    work
        Seconds that the push of the frame spent on each of `WORK`.
    dropped
        The lane's own count of drops by reason.
    problem
        Why denoising ended early, or None.
    began
        `time.perf_counter` at the first frame's arrival.
    hops
        Seconds of the frame's way to the denoiser's process, of the work there, and of the way back; NaN without one.
    """

    plan: Plan
    look_ahead: int
    scheduled: Seconds
    offered: Seconds
    taken: Seconds
    encoded: Seconds
    fuse_start: Seconds
    fused: Seconds
    emitted: Seconds
    delivered: Seconds
    outcome: tuple[str, ...]
    work: Mapping[str, Seconds]
    dropped: Mapping[str, int] = field(default_factory=dict)
    problem: str | None = None
    began: float = 0.0
    hops: Mapping[str, Seconds] = field(default_factory=dict)


class _Observed:
    """A denoiser that notes for each frame when it was pushed and what that cost."""

    def __init__(self, denoiser: Stream | RemoteDenoiser, frames: int) -> None:
        self._denoiser: Any = denoiser
        self._before: StreamCounters = denoiser.counters
        self.taken = np.full(frames, np.nan)
        self.work = np.full((len(WORK), frames), np.nan)
        self.hops = np.full((len(HOPS), frames), np.nan)

    @property
    def counters(self) -> StreamCounters:
        """The denoiser's counters since this observation began."""
        now: StreamCounters = self._denoiser.counters
        before = self._before
        dropped = {reason: n - before.dropped.get(reason, 0) for reason, n in now.dropped.items()}
        return type(now)(
            received=now.received - before.received,
            emitted=now.emitted - before.emitted,
            dropped={reason: n for reason, n in dropped.items() if n},
            in_flight=now.in_flight,
        )

    def push(self, frame: Any, meta: FrameMeta, *, skip: str | None = None) -> list[Denoised]:
        before = self._denoiser.stage_seconds
        self.taken[meta.number] = time.perf_counter()
        outputs: list[Denoised] = self._denoiser.push(frame, meta, skip=skip)
        self.work[:, meta.number] = _spent(before, self._denoiser.stage_seconds)
        return outputs

    def flush(self) -> list[Denoised]:
        outputs: list[Denoised] = self._denoiser.flush()
        return outputs


class _ObservedProcess(_Observed):
    """The same for one in a separate process, as in a session."""

    def __init__(self, denoiser: Stream | RemoteDenoiser, frames: int) -> None:
        super().__init__(denoiser, frames)
        self._asked: deque[int] = deque()
        self._stages: tuple[float, ...] | None = None
        self._denoiser.times()  # those of an earlier observation

    @property
    def under_way(self) -> int:
        return int(self._denoiser.under_way)

    def begin(self, frame: Any, meta: FrameMeta, *, skip: str | None = None) -> list[Denoised]:
        self.taken[meta.number] = time.perf_counter()
        self._asked.append(meta.number)
        outputs: list[Denoised] = self._denoiser.begin(frame, meta, skip=skip)
        return outputs

    def collect(self) -> list[Denoised]:
        outputs: list[Denoised] = self._denoiser.collect()
        return outputs

    def times(self) -> list[PushTimes]:
        """Return the times of the frames that were answered, and keep them."""
        times: list[PushTimes] = self._denoiser.times()
        for each in times:
            number = self._asked.popleft()
            self.hops[:, number] = each.hop_to_s, each.compute_s, each.hop_back_s
            if self._stages is not None:
                self.work[:, number] = np.subtract(each.stages, self._stages)
            self._stages = each.stages
        return times

    def flush(self) -> list[Denoised]:
        outputs = super().flush()
        self.times()
        return outputs


def _spent(before: StageSeconds, after: StageSeconds) -> list[float]:
    return [getattr(after, f"{name}_s") - getattr(before, f"{name}_s") for name in WORK]


class _Sink:
    """Keep the times of each output and let the frame go, as a display would."""

    def __init__(self, frames: int) -> None:
        self.times = np.full((5, frames), np.nan)

    def append(self, output: Denoised, stamp: Stamp) -> None:
        t = output.times
        self.times[:, stamp.index] = (t.encoded, t.fuse_start, t.fused, t.emitted, time.perf_counter())


def play(stream: Stream | RemoteDenoiser, scene: Scene, plan: Plan) -> Timeline:
    """Let frames arrive by the clock and follow each to its output.

    The clock is open loop: it never waits for the denoiser, and a frame's latency begins when it was
    due. A frame behind a slow one is therefore charged for its waiting.

    Parameters
    ----------
    stream
        Prepared for the scene's size, with the scene's intensity, and empty. It is flushed at the end. One in a
        process of its own is asked for its stages.
    scene
        What the camera sees.
    plan
        When frames arrive.
    """
    observe = _ObservedProcess if isinstance(stream, RemoteDenoiser) else _Observed
    observed = observe(stream, plan.total)
    sink = _Sink(plan.total)
    lane = DenoiseLane(
        observed,
        sink,
        look_ahead=stream.look_ahead,
        queue_frames=KEEP_UP.queue_frames,
        lag_s=KEEP_UP.lag_s,
        finish_s=KEEP_UP.finish_s,
    )
    offered, overrun = np.full(plan.total, np.nan), np.zeros(plan.total, bool)
    lane.start()
    start = time.perf_counter() + _LEAD_S
    scheduled = start + np.arange(plan.total) / plan.fps
    for number, due in enumerate(scheduled.tolist()):
        early = due - time.perf_counter()
        if early > 0:
            time.sleep(early)
        refused = lane.counts()[1].get(OVERRUN, 0)
        offered[number] = time.perf_counter()
        pixels = scene.frames[number % len(scene.frames)]
        lane.offer(number, Frame(pixels, number, due, "clock", {}))
        overrun[number] = lane.counts()[1].get(OVERRUN, 0) > refused
    lane.finish()
    encoded, fuse_start, fused, emitted, delivered = sink.times - start
    return Timeline(
        plan=plan,
        look_ahead=stream.look_ahead,
        scheduled=scheduled - start,
        offered=offered - start,
        taken=observed.taken - start,
        encoded=encoded,
        fuse_start=fuse_start,
        fused=fused,
        emitted=emitted,
        delivered=delivered,
        outcome=_outcomes(delivered, observed.taken, overrun, lane.counts()[1].get(KEPT_UP, 0), lane.problem),
        work=dict(zip(WORK, observed.work, strict=True)),
        hops=dict(zip(HOPS, observed.hops, strict=True)),
        dropped=lane.counts()[1],
        problem=lane.problem,
        began=start,
    )


def _outcomes(
    delivered: Seconds,
    taken: Seconds,
    overrun: npt.NDArray[np.bool_],
    skipped: int,
    problem: str | None,
) -> tuple[str, ...]:
    """Return what became of each frame; outputs are skipped in order, and only what is left at the end after them."""
    rest = "denoiser failed" if problem else "end of session"
    last_taken = max(np.flatnonzero(~np.isnan(taken)), default=-1)
    outcomes = []
    for number in range(len(delivered)):
        if not np.isnan(delivered[number]):
            outcome = DELIVERED
        elif overrun[number]:
            outcome = OVERRUN
        elif np.isnan(taken[number]) and number < last_taken:
            outcome = PASSED_OVER
        elif skipped and not np.isnan(taken[number]):
            outcome, skipped = KEPT_UP, skipped - 1
        else:
            outcome = rest
        outcomes.append(outcome)
    return tuple(outcomes)
