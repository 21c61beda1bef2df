"""Open everything that a recording needs, cheapest refusals first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from denoscope.acquisition.contracts import Denoiser, SourceInfo
from denoscope.acquisition.denoisers.converting import Convert, ConvertingDenoiser, conversion, load_camera
from denoscope.acquisition.denoisers.local import DenoiserRequest, LocalDenoiser, SessionDenoiser
from denoscope.acquisition.denoisers.remote import RemoteDenoiser
from denoscope.acquisition.denoisers.routing import Routes
from denoscope.acquisition.errors import one_line
from denoscope.acquisition.lane.lane import QUEUE_FRAMES, DenoiseLane
from denoscope.acquisition.provenance import package_version
from denoscope.acquisition.raw.disk import existing_parent, free_bytes
from denoscope.acquisition.raw.rescue import Rescue, check_place, rescue_places
from denoscope.acquisition.raw.writer import RAW_MOVIE
from denoscope.acquisition.session.recording.metrics import Gauges, MetricsServer, metrics_address
from denoscope.acquisition.session.recording.raw_lane import frames_that_fit
from denoscope.acquisition.session.recording.session import Session
from denoscope.acquisition.session.recording.watchers import Watchers
from denoscope.acquisition.session.settings import SessionSettings
from denoscope.acquisition.sinks.base import PixelsAt
from denoscope.acquisition.sinks.live import check_live_format
from denoscope.acquisition.sources import Part, Source, open_source
from denoscope.acquisition.sources.movies import read_movie
from denoscope.runtime import Bundle, DenoscopeError, InvalidInput

from .forecast import Arm, Forecast, Load, make_forecast, refused
from .run_files import RunFiles, open_files, refuse_existing

if TYPE_CHECKING:
    from pathlib import Path

    from denoscope.acquisition.adaptation.adaptation import Adaptation
    from denoscope.acquisition.contracts import DenoisedSink, RawSink
    from denoscope.acquisition.denoisers.facts import SameTreatment
    from denoscope.acquisition.view.board.link import LiveView, OpenView
    from denoscope.runtime import CameraCalibration

__all__ = ["OpenRun", "open_run"]


@dataclass(frozen=True)
class OpenRun:
    """Everything that is open during one recording.

    Attributes
    ----------
    settings
        As asked for.
    started_utc
        When it was opened.
    source, info
        Opened source, and its description.
    given
        The source as the denoiser is given it, and as its output is.
    camera, convert
        Calibration, and what is done to a frame before it is denoised; None for nothing.
    denoiser
        Of the session, before frames are converted.
    forecast
        Of disk and rate.
    files
        The run folder.
    routes, lane, session, gauges
        What records and denoises, and its numbers for a metrics server.
    view
        Shows the session, or None.
    watchers
        Look at the denoised frames.
    adaptation
        Trains while recording; None where it was not asked for.
    notes
        Sentences for the user; more are added until the report is written.
    """

    settings: SessionSettings
    started_utc: str
    source: Source
    info: SourceInfo
    given: SourceInfo
    camera: CameraCalibration | None
    convert: Convert | None
    denoiser: SessionDenoiser
    forecast: Forecast
    files: RunFiles
    routes: Routes
    lane: DenoiseLane
    session: Session
    gauges: Gauges
    view: OpenView | None
    watchers: Watchers
    adaptation: Adaptation | None
    notes: list[str]

    @property
    def provenance(self) -> dict[str, Any]:
        """Provenance of the denoised frames; the denoised movie reads it when it is begun and when it is closed."""
        return self.denoiser.provenance

    def start(self) -> None:
        """Arm the camera, keep the files, and begin what goes on beside the recording."""
        self.session.start()
        self.files.keep()
        self.files.log.write("recording")
        if self.adaptation is not None:
            from denoscope.acquisition.adaptation.adaptation import Surroundings

            self.adaptation.start(
                Surroundings(
                    written=lambda: self.files.raw.written,
                    dropped=lambda: self.lane.counts()[1],
                    streams=lambda: len(self.routes.received),
                    tally=self.lane.tally,
                    tell=lambda event, **values: self.files.log.write(event, **values),
                )
            )


def open_run(
    settings: SessionSettings,
    stack: ExitStack,
    *,
    source: Source | None = None,
    wrap: Callable[[Any], Denoiser] | None = None,
    arm: Arm | None = None,
    view: LiveView | None = None,
    watchers: Watchers | None = None,
) -> OpenRun:
    """Open source, denoiser and files; `stack` closes them.

    Parameters
    ----------
    settings
        What to record and where to.
    stack
        Closes everything; files are removed with it unless ``files.keep`` was called.
    source, wrap, arm, view
        As for `live`.
    watchers
        Look at the denoised frames; None for those that the settings ask for.

    Raises
    ------
    DenoscopeError
        When the settings, the bundle, the backend, the source or the disk do not allow the recording.
    """
    started_utc = datetime.now(UTC).isoformat()
    _check_outputs(settings)
    notes: list[str] = []
    metrics = _open_metrics(settings, stack)
    camera = load_camera(settings.camera_gain, settings.camera_offset, settings.camera_roi)
    convert = conversion(camera, float32=settings.float32)
    watchers = watchers or Watchers(settings)
    denoiser, adaptation = _open_denoiser(settings, watchers, camera, stack)
    source = source or _source_of(settings)
    stack.callback(_close_source, source, notes)
    info = _open_source(source, settings, camera)
    given = info if convert is None else replace(info, dtype=np.dtype(np.float32))
    forecast = _forecast(settings, source, info, given, arm)
    # Before the camera is armed, because it takes longer than a frame.
    denoiser.prepare(info.shape, given.dtype, min(info.cameras, settings.streams))
    if view is not None:
        view.wait()
    files = open_files(settings, stack, info, given, forecast, denoiser.provenance, notes)
    stack.callback(watchers.close)
    files.watch(watchers, info.shape, source.core)
    shown = None if view is None else view.open(settings, info)
    raw, denoised = _sinks(files, watchers, shown)
    routes = Routes(settings.streams)
    lane = DenoiseLane(
        _wrapped(watchers.denoiser(denoiser), convert, wrap),
        denoised,
        look_ahead=denoiser.look_ahead,
        queue_frames=QUEUE_FRAMES,
        lag_s=settings.lag_s,
        finish_s=settings.finish_s,
        clock=info.clock,
        routes=routes,
    )
    session = _session(settings, source, info, raw, lane)
    gauges = _gauges(settings, session, lane, info, denoiser.provenance, started_utc)
    if metrics is not None:
        metrics.serve(gauges)
        files.log.write("metrics", url=metrics.url)
    return OpenRun(
        settings=settings,
        started_utc=started_utc,
        source=source,
        info=info,
        given=given,
        camera=camera,
        convert=convert,
        denoiser=denoiser,
        forecast=forecast,
        files=files,
        routes=routes,
        lane=lane,
        session=session,
        gauges=gauges,
        view=shown,
        watchers=watchers,
        adaptation=adaptation,
        notes=notes,
    )


def _check_outputs(settings: SessionSettings) -> None:
    refuse_existing(settings.output)
    check_live_format(settings.output, settings.denoised_format)
    if settings.rescue is not None:
        check_place(settings.rescue)


def _open_source(source: Source, settings: SessionSettings, camera: CameraCalibration | None) -> SourceInfo:
    info = source.open()
    if settings.adapt and info.cameras > 1:
        raise InvalidInput(
            f"`adapt` learns from one stream of frames, and {info.title} sends those of {info.cameras} cameras: leave "
            "`adapt` out, or record one camera."
        )
    if camera is not None:
        camera.check(info.shape)
    return info


def _wrapped(denoiser: Denoiser, convert: Convert | None, wrap: Callable[[Any], Denoiser] | None) -> Denoiser:
    """Return the denoiser as the lane calls it: with camera counts, through the caller's wrapper."""
    converted = denoiser if convert is None else ConvertingDenoiser(denoiser, convert)
    return wrap(converted) if wrap else converted


