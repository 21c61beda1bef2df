"""Settings of a live session: one validated object, unknown names refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from denoscope.acquisition.sinks.live import LiveFormat
from denoscope.acquisition.sources.micromanager.camera import CameraChoice, parse_roi
from denoscope.acquisition.triggers.trigger import Trigger, parse_trigger
from denoscope.runtime import InvalidInput

__all__ = ["SessionSettings", "make_settings"]


class SessionSettings(BaseModel):
    """Settings of a recording: source, bundle, output.

    Attributes
    ----------
    core
        ``demo``, ``HOST:PORT``, ``FILE.cfg``, ``replay:PATH`` or ``watch:PATH``.
    output
        Run folder; created, and refused where it already holds a recording.
    bundle
        Folder or name of a shipped bundle.
    look_ahead
        Frames to wait for after each frame; None for the bundle's own.
    backend
        Name of a backend, or ``auto``.
    threads
        Threads of the backend; None for its default.
    frames, seconds
        Where to stop; neither for no end, and not both.
    movie
        What ``demo`` replays; None for the movie that ships with the package.
    fps
        Frames per second of ``demo`` and ``replay:PATH``.
    mm_dir
        Folder with the adapters for ``FILE.cfg``.
    buffer_mb
        Size of the core's circular buffer in MB.
    raw_queue_mb
        Frames that may wait for the disk outside the core, in MB; as many more stay until the disk has confirmed them.
    rescue
        Folder, best on another disk, where raw frames are saved that the disk of `output` does not take; None for
        ``denoscope-rescued`` in the home folder, or else among the temporary files.
    lag_s
        Seconds that a frame may wait for the denoiser before outputs are skipped.
    finish_s
        Seconds that the denoiser may take for its backlog after the recording ended.
    camera_fps
        Frames per second of a camera that is slower than its exposure; for the forecast only.
    force
        Arm the camera though the forecast says that the disk is too slow or too full.
    reserve_mb
        Disk space in MB that must stay free; below half of it a recording is ended.
    picture
        Draw ``report.png``.
    keep_raw
        Write ``raw.tif``; off only if another program saves every raw frame.
    denoised_format
        Of the denoised movie: ``ome-tiff``, ``ome-zarr`` or ``ndtiff``.
    std
        Write the predicted standard deviation of every denoised pixel too.
    float32
        Write the denoised movie in float32, not rounded to whole counts.
    fill
        Compute skipped frames after the recording, from the raw ones; else they show the measured frame.
    fix_line_offset
        Correct an offset between odd and even lines in the denoised movie; else it stays as it is in the raw one.
    denoiser
        ``process``: in a separate process, whose crash costs no raw frame; ``thread``: in this one.
    patience_s
        Seconds that a denoiser in a separate process may take for one frame before it counts as hung.
    metrics
        Port, or ``HOST:PORT`` on this computer, where Prometheus reads the session's numbers; None for none.
    streams
        Movies that may be interleaved: cameras x channels x slices x positions.
    idle_s
        Seconds without a new frame after which a watched file counts as complete.
    channel, plane, position, interleaved, axes
        Part of the movie that ``replay:PATH``, ``watch:PATH`` or `movie` names, as for `denoscope.runtime.open_movie`.
    camera_gain, camera_offset, camera_roi
        Calibration maps, and the region ``x,y,width,height`` of them that the frames show: frames are then
        denoised in photo-electrons. The raw recording stays as the camera gave it.
    exposure_ms, roi, binning
        Exposure in milliseconds, region ``x,y,width,height`` of the sensor (in pixels after binning), and pixels read
        as one along each axis, of the camera of ``FILE.cfg``: set before it starts and put back afterwards; None leaves
        them as they are.
    regions
        File with regions whose traces are written to ``traces.csv``, or ``find`` or ``find:RADIUS`` to find cells in
        the first denoised frames; see `denoscope.acquisition.read_regions`.
    dark
        Counts of the camera without light, which are no light in dF/F.
    trigger
        Conditions and actions, like ``region 3 dff > 0.5 for 2 frames then shutter close``.
    preview
        Show and denoise, and save nothing, until the window asks for the recording, which then begins with these
        settings; regions, triggers, `frames` and `seconds` are for the recording.
    hold_off_s, trigger_limit, dry_run
        Of the triggers; see `denoscope.acquisition.Trigger`.
    adapt
        Train on the recorded frames in a process beside the recording, and go on with the new weights where they are
        better on frames that they were not trained on. Needs the extra ``train``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    core: str
    output: Path
    bundle: str = "live"
    look_ahead: int | None = Field(None, ge=0)
    backend: str = "auto"
    threads: int | None = Field(None, ge=1)
    frames: int | None = Field(None, ge=1, le=2**31 - 1)
    seconds: float | None = Field(None, gt=0, le=1e7)
    movie: Path | None = None
    fps: float = Field(30.0, gt=0, le=10_000)
    mm_dir: Path | None = None
    buffer_mb: int = Field(512, ge=1, le=1_000_000)
    raw_queue_mb: int = Field(256, ge=1)
    rescue: Path | None = None
    lag_s: float = Field(0.5, gt=0)
    finish_s: float = Field(5.0, gt=0)
    camera_fps: float | None = Field(None, gt=0, le=1e6)
    force: bool = False
    reserve_mb: float = Field(200.0, ge=0)
    picture: bool = True
    keep_raw: bool = True
    denoised_format: LiveFormat = "ome-tiff"
    std: bool = False
    float32: bool = False
    fill: bool = True
    fix_line_offset: bool = False
    denoiser: Literal["process", "thread"] = "process"
    patience_s: float = Field(20.0, gt=0)
    metrics: str | None = None
    streams: int = Field(64, ge=1, le=4096)
    idle_s: float = Field(10.0, gt=0)
    channel: str | None = None
    plane: str | None = None
    position: str | None = None
    interleaved: int | None = Field(None, ge=2, le=64)
    axes: str | None = None
    camera_gain: Path | None = None
    camera_offset: Path | None = None
    camera_roi: str | None = None
    exposure_ms: float | None = Field(None, gt=0, le=1e7)
    roi: str | None = None
    binning: int | None = Field(None, ge=1, le=64)
    regions: str | None = None
    dark: float = Field(0.0, ge=0, le=1e6)
    trigger: tuple[str, ...] = ()
    hold_off_s: float = Field(1.0, ge=0, le=1e6)
    trigger_limit: int | None = Field(None, ge=1)
    dry_run: bool = False
    adapt: bool = False
    preview: bool = False

    @field_validator("regions", mode="before")
    @classmethod
    def _path_as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, Path) else value

    def triggers(self) -> list[Trigger]:
        """Return the triggers that the settings name.

        Raises
        ------
        InvalidInput
            When one is not understood.
        """
        return [
            parse_trigger(text, hold_off_s=self.hold_off_s, limit=self.trigger_limit, dry_run=self.dry_run)
            for text in self.trigger
        ]

    def camera(self) -> CameraChoice:
        """Return what the settings ask of the camera.

        Raises
        ------
        InvalidInput
            When the region is not understood.
        """
        roi = None if self.roi is None else parse_roi(self.roi)
        return CameraChoice(self.exposure_ms, roi, self.binning)

    @property
    def _paced(self) -> bool:
        return self.core == "demo" or self.core.startswith("replay:")

    @property
    def frame_limit(self) -> int | None:
        """Frames after which to stop, seconds converted where denoscope sets the frame rate; None for no end."""
        if self.frames is None and self.seconds is not None and self._paced:
            return max(1, round(self.seconds * self.fps))
        return self.frames


