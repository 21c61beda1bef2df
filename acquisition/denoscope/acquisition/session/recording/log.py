"""The session's event log: one JSON line per event."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from denoscope.acquisition.errors import one_line

__all__ = ["LOG", "EventLog"]

LOG = "log.jsonl"

_MOST_WAITING = 1000
_FLUSH_S = 5.0
_REST_S = 0.2


class EventLog:
    """Append events to ``log.jsonl``; a log that cannot be written says so in `problem` and goes on.

    A thread does the writing, so that a disk that is busy holds up nobody who has something to log.

    Parameters
    ----------
    path
        The file; created or continued.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.problem: str | None = None
        self._lines: deque[str] = deque()
        self._changed = threading.Condition()
        self._writes = False
        self._patience_s = _FLUSH_S

    def write(self, event: str, **values: Any) -> None:
        """Append one line ``{"utc", "event", ...}``, soon."""
        head = {"utc": datetime.now(UTC).isoformat(), "event": event}
        try:
            line = json.dumps({**head, **values}, default=str)
        except (TypeError, ValueError, RecursionError) as error:
            line = json.dumps({**head, "text": f"values that JSON cannot hold: {one_line(error)}"})
        with self._changed:
            if len(self._lines) >= _MOST_WAITING:
                self.problem = f"the event log {self._path} is not complete: its disk did not answer"
                return
            self._lines.append(line)
            if not self._writes:  # the thread ends when there is nothing more to write
                try:
                    threading.Thread(target=self._run, name="denoscope-log", daemon=True).start()
                    self._writes = True
                except RuntimeError as error:  # the system has no thread left; the next event tries again
                    self.problem = f"the event log {self._path} could not be written: {one_line(error)}"
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all is written, a few seconds at most."""
        deadline_s = time.monotonic() + self._patience_s
        with self._changed:
            while self._lines and time.monotonic() < deadline_s:
                self._changed.wait(0.05)
            if self._lines:
                self._patience_s = 0.0  # once is enough
                self.problem = f"the event log {self._path} is not complete: its disk does not answer"

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._lines:
                    self._changed.wait(_REST_S)
                if not self._lines:
                    self._writes = False
                    self._changed.notify_all()
                    return
                line = self._lines[0]
            try:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
            except (OSError, ValueError) as error:
                self.problem = f"the event log {self._path} could not be written: {error}"
            with self._changed:
                self._lines.popleft()
                self._changed.notify_all()
