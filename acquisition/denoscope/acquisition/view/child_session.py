"""The dock's end of the session that it starts in a process of its own."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from denoscope.acquisition.processes.child import exit_words, overhear, start_child
from denoscope.acquisition.processes.shared_memory import Slab

__all__ = ["ChildSession"]

_MODULE = "denoscope.acquisition.view.session_process"


class ChildSession:
    """One session; `poll` says what became of it.

    Parameters
    ----------
    settings
        Of the session, as for `denoscope.acquisition.make_settings`.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.slab = Slab()
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._words: list[str] = []
        descriptors = self.slab.descriptors
        self._process = start_child(_MODULE, *map(str, descriptors), descriptors=descriptors)
        self._threads = [
            threading.Thread(target=self._listen, name="denoscope-session", daemon=True),
            threading.Thread(
                target=overhear,
                args=(self._process, self._words),
                name="denoscope-session-words",
                daemon=True,
            ),
        ]
        for thread in self._threads:
            thread.start()
        assert self._process.stdin is not None
        with suppress(OSError):  # it ended at once; `poll` says why
            self._process.stdin.write(json.dumps(dict(settings), default=str).encode() + b"\n")
            self._process.stdin.flush()

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def poll(self) -> dict[str, Any] | None:
        """Return the next event, or None.

        ``opened`` says where its board is; ``finished`` (``summary``, ``exit_code``) and ``failed``
        (``message``) are the last.
        """
        try:
            return self._events.get_nowait()
        except queue.Empty:
            return None

    def close(self) -> None:
        """Let go of a session that has ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        for thread in self._threads:
            thread.join(5)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
        self.slab.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        last = None
        for line in self._process.stdout:
            with suppress(ValueError):
                event = json.loads(line)
                last = event["event"]
                self._events.put(event)
        if last in ("finished", "failed"):
            return
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._threads[1].join(1)
        said = f", saying: {self._words[-1]}" if self._words else ""
        message = f"The session's process {exit_words(self._process.poll())}{said}"
        self._events.put({"event": "failed", "message": f"{message}. What it had received is on disk."})
