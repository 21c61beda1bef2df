"""Frames that another process of denoscope sends through a pipe, as messages of `Wire`."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, BinaryIO, ClassVar

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.contracts import Frame, SourceInfo
from denoscope.acquisition.errors import SourceFailed, SourceUnavailable
from denoscope.acquisition.processes.wire import Wire

from .uncored import UncoredSource, describe_frame

__all__ = ["PipeSource", "end_words", "frame_words", "pixel_bytes"]

_WAITING = 8


def frame_words(
    pixels: npt.NDArray[Any], number: int, unix_s: float, tags: Mapping[str, Any]
) -> dict[str, object]:
    """Return the words of the message whose body are the pixels.

    Parameters
    ----------
    pixels
        ``(H, W)``, C-contiguous, uint8 or uint16.
    number
        Of the frame, from 0; a jump is a frame that was not sent.
    unix_s
        When the frame was taken over, seconds since 1970.
    tags
        Metadata; what JSON has no word for is sent as text.
    """
    values = {"shape": pixels.shape, "dtype": pixels.dtype.name, "number": number, "unix_s": unix_s}
    return {**values, "tags": dict(tags)}


def pixel_bytes(pixels: npt.NDArray[Any]) -> memoryview:
    """Return the body of the message: the pixels where they lie."""
    buffer: Any = pixels  # numpy's stubs do not say that an array is a buffer
    return memoryview(buffer).cast("B")


def end_words(closing: Mapping[str, Any]) -> dict[str, object]:
    """Return the words of the message that no frame follows, with what the sender counted."""
    return {"end": dict(closing)}


class PipeSource(UncoredSource):
    """Read frames from a pipe, in a separate thread so that a silent sender blocks nobody.

    Parameters
    ----------
    pipe
        Open for reading in binary.
    name
        What sends, for the report.
    on_open
        Called when the source is about to wait for the first frame.
    """

    patient: ClassVar[bool] = True

    def __init__(
        self, pipe: BinaryIO, *, name: str = "hook", on_open: Callable[[], None] = lambda: None
    ) -> None:
        self._wire = Wire(pipe)
        self._name = name
        self._on_open = on_open
        self._queue: queue.Queue[Frame | None] = queue.Queue(_WAITING)
        self._first: Frame | None = None
        self._ended = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read_all, name="denoscope-pipe", daemon=True)
        self.closing: Mapping[str, Any] = {}
        self.problem: str | None = None

    def open(self) -> SourceInfo:
        """Wait for the first frame and describe it."""
        self._on_open()
        self._thread.start()
        self._first = self._queue.get()
        if self._first is None:
            self._ended = True
            raise SourceUnavailable(
                self.problem or f"the {self._name} ended without a frame; nothing was denoised."
            )
        return describe_frame(
            "pipe", self._name, self._first.pixels, self._first.tags, clock="the hook's call"
        )

    def pop(self) -> Frame | None:
        """Return the oldest frame that arrived, or None when there is none at this moment."""
        if self._first is not None:
            frame, self._first = self._first, None
            return frame
        if self._ended:
            return None
        try:
            arrived = self._queue.get_nowait()
        except queue.Empty:
            return None
        if arrived is None:
            self._ended = True
            if self.problem is not None:
                raise SourceFailed(self.problem)
        return arrived

    def finished(self) -> bool:
        """Say whether the sender has ended, or we were stopped, and every frame that arrived was popped."""
        if self._stopped.is_set() and self._queue.empty():
            self._ended = True  # for good: a frame may still be on its way into the queue
        return self._first is None and self._ended

    def stop(self) -> None:
        """Take no more frames; what the sender still sends is read and let go."""
        self._stopped.set()

    def close(self) -> None:
        """Let go of the pipe; a second call does nothing."""
        self._stopped.set()

    def _read_all(self) -> None:
        try:
            while (frame := self._read()) is not None:
                self._put(frame)
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.problem = f"the pipe from the {self._name} broke: {error}."
        self._put(None)

    def _put(self, frame: Frame | None) -> None:
        """Queue a frame, or let it go once nobody takes frames any more."""
        while not self._stopped.is_set():
            with suppress(queue.Full):
                self._queue.put(frame, timeout=0.1)
                break

    def _read(self) -> Frame | None:
        message = self._wire.receive()
        if message is None:
            return None  # the sender was killed: what it sent is complete
        values = message.words
        if "end" in values:
            self.closing = values["end"]
            return None
        received_s = time.perf_counter()
        pixels = np.frombuffer(message.body, values["dtype"]).reshape(values["shape"])
        tags = values["tags"]
        return Frame(
            pixels=pixels,
            number=values["number"],
            t_received_s=received_s,
            camera=str(tags.get("Camera") or ""),
            tags=tags,
            core_unix_s=values["unix_s"],
        )
