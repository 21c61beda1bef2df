"""Look into the run folder while recording, from a thread that nothing else waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from .control import RequestFiles, SessionControl

__all__ = ["FolderWatch"]

_POLL_S = 0.1
_DISK_EVERY_S = 1.0
_CLOSE_S = 2.0


class FolderWatch:
    """Finds requests and looks at the disk; a disk that does not answer holds up this thread alone.

    Parameters
    ----------
    folder
        The run folder.
    control
        Is handed the requests.
    check_disk
        Called once a second.
    """

    def __init__(self, folder: Path, control: SessionControl, check_disk: Callable[[], None]) -> None:
        self._requests = RequestFiles(folder)
        self._control = control
        self._check_disk = check_disk
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="denoscope-folder", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread after a last look for requests."""
        self._ended.set()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        checked_s = time.perf_counter()
        while not self._ended.wait(_POLL_S):
            self._look()
            if time.perf_counter() - checked_s >= _DISK_EVERY_S:
                checked_s = time.perf_counter()
                self._check_disk()
        self._look()

    def _look(self) -> None:
        for request in self._requests.take():
            self._control.add(request)
