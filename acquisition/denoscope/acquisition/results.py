"""Results of every function of this package, and what the files in a run folder hold of them.

Each is a pydantic model with a schema version, written as JSON by `Record.as_json` and read back by ``model_validate``.
SI units are in the names. What a file of an older version lacks has its default here, so that old runs can still be
read; what a newer one adds is passed over.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator

from denoscope.runtime import GuardFinding, Intensity, ScannerArtefacts

__all__ = [
    "REPORT_SCHEMA",
    "AdaptationRecord",
    "AdaptationRound",
    "BundleSwap",
    "CallbackCounts",
    "CameraRecord",
    "DelayDuring",
    "Denoising",
    "Filling",
    "Frames",
    "Histogram",
    "HookCounts",
    "HookReport",
    "LightBudget",
    "LightStep",
    "MovieProvenance",
    "NoiseCheck",
    "NotDenoised",
    "Outcome",
    "Pause",
    "Provenance",
    "Record",
    "RequestAnswer",
    "SessionProvenance",
    "SessionReport",
    "SourceRecord",
    "StreamCount",
    "Timing",
    "TracesRecord",
    "TriggerRecord",
]

REPORT_SCHEMA = 2
"""Version of ``report.json``. 1 left out what did not apply, and said less of the source; it is read too."""


class Record(BaseModel):
    """Values that go into a file or come from one."""

    # Built when first used: building all of them is a quarter of the time that `import live` takes.
    model_config = ConfigDict(extra="ignore", validate_assignment=True, defer_build=True)

    def as_json(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return self.model_dump(mode="json", fallback=str)


class NoiseCheck(Record):
    """Noise of a movie, measured once.

    Attributes
    ----------
    kind
        ``white``, or along what neighbouring pixels share noise.
    along_row, across_rows, row, time
        Correlation coefficients of the noise, -1 to 1.
    limit
        Coefficient above which noise counts as shared.
    saturated
        Share of the pixels that are saturated, 0 to 1.
    warning
        One sentence for the user, or None.
    """

    kind: str
    along_row: float
    across_rows: float
    row: float
    time: float
    limit: float
    saturated: float
    warning: str | None = None


class CameraRecord(Record):
    """Camera calibration: its files, size in pixels, SHA-256 of its maps, and their medians."""

    model_config = ConfigDict(extra="allow")

    source: object = None
    height_px: int = 0
    width_px: int = 0
    sha256: object = None


class Provenance(Record):
    """Origin of denoised frames; written into denoised movies too.

    Attributes
    ----------
    version, platform
        Of denoscope, and the operating system.
    bundle, bundle_sha256, method
        Name of the bundle, SHA-256 of its files, its method.
    window, look_ahead
        Frames that one output sees, and those of them that come after it.
    backend, backend_reason, backends_rejected, backend_details
        Backend, why it was chosen, why each better one was not, and what it says about itself.
    camera
        Calibration that the frames were corrected with, or None.
    intensity, scanner
        Intensity transform, and artefacts of the scanner that were found; None where no frame was seen.
    aligned
        Whether the motion of the scene was tracked.
    float32, fix_line_offset
        As asked for.
    """

    version: str = ""
    platform: str = ""
    bundle: str = "live"
    bundle_sha256: str | None = None
    method: str = ""
    window: int | None = None
    look_ahead: int | None = None
    backend: str = "auto"
    backend_reason: str = ""
    backends_rejected: dict[str, str] = Field(default_factory=dict)
    backend_details: dict[str, object] = Field(default_factory=dict)
    camera: CameraRecord | None = None
    float32: bool = False
    fix_line_offset: bool = False
    intensity: Intensity | None = None
    scanner: ScannerArtefacts | None = None
    aligned: bool | None = None

    @field_validator("float32", "fix_line_offset", mode="before")
    @classmethod
    def _off_where_unknown(cls, value: object) -> object:
        return False if value is None else value


class BundleSwap(Record):
    """Change of the bundle in mid-run, because weights that were trained meanwhile are better.

    Attributes
    ----------
    frame
        Page of ``raw.tif`` from which on frames were denoised with the new bundle.
    bundle, bundle_sha256
        Folder of the new bundle inside the run folder, and SHA-256 of its files.
    trained_on_frames
        Raw frames that it was trained on.
    gain_nats, error_nats
        How much better it predicts frames that it was not trained on than the bundle before, in nats a pixel, and the
        standard error of that.
    memory_frames
        Frames that the new denoiser had seen before it took over; its long memory begins with them.
    at_s
        Seconds since the recording began.
    """

    frame: int
    bundle: str
    bundle_sha256: str
    trained_on_frames: int
    gain_nats: float
    error_nats: float
    memory_frames: int = 0
    at_s: float = 0.0


class SessionProvenance(Provenance):
    """Origin of the frames that were denoised while recording.

    Attributes
    ----------
    intensity_provisional, intensity_refinements
        Whether the transform was still an estimate from few frames at the end, and how often it was refined.
    followed_since
        Number of the frame from which the scene's motion was tracked, where that began in mid-run.
    noise
        Noise of the raw recording; None where it was not measured.
    bundle_path
        Folder of a bundle that does not ship with the package.
    frames_not_denoised
        Pages of ``raw.tif`` and what the denoised movie shows for them, as its metadata says it.
    swaps
        Changes of the bundle in mid-run; ``bundle`` is the one that the session began with.
    """

    intensity_provisional: bool | None = None
    intensity_refinements: int = 0
    followed_since: int | None = None
    noise: NoiseCheck | None = None
    bundle_path: str | None = None
    frames_not_denoised: str | None = None
    swaps: list[BundleSwap] = Field(default_factory=list)


class MovieProvenance(Provenance):
    """Origin of a movie that was denoised after it was recorded.

    Attributes
    ----------
    movie
        Name of the file; None where a run was filled.
    first_frame
        Number in the file of the first frame that was denoised.
    chunk_frames, warm_up_frames
        Frames of a chunk, and frames before it that its stream takes first.
    run, started_utc
        Of the session that was filled.
    frames_kept_from_live, frames_computed_afterwards
        Frames as they were denoised live, and frames computed now.
    backend_live
        Backend of the session.
    swaps
        Changes of the bundle in mid-run; each computed frame is by the bundle that was in use for it.
    """

    movie: str | None = None
    first_frame: int | None = None
    chunk_frames: int | None = None
    warm_up_frames: int | None = None
    run: str | None = None
    started_utc: str | None = None
    frames_kept_from_live: int | None = None
    frames_computed_afterwards: int | None = None
    backend_live: str | None = None
    swaps: list[BundleSwap] = Field(default_factory=list)


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


class CallbackCounts(Record):
    """Frames handed to a function of the user's program.

    Attributes
    ----------
    offered, called, missed
        Denoised frames, calls of the function, and frames that it was too slow for.
    raised, error
        Calls that raised an error, and the first error.
    slowest_s
        Longest call.
    left_behind
        Whether the last call never came back.
    """

    offered: int = 0
    called: int = 0
    missed: int = 0
    raised: int = 0
    slowest_s: float = 0.0
    error: str | None = None
    left_behind: bool = False


class LightStep(Record):
    """Prediction for a share of the light.

    Attributes
    ----------
    share
        Of the light that the movie was recorded with.
    psnr_db, loss_db
        Predicted PSNR of the denoised picture, and how much less that is than at full light.
    """

    share: float
    psnr_db: float
    loss_db: float

    @property
    def words(self) -> str:
        """The share in words."""
        return {0.5: "half", 0.25: "a quarter"}.get(self.share, f"{self.share:.0%}")


class LightBudget(Record):
    """Prediction of `denoscope.acquisition.light_budget`.

    Attributes
    ----------
    psnr_db
        Predicted PSNR of the denoised picture as it was recorded; its range is that of the denoised frames.
    steps
        At less light.
    dark, read_noise, photons
        Counts without light and variance of the camera without light, in counts, as they were taken; photons a pixel.
    """

    psnr_db: float
    steps: list[LightStep] = Field(default_factory=list)
    dark: float = 0.0
    read_noise: float = 0.0
    photons: float | None = None
    _pictures: list[Any] = PrivateAttr(default_factory=list)

    @property
    def pictures(self) -> list[Any]:
        """Raw, denoised, and denoised at less light, (H, W) each; empty unless they were asked for."""
        return self._pictures

    def keep_pictures(self, pictures: list[Any]) -> None:
        """Keep pictures to be drawn."""
        self._pictures = pictures

    def half(self) -> str:
        """Return what half of the light would cost as one sentence; empty where that was not asked for."""
        found = next((step.loss_db for step in self.steps if step.share == 0.5), None)
        return "" if found is None else f"At half the light the picture would lose about {found:.1f} dB."

    def sentence(self) -> str:
        """Return the prediction as one sentence."""
        names = {0.5: "half", 0.25: "a quarter of"}
        losses = [
            f"{step.loss_db:.1f} dB at {names.get(step.share, step.words + ' of')} the light"
            for step in self.steps
        ]
        return f"with less light the denoised picture would lose about {' and '.join(losses)}"


class AdaptationRound(Record):
    """One round of training on the frames of the running session.

    Attributes
    ----------
    frames, held_out
        Raw frames that it saw, and the last ones of them, which were not trained on and by which it is judged.
    steps, seconds, processor_s
        Of the training.
    gain_nats, error_nats
        How much better the new weights predict the held-out frames than those in use, in nats a pixel, and the standard
        error of that; above 0 is better.
    total_nats, total_error_nats
        The same against the bundle that the session began with.
    total_db, total_error_db
        The same in dB: how much smaller the squared error of the prediction is once the variance of the noise is taken
        off; None where the noise leaves too little of it.
    offered
        True where the gain was larger than twice its error, so that the weights were offered.
    at_s
        Seconds since the recording began.
    """

    frames: int
    held_out: int
    steps: int
    seconds: float
    processor_s: float
    gain_nats: float
    error_nats: float
    total_nats: float
    total_error_nats: float
    total_db: float | None = None
    total_error_db: float | None = None
    offered: bool = False
    at_s: float = 0.0


class DelayDuring(Record):
    """Delay of denoised frames in one phase of an adaptation: frames, and the delay's median and 99 % in seconds."""

    frames: int
    p50_s: float
    p99_s: float


