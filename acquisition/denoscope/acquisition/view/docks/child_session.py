"""A dock's end of the session, or the job, that it starts in a separate process."""

from __future__ import annotations

import queue
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from denoscope.acquisition.processes.child import Child, exit_words
from denoscope.acquisition.processes.shared_memory import Slab
from denoscope.acquisition.processes.wire import Words

__all__ = ["ChildSession"]

_MODULE = "denoscope.acquisition.view.docks.session_process"


class ChildSession:
    """One session; `poll` says what became of it.

    Parameters
    ----------
    settings
        Of the session, as for `denoscope.acquisition.make_settings`.
    module, what, left
        What the process runs, what it is called, and what it leaves behind when it dies.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        module: str = _MODULE,
        what: str = "session",
        left: str = "What it had received is on disk",
    ) -> None:
        self.slab = Slab()
        self._what, self._left = what, left
        self._events: queue.SimpleQueue[Words] = queue.SimpleQueue()
        self._child = Child(module, name=f"denoscope-{what}", slab=self.slab)
        self._listens = threading.Thread(target=self._listen, name=f"denoscope-{what}", daemon=True)
        self._listens.start()
        self._child.tell(dict(settings))  # where it ended at once, `poll` says why

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._child.pid

    def poll(self) -> Words | None:
        """Return the next event, or None.

        ``opened`` says where its board is; ``finished`` (``summary``, ``exit_code``) and ``failed``
        (``message``) are the last.
        """
        try:
            return self._events.get_nowait()
        except queue.Empty:
            return None

    def tell(self, **words: Any) -> None:
        """Send it a message; one that is gone takes none."""
        self._child.tell(words)

    def close(self) -> None:
        """Let go of a session that has ended."""
        with suppress(subprocess.TimeoutExpired):
            self._child.process.wait(10)
        self._child.end(self._listens)
        self.slab.close()

    def _listen(self) -> None:
        last = None
        while (message := self._child.receive()) is not None:
            last = message.words.get("event")
            self._events.put(message.words)
        if last in ("finished", "failed"):
            return
        lines = self._child.last_words()
        said = f", saying: {lines[-1]}" if lines else ""
        words = f"The {self._what}'s process {exit_words(self._child.poll())}{said}"
        self._events.put({"event": "failed", "message": f"{words}. {self._left}."})
