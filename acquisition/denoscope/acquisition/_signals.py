"""Ctrl-C, SIGTERM and (on Windows) Ctrl-Break as a request to end cleanly."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupts", "interrupts"]


class Interrupts:
    """Counts interruptions and hands each to whoever listens.

    Before anybody listens an interruption raises `KeyboardInterrupt`; afterwards it calls `listener`.
    """

    def __init__(self) -> None:
        self.count = 0
        self.listener: Callable[[], None] | None = None

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Take a signal."""
        self.count += 1
        if self.listener is None:
            raise KeyboardInterrupt
        self.listener()


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Catch interruptions inside the block; outside the main thread signals stay as they are."""
    caught = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    names = ("SIGINT", "SIGTERM", "SIGBREAK")
    before = {}
    for name in names:
        number = getattr(signal, name, None)
        if number is not None:
            before[number] = signal.signal(number, caught)
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
