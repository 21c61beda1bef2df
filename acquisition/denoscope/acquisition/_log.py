"""The session's event log: one JSON line per event."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["EventLog"]


class EventLog:
    """Append events to ``log.jsonl``; a log that cannot be written says so in `problem` and goes on.

    Parameters
    ----------
    path
        The file; created or continued.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.problem: str | None = None

    def write(self, event: str, **values: Any) -> None:
        """Append one line ``{"utc", "event", ...}``."""
        line = json.dumps({"utc": datetime.now(UTC).isoformat(), "event": event, **values}, default=str)
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            self.problem = f"the event log {self._path} could not be written: {error}"
