"""The window beside a session: a process of its own, which may stall or die without consequence."""

from __future__ import annotations

import json
import subprocess
import threading
from contextlib import suppress
from typing import Any

from denoscope.acquisition.extras import require
from denoscope.acquisition.processes.child import exit_words, overhear, start_child
from denoscope.acquisition.processes.shared_memory import Slab
from denoscope.acquisition.session.states import SessionStatus
from denoscope.runtime import InvalidInput

from .link import LiveView

__all__ = ["LiveWindow"]

_READY_S = 30.0
_CLOSE_S = 15.0
_MODULE = "denoscope.acquisition.view.window_process"


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
        self._words: list[str] = []
        self._answered = threading.Event()
        self._ready = False
        self._let_go = self._closes = False
        descriptors = self._slab.descriptors
        self._process = start_child(module, *map(str, descriptors), descriptors=descriptors, polite=True)
        self._threads = [
            threading.Thread(target=self._listen, name="denoscope-view-answers", daemon=True),
            threading.Thread(
                target=overhear,
                args=(self._process, self._words),
                name="denoscope-view-words",
                daemon=True,
            ),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """Of the window's process."""
        return self._process.pid

    def opened(self, words: dict[str, Any]) -> None:
        """Tell the window where to look."""
        self._tell({"event": "opened", **words})

    def wait(self) -> None:
        """Wait for the window, but not for ever: one that is slow to open misses frames like any slow one.

        Raises
        ------
        InvalidInput
            When it cannot be opened, on a computer without a screen for example.
        """
        if not self._answered.wait(_READY_S) or self._ready:
            return
        with suppress(subprocess.TimeoutExpired):  # it has closed its pipe and is about to end
            self._process.wait(5)
        self._threads[1].join(1)
        why = self._words[-1].rstrip(".") if self._words else "it said nothing"
        raise InvalidInput(
            f"the live view cannot open its window: its process {exit_words(self._process.poll())} ({why}); run "
            "without `view` where there is no screen with OpenGL."
        )

    @property
    def lost(self) -> str | None:
        """How the window went before the session did; None while it is there."""
        code = self._process.poll()
        if code is None:
            return None
        if code == 0:
            return "the live view was closed before the recording ended"
        return f"the live view was lost: its process {exit_words(code)}; the recording was not affected"

    def finish(self, status: SessionStatus) -> list[str]:
        """Show the last status, let the window go, and return what the user should know of it."""
        notes = super().finish(status)
        lost = self.lost
        if lost is not None:
            return [*notes, lost]
        if self.stalled_s:
            notes.append(
                f"the live view stood still for the last {self.stalled_s:.0f} s and was ended; the recording was "
                "not affected"
            )
            return notes
        self._tell({"event": "finished", "stay": self._stay})
        self._let_go, self._closes = self._stay, not self._stay
        return notes

    def close(self) -> None:
        """End the window, unless it was let go, and let go of pipes and memory."""
        if self._closes:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_CLOSE_S)
        if self._let_go:
            self._process.returncode = 0  # the user's from now on: nobody waits for it
        elif self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if not self._let_go:
            for thread in self._threads:
                thread.join(5)
            for pipe in (self._process.stdout, self._process.stderr):
                assert pipe is not None
                pipe.close()
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        super().close()

    def _tell(self, message: dict[str, Any]) -> None:
        # A few lines in all, which a pipe takes at once even when nobody reads them.
        assert self._process.stdin is not None
        with suppress(OSError):  # it is gone; `lost` says so
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == b"ready":
                self._ready = True
                self._answered.set()
        self._answered.set()
