"""The session's end of a board: raw frames as they are written, denoised ones as they come out, and the status."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from denoscope.acquisition.contracts import DenoisedSink, Frame, RawSink, SourceInfo, Stamp
from denoscope.acquisition.denoisers.routing import Routes
from denoscope.acquisition.errors import one_line
from denoscope.acquisition.raw.disk import free_bytes
from denoscope.acquisition.session.settings import SessionSettings
from denoscope.acquisition.session.states import SessionStatus
from denoscope.acquisition.sinks.base import PixelsAt

from .board import Board, Slot
from .words import ViewStatus

if TYPE_CHECKING:
    from denoscope.runtime import Denoised, StreamKey

__all__ = ["Publisher", "ShownRaw", "ShownSink", "status_values"]

_PERIOD_S = 1 / 60
_WORDS = 300
_LISTED = 100
_ALONE_S = 1.0  # without a denoised frame for so long, raw frames are shown as they come
_RECENT = 64  # raw frames that are kept for the denoised ones to come
_RECENT_BYTES = 128 << 20


class Publisher:
    """Puts what a viewer wants to see onto a board; never waits and never raises.

    At most 60 frames a second are shown, and those of one stream: the one that the viewer wants. Raw and denoised
    are those of the same frame, as long as denoised frames come.

    Parameters
    ----------
    board
        Where to.
    limit
        Streams of the session at most.
    """

    def __init__(self, board: Board, limit: int) -> None:
        self._board = board
        self._routes = Routes(limit)
        self._lock = threading.Lock()
        self._streams: dict[StreamKey, int] = {}
        self._shown_s = {Slot.RAW: 0.0, Slot.DENOISED: 0.0}
        self._recent: deque[tuple[StreamKey, int, npt.NDArray[Any]]] = deque(maxlen=_RECENT)
        self._paired_s = 0.0
        self._putting = threading.Lock()  # the slot of raw frames has two writers
        self.problem: str | None = None

    @property
    def streams(self) -> list[str]:
        """Names of the streams so far, in the order in which they came."""
        with self._lock:
            return [_name(key) for key in self._streams]

    def raw(self, frame: Frame, page: int = 0, at: PixelsAt | None = None) -> None:
        """Show a raw frame; called by the thread that writes them, for each.

        Parameters
        ----------
        frame
            The frame.
        page, at
            Page of ``raw.tif``, and where its pixels begin; None where it is not on the disk.
        """
        try:
            route = self._routes.of(frame)
            if route is not None and at is not None and self.problem is None:
                stream = self._place(route.key)
                self._board.note(Slot.RAW, page, at, frame.pixels, stream=stream, number=route.number)
            if route is not None and self._is_wanted(route.key):
                self._recent.append((route.key, route.number, frame.pixels))
                if len(self._recent) * frame.pixels.nbytes > _RECENT_BYTES:
                    self._recent.popleft()
                if time.perf_counter() - self._paired_s > _ALONE_S and self._putting.acquire(blocking=False):
                    try:
                        self._show(Slot.RAW, frame.pixels, route.number)
                    finally:
                        self._putting.release()
        except Exception as error:  # noqa: BLE001  a picture must not cost a frame
            self._fail(error)

    def denoised(self, output: Denoised, page: int = 0, at: PixelsAt | None = None) -> None:
        """Show a denoised frame; called by the thread that takes them, for each.

        Parameters
        ----------
        output
            The frame.
        page, at
            Page of its raw frame, and where its own pixels begin; None where they are not on the disk.
        """
        try:
            key, number = output.meta.key, output.meta.number
            if at is not None and self.problem is None:
                stream = self._place(key)
                self._board.note(Slot.DENOISED, page, at, output.frame, stream=stream, number=number)
            if self._is_wanted(key) and self._is_due(Slot.DENOISED):
                raw = next((each[2] for each in tuple(self._recent) if each[:2] == (key, number)), None)
                self._paired_s = time.perf_counter()
                with self._putting:
                    if raw is not None:
                        self._board.put(Slot.RAW, raw, number)
                    self._show(Slot.DENOISED, output.frame, number)
        except Exception as error:  # noqa: BLE001  a picture must not cost a frame
            self._fail(error)

    def status(self, values: ViewStatus) -> None:
        """Show the session's status."""
        try:
            self._board.put_status(values)
        except Exception as error:  # noqa: BLE001  words on a screen must not cost a frame
            self._fail(error)

    def _is_wanted(self, key: StreamKey) -> bool:
        return self.problem is None and self._place(key) == self._board.wanted

    def _is_due(self, slot: Slot) -> bool:
        return time.perf_counter() - self._shown_s[slot] >= _PERIOD_S

    def _show(self, slot: Slot, pixels: npt.NDArray[Any], number: int) -> None:
        if self._is_due(slot):
            self._shown_s[slot] = time.perf_counter()
            self._board.put(slot, pixels, number)

    def _place(self, key: StreamKey) -> int:
        with self._lock:
            return self._streams.setdefault(key, len(self._streams))

    def _fail(self, error: Exception) -> None:
        self.problem = self.problem or f"the live view got no more frames ({one_line(error)})"


