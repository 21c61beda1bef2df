"""The denoising lane: a bounded queue and a thread that may fall behind or fail, away from the raw data."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from denoscope.acquisition.contracts import DenoisedSink, Denoiser, Frame, Stamp
from denoscope.acquisition.denoisers.routing import Change, Route, Routes
from denoscope.acquisition.errors import DenoiserFailed, one_line

from .backlog import Backlog, HeldFrames, Waiting
from .changes import StreamChanges
from .pace import Pace
from .tally import Tally

if TYPE_CHECKING:
    from denoscope.runtime import Denoised

__all__ = ["PASSED_OVER", "QUEUE_FRAMES", "DenoiseLane"]

PASSED_OVER = "passed over"  # the drop reason of frames that waited when the lane went on with the newest

QUEUE_FRAMES = 64
"""Frames that may wait for the denoiser of a session."""

_CLOCKS_AGREE_S = 60.0


class DenoiseLane:
    """Denoise what it can, and count every frame that it cannot, with the reason.

    A frame that finds the queue full is counted as ``overrun``. A frame that waited longer than
    `lag_s` is still encoded, so that the window stays whole, but the output that is due is skipped and
    counted as ``keep-up``; so is, for as long as that happens, every output while a newer frame waits:
    a denoiser that is too slow then shows the newest frames rather than old ones. Where it cannot even
    encode them all, the frames that wait are counted as ``passed over`` and it goes on with the newest, so
    that there are outputs at any rate of the camera. A failure of the
    denoiser or of its file ends denoising, not the session: every later frame is counted as
    ``denoiser failed``. While the lane is paused, what the denoiser holds is denoised and every frame is
    counted as ``paused``; after that each stream begins anew, because the scene may be another one.

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
        Seconds that the lane may take for its backlog after the recording ended. Outputs that would need a frame
        that is left by then are left out too, counted as ``end of session``.
    clock
        What the frames' ``core_unix_s`` is, for the report.
    routes
        Says which stream a frame belongs to; the denoiser is a `Router` then. None for a denoiser of one
        stream, where frames of any other camera are counted as ``another camera``.

    Attributes
    ----------
    tally
        Frames by what became of them, and their latencies.
    changes
        Changes of the streams.
    problem
        Why denoising ended, None while it goes on.
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
        clock: str = "TimeReceivedByCore",
        routes: Routes | None = None,
    ) -> None:
        self._denoiser: Any = denoiser
        # One in another process takes frames ahead of its answers; see `RemoteDenoiser`.
        self._ahead = hasattr(type(denoiser), "begin")  # what stands in for one need not
        self._sink = sink
        self._finish_s = finish_s
        self._many_streams = routes is not None
        self._backlog = Backlog(queue_frames)
        self._held = HeldFrames(look_ahead)
        self._paused = False
        self._deadline_s: float | None = None
        self._refinements = 0
        self._camera: str | None = None
        self._pace = Pace(lag_s)
        self.tally = Tally(clock)
        self.changes = StreamChanges(routes)
        self.problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="denoscope-denoise", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def ended(self) -> bool:
        """True once the thread has ended, so that its denoiser and sink may be touched."""
        return not self._thread.is_alive()

    @property
    def waiting(self) -> tuple[int, int]:
        """Frames that wait, and how many may."""
        return self._backlog.size

    @property
    def unusual(self) -> Mapping[str, int]:
        """Denoised frames that show nothing of the scene, by kind; see `StreamCounters`."""
        return dict(self._denoiser.counters.unusual)

    def counts(self) -> tuple[int, Mapping[str, int]]:
        """Return how many frames were denoised, and how many dropped by reason."""
        return self.tally.counts()

    def offer(self, index: int, frame: Frame, *, wait: bool = False) -> None:
        """Hand over the frame that will be page `index` of the raw recording.

        Parameters
        ----------
        index, frame
            What is handed over.
        wait
            Wait for room, where frames can (see `Source.patient`), unless the denoiser stands still; else
            this never blocks.
        """
        self.tally.received += 1
        self._camera = self._camera or frame.camera
        if self.problem is not None:
            self.tally.drop("denoiser failed")
        elif not frame.agrees:
            self.tally.drop("shape disagrees with its tags")
        elif not self._many_streams and frame.camera != self._camera:
            self.tally.drop("another camera")
        elif not isinstance(route := self._route(index, frame), Route):
            self.tally.drop(route)
        elif self._paused:
            self.tally.drop("paused")
            self.changes.paused(route)
        elif not self._backlog.put((index, frame, route, time.perf_counter()), wait=wait):
            self.tally.drop("overrun")
            self.changes.not_taken(route)

    def _route(self, index: int, frame: Frame) -> Route | str:
        """Return a frame's stream, or why it has none: metadata of any program must not end a recording."""
        try:
            return self.changes.route(index, frame) or "too many streams"
        except Exception:  # noqa: BLE001  the camera's thread goes on, whatever the tags are
            return "metadata not understood"

    def pause(self) -> None:
        """Denoise what is held already and take no further frame until `resume`."""
        # Before the first output the intensities are not estimated, and few frames would not do.
        self.changes.pause = replace(self.changes.pause, recalibrate=not self._pace.started)
        self._paused = True
        if self._many_streams:
            self._backlog.put_change(self.changes.pause)  # else the first frame after the pause does it

    def resume(self) -> None:
        """Take frames again."""
        self._paused = False

    def finish(self, within_s: float | None = None) -> None:
        """Say that no frame follows, and wait for the backlog, but not for ever.

        Parameters
        ----------
        within_s
            Seconds for the backlog in place of `finish_s`, where the program is about to be ended: after twice as many
            the denoiser is left behind whatever it does.
        """
        if within_s is not None:
            self._finish_s = within_s
        self._deadline_s = time.perf_counter() + self._finish_s
        self._backlog.put_end(self._deadline_s + self._finish_s, self._thread.is_alive)
        patience_s, finished = 2 * self._finish_s + (20 if within_s is None else 0), -1
        # The frames that were held for the noise estimate come back together, which takes as long as they need.
        while self._thread.is_alive() and finished != (finished := self._steps()):
            self._thread.join(patience_s)
            if within_s is not None:
                break
        if self._thread.is_alive():
            self.problem = f"the denoiser did not come back within {patience_s:g} s and was left behind"
        self.tally.drop("denoiser failed" if self.problem else "end of session", self.tally.left())

    def _steps(self) -> int:
        """Return how many steps the denoiser has finished, 0 for one that does not count them."""
        return int(getattr(self._denoiser, "steps", 0))

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None:
                if isinstance(item, Change):
                    self._drain(item)
                else:
                    self._push(*item)
            self._take(each for each in self._denoiser.flush() if self._held.saw_its_look_ahead(each))
        except Exception as error:  # noqa: BLE001  whatever it was, the raw recording goes on
            self._fail(error)

    def _next(self) -> Waiting | Change | None:
        """Wait for what comes next; of the frames that wait only the newest, where all are hopelessly many.

        While none waits, the outputs of frames that are under way are taken.
        """
        while self._under_way and self._backlog.empty:
            self._take(self._denoiser.collect())
            self._look_at_the_pace()
        item = self._backlog.next()
        while self._pace.hopeless and isinstance(item, tuple) and item[2].change is None:
            some, newer = self._backlog.newer()
            if not some:
                self._pace.passed_over(time.perf_counter())
                break
            self.tally.drop(PASSED_OVER)
            item = newer
        self._pace.hopeless = False
        return item

    @property
    def _under_way(self) -> int:
        """Frames that the denoiser was given and has not answered yet."""
        return int(self._denoiser.under_way) if self._ahead else 0

    def _drain(self, change: Change) -> None:
        for key in self._held.keys:
            self._take(self._denoiser.restart(key, recalibrate=change.recalibrate))

    def _fail(self, error: Exception) -> None:
        from denoscope.runtime import NotFinite

        if self.problem is None:
            what = one_line(error)
            if not isinstance(error, (DenoiserFailed, NotFinite)):
                what = f"{type(error).__name__}: {what}"
            self.problem = f"denoising failed ({what}); the raw recording is not affected"
        self._backlog.clear()  # they are counted at the end; the memory goes

    def _push(self, index: int, frame: Frame, route: Route, queued_s: float) -> None:
        from denoscope.runtime import FrameMeta

        now_s = time.perf_counter()
        if self._deadline_s is not None and now_s > self._deadline_s:
            self._held.leave_out(route)
            return
        lag_s = now_s - frame.t_received_s
        waiting, room = self.waiting
        behind = self._pace.falls_behind(now_s, lag_s, waiting, room, patient=self._backlog.patient)
        skip = "keep-up" if behind else None
        if route.change is not None:
            self._take(self._denoiser.restart(route.key, recalibrate=route.change.recalibrate))
        if route.key not in self._held.keys or (route.change is not None and route.change.recalibrate):
            # A stream that opens and calibrates holds up the others; that is not falling behind either.
            self._held.keys.add(route.key)
            self._pace.starts_anew()
        lag_in_core_s = self._core_lag_s(frame)
        self._held.add(
            Stamp(index, frame.t_received_s, frame.core_unix_s, lag_in_core_s, route.index, frame.tags)
        )
        meta = FrameMeta(
            number=route.number,
            t_received_s=frame.t_received_s,
            key=route.key,
            source_index=index,
        )
        if self._pace.is_steady(frame.t_received_s):
            self.tally.stages["to_queue"].add(queued_s - frame.t_received_s + lag_in_core_s)
            self.tally.stages["queue"].add(now_s - queued_s)
        self._pace.pushed(frame.t_received_s, skips=skip is not None)
        if self._ahead:
            self._take(self._denoiser.begin(frame.pixels, meta, skip=skip))
        else:
            outputs = self._denoiser.push(frame.pixels, meta, skip=skip)
            if self._pace.is_steady(frame.t_received_s):
                self.tally.stages["compute"].add(time.perf_counter() - now_s)
            self._take(outputs)
        self._look_at_the_pace()

    def _look_at_the_pace(self) -> None:
        """Note whether the denoiser is in step with the camera, after each of its answers, and the answers' times."""
        if self._ahead:
            for took in self._denoiser.times():
                if self._pace.is_steady():
                    self.tally.stages["hop_to"].add(took.hop_to_s)
                    self.tally.stages["compute"].add(took.compute_s)
                    self.tally.stages["hop_back"].add(took.hop_back_s)
        self._allow_for_refinement()
        held = self._denoiser.counters.in_flight
        # After the calibration the denoiser works off what it held, until it is in step with the camera
        # or, on a machine that is too slow, the first output is skipped.
        none_left = self._backlog.empty and not self._under_way
        in_step = self._pace.started and held <= self._held.usual and none_left
        if in_step or self._pace.skips:
            self._pace.in_step()

    def _allow_for_refinement(self) -> None:
        """Count as starting up what a stream loses when it encodes its first frames anew, not as falling behind."""
        learned = getattr(self._denoiser, "learned", None)
        refinements = 0 if learned is None else learned().get("intensity_refinements", 0)
        if refinements != self._refinements:
            self._refinements = refinements
            self._pace.starts_anew()

    def _core_lag_s(self, frame: Frame) -> float:
        """Return the seconds a frame lay in the core's buffer, 0 where the clocks cannot be compared."""
        if frame.core_unix_s is not None:
            popped_unix_s = time.time() - (time.perf_counter() - frame.t_received_s)
            lag_s = popped_unix_s - frame.core_unix_s
            if -0.01 < lag_s < _CLOCKS_AGREE_S:
                return max(lag_s, 0.0)
        self.tally.latency_from = "pop"
        return 0.0

    def _take(self, outputs: Iterable[Denoised]) -> None:
        for output in outputs:
            stamp = self._held.take(output)
            if stamp is None:
                raise DenoiserFailed(f"it sent frame {output.meta.number}, which it was not given")
            began_s = time.perf_counter()
            self.tally.nan.add(output.frame)
            self._sink.append(output, stamp)
            self._pace.output()
            now_s = time.perf_counter()
            latency_s = now_s - stamp.t_received_s + stamp.core_lag_s
            # Frames held for calibration, and those behind them, say nothing about the latency of the rest.
            steady = self._pace.is_steady(stamp.t_received_s)
            if steady:
                self.tally.stages["deliver"].add(now_s - began_s)
                self.tally.add_latency(latency_s)
            else:
                self.tally.startup.add(latency_s)
            self.tally.processing.add(output.times.fused - output.times.fuse_start)
            self.tally.emit()
        self.tally.skips(self._denoiser.counters.dropped)
