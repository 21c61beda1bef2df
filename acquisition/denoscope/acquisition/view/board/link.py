"""The session's end of its viewer: a board to publish on, requests to obey, and how the viewer ended."""

from __future__ import annotations

import time
from collections.abc import Callable

from denoscope.acquisition.contracts import DenoisedSink, RawSink, SourceInfo
from denoscope.acquisition.control.control import Action, Request, SessionControl
from denoscope.acquisition.processes.shared_memory import Slab
from denoscope.acquisition.session.settings import SessionSettings
from denoscope.acquisition.session.states import SessionStatus
from denoscope.acquisition.sinks.base import PixelsAt

from .board import Board, Wish
from .publisher import Publisher, ShownRaw, ShownSink, status_values
from .words import BoardWords

__all__ = ["LiveView", "OpenView"]

_STILL_S = 10.0
_ACTIONS = {
    Wish.STOP: Action.STOP,
    Wish.PAUSE: Action.PAUSE,
    Wish.RESUME: Action.RESUME,
    Wish.FIND: Action.FIND,
}


class LiveView:
    """Shows sessions to whoever shares the slab.

    Parameters
    ----------
    slab
        Shared with the viewer's process, which may end at any time.
    """

    def __init__(self, slab: Slab) -> None:
        self._slab = slab
        self._board: Board | None = None  # of the session that is shown
        self.recording_wanted = False
        """True once the viewer has asked for a recording, in a preview."""

    def open(self, settings: SessionSettings, info: SourceInfo) -> OpenView:
        """Make room for frames like those of the source, before the first one, and show that session from now on."""
        # Denoised frames of a calibrated camera are float32.
        self._board, name = Board.create(self._slab, 4 * info.shape[0] * info.shape[1])
        opened = OpenView(self, self._board, settings, info)
        self.opened(
            {
                "name": name,
                "nbytes": self._board.nbytes,
                "shape": list(info.shape),
                "bundle": settings.bundle,
                "source": info.name,
                "output": "" if settings.preview else str(settings.output),
                "pixel_um": info.pixel_size_um,
                "regions": settings.regions is not None,
                "preview": settings.preview,
            }
        )
        return opened

    @property
    def gone(self) -> bool:
        """True where nobody looks any more."""
        return False

    def opened(self, _words: BoardWords) -> None:
        """Tell the viewer where to look; `open` calls it."""

    def wait(self) -> None:
        """Wait until the viewer is there, before the camera is armed; where that matters."""

    def let_go(self, _stalled_s: float) -> list[str]:
        """Let the viewer go, because the session has ended; return what the user should know of it.

        Parameters
        ----------
        _stalled_s
            Seconds for which the viewer has not moved; 0 where that is no longer than a busy moment.
        """
        return []

    def close(self) -> None:
        """Let go of the memory; no frame may follow."""
        if self._board is not None:
            self._board.close()
        self._slab.close()


class OpenView:
    """A session that is shown: its frames, its status, and the viewer's wishes.

    Parameters
    ----------
    view
        Shows it.
    board
        Memory that the viewer reads.
    settings, info
        Of the session, and of its source.
    """

    def __init__(self, view: LiveView, board: Board, settings: SessionSettings, info: SourceInfo) -> None:
        self._view, self._board = view, board
        self._settings, self._info = settings, info
        self._publisher = Publisher(board, settings.streams)
        self._count = 0
        self._obeyed = 0
        self._beats: tuple[int, float] | None = None
        self._still_s = 0.0

    def shown(
        self,
        raw: RawSink,
        sink: DenoisedSink,
        *,
        raw_at: Callable[[], PixelsAt | None] = lambda: None,
        denoised_at: Callable[[], PixelsAt | None] = lambda: None,
    ) -> tuple[RawSink, DenoisedSink]:
        """Return what takes the places of a session's sinks, so that their frames are seen.

        Parameters
        ----------
        raw, sink
            The sinks.
        raw_at, denoised_at
            Return where the pixels of the newest frame begin in the files, None where they are in none.
        """
        return ShownRaw(raw, self._publisher, raw_at), ShownSink(sink, self._publisher, denoised_at)

    def show(self, status: SessionStatus, *, searching: bool = False) -> None:
        """Show the session's status, and whether it searches regions; called a few times a second."""
        self._count += 1
        streams = self._publisher.streams
        self._publisher.status(
            status_values(status, self._info, self._settings, streams, self._count, searching=searching)
        )

    def pass_on(self, control: SessionControl) -> None:
        """Hand the viewer's wishes to the session; called a few times a second."""
        count, wish = self._board.wishes
        if count != self._obeyed and wish is Wish.RECORD:
            if self._settings.preview:
                self._view.recording_wanted = True
                control.stop("view")
        elif count != self._obeyed and wish is not None:
            control.add(Request(_ACTIONS[wish], "view"))
        self._obeyed = count
        if self._settings.preview and self._view.gone:
            control.stop("view")  # a preview is for those who look
        now_s, beats = time.perf_counter(), self._board.beats
        if self._beats is None or beats != self._beats[0]:
            self._beats = (beats, now_s)
        self._still_s = now_s - self._beats[1] if beats else 0.0

    def finish(self, status: SessionStatus) -> list[str]:
        """Show the last status and let the viewer go; return what the user should know of it."""
        self.show(status)
        notes = [self._publisher.problem] if self._publisher.problem else []
        if self._settings.preview and self._view.recording_wanted:
            return notes  # it shows the recording next
        return notes + self._view.let_go(self._still_s if self._still_s > _STILL_S else 0.0)
