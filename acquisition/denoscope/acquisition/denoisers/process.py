"""The process that denoises for a session: records in, records out, frames in shared memory."""

from __future__ import annotations

import faulthandler
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from denoscope.acquisition.errors import one_line
from denoscope.acquisition.processes.child import end_with, speak
from denoscope.acquisition.processes.priority import go_first
from denoscope.acquisition.processes.shared_memory import Slab
from denoscope.acquisition.processes.wire import Message, Wire, Words
from denoscope.runtime import FrameMeta, StreamKey

from .exchange import ANSWER, DTYPES, HEADER, QUESTION, RESULT, SLOTS, Inputs, Layout

if TYPE_CHECKING:
    from denoscope.runtime import Denoised

    from .local import DenoiserRequest

__all__ = ["main"]

_TELL_EVERY_S = 0.25

_Reply = tuple[Mapping[str, object], bytes]  # words and body of the answer to a message
_CODES = {np.dtype(name): code for code, name in enumerate(DTYPES)}


class _Server:
    """Does what the messages of a `RemoteDenoiser` say."""

    def __init__(self, wire: Wire, slab: Slab, make: Callable[[DenoiserRequest], Any]) -> None:
        self._wire = wire
        self._make = make
        self._slab = slab
        self._layout = Layout(HEADER, 0, 0)
        self._inputs: Inputs | None = None
        self._taken = 0  # frames
        self._overlaps = False
        self._denoiser: Any = None
        self._due: deque[Denoised] = deque()
        self._free = list(range(SLOTS))  # the last one is taken first: its memory is in the caches
        self._terms: list[Any] = [None]
        self._streams: dict[StreamKey, int] = {}
        self._told: Mapping[str, Any] | None = None
        self._told_counts: dict[str, dict[str, int]] = {"dropped": {}, "unusual": {}}
        self._stages = False
        self._writing = threading.Lock()
        self._works = False

    def serve(self) -> None:
        """Answer until the other side says `close` or is gone."""
        threading.Thread(target=self._tell_steps, name="denoscope-steps", daemon=True).start()
        while (message := self._wire.receive()) is not None:
            self._works = True
            try:
                if message.body:
                    words, body = self._push(message)
                elif (do := message.words.pop("do")) == "close":
                    break
                else:
                    self._take_back(message.words.pop("free"))
                    words, body = getattr(self, f"_do_{do}")(**message.words)
            except Exception as error:  # noqa: BLE001  it is raised there, where the session can say it
                words, body = {"error": one_line(error), "kind": type(error).__name__}, b""
            with self._writing:
                self._works = False
                self._wire.send(words, body)
        if self._denoiser is not None:
            self._denoiser.close()

    def _tell_steps(self) -> None:
        """Send the count of finished steps before an answer that takes long, each time it has grown."""
        told = 0
        while True:
            time.sleep(_TELL_EVERY_S)
            steps = 0 if self._denoiser is None else self._denoiser.steps
            with self._writing:
                if self._works and steps != told:
                    try:
                        self._wire.send({"steps": steps})
                    except OSError:  # the recording is gone, and this process goes too
                        return
            told = steps

    @property
    def denoiser(self) -> Any:
        """The one that was opened, like a `LocalDenoiser`."""
        if self._denoiser is None:
            raise ValueError("the denoiser was not opened")
        return self._denoiser

    def _do_open(self, request: Words) -> _Reply:
        from .local import DenoiserRequest

        asked = DenoiserRequest(**request)
        self._denoiser, self._stages = self._make(asked), asked.stages
        self._overlaps = hasattr(type(self._denoiser), "overlaps")  # what stands in for one need not
        provenance = self._denoiser.provenance
        return {
            "look_ahead": self._denoiser.look_ahead,
            "provenance": provenance,
        }, b""

    def _do_tell_time(self) -> _Reply:
        return {"clock_s": time.perf_counter()}, b""

    def _do_grow(self, name: str, layout: list[int], nbytes: int) -> _Reply:
        self._layout = Layout(*layout)
        self._slab.follow(name, nbytes)
        self._inputs = Inputs(self._slab, self._layout)
        self._free = list(range(SLOTS))
        return {}, b""

    def _do_prepare(self, shape: list[int], dtype: str, streams: int) -> _Reply:
        self.denoiser.prepare((shape[0], shape[1]), dtype, streams)
        return {}, b""

    def _do_describe(self) -> _Reply:
        return self.denoiser.describe(), b""

    def _push(self, message: Message) -> _Reply:
        self._taken += 1
        for term in message.words.get("terms", ()):
            if isinstance(term, list):
                self._streams[key := StreamKey(*term)] = len(self._terms)
                self._terms.append(key)
            else:
                self._terms.append(term)
        values = QUESTION.unpack(message.body)
        place, stream, skip, dtype, height, width, free, number, index, received_s = values
        self._take_back(free)
        terms = self._terms
        inputs = self._inputs
        if inputs is None:
            raise ValueError("a frame came before its memory")
        frame = inputs.frame(place, height, width, terms[dtype])
        meta = FrameMeta(number, received_s, terms[stream], source_index=None if index < 0 else index)
        began_s = time.perf_counter()
        more: dict[str, bool] = {}
        if self._overlaps and self.denoiser.overlaps:
            more["ahead"] = bool(inputs.sent[0] > self._taken)
        self._due.extend(self.denoiser.push(frame, meta, skip=terms[skip], **more))
        return self._answer(began_s, time.perf_counter())

    def _do_restart(self, key: list[Any], recalibrate: bool) -> _Reply:
        self._due.extend(self.denoiser.restart(StreamKey(*key), recalibrate=recalibrate))
        return self._answer()

    def _do_flush(self) -> _Reply:
        self._due.extend(self.denoiser.flush())
        return self._answer()

    def _do_more(self) -> _Reply:
        return self._answer()

    def _take_back(self, bits: int) -> None:
        """Use the slots again whose outputs nobody holds any more."""
        if bits:
            self._free += [slot for slot in range(SLOTS) if bits >> slot & 1]

    def _answer(self, began_s: float = 0.0, ended_s: float = 0.0) -> _Reply:
        """Put as many outputs into the shared memory as fit, and describe them."""
        results = []
        while self._due and self._free:
            output, slot = self._due.popleft(), self._free.pop()
            frame, std, meta, times = output.frame, output.std, output.meta, output.times
            height, width = frame.shape
            self._slab.view(self._layout.output(slot), frame.shape, frame.dtype)[...] = frame
            if std is not None:
                self._slab.view(self._layout.std(slot), frame.shape, np.float32)[...] = std
            results.append(
                RESULT.pack(
                    slot,
                    self._streams[meta.key],
                    height,
                    width,
                    _CODES[frame.dtype],
                    std is not None,
                    meta.number,
                    -1 if meta.source_index is None else meta.source_index,
                    times.received,
                    times.pushed,
                    times.encoded,
                    times.fuse_start,
                    times.fused,
                    times.emitted,
                )
            )
        counters = self.denoiser.counters
        stages = self.denoiser.stage_seconds if self._stages and began_s else ()
        head = ANSWER.pack(
            began_s,
            ended_s,
            counters.received,
            counters.emitted,
            counters.in_flight,
            len(results),
            len(self._due) > 0,
            len(stages),
        )
        body = b"".join((head, *results, np.asarray(stages, "<f8").tobytes() if stages else b""))
        return self._news(counters.dropped, counters.unusual), body

    def _news(self, dropped: Mapping[str, int], unusual: Mapping[str, int]) -> dict[str, object]:
        """Return what changed since the last answer."""
        words: dict[str, object] = {}
        for name, counts in (("dropped", dropped), ("unusual", unusual)):
            if counts != self._told_counts[name]:
                words[name] = self._told_counts[name] = dict(counts)
        learned = self.denoiser.learned()
        if learned is not self._told:
            self._told = learned
            words["learned"] = dict(learned)
        return words


def _open(request: DenoiserRequest) -> Any:
    from .local import LocalDenoiser

    return LocalDenoiser(request)


def main(make: Callable[[DenoiserRequest], Any] = _open) -> None:
    """Serve one session and leave.

    Parameters
    ----------
    make
        Opens the denoiser, one that is like a `LocalDenoiser`.
    """
    wire = speak()
    faulthandler.enable()
    end_with(int(sys.argv[1]))
    go_first(500)  # before the recording
    _Server(wire, Slab(int(sys.argv[2]) if len(sys.argv) > 2 else None), make).serve()


if __name__ == "__main__":
    main()
