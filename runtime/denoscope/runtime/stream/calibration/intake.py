"""Frames that wait until the noise of their movie is known."""

from __future__ import annotations

from collections import deque

from denoscope.runtime.stream.arrivals import Held

from .schedule import CATCH_UP, Calibration, Due

__all__ = ["Intake"]


class Intake:
    """Hold frames back while the noise is estimated, and say how many of them each push processes afterwards.

    Parameters
    ----------
    frames, look_ahead, start_within_s
        As for `Calibration`.
    calibrate
        Whether there is anything to estimate.

    Attributes
    ----------
    held
        Frames that wait; never more than those of the calibration.
    calibration
        Says when to estimate; None where nothing is to be estimated any more.
    """

    def __init__(
        self, frames: int, look_ahead: int, start_within_s: float | None, *, calibrate: bool
    ) -> None:
        self._frames, self._look_ahead, self._start_within_s = frames, look_ahead, start_within_s
        self.held: deque[Held] = deque()
        self.catch_up = CATCH_UP
        self.calibration = Calibration(frames, look_ahead, start_within_s) if calibrate else None

    @property
    def idle(self) -> bool:
        """True where frames need not wait."""
        return self.calibration is None and not self.held

    def begin_again(self) -> None:
        """Estimate anew."""
        self.catch_up = CATCH_UP
        self.calibration = Calibration(self._frames, self._look_ahead, self._start_within_s)

    def take(self, held: Held) -> Due:
        """Hold a frame; return whether the noise is to be estimated now."""
        self.held.append(held)
        return "" if self.calibration is None else self.calibration.keep(held)

    def take_back(self, held: Held) -> None:
        """Hold a frame that was about to be processed, before all others, and keep all for a new estimate."""
        self.held.appendleft(held)
        if self.calibration is not None:
            for each in self.held:
                self.calibration.keep(each)

    def end_calibration(self) -> None:
        """Estimate no more: what there is stays."""
        self.calibration = None

    def clear(self) -> None:
        """Let all go."""
        self.held.clear()
        self.calibration = None
