"""End a session: wait for the backlog, close the denoised movie, and say in the report what happened."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from denoscope.acquisition.denoisers.facts import UNKNOWN
from denoscope.acquisition.errors import one_line
from denoscope.acquisition.notes.alternation import alternation_note
from denoscope.acquisition.notes.line_light import line_light_note
from denoscope.acquisition.notes.noise_check import (
    check_noise,
    late_offset_note,
    noise_note,
    rounding_note,
    scanner_notes,
)
from denoscope.acquisition.notes.unusual import unusual_note
from denoscope.acquisition.raw.writer import raw_pages
from denoscope.acquisition.results import NoiseCheck, SessionProvenance, SessionReport
from denoscope.acquisition.session.opening.open_run import OpenRun
from denoscope.acquisition.session.supervisor import Supervisor
from denoscope.runtime import GuardFinding, counted

from .report import build_report
from .skipped import Skipped, show_skipped

if TYPE_CHECKING:
    from denoscope.acquisition.processes.signals import Interrupts

__all__ = ["finish"]

_HURRY_S = 1.0  # for the denoiser's backlog where Windows ends the program after 5 s


def finish(run: OpenRun, supervisor: Supervisor, caught: Interrupts) -> tuple[SessionReport, Skipped]:
    """Wait for the backlog and close the denoised movie; return the report, and the frames that were skipped."""
    hurry = caught.closed is not None
    supervisor.beside("obeying requests", supervisor.obey)  # what came too late is answered too
    supervisor.beside("ending the adaptation", lambda: _end_adaptation(run))
    hangs = run.session.disk_hangs
    received = run.session.finish(_HURRY_S if hurry or hangs else None).received
    if hangs:
        run.files.leave(run.session.rescue_folder)
    if hurry:
        supervisor.note_once(
            f"{caught.closed} while recording, and Windows ends a program then; every frame received until then "
            "was written"
        )
    supervisor.beside("noting changes of the bundle", lambda: _note_failed_bundles(run))
    supervisor.collect_problems()
    if run.files.go_on_where_restored():
        _say_restored(run)
    run.files.movie.length = max(run.routes.received.values(), default=received)
    run.files.movie.received = run.routes.received
    if run.routes.refused:
        run.session.add_problem(
            f"{counted(len(run.routes.refused), 'more stream of frames was', 'more streams of frames were')} not "
            "denoised (a stream is one camera, channel, slice and position): "
            f"{counted(run.routes.limit, 'stream is', 'streams are')} the limit; raise `streams`"
        )
    guard = _learn(run)
    skipped = _close_movie(run, supervisor)
    supervisor.close_status()
    supervisor.beside("asking the source for its notes", lambda: run.notes.extend(run.source.notes()))
    view = run.view
    if view is not None:
        supervisor.beside("closing the view", lambda: run.notes.extend(view.finish(run.session.status())))
    seen = SessionReport()
    supervisor.beside("closing what looked at the frames", lambda: _close_watchers(run, seen))
    status = run.session.status()
    origin = SessionProvenance.model_validate(run.provenance)
    origin.bundle_path = run.files.bundle_path
    origin.noise = None if hurry or hangs else _check_noise(run)
    _add_notes(run, origin, supervisor, hurry=hurry or hangs)
    report = build_report(
        run.session,
        status,
        run.info,
        origin,
        run.lane,
        output=run.files.folder,
        started_utc=run.started_utc,
        notes=run.notes,
        routes=run.routes,
    )
    report.guard = guard
    report.adaptation = None if run.adaptation is None else run.adaptation.record
    report.on_denoised, report.traces, report.triggers = seen.on_denoised, seen.traces, seen.triggers
    report.forecast = run.forecast.as_json()
    report.keep_raw, report.preview = run.settings.keep_raw, run.settings.preview
    report.frames.not_denoised = skipped.record()
    return report, skipped


def _end_adaptation(run: OpenRun) -> None:
    """End the training before the backlog is worked off; frames may be denoised for a while yet."""
    adaptation = run.adaptation
    if adaptation is None:
        return
    adaptation.close()
    if adaptation.record.problem is not None:
        run.session.add_problem(
            f"training while recording ended early: {adaptation.record.problem}; the recording was not affected"
        )


def _note_failed_bundles(run: OpenRun) -> None:
    """Say what became of new bundles, now that the backlog is worked off: one may have failed with it."""
    adaptation = run.adaptation
    if adaptation is None:
        return
    adaptation.complete()
    run.notes.extend(adaptation.notes)
    for failed in adaptation.record.failed:
        run.session.add_problem(failed)


def _close_within(run: OpenRun, close: Callable[[], object]) -> None:
    """Close files, for a second only where their disk does not answer."""
    if not run.files.hangs:
        close()
        return

    def try_to_close() -> None:
        with suppress(Exception):  # it is said already that the disk does not answer
            close()

    closing = threading.Thread(target=try_to_close, name="denoscope-closing", daemon=True)
    closing.start()
    closing.join(_HURRY_S)


def _close_watchers(run: OpenRun, seen: SessionReport) -> None:
    found = list[tuple[list[str], list[str]]]()

    def close() -> None:
        found.append(run.watchers.finish(seen))

    _close_within(run, close)  # traces are on the same disk
    for problems, notes in found:
        run.notes.extend(notes)
        for problem in problems:
            run.session.add_problem(problem)


def _say_restored(run: OpenRun) -> None:
    run.session.add_problem(
        f"{run.settings.output} was removed while recording, or its disk unmounted; "
        f"{counted(run.files.raw.written, 'raw frame was', 'raw frames were')} written "
        f"again to {run.files.folder}, the denoised ones are gone (denoscope denoise computes them from raw.tif)"
    )


def _learn(run: OpenRun) -> GuardFinding | None:
    """Add to the provenance what the denoiser found out; return its guard's finding."""
    run.provenance.update(run.denoiser.learned() if run.lane.ended else UNKNOWN)
    found = run.provenance.pop("guard", None)
    if found is None:
        return None
    guard = GuardFinding.model_validate(found)
    if (untrue := guard.sentence()) is not None:
        run.session.add_problem(untrue)
    return guard


