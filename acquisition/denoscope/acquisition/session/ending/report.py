"""The report of a session: ``report.json``, one object with SI units in its keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from denoscope.acquisition.contracts import REPORT, SourceInfo
from denoscope.acquisition.denoisers.routing import Routes
from denoscope.acquisition.lane.lane import DenoiseLane
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
from denoscope.acquisition.session.recording.session import Session
from denoscope.acquisition.session.states import SessionStatus

__all__ = ["build_report", "exit_code", "write_report"]


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
            rescued_raw=status.rescued_raw,
            rescue_folder=str(session.rescue_folder) if status.rescued_raw else None,
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
