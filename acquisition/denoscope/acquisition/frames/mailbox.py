"""A bounded queue for frames that never makes the recording wait: the oldest frame makes room for the newest."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

from .live_frame import LiveFrame

__all__ = ["EVERY", "NEWEST", "Mailbox"]

EVERY = 64
"""Frames that wait for a program that wants every frame."""

NEWEST = 1
"""Frames that wait for a program that wants the newest one."""


class Mailbox:
    """Keep the newest frames until they are taken.

    Parameters
    ----------
    most
        Frames that are kept; a further one takes the place of the oldest.

    Attributes
    ----------
    offered, missed
        Frames that came, and those of them that made room for newer ones.
    """

    def __init__(self, most: int = EVERY) -> None:
        self.offered = 0
        self.missed = 0
        self._most = most
        self._frames: deque[LiveFrame] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def offer(self, frame: LiveFrame) -> None:
        """Add a frame; never waits."""
        with self._changed:
            if self._closed:
                return
            self.offered += 1
            if len(self._frames) >= self._most:
                self._frames.popleft()
                self.missed += 1
            self._frames.append(frame)
            self._changed.notify()

    def take(self) -> LiveFrame | None:
        """Wait for the oldest frame; None when no more will come."""
        with self._changed:
            while not self._frames and not self._closed:
                self._changed.wait()
            return self._frames.popleft() if self._frames else None

    def close(self, *, empty: bool = False) -> None:
        """Say that no frame follows; with `empty`, those that wait are missed too."""
        with self._changed:
            self._closed = True
            if empty:
                self.missed += len(self._frames)
                self._frames.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[LiveFrame]:
        """Yield frames until the last."""
        while (frame := self.take()) is not None:
            yield frame
