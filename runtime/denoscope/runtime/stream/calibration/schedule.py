"""Times at which a stream estimates its noise model: early where it is certain or frames come slowly, and again."""

from __future__ import annotations

from typing import Literal

from denoscope.runtime.stream.arrivals import Held

__all__ = ["CATCH_UP", "START_S", "Calibration", "Due"]

Due = Literal["", "if certain", "now"]
"""Answer to: is the noise model to be estimated now, and does it have to be certain?"""

START_S = 2.0
"""Seconds after its first frame in which a stream shows its first output, if enough frames have come by then."""
CATCH_UP = 2  # held frames processed per push after the calibration, so that no push takes long

_FRAMES_BEYOND = 3  # frames, beyond the look-ahead, that a first estimate needs at least
_FEWEST_AGAIN = 8  # of the second estimate
_PER_FRAME_S = 0.05  # what a frame may take where frames come so slowly that more than two fit between them
_TRIED_AT = (4, 6, 8, 16)  # frames from which an estimate may be certain
_WORTH_S = 0.2  # a stream that waits for all frames waits so long at least, or there is nothing to gain


class Calibration:
    """Say when a stream estimates its noise model, and keep the frames that it is estimated from.

    Frames are held until the estimate from them is certain, which is asked of 4, 6, 8 and 16, or until
    `frames` have come. A stream that begins with a certain estimate asks at 8 and 16 frames whether the scene moves,
    and with `frames` whether all of them say the same.

    Where no estimate is certain within `start_s`, the stream begins with a provisional estimate from the frames that
    are there, at least `look_ahead` + 3, and estimates again from 8, 16 and at last `frames`. What has been processed
    by then is processed once more with the new estimate: the last one, and all that follows, does not depend on when
    the frames came.

    Time is that of the frames (`FrameMeta.t_received_s`): a stream that is fed a recorded movie holds all of them, as
    does one whose frames come within a fifth of a second.

    Parameters
    ----------
    frames
        Frames of the final estimate.
    look_ahead
        Of the stream.
    start_s
        Seconds within which it begins; None for a stream that waits for all `frames`.

    Attributes
    ----------
    kept
        Frames to estimate from.
    processed
        Those of them that are in the ring or the memory by now.
    begun
        Whether there is an estimate.
    certain
        Whether it was certain.
    """

    def __init__(self, frames: int, look_ahead: int, start_s: float | None) -> None:
        self._frames, self._start_s = frames, start_s
        self._fewest = min(look_ahead + _FRAMES_BEYOND, frames)
        self._next = frames  # frames of the next estimate
        self.kept: list[Held] = []
        self.processed: list[Held] = []
        self.begun = self.certain = False

    @property
    def complete(self) -> bool:
        """Return True where no more frames are needed."""
        return self.begun and not self._next

    @property
    def catch_up(self) -> int:
        """Held frames to process with each push: more of them where there is time for more."""
        return max(CATCH_UP, int(self._interval_s / _PER_FRAME_S))

    @property
    def _elapsed_s(self) -> float:
        return self.kept[-1].meta.t_received_s - self.kept[0].meta.t_received_s

    @property
    def _interval_s(self) -> float:
        """Mean time between two frames."""
        return max(self._elapsed_s, 0.0) / (len(self.kept) - 1) if len(self.kept) > 1 else 0.0

    def keep(self, held: Held) -> Due:
        """Take a frame; say whether the noise model is to be estimated now."""
        self.kept.append(held)
        count = len(self.kept)
        if count >= self._next:
            return "now"
        if self.begun or self._start_s is None:
            return ""
        # The next frame would come too late.
        if count >= self._fewest and self._elapsed_s + self._interval_s > self._start_s:
            return "now"
        worth_while = count in _TRIED_AT and self._interval_s * self._frames > _WORTH_S
        return "if certain" if worth_while else ""

    def estimated(self) -> None:
        """Note that the noise model was estimated from all frames kept so far, or confirmed by them."""
        self.begun = True
        count = len(self.kept)
        later = max(_FEWEST_AGAIN, _power_of_two(count + count // 2))
        self._next = min(self._frames, later) if count < self._frames else 0

    def restart(self) -> None:
        """Note that the ring and the memory are empty."""
        self.processed.clear()


def _power_of_two(least: int) -> int:
    return int(1 << (least - 1).bit_length())
