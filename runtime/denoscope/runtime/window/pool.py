"""Memory for the frames that are handed out, used again once nobody holds them."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from denoscope.runtime.backends.registry import Buffer

__all__ = ["Pool"]

Array = npt.NDArray[Any]

_MOST = 16  # frames that are kept for another use


class _Entry:
    """A buffer, and how many references to its memory there are while nobody else has one."""

    def __init__(self, buffer: Buffer) -> None:
        assert buffer.array is not None
        self.buffer = buffer
        self.frame: Array = buffer.array[0, 0]
        self._memory = self.frame.base  # numpy: the first owner, however many views lie between
        self._idle = self._references()

    def is_free(self) -> bool:
        return self._references() <= self._idle

    def _references(self) -> int:
        return sys.getrefcount(self._memory)


class Pool:
    """Give out frames of one shape; a fresh one costs hundreds of page faults, a used one none.

    A frame is free again when no array, memoryview or tensor that was made of it is left: all of them
    hold a reference to the memory that it is a view of. The pool lets go of memory that is held for long.

    Parameters
    ----------
    make
        Returns a new buffer in the processor's memory, (1, 1, H, W); None where there can be no more.
    """

    def __init__(self, make: Callable[[], Buffer | None]) -> None:
        self._make = make
        self._entries: deque[_Entry] = deque()

    def __len__(self) -> int:
        """Number of frames that are kept for another use."""
        return len(self._entries)

    def take(self) -> tuple[Array, Buffer]:
        """Return a frame (H, W), whose content is arbitrary, and the buffer that it lies in."""
        entry = self._free() or _Entry(self._new())
        if len(self._entries) == _MOST:
            self._entries.popleft()
        self._entries.append(entry)
        return entry.frame[:], entry.buffer

    def lend(self) -> tuple[Array, Buffer] | None:
        """Return the same; None where all that may be made are held, because their memory is dear."""
        entry = self._free()
        if entry is None:
            if len(self._entries) == _MOST or (buffer := self._make()) is None:
                return None
            entry = _Entry(buffer)
        self._entries.append(entry)
        return entry.frame[:], entry.buffer

    def _free(self) -> _Entry | None:
        """Take out a frame that nobody holds."""
        for index, entry in enumerate(self._entries):
            if entry.is_free():
                del self._entries[index]
                return entry
        return None

    def _new(self) -> Buffer:
        buffer = self._make()
        assert buffer is not None
        return buffer
