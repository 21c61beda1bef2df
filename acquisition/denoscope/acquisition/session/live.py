"""Record live: open everything, run the session, write the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from denoscope.acquisition.contracts import Denoiser
from denoscope.acquisition.control.control import SessionControl
from denoscope.acquisition.errors import one_line
from denoscope.acquisition.frames.mailbox import Mailbox
from denoscope.acquisition.processes.signals import interrupts
from denoscope.acquisition.results import SessionReport
from denoscope.acquisition.session.ending.finish import finish
from denoscope.acquisition.session.ending.light import predict_light
from denoscope.acquisition.session.ending.report import write_report
from denoscope.acquisition.session.ending.skipped import fill_skipped
from denoscope.acquisition.session.opening.forecast import Arm
from denoscope.acquisition.session.opening.open_run import OpenRun, open_run
from denoscope.acquisition.session.recording.watchers import OnDenoised, Watchers
from denoscope.acquisition.sources import Source
from denoscope.acquisition.triggers.trigger import Trigger
from denoscope.runtime import DenoscopeError, InvalidInput

from .opening.preview import preview_settings
from .settings import SessionSettings, make_settings
from .supervisor import OnStatus, Supervisor

if TYPE_CHECKING:
    from denoscope.acquisition.view.board.link import LiveView
    from denoscope.runtime import CameraCalibration

__all__ = ["live"]


def live(
    settings: SessionSettings | None = None,
    *,
    on_status: OnStatus | None = None,
    wrap: Callable[[Any], Denoiser] | None = None,
    source: Source | None = None,
    control: SessionControl | None = None,
    arm: Arm | None = None,
    view: LiveView | None = None,
    on_denoised: OnDenoised | Mailbox | None = None,
    newest_only: bool = False,
    triggers: Sequence[Trigger] = (),
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
    on_denoised
        Called with each denoised frame (`LiveFrame`, which has the raw frame of the same number, the predicted
        deviation and the times), from a thread that the recording does not wait for. Frames that a slow function
        misses, and errors that it raises, are counted and said in the report.
    newest_only
        Give the function the newest frame only, instead of every frame in order.
    triggers
        Beside those of the settings: `Trigger` with functions of the program, for example.
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
    record = partial(
        _record,
        on_status=on_status,
        wrap=wrap,
        source=source,
        control=control,
        view=view,
        on_denoised=on_denoised,
        newest_only=newest_only,
        on_fill=on_fill,
    )
    with ExitStack() as stack:
        if view is not None:
            stack.callback(view.close)
        if settings.preview:
            if source is not None:
                raise InvalidInput(
                    "`preview` does not go with `source`, which can be opened once; leave one out."
                )
            with preview_settings(settings) as shown:
                report = record(shown, arm=lambda _forecast: True)
            report.output = ""
            if view is None or not view.recording_wanted:
                return report
            settings = settings.model_copy(update={"preview": False})
        return record(settings, arm=arm, triggers=triggers)


def _record(
    settings: SessionSettings,
    *,
    on_status: OnStatus | None,
    wrap: Callable[[Any], Denoiser] | None,
    source: Source | None,
    control: SessionControl | None,
    arm: Arm | None,
    view: LiveView | None,
    on_denoised: OnDenoised | Mailbox | None,
    newest_only: bool,
    on_fill: Callable[[int, int], None],
    triggers: Sequence[Trigger] = (),
) -> SessionReport:
    """Run one session; the parameters are those of `live`."""
    watchers = Watchers(settings, on_denoised, newest_only=newest_only, triggers=triggers)
    with interrupts() as caught:
        with ExitStack() as stack:
            run = open_run(settings, stack, source=source, wrap=wrap, arm=arm, view=view, watchers=watchers)
            caught.listener = _is_counted
            run.start()
            supervisor = Supervisor(run, caught, control or SessionControl(), on_status)
            supervisor.watch()
            report, skipped = finish(run, supervisor, caught)
        report.outcome.notes = list(run.notes)  # with what closing the source gave
        if settings.preview:
            if supervisor.raised is not None:
                raise supervisor.raised
            return report
        fill_skipped(run, report, skipped, caught, on_fill)
        whole = run.files.raw.restored is None and not run.files.hangs
        if settings.picture and caught.count < 2 and whole:
            if not caught.count:
                predict_light(run, report)
            _draw_if_it_can(run, report)
        _write_report(run, report)
        log = run.files.log
        log.write("finished", outcome=report.outcome.as_json(), frames=report.frames.as_json())
        log.flush()
        if supervisor.raised is not None:
            raise supervisor.raised
        return report


def _write_report(run: OpenRun, report: SessionReport) -> None:
    """Write the report into the run folder or, where its disk takes nothing, beside what was saved elsewhere."""
    rescue = run.session.rescue_folder
    places = [] if run.files.hangs else [run.files.folder]
    places += [rescue] if rescue is not None and rescue not in places else []
    if not places:
        report.outcome.notes.append("report.json was not written, because the disk does not answer")
    for place in places:
        try:
            write_report(report, place)
        except Exception as error:  # noqa: BLE001  the recording is complete, and whoever called is told this
            report.outcome.notes.append(f"report.json could not be written: {one_line(error)}")
        else:
            return


def _is_counted() -> None:
    """Do nothing: an interruption while the camera runs is counted, and `Supervisor` looks at the count."""


def _draw_if_it_can(run: OpenRun, report: SessionReport) -> None:
    if run.settings.denoised_format != "ome-tiff":
        report.outcome.notes.append("report.png was not drawn: it shows recordings in OME-TIFF")
    elif len(run.routes.received) > 1:
        report.outcome.notes.append("report.png was not drawn: it shows recordings of one stream")
    else:
        _draw(run.files.folder, report, run.camera)


def _draw(output: Path, report: SessionReport, camera: CameraCalibration | None) -> None:
    notes = report.outcome.notes
    try:
        from denoscope.acquisition.session.ending.picture import draw_report
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
