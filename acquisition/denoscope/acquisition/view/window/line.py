"""The line under the pictures: how the session does, in words and one of four levels."""

from __future__ import annotations

from enum import Enum

from denoscope.acquisition.view.board.words import ViewStatus
from denoscope.runtime import counted
from denoscope.runtime.words import delay_words, rate_words, time_words

__all__ = ["Level", "StatusLine"]

_RECENT_S = 10.0
_LASTS_S = 120.0
_ABREAST = 0.95  # share of the frames that come from which on the denoiser keeps up


class Level(Enum):
    """How the line is coloured."""

    CALM = "calm"
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    NOTE = "note"


class StatusLine:
    """Turns each status into text and level.

    The line is ``BAD`` after an error, so too while denoising has failed and only raw frames are written;
    ``WARNING`` while outputs were skipped in the last ten seconds, frames never arrived, the disk has room
    for less than two minutes, or the session's answers stay away; ``GOOD`` while all is well; ``CALM``
    before, after, and in a pause, of which it says how old the denoised picture is. A preview is ``NOTE`` in place of
    ``GOOD``, and its line begins with that nothing is saved.
    """

    def __init__(self) -> None:
        self._skipped = 0
        self._skipped_s = -_RECENT_S
        self._last: tuple[int, float] = (-1, 0.0)
        self._emitted: tuple[int, float] = (-1, 0.0)
        self.recording_wanted = False
        """True once the user has asked for the recording, in a preview."""

    def write(self, status: ViewStatus, now_s: float) -> tuple[str, Level]:
        """Return the line for a status as `status_values` makes it.

        Parameters
        ----------
        status
            The newest one, which may be the same as before.
        now_s
            A clock in seconds.
        """
        skipped = sum(status["dropped"].values()) - status["dropped"].get("paused", 0)
        if skipped > self._skipped:
            self._skipped, self._skipped_s = skipped, now_s
        if status["count"] != self._last[0]:
            self._last = (status["count"], now_s)
        if status["emitted"] != self._emitted[0]:
            self._emitted = (status["emitted"], now_s)
        ended = status["state"] == "finished"
        warnings = [] if ended else self._warnings(status, now_s)
        if status["preview"] and ended and not status["problems"]:
            after = "the recording starts in a few seconds" if self.recording_wanted else "nothing was saved"
            return f"The preview has ended: {after}", Level.CALM
        parts = [*warnings, *_numbers(status, skipped)]
        if status["preview"] and not ended:
            parts.insert(0, "Preview: nothing is saved")
        if status["state"] == "paused":
            age_s = now_s - self._emitted[1]
            parts.insert(
                0,
                f"paused: the denoised picture is {time_words(age_s)} old"
                + ("" if status["preview"] else ", raw frames are still recorded"),
            )
        if status["problems"]:
            return " · ".join([status["problems"][-1], *parts]), Level.BAD
        if warnings:
            return " · ".join(parts), Level.WARNING
        if status["state"] not in ("recording", "stopping"):
            return " · ".join(parts), Level.CALM
        return " · ".join(parts), Level.NOTE if status["preview"] else Level.GOOD

    def _warnings(self, status: ViewStatus, now_s: float) -> list[str]:
        warnings = []
        if status["state"] != "finished" and now_s - self._last[1] > _RECENT_S:
            warnings.append(f"no word from the session for {time_words(now_s - self._last[1])}")
        if now_s - self._skipped_s < _RECENT_S:
            warnings.append(_too_slow(status) if _is_behind(status) else _caught_up(self._skipped))
        if status["missing"]:
            warnings.append(f"{counted(status['missing'], 'frame')} never arrived")
        free, rate = status["free_bytes"], status["bytes_per_s"]
        if free is not None and status["state"] in ("recording", "paused"):
            if free < status["reserve_bytes"]:
                warnings.append(f"disk nearly full: {free / 1e6:.0f} MB free")
            elif rate and (free - status["reserve_bytes"]) / rate < _LASTS_S:
                left_s = (free - status["reserve_bytes"]) / rate
                warnings.append(f"disk full in {left_s:.0f} s")
        return warnings


def _is_behind(status: ViewStatus) -> bool:
    """Return whether fewer frames are denoised than come, at this moment."""
    return status["fps_out"] < _ABREAST * status["fps_in"]


def _caught_up(skipped: int) -> str:
    return f"{counted(skipped, 'frame was', 'frames were')} skipped, and none is now"


def _too_slow(status: ViewStatus) -> str:
    done, come = (
        f"{fps:.0f}" if fps >= 10 else rate_words(fps) for fps in (status["fps_out"], status["fps_in"])
    )
    text = f"this computer denoises {done} of {come} frames/s"
    if status["preview"]:
        return f"{text}: the rest is skipped; a recording saves all raw frames"
    if not status["keeps_raw"]:
        return f"{text}: the rest is skipped"
    later = "will be computed at the end" if status["fills"] else "can be computed later"
    return f"{text}: all raw frames are saved, the rest {later}"


def _numbers(status: ViewStatus, skipped: int) -> list[str]:
    latency = status["latency_s"]
    parts = [
        f"{'' if status['preview'] else status['state']} {time_words(status['elapsed_s'])}".strip(),
        f"{rate_words(status['fps_in'])} frames/s, {rate_words(status['fps_out'])} denoised",
        f"delay {delay_words(latency['p50'])} (99 % within {delay_words(latency['p99'])})"
        if "p50" in latency
        else _no_delay(status),
        f"skipped {skipped}",
        _raw(status),
    ]
    if not status["emitted"] and status["state"] == "recording":
        parts.insert(0, parts.pop(2))  # why there is no picture yet
    if status["state"] == "finished" and status["message"]:
        parts[1:2] = [status["message"]]
    return [part for part in parts if part]


def _raw(status: ViewStatus) -> str:
    """Say where the raw frames are."""
    if status["preview"]:
        return f"received {status['received']}"
    if status["keeps_raw"]:
        return f"raw written {status['written_raw']} of {status['received']}"
    return f"received {status['received']}, raw kept elsewhere"


def _no_delay(status: ViewStatus) -> str:
    """Say why there is no delay yet; nothing at the end, when it will never come."""
    if status["state"] == "finished":
        return "" if status["emitted"] else "nothing denoised live"
    if status["emitted"]:
        return "catching up"
    if not status["received"]:
        return "waiting for the first frame"
    return "measuring the noise: the denoised picture comes after that"
