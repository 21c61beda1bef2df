"""Call a program back with the newest status, from a thread that the recording never waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from denoscope.acquisition.errors import one_line

__all__ = ["StatusThread"]

_CLOSE_S = 2.0


class StatusThread:
    """Hands each status to a callback, or passes it over where the callback is still busy with an older one.

    Parameters
    ----------
    on_status
        Called from the thread; after it has raised once it is not called again, and `problem` says why.
    """

    def __init__(self, on_status: Callable[..., None]) -> None:
        self.problem: str | None = None
        self._on_status = on_status
        self._changed = threading.Condition()
        self._newest: tuple[Any, ...] | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="denoscope-status", daemon=True)
        self._thread.start()

    def show(self, *values: Any) -> None:
        """Hand over the newest status; never waits."""
        with self._changed:
            self._newest = values
            self._changed.notify_all()

    def close(self) -> None:
        """Let the last status be shown, for a moment."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._newest is None:
                    if self._ended:
                        return
                    self._changed.wait()
                values, self._newest = self._newest, None
            if self.problem is not None:
                continue
            try:
                self._on_status(*values)
            except BaseException as error:  # noqa: BLE001  whoever shows a recording must not end it
                self.problem = (
                    f"the status could not be shown any more ({type(error).__name__}: {one_line(error)}); the "
                    "recording went on"
                )
