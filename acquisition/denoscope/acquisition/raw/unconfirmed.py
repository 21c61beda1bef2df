"""Frames that were written and stay in memory until the disk confirms them."""

from __future__ import annotations

from collections import deque

from denoscope.acquisition.contracts import Frame

__all__ = ["Unconfirmed"]


class Unconfirmed:
    """The newest frames of a recording that its disk has not confirmed; nothing is copied.

    Parameters
    ----------
    room
        Frames that are kept at most. Where the disk is farther behind, the oldest are let go.
    """

    def __init__(self, room: int) -> None:
        self._frames: deque[Frame] = deque(maxlen=room)
        self._written = 0

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, frame: Frame, written: int) -> None:
        """Keep a frame, with which so many are written."""
        self._frames.append(frame)
        self._written = written

    def let_go(self, confirmed: int) -> None:
        """Forget the frames that the disk has confirmed, the first so many of the recording."""
        while len(self._frames) > max(0, self._written - confirmed):
            self._frames.popleft()

    def take(self, confirmed: int) -> list[Frame]:
        """Return the frames that are not among the first so many, in order, and keep none of them."""
        self.let_go(confirmed)
        taken = list(self._frames)
        self._frames.clear()
        return taken