class ShownRaw:
    """A raw recording whose frames are shown, after each is written.

    Parameters
    ----------
    raw
        The recording.
    publisher
        Shows them.
    at
        Returns where the pixels of the newest frame begin; None where it is not on the disk.
    """

    def __init__(
        self, raw: RawSink, publisher: Publisher, at: Callable[[], PixelsAt | None] = lambda: None
    ) -> None:
        self._raw = raw
        self._publisher = publisher
        self._at = at

    @property
    def written(self) -> int:
        """Frames that were written."""
        return self._raw.written

    @property
    def confirmed(self) -> int:
        """Frames of which the disk has said that they are saved."""
        return self._raw.confirmed

    @property
    def doubts(self) -> int:
        """Times that the disk answered with an error when it was asked to confirm."""
        return self._raw.doubts

    def append(self, frame: Frame) -> None:
        """Write one frame, then show it."""
        self._raw.append(frame)
        self._publisher.raw(frame, self._raw.written - 1, self._at())

    def sync(self) -> None:
        """Wait until every frame so far is on the disk."""
        self._raw.sync()

    def close(self) -> None:
        """Close the files."""
        self._raw.close()

    def abandon(self) -> Callable[[], None]:
        """Leave the files as they are; return what closes them."""
        return self._raw.abandon()


class ShownSink:
    """A sink of denoised frames that are shown, after each is taken.

    Parameters
    ----------
    sink
        Takes them.
    publisher
        Shows them.
    at
        As of `ShownRaw`.
    """

    def __init__(
        self, sink: DenoisedSink, publisher: Publisher, at: Callable[[], PixelsAt | None] = lambda: None
    ) -> None:
        self._sink = sink
        self._publisher = publisher
        self._at = at

    def append(self, output: Denoised, stamp: Stamp) -> None:
        """Hand on the output, then show it."""
        self._sink.append(output, stamp)
        self._publisher.denoised(output, stamp.index, self._at())


def status_values(
    status: SessionStatus,
    info: SourceInfo,
    settings: SessionSettings,
    streams: list[str],
    count: int,
    *,
    searching: bool = False,
) -> ViewStatus:
    """Return a status as plain values, for a board.

    Parameters
    ----------
    status, info, settings
        Of the session.
    streams
        Names of its streams.
    count
        How many statuses came before, so that a viewer sees when none comes any more.
    searching
        Whether regions are being searched.
    """
    free: int | None = None
    with suppress(OSError):  # the folder is gone; the raw writer says so
        free = None if settings.preview else free_bytes(settings.output)
    copies = 2 if settings.keep_raw else 1
    return {
        "count": count,
        "state": status.state.value,
        "message": status.reason.value if status.reason else None,
        "elapsed_s": status.elapsed_s,
        "received": status.received,
        "written_raw": status.written_raw,
        "keeps_raw": settings.keep_raw,
        "fills": settings.fill,
        "preview": settings.preview,
        "emitted": status.emitted,
        "dropped": dict(status.dropped),
        "missing": status.missing,
        "fps_in": status.fps_in,
        "fps_out": status.fps_out,
        "latency_s": dict(status.latency_s),
        "problems": [problem[:_WORDS] for problem in status.problems[-3:]],
        "free_bytes": free,
        "reserve_bytes": settings.reserve_mb * 1e6,
        "bytes_per_s": copies * info.frame_bytes * status.fps_in,
        "searching": searching,
        "streams": streams[:_LISTED],
        "source": info.title,
    }


def _name(key: StreamKey) -> str:
    parts = [
        key.camera,
        key.channel,
        f"z {key.z}" if key.z else "",
        f"pos {key.position}" if key.position else "",
    ]
    return " · ".join(part for part in parts if part) or "camera"