def _session(
    settings: SessionSettings, source: Source, info: SourceInfo, raw: RawSink, lane: DenoiseLane
) -> Session:
    return Session(
        source,
        raw,
        lane,
        frames=settings.frame_limit,
        raw_queue_frames=frames_that_fit(settings.raw_queue_mb, info.frame_bytes),
        rescue=_rescue(settings, info),
    )


def _rescue(settings: SessionSettings, info: SourceInfo) -> Rescue | None:
    if not settings.keep_raw:
        return None
    return Rescue(settings.output, info, package_version(), rescue_places(settings.rescue, settings.output))


def _sinks(files: RunFiles, watchers: Watchers, shown: OpenView | None) -> tuple[RawSink, DenoisedSink]:
    """Return what takes raw and denoised frames: the files, and what looks at frames on the way there."""
    raw, denoised = files.raw, watchers.sink(files.movie)
    if shown is None:
        return raw, denoised

    def raw_at() -> PixelsAt | None:
        byte = files.raw.pixels_at
        return None if byte is None else PixelsAt(RAW_MOVIE, byte)

    return shown.shown(raw, denoised, raw_at=raw_at, denoised_at=lambda: files.movie.pixels_at)


def _open_metrics(settings: SessionSettings, stack: ExitStack) -> MetricsServer | None:
    if settings.metrics is None:
        return None
    metrics = MetricsServer(metrics_address(settings.metrics))
    stack.callback(metrics.close)
    return metrics