class AdaptationRecord(Record):
    """Training beside a session; see ``docs/guides/adapt-while-recording.md``.

    Attributes
    ----------
    threads
        Processor threads that it was allowed.
    rounds, swaps
        Rounds of training, and changes of the bundle.
    refused
        Why new weights were tried and not used, one sentence each.
    paused
        Times that training was held up because the denoiser skipped frames.
    processor_s, peak_bytes
        Processor time and memory of the training process.
    delay
        Delay of denoised frames while nothing was trained (``idle``), while training (``training``), and while new
        weights were tried beside those in use (``trial``).
    problem
        Why training ended before the recording did; None where it did not.
    """

    threads: int = 1
    rounds: list[AdaptationRound] = Field(default_factory=list)
    swaps: list[BundleSwap] = Field(default_factory=list)
    refused: list[str] = Field(default_factory=list)
    paused: int = 0
    processor_s: float = 0.0
    peak_bytes: int | None = None
    delay: dict[str, DelayDuring] = Field(default_factory=dict)
    problem: str | None = None


class TracesRecord(Record):
    """Traces of regions that were written.

    Attributes
    ----------
    file, frames, missed
        Name of the file, frames in it, and frames that the disk was too slow for.
    regions, source
        How many regions, and where they come from.
    """

    file: str = ""
    frames: int = 0
    missed: int = 0
    regions: int = 0
    source: str = ""


