"""Priority of this process, on Linux and Windows: who comes last, and who goes first where memory runs out."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["come_last", "go_first"]

_IDLE_PRIORITY_CLASS = 0x40
_NICEST = 19


def come_last() -> None:
    """Compute only with what all other programs leave of the processors.

    Threads that this process starts afterwards come last too.
    """
    if sys.platform == "win32":
        import ctypes
        from ctypes import wintypes

        kernel = ctypes.WinDLL("kernel32")
        kernel.GetCurrentProcess.restype = wintypes.HANDLE
        kernel.SetPriorityClass.argtypes = (wintypes.HANDLE, wintypes.DWORD)
        kernel.SetPriorityClass(kernel.GetCurrentProcess(), _IDLE_PRIORITY_CLASS)
        return
    os.nice(_NICEST)
    if sys.platform == "linux":
        with suppress(OSError):  # not allowed in some containers; the line above counts then
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def go_first(score: int) -> None:
    """Ask Linux to end this process rather than others where memory runs out.

    Parameters
    ----------
    score
        0 for as all others, 1000 for the first of all.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # not allowed here; nothing depends on it
            Path("/proc/self/oom_score_adj").write_text(f"{score}", encoding="ascii")
