"""Record live: open everything, run the session, write the report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from denoscope.acquisition.contracts import REPORT, Denoiser, SourceInfo
from denoscope.acquisition.denoisers.converting import ConvertingDenoiser, conversion, load_camera
from denoscope.acquisition.denoisers.kept_bundle import keep_bundle
from denoscope.acquisition.denoisers.local import UNKNOWN, DenoiserRequest, LocalDenoiser, SessionDenoiser
from denoscope.acquisition.denoisers.remote import RemoteDenoiser
from denoscope.acquisition.denoisers.routing import Routes
from denoscope.acquisition.errors import OutputExists, one_line
from denoscope.acquisition.notes.noise_check import (
    check_noise,
    late_offset_note,
    noise_note,
    rounding_note,
    scanner_notes,
)
from denoscope.acquisition.notes.unusual import unusual_note
from denoscope.acquisition.processes.signals import Interrupts, interrupts
from denoscope.acquisition.provenance import package_version
from denoscope.acquisition.raw.disk import free_bytes
from denoscope.acquisition.raw.in_the_way import in_the_way
from denoscope.acquisition.raw.traces import Traces
from denoscope.acquisition.raw.writer import RAW_MOVIE, RAW_SIDECAR, RawElsewhere, RawWriter, raw_pages
from denoscope.acquisition.results import NoiseCheck, SessionProvenance, SessionReport
from denoscope.acquisition.sinks.live import check_live_format, open_live_sink
from denoscope.acquisition.sources import Part, Source, open_source
from denoscope.acquisition.sources.movies import Movie, read_movie
from denoscope.runtime import DenoscopeError, GuardFinding, counted

from .control import Action, Request, SessionControl
from .folder import FolderWatch
from .forecast import Arm, Load, make_forecast, refused
from .lane import DenoiseLane
from .log import LOG, EventLog
from .metrics import Gauges, MetricsServer, metrics_address
from .report import build_report, write_report
from .session import Session
from .settings import SessionSettings, make_settings
from .showing import StatusThread
from .skipped import Skipped, fill_skipped, show_skipped
from .states import FinishReason, SessionStatus

if TYPE_CHECKING:
    from denoscope.acquisition.contracts import DenoisedSink, RawSink
    from denoscope.acquisition.view.link import LiveView
    from denoscope.runtime import CameraCalibration

__all__ = ["live"]

_POLL_S = 0.1
_STATUS_EVERY_S = 0.25
_RATE_AFTER_S = 3.0
_DENOISE_QUEUE = 64
_HURRY_S = 1.0  # for the denoiser's backlog where Windows ends the program after 5 s


def _refuse_existing(output: Path) -> None:
    if (why := in_the_way(output)) is not None:
        raise OutputExists(f"`output` {output} cannot be the run folder: {why}; name another folder.")
    for name in (RAW_MOVIE, RAW_SIDECAR, REPORT):
        if os.path.lexists(output / name):
            raise OutputExists(
                f"{output / name} exists and recordings are never overwritten; name another `output`."
            )


def _claim(path: Path) -> None:
    """Make a file that only one session can make."""
    try:
        path.open("x").close()
    except FileExistsError:
        raise OutputExists(
            f"{path} exists, so another session writes there or did; name another `output`."
        ) from None


def _existing_parent(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


class _Run:
    """Everything that is open during one recording."""

    def __init__(
        self,
        settings: SessionSettings,
        on_status: Callable[[SessionStatus, SourceInfo, SessionProvenance], None] | None,
        wrap: Callable[[Any], Denoiser] | None,
        source: Source | None,
        control: SessionControl | None,
        arm: Arm | None,
        view: LiveView | None,
    ) -> None:
        self.settings = settings
        self.control = control or SessionControl()
        self.arm = arm or (lambda forecast: settings.force or forecast.problem is None)
        self.given_source = source
        self.on_status = on_status
        self.shown: StatusThread | None = None
        self.interrupted = False
        self.raised: BaseException | None = None
        self.wrap = wrap
        self.view = view
        self.started_utc = datetime.now(UTC).isoformat()
        self.notes: list[str] = []
        self.failures: set[str] = set()
        self.skipped = Skipped([], known=False)
        self.failure_logged = False
        self.raw_problems = 0
        self.rate_checked = False
        self.began = False
        self.busy_logged = False

    def open(self, stack: ExitStack) -> None:
        """Open source, model and files, cheapest refusals first."""
        settings = self.settings
        _refuse_existing(settings.output)
        check_live_format(settings.output, settings.denoised_format)
        self.metrics: MetricsServer | None = None
        if settings.metrics is not None:
            self.metrics = MetricsServer(metrics_address(settings.metrics))
            stack.callback(self.metrics.close)
        self.camera = load_camera(settings.camera_gain, settings.camera_offset, settings.camera_roi)
        self.convert = conversion(self.camera, float32=settings.float32)
        self.denoiser = self._open_denoiser()
        stack.callback(self.denoiser.close)
        self.provenance = self.denoiser.provenance
        self.provenance["camera"] = None if self.camera is None else self.camera.describe()
        self.provenance["float32"] = settings.float32
        self.provenance["fix_line_offset"] = settings.fix_line_offset
        part = Part(settings.channel, settings.plane, settings.position, settings.interleaved)
        movie: Movie | None = read_movie(settings.movie, **part.choice()) if settings.movie else None
        self.source: Source = self.given_source or open_source(
            settings.core,
            movie=movie,
            fps=settings.fps,
            frames=settings.frame_limit,
            mm_dir=settings.mm_dir,
            buffer_mb=settings.buffer_mb,
            idle_s=settings.idle_s,
            part=part,
        )
        stack.callback(self._close_source)
        self.info = self.source.open()
        if self.camera is not None:
            self.camera.check(self.info.shape)
        self._check_forecast()
        # Before the camera is armed, because it takes longer than a frame.
        self.denoiser.prepare(self.info.shape, self.given.dtype, min(self.info.cameras, settings.streams))
        if self.view is not None:
            self.view.wait()
        self.traces = Traces(settings.output)
        stack.callback(self._remove_traces)
        settings.output.mkdir(parents=True, exist_ok=True)
        self.output = settings.output
        raw: RawWriter | RawElsewhere = RawElsewhere()
        if settings.keep_raw:
            # First of all, because it claims the folder: a second session on it is refused here.
            with self.traces.noticing():
                raw = stack.enter_context(RawWriter(settings.output, self.info, package_version()))
        with self.traces.noticing():
            if not settings.keep_raw:
                _claim(settings.output / LOG)
            self.log = EventLog(settings.output / LOG)
            self.log.write("opened", source=self.info.as_json(), denoiser=self.provenance)
            self.log.flush()
        stack.callback(self.log.flush)
        self.log.write("forecast", **self.forecast.as_json())
        if not settings.keep_raw:
            self.notes.append("raw frames were not written here: whoever records keeps them")
        self.raw = raw
        with self.traces.noticing():
            self.bundle_path = self._keep_bundle()
        with self.traces.noticing():
            self.writer = open_live_sink(
                settings.output,
                settings.denoised_format,
                self.given,
                self.provenance,
                std=settings.std,
            )
        stack.callback(self._close_unused_writer)
        self.routes = Routes(settings.streams)
        denoiser: Denoiser = self.denoiser
        if self.convert is not None:
            denoiser = ConvertingDenoiser(denoiser, self.convert)
        sinks: tuple[RawSink, DenoisedSink] = (raw, self.writer)
        if self.view is not None:
            self.view.open(settings, self.info)
            sinks = self.view.shown(*sinks)
        self.lane = DenoiseLane(
            self.wrap(denoiser) if self.wrap else denoiser,
            sinks[1],
            look_ahead=self.denoiser.look_ahead,
            queue_frames=_DENOISE_QUEUE,
            lag_s=settings.lag_s,
            finish_s=settings.finish_s,
            clock=self.info.clock,
            routes=self.routes,
        )
        queued = settings.raw_queue_mb * 2**20 // self.info.frame_bytes
        self.session = Session(
            self.source,
            sinks[0],
            self.lane,
            frames=settings.frame_limit,
            raw_queue_frames=min(max(queued, 4), 4096),
        )
        self._serve_metrics()

    def _show_skipped(self) -> None:
        self.skipped = show_skipped(self)

    def _keep_bundle(self) -> str | None:
        """Keep in the run folder what it takes to compute skipped frames later; its absence ends no recording."""
        try:
            return keep_bundle(self.settings.bundle, self.settings.output)
        except (OSError, DenoscopeError) as error:
            self.notes.append(f"the bundle could not be copied into the run folder: {one_line(error)}")
            return str(Path(self.settings.bundle).absolute())

    @property
    def given(self) -> SourceInfo:
        """The source as the denoiser is given it, and as its output is."""
        return self.info if self.convert is None else replace(self.info, dtype=np.dtype(np.float32))

    def _open_denoiser(self) -> SessionDenoiser:
        settings = self.settings
        request = DenoiserRequest(
            settings.bundle,
            settings.backend,
            settings.look_ahead,
            settings.threads,
            std=settings.std,
            fix_line_offset=settings.fix_line_offset,
        )
        if settings.denoiser == "thread":
            return LocalDenoiser(request)
        return RemoteDenoiser(request, patience_s=settings.patience_s)

    def _serve_metrics(self) -> None:
        self.gauges = Gauges(
            self.lane.tally.latency,
            late_s=self.settings.lag_s,
            queues=lambda: self.session.queues,
            free_bytes=lambda: free_bytes(self.settings.output),
            info={
                "version": package_version(),
                "source": self.info.name,
                "camera": self.info.camera,
                "bundle": str(self.provenance["bundle"]),
                "backend": str(self.provenance["backend"]),
                "started_utc": self.started_utc,
            },
        )
        if self.metrics is not None:
            self.metrics.serve(self.gauges)
            self.log.write("metrics", url=self.metrics.url)

    def _check_forecast(self) -> None:
        """Compare the disk with the camera, and go on only where somebody answers for it."""
        settings, info = self.settings, self.info
        self.forecast = make_forecast(
            _existing_parent(settings.output),
            info,
            Load(settings.keep_raw, self.given.dtype.itemsize, settings.std),
            frames=settings.frame_limit,
            seconds=settings.seconds,
            camera_fps=settings.camera_fps,
            reserve=int(settings.reserve_mb * 1e6),
            memory=(settings.raw_queue_mb + settings.buffer_mb) * 2**20,
            patient=self.source.patient,
        )
        if not self.arm(self.forecast):
            raise refused(self.forecast)

    def _close_unused_writer(self) -> None:
        if not self.began:
            with suppress(Exception):  # there is nothing in it
                self.writer.close()

    def _remove_traces(self) -> None:
        """Leave nothing behind where the camera never ran, so that the same folder can be named again."""
        if not self.began:
            self.traces.remove()

    def _close_source(self) -> None:
        try:
            self.source.close()
        except Exception as error:  # noqa: BLE001  nothing can be lost any more; say it and go on
            self.notes.append(f"the source did not close cleanly: {one_line(error)}")

    def interrupt(self) -> None:
        """Ask for the end; called by a signal's handler, which may interrupt anything and so takes no lock."""
        self.interrupted = True

    def record(self, caught: Interrupts) -> None:
        """Run the session to its end, whatever goes wrong beside it."""
        self.session.start()
        self.began = True
        self.started_s = self.shown_s = time.perf_counter()
        self.log.write("recording")
        if self.on_status is not None:
            self.shown = StatusThread(self.on_status)
        self.folder = FolderWatch(
            self.settings.output, self.control, lambda: self._try("looking at the disk", self._check_disk)
        )
        try:
            while True:
                try:
                    while not self.session.wait(_POLL_S):
                        self._turn(caught)
                    break
                except BaseException as error:  # noqa: BLE001  a program that is ended while its camera runs
                    if not isinstance(error, KeyboardInterrupt):
                        self.raised = error
                    self.interrupted = True
        finally:
            self.folder.close()
        self._try("showing the status", self._watch)

    def _turn(self, caught: Interrupts) -> None:
        """Do what must happen on time; nothing here waits for a disk, a terminal or a reader."""
        now_s = time.perf_counter()
        if self.interrupted:
            self.session.request_stop(FinishReason.INTERRUPTED)
        limit_s = self.settings.seconds
        if limit_s is not None and self.settings.frame_limit is None and now_s - self.started_s >= limit_s:
            self.session.request_stop(FinishReason.TIME_REACHED)
        if caught.hung_up:
            caught.hung_up = False
            self._note_once(
                "the terminal was closed (SIGHUP) while recording; the recording went on "
                f"(denoscope stop {self.settings.output} ends one)"
            )
        self._try("obeying requests", self._obey)
        if now_s - self.shown_s >= _STATUS_EVERY_S:
            self.shown_s = now_s
            self._try("showing the status", self._watch)

    def _try(self, what: str, action: Callable[[], object]) -> None:
        """Do something beside the recording, which goes on when that fails; the first failure is said."""
        try:
            action()
        except Exception as error:  # noqa: BLE001  nothing beside the recording may end it
            if what not in self.failures:
                self.failures.add(what)
                self.session.add_problem(
                    f"{what} failed ({type(error).__name__}: {one_line(error)}); the recording went on"
                )

    def _watch(self) -> None:
        self._collect_problems()
        self.gauges.status = status = self.session.status()
        if not self.rate_checked and status.elapsed_s >= _RATE_AFTER_S:
            self.rate_checked = True
            warning = self.forecast.measured(status.fps_in)
            if warning is not None:
                self.log.write("warning", text=warning)
                self.notes.append(warning)
        if self.lane.problem is not None and not self.failure_logged:
            self.failure_logged = True
            self.log.write("denoiser failed", text=self.lane.problem, received=status.received)
        if (status.busy_s > 0) != self.busy_logged:
            self.busy_logged = not self.busy_logged
            event = "source busy" if self.busy_logged else "source answers again"
            self.log.write(event, busy_s=status.busy_s, received=status.received)
        if self.view is not None:
            self.view.show(status)
        if self.shown is not None:
            self.shown.show(status, self.info, SessionProvenance.model_validate(self.provenance))

    def _collect_problems(self) -> None:
        """Say what the writer of raw frames got over."""
        for problem in self.raw.problems[self.raw_problems :]:
            self.raw_problems += 1
            self.log.write("warning", text=problem)
            self.session.add_problem(problem)

    def _obey(self) -> None:
        """Do what the program, the terminal or a file asked for, and answer in the log."""
        view = self.view
        if view is not None:
            self._try("asking the view", lambda: view.pass_on(self.control))
        for request in self.control.take():
            done = self._do(request)
            status = self.session.status()
            self.log.write(
                request.action.value,
                done=done,
                by=request.origin,
                request=request.name,
                state=status.state.value,
                received=status.received,
            )

    def _do(self, request: Request) -> bool:
        """Return whether the request changed anything."""
        match request.action:
            case Action.PAUSE:
                return self.session.pause()
            case Action.RESUME:
                return self.session.resume()
            case Action.STOP:
                running = self.session.status().reason is None
                self.session.request_stop(FinishReason.STOPPED)
                return running

    def _check_disk(self) -> None:
        if self.raw.removed:
            self.session.stop_for(
                FinishReason.FOLDER_REMOVED,
                f"the recording was ended because its folder {self.settings.output} was removed",
            )
            return
        try:
            free = free_bytes(self.settings.output)
        except OSError as error:
            # Renamed, or a share that is away: writing says whether frames are lost.
            self._note_once(f"the disk of {self.settings.output} could not be looked at: {one_line(error)}")
            return
        if free < self.settings.reserve_mb * 1e6 / 2:
            self.session.stop_for(
                FinishReason.DISK_LOW,
                f"the recording was ended because only {free / 1e6:.0f} MB are free on the disk of "
                f"{self.settings.output} "
                f"(`reserve_mb` {self.settings.reserve_mb:g}); free space before the next one",
            )

    def _note_once(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)
            self.log.write("warning", text=note)

    def _find_rescued(self) -> None:
        """Go on in the folder that the raw recording was written to again, where its own was removed."""
        if self.raw.rescued is None:
            return
        self.output = self.raw.rescued
        self.log.flush()
        self.log = EventLog(self.output / LOG)
        self.session.add_problem(
            f"{self.settings.output} was removed while recording; "
            f"{counted(self.raw.written, 'raw frame was', 'raw frames were')} written "
            f"again to {self.output}, the denoised ones are gone (denoscope denoise computes them from raw.tif)"
        )

    def finish(self, caught: Interrupts) -> SessionReport:
        """Wait for the backlog, close the denoised movie, build and write the report."""
        self._try("obeying requests", self._obey)  # what came too late is answered too
        hurry = caught.closed is not None
        status = self.session.finish(_HURRY_S if hurry else None)
        if hurry:
            self._note_once(
                f"{caught.closed} while recording, and Windows ends a program then; every frame received until then "
                "was written"
            )
        self._collect_problems()
        self._find_rescued()
        self.writer.length = max(self.routes.received.values(), default=status.received)
        self.writer.received = self.routes.received
        if self.routes.refused:
            self.session.add_problem(
                f"{counted(len(self.routes.refused), 'more stream of frames was', 'more streams of frames were')} not "
                "denoised (a stream is one camera, channel, slice and position): "
                f"{counted(self.routes.limit, 'stream is', 'streams are')} the limit; raise `streams`"
            )
        self.provenance.update(self.denoiser.learned() if self.lane.ended else UNKNOWN)
        found = self.provenance.pop("guard", None)
        guard = None if found is None else GuardFinding.model_validate(found)
        if guard is not None and (untrue := guard.sentence()) is not None:
            self.session.add_problem(untrue)
        if self.lane.ended:
            self._try("showing skipped frames as measured", self._show_skipped)
            try:
                self.writer.close()
            except Exception as error:  # noqa: BLE001  the raw recording is complete; the report says this
                self.session.add_problem(f"the denoised movie could not be finished: {one_line(error)}")
        if self.shown is not None:
            self.shown.close()
            if self.shown.problem:
                self.session.add_problem(self.shown.problem)
        self._try("asking the source for its notes", lambda: self.notes.extend(self.source.notes()))
        view = self.view
        if view is not None:
            self._try("closing the view", lambda: self.notes.extend(view.finish(self.session.status())))
        status = self.session.status()
        origin = SessionProvenance.model_validate(self.provenance)
        origin.bundle_path = self.bundle_path
        origin.noise = noise = None if hurry else self._check_noise()
        if noise is not None and noise.warning:
            self.notes.append(noise.warning)
        if (note := rounding_note(origin.intensity, self.given.dtype)) is not None:
            self.notes.append(note)
        if (note := noise_note(origin.intensity)) is not None:
            self.notes.append(note)
        if (note := self.lane.tally.nan.note()) is not None:
            self.notes.append(note)
        if (note := unusual_note(self.lane.unusual)) is not None:
            self.notes.append(note)
        self.log.flush()
        self.notes += scanner_notes(origin.scanner, fixed=self.settings.fix_line_offset)
        if not hurry:
            self._try("measuring the line offset", lambda: self._note_late_offset(origin))
        if self.log.problem:
            self.notes.append(self.log.problem)
        report = build_report(
            self.session,
            status,
            self.info,
            origin,
            self.lane,
            output=self.output,
            started_utc=self.started_utc,
            notes=self.notes,
            routes=self.routes,
        )
        report.guard = guard
        report.forecast = self.forecast.as_json()
        report.keep_raw = self.settings.keep_raw
        report.frames.not_denoised = self.skipped.record()
        return report

    def _note_late_offset(self, origin: SessionProvenance) -> None:
        """Look at the whole recording for an offset between lines, where there is one stream of one size."""
        from denoscope.runtime import InvalidInput

        if not self.settings.keep_raw or len(self.routes.received) > 1:
            return
        with suppress(InvalidInput, OSError):  # frames of several shapes, or the folder was moved
            if (note := late_offset_note(origin.scanner, raw_pages(self.output))) is not None:
                self.notes.append(note)

    def _check_noise(self) -> NoiseCheck | None:
        """Measure the noise's correlation in what was recorded, which costs the camera nothing."""
        from denoscope.runtime import InvalidInput

        if not self.settings.keep_raw or len(self.routes.received) > 1:
            return None
        try:
            return check_noise(raw_pages(self.output), self.camera)
        except (InvalidInput, OSError):  # frames of several shapes, or the folder was moved
            return None
        except Exception as error:  # noqa: BLE001  the recording is complete; the report must be written
            self.notes.append(f"the noise could not be measured ({type(error).__name__}: {one_line(error)})")
            return None


