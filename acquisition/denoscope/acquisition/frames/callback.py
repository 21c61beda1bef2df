"""Call a user's function with each denoised frame, from a thread that the recording never waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from denoscope.acquisition.errors import one_line
from denoscope.acquisition.results import CallbackCounts
from denoscope.runtime import counted

from .live_frame import LiveFrame
from .mailbox import EVERY, NEWEST, Mailbox

__all__ = ["CallbackThread"]

_PATIENCE_S = 5.0


class CallbackThread:
    """Hand frames to a function one after the other.

    A function that is too slow misses frames, which are counted; one that raises is called with the next frame again;
    one that never comes back is left behind when the session ends.

    Parameters
    ----------
    on_denoised
        Called with each frame.
    newest
        Hand over the newest frame only, instead of every frame in order.
    """

    def __init__(self, on_denoised: Callable[[LiveFrame], object], *, newest: bool = False) -> None:
        self._on_denoised = on_denoised
        self._newest = newest
        self._box = Mailbox(NEWEST if newest else EVERY)
        self._handed = self._raised = 0
        self._slowest_s = 0.0
        self._error: str | None = None
        self._left_behind = False
        self._began_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="denoscope-callback", daemon=True)
        self._thread.start()

    def offer(self, frame: LiveFrame) -> None:
        """Hand over a frame; never waits."""
        self._box.offer(frame)

    def close(self, patience_s: float | None = None) -> None:
        """Let the frames that wait be seen, for so many seconds at most."""
        self._box.close()
        self._thread.join(_PATIENCE_S if patience_s is None else patience_s)
        if self._thread.is_alive():
            self._box.close(empty=True)
            self._thread.join(0.1)
            self._left_behind = self._thread.is_alive()

    @property
    def counts(self) -> CallbackCounts:
        """Counts of the frames so far: given, let go, failed."""
        slowest_s, began_s = self._slowest_s, self._began_s
        if began_s is not None:
            slowest_s = max(slowest_s, time.perf_counter() - began_s)
        return CallbackCounts(
            offered=self._box.offered,
            called=self._handed,
            missed=self._box.missed,
            raised=self._raised,
            slowest_s=slowest_s,
            error=self._error,
            left_behind=self._left_behind,
        )

    def problem(self) -> str | None:
        """Return what went wrong in the function, None where nothing did."""
        if self._left_behind:
            return (
                f"`on_denoised` did not come back after {self.counts.slowest_s:.1f} s and was left behind; the "
                "recording was not affected"
            )
        if self._raised:
            return (
                f"`on_denoised` raised an error for {counted(self._raised, 'frame')} ({self._error}); the recording "
                "was not affected"
            )
        return None

    def note(self) -> str | None:
        """Return how many frames a slow function missed, None where it saw all that it wanted."""
        missed = self._box.missed
        if not missed or self._newest:
            return None
        return (
            f"`on_denoised` missed {missed} of {counted(self._box.offered, 'denoised frame')}, because it took up to "
            f"{self._slowest_s * 1e3:.0f} ms a frame"
        )

    def _run(self) -> None:
        for frame in self._box:
            self._began_s = began_s = time.perf_counter()
            try:
                self._on_denoised(frame)
            except BaseException as error:  # noqa: BLE001  whatever the user's function raises, the recording goes on
                self._raised += 1
                self._error = self._error or f"{type(error).__name__}: {one_line(error)}"
            self._handed += 1
            self._slowest_s = max(self._slowest_s, time.perf_counter() - began_s)
            self._began_s = None
