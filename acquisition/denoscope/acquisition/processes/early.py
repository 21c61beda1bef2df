"""Say that something comes before all of it is there, so that the other process wakes up meanwhile.

::

    this process     announce (pipe) | copy the last bytes | count them (shared memory)
    the other one    .... wakes up ....                    | sees the count, goes on

A processor that rests takes about as long to wake up as a picture of 512 x 512 takes to be copied. Whoever was woken
looks at the count for at most `LOOK_S` without a pause, and then in pauses that grow; where this process dies, the
count never comes, so half a picture is never taken for a whole one.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["LAST_BYTES", "LOOK_S", "Glance", "announces_early", "copy_but_last", "copy_last"]

LOOK_S = 200e-6
"""Seconds for which a count is looked at without a pause."""

LAST_BYTES = 1 << 19
"""Bytes that are copied after the announcement: about what is copied while a processor wakes up."""

_MOST_LEFT_OUT = 63
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 50e-6, 5e-3
# What one processor writes, another sees in the same order; elsewhere a count could be seen before the bytes.
_IN_ORDER = frozenset({"x86_64", "amd64", "i386", "i686", "x86"})


def announces_early() -> bool:
    """Return whether it helps and is safe: two processors or more, of a kind that keeps the order of writes."""
    if sys.platform == "linux":
        processors = len(os.sched_getaffinity(0))
    else:
        processors = os.cpu_count() or 1
    return processors > 1 and platform.machine().lower() in _IN_ORDER


def copy_but_last(
    target: npt.NDArray[Any], source: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Copy an image but for its last rows; return target and source of those, which take as long as a wake-up.

    Parameters
    ----------
    target, source
        (H, W), of one dtype.
    """
    first = max(0, len(target) - max(1, LAST_BYTES // max(1, target[:1].nbytes)))
    if first:
        np.copyto(target[:first], source[:first])
    return target[first:], source[first:]


def copy_last(target: npt.NDArray[Any], source: npt.NDArray[Any]) -> None:
    """Copy what `copy_but_last` left, after it was announced."""
    np.copyto(target, source)


class Glance:
    """Look at a count without a pause, where that pays: after looks in vain, less and less often.

    Where processors are busy with other things, whoever is waited for does not run at once; then a wait that gives the
    processor away is better for both.
    """

    def __init__(self) -> None:
        self._leave_out = self._left = 0

    def soon(self, holds: Callable[[], bool]) -> bool:
        """Look for at most `LOOK_S`, letting other threads run; return whether it holds."""
        if self._left:
            self._left -= 1
            return holds()
        until_s = time.perf_counter() + LOOK_S
        while not (seen := holds()) and time.perf_counter() < until_s:
            time.sleep(0)
        self._leave_out = 0 if seen else min(2 * self._leave_out + 1, _MOST_LEFT_OUT)
        self._left = self._leave_out
        return seen

    def wait(self, holds: Callable[[], bool], goes_on: Callable[[], bool] = lambda: True) -> bool:
        """Wait until it holds, without a pause at first; return False where `goes_on` ends before.

        Parameters
        ----------
        holds
            Looked at in pauses that grow to 5 ms.
        goes_on
            Asked at each pause.
        """
        if holds() or self.soon(holds):
            return True
        pause_s = _FIRST_PAUSE_S
        while not holds():
            if not goes_on():
                return holds()  # what was done before the end counts
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return True
