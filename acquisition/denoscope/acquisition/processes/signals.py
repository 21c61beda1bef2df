"""Ctrl-C, SIGTERM and, on Windows, Ctrl-Break and a closed window end cleanly; what a terminal does beside."""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from .console import console_closing

__all__ = ["CommandEnd", "Interrupts", "ended_by_interruption", "interrupts"]

_ENDS_WITHIN_S = 5.0
_LIBRARIES_END_WITHIN_S = 60.0  # it takes them a second


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


class _Interruption(KeyboardInterrupt):
    """Raised by `CommandEnd`, which it tells when nothing holds it any longer, neither a handler nor another error."""

    def __init__(self, end: CommandEnd) -> None:
        super().__init__()
        self._end = end

    def __del__(self) -> None:
        self._end.was_dropped()


class CommandEnd:
    """Handler of a whole command: the first interruption ends the command, and none disturbs its end.

    People press Ctrl-C more than once. A second one while files are being closed, or while Python itself ends, would
    make the exit code that of a killed program. A command that takes longer than 5 s to end is interrupted again; one
    whose outcome has been known for longer than that ends at once, with its exit code, since nothing is left to lose.

    An interruption may be lost: Python ignores what is raised in a finalizer, or in a callback of a weak reference or
    of a C library, and libraries catch it. One that nothing holds any longer, though the command did not answer it
    with `is_near`, is sent again.
    """

    current: CommandEnd | None = None

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._over_s: float | None = None
        self._number = int(signal.SIGINT)
        self._lost = False
        self._reporting = False
        self.exit_code = 130

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal."""
        now_s = time.monotonic()
        if self._over_s is not None:
            if now_s - self._over_s >= _ENDS_WITHIN_S:
                os._exit(self.exit_code)
        elif self._reporting:
            return  # Python would ignore it
        elif self._lost or self._since_s is None or now_s - self._since_s >= _ENDS_WITHIN_S:
            self._since_s, self._number, self._lost = now_s, number, False
            raise _Interruption(self)

    def was_dropped(self) -> None:
        """Send the last interruption again, unless the command answered it."""
        if self._over_s is not None:
            return
        self._reporting = self._lost = True
        try:
            # Not a thread of `threading`, whose locks the main thread may hold.
            _thread.start_new_thread(self._send_again, ())
        finally:
            self._reporting = False  # last, as Python ignores an interruption here

    def _send_again(self) -> None:
        """Send until it is taken: Python misses a signal that comes just before it begins to wait."""
        while self._lost and self._over_s is None:
            if not self._reporting:
                _send_to_main_thread(self._number)
            time.sleep(0.01)

    @classmethod
    def is_near(cls) -> None:
        """Answer the interruption, and let no other change what became of the command: what is left is to say it."""
        if cls.current is not None and cls.current._over_s is None:
            cls.current._over_s = time.monotonic()


@contextmanager
def ended_by_interruption() -> Iterator[None]:
    """Let the first Ctrl-C, SIGTERM or Ctrl-Break inside the block end it; those that follow are ignored until the end.

    For the last block of a program. An end of Python that hangs does not hold a terminal: after 5 s one more Ctrl-C
    ends the program, and where the system has timers, a program whose libraries do not end is ended after 60 s.
    """
    CommandEnd.current = handler = CommandEnd()
    numbers = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGBREAK")]
    caught = [n for n in numbers if n is not None and signal.getsignal(n) is not signal.SIG_IGN]
    for number in caught:
        signal.signal(number, handler)
    report = sys.unraisablehook

    def report_others(ignored: sys.UnraisableHookArgs) -> None:
        if not issubclass(ignored.exc_type, _Interruption):
            report(ignored)

    sys.unraisablehook = report_others
    # The first that is registered is called last: Python gives the signals back to the system after that.
    atexit.register(_ignore, caught)
    try:
        yield
    except SystemExit as end:
        handler.exit_code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    finally:
        handler.is_near()
        sys.unraisablehook = report


def _send_to_main_thread(number: int) -> None:
    if sys.platform == "win32":
        signal.raise_signal(number)  # Python answers each in the main thread
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, number)


def _ignore(numbers: Sequence[int]) -> None:
    """Ignore signals while Python and the libraries end, where no Python can answer them."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    if sys.platform != "win32" and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL:
        signal.setitimer(signal.ITIMER_REAL, _LIBRARIES_END_WITHIN_S)
