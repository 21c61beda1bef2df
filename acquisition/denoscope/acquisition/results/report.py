"""Report of a session, as in ``report.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field

from denoscope.acquisition.read_whole import read_whole
from denoscope.runtime import GuardFinding

from .adaptation import AdaptationRecord
from .light import LightBudget
from .provenance import SessionProvenance
from .record import Record
from .watching import CallbackCounts, TracesRecord, TriggerRecord

__all__ = [
    "REPORT_SCHEMA",
    "Frames",
    "Histogram",
    "HookCounts",
    "NotDenoised",
    "Outcome",
    "Pause",
    "SessionReport",
    "SourceRecord",
    "StageDelay",
    "StreamCount",
    "Timing",
]

REPORT_SCHEMA = 2
"""Version of ``report.json``. 1 left out what did not apply, and said less of the source; it is read too."""


class SourceRecord(Record):
    """Camera or movie that was recorded; see `denoscope.acquisition.SourceInfo`."""

    kind: str = ""
    name: str = ""
    camera: str = ""
    cameras: int = 1
    shape: tuple[int, int] = (0, 0)
    dtype: str = "uint16"
    pixel_size_m: float | None = None
    exposure_s: float | None = None
    frame_rate_hz: float | None = None
    frames: int | None = None
    channel: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    details: dict[str, object] = Field(default_factory=dict)


class Outcome(Record):
    """End of a session.

    Attributes
    ----------
    reason, message
        Name of the `denoscope.acquisition.FinishReason` in lower case, and what it means.
    degraded
        Whether something went wrong that the user must know of.
    exit_code
        0 done, 1 finished degraded, 2 bad input or environment, 130 interrupted.
    problems, notes
        Sentences without a full stop: what went wrong, and what is worth knowing.
    """

    reason: str | None = None
    message: str | None = None
    degraded: bool = False
    exit_code: int = 0
    problems: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)

    def add_problem(self, sentence: str) -> None:
        """Add what went wrong after the session had ended."""
        self.degraded, self.exit_code = True, self.exit_code or 1
        self.problems.append(sentence)


class NotDenoised(Record):
    """Frames that were not denoised while recording.

    Attributes
    ----------
    pages
        First and last page of ``raw.tif`` of each stretch.
    shown_as
        ``measured`` or ``repeated``, as the denoised movie shows them; None where there are none.
    """

    pages: list[tuple[int, int]] = Field(default_factory=list)
    shown_as: str | None = None

    @property
    def count(self) -> int:
        """Frames in all stretches."""
        return sum(last - first + 1 for first, last in self.pages)


class Frames(Record):
    """Counts of the frames, by what became of them.

    ``received == written_raw + not_written_raw`` and ``received == denoised + sum(dropped.values()) + in_flight``.

    Attributes
    ----------
    received, written_raw, not_written_raw
        Frames that the camera handed over; those in ``raw.tif``, and those that are not.
    rescued_raw, rescue_folder
        Those of the frames not in ``raw.tif`` that are saved in another folder, because the disk failed or hung, and
        that folder.
    left_in_core, missing_numbers
        Frames still in Micro-Manager's buffer at the end, and numbers that the camera's count jumped over.
    denoised, dropped, in_flight
        Frames denoised while recording, those deliberately skipped by reason, and those that were neither.
    not_denoised, computed_afterwards
        The skipped ones by page, and how many of them were computed at the end.
    """

    received: int = 0
    written_raw: int = 0
    not_written_raw: int = 0
    rescued_raw: int = 0
    rescue_folder: str | None = None
    left_in_core: int = 0
    missing_numbers: int = 0
    denoised: int = 0
    dropped: dict[str, int] = Field(default_factory=dict)
    in_flight: int = 0
    not_denoised: NotDenoised = Field(default_factory=NotDenoised)
    computed_afterwards: int = 0


class StreamCount(Record):
    """Frames of one camera, channel, z and position."""

    camera: str = ""
    channel: str = ""
    z: int = 0
    position: int | str = 0
    received: int = 0


class Pause(Record):
    """Pause of the denoising; frames between start and end are raw only, and the end is None while it lasts."""

    start_frame: int
    start_s: float
    end_frame: int | None = None
    end_s: float | None = None


class Histogram(Record):
    """Delays in bins 10 % apart: lower edges in seconds, and frames."""

    edge_s: list[float] = Field(default_factory=list)
    frames: list[int] = Field(default_factory=list)


class StageDelay(Record):
    """Time of one stage of a frame's way, in seconds: median, and 99 % of frames."""

    p50_s: float
    p99_s: float


