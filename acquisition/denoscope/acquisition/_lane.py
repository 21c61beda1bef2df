"""The denoising lane: a bounded queue and a thread that may fall behind or fail, away from the raw data."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ._errors import one_line
from ._frames import Frame
from ._latency import LatencyHistogram

if TYPE_CHECKING:
    from denoscope.runtime import Denoised, FrameMeta, StreamCounters

__all__ = ["DenoiseLane", "DenoisedSink", "Denoiser", "Stamp"]

_CLOCKS_AGREE_S = 60.0
_BEHIND_S = 2.0  # after the last skip the denoiser counts as too slow for so long
# More than any window and calibration hold; stamps older than this belong to skipped outputs.
_STAMPS = 4096


@dataclass(frozen=True, slots=True)
class Stamp:
    """Where and when a frame was received.

    Parameters
    ----------
    index
        Its page in the raw recording.
    t_received_s
        ``time.perf_counter()`` when it was popped, in seconds.
    core_unix_s
        When the core received it, seconds since 1970, or None.
    core_lag_s
        How long it lay in the core's buffer, in seconds; 0 where unknown.
    """

    index: int
    t_received_s: float
    core_unix_s: float | None
    core_lag_s: float


class Denoiser(Protocol):
    """What the lane needs of `denoscope.runtime.Stream`."""

    @property
    def counters(self) -> StreamCounters:
        """Where every pushed frame is now."""

    def push(self, frame: Any, meta: FrameMeta, *, skip: str | None = None) -> list[Denoised]:
        """Take one frame; return the outputs that are due."""

    def flush(self) -> list[Denoised]:
        """Return the outputs of all frames still held."""


class DenoisedSink(Protocol):
    """Where denoised frames go."""

    def append(self, output: Denoised, stamp: Stamp) -> None:
        """Take the output of the frame with that stamp."""


class DenoiseLane:
    """Denoise what it can, and count every frame that it cannot, with the reason.

    A frame that finds the queue full is counted as ``overrun``. A frame that waited longer than
    `lag_s` is still encoded, so that the window stays whole, but the output that is due is skipped and
    counted as ``keep-up``; so is, for as long as that happens, every output while a newer frame waits:
    a denoiser that is too slow then shows the newest frames rather than old ones. A failure of the
    denoiser or of its file ends denoising, not the session: every later frame is counted as
    ``denoiser failed``.

    Parameters
    ----------
    denoiser
        Takes frames, gives outputs; used by the lane's thread alone.
    sink
        Takes the outputs; used by the lane's thread alone until `finish` returned.
    look_ahead
        Frames that the denoiser holds when it is in step with the camera.
    queue_frames
        Frames that may wait.
    lag_s
        Seconds that a frame may wait before outputs are skipped.
    finish_s
        Seconds that the lane may take for its backlog after the recording ended.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        sink: DenoisedSink,
        *,
        look_ahead: int,
        queue_frames: int,
        lag_s: float,
        finish_s: float,
    ) -> None:
        self._denoiser = denoiser
        self._sink = sink
        self._look_ahead = look_ahead
        self._lag_s = lag_s
        self._finish_s = finish_s
        self._queue: queue.Queue[tuple[int, Frame] | None] = queue.Queue(queue_frames)
        self._lock = threading.Lock()
        self._waiting: dict[int, Stamp] = {}
        self._dropped: Counter[str] = Counter()
        self._skips: Counter[str] = Counter()
        self._received = 0
        self._emitted = 0
        self._deadline_s: float | None = None
        self._first_output_s: float | None = None
        self._caught_up_s: float | None = None
        self._behind_until_s = 0.0
        self._camera: str | None = None
        self.latency = LatencyHistogram()
        self.startup = LatencyHistogram()
        self.processing = LatencyHistogram()
        self.latency_from = "TimeReceivedByCore"
        self.problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="denoscope-denoise", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether the thread has ended, so that its denoiser and sink may be touched."""
        return not self._thread.is_alive()

    def counts(self) -> tuple[int, Mapping[str, int]]:
        """Return how many frames were denoised, and how many dropped by reason."""
        with self._lock:
            return self._emitted, dict(self._dropped)

    def _drop(self, reason: str, frames: int = 1) -> None:
        if frames:
            with self._lock:
                self._dropped[reason] += frames

    def offer(self, index: int, frame: Frame) -> None:
        """Hand over the frame that will be page `index` of the raw recording; never blocks."""
        self._received += 1
        self._camera = self._camera or frame.camera
        if self.problem is not None:
            self._drop("denoiser failed")
        elif not frame.agrees:
            self._drop("shape disagrees with its tags")
        elif frame.camera != self._camera:
            self._drop("another camera")
        else:
            try:
                self._queue.put_nowait((index, frame))
            except queue.Full:
                self._drop("overrun")

    def finish(self) -> None:
        """Say that no frame follows, and wait for the backlog, but not for ever."""
        self._deadline_s = time.perf_counter() + self._finish_s
        while self._thread.is_alive():
            try:
                self._queue.put(None, timeout=0.1)
                break
            except queue.Full:
                if time.perf_counter() > self._deadline_s + self._finish_s:
                    break
        self._thread.join(2 * self._finish_s + 20)
        if self._thread.is_alive():
            self.problem = (
                f"the denoiser did not come back within {2 * self._finish_s + 20:g} s and was left behind"
            )
        emitted, dropped = self.counts()
        left = self._received - emitted - sum(dropped.values())
        self._drop("denoiser failed" if self.problem else "end of session", left)

    def _run(self) -> None:
        try:
            while (item := self._queue.get()) is not None:
                self._push(*item)
            self._take(self._denoiser.flush())
        except Exception as error:  # noqa: BLE001  whatever it was, the raw recording goes on
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self.problem is None:
            what = f"{type(error).__name__}: {one_line(error)}"
            self.problem = f"denoising failed ({what}); the raw recording is not affected"
        while True:
            # Frames that wait are counted at the end; emptying the queue lets the memory go.
            try:
                self._queue.get_nowait()
            except queue.Empty:
                return

    def _push(self, index: int, frame: Frame) -> None:
        from denoscope.runtime import FrameMeta, StreamKey

        now_s = time.perf_counter()
        if self._deadline_s is not None and now_s > self._deadline_s:
            return
        lag_s = now_s - frame.t_received_s
        skip = "keep-up" if self._falls_behind(now_s, lag_s) else None
        self._waiting[frame.number] = Stamp(
            index, frame.t_received_s, frame.core_unix_s, self._core_lag_s(frame)
        )
        if len(self._waiting) > _STAMPS:
            del self._waiting[next(iter(self._waiting))]
        meta = FrameMeta(
            number=frame.number,
            t_received_s=frame.t_received_s,
            key=StreamKey(camera=frame.camera),
            tags=frame.tags,
        )
        self._take(self._denoiser.push(frame.pixels, meta, skip=skip))
        held = self._denoiser.counters.in_flight
        # After the calibration the denoiser works off what it held, until it is in step with the camera
        # or, on a machine that is too slow, the first output is skipped.
        in_step = self._first_output_s is not None and held <= self._look_ahead and self._queue.empty()
        if self._caught_up_s is None and (in_step or skip):
            self._caught_up_s = frame.t_received_s

    def _falls_behind(self, now_s: float, lag_s: float) -> bool:
        if self._caught_up_s is None:
            # Working off the frames held for calibration is not falling behind, while there is room for it.
            return self._first_output_s is not None and self._queue.qsize() > self._queue.maxsize // 2
        behind = lag_s > self._lag_s or (now_s < self._behind_until_s and not self._queue.empty())
        if behind:
            self._behind_until_s = now_s + _BEHIND_S
        return behind

    def _core_lag_s(self, frame: Frame) -> float:
        """Return the seconds a frame lay in the core's buffer, 0 where the clocks cannot be compared."""
        if frame.core_unix_s is not None:
            popped_unix_s = time.time() - (time.perf_counter() - frame.t_received_s)
            lag_s = popped_unix_s - frame.core_unix_s
            if -0.01 < lag_s < _CLOCKS_AGREE_S:
                return max(lag_s, 0.0)
        self.latency_from = "pop"
        return 0.0

    def _take(self, outputs: Iterable[Denoised]) -> None:
        for output in outputs:
            number = output.meta.number
            # Outputs come in order, so frames before this one were skipped.
            for earlier in [waiting for waiting in self._waiting if waiting < number]:
                del self._waiting[earlier]
            stamp = self._waiting.pop(number)
            self._sink.append(output, stamp)
            now_s = time.perf_counter()
            self._first_output_s = self._first_output_s or now_s
            latency_s = now_s - stamp.t_received_s + stamp.core_lag_s
            # Frames held for calibration, and those behind them, say nothing about the latency of the rest.
            steady = self._caught_up_s is not None and stamp.t_received_s > self._caught_up_s
            (self.latency if steady else self.startup).add(latency_s)
            self.processing.add(output.times.fused - output.times.fuse_start)
            with self._lock:
                self._emitted += 1
        self._count_skips()

    def _count_skips(self) -> None:
        for reason, frames in self._denoiser.counters.dropped.items():
            self._drop(reason, frames - self._skips[reason])
            self._skips[reason] = frames
