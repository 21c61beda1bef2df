"""How far a denoiser lags behind the camera, and what follows from it."""

from __future__ import annotations

__all__ = ["Pace"]

_BEHIND_S = 2.0  # after the last skip the denoiser counts as too slow for so long
_HOPELESS_S = 0.3  # without an output and without gaining on the camera: then on with the newest frame
_AGAIN_S = 5.0  # after that it is not tried for so long again to catch up


class Pace:
    """Decide which outputs are skipped, and when frames are passed over, so that the newest frames are shown.

    Parameters
    ----------
    lag_s
        Seconds that a frame may wait before outputs are skipped.

    Attributes
    ----------
    hopeless
        True while the denoiser cannot even encode every frame.
    skips
        True where the frame that was pushed last skips an output.
    """

    def __init__(self, lag_s: float) -> None:
        self._lag_s = lag_s
        self._started = False  # an output came
        self._caught_up_s: float | None = None  # when the last frame came that had to wait for a calibration
        self._behind_until_s = 0.0
        self._behind_since: tuple[float, float] | None = None  # when without an output, and the lag then
        self._passed_over_s = float("-inf")
        self._newest_s = 0.0  # when the frame came that was pushed last
        self.hopeless = False
        self.skips = False

    @property
    def started(self) -> bool:
        """True once an output came."""
        return self._started

    def output(self) -> None:
        """Note that an output came."""
        self._started = True

    def starts_anew(self) -> None:
        """Count what is lost from here on as starting up: a stream opens, calibrates or encodes frames anew."""
        self._caught_up_s = None

    def pushed(self, received_s: float, *, skips: bool) -> None:
        """Note a frame that is pushed: when it came, and whether it skips an output."""
        self._newest_s, self.skips = received_s, skips

    def is_steady(self, received_s: float | None = None) -> bool:
        """Say whether a frame that came then, or the one pushed last, had to wait for no calibration."""
        received_s = self._newest_s if received_s is None else received_s
        return self._caught_up_s is not None and received_s > self._caught_up_s

    def in_step(self) -> None:
        """Note that all frames up to the one pushed last are denoised or skipped."""
        if self._caught_up_s is None:
            self._caught_up_s = self._newest_s

    def falls_behind(self, now_s: float, lag_s: float, waiting: int, room: int, *, patient: bool) -> bool:
        """Say whether the output that is due is skipped.

        Parameters
        ----------
        now_s, lag_s
            Time, and seconds since the frame came.
        waiting, room
            Frames that wait, and how many may.
        patient
            True where the source waits for the denoiser.
        """
        if self._caught_up_s is None:
            # Working off the frames held for calibration is not falling behind, while there is room for it.
            return self._started and waiting > room // 2 and not patient
        behind = lag_s > self._lag_s or (now_s < self._behind_until_s and waiting > 0)
        if behind:
            self._behind_until_s = now_s + _BEHIND_S
            since_s, lag_then_s = self._behind_since = self._behind_since or (now_s, lag_s)
            loses = now_s - since_s > _HOPELESS_S and lag_s > lag_then_s
            again = now_s - self._passed_over_s < _AGAIN_S
            self.hopeless = (loses or again) and not patient
        else:
            self._behind_since = None
        return behind

    def passed_over(self, now_s: float) -> None:
        """Note that every frame but the newest was passed over."""
        self._behind_until_s, self._behind_since = 0.0, None
        self._passed_over_s = now_s
