"""A recording beside the user's own loop, which gets its denoised frames."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from denoscope.acquisition.control.control import SessionControl
from denoscope.acquisition.frames.live_frame import LiveFrame
from denoscope.acquisition.frames.mailbox import EVERY, NEWEST, Mailbox
from denoscope.acquisition.results import SessionReport
from denoscope.runtime import InvalidInput

from .live import live
from .states import SessionStatus

__all__ = ["LiveSession"]

_BEGIN_S = 1800.0  # building an engine takes minutes


class LiveSession:
    """Record in a thread, and take denoised frames in a loop of the program's own.

    Entering the block begins the recording and returns once the camera runs; leaving it ends the recording and writes
    the report.

    Parameters
    ----------
    newest_only
        Give the loop the newest frame only, instead of every frame in order.
    **values
        As of `live`, without ``on_denoised`` and ``control``.

    Attributes
    ----------
    report
        As `live` returns it; None before the end.

    Raises
    ------
    DenoscopeError
        When the block is entered and the settings, the bundle, the backend, the source or the disk do not allow the
        recording.

    Examples
    --------
    >>> with LiveSession(core="replay:movie.tif", output="looped", picture=False) as session:
    ...     for frame in session.frames():
    ...         if frame.number == 11:
    ...             session.stop()
    >>> session.report.outcome.exit_code
    0
    """

    def __init__(self, *, newest_only: bool = False, **values: Any) -> None:
        for name in ("on_denoised", "control"):
            if name in values:
                raise InvalidInput(f"`{name}` does not go with LiveSession, which has its own; use live().")
        self.report: SessionReport | None = None
        self.status: SessionStatus | None = None
        self._values = values
        self._on_status = values.pop("on_status", None)
        self._box = Mailbox(NEWEST if newest_only else EVERY)
        self._control = SessionControl()
        self._begun = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="denoscope-live", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._begun.wait(_BEGIN_S)
        if self._error is not None:
            self._thread.join()
            raise self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._box.close(empty=True)
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def frames(self) -> Iterator[LiveFrame]:
        """Yield denoised frames until the recording ends; frames that the loop is too slow for are missed."""
        return iter(self._box)

    @property
    def missed(self) -> int:
        """Frames that the loop was too slow for."""
        return self._box.missed

    def pause(self) -> None:
        """Denoise nothing for now; raw frames are still written."""
        self._control.pause("program")

    def resume(self) -> None:
        """Denoise again."""
        self._control.resume("program")

    def find_regions(self, radius_px: float | None = None) -> None:
        """Find cells again in the next denoised frames; see the function `find_regions`."""
        self._control.find(radius_px)

    def stop(self) -> None:
        """End the recording; what is buffered is still written and denoised."""
        self._control.stop("program")

    def _run(self) -> None:
        try:
            self.report = live(
                on_denoised=self._box, on_status=self._show, control=self._control, **self._values
            )
        except BaseException as error:  # noqa: BLE001  raised again in the thread of the program
            self._error = error
        finally:
            self._box.close()
            self._begun.set()

    def _show(self, status: SessionStatus, *more: Any) -> None:
        self.status = status
        self._begun.set()
        if self._on_status is not None:
            self._on_status(status, *more)
