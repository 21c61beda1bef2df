"""The window beside a session: a separate process, which may stall or die without consequence."""

from __future__ import annotations

import subprocess
import threading
from contextlib import suppress

from denoscope.acquisition.extras import require
from denoscope.acquisition.processes.child import Child, exit_words
from denoscope.acquisition.processes.shared_memory import Slab
from denoscope.acquisition.view.board.link import LiveView
from denoscope.acquisition.view.board.words import BoardWords
from denoscope.runtime import InvalidInput

__all__ = ["LiveWindow"]

_READY_S = 30.0
_CLOSE_S = 15.0
_MODULE = "denoscope.acquisition.view.window.process"


class LiveWindow(LiveView):
    """A window for one session, opened at once.

    Parameters
    ----------
    stay
        Whether the window stays when the session ends, until the user closes it.
    module
        What the process runs.

    Raises
    ------
    InvalidInput
        When napari is not installed.
    """

    def __init__(self, *, stay: bool, module: str = _MODULE) -> None:
        require("napari", extra="view", purpose="`view`")
        super().__init__(Slab())
        self._stay = stay
        self._answered = threading.Event()
        self._ready = False
        self._let_go = self._closes = False
        self._child = Child(module, name="denoscope-view", slab=self._slab, low_priority=True)
        self._listens = threading.Thread(target=self._listen, name="denoscope-view-answers", daemon=True)
        self._listens.start()

    @property
    def pid(self) -> int:
        """Of the window's process."""
        return self._child.pid

    def opened(self, words: BoardWords) -> None:
        """Tell the window where to look."""
        self._child.tell({"event": "opened", **words})  # a few messages in all, which a pipe takes at once

    def wait(self) -> None:
        """Wait for the window, but not for ever: one that is slow to open misses frames like any slow one.

        Raises
        ------
        InvalidInput
            When it cannot be opened, on a computer without a screen for example.
        """
        if not self._answered.wait(_READY_S) or self._ready:
            return
        lines = self._child.last_words()  # it has closed its pipe and is about to end
        why = lines[-1].rstrip(".") if lines else "it said nothing"
        raise InvalidInput(
            f"the live view cannot open its window: its process {exit_words(self._child.poll())} ({why}); run "
            "without `view` where there is no screen with OpenGL."
        )

    @property
    def lost(self) -> str | None:
        """How the window went before the session did; None while it is there."""
        code = self._child.poll()
        if code is None:
            return None
        if code == 0:
            return "the live view was closed before the recording ended"
        return f"the live view was lost: its process {exit_words(code)}; the recording was not affected"

    @property
    def gone(self) -> bool:
        """True once the window is closed or lost."""
        return self.lost is not None

    def let_go(self, stalled_s: float) -> list[str]:
        """Let the window go, and return what the user should know of it."""
        lost = self.lost
        if lost is not None:
            return [lost]
        if stalled_s:
            return [
                f"the live view stood still for the last {stalled_s:.0f} s and was ended; the recording was not "
                "affected"
            ]
        self._child.tell({"event": "finished", "stay": self._stay})
        self._let_go, self._closes = self._stay, not self._stay
        return []

    def close(self) -> None:
        """End the window, unless it was let go, and let go of pipes and memory."""
        if self._closes:
            with suppress(subprocess.TimeoutExpired):
                self._child.process.wait(_CLOSE_S)
        if self._let_go:
            self._child.process.returncode = 0  # the user's from now on: nobody waits for it
            self._child.hang_up()
        else:
            self._child.end(self._listens)
        super().close()

    def _listen(self) -> None:
        while (message := self._child.receive()) is not None:
            if message.words.get("event") == "ready":
                self._ready = True
                self._answered.set()
        self._answered.set()
