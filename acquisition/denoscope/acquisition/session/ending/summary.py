"""The report of a session in plain sentences: frames, delay, losses, problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from denoscope.acquisition.lane.lane import PASSED_OVER
from denoscope.acquisition.results import SessionReport
from denoscope.runtime import counted

from .skipped import skipped_sentences

__all__ = ["skipped_by_reason", "summary"]


def summary(report: SessionReport) -> str:
    """Return the outcome as one or more plain sentences: the result, what is wrong, what to do, then numbers and notes.

    The first is complete by itself.
    """
    return "\n".join(
        [
            _done(report),
            *(f"Problem: {problem}." for problem in report.outcome.problems),
            *_lost(report),
            *skipped_sentences(report),
            *_delay(report),
            *([report.light.half()] if report.light is not None else []),
            *(f"Note: {note}." for note in report.outcome.notes),
        ]
    )


_BUSY_MS = 10  # of waiting for the denoiser, from which on it is said
_ENDED = {
    "frames_reached": "Done",
    "time_reached": "Done",
    "source_ended": "Done, because the camera stopped by itself",
    "stopped": "Stopped as you asked",
    "interrupted": "Interrupted by you",
}
# A movie that is replayed or watched has no camera that stops.
_MOVIE_ENDED = {"replay": "Done: the movie is at its end", "watch": "Done: no new frames came"}
_WHY_SKIPPED = {
    "keep-up": "computer too slow",
    "overrun": "computer too slow",
    PASSED_OVER: "computer too slow",
    "paused": "paused by you",
    "end of session": "too late to finish",
}


def skipped_by_reason(dropped: Mapping[str, int]) -> Counter[str]:
    """Return the frames that were skipped by the reason in a user's words, of those by the program's name for it."""
    counts: Counter[str] = Counter()
    for reason, count in dropped.items():
        counts[_WHY_SKIPPED.get(reason, reason)] += count
    return counts


def _done(report: SessionReport) -> str:
    frames, outcome = report.frames, report.outcome
    ended = _ENDED.get(outcome.reason or "", f"Ended because {outcome.message}")
    if outcome.reason == "source_ended":
        ended = _MOVIE_ENDED.get(report.source.kind, ended)
    if report.preview:
        received = counted(frames.received, "frame")
        return f"Preview ended; nothing was saved. {received} received, {frames.denoised} denoised."
    raw = f"Raw {frames.written_raw}/{frames.received} saved"
    if frames.rescued_raw:
        raw += f", {frames.rescued_raw} more in {frames.rescue_folder}"
    if not report.keep_raw:
        raw = f"{counted(frames.received, 'frame')} received, raw ones kept by the acquisition"
    counts = skipped_by_reason(frames.dropped)
    skipped = "".join(f", {count} skipped ({reason})" for reason, count in counts.items())
    return f"{ended}. {raw}. {frames.denoised} denoised live{skipped}."


def _delay(report: SessionReport) -> list[str]:
    """Return the delay and what it consists of: later frames that an output needs, a busy denoiser, and computing."""
    timing = report.timing
    total_s, late_s = timing.latency_p50_s, timing.latency_p99_s
    if total_s is None or late_s is None:
        return []
    total_ms = round(total_s * 1e3)
    ahead, rate = report.denoiser.look_ahead or 0, timing.fps_in_hz
    waiting_ms = min(total_ms, round(ahead / rate * 1e3)) if rate else 0
    queue_ms = round(timing.stages["queue"].p50_s * 1e3) if "queue" in timing.stages else 0
    queue_ms = min(queue_ms, total_ms - waiting_ms)
    queued = f"{queue_ms} because the denoiser was busy, " if queue_ms >= _BUSY_MS else ""
    rest_ms = total_ms - waiting_ms - (queue_ms if queued else 0)
    lines = [
        f"Delay {total_ms} ms (median): {waiting_ms} waiting for later frames, {queued}{rest_ms} computing; 99 % of "
        f"frames within {late_s * 1e3:.0f} ms.",
        f"Camera {rate:.1f} frames/s, denoised {timing.fps_out_hz:.1f} frames/s.",
    ]
    if timing.startup_frames and timing.startup_max_s is not None:
        lines.append(
            f"{counted(timing.startup_frames, 'frame')} at the beginning waited up to "
            f"{timing.startup_max_s * 1e3:.0f} ms while the denoiser measured the noise."
        )
    return lines


def _lost(report: SessionReport) -> list[str]:
    missing = report.frames.missing_numbers
    if not missing:
        return []
    return [
        f"{counted(missing, 'frame was', 'frames were')} lost before reaching denoscope: the camera's frame "
        "numbers jump over them."
    ]
