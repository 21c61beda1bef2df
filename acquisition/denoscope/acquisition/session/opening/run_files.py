"""The files of one recording: opened before the camera is armed, removed again where it never ran."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from denoscope.acquisition.contracts import REPORT, SourceInfo
from denoscope.acquisition.denoisers.kept_bundle import keep_bundle
from denoscope.acquisition.errors import OutputExists, one_line
from denoscope.acquisition.provenance import package_version
from denoscope.acquisition.raw.in_the_way import in_the_way
from denoscope.acquisition.raw.traces import Traces
from denoscope.acquisition.raw.writer import RAW_MOVIE, RAW_SIDECAR, RawElsewhere, RawWriter
from denoscope.acquisition.session.recording.log import LOG, EventLog
from denoscope.acquisition.session.recording.watchers import Watchers
from denoscope.acquisition.session.settings import SessionSettings
from denoscope.acquisition.sinks.live import LiveSink, open_live_sink
from denoscope.acquisition.sinks.nowhere import NoMovie
from denoscope.runtime import DenoscopeError

from .forecast import Forecast

__all__ = ["RunFiles", "open_files", "refuse_existing"]


@dataclass
class RunFiles:
    """Files of one recording.

    Attributes
    ----------
    folder
        Run folder; another one where it was removed while recording and the raw frames were written again.
    raw
        Takes the raw frames.
    movie
        Takes the denoised frames.
    log
        ``log.jsonl``.
    bundle_path
        Copy of the bundle in the run folder, or the bundle itself where it could not be copied.
    unused
        Closed where the camera never runs: removes what was created.
    hangs
        True where their disk does not answer, so that nobody may touch them; `folder` is the rescue folder then,
        where there is one.
    """

    folder: Path
    raw: RawWriter | RawElsewhere
    movie: LiveSink
    log: EventLog
    bundle_path: str | None
    unused: ExitStack
    hangs: bool = False

    def watch(self, watchers: Watchers, shape: tuple[int, int], core: Any) -> None:
        """Open what looks at denoised frames, with its files in the run folder.

        Raises
        ------
        DenoscopeError
            When regions or triggers cannot be used.
        """
        watchers.prepare(shape, core, lambda event, **values: self.log.write(event, **values))
        self.unused.callback(watchers.remove_files)
        watchers.open_files()

    def keep(self) -> None:
        """Keep the files, because the camera runs."""
        self.unused.pop_all()

    def leave(self, rescue: Path | None) -> None:
        """Touch nothing of the disk any more, which does not answer; go on in the rescue folder, where there is one."""
        self.hangs = True
        if rescue is not None:
            self.folder = rescue
            self.log = EventLog(rescue / LOG)

    def go_on_where_restored(self) -> bool:
        """Go on in the folder to which the raw frames were written again; return whether there is one."""
        if self.raw.restored is None:
            return False
        self.folder = self.raw.restored
        self.log.flush()
        self.log = EventLog(self.folder / LOG)
        return True


def refuse_existing(output: Path) -> None:
    """Refuse a run folder in which a recording lies, or that cannot be one.

    Raises
    ------
    OutputExists
        With what is in the way.
    """
    if (why := in_the_way(output)) is not None:
        raise OutputExists(f"`output` {output} cannot be the run folder: {why}; name another folder.")
    for name in (RAW_MOVIE, RAW_SIDECAR, REPORT):
        if os.path.lexists(output / name):
            raise OutputExists(
                f"{output / name} exists and recordings are never overwritten; name another `output`."
            )


def open_files(
    settings: SessionSettings,
    stack: ExitStack,
    source: SourceInfo,
    given: SourceInfo,
    forecast: Forecast,
    provenance: Mapping[str, Any],
    notes: list[str],
) -> RunFiles:
    """Create the run folder and its files; `stack` closes them.

    Parameters
    ----------
    settings
        Of the session.
    stack
        Closes the files.
    source
        What is recorded.
    given
        The same as the denoiser is given it.
    forecast, provenance
        For the log; the provenance goes into the denoised movie too.
    notes
        Sentences for the user are added to it.

    Raises
    ------
    OutputExists
        When another session writes there.
    """
    folder = settings.output
    traces = Traces(folder)
    unused = stack.enter_context(ExitStack())
    unused.callback(traces.remove)
    folder.mkdir(parents=True, exist_ok=True)
    raw: RawWriter | RawElsewhere = RawElsewhere()
    if settings.keep_raw:
        # First of all, because it claims the folder: a second session on it is refused here.
        with traces.noticing():
            raw = stack.enter_context(RawWriter(folder, source, package_version()))
    with traces.noticing():
        if not settings.keep_raw:
            _claim(folder / LOG)
        log = EventLog(folder / LOG)
        log.write("opened", source=source.as_json(), denoiser=provenance)
        log.flush()
    stack.callback(log.flush)
    log.write("forecast", **forecast.as_json())
    if settings.preview:
        return RunFiles(folder, raw, NoMovie(), log, None, unused)
    if not settings.keep_raw:
        notes.append("raw frames were not written here: whoever records keeps them")
    with traces.noticing():
        bundle_path = _keep_bundle(settings, notes)
    with traces.noticing():
        movie = open_live_sink(folder, settings.denoised_format, given, provenance, std=settings.std)
    unused.callback(_close_quietly, movie)
    return RunFiles(folder, raw, movie, log, bundle_path, unused)


def _claim(path: Path) -> None:
    """Make a file that only one session can make."""
    try:
        path.open("x").close()
    except FileExistsError:
        raise OutputExists(
            f"{path} exists, so another session writes there or did; name another `output`."
        ) from None


def _keep_bundle(settings: SessionSettings, notes: list[str]) -> str | None:
    """Keep in the run folder what it takes to compute skipped frames later; its absence ends no recording."""
    try:
        return keep_bundle(settings.bundle, settings.output)
    except (OSError, DenoscopeError) as error:
        notes.append(f"the bundle could not be copied into the run folder: {one_line(error)}")
        return str(Path(settings.bundle).absolute())


def _close_quietly(movie: LiveSink) -> None:
    with suppress(Exception):  # there is nothing in it
        movie.close()