def make_settings(**values: Any) -> SessionSettings:
    """Return validated settings.

    Parameters
    ----------
    values
        Fields of `SessionSettings` by name; at least ``core`` and ``output``.

    Returns
    -------
    SessionSettings
        Checked and frozen.

    Raises
    ------
    InvalidInput
        One sentence naming the setting, its value and what is accepted.

    Examples
    --------
    >>> make_settings(core="demo", output="run", seconds=5).bundle
    'live'
    >>> make_settings(core="demo", output="run", fps=0)
    Traceback (most recent call last):
    denoscope.runtime.errors.InvalidInput: `fps` 0: input should be greater than 0.
    """
    try:
        settings = SessionSettings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(
            f"`{name}` {first['input']}: {first['msg'][0].lower()}{first['msg'][1:]}."
        ) from error
    if settings.frames is not None and settings.seconds is not None:
        raise InvalidInput(
            f"`frames` {settings.frames} and `seconds` {settings.seconds:g} exclude each other; give one."
        )
    if settings.float32 and settings.denoised_format == "ndtiff":
        raise InvalidInput(
            "`float32` does not go with `denoised_format` ndtiff, which holds whole counts only: choose ome-tiff or "
            "ome-zarr."
        )
    if settings.movie is not None and settings.core != "demo":
        raise InvalidInput(
            f"`movie` {settings.movie} is replayed by `core` demo, not by `core` {settings.core}: leave "
            "`movie` out."
        )
    settings.triggers()
    settings.camera()
    return settings