class TriggerRecord(Record):
    """Firings of one trigger.

    Attributes
    ----------
    when, then
        Its condition and its action.
    fired, done, failed, not_done
        Times that the condition was met; actions done, failed, and left out because an earlier one still ran.
    held_off
        Times that the condition was met within the hold-off or beyond the limit, so that nothing was done.
    dry_run
        Whether actions were only noted in the log.
    delay_p50_s, delay_p99_s
        From the camera to the end of the action.
    problem
        What went wrong, None where nothing did.
    """

    when: str = ""
    then: str = ""
    fired: int = 0
    done: int = 0
    failed: int = 0
    not_done: int = 0
    held_off: int = 0
    dry_run: bool = False
    delay_p50_s: float | None = None
    delay_p99_s: float | None = None
    problem: str | None = None


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
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is no file")
        return cls.model_validate_json(path.read_bytes())


class HookReport(HookCounts):
    """Report of a session beside another program's acquisition, as in ``hook.json``.

    Attributes
    ----------
    problem
        What went wrong, in one sentence; None where nothing did.
    report
        Report of the denoising process; None where it did not finish.
    on_denoised
        Denoised frames handed to a function of the user's program; None without one.
    """

    schema_version: int = 2
    problem: str | None = None
    report: SessionReport | None = None
    on_denoised: CallbackCounts | None = None


