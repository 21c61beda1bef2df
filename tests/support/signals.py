"""Signals that a test sends to its own process."""

from __future__ import annotations

import signal
import threading

__all__ = ["raise_signal"]


def raise_signal(number: int) -> None:
    """Send a signal to this process, and return once its handler was called in the main thread.

    Another thread receives it: faulthandler gives the main thread a small stack for signals, and a worker that got one
    there has died of a segmentation fault without a trace.
    """
    sender = threading.Thread(target=signal.raise_signal, args=(number,))
    sender.start()
    sender.join()