def _open_denoiser(
    settings: SessionSettings, watchers: Watchers, camera: CameraCalibration | None, stack: ExitStack
) -> tuple[SessionDenoiser, Adaptation | None]:
    """Return the denoiser with its provenance, and what trains beside it; `stack` closes both."""
    if settings.adapt:
        from denoscope.acquisition.adaptation.adaptation import check_adaptation

        check_adaptation(settings.bundle, denoiser=settings.denoiser, keep_raw=settings.keep_raw)
    denoiser, adaptation = _denoiser_and_adaptation(settings, watchers)
    stack.callback(denoiser.close)
    if adaptation is not None:
        stack.callback(adaptation.close)
    denoiser.provenance.update(
        camera=None if camera is None else camera.describe(),
        float32=settings.float32,
        fix_line_offset=settings.fix_line_offset,
    )
    return denoiser, adaptation


def _denoiser_and_adaptation(
    settings: SessionSettings, watchers: Watchers
) -> tuple[SessionDenoiser, Adaptation | None]:
    request = DenoiserRequest(
        settings.bundle,
        settings.backend,
        settings.look_ahead,
        settings.threads,
        std=settings.std or (watchers.wants_std and predicts_std(settings.bundle)),
        fix_line_offset=settings.fix_line_offset,
    )
    if settings.denoiser == "thread":
        return LocalDenoiser(request), None
    first = RemoteDenoiser(request, patience_s=settings.patience_s)
    if not settings.adapt:
        return first, None
    from denoscope.acquisition.adaptation.adaptation import Adaptation
    from denoscope.acquisition.adaptation.swapping import SwappingDenoiser

    def make(another: DenoiserRequest) -> SessionDenoiser:
        return RemoteDenoiser(another, patience_s=settings.patience_s)

    camera = {
        "camera_gain": _text(settings.camera_gain),
        "camera_offset": _text(settings.camera_offset),
        "camera_roi": settings.camera_roi,
    }

    def reopen(bundle: str, told: SameTreatment) -> SessionDenoiser:
        return make(replace(request, bundle=bundle, look_ahead=first.look_ahead, **told))

    denoiser = SwappingDenoiser(first, request.bundle, reopen)
    return denoiser, Adaptation(denoiser, make, request, settings.output, camera)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


def predicts_std(bundle: str) -> bool:
    """Return whether a bundle predicts standard deviations; False where it cannot be opened, which is said later."""
    try:
        return Bundle.load(bundle).manifest.predicts_std
    except (DenoscopeError, OSError):
        return False


def _source_of(settings: SessionSettings) -> Source:
    """Return the source that the settings name, not opened."""
    part = Part(settings.channel, settings.plane, settings.position, settings.interleaved, settings.axes)
    return open_source(
        settings.core,
        movie=read_movie(settings.movie, **part.choice()) if settings.movie else None,
        fps=settings.fps,
        frames=settings.frame_limit,
        mm_dir=settings.mm_dir,
        buffer_mb=settings.buffer_mb,
        idle_s=settings.idle_s,
        part=part,
        camera=settings.camera(),
    )


def _close_source(source: Source, notes: list[str]) -> None:
    try:
        source.close()
    except Exception as error:  # noqa: BLE001  nothing can be lost any more; say it and go on
        notes.append(f"the source did not close cleanly: {one_line(error)}")


def _forecast(
    settings: SessionSettings, source: Source, info: SourceInfo, given: SourceInfo, arm: Arm | None
) -> Forecast:
    """Compare the disk with the camera, and go on only where somebody answers for it."""
    forecast = make_forecast(
        existing_parent(settings.output),
        info,
        Load(settings.keep_raw, given.dtype.itemsize, settings.std),
        frames=settings.frame_limit,
        seconds=settings.seconds,
        camera_fps=settings.camera_fps,
        reserve=int(settings.reserve_mb * 1e6),
        memory=(settings.raw_queue_mb + settings.buffer_mb) * 2**20,
        patient=source.patient,
    )
    armed = arm(forecast) if arm is not None else settings.force or forecast.problem is None
    if not armed:
        raise refused(forecast)
    return forecast


def _gauges(
    settings: SessionSettings,
    session: Session,
    lane: DenoiseLane,
    info: SourceInfo,
    provenance: Mapping[str, object],
    started_utc: str,
) -> Gauges:
    return Gauges(
        lane.tally.latency,
        late_s=settings.lag_s,
        queues=lambda: session.queues,
        free_bytes=lambda: free_bytes(settings.output),
        info={
            "version": package_version(),
            "source": info.name,
            "camera": info.camera,
            "bundle": str(provenance["bundle"]),
            "backend": str(provenance["backend"]),
            "started_utc": started_utc,
        },
    )
