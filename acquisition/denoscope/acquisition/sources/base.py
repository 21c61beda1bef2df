"""The interface of a source of frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from denoscope.acquisition.contracts import Frame, SourceInfo

__all__ = ["Source"]


class Source(ABC):
    """Source of frames: `open`, `start`, `pop` until `finished`, `stop`, `close`.

    One thread calls `pop`, `finished` and `stop`; `open` and `close` are called before and after it. Pixels of a
    `Frame` belong to whoever pops it, so a buffer of the camera is copied. ``live(source=...)`` takes any source;
    `denoscope.acquisition.testing.SourceContract` tests one.

    Attributes
    ----------
    patient
        Whether frames that are not popped yet are safe for as long as it takes (in a file, or in the queue
        of another process), so that a denoiser with a full queue may be waited for.
    """

    patient: ClassVar[bool] = False

    @property
    def core(self) -> Any:
        """Core of Micro-Manager that denoscope drives and another thread may call; None where there is none."""
        return None

    @property
    def busy_s(self) -> float:
        """Seconds for which the source has been too busy to answer; 0 while it answers as usual."""
        return 0.0

    @property
    def overflow_remedy(self) -> str:
        """Return the remedy for an overflow of the core's buffer."""
        return "raise `buffer_mb`, lower the frame rate or write to a faster disk"

    @abstractmethod
    def open(self) -> SourceInfo:
        """Connect, and describe what will come.

        Raises
        ------
        SourceUnavailable
            When the source cannot be opened; one sentence says why and what to do.
        """

    @abstractmethod
    def start(self) -> None:
        """Arm the camera so that it stops, loudly, when the core's buffer overflows."""

    @abstractmethod
    def pop(self) -> Frame | None:
        """Return the oldest buffered frame, or None when there is none at this moment.

        Raises
        ------
        SourceFailed
            When the source does not answer any more.
        """

    @abstractmethod
    def finished(self) -> bool:
        """Say whether the camera stands still and its buffer is empty."""

    @abstractmethod
    def overflowed(self) -> bool:
        """Say whether the core stopped because its buffer was full."""

    @abstractmethod
    def stop(self) -> None:
        """Stop the camera; what is buffered can still be popped."""

    def notes(self) -> list[str]:
        """Return what the user should know in the end, one sentence each without its full stop."""
        return []

    @abstractmethod
    def close(self) -> None:
        """Let go of the source; a second call does nothing."""
