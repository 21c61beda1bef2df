"""Windows closes a console window, logs off or shuts down: a few seconds remain to end a recording.

Windows tells each program of the console, in a separate thread, and ends the program when the answer comes, or
after 5 s (20 s at a shutdown). Python's own handler answers at once. So the answer has to wait for the recording.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["console_closing"]

_WHY = {2: "the console window was closed", 5: "the user logged off", 6: "the computer was shut down"}
_PATIENCE_S = 30.0  # longer than Windows waits

Handler = Callable[[int], bool]


@contextmanager
def console_closing(listener: Callable[[str], bool]) -> Iterator[None]:
    """Call `listener` with the reason when the console goes; the program lives on until the block is left.

    Parameters
    ----------
    listener
        Called in another thread; returns whether somebody ends what is being done. If nobody does, the program ends
        at once.
    """
    ended = threading.Event()

    def handler(kind: int) -> bool:
        why = _WHY.get(kind)
        if why is None or not listener(why):
            return False  # Ctrl-C and Ctrl-Break are Python's
        ended.wait(_PATIENCE_S)
        return True

    remove = add_handler(handler)
    try:
        yield
    finally:
        ended.set()
        remove()


def add_handler(handler: Handler) -> Callable[[], None]:
    """Have Windows call `handler` before Python's own; return what takes it away. Does nothing elsewhere."""
    if sys.platform != "win32":
        return lambda: None
    kernel: Any = ctypes.WinDLL("kernel32", use_last_error=True)
    called = ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_uint)(lambda kind: int(handler(kind)))
    if not kernel.SetConsoleCtrlHandler(called, 1):
        return lambda: None  # a program without a console

    def remove() -> None:
        kernel.SetConsoleCtrlHandler(called, 0)

    return remove
