"""Ask the disk to confirm beside the writing, so that waiting for it does not stop the writer."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["DiskSync"]


class DiskSync:
    """Confirms in a thread; the writer waits for it only where it is far ahead.

    Parameters
    ----------
    confirm
        Waits until what was written before the call is on the disk; raises OSError when the disk is full.
    ahead_bytes
        Bytes that may be written while one confirmation runs.
    """

    def __init__(self, confirm: Callable[[], None], ahead_bytes: int) -> None:
        self._confirm = confirm
        self._ahead_bytes = ahead_bytes
        self._changed = threading.Condition()
        self._asked = self._confirmed = 0
        self._asked_at = 0  # bytes that were written when the oldest open question was asked
        self._ended = False
        self._error: OSError | None = None
        self._thread: threading.Thread | None = None

    def ask(self, written_bytes: int) -> None:
        """Have all that was written confirmed soon."""
        with self._changed:
            if self._asked == self._confirmed:
                self._asked_at = written_bytes
            self._asked += 1
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="denoscope-raw-sync", daemon=True)
            self._thread.start()

    def check(self, written_bytes: int) -> None:
        """Wait while the writer is too far ahead of the disk.

        Raises
        ------
        OSError
            When the disk is full.
        """
        if self._error is None and (
            self._asked == self._confirmed or written_bytes - self._asked_at <= self._ahead_bytes
        ):
            return  # nearly always, without the lock
        with self._changed:
            asked = self._asked
            while self._error is None and self._confirmed < asked and not self._ended:
                self._changed.wait()
            if self._error is not None:
                raise self._error

    def abandon(self) -> None:
        """Ask for nothing more, and wait for nothing."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread after the confirmation that runs; safe to call twice."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._asked == self._confirmed and not self._ended:
                    self._changed.wait()
                if self._ended:
                    return
                asked = self._asked
            try:
                self._confirm()
            except OSError as error:
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
            with self._changed:
                self._confirmed = asked
                self._changed.notify_all()
