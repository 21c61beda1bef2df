"""Contents of ``evaluation.json``: one model for each thing that is measured."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from denoscope.runtime import Intensity, counted

__all__ = [
    "BaselineRecord",
    "FlowRecord",
    "FoundRecord",
    "GridRecord",
    "HeldOutRecord",
    "Level",
    "MethodRecord",
    "MovieRecord",
    "NoiseBinRecord",
    "PairRecord",
    "ReliabilityRecord",
    "ResidualRecord",
    "ScoreRecord",
    "TraceRecord",
    "TracksRecord",
    "Verdict",
    "worst",
]

Level = Literal["fine", "look here", "do not trust"]
_TOLD_APART = 2.0  # standard errors
_LEVELS: tuple[Level, ...] = ("fine", "look here", "do not trust")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Verdict(_Record):
    """One judgement, for a reader who does not know the measurements behind it.

    Attributes
    ----------
    level
        ``fine``, ``look here`` or ``do not trust``.
    about
        Thing that is judged, for example ``brightness``.
    why
        Sentence with the number that decided.
    todo
        Sentence that says what to do; empty if nothing.
    """

    level: Level
    about: str
    why: str
    todo: str = ""

    def __str__(self) -> str:
        return f"{self.level}: {self.why}" + (f" {self.todo}" if self.todo else "")


def worst(verdicts: list[Verdict]) -> Level:
    """Return the most serious level of some verdicts; ``fine`` without any."""
    return max((v.level for v in verdicts), key=_LEVELS.index, default="fine")


class TraceRecord(_Record):
    """Traces of regions; see `denoscope.train.evaluation.real.TraceScore`."""

    snr: float
    correlation: float
    ceiling: float
    slope: float


class FlowRecord(_Record):
    """Optical flow between neighbouring frames, in pixels."""

    magnitude_px: float
    inconsistency_px: float


class TracksRecord(_Record):
    """Objects followed through a movie; see `denoscope.train.evaluation.cells.Tracks`."""

    count: int
    least_frames: int
    objects_per_frame: float
    median_frames: float
    share_tracked: float


class NoiseBinRecord(_Record):
    """Pixels of one brightness (counts): variance of the residual and of the noise model (counts squared)."""

    mean: float
    residual: float
    model: float


class BaselineRecord(_Record):
    """Mean residual of frames, in standard deviations of one pixel's noise."""

    first_frames_sigma: float
    last_frames_sigma: float
    step_sigma: float
    largest_sigma: float
    largest_at_frame: int
    white_noise_limit_sigma: float


class GridRecord(_Record):
    """Grid of the network's stride in the denoised movie."""

    stride_px: int
    peak_db: float
    around_db: float
    at_cycles_per_px: tuple[float, float]
    rms_sigma: float
    camera_rms_sigma: float
    found: bool


class ResidualRecord(_Record):
    """Noisy minus denoised movie; see `denoscope.train.evaluation.residual.Residual`."""

    excess_correlation: float
    excess_at_lag: tuple[int, int, int]
    white_noise_limit: float
    next_column: float
    next_row: float
    next_frame: float | None
    detector_next_column: float
    detector_next_row: float
    variance_ratio: float
    expected_variance_ratio: float | None
    by_brightness: list[NoiseBinRecord]
    baseline: BaselineRecord
    grid: GridRecord


class MethodRecord(_Record):
    """One movie without truth, noisy or as a bundle made it.

    Attributes
    ----------
    method
        ``noisy``, or the bundle's name.
    verdict
        The most serious level of `verdicts`; None for the noisy movie.
    verdicts
        Judgements, the serious ones first; empty for the noisy movie.
    objects, objects_supported_by_raw_counts
        Found in the maximum projection, and how many of them raw counts support.
    frame_s
        Seconds a frame; None for the noisy movie.
    """

    method: str
    verdict: Level | None = None
    verdicts: list[Verdict] = []
    objects: int
    objects_supported_by_raw_counts: int
    traces: TraceRecord | None
    flow: FlowRecord
    residual: ResidualRecord | None
    tracks: TracksRecord | None
    frame_s: float | None


class MovieRecord(_Record):
    """All methods on one movie without truth."""

    movie: str
    frames: int
    height_px: int
    width_px: int
    intensity: Intensity
    object_radius_px: float
    regions: int
    methods: list[MethodRecord]


class HeldOutRecord(_Record):
    """Difference of two bundles in how close they are to the truth, by frames that neither has seen.

    Attributes
    ----------
    bundle, than
        The two.
    gain, error
        Squared error of `than` less that of `bundle`, in variances of the noise, and its standard error.
    frames
        Frames that were left out.
    """

    bundle: str
    than: str
    gain: float
    error: float
    frames: int

    @property
    def truer(self) -> bool | None:
        """True where `bundle` is closer to the truth, False where `than` is, None where they are not told apart."""
        return None if abs(self.gain) <= _TOLD_APART * self.error else self.gain > 0

    def sentence(self) -> str:
        """Return the finding as one sentence."""
        left_out = f"on {counted(self.frames, 'frame')} that were left out"
        measured = f"{abs(self.gain):.2%} ± {self.error:.2%} of the noise's variance"
        if self.truer is None:
            return (
                f"{self.bundle} and {self.than} are equally close to the truth, as far as can be told: {left_out} "
                f"their squared errors differ by {measured}"
            )
        better, worse = (self.bundle, self.than) if self.truer else (self.than, self.bundle)
        return f"{better} is closer to the truth than {worse}: {left_out} its squared error is smaller by {measured}"


class ScoreRecord(_Record):
    """One method on a movie with truth: PSNR in dB, SSIM, and seconds a frame (None for filters)."""

    method: str
    setting: str
    psnr_db: float
    psnr_p999_db: float
    ssim: float
    frame_s: float | None = None


class ReliabilityRecord(_Record):
    """Coverage of predicted intervals; see `denoscope.train.evaluation.metrics.Reliability`."""

    nominal: tuple[float, ...]
    observed: tuple[float, ...]
    predicted: tuple[float, ...]
    actual: tuple[float, ...]


class FoundRecord(_Record):
    """Objects in the maximum projection beside those of the clean movie's."""

    truth: int
    matched: int
    surplus: int


class PairRecord(_Record):
    """All methods on one movie with truth; the dictionaries are by method."""

    movie: str
    verdicts: dict[str, Verdict] = {}
    methods: list[ScoreRecord]
    coverage_68: dict[str, float]
    coverage_95: dict[str, float]
    reliability: dict[str, ReliabilityRecord]
    objects: dict[str, FoundRecord]
