"""Ctrl-C, SIGTERM and, on Windows, Ctrl-Break and a closed window end cleanly; what a terminal does beside."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from .console import console_closing

__all__ = ["CommandEnd", "Interrupts", "ended_by_interruption", "interrupts"]

_ENDS_WITHIN_S = 5.0


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
        if self.listener is not None:
            self.listener()
        elif CommandEnd.current is None:
            raise KeyboardInterrupt
        else:
            CommandEnd.current(number, _frame)


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


class CommandEnd:
    """Handler of a whole command: the first interruption ends the command, and none disturbs its end.

    People press Ctrl-C more than once. A second one while files are being closed, or while Python itself ends, would
    make the exit code that of a killed program. A command that takes longer than 5 s to end is interrupted again.
    """

    current: CommandEnd | None = None

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._over = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Take a signal."""
        now_s = time.monotonic()
        if self._over or (self._since_s is not None and now_s - self._since_s < _ENDS_WITHIN_S):
            return
        self._since_s = now_s
        raise KeyboardInterrupt

    @classmethod
    def is_near(cls) -> None:
        """Let no interruption change what became of the command: all that is left is to say it."""
        if cls.current is not None:
            cls.current._over = True


@contextmanager
def ended_by_interruption() -> Iterator[None]:
    """Let the first Ctrl-C, SIGTERM or Ctrl-Break inside the block end it; those that follow are ignored until the end.

    For the last block of a program: afterwards interruptions stay ignored, through the end of Python itself.
    """
    CommandEnd.current = handler = CommandEnd()
    numbers = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGBREAK")]
    caught = [n for n in numbers if n is not None and signal.getsignal(n) is not signal.SIG_IGN]
    for number in caught:
        signal.signal(number, handler)
    try:
        yield
    finally:
        handler.is_near()
        for number in caught:
            signal.signal(number, signal.SIG_IGN)
