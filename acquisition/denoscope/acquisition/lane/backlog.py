"""Frames that wait for the denoiser, and frames that it holds."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from denoscope.acquisition.contracts import Frame, Stamp
from denoscope.acquisition.denoisers.routing import Change, Route

if TYPE_CHECKING:
    from denoscope.runtime import Denoised, StreamKey

__all__ = ["Backlog", "HeldFrames", "Waiting"]

_PATIENCE_S = 10.0  # a denoiser that takes no frame for so long is not waited for any more
# More than any window and calibration hold; stamps older than this belong to skipped outputs.
_STAMPS = 4096

Waiting = tuple[int, Frame, Route, float]  # its page, the frame, its stream, when it was queued


class Backlog:
    """Frames and changes that wait for the denoiser, in order.

    Parameters
    ----------
    room
        Frames that may wait.

    Attributes
    ----------
    patient
        True where the source waits for room.
    """

    def __init__(self, room: int) -> None:
        self._queue: queue.Queue[Waiting | Change | None] = queue.Queue(room)
        self._hangs = False  # the denoiser took nothing for as long as was waited
        self.patient = False

    @property
    def size(self) -> tuple[int, int]:
        """Frames that wait, and how many may."""
        return self._queue.qsize(), self._queue.maxsize

    @property
    def empty(self) -> bool:
        """True where none waits."""
        return self._queue.empty()

    def put(self, frame: Waiting, *, wait: bool) -> bool:
        """Let a frame wait; return False where there is no room.

        Parameters
        ----------
        frame
            What waits.
        wait
            Wait for room, unless the denoiser stands still.
        """
        self.patient = wait
        patience_s = _PATIENCE_S if wait and not self._hangs else 0.0
        try:
            self._queue.put(frame, patience_s > 0, patience_s)
        except queue.Full:
            self._hangs = wait
            return False
        self._hangs = False
        return True

    def put_change(self, change: Change) -> None:
        """Let a change wait, where there is room."""
        with suppress(queue.Full):
            self._queue.put_nowait(change)

    def put_end(self, until_s: float, is_read: Callable[[], bool]) -> None:
        """Say that nothing follows, as soon as there is room; give up at a time of `time.perf_counter`."""
        while is_read():
            try:
                self._queue.put(None, timeout=0.1)
            except queue.Full:
                if time.perf_counter() > until_s:
                    return
            else:
                return

    def next(self) -> Waiting | Change | None:
        """Wait for what comes next; None at the end."""
        return self._queue.get()

    def newer(self) -> tuple[bool, Waiting | Change | None]:
        """Return whether anything waits, and what comes next."""
        try:
            return True, self._queue.get_nowait()
        except queue.Empty:
            return False, None

    def clear(self) -> None:
        """Let go of all that waits."""
        while self.newer()[0]:
            pass


class HeldFrames:
    """Frames that the denoiser holds.

    Parameters
    ----------
    look_ahead
        Frames that it holds when it is in step with the camera.

    Attributes
    ----------
    keys
        Streams of which it was given frames.
    """

    def __init__(self, look_ahead: int) -> None:
        self._look_ahead = look_ahead
        self._stamps: dict[int, Stamp] = {}  # by their page
        self._left_out: dict[StreamKey, int] = {}  # number of the first frame left at the deadline
        self.keys: set[StreamKey] = set()

    @property
    def usual(self) -> int:
        """Frames that it holds when it is in step with the camera, of all streams together."""
        return self._look_ahead * len(self.keys)

    def add(self, stamp: Stamp) -> None:
        """Note a frame that it is given."""
        self._stamps[stamp.index] = stamp
        if len(self._stamps) > _STAMPS:
            del self._stamps[next(iter(self._stamps))]

    def take(self, output: Denoised) -> Stamp | None:
        """Return place and time of an output's frame, None for a frame that it was not given."""
        index = output.meta.source_index
        return None if index is None else self._stamps.pop(index, None)

    def leave_out(self, route: Route) -> None:
        """Note that a frame is not given to it any more, nor those that follow."""
        self._left_out.setdefault(route.key, route.number)

    def saw_its_look_ahead(self, output: Denoised) -> bool:
        """Return whether no frame that an output waited for was left out; `fill_run` computes such outputs."""
        first = self._left_out.get(output.meta.key)
        return first is None or output.meta.number + self._look_ahead < first
