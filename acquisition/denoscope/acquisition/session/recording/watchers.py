"""Everything that looks at denoised frames while a session runs: regions, triggers and the user's program."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from denoscope.acquisition.contracts import DenoisedSink, Denoiser
from denoscope.acquisition.frames.callback import CallbackThread
from denoscope.acquisition.frames.live_frame import LiveFrame
from denoscope.acquisition.frames.mailbox import Mailbox
from denoscope.acquisition.frames.tap import FrameTap
from denoscope.acquisition.results import SessionReport
from denoscope.acquisition.session.settings import SessionSettings
from denoscope.acquisition.triggers.trigger import RunningTrigger, Trigger
from denoscope.runtime import InvalidInput, counted

if TYPE_CHECKING:
    from denoscope.acquisition.regions.regions import Regions

    from .live_traces import LiveTraces

__all__ = ["OnDenoised", "Watchers"]

OnDenoised = Callable[[LiveFrame], object]


class Watchers:
    """Open what the settings and the program ask for, feed it, and say in the end what it did.

    Nothing here can end a recording: what fails is told as a problem.

    Parameters
    ----------
    settings
        Of the session.
    on_denoised
        The user's function, or a mailbox from which a loop takes frames; None for neither.
    newest_only
        Whether the function gets the newest frame only.
    triggers
        Beside those of the settings.

    Raises
    ------
    InvalidInput
        When a trigger is about regions and the session has none.
    """

    def __init__(
        self,
        settings: SessionSettings,
        on_denoised: OnDenoised | Mailbox | None = None,
        *,
        newest_only: bool = False,
        triggers: Sequence[Trigger] = (),
    ) -> None:
        self._settings = settings
        self._on_denoised = on_denoised
        self._newest_only = newest_only
        self._asked = [*settings.triggers(), *triggers]
        self._callback: CallbackThread | None = None
        self._running: list[RunningTrigger] = []
        self._traces: LiveTraces | None = None
        self._tap: FrameTap | None = None
        self._problems: list[str] = []
        self._found = False
        self._tell: Callable[..., None] = lambda _event, **_: None
        self._made: list[str] = []
        wanting = [trigger.when for trigger in self._asked if trigger.needs_regions]
        if wanting and settings.regions is None:
            raise InvalidInput(
                f"the trigger {wanting[0]!r} needs `regions`: name a file with regions, or find."
            )

    @property
    def active(self) -> bool:
        """True where anything looks at denoised frames."""
        return self._on_denoised is not None or bool(self._asked) or self._settings.regions is not None

    @property
    def wants_std(self) -> bool:
        """True where the predicted deviation is looked at."""
        return self._on_denoised is not None or self._settings.regions is not None

    def prepare(self, shape: tuple[int, int], core: Any, tell: Callable[..., None]) -> None:
        """Read the regions and open ports and threads, before anything is created.

        Parameters
        ----------
        shape
            ``(H, W)`` of the frames.
        core
            Core of Micro-Manager, where denoscope drives it.
        tell
            Notes an event in the log, as ``tell(event, **values)``.

        Raises
        ------
        InvalidInput
            When the regions cannot be read, a trigger is about a region that is not there, or an action cannot be done.
        """
        if not self.active:
            return
        settings, self._tell = self._settings, tell
        if settings.regions is not None:
            from .live_traces import LiveTraces

            self._traces = LiveTraces(
                settings.regions, shape, settings.output, dark=settings.dark, on_found=self._check_found
            )
        self._running = []
        for trigger in self._asked:
            self._running.append(RunningTrigger(trigger, core=core, tell=tell))
            if self._traces is not None and self._traces.regions is not None:
                self._running[-1].check(self._traces.regions.names)
                self._found = True
        listeners: list[Callable[[LiveFrame], object]] = [trigger.watch for trigger in self._running]
        if isinstance(self._on_denoised, Mailbox):
            box = self._on_denoised
            listeners.append(lambda frame: box.offer(frame.detached()))
        elif self._on_denoised is not None:
            self._callback = callback = CallbackThread(self._on_denoised, newest=self._newest_only)
            listeners.append(lambda frame: callback.offer(frame.detached()))
        self._tap = FrameTap(listeners, None if self._traces is None else self._traces.measure)

    def open_files(self) -> None:
        """Create the files, in the run folder.

        Raises
        ------
        OutputExists
            When they are there.
        OSError
            When the disk refuses.
        """
        if self._traces is not None:
            self._made = [
                name for name in self._traces.files if not os.path.lexists(self._settings.output / name)
            ]
            self._traces.open()

    def remove_files(self) -> None:
        """Remove the files again, where the recording never began."""
        for name in self._made:
            (self._settings.output / name).unlink(missing_ok=True)

    def find_again(self, radius_px: float | None) -> str | None:
        """Search cells in the next denoised frames; return None, or the reason why no search begins."""
        traces = self._traces
        if traces is None:
            return "the session was started without regions; start the next one with `regions` find"
        return traces.find_again(radius_px)

    @property
    def searching(self) -> bool:
        """True while cells are searched."""
        traces = self._traces
        return traces is not None and traces.searching

    def denoiser(self, denoiser: Denoiser) -> Denoiser:
        """Return what takes the denoiser's place."""
        return denoiser if self._tap is None else self._tap.denoiser(denoiser)

    def sink(self, sink: DenoisedSink) -> DenoisedSink:
        """Return what takes the place of the denoised movie."""
        return sink if self._tap is None else self._tap.sink(sink)

    def _check_found(self, regions: Regions) -> None:
        """Note what was found, and say which triggers wait for a region that was not found."""
        self._tell(
            "regions",
            count=len(regions),
            first=regions.names[0],
            last=regions.names[-1],
            source=regions.origin,
        )
        first, self._found = not self._found, True
        for trigger in self._running if first else ():  # others go on with the regions before
            try:
                trigger.check(regions.names)
            except InvalidInput as error:
                self._problems.append(str(error).rstrip("."))

    def finish(self, report: SessionReport) -> tuple[list[str], list[str]]:
        """Close everything, complete the report, and return problems and notes for the user.

        No frame may follow.
        """
        problems, notes = self._problems, list[str]()
        if isinstance(self._on_denoised, Mailbox):
            self._on_denoised.close()
        if self._callback is not None:
            callback, self._callback = self._callback, None
            callback.close()
            report.on_denoised = callback.counts
            problems += filter(None, [callback.problem()])
            notes += filter(None, [callback.note()])
        for trigger in self._running:
            record = trigger.close()
            report.triggers.append(record)
            if record.problem is not None:
                problems.append(
                    f"the trigger {record.when!r}: {record.problem}; the recording was not affected"
                )
            notes.append(_fired(record.when, record.fired, record.delay_p50_s, record.delay_p99_s))
        self._running = []
        if self._traces is not None:
            traces, self._traces = self._traces, None
            report.traces = traces.close()
            problems += traces.problems
            notes += traces.notes(report.traces)
        if self._tap is not None:
            problems += self._tap.problems
            if self._tap.without_raw:
                notes.append(
                    f"{counted(self._tap.without_raw, 'denoised frame was', 'denoised frames were')} not shown to "
                    "triggers and programs, because the raw frames waited for too long"
                )
        return problems, notes

    def close(self) -> None:
        """End what `prepare` opened, where the recording never began; after `finish` this does nothing."""
        self.finish(SessionReport())


def _fired(when: str, count: int, middle_s: float | None, late_s: float | None) -> str:
    if middle_s is None or late_s is None:
        return f"the trigger {when!r} never fired"
    return (
        f"the trigger {when!r} fired {counted(count, 'time')}, {middle_s * 1e3:.0f} ms after the camera (99 % within "
        f"{late_s * 1e3:.0f} ms)"
    )
