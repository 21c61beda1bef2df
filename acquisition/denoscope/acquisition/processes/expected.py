"""Wait for what comes soon or at regular times, looking without a pause for a short and bounded time.

A processor that rests takes 30 to 100 microseconds to wake up for a message. Whoever is looking when the message comes
saves them. After looks in vain fewer and fewer follow: on a busy computer a wait that gives the processor away is
better for both sides.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable

__all__ = ["LOOK_S", "Glance", "Rhythm", "looks_pay"]

LOOK_S = 200e-6
"""Seconds for which an answer is looked for."""

_MOST_LEFT_OUT = 63
_INTERVALS = 9  # of which the middle one counts
_LEAST_S, _MOST_S = 30e-6, 300e-6  # of looking before a message is due
_SHARE = 0.05  # of the interval that this may be
_LONGEST_S = 0.1  # between messages; for slower ones a wake-up does not matter
_WEIGHT = 1 / 8  # of the newest delay


def looks_pay() -> bool:
    """Return whether two processors or more are there: with one, nothing happens while it is looked for."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0)) > 1
    return (os.cpu_count() or 1) > 1


class Glance:
    """Look for something, where that pays: after looks in vain, less and less often."""

    def __init__(self) -> None:
        self._leave_out = self._left = 0

    def leaves_out(self) -> bool:
        """Count an occasion to look; return whether it is one that is left out."""
        if self._left:
            self._left -= 1
            return True
        return False

    def until(self, holds: Callable[[], bool], until_s: float) -> bool:
        """Look until a time of `time.perf_counter`, letting other threads run; return whether it holds."""
        while not (seen := holds()) and time.perf_counter() < until_s:
            time.sleep(0)
        self._leave_out = 0 if seen else min(2 * self._leave_out + 1, _MOST_LEFT_OUT)
        self._left = self._leave_out
        return seen


class Rhythm:
    """Time at which the next of regular messages is due, from the times at which those before it were sent."""

    def __init__(self) -> None:
        self._last_s = -math.inf
        self._intervals_s: deque[float] = deque(maxlen=_INTERVALS)
        self._late_s = 0.0  # by which waits end too late
        self._until_s = 0.0
        self._glance = Glance()

    def note(self, sent_s: float) -> None:
        """Note when a message was sent."""
        self._intervals_s.append(sent_s - self._last_s)
        self._last_s = sent_s

    def nears(self, wait: Callable[[float], bool]) -> bool:
        """Wait until a message is nearly due; return False where one came before, or none is expected.

        Parameters
        ----------
        wait
            Waits for a message, for so many seconds at most; returns whether one came.
        """
        intervals_s = sorted(self._intervals_s)
        if len(intervals_s) < _INTERVALS:
            return False
        middle = _INTERVALS // 2
        interval_s = intervals_s[middle]
        apart_s = sorted(abs(each - interval_s) for each in intervals_s)[middle]
        early_s = max(_LEAST_S, 3 * apart_s)
        if interval_s > _LONGEST_S or early_s > min(_MOST_S, _SHARE * interval_s):
            return False
        if self._glance.leaves_out():
            return False
        due_s = self._last_s + interval_s
        begins_s, self._until_s = due_s - early_s, due_s + early_s
        left_s = begins_s - self._late_s - time.perf_counter()
        if left_s > 0:
            came = wait(left_s)
            late_s = time.perf_counter() - begins_s
            if late_s > 0 or not came:
                self._late_s = min(self._late_s + _WEIGHT * late_s, _MOST_S)
            return not came
        return True

    def look(self, holds: Callable[[], bool]) -> bool:
        """Look until the message that `nears` is overdue; return whether it came."""
        return self._glance.until(holds, self._until_s)
