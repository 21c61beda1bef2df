"""The raw lane: a bounded queue and a thread that writes, and another place where the disk fails or hangs."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from denoscope.acquisition.contracts import Frame, RawSink
from denoscope.acquisition.errors import one_line
from denoscope.acquisition.processes.looks import Looks
from denoscope.acquisition.raw.confirm import disk_is_full
from denoscope.acquisition.raw.rescue import Rescue
from denoscope.acquisition.raw.unconfirmed import Unconfirmed
from denoscope.runtime import counted

__all__ = ["HANGS_AFTER_S", "RawLane", "frames_that_fit"]

_POLL_S = 0.05
_TAGS_BYTES = 4096  # of a frame of Micro-Manager, as Python holds them
_SAID_AFTER_S = 2.0

HANGS_AFTER_S = {"recording": 60.0, "ending": 60.0, "in a hurry": 2.0}
"""Seconds without an answer to one write after which a disk is given up, while frames have to wait for it.

While recording this is counted from the moment when the queue is full; a source whose frames can wait is not counted.
"""


def frames_that_fit(megabytes: int, frame_bytes: int) -> int:
    """Return how many raw frames may wait for the disk in so many MB, their tags included; four at least."""
    return max(4, megabytes * 2**20 // (frame_bytes + _TAGS_BYTES))


class _Waiting(NamedTuple):
    """Frame that waits to be saved, and whether the recording has it already, unconfirmed."""

    frame: Frame
    in_raw: bool = False


class RawLane:
    """Write raw frames in order, each once, and save those that the disk does not take in another place.

    A write that fails ends the recording; that frame and all that follow go to the rescue folder. So they do where
    the disk gives no answer to a write for too long: the thread that waits for it is left behind, and another one goes
    on. The frame that it waited for is then saved too, and may be in both places.

    Frames that were written stay in memory until the disk has confirmed them, as many as may wait. Where the disk
    fails, hangs, or answers with an error when it is asked to confirm, those that it has not confirmed are saved in
    the other place too.

    Parameters
    ----------
    raw
        Takes every frame; `append`, `sync` and `close` are called by the lane's thread alone.
    room
        Frames that may wait, and as many that may stay in memory until the disk confirms them.
    rescue
        Takes what `raw` does not; None where there is no other place.
    patient
        Whether frames of the source can wait (see `Source.patient`), so that a disk is never given up while recording.
    on_failure
        Called once with a sentence, from the lane's thread, when frames cannot be written any more.
    on_problem
        Called with a sentence about what went wrong at the end.

    Attributes
    ----------
    failed
        Set when frames cannot be written any more.
    hangs
        True once a disk was given up because it did not answer: nobody may touch its files then.
    lost
        Frames that could be saved nowhere.
    in_both
        Frames that are saved in another place because the disk, which has them, did not confirm them.
    """

    def __init__(
        self,
        raw: RawSink,
        room: int,
        *,
        rescue: Rescue | None = None,
        patient: bool = False,
        on_failure: Callable[[str], None],
        on_problem: Callable[[str], None],
    ) -> None:
        self._raw = raw
        self._queue: queue.Queue[Frame | None] = queue.Queue(room)
        self._first: deque[_Waiting] = deque()  # before those of the queue, for the other place
        self._end_read = False  # nothing follows in the queue
        self._errors = 0  # that nobody expected
        self._unconfirmed = Unconfirmed(room)
        self._doubts = 0  # of the disk, that were answered
        self._rescue = rescue
        self._patient = patient
        self._on_failure = on_failure
        self._on_problem = on_problem
        self._lock = threading.Lock()
        self._turn = 0  # 1 once the disk was given up, 2 or more once the other place was
        self._writing: _Waiting | None = None
        self._in_raw = True  # what the thread waits for: the recording, or the other place
        self._raw_closed = False
        self._since_s: float | None = None
        self._seen_s: float | None = None
        self._looks = Looks(_POLL_S)
        self._written: int | None = None  # when the disk was given up
        self._let_go: Callable[[], None] = lambda: None
        self._saved = 0
        self.in_both = 0
        self._ended = threading.Event()
        self.failed = threading.Event()
        self.hangs = False
        self.lost = 0

    def start(self) -> None:
        """Start the thread."""
        self._begin()

    @property
    def size(self) -> tuple[int, int]:
        """Frames that wait, and how many may."""
        return self._queue.qsize(), self._queue.maxsize

    @property
    def written(self) -> int:
        """Frames complete in the recording, without those that had to be saved in another place."""
        return self._reached - self.in_both

    @property
    def unsure(self) -> int:
        """Frames that were written to the recording and neither confirmed nor saved in another place."""
        return max(0, self._reached - self._raw.confirmed - self.in_both)

    @property
    def _reached(self) -> int:
        return self._raw.written if self._written is None else self._written

    @property
    def rescued(self) -> int:
        """Frames that are saved in another place."""
        return self._saved

    @property
    def saves(self) -> bool:
        """True while frames that follow a failure can be saved elsewhere."""
        return self._turn < 2 and self._rescue is not None and self._rescue.problem is None

    @property
    def waits_s(self) -> float:
        """Seconds for which the disk has not answered to one write, 0 for a short time."""
        since_s = self._since_s
        waited_s = 0.0 if since_s is None else time.perf_counter() - since_s
        return waited_s if waited_s > _SAID_AFTER_S else 0.0

    def put(self, frame: Frame | None, moment: Callable[[], str]) -> None:
        """Hand over a frame, or the end; wait for room as long as the disk answers.

        Parameters
        ----------
        frame
            None where none follows.
        moment
            Returns a key of `HANGS_AFTER_S`.
        """
        while True:
            try:
                self._queue.put(frame, timeout=_POLL_S)
            except queue.Full:
                self._look(moment())
                continue
            return

    def finish(self, moment: Callable[[], str]) -> None:
        """Wait until every frame is saved, or the disk is given up."""
        while not self._ended.wait(_POLL_S):
            self._look(moment())

    def _look(self, moment: str) -> None:
        """Give the disk up where it has not answered for too long."""
        since_s = self._since_s
        if since_s is None or since_s != self._seen_s:
            self._seen_s = since_s
            self._looks.begin()
            return
        waited_s = self._looks.look()
        if moment == "recording" and self._patient:
            return
        if waited_s > HANGS_AFTER_S[moment]:
            self._give_up(since_s)

    def _give_up(self, since_s: float) -> None:
        """Leave the thread that waits for the disk, and go on with another one."""
        with self._lock:
            if self._since_s != since_s:  # it has answered in this moment
                return
            given, in_raw = self._writing, self._in_raw
            self._turn = max(self._turn + 1, 1 if in_raw else 2)  # the other place is never taken up again
            self._writing = self._since_s = None
            if in_raw:
                self._written, self.hangs = self._raw.written, True
                self._let_go = self._raw.abandon()
                self._save_unconfirmed()
            if given is not None and self._turn == 1:
                self._first.append(given)
        what = "writing" if given is not None else "confirming"
        if in_raw:
            say = self._on_problem if self.failed.is_set() else self._on_failure
            self.failed.set()
            written = counted(self._reached, "frame is", "frames are")
            say(
                f"the disk did not answer for {self._looks.waited_s:.0f} s while {what} raw frames and was given up; "
                f"{written} complete there, if it still writes what it was given"
            )
        else:
            self._on_problem(
                f"the other place did not answer for {self._looks.waited_s:.0f} s while {what} raw frames and was "
                "given up"
            )
        if given is not None and self._turn > 1:  # the other place takes nothing more, either
            self.lost += not given.in_raw
        self._begin()

    def _begin(self) -> None:
        threading.Thread(target=self._run, args=(self._turn,), name="denoscope-raw", daemon=True).start()

    # -- the lane's thread

    def _run(self, turn: int) -> None:
        """Save all frames; whatever goes wrong in this thread, the session waits for its end."""
        goes_on = True
        while goes_on:
            goes_on = False
            try:
                self._save_all(turn)
            except Exception as error:  # noqa: BLE001  what follows is saved elsewhere
                goes_on = self._broke(turn, error)

    def _broke(self, turn: int, error: Exception) -> bool:
        """Go on in the other place after an error that nobody expected; return False where nothing is left to do.

        After the first error its frame, and those that the disk has not confirmed, are saved there. The frame of a
        later error is lost.
        """
        with self._lock:
            if turn != self._turn:
                return False
            given, self._writing, self._since_s = self._writing, None, None
            self._errors += 1
            if self._errors == 1:
                kept = self._unconfirmed.take(self._raw.confirmed)
                again = [_Waiting(frame, in_raw=True) for frame in kept] + ([] if given is None else [given])
                self._first.extendleft(reversed(again))
            elif given is not None:
                self.lost += not given.in_raw
        if self._errors == 1:
            say = self._on_problem if self.failed.is_set() else self._on_failure
            self.failed.set()
            say(f"saving raw frames failed after {counted(self._raw.written, 'frame')} ({one_line(error)})")
        elif self._errors == 2:
            self._on_problem(f"saving raw frames elsewhere failed ({one_line(error)})")
        if given is None and self._end_read and self._errors > 1:
            self._ended.set()
            return False
        return True

    def _save_all(self, turn: int) -> None:
        while (given := self._next()) is not None:
            if not self._save(turn, given):
                return
        if not self._waits_for(turn, self._confirm):
            return
        while self._first:  # what the disk did not confirm
            if not self._save(turn, self._first.popleft()):
                return
        if self._waits_for(turn, self._close):
            self._ended.set()

    def _save(self, turn: int, given: _Waiting) -> bool:
        """Save a frame; return False where the disk was given up meanwhile."""
        with self._lock:
            self._in_raw = not given.in_raw and not self.failed.is_set()
            self._writing, self._since_s = given, time.perf_counter()
        return self._answered(turn, given, self._write(turn, given))

    def _waits_for(self, turn: int, action: Callable[[int], None]) -> bool:
        """Do what ends a recording; return False where the disk was given up meanwhile."""
        with self._lock:
            self._since_s = time.perf_counter()
        action(turn)
        return self._answered(turn, None, None)

    def _next(self) -> _Waiting | None:
        if self._first:
            return self._first.popleft()
        frame = None if self._end_read else self._queue.get()
        self._end_read = frame is None
        return None if frame is None else _Waiting(frame)

    def _answered(self, turn: int, given: _Waiting | None, saved: bool | None) -> bool:
        """Note that a disk has answered; return False where it had been given up, and close its files then."""
        with self._lock:
            if turn == self._turn:
                self._writing = self._since_s = None
                if given is not None and saved is None:
                    self._keep(given.frame)
                elif given is not None and saved is not None:
                    self._saved += saved
                    self.in_both += saved and given.in_raw
                    self.lost += not saved and not given.in_raw
                return True
        with suppress(OSError):  # the frame is saved elsewhere
            self._let_go()
        return False

    def _keep(self, frame: Frame) -> None:
        """Keep a frame that was written until the disk confirms it."""
        if self._rescue is None or self.failed.is_set():
            return
        self._unconfirmed.add(frame, self._raw.written)
        # What the disk was given before it answered with an error may be gone, whatever it confirms later.
        if self._raw.doubts > self._doubts:
            self._doubts = self._raw.doubts
            self._save_unconfirmed()
        self._unconfirmed.let_go(self._raw.confirmed)

    def _save_unconfirmed(self) -> None:
        """Save what the disk has not confirmed in the other place, before all that follows."""
        kept = self._unconfirmed.take(self._raw.confirmed)
        self._first.extend(_Waiting(frame, in_raw=True) for frame in kept)

    def _write(self, turn: int, given: _Waiting) -> bool | None:
        """Write a frame; return whether it was saved elsewhere, None where it was not needed yet."""
        if not self.failed.is_set() and not given.in_raw:
            before = self._raw.written
            try:
                self._raw.append(given.frame)
            except Exception as error:  # noqa: BLE001  the frames that follow are saved elsewhere
                self._fail(turn, given.frame, error, before)
            return None
        with self._lock:
            if turn != self._turn:  # given up in this moment: another thread has the frame now
                return None
            self._in_raw = False
        return self.saves and self._rescue is not None and self._rescue.append(given.frame)

    def _fail(self, turn: int, frame: Frame, error: Exception, before: int) -> None:
        """Say that a frame could not be written, and have it and all that the disk does not confirm saved elsewhere."""
        if turn != self._turn:
            return
        self.failed.set()
        written = self._raw.written
        self._on_failure(
            f"writing raw frame {written} failed ({one_line(error)}); "
            f"{_before_it(error, written, self._raw.confirmed)}"
        )
        with suppress(Exception):  # a full disk confirms what it took, one that is gone does not
            self._raw.sync()
        with self._lock:
            if turn != self._turn:
                return
            reached = written > before  # the disk refused to confirm what was written earlier
            if reached:
                self._unconfirmed.add(frame, written)
            self._save_unconfirmed()
            if not reached:
                self._first.append(_Waiting(frame))

    def _confirm(self, turn: int) -> None:
        """Have the disk confirm what it has; what it answers with an error about is to be saved elsewhere."""
        if self.hangs or self._raw_closed:
            return
        self._in_raw = True
        answered = self._try("the disk did not confirm the last second of raw data", self._raw.sync)
        with self._lock:
            if turn != self._turn or self.failed.is_set():
                return
            if not answered or self._raw.doubts > self._doubts:
                self._save_unconfirmed()

    def _close(self, turn: int) -> None:
        """Close the files of the disks that answer, once the other place has confirmed what it has."""
        if not self.hangs and not self._raw_closed:
            self._in_raw = self._raw_closed = True
            self._try("the raw recording could not be finished", self._raw.close)
        self._in_raw = False
        if turn == self._turn < 2 and self._rescue is not None:
            self._try("the disk did not confirm the last second of the saved frames", self._rescue.close)

    def _try(self, what: str, action: Callable[[], None]) -> bool:
        try:
            action()
        except Exception as error:  # noqa: BLE001  the end of the recording waits for this thread
            self._on_problem(f"{what}: {one_line(error)}")
            return False
        return True


def _before_it(error: Exception, written: int, confirmed: int) -> str:
    """Return what is known of the frames before the one that failed.

    A full disk keeps what it took. One that was pulled out, or a share that went away, has what it confirmed.
    """
    if confirmed >= written or (isinstance(error, OSError) and disk_is_full(error)):
        return f"{counted(written, 'frame before it is', 'frames before it are')} complete"
    return f"of {counted(written, 'frame')} before it the disk had confirmed {confirmed}"