def _close_movie(run: OpenRun, supervisor: Supervisor) -> Skipped:
    """Show skipped frames as measured, and close the denoised movie; nothing where the denoiser hangs in it."""
    found = [Skipped([], known=False)]
    if run.lane.ended:
        if not run.files.hangs:
            supervisor.beside("showing skipped frames as measured", lambda: found.append(show_skipped(run)))
        try:
            _close_within(run, run.files.movie.close)
        except Exception as error:  # noqa: BLE001  the raw recording is complete; the report says this
            run.session.add_problem(f"the denoised movie could not be finished: {one_line(error)}")
    return found[-1]


def _add_notes(run: OpenRun, origin: SessionProvenance, supervisor: Supervisor, *, hurry: bool) -> None:
    """Tell the user what the frames and the denoiser showed."""
    log, notes = run.files.log, run.notes
    found = (
        None if origin.noise is None else origin.noise.warning,
        rounding_note(origin.intensity, run.given.dtype),
        noise_note(origin.intensity),
        run.lane.tally.nan.note(),
        unusual_note(run.lane.unusual),
    )
    notes += [note for note in found if note]
    log.flush()
    notes += scanner_notes(origin.scanner, fixed=run.settings.fix_line_offset)
    if not hurry:
        supervisor.beside("measuring the line offset", lambda: _note_lines(run, origin))
    if log.problem:
        notes.append(log.problem)


def _note_lines(run: OpenRun, origin: SessionProvenance) -> None:
    """Look at the recording for an offset and other light of lines, and for pictures that take turns.

    Only where there is one stream of one size.
    """
    from denoscope.runtime import InvalidInput

    if not run.settings.keep_raw or len(run.routes.received) > 1:
        return
    with suppress(InvalidInput, OSError):  # frames of several shapes, or the folder was moved
        frames = raw_pages(run.files.folder)
        said = late_offset_note(origin.scanner, frames), line_light_note(frames), alternation_note(frames)
        run.notes.extend(note for note in said if note)


def _check_noise(run: OpenRun) -> NoiseCheck | None:
    """Measure the noise's correlation in what was recorded, which costs the camera nothing."""
    from denoscope.runtime import InvalidInput

    if not run.settings.keep_raw or len(run.routes.received) > 1:
        return None
    try:
        return check_noise(raw_pages(run.files.folder), run.camera)
    except (InvalidInput, OSError):  # frames of several shapes, or the folder was moved
        return None
    except Exception as error:  # noqa: BLE001  the recording is complete; the report must be written
        run.notes.append(f"the noise could not be measured ({type(error).__name__}: {one_line(error)})")
        return None
