r"""A live session: source, raw recording and denoising lane, each on its own thread.

::

    core's buffer -> pop thread -> bounded raw queue (blocking put)      -> raw writer thread
                               \-> bounded denoise queue (never blocks) -> denoise thread -> denoised writer

A slow disk lets the raw queue fill, then the core's buffer, which ends loudly when it overflows. A disk that fails
or hangs ends the recording, and what it did not take is saved in another place (`RawLane`). A
slow or failed denoiser costs denoised frames, counted with their reason, and nothing else.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from denoscope.acquisition.contracts import Frame, RawSink, number_step
from denoscope.acquisition.errors import one_line
from denoscope.acquisition.lane.lane import DenoiseLane
from denoscope.acquisition.lane.latency import Rate
from denoscope.acquisition.raw.plain_tags import odd_tags_words, plain_tags
from denoscope.acquisition.raw.rescue import Rescue
from denoscope.acquisition.raw.writer import RAW_MOVIE
from denoscope.acquisition.session.states import FinishReason, SessionState, SessionStatus
from denoscope.acquisition.sources import Source
from denoscope.runtime import counted

from .raw_lane import RawLane

__all__ = ["Session"]

_IDLE_S = 0.001
# A source that hands on nothing for so long has nothing left.
_LEFT_S = 5.0


class Session:
    """Record until the source ends, a limit is reached or somebody asks it to stop.

    Parameters
    ----------
    source
        Opened, not started.
    raw
        Takes every frame.
    lane
        Takes every frame too, but may refuse.
    frames
        Number of frames after which to stop, or None.
    raw_queue_frames
        Frames that may wait for the disk.
    rescue
        Takes the raw frames that the disk does not; None where they are lost then.

    Attributes
    ----------
    hurries
        Set where the user asks a second time for the end: a disk that hangs is then given up after two seconds.
    """

    def __init__(
        self,
        source: Source,
        raw: RawSink,
        lane: DenoiseLane,
        *,
        frames: int | None,
        raw_queue_frames: int,
        rescue: Rescue | None = None,
    ) -> None:
        self._source = source
        self._lane = lane
        self._frames = frames
        self._rescue = rescue
        self._raw_lane = RawLane(
            raw,
            raw_queue_frames,
            rescue=rescue,
            patient=source.patient,
            on_failure=lambda problem: self._end(FinishReason.RAW_WRITE_FAILED, problem),
            on_problem=lambda problem: self._end(FinishReason.RAW_WRITE_FAILED, problem),
        )
        self.hurries = False
        self._lock = threading.Lock()
        self._state = SessionState.NEW
        self._reason: FinishReason | None = None
        self._problems: list[str] = []
        self._received = 0
        self._missing = 0
        self._pauses: list[dict[str, float | int | None]] = []
        self._numbers: dict[str, int] = {}
        self._left_in_core = 0
        self._no_pictures: list[tuple[int, str]] = []
        self._odd_tags: str | None = None
        self._started_s = 0.0
        self._stopped_s: float | None = None
        self._done = threading.Event()
        self._rate_in, self._rate_out = Rate(), Rate()
        self._thread = threading.Thread(target=self._pop, name="denoscope-pop", daemon=True)

    @property
    def left_in_core(self) -> int:
        """Frames that were still in the core's buffer when the session could not take more."""
        return self._left_in_core

    def start(self) -> None:
        """Arm the camera and start the threads; where the source refuses, no thread was started."""
        self._source.start()
        self._lane.start()
        self._raw_lane.start()
        self._started_s = time.perf_counter()
        self._state = SessionState.RECORDING
        self._thread.start()

    @property
    def pauses(self) -> list[dict[str, float | int | None]]:
        """Each pause: ``start_frame``, ``start_s``, ``end_frame``, ``end_s``; the end None while it lasts."""
        with self._lock:
            return [dict(pause) for pause in self._pauses]

    def pause(self) -> bool:
        """Write raw frames only, until `resume`; return whether it was recording.

        What the denoiser holds is denoised; each further frame is counted as ``paused``.
        """
        with self._lock:
            if self._state is not SessionState.RECORDING:
                return False
            self._state = SessionState.PAUSED
            self._pauses.append(
                {
                    "start_frame": self._received,
                    "start_s": self._elapsed_s(),
                    "end_frame": None,
                    "end_s": None,
                }
            )
        self._lane.pause()
        return True

    def resume(self) -> bool:
        """Denoise again, the window and the memory anew; return whether it was paused."""
        with self._lock:
            if self._state is not SessionState.PAUSED:
                return False
            self._state = SessionState.RECORDING
            self._end_pause()
        self._lane.resume()
        return True

    def _end_pause(self) -> None:
        if self._pauses and self._pauses[-1]["end_s"] is None:
            self._pauses[-1].update(end_frame=self._received, end_s=self._elapsed_s())

    def _elapsed_s(self) -> float:
        end_s = self._stopped_s if self._stopped_s is not None else time.perf_counter()
        return end_s - self._started_s if self._started_s else 0.0

    def request_stop(self, reason: FinishReason) -> None:
        """Ask for a clean end; what is buffered is still recorded. The first reason counts."""
        with self._lock:
            self._reason = self._reason or reason

    def stop_for(self, reason: FinishReason, problem: str) -> None:
        """Ask for a clean end because of `problem`, unless it already ends."""
        with self._lock:
            if self._reason is None:
                self._reason = reason
                self._problems.append(problem)

    def wait(self, timeout_s: float) -> bool:
        """Wait until recording has ended; return whether it has. `finish` must follow."""
        return self._done.wait(timeout_s)

    def finish(self, within_s: float | None = None) -> SessionStatus:
        """Wait for the lane's backlog, so many seconds where given, and return the last snapshot."""
        self._done.wait()
        self._lane.finish(within_s)
        self._state = SessionState.FINISHED
        return self.status()

    @property
    def queues(self) -> dict[str, tuple[int, int]]:
        """Frames that wait for the disk and for the denoiser, and how many may."""
        return {"raw": self._raw_lane.size, "denoise": self._lane.waiting}

    @property
    def disk_hangs(self) -> bool:
        """True once the disk was given up because it did not answer: nobody may touch its files then."""
        return self._raw_lane.hangs

    @property
    def rescue_folder(self) -> Path | None:
        """Folder with the raw frames that the disk did not take; None where it took all, or nothing else did."""
        return None if self._rescue is None else self._rescue.folder

    def add_problem(self, problem: str) -> None:
        """Record what went wrong beside the session; it ends degraded."""
        with self._lock:
            self._problems.append(problem)

    def status(self) -> SessionStatus:
        """Return a snapshot; may be called from any thread."""
        now_s = time.perf_counter()
        emitted, dropped = self._lane.counts()
        received = self._received
        problems = [*self._problems]
        if self._lane.problem:
            problems.append(self._lane.problem)
        return SessionStatus(
            state=self._state,
            reason=self._reason,
            elapsed_s=self._elapsed_s(),
            received=received,
            written_raw=self._raw_lane.written,
            rescued_raw=self._raw_lane.rescued,
            emitted=emitted,
            dropped=dropped,
            in_flight=max(0, received - emitted - sum(dropped.values())),
            missing=self._missing,
            fps_in=self._rate_in.sample(now_s, received),
            fps_out=self._rate_out.sample(now_s, emitted),
            latency_s=self._lane.tally.latency.quantiles_s(),
            problems=tuple(problems),
            busy_s=self._source.busy_s if self._stopped_s is None else 0.0,
            disk_wait_s=self._raw_lane.waits_s,
        )

    # -- pop thread

    def _pop(self) -> None:
        try:
            self._pop_all()
            if self._source.overflowed():
                self._end(
                    FinishReason.CORE_OVERFLOW,
                    f"the core's buffer overflowed and the camera stopped after {counted(self._received, 'frame')}, "
                    f"all of which are recorded; {self._source.overflow_remedy}",
                )
        except Exception as error:  # noqa: BLE001  whatever the driver raised, what was received is kept
            self._end(
                FinishReason.SOURCE_FAILED,
                f"the source failed after {counted(self._received, 'frame')}: {one_line(error)}",
            )
        finally:
            self.request_stop(FinishReason.SOURCE_ENDED)
            self._say_what_was_odd()
            self._stopping()
            self._stopped_s = time.perf_counter()
            self._raw_lane.put(None, self._moment)
            self._raw_lane.finish(self._moment)
            self._say_where_frames_are()
            self._done.set()

    def _pop_all(self) -> None:
        stopped = False
        while not self._raw_lane.failed.is_set() or self._raw_lane.saves:
            if self._reason is not None and not stopped:
                self._stopping()
                self._source.stop()
                stopped = True
            frame = self._source.pop()
            if frame is None:
                if self._source.finished():
                    return
                time.sleep(_IDLE_S)
                continue
            self._take(frame)
            if self._received == self._frames:
                self.request_stop(FinishReason.FRAMES_REACHED)
                self._source.stop()
                return
        self._source.stop()
        self._left_in_core = self._count_left()

    def _say_what_was_odd(self) -> None:
        if self._odd_tags is not None:
            self.add_problem(self._odd_tags)
        if count := len(self._no_pictures):
            after, why = self._no_pictures[0]
            self.add_problem(
                f"{counted(count, 'thing was sent that is no picture', 'things were sent that are no pictures')}, "
                f"the first after {counted(after, 'frame')} ({why}); nothing of that kind can be recorded, and the "
                "recording went on"
            )

    def _stopping(self) -> None:
        with self._lock:
            self._state = SessionState.STOPPING
            self._end_pause()

    def _count_left(self) -> int:
        count, deadline_s = 0, time.perf_counter() + _LEFT_S
        while time.perf_counter() < deadline_s:
            if self._source.pop() is not None:
                count, deadline_s = count + 1, time.perf_counter() + _LEFT_S
            elif self._source.finished():
                break
            else:
                time.sleep(_IDLE_S)
        return count

    def _take(self, frame: Frame) -> None:
        if (why := _no_picture(frame.pixels)) is not None:
            self._no_pictures.append((self._received, why))
            return
        tags, failed = plain_tags(frame.tags)
        if failed is not None:
            self._odd_tags = self._odd_tags or odd_tags_words(self._received, failed)
        time_s = frame.core_unix_s
        known = time_s is not None and math.isfinite(time_s)
        frame = replace(frame, tags=tags, core_unix_s=time_s if known else None)
        last = self._numbers.get(frame.camera)
        if last is not None:
            self._missing += (number_step(last, frame.number) or 1) - 1
        self._numbers[frame.camera] = frame.number
        index = self._received
        self._received += 1
        self._raw_lane.put(frame, self._moment)
        self._lane.offer(index, frame, wait=self._source.patient)

    def _moment(self) -> str:
        """Return how long the disk may take, as a key of `HANGS_AFTER_S`."""
        if self._reason is None:
            return "recording"
        return "in a hurry" if self.hurries else "ending"

    def _say_where_frames_are(self) -> None:
        """Say what became of the raw frames that the disk did not take."""
        lane, folder = self._raw_lane, self.rescue_folder
        if lane.rescued:
            twice = lane.in_both + lane.hangs
            first = "the first of them" if twice < 2 else f"the first {twice}"
            both = f", and {first} may be in both places" if twice else ""
            are = counted(lane.rescued, "raw frame is", "raw frames are")
            self.add_problem(
                f"{are} saved in {folder}, a separate recording, because the disk did not confirm them{both} "
                f"(denoscope denoise {folder})"
            )
        if lane.failed.is_set() and lane.unsure:
            were = counted(lane.unsure, "raw frame was", "raw frames were")
            self.add_problem(
                f"{were} written before and neither confirmed by the disk nor saved elsewhere; look into {RAW_MOVIE} "
                "when the disk is there again"
            )
        if lane.lost:
            why = "" if self._rescue is None or self._rescue.problem is None else f" ({self._rescue.problem})"
            self.add_problem(
                f"{counted(lane.lost, 'raw frame that followed is', 'raw frames that followed are')} lost, because "
                f"nothing else took them{why}"
            )

    def _end(self, reason: FinishReason, problem: str) -> None:
        with self._lock:
            # Worse than any reason that was given before.
            self._reason = reason
            self._problems.append(problem)


def _no_picture(pixels: object) -> str | None:
    """Return why pixels cannot be a page of a recording, None where they can."""
    if not isinstance(pixels, np.ndarray):
        return f"a {type(pixels).__name__}"
    if pixels.ndim == 2 and pixels.size and pixels.dtype.kind in "uif":
        return None
    return f"{pixels.dtype} values of shape {' x '.join(map(str, pixels.shape)) or 'a single number'}"
