"""The report of a session: ``report.json``, one object with SI units in its keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from denoscope.acquisition.contracts import REPORT, SourceInfo
from denoscope.acquisition.denoisers.routing import Routes
from denoscope.runtime import counted

from .lane import DenoiseLane
from .latency import LatencyHistogram
from .session import Session
from .skipped import skipped_sentences
from .states import FinishReason, SessionStatus

__all__ = ["build_report", "exit_code", "summary", "write_report"]

_SCHEMA_VERSION = 1


def exit_code(status: SessionStatus) -> int:
    """Return the shell's exit code: the reason's, or 1 where a session that ended well had problems."""
    code = status.reason.exit_code if status.reason else 0
    return code or int(status.degraded)


def _histogram(latency: LatencyHistogram) -> dict[str, list[float]]:
    """Return the histogram in bins 10 % apart, empty ends cut off."""
    width = 10
    counts = latency.counts[: len(latency.counts) // width * width].reshape(-1, width).sum(1)
    used = counts.nonzero()[0]
    if not len(used):
        return {"edge_s": [], "frames": []}
    first, last = int(used[0]), int(used[-1]) + 1
    edges = latency.edges_s()[::width][first : last + 1]
    return {
        "edge_s": [round(float(edge), 7) for edge in edges],
        "frames": [int(n) for n in counts[first:last]],
    }


def build_report(
    session: Session,
    status: SessionStatus,
    source: SourceInfo,
    provenance: Mapping[str, Any],
    lane: DenoiseLane,
    *,
    output: Path,
    started_utc: str,
    notes: list[str],
    routes: Routes,
) -> dict[str, Any]:
    """Return the report as a JSON-ready object.

    Keys
    ----
    schema_version, denoscope, started_utc, output
        Of what this is the report.
    outcome
        ``reason``, ``message``, ``degraded``, ``exit_code``, ``problems``, ``notes``.
    source
        `SourceInfo.as_json`.
    denoiser
        Bundle, SHA-256, backend, why that backend, intensity transform, look-ahead.
    frames
        ``received``, ``written_raw``, ``not_written_raw``, ``left_in_core``, ``missing_numbers``,
        ``denoised``, ``dropped`` (by reason), ``in_flight``. ``received == written_raw +
        not_written_raw`` and ``received == denoised + sum(dropped) + in_flight``.
    streams, changes, changes_count
        Frames received by camera, channel, z and position; what changed in mid-run (at most 100 are
        described), so that a stream was drained and began anew.
    forecast
        Rate of the camera, speed and space of the disk before the recording (`Forecast`); added by `live`.
    guard
        ``checked``, ``off``, ``first``, ``last``, ``largest``, ``kind``: denoised frames that part from the
        measured ones by more than noise allows (`denoscope.runtime.GuardFinding`); added by `live`.
    pauses
        ``start_frame``, ``start_s``, ``end_frame``, ``end_s`` of each: frames between them are raw only.
    timing
        ``duration_s``, ``fps_in_hz``, ``fps_out_hz``, ``latency_from``, ``latency_p50_s``,
        ``latency_p95_s``, ``latency_p99_s``, ``latency_mean_s``, ``latency_max_s``, ``fuse_p50_s``,
        ``fuse_p99_s``, ``latency_histogram`` (``edge_s``, ``frames``). Quantiles are exact to 1 %, and
        over the frames that arrived after the denoiser had caught up with the camera; ``startup_frames``
        came before, while the intensity was being calibrated, and waited up to ``startup_max_s``.
    """
    seconds = status.elapsed_s
    fuse, startup = lane.tally.processing.quantiles_s(), lane.tally.startup.quantiles_s()
    return {
        "schema_version": _SCHEMA_VERSION,
        "denoscope": provenance.get("version", ""),
        "started_utc": started_utc,
        "output": str(output),
        "outcome": {
            "reason": status.reason.name.lower() if status.reason else None,
            "message": status.reason.value if status.reason else None,
            "degraded": status.degraded,
            "exit_code": exit_code(status),
            "problems": list(status.problems),
            "notes": notes,
        },
        "source": source.as_json(),
        "denoiser": dict(provenance),
        "frames": {
            "received": status.received,
            "written_raw": status.written_raw,
            "not_written_raw": status.received - status.written_raw,
            "left_in_core": session.left_in_core,
            "missing_numbers": status.missing,
            "denoised": status.emitted,
            "dropped": dict(status.dropped),
            "in_flight": status.in_flight,
        },
        "streams": [{**asdict(key), "received": count} for key, count in routes.received.items()],
        "changes": lane.changes.listed,
        "changes_count": lane.changes.count,
        "pauses": session.pauses,
        "timing": {
            "duration_s": seconds,
            "fps_in_hz": status.received / seconds if seconds else 0.0,
            "fps_out_hz": status.emitted / seconds if seconds else 0.0,
            "latency_from": lane.tally.latency_from,
            **{f"latency_{name}_s": value for name, value in status.latency_s.items()},
            **{f"fuse_{name}_s": fuse[name] for name in ("p50", "p99") if name in fuse},
            "startup_frames": int(lane.tally.startup.counts.sum()),
            "startup_max_s": startup.get("max"),
            "latency_histogram": _histogram(lane.tally.latency),
        },
    }


def write_report(report: Mapping[str, Any], output: Path) -> None:
    """Write ``report.json`` into the run folder, whole or not at all.

    Raises
    ------
    OSError
        When the disk refuses.
    """
    draft = output / f"{REPORT}.new"
    try:
        draft.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        draft.replace(output / REPORT)
    except OSError:
        with suppress(OSError):  # a full disk is what it is
            draft.unlink()
        raise


def summary(report: Mapping[str, Any]) -> str:
    """Return the outcome as one or more plain sentences."""
    outcome, frames, timing = report["outcome"], report["frames"], report["timing"]
    dropped = ", ".join(f"{count} {reason}" for reason, count in frames["dropped"].items()) or "none"
    lines = [
        f"Ended because {outcome['message']}: {counted(frames['received'], 'frame')} received, "
        f"{frames['written_raw']} written raw, "
        f"{frames['denoised']} denoised, not denoised: {dropped}."
    ]
    if frames["missing_numbers"]:
        lines.append(
            f"{counted(frames['missing_numbers'], 'frame was', 'frames were')} lost before they reached this "
            "program: the camera's numbers "
            "jump over them."
        )
    if outcome["reason"] == FinishReason.INTERRUPTED.name.lower():
        lines.append("Everything received is on disk.")
    if "latency_p50_s" in timing:
        lines.append(
            f"Camera to denoised frame: {timing['latency_p50_s'] * 1e3:.0f} ms (median), "
            f"{timing['latency_p99_s'] * 1e3:.0f} ms (99 %); {timing['fps_in_hz']:.1f} frames/s in, "
            f"{timing['fps_out_hz']:.1f} out."
        )
    if timing["startup_frames"]:
        lines.append(
            f"{counted(timing['startup_frames'], 'frame at the beginning', 'frames at the beginning')} waited for "
            "the calibration, up to "
            f"{timing['startup_max_s'] * 1e3:.0f} ms."
        )
    paused = frames["dropped"].get("paused", 0)
    if paused and frames["written_raw"]:
        lines.append(
            f"Denoising was paused {counted(len(report['pauses']), 'time')}, while {counted(paused, 'frame')} went by."
        )
    lines += skipped_sentences(report)
    lines += [f"Problem: {problem}." for problem in outcome["problems"]]
    lines += [f"Note: {note}." for note in outcome["notes"]]
    return "\n".join(lines)
