"""Whose sequence runs in another program's core: told by the numbers and times of its frames."""

from __future__ import annotations

import time
from collections import deque

from denoscope.acquisition.contracts import Frame, number_step

__all__ = ["Sequence", "is_another"]

# The sequence's beginning, by two frames' own times, moves by less than this while it is the same sequence.
_SAME_SEQUENCE_S = 0.5
# The core writes local time without a zone: an hour is there twice when summer time ends.
_SUMMER_TIME_S = 3600.0
_CLOCKS = 64


class Sequence:
    """The sequence that was started here.

    Attributes
    ----------
    stands_still
        True once it is over.
    foreign
        True once another program has started one after it.
    asked
        True once it was asked to stop.
    ended_by_itself
        True where it ended before that.
    interval_s
        Time from one frame to the next, by the frames' own times.
    """

    def __init__(self) -> None:
        self.stands_still = False
        self.foreign = False
        self.asked = False
        self.ended_by_itself = False
        self.interval_s = 0.1
        self._last: dict[str, tuple[int, float | None]] = {}
        self._made_s: float | None = None
        # Seconds since 1970 less those of the clock that nobody sets: once more each time that the date was set.
        self._clocks: deque[float] = deque(maxlen=_CLOCKS)

    def owns(self, frame: Frame) -> bool:
        """Return whether a frame that was popped belongs to it, and remember the frame; False from then on."""
        if self.foreign:
            return False
        now = frame.number, _beginning(frame)
        last = self._last.get(frame.camera)
        if last is not None and is_another(last, now, self._clock_moves()):
            self.foreign = True
            return False
        if frame.core_unix_s is not None:
            if self._made_s is not None:
                self.interval_s = max(0.0, frame.core_unix_s - self._made_s)
            self._made_s = frame.core_unix_s
        self._last[frame.camera] = now
        return True

    def begun(self) -> bool:
        """Return whether a frame of it was seen."""
        return bool(self._last)

    def is_foreign(self, newest: Frame) -> bool:
        """Return whether the core's newest frame, which was not popped, is of another sequence.

        Its number alone does not say so: another sequence may have run for longer than this one.
        """
        last, now = self._last.get(newest.camera), (newest.number, _beginning(newest))
        if last is None:
            return False
        moves = self._clock_moves()
        if now[0] == last[0]:  # perhaps the one that was popped last
            return None not in (last[1], now[1]) and is_another((now[0] - 2, last[1]), now, moves)
        return is_another(last, now, moves)

    def _clock_moves(self) -> tuple[float, ...]:
        """Return the seconds by which this computer's date was set ahead since the sequence began."""
        clock_s = time.time() - time.perf_counter()
        if not self._clocks or abs(clock_s - self._clocks[-1]) > _SAME_SEQUENCE_S / 2:
            self._clocks.append(clock_s)
        return tuple(clock_s - before_s for before_s in self._clocks)


def _beginning(frame: Frame) -> float | None:
    """Return when the frame's sequence began, in seconds since 1970, by its own tags."""
    if frame.core_unix_s is None:
        return None
    try:
        elapsed_ms = float(frame.tags["ElapsedTime-ms"])
    except (KeyError, TypeError, ValueError):
        return None
    return frame.core_unix_s - elapsed_ms / 1000 if elapsed_ms > 0 else None


def is_another(
    last: tuple[int, float | None], now: tuple[int, float | None], clock_moves_s: tuple[float, ...] = ()
) -> bool:
    """Say whether two frames of one camera, one popped after the other, are of different sequences.

    Parameters
    ----------
    last, now
        Number of the frame, and beginning of its sequence in seconds since 1970, None where unknown.
    clock_moves_s
        Seconds by which that clock may have been set ahead between the two.
    """
    step = number_step(last[0], now[0])
    if step is None:
        return True
    if step == 1 or last[1] is None or now[1] is None:
        return False
    moved_s = now[1] - last[1]
    known_s = (0.0, _SUMMER_TIME_S, -_SUMMER_TIME_S, *clock_moves_s)
    return all(abs(moved_s - each_s) > _SAME_SEQUENCE_S for each_s in known_s)
