"""Results of a benchmark, as in ``bench.json`` and ``timelines.json``."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from denoscope.acquisition.results import Record
from denoscope.runtime import Intensity

from .cases import Case

__all__ = [
    "IN_PROCESS",
    "OWN_PROCESS",
    "SCHEMA",
    "Benchmark",
    "BenchmarkProvenance",
    "CaseRatios",
    "CaseResult",
    "CaseTimeline",
    "CaseTimes",
    "Commit",
    "ComparedCase",
    "Comparison",
    "CoreCount",
    "DeviceMemory",
    "Energy",
    "FrameAccounts",
    "FrameCounts",
    "HighestRate",
    "KeepUp",
    "MeasuredCase",
    "Memory",
    "Percentiles",
    "Startup",
    "Summary",
    "TriedRate",
]

SCHEMA = 1
IN_PROCESS, OWN_PROCESS = "in the measuring process", "in a process of its own"


class Percentiles(Record):
    """Nearest-rank percentiles of some times in seconds; None where that sample never came."""

    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None
    p99_9_s: float | None = None
    max_s: float | None = None


class FrameCounts(Record):
    """Frames that arrived and were delivered, and those that were dropped, by reason."""

    arrived: int = 0
    delivered: int = 0
    dropped: dict[str, int] = Field(default_factory=dict)


class FrameAccounts(Record):
    """Counts of the measured frames and of all frames, and how many latencies were measured."""

    measured: FrameCounts = Field(default_factory=FrameCounts)
    all: FrameCounts = Field(default_factory=FrameCounts)
    samples: int = 0


class Summary(Record):
    """Statistics of one timeline.

    Attributes
    ----------
    frames
        Frames that arrived, were delivered and were dropped.
    latency, latency_with_drops
        From the scheduled arrival to the delivered output: of delivered frames, and of all measured ones.
    beyond_look_ahead
        The latency without the time until the last frame that the output has to wait for was due.
    warm_up_latency
        Latency of the frames before the measured ones.
    stages
        Steps that add up to the latency, of delivered frames.
    hops
        Way of the measured frames to the denoiser's process, the work there and the way back; empty without one.
    push
        Time that pushes spent on each kind of work, of those that gave an output.
    clock_late_max_s
        Most seconds that the camera's thread was late.
    busy
        Share of the measured time that the denoising thread worked.
    """

    frames: FrameAccounts = Field(default_factory=FrameAccounts)
    latency: Percentiles
    latency_with_drops: Percentiles = Field(default_factory=Percentiles)
    beyond_look_ahead: Percentiles = Field(default_factory=Percentiles)
    warm_up_latency: Percentiles = Field(default_factory=Percentiles)
    stages: dict[str, Percentiles] = Field(default_factory=dict)
    hops: dict[str, Percentiles] = Field(default_factory=dict)
    push: dict[str, Percentiles] = Field(default_factory=dict)
    clock_late_max_s: float = 0.0
    busy: float = 0.0


class Startup(Record):
    """Seconds until the first frame could be pushed, by step and in all."""

    load_bundle_s: float = 0.0
    open_backend_s: float = 0.0
    prepare_s: float = 0.0
    total_s: float | None = None


class DeviceMemory(Record):
    """Most memory used of the GPU, whose memory that is, and why it is unknown."""

    device_peak_bytes: int | None = None
    device_peak_of: str | None = None
    device_peak_problem: str | None = None


class Memory(DeviceMemory):
    """Memory of the process named by ``of``, in bytes: before, ready for frames, and at most."""

    of: str = ""
    before_bytes: int | None = None
    ready_bytes: int | None = None
    peak_bytes: int | None = None
    peak_since: str = ""
    scene_bytes: int = 0


class Energy(Record):
    """Energy that the GPU drew while the measured frames arrived.

    Attributes
    ----------
    gpu, source
        Name of the GPU; ``counter`` or ``sampled power``.
    idle_power_w, mean_power_w
        Power before the case and during it.
    duration_s, energy_j
        How long, and how much in all.
    per_frame_j, above_idle_per_frame_j
        Energy a delivered frame; None where no frame was delivered.
    """

    gpu: str
    source: str
    idle_power_w: float | None = None
    mean_power_w: float | None = None
    duration_s: float | None = None
    energy_j: float | None = None
    per_frame_j: float | None = None
    above_idle_per_frame_j: float | None = None


class TriedRate(Record):
    """One rate of the search for the highest: see `Trial`."""

    fps: float
    frames: int
    dropped: int
    backlog_frames: float
    sustained: bool


class HighestRate(Record):
    """Highest rate that was sustained, lowest above it that was not, and every rate tried, in order."""

    fps: float | None = None
    failed_fps: float | None = None
    trials: list[TriedRate] = Field(default_factory=list)


class CaseTimes(Record):
    """Times of each frame of one case in seconds, to the microsecond, None where it never came to that.

    Attributes
    ----------
    fps, warm_up_frames, measured_frames, tail_frames, pool_frames
        When frames arrived, and how many pictures took turns.
    outcome, dropped
        Outcome of each frame, and drops by reason.
    scheduled_s, offered_s, taken_s, encoded_s, fuse_start_s, fused_s, emitted_s, delivered_s
        See `Timeline`.
    """

    model_config = ConfigDict(extra="allow")  # seconds of each kind of work and of each hop, by name

    fps: float
    warm_up_frames: int
    measured_frames: int
    tail_frames: int
    pool_frames: int
    outcome: list[str]
    dropped: dict[str, int]
    scheduled_s: list[float | None]
    offered_s: list[float | None]
    taken_s: list[float | None]
    encoded_s: list[float | None]
    fuse_start_s: list[float | None]
    fused_s: list[float | None]
    emitted_s: list[float | None]
    delivered_s: list[float | None]


class CaseTimeline(Record):
    """Times of one case; None where it was not measured."""

    label: str
    timeline: CaseTimes | None = None


class CaseResult(Record):
    """Outcome of a case, as in ``bench.json``: this much of one that was not measured.

    Attributes
    ----------
    label, case
        One line for tables, and what was measured.
    problem
        Why it was not measured, or not to the end; None where all went well.
    load_average_1min_before
        Busy threads before the case; None where the system does not say.
    """

    label: str
    case: Case
    problem: str | None = None
    load_average_1min_before: float | None = None


class MeasuredCase(Summary, CaseResult):
    """Numbers of a case that was measured, with the statistics of its timeline.

    Attributes
    ----------
    boundary, backend
        Process that denoised; library, device, precision and threads.
    intensity
        Intensity transform of the movie.
    startup, memory
        Seconds until the first frame could be pushed, and memory.
    energy, energy_problem
        Energy that the GPU drew, and why that is unknown.
    sustained
        Highest frame rate; None where it was not searched for.
    """

    boundary: str = IN_PROCESS
    backend: dict[str, str] = Field(default_factory=dict)
    intensity: Intensity | None = None
    startup: Startup = Field(default_factory=Startup)
    memory: Memory = Field(default_factory=Memory)
    energy: Energy | None = None
    energy_problem: str | None = None
    sustained: HighestRate | None = None


class Commit(Record):
    """Commit of a checkout, and whether a file that it tracks was changed."""

    commit: str
    changed: bool


class CoreCount(Record):
    """Logical cores, and how many of them this process may use."""

    logical: int = 0
    usable: int = 0


class BenchmarkProvenance(Record):
    """Computer, versions, commit, time and load that a benchmark was run with."""

    created_utc: str = ""
    denoscope: str = ""
    git: Commit | None = None
    python: str = ""
    platform: str = ""
    machine: str = ""
    cpu: str = ""
    cores: CoreCount = Field(default_factory=CoreCount)
    load_average_1min: float | None = None
    packages: dict[str, str] = Field(default_factory=dict)
    command: list[str] = Field(default_factory=list)


class KeepUp(Record):
    """Policy of the queue in front of the denoiser."""

    queue_frames: int
    lag_s: float
    finish_s: float


class CaseRatios(Record):
    """Ratios of one case: this run / another one; None where one of the two has no number.

    Attributes
    ----------
    label, ratios
        The case, and its ratios by name.
    """

    label: str
    ratios: dict[str, float | None]


class ComparedCase(CaseRatios):
    """The same with the frames dropped in the other run and in this one; None where that one was not measured."""

    dropped: list[int | None]


class Comparison(Record):
    """Ratios of this run to an earlier one.

    Attributes
    ----------
    against, cases
        Name of the earlier run, and the cases that both hold.
    only_here, only_there
        Cases of one run alone.
    differences
        What else changed between the runs.
    """

    against: str
    cases: list[ComparedCase]
    only_here: list[str]
    only_there: list[str]
    differences: list[str]


class Benchmark(Record):
    """Result of `benchmark`, as in ``bench.json``.

    Attributes
    ----------
    bench_schema
        Version of the file.
    provenance
        Computer, versions, commit and time.
    keep_up
        Policy of the queue in front of the denoiser; None where it was not written.
    backends_left_out
        Backends that were not measured, with the reason.
    cases
        Numbers of each case.
    comparison, whole_window
        Ratios to an earlier run, and to the network without the streaming split; None and empty where not asked for.
    notes
        Sentences for the user.
    """

    bench_schema: int = SCHEMA
    provenance: BenchmarkProvenance
    keep_up: KeepUp | None = None
    backends_left_out: dict[str, str] = Field(default_factory=dict)
    cases: list[MeasuredCase | CaseResult] = Field(default_factory=list)
    comparison: Comparison | None = None
    whole_window: list[CaseRatios] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True where every case was measured without a problem."""
        return not any(result.problem for result in self.cases)

    @property
    def measured(self) -> list[MeasuredCase]:
        """Cases that were measured, if not to the end."""
        return [result for result in self.cases if isinstance(result, MeasuredCase)]
