"""Watch over a running session: limits, requests, the disk, the status; none of it can end the recording by failing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from denoscope.acquisition.control.control import Action, Request, SessionControl
from denoscope.acquisition.control.folder import FolderWatch
from denoscope.acquisition.control.showing import StatusThread
from denoscope.acquisition.errors import one_line
from denoscope.acquisition.raw.disk import free_bytes
from denoscope.acquisition.results import SessionProvenance
from denoscope.acquisition.session.opening.open_run import OpenRun

from .states import FinishReason, SessionStatus

if TYPE_CHECKING:
    from denoscope.acquisition.contracts import SourceInfo
    from denoscope.acquisition.processes.signals import Interrupts

__all__ = ["OnStatus", "Supervisor"]

_POLL_S = 0.1
_STATUS_EVERY_S = 0.25
_RATE_AFTER_S = 3.0

OnStatus = Callable[[SessionStatus, "SourceInfo", SessionProvenance], None]


class Supervisor:
    """Sees a session that has started to its end.

    Parameters
    ----------
    run
        What is open; its session has started.
    caught
        Interruptions of the program, each a request to end.
    control
        Requests of the program, the terminal and files.
    on_status
        As for `live`.

    Attributes
    ----------
    raised
        What ended the whole program while the camera ran, to be raised again when all is written.
    """

    def __init__(
        self,
        run: OpenRun,
        caught: Interrupts,
        control: SessionControl,
        on_status: OnStatus | None,
    ) -> None:
        self._run = run
        self._caught = caught
        self._control = control
        self._status = None if on_status is None else StatusThread(on_status)
        self._started_s = self._shown_s = time.perf_counter()
        self._ended = False
        self.raised: BaseException | None = None
        self._failures: set[str] = set()
        self._raw_problems = 0
        self._rate_checked = self._failure_logged = self._busy_logged = self._wait_logged = False

    def watch(self) -> None:
        """Return when the recording has ended, whatever goes wrong beside it."""
        folder = FolderWatch(
            self._run.settings.output,
            self._control,
            lambda: self.beside("looking at the disk", self._check_disk),
        )
        try:
            while True:
                try:
                    while not self._run.session.wait(_POLL_S):
                        self._turn()
                    break
                except BaseException as error:  # noqa: BLE001  a program that is ended while its camera runs
                    if not isinstance(error, KeyboardInterrupt):
                        self.raised = error
                    self._ended = True
        finally:
            folder.close()
        self.beside("showing the status", self._show)

    def beside(self, what: str, action: Callable[[], object]) -> None:
        """Do something beside the recording, which goes on when that fails; the first failure is said."""
        try:
            action()
        except Exception as error:  # noqa: BLE001  nothing beside the recording may end it
            if what not in self._failures:
                self._failures.add(what)
                self._run.session.add_problem(
                    f"{what} failed ({type(error).__name__}: {one_line(error)}); the recording went on"
                )

    def obey(self) -> None:
        """Do what the program, the terminal or a file asked for, and answer in the log."""
        view = self._run.view
        if view is not None:
            self.beside("asking the view", lambda: view.pass_on(self._control))
        for request in self._control.take():
            done, why = self._do(request)
            status = self._run.session.status()
            self._run.files.log.write(
                request.action.value,
                done=done,
                **({} if why is None else {"why": why}),
                by=request.origin,
                request=request.name,
                state=status.state.value,
                received=status.received,
            )

    def collect_problems(self) -> None:
        """Say what the writer of raw frames got over."""
        for problem in self._run.files.raw.problems[self._raw_problems :]:
            self._raw_problems += 1
            self._run.files.log.write("warning", text=problem)
            self._run.session.add_problem(problem)

    def close_status(self) -> None:
        """Let the last status be shown, and say what went wrong with showing it."""
        if self._status is not None:
            self._status.close()
            if self._status.problem:
                self._run.session.add_problem(self._status.problem)

    def _turn(self) -> None:
        """Do what must happen on time; nothing here waits for a disk, a terminal or a reader."""
        now_s = time.perf_counter()
        session, settings = self._run.session, self._run.settings
        if self._ended or self._caught.count:
            session.request_stop(FinishReason.INTERRUPTED)
        session.hurries = self._caught.count > 1
        limit_s = settings.seconds
        if limit_s is not None and settings.frame_limit is None and now_s - self._started_s >= limit_s:
            session.request_stop(FinishReason.TIME_REACHED)
        if self._caught.hung_up:
            self._caught.hung_up = False
            self.note_once(
                "the terminal was closed (SIGHUP) while recording; the recording went on "
                f"(denoscope stop {settings.output} ends one)"
            )
        self.beside("obeying requests", self.obey)
        if now_s - self._shown_s >= _STATUS_EVERY_S:
            self._shown_s = now_s
            self.beside("showing the status", self._show)

    def _do(self, request: Request) -> tuple[bool, str | None]:
        """Return whether the request changed anything, and why not where the session's state does not say it."""
        session = self._run.session
        match request.action:
            case Action.PAUSE:
                return session.pause(), None
            case Action.RESUME:
                return session.resume(), None
            case Action.STOP:
                running = session.status().reason is None
                session.request_stop(FinishReason.STOPPED)
                return running, None
            case Action.FIND:
                why = self._run.watchers.find_again(request.radius_px)
                if why is not None and request.name is None:
                    self.note_once(f"a request to find regions again did nothing: {why}")
                return why is None, why

    def _show(self) -> None:
        run, log = self._run, self._run.files.log
        self.collect_problems()
        run.gauges.status = status = run.session.status()
        if not self._rate_checked and status.elapsed_s >= _RATE_AFTER_S:
            self._rate_checked = True
            warning = run.forecast.measured(status.fps_in)
            if warning is not None:
                log.write("warning", text=warning)
                run.notes.append(warning)
        if run.lane.problem is not None and not self._failure_logged:
            self._failure_logged = True
            log.write("denoiser failed", text=run.lane.problem, received=status.received)
        if (status.busy_s > 0) != self._busy_logged:
            self._busy_logged = not self._busy_logged
            event = "source busy" if self._busy_logged else "source answers again"
            log.write(event, busy_s=status.busy_s, received=status.received)
        if (status.disk_wait_s > 0) != self._wait_logged:
            self._wait_logged = not self._wait_logged
            event = "disk does not answer" if self._wait_logged else "disk answers again"
            log.write(event, wait_s=status.disk_wait_s, received=status.received, written=status.written_raw)
        if run.view is not None:
            run.view.show(status, searching=run.watchers.searching)
        if self._status is not None:
            self._status.show(status, run.info, SessionProvenance.model_validate(run.provenance))

    def _check_disk(self) -> None:
        output, reserve_mb = self._run.settings.output, self._run.settings.reserve_mb
        if self._run.files.raw.removed:
            self._run.session.stop_for(
                FinishReason.FOLDER_REMOVED,
                f"the recording was ended because its folder {output} was removed, or its disk unmounted",
            )
            return
        try:
            free = free_bytes(output)
        except OSError as error:
            # Renamed, or a share that is away: writing says whether frames are lost.
            self.note_once(f"the disk of {output} could not be looked at: {one_line(error)}")
            return
        if free < reserve_mb * 1e6 / 2:
            self._run.session.stop_for(
                FinishReason.DISK_LOW,
                f"the recording was ended because only {free / 1e6:.0f} MB are free on the disk of {output} "
                f"(`reserve_mb` {reserve_mb:g}); free space before the next one",
            )

    def note_once(self, note: str) -> None:
        """Say something to the user, once, in the log and the report."""
        if note not in self._run.notes:
            self._run.notes.append(note)
            self._run.files.log.write("warning", text=note)
