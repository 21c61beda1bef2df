"""The N-frame ring: which slot a frame goes to, which centre becomes due, which frame leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Ring", "Step"]

T = TypeVar("T")


@dataclass(slots=True)  # not frozen: one is made for each frame
class Step(Generic[T]):
    """Result of one frame, or one missing frame, entering the ring.

    Attributes
    ----------
    rotation
        Slot of the oldest frame of the centre's window; it is the next one to be overwritten.
    centre
        The frame that became due, None when it is missing or the movie has not begun.
    leaving
        Whether the oldest slot holds a frame, which leaves the window with this step.
    """

    rotation: int
    centre: T | None
    leaving: bool


class Ring(Generic[T]):
    """Bookkeeping of `N // 2 + look_ahead + 1` slots; it holds no pixels.

    The frame entered last is `look_ahead` after the centre; the slots hold exactly the centre's
    window, so that the windows are the rotations of one cycle and buffers can be bound once.

    Parameters
    ----------
    window
        N, odd.
    look_ahead
        Frames after the centre, at most N // 2.
    """

    def __init__(self, window: int, look_ahead: int) -> None:
        self.window = window
        self.size = window // 2 + look_ahead + 1
        self.look_ahead = look_ahead
        self._entries: list[T | None] = [None] * self.size
        self._presence = 0
        self._entered = 0
        self._waiting = 0

    @property
    def slot(self) -> int:
        """Slot that the next frame goes to."""
        return self._entered % self.size

    @property
    def before(self) -> T | None:
        """The frame just before the one to enter `slot`, None where it is missing or was passed by."""
        there = self._presence >> self.size - 1
        return self._entries[self.slot - 1] if there else None

    @property
    def entries(self) -> list[T | None]:
        """Contents of the slots, the oldest first: the centre's window."""
        oldest = self.slot
        return self._entries[oldest:] + self._entries[:oldest]

    @property
    def waiting(self) -> int:
        """Frames entered whose turn as the centre has not come."""
        return self._waiting

    def enter(self, entry: T | None, *, usable: bool = True) -> Step[T]:
        """Put a frame into `slot`, or a gap where `entry` is None.

        A frame that is not `usable` has its turn as the centre, and is missing for its neighbours and the memory.
        """
        slot = self.slot
        self._entries[slot] = entry
        self._presence = self._presence >> 1 | (entry is not None and usable) << self.size - 1
        self._entered += 1
        self._waiting += entry is not None
        oldest = self.slot
        due = self._entries[(slot - self.look_ahead) % self.size] if self._entered > self.look_ahead else None
        self._waiting -= due is not None
        return Step(oldest, due, bool(self._presence & 1))

    @property
    def presence(self) -> int:
        """Frames of the centre's window that are there: bit 0 for the oldest one, later ones in order."""
        return self._presence

    def clear(self) -> None:
        """Forget everything."""
        self._entries = [None] * self.size
        self._presence = self._entered = self._waiting = 0
