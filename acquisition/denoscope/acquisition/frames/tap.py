"""Pair each denoised frame with its raw one, between denoiser and file, and show the pair to listeners."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy.typing as npt

from denoscope.acquisition.contracts import DenoisedSink, Denoiser, Stamp
from denoscope.acquisition.errors import one_line

from .live_frame import LiveFrame

if TYPE_CHECKING:
    from denoscope.acquisition.regions.measure import FrameTraces
    from denoscope.runtime import Denoised, FrameMeta, StreamKey

__all__ = ["FrameTap"]

_MOST_BYTES = 512 << 20


class FrameTap:
    """See each raw frame on its way into the denoiser, and each denoised one on its way into the file.

    Give the session `denoiser` and `sink` in place of its own. Listeners are called by the thread that denoises: they
    must be quick and must not wait. One that raises is not called again, and `problems` says so.

    Parameters
    ----------
    listeners
        Called with each frame, in this order.
    measure
        Returns the traces of a frame, the newest regions first, which then travel with it.

    Attributes
    ----------
    without_raw
        Denoised frames that were not shown because their raw frame was not kept long enough.
    problems
        What went wrong, one sentence each.
    """

    def __init__(
        self,
        listeners: Sequence[Callable[[LiveFrame], object]],
        measure: Callable[[LiveFrame], Sequence[FrameTraces]] | None = None,
    ) -> None:
        self.without_raw = 0
        self.problems: list[str] = []
        self._listeners = list(listeners)
        self._measure = measure
        self._held: dict[StreamKey, deque[tuple[int, npt.NDArray[Any]]]] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def listen(self, listener: Callable[[LiveFrame], object]) -> None:
        """Call another listener from the next frame on."""
        with self._lock:
            self._listeners = [*self._listeners, listener]

    def denoiser(self, denoiser: Denoiser) -> Denoiser:
        """Return a denoiser that does the same and lets its input be seen."""
        kind = _TappedAhead if hasattr(type(denoiser), "begin") else _TappedDenoiser
        return cast("Denoiser", kind(denoiser, self._hold))

    def sink(self, sink: DenoisedSink) -> DenoisedSink:
        """Return a sink that does the same and lets its frames be seen after they were written."""
        return _TappedSink(sink, self._show)

    def _hold(self, pixels: npt.NDArray[Any], meta: FrameMeta) -> None:
        if meta.source_index is None:
            return
        held = self._held.setdefault(meta.key, deque())
        held.append((meta.source_index, pixels))
        self._bytes += pixels.nbytes
        while self._bytes > _MOST_BYTES and len(held) > 1:
            self._bytes -= held.popleft()[1].nbytes

    def _raw_of(self, output: Denoised) -> npt.NDArray[Any] | None:
        held = self._held.get(output.meta.key)
        wanted = output.meta.source_index
        while held and wanted is not None and held[0][0] <= wanted:
            index, pixels = held.popleft()  # what is older was skipped
            self._bytes -= pixels.nbytes
            if index == wanted:
                return pixels
        return None

    def _show(self, output: Denoised, stamp: Stamp) -> None:
        raw = self._raw_of(output)
        if raw is None:
            self.without_raw += 1
            return
        frame = LiveFrame(
            number=output.meta.number,
            index=stamp.index,
            raw=raw,
            denoised=output.frame,
            std=output.std,
            stream=output.meta.key,
            t_received_s=stamp.t_received_s,
            t_denoised_s=time.perf_counter(),
            core_unix_s=stamp.core_unix_s,
            core_lag_s=stamp.core_lag_s,
            tags=stamp.tags,
        )
        if self._measure is not None:
            try:
                traces = self._measure(frame)
            except Exception as error:  # noqa: BLE001  traces must not cost a frame
                self._measure = None
                self._fail("measuring the regions", error)
            else:
                if traces:
                    frame = replace(frame, traces=traces[0], earlier=tuple(traces[1:]))
        for listener in self._listeners:
            try:
                listener(frame)
            except Exception as error:  # noqa: BLE001  who looks at frames must not cost any
                with self._lock:
                    self._listeners = [each for each in self._listeners if each is not listener]
                self._fail("showing denoised frames", error)

    def _fail(self, what: str, error: Exception) -> None:
        self.problems.append(
            f"{what} failed ({type(error).__name__}: {one_line(error)}) and ended; the recording went on"
        )


class _TappedDenoiser:
    """A denoiser whose input is seen; all else is the denoiser's own."""

    def __init__(self, denoiser: Denoiser, hold: Callable[[npt.NDArray[Any], FrameMeta], None]) -> None:
        self._denoiser: Any = denoiser
        self._hold = hold

    def __getattr__(self, name: str) -> Any:
        return getattr(self._denoiser, name)

    def push(self, frame: Any, meta: FrameMeta, *, skip: str | None = None) -> list[Denoised]:
        """Push one frame; return the outputs that are due."""
        self._hold(frame, meta)
        outputs: list[Denoised] = self._denoiser.push(frame, meta, skip=skip)
        return outputs


class _TappedAhead(_TappedDenoiser):
    """The same of a denoiser that takes frames ahead of its answers, as one in another process does."""

    def begin(self, frame: Any, meta: FrameMeta, *, skip: str | None = None) -> list[Denoised]:
        """Hand over one frame; return the outputs that are there."""
        self._hold(frame, meta)
        outputs: list[Denoised] = self._denoiser.begin(frame, meta, skip=skip)
        return outputs


class _TappedSink:
    """A sink whose frames are seen after it has taken them."""

    def __init__(self, sink: DenoisedSink, show: Callable[[Denoised, Stamp], None]) -> None:
        self._sink = sink
        self._show = show

    def append(self, output: Denoised, stamp: Stamp) -> None:
        """Hand on the output, then show it."""
        self._sink.append(output, stamp)
        self._show(output, stamp)
