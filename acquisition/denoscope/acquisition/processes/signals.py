"""Ctrl-C, SIGTERM and, on Windows, Ctrl-Break and a closed window end cleanly; what a terminal does beside."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from .console import console_closing

__all__ = ["Interrupts", "interrupts"]


class Interrupts:
    """Counts interruptions and hands each to whoever listens.

    Before anybody listens an interruption raises `KeyboardInterrupt`; afterwards it calls `listener`, which
    runs wherever the program happens to be: it may set an attribute, and must take no lock.
    """

    def __init__(self) -> None:
        self.count = 0
        self.hung_up = False
        """True once the terminal was closed, or its connection dropped; the recording goes on."""
        self.listener: Callable[[], None] | None = None
        self.closed: str | None = None
        """Why Windows ends this program within seconds, None where it does not."""

    def close(self, why: str) -> bool:
        """Take the end of the console as an interruption in a hurry; say whether somebody listens."""
        if self.listener is None:
            return False
        self.closed = why
        self.count += 2
        self.listener()
        return True

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal."""
        if number == getattr(signal, "SIGHUP", None) and self.listener is not None:
            self.hung_up = True
            return
        self.count += 1
        if self.listener is None:
            raise KeyboardInterrupt
        self.listener()


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Catch interruptions inside the block; outside the main thread signals stay as they are.

    A program in the background that reads from its terminal or writes to it is not stopped for that.
    """
    caught = Interrupts()
    with _signals(caught), console_closing(caught.close):
        yield caught


@contextmanager
def _signals(caught: Interrupts) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}
    for name in ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP", "SIGTTIN", "SIGTTOU"):
        number = getattr(signal, name, None)
        if number is None or (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
            continue  # nohup said it first
        handler: Any = signal.SIG_IGN if name.startswith("SIGTT") else caught
        before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
