"""The report of a session: ``report.json``, one object with SI units in its keys."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from denoscope.acquisition.contracts import REPORT, SourceInfo
from denoscope.acquisition.denoisers.routing import Routes
from denoscope.acquisition.lane.lane import PASSED_OVER, DenoiseLane
from denoscope.acquisition.lane.latency import LatencyHistogram
from denoscope.acquisition.results import (
    Frames,
    Histogram,
    Outcome,
    Pause,
    SessionProvenance,
    SessionReport,
    StageDelay,
    StreamCount,
    Timing,
)
from denoscope.runtime import counted

from .session import Session
from .skipped import skipped_sentences
from .states import SessionStatus

__all__ = ["build_report", "exit_code", "summary", "write_report"]


def exit_code(status: SessionStatus) -> int:
    """Return the shell's exit code: the reason's, or 1 where a session that ended well had problems."""
    code = status.reason.exit_code if status.reason else 0
    return code or int(status.degraded)


def _histogram(latency: LatencyHistogram) -> Histogram:
    """Return the histogram in bins 10 % apart, empty ends cut off."""
    width = 10
    counts = latency.counts[: len(latency.counts) // width * width].reshape(-1, width).sum(1)
    used = counts.nonzero()[0]
    if not len(used):
        return Histogram()
    first, last = int(used[0]), int(used[-1]) + 1
    edges = latency.edges_s()[::width][first : last + 1]
    return Histogram(
        edge_s=[round(float(edge), 7) for edge in edges], frames=[int(n) for n in counts[first:last]]
    )


def _stages(stages: Mapping[str, LatencyHistogram]) -> dict[str, StageDelay]:
    """Return the quantiles of the stages that any frame passed."""
    quantiles = {stage: histogram.quantiles_s() for stage, histogram in stages.items()}
    return {stage: StageDelay(p50_s=q["p50"], p99_s=q["p99"]) for stage, q in quantiles.items() if q}


def build_report(
    session: Session,
    status: SessionStatus,
    source: SourceInfo,
    provenance: SessionProvenance,
    lane: DenoiseLane,
    *,
    output: Path,
    started_utc: str,
    notes: list[str],
    routes: Routes,
) -> SessionReport:
    """Return the report of a session that has ended; `live` adds what it alone knows.

    Parameters
    ----------
    session, lane, routes
        What ran.
    status
        Its last status.
    source
        What was recorded.
    provenance
        Of the denoised frames.
    output
        Run folder.
    started_utc
        When it began.
    notes
        Sentences for the user.
    """
    seconds = status.elapsed_s
    fuse, startup = lane.tally.processing.quantiles_s(), lane.tally.startup.quantiles_s()
    return SessionReport(
        denoscope=provenance.version,
        started_utc=started_utc,
        output=str(output),
        outcome=Outcome(
            reason=status.reason.name.lower() if status.reason else None,
            message=status.reason.value if status.reason else None,
            degraded=status.degraded,
            exit_code=exit_code(status),
            problems=list(status.problems),
            notes=list(notes),
        ),
        source=source.record(),
        denoiser=provenance,
        frames=Frames(
            received=status.received,
            written_raw=status.written_raw,
            not_written_raw=status.received - status.written_raw,
            left_in_core=session.left_in_core,
            missing_numbers=status.missing,
            denoised=status.emitted,
            dropped=dict(status.dropped),
            in_flight=status.in_flight,
        ),
        streams=[StreamCount(**asdict(key), received=count) for key, count in routes.received.items()],
        changes=[dict(change) for change in lane.changes.listed],
        changes_count=lane.changes.count,
        pauses=[Pause.model_validate(pause) for pause in session.pauses],
        timing=Timing(
            duration_s=seconds,
            fps_in_hz=status.received / seconds if seconds else 0.0,
            fps_out_hz=status.emitted / seconds if seconds else 0.0,
            latency_from=lane.tally.latency_from,
            latency_p50_s=status.latency_s.get("p50"),
            latency_p95_s=status.latency_s.get("p95"),
            latency_p99_s=status.latency_s.get("p99"),
            latency_mean_s=status.latency_s.get("mean"),
            latency_max_s=status.latency_s.get("max"),
            fuse_p50_s=fuse.get("p50"),
            fuse_p99_s=fuse.get("p99"),
            stages=_stages(lane.tally.stages),
            startup_frames=int(lane.tally.startup.counts.sum()),
            startup_max_s=startup.get("max"),
            latency_histogram=_histogram(lane.tally.latency),
        ),
    )


def write_report(report: SessionReport, output: Path) -> None:
    """Write ``report.json`` into the run folder, whole or not at all.

    Raises
    ------
    OSError
        When the disk refuses.
    """
    draft = output / f"{REPORT}.new"
    try:
        draft.write_text(json.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
        draft.replace(output / REPORT)
    except OSError:
        with suppress(OSError):  # a full disk is what it is
            draft.unlink()
        raise


def summary(report: SessionReport) -> str:
    """Return the outcome as one or more plain sentences, the first complete by itself."""
    return "\n".join(
        [
            _done(report),
            *_delay(report),
            *_lost(report),
            *skipped_sentences(report),
            *([report.light.half()] if report.light is not None else []),
            *(f"Problem: {problem}." for problem in report.outcome.problems),
            *(f"Note: {note}." for note in report.outcome.notes),
        ]
    )


_ENDED = {
    "frames_reached": "Done",
    "time_reached": "Done",
    "source_ended": "Done, because the camera stopped by itself",
    "stopped": "Stopped as you asked",
    "interrupted": "Interrupted by you",
}
_WHY_SKIPPED = {
    "keep-up": "computer too slow",
    "overrun": "computer too slow",
    PASSED_OVER: "computer too slow",
    "paused": "paused by you",
    "end of session": "too late to finish",
}


def _done(report: SessionReport) -> str:
    frames, outcome = report.frames, report.outcome
    ended = _ENDED.get(outcome.reason or "", f"Ended because {outcome.message}")
    raw = f"Raw {frames.written_raw}/{frames.received} saved"
    if not report.keep_raw:
        raw = f"{counted(frames.received, 'frame')} received, raw ones kept by the acquisition"
    counts: Counter[str] = Counter()
    for reason, count in frames.dropped.items():
        counts[_WHY_SKIPPED.get(reason, reason)] += count
    skipped = "".join(f", {count} skipped ({reason})" for reason, count in counts.items())
    return f"{ended}. {raw}. {frames.denoised} denoised live{skipped}."


def _delay(report: SessionReport) -> list[str]:
    """Return the delay and what it consists of: later frames that an output needs, and computing."""
    timing = report.timing
    total_s, late_s = timing.latency_p50_s, timing.latency_p99_s
    if total_s is None or late_s is None:
        return []
    total_ms = round(total_s * 1e3)
    ahead, rate = report.denoiser.look_ahead or 0, timing.fps_in_hz
    waiting_ms = min(total_ms, round(ahead / rate * 1e3)) if rate else 0
    lines = [
        f"Delay {total_ms} ms: {waiting_ms} waiting for later frames, {total_ms - waiting_ms} computing; 99 % of "
        f"frames within {late_s * 1e3:.0f} ms.",
        f"Camera {rate:.1f} frames/s, denoised {timing.fps_out_hz:.1f} frames/s.",
    ]
    if timing.stages:
        lines.append(_way(timing.stages))
    if timing.startup_frames and timing.startup_max_s is not None:
        lines.append(
            f"{counted(timing.startup_frames, 'frame')} at the beginning waited up to "
            f"{timing.startup_max_s * 1e3:.0f} ms while the denoiser measured the brightness."
        )
    return lines


_STAGE_WORDS = {
    "to_queue": "from the camera",
    "queue": "waiting for the denoiser",
    "hop_to": "to its process",
    "compute": "computing",
    "hop_back": "back",
    "deliver": "to disk and screen",
}


def _way(stages: Mapping[str, StageDelay]) -> str:
    """Return where the time of a frame goes, the wait for later frames apart."""
    parts = [
        f"{words} {_ms(stages[stage].p50_s)} ({_ms(stages[stage].p99_s)})"
        for stage, words in _STAGE_WORDS.items()
        if stage in stages
    ]
    return f"A frame's way in ms, median (99 %): {', '.join(parts)}."


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f}" if seconds > 0.01 else f"{seconds * 1e3:.2g}"


def _lost(report: SessionReport) -> list[str]:
    missing = report.frames.missing_numbers
    if not missing:
        return []
    return [
        f"{counted(missing, 'frame was', 'frames were')} lost before reaching denoscope: the camera's frame "
        "numbers jump over them."
    ]