def live(
    settings: SessionSettings | None = None,
    *,
    on_status: Callable[[SessionStatus, SourceInfo, SessionProvenance], None] | None = None,
    wrap: Callable[[Any], Denoiser] | None = None,
    source: Source | None = None,
    control: SessionControl | None = None,
    arm: Arm | None = None,
    view: LiveView | None = None,
    on_fill: Callable[[int, int], None] = lambda _done, _total: None,
    **values: Any,
) -> SessionReport:
    """Record from a microscope, denoising while recording, until a limit, the camera or Ctrl-C ends it.

    Parameters
    ----------
    settings
        What to record and where to, from `make_settings`; None where the settings are given by name.
    on_status
        Called about four times a second with the status, the source and the denoiser's provenance, from a thread
        that the recording does not wait for: statuses that come while it is busy are passed over, the newest is not.
    wrap
        Called with the stream; returns what takes its place. For measurements.
    source
        Not opened yet; takes the place of what ``settings.core`` names.
    control
        Pauses, resumes and stops the session from another thread.
    arm
        Told the forecast of rate, disk and space before the camera is armed; says whether to go on. By
        default a forecast with a problem is refused unless ``settings.force``.
    view
        Shows the session; closed at the end.
    on_fill
        Called with the number of raw frames done, and of all, while skipped frames are computed at the end.
    **values
        Settings by name, as of `SessionSettings`: ``core`` (``demo``, ``HOST:PORT``, ``FILE.cfg``, ``watch:PATH`` or
        ``replay:PATH``) and ``output`` (the run folder) at least.

    Returns
    -------
    SessionReport
        As written to ``report.json``. The run folder holds ``raw.tif`` ((T, H, W), uint8 or uint16, as the camera
        gave it) and the denoised movie (the same shape and dtype, or float32).

    Raises
    ------
    DenoscopeError
        Before anything is recorded, when the settings, the bundle, the backend, the source or the disk
        do not allow it. Once the camera runs, nothing is raised: the report says what happened. Only what ends the
        whole program, `SystemExit` for example, is raised again when all is written.

    Examples
    --------
    >>> report = live(core="replay:movie.tif", output="run", fps=100, picture=False)
    >>> report.frames.received, report.frames.written_raw
    (24, 24)
    >>> report.outcome.message
    'the camera stopped by itself'
    """
    settings = make_settings(**values) if settings is None else settings
    with interrupts() as caught:
        with ExitStack() as stack:
            if view is not None:
                stack.callback(view.close)
            run = _Run(settings, on_status, wrap, source, control, arm, view)
            run.open(stack)
            caught.listener = run.interrupt
            run.record(caught)
            report = run.finish(caught)
        fill_skipped(run, report, caught, on_fill)
        if settings.picture and caught.count < 2 and run.raw.rescued is None:
            if settings.denoised_format != "ome-tiff":
                run.notes.append("report.png was not drawn: it shows recordings in OME-TIFF")
            elif len(run.routes.received) > 1:
                run.notes.append("report.png was not drawn: it shows recordings of one stream")
            else:
                _draw(run.output, report, run.camera)
        try:
            write_report(report, run.output)
        except (OSError, TypeError, ValueError) as error:
            report.outcome.notes.append(f"report.json could not be written: {error}")
        run.log.write("finished", outcome=report.outcome.as_json(), frames=report.frames.as_json())
        run.log.flush()
        if run.raised is not None:
            raise run.raised
        return report


def _draw(output: Path, report: SessionReport, camera: CameraCalibration | None) -> None:
    notes = report.outcome.notes
    try:
        from .picture import draw_report
    except ImportError as error:
        notes.append(
            f'report.png was not drawn ({error}); install it with: python -m pip install ".[report]"'
        )
        return
    try:
        draw_report(output, report, camera)
    except DenoscopeError as error:
        notes.append(f"report.png was not drawn: {one_line(error)}")
    except Exception as error:  # noqa: BLE001  a picture must not hide the report
        notes.append(f"report.png was not drawn ({type(error).__name__}: {one_line(error)})")
