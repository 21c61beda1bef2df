"""Origin of denoised frames, as it is written into denoised movies and into the report."""

from __future__ import annotations

from pydantic import ConfigDict, Field, field_validator

from denoscope.runtime import Intensity, ScannerArtefacts

from .record import Record

__all__ = ["BundleSwap", "CameraRecord", "NoiseCheck", "Provenance", "SessionProvenance"]


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
    failed
        Why the bundle before was given up, where it failed after it had taken over: this one was in use earlier, and is
        again. None where this one is new.
    """

    frame: int
    bundle: str
    bundle_sha256: str
    trained_on_frames: int
    gain_nats: float
    error_nats: float
    memory_frames: int = 0
    at_s: float = 0.0
    failed: str | None = None


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