class RequestAnswer(Record):
    """Answer of a running session to a request, as in its ``log.jsonl``.

    Attributes
    ----------
    utc, event, state
        When it answered, what was asked for, and the session's state afterwards.
    received
        Frames received until then.
    done
        Whether the request changed anything.
    """

    schema_version: int = 1
    utc: str = ""
    event: str = ""
    state: str = ""
    received: int = 0
    done: bool = False


class _Written(Record):
    """A movie that was written after the recording."""

    schema_version: int = 2
    output: Path
    frames: int
    frame_s: float
    notes: list[str] = Field(default_factory=list)
    guard: GuardFinding = Field(default_factory=GuardFinding)
    untrue: str | None = None
    denoiser: MovieProvenance


class Denoising(_Written):
    """Result of `denoscope.acquisition.denoise_movie`.

    Attributes
    ----------
    output, std
        Files that were written.
    frames, frame_s, resumed_from
        Frames in it, mean time a frame in seconds, and frames that were there already.
    traces
        Traces of regions that were written; None where none were asked for.
    source
        Pixel size, frame rate, channel and more of the movie, as its file tells them.
    notes, movie_note
        Sentences for the user; what is worth knowing of how the movie was opened, empty for nothing.
    noise
        Noise of the movie; None where it is too short to be measured.
    guard, untrue
        Denoised frames that part from the measured ones, and a sentence where they are not to be trusted, else None.
    denoiser
        Origin of the denoised frames.
    incomplete
        Sentences that say which frames of a recording its movie lacks; empty where it is whole.
    """

    std: Path | None = None
    resumed_from: int = 0
    movie_note: str = ""
    traces: TracesRecord | None = None
    source: SourceRecord = Field(default_factory=SourceRecord)
    noise: NoiseCheck | None = None
    incomplete: list[str] = Field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True where every frame is there and to be trusted."""
        return self.untrue is None and not self.incomplete


class Filling(_Written):
    """Result of `denoscope.acquisition.fill_run`.

    Attributes
    ----------
    output, frames, frame_s, notes, guard, untrue, denoiser
        As of `Denoising`.
    kept, computed, missing
        Frames as they were denoised live, frames computed now, and frames whose shape disagreed with their tags.
    incomplete
        Sentences that say what is missing of the raw recording; empty where it is whole.
    """

    kept: int
    computed: int
    missing: int
    incomplete: list[str] = Field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True where every frame is there and to be trusted."""
        return self.untrue is None and not self.incomplete