class Timing(Record):
    """Rates, and the delay from the camera to the denoised frame.

    Quantiles are exact to 1 %, over the frames that arrived after the denoiser had caught up with the camera; None
    where nothing was denoised.

    Attributes
    ----------
    duration_s, fps_in_hz, fps_out_hz
        Of the recording.
    latency_from
        Clock that the delays begin with.
    latency_p50_s, latency_p95_s, latency_p99_s, latency_mean_s, latency_max_s
        Delay.
    fuse_p50_s, fuse_p99_s
        Time that the denoiser took for a frame.
    stages
        Time of each stage of a frame's way: ``to_queue`` (from the camera into the queue), ``queue`` (the wait there),
        ``hop_to`` (to the denoiser's process), ``compute``, ``hop_back``, ``deliver`` (to the denoised movie and the
        live view). A stage that a frame does not pass is left out.
    startup_frames, startup_max_s
        Frames that waited for the calibration, and for how long at most.
    latency_histogram
        The delays in bins.
    fill_s
        Time that the skipped frames took at the end; None where none were computed.
    """

    duration_s: float = 0.0
    fps_in_hz: float = 0.0
    fps_out_hz: float = 0.0
    latency_from: str = ""
    latency_p50_s: float | None = None
    latency_p95_s: float | None = None
    latency_p99_s: float | None = None
    latency_mean_s: float | None = None
    latency_max_s: float | None = None
    fuse_p50_s: float | None = None
    fuse_p99_s: float | None = None
    stages: dict[str, StageDelay] = Field(default_factory=dict)
    startup_frames: int = 0
    startup_max_s: float | None = None
    latency_histogram: Histogram = Field(default_factory=Histogram)
    fill_s: float | None = None


class HookCounts(Record):
    """Frames of an acquisition of another program: seen by the hook, sent to the denoiser, and not sent by reason."""

    seen: int = 0
    sent: int = 0
    dropped: dict[str, int] = Field(default_factory=dict)


class SessionReport(Record):
    """Report of a session, as in ``report.json``.

    Attributes
    ----------
    schema_version, denoscope, started_utc, output
        Versions of this record and of the package, when the session began, and its run folder.
    outcome, source, denoiser, frames, timing, guard
        See their types; ``guard`` is about denoised frames that part from the measured ones by more than noise allows.
    streams
        Frames received by camera, channel, z and position.
    changes, changes_count
        What changed in mid-run (at most 100 are described), so that a stream was drained and began anew.
    forecast
        Rate of the camera, speed and space of the disk before the recording.
    pauses
        Stretches without denoising.
    keep_raw
        Whether raw frames were written; off where the acquisition keeps them.
    preview
        Whether nothing was saved.
    fill_command
        Command that computes what was skipped; None where nothing is left to compute.
    hook
        Of a session beside another program's acquisition: where its frames went.
    on_denoised
        Frames handed to a function of the user's program; None without one.
    traces, triggers
        Traces of regions that were written, and what each trigger did.
    light
        What the denoised picture would lose at half of the light; None where the noise does not tell.
    adaptation
        Training while recording; None where it was not asked for.
    """

    schema_version: int = REPORT_SCHEMA
    denoscope: str = ""
    started_utc: str = ""
    output: str = ""
    outcome: Outcome = Field(default_factory=Outcome)
    source: SourceRecord = Field(default_factory=SourceRecord)
    denoiser: SessionProvenance = Field(default_factory=SessionProvenance)
    frames: Frames = Field(default_factory=Frames)
    streams: list[StreamCount] = Field(default_factory=list)
    changes: list[dict[str, object]] = Field(default_factory=list)
    changes_count: int = 0
    pauses: list[Pause] = Field(default_factory=list)
    timing: Timing = Field(default_factory=Timing)
    guard: GuardFinding | None = None
    forecast: dict[str, object] = Field(default_factory=dict)
    keep_raw: bool = True
    preview: bool = False
    fill_command: str | None = None
    hook: HookCounts | None = None
    on_denoised: CallbackCounts | None = None
    traces: TracesRecord | None = None
    triggers: list[TriggerRecord] = Field(default_factory=list)
    light: LightBudget | None = None
    adaptation: AdaptationRecord | None = None

    @classmethod
    def read(cls, run: Path | str) -> Self:
        """Return the report of a run folder.

        Raises
        ------
        FileNotFoundError
            Where the session left none, because it was killed.
        ValueError
            Where the file is damaged (pydantic's ``ValidationError`` is one).
        """
        path = Path(run) / "report.json"
        path.stat()
        return cls.model_validate_json(read_whole(path, "report"))
