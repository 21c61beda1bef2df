"""The denoiser of a session in a separate process, so that its crash is not the recording's.

::

    the recording process                                  the denoiser's process
    lane: frame -> shared memory, a record in the pipe --> Router -> backend -> shared memory
          sink reads the shared memory <-- a record in the pipe

Frames are answered one by one and in order. While no other frame waits the lane takes each answer before the next
frame; a lane that is behind hands over up to `IN_FLIGHT` frames ahead, so that the denoiser never waits for it. An
answer may take long, because the first frames are held for the noise estimate and come back together: before it, the
process sends how many steps it has finished. A process that ends, or finishes no step in time and is ended, raises
`DenoiserLost` in the lane, and nothing anywhere else; the frames that were under way are those that were pushed and
not answered.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

import denoscope.runtime
from denoscope.acquisition.errors import DenoiserFailed, DenoiserLost
from denoscope.acquisition.processes.child import Child, exit_words
from denoscope.acquisition.processes.looks import Looks
from denoscope.acquisition.processes.shared_memory import Slab
from denoscope.runtime import Denoised, DenoscopeError, FrameMeta, StageTimes, StreamCounters, StreamKey

from .exchange import (
    ANSWER,
    DTYPES,
    HEADER,
    IN_FLIGHT,
    QUESTION,
    RESULT,
    SLOTS,
    Description,
    Inputs,
    Layout,
    PushTimes,
)
from .facts import UNKNOWN, MovieFacts

if TYPE_CHECKING:
    import numpy.typing as npt

    from denoscope.acquisition.processes.wire import Message, Words

    from .local import DenoiserRequest

__all__ = ["RemoteDenoiser"]

_MODULE = "denoscope.acquisition.denoisers.process"
_OPEN_S = 900.0  # building an engine for a new frame size takes minutes
_LOOK_EVERY_S = 0.25
_CLOCKS_AGREE_S = 0.001
_CLOCK_READINGS = 5
_HELD = SLOTS // 2  # outputs in the shared memory that may be held on to; further ones are copied
_TIMES = 4096  # frames whose times are kept until they are asked for


class _Asked:
    """One question to the other process; each is a separate object, which tells it from the one before."""

    def __init__(self, patience_s: float, sent_s: float = 0.0, *, frame: bool = False) -> None:
        self.patience_s = patience_s
        self.sent_s = sent_s
        self.frame = frame


class _Slot:
    """Memory of one output, and how many references to it there are while nobody else has one."""

    def __init__(self, slab: Slab, layout: Layout, slot: int) -> None:
        self.bit = 1 << slot
        self._whole = slab.view(layout.output(slot), (layout.frame_bytes + layout.std_bytes,), np.uint8)
        self._std_at = layout.frame_bytes
        self._memory = self._whole.base  # numpy: the first owner, however many views lie between
        self._idle = self._references()

    def frame(self, shape: tuple[int, int], dtype: str) -> npt.NDArray[Any]:
        return self._view(0, shape, np.dtype(dtype))

    def std(self, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
        return self._view(self._std_at, shape, np.dtype(np.float32))

    def is_free(self) -> bool:
        return self._references() <= self._idle

    def _view(self, at: int, shape: tuple[int, int], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        size = shape[0] * shape[1] * dtype.itemsize
        return self._whole[at : at + size].view(dtype).reshape(shape)

    def _references(self) -> int:
        return sys.getrefcount(self._memory)


class RemoteDenoiser:
    """A `SessionDenoiser` that works in another process.

    Parameters
    ----------
    request
        What to open there.
    patience_s
        Seconds that one step may take (to encode a frame, to denoise a frame); a process that finishes none and
        does not answer is ended.
    module
        What the process runs.

    Raises
    ------
    DenoscopeError
        As opening it here would; `DenoiserLost` when the process does not start.
    """

    def __init__(self, request: DenoiserRequest, *, patience_s: float = 20.0, module: str = _MODULE) -> None:
        self._patience_s = patience_s
        self._slab = Slab()
        self._child = Child(
            module,
            str(os.getpid()),
            name="denoscope-denoiser",
            slab=self._slab,
            large_pages=True,  # networks sweep through hundreds of MB
            keep=41,
        )
        self._asked: deque[_Asked] = deque()
        self._hangs = False
        self._closed = threading.Event()
        self._layout = Layout(HEADER, 0, 0)
        self._inputs: Inputs | None = None
        self._slots: list[_Slot] = []
        self._held: list[_Slot] = []  # whose outputs were handed out and not given back yet
        self._pushed = 0
        self._terms: dict[Any, int] = {}
        self._keys: dict[int, StreamKey] = {}
        self._seen: set[tuple[StreamKey, tuple[int, ...], np.dtype[Any]]] = set()
        self._counters = StreamCounters(0, 0, {}, 0)
        self.steps = 0
        """Finished steps, as the process told; it changes while a long answer is being worked on."""
        self._learned = UNKNOWN.copy()
        self._arrived: list[Denoised] = []
        self._times: deque[PushTimes] = deque(maxlen=_TIMES)
        self._watches = threading.Thread(target=self._watch, name="denoscope-denoiser-watch", daemon=True)
        self._watches.start()
        try:
            answer = self._ask({"do": "open", "request": request.as_json()}, _OPEN_S)
            self._apart_s = self._clocks_apart_s()
        except BaseException:
            self.close()
            raise
        self.look_ahead = int(answer["look_ahead"])
        self.provenance: dict[str, Any] = answer["provenance"]

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._child.pid

    @property
    def counters(self) -> StreamCounters:
        """Counts of the pushed frames after the last answer."""
        return self._counters

    @property
    def under_way(self) -> int:
        """Frames that were handed over and not answered yet."""
        return len(self._asked)

    def learned(self) -> MovieFacts:
        """Return the intensity transform and whether motion is tracked, as far as they are known."""
        return self._learned.copy()

    def times(self) -> list[PushTimes]:
        """Return the times of the frames that were answered since the last call, in order."""
        times = list(self._times)
        self._times.clear()
        return times

    def describe(self) -> Description:
        """Return the backend and the memory of the process."""
        self._settle()
        answer = self._ask({"do": "describe"}, self._patience_s)
        return {
            "backend": answer["backend"],
            "resident_bytes": answer["resident_bytes"],
            "peak_bytes": answer["peak_bytes"],
        }

    def prepare(self, shape: tuple[int, int], dtype: npt.DTypeLike, streams: int) -> None:
        """Open so many streams for frames of a shape and dtype now, because it takes longer than a frame."""
        wanted = np.dtype(dtype)
        self._make_room(shape[0] * shape[1], wanted.itemsize)
        self._ask({"do": "prepare", "shape": list(shape), "dtype": wanted.name, "streams": streams}, _OPEN_S)

    def push(self, frame: Any, meta: FrameMeta, *, skip: str | None = None) -> list[Denoised]:
        """Take one frame; return the outputs that are due, those of frames that were under way first."""
        outputs = self.begin(frame, meta, skip=skip)
        self._settle()
        return outputs + self._hand_out()

    def begin(self, frame: Any, meta: FrameMeta, *, skip: str | None = None) -> list[Denoised]:
        """Hand over one frame; return the outputs of frames before it that had to be waited for.

        Raises
        ------
        DenoscopeError
            What a frame before it raised.
        """
        sent_s = time.perf_counter()
        dtype = frame.dtype.newbyteorder("=")
        height, width = frame.shape
        while len(self._asked) >= IN_FLIGHT:
            self._collect()
        self._make_room(frame.size, dtype.itemsize)
        place, inputs = self._pushed % IN_FLIGHT, self._inputs
        assert inputs is not None
        self._pushed += 1
        inputs.frame(place, height, width, dtype)[...] = frame
        kind = meta.key, frame.shape, dtype
        # A stream that opens or binds anew may have an engine to build.
        patience_s = self._patience_s if kind in self._seen else _OPEN_S
        self._seen.add(kind)
        new: list[Any] = []
        stream = self._term(meta.key, new)
        body = QUESTION.pack(
            place,
            stream,
            0 if skip is None else self._term(skip, new),
            self._term(dtype, new),
            height,
            width,
            self._given_back(),
            meta.number,
            -1 if meta.source_index is None else meta.source_index,
            meta.t_received_s - self._apart_s,
        )
        inputs.sent[0] = self._pushed  # before the question: see `exchange`
        self._send({"terms": new} if new else None, body, _Asked(patience_s, sent_s, frame=True))
        return self._hand_out()

    def collect(self) -> list[Denoised]:
        """Wait for the answer to the oldest frame under way; return its outputs.

        Raises
        ------
        DenoscopeError
            What the frame raised.
        """
        if self._asked:
            self._collect()
        return self._hand_out()

    def rest(self) -> list[Denoised]:
        """Return the outputs that arrived before the process failed and were not returned yet."""
        return self._hand_out()

    def restart(self, key: StreamKey, *, recalibrate: bool) -> list[Denoised]:
        """Finish what one stream holds and begin it anew."""
        return self._finish({"do": "restart", "key": _plain(key), "recalibrate": recalibrate}, _OPEN_S)

    def flush(self) -> list[Denoised]:
        """Return the outputs of all frames still held."""
        return self._finish({"do": "flush"}, self._patience_s)

    def close(self) -> None:
        """End the process; it is given a moment unless it is busy. Safe to call twice."""
        if self._closed.is_set():
            return
        self._closed.set()
        if not self._asked and self._child.tell({"do": "close"}):
            with suppress(Exception):
                self._child.process.wait(5)
        self._child.end(self._watches)
        self._slots, self._held, self._inputs = [], [], None
        self._slab.close()

    # -- the lane's thread

    def _make_room(self, pixels: int, itemsize: int) -> None:
        base, nbytes, most = self._layout.values
        if pixels * itemsize <= nbytes and pixels <= most:
            return
        self._settle()
        # Outputs that somebody still holds keep their memory.
        base = self._layout.end if any(not slot.is_free() for slot in self._held) else base
        layout = Layout(base, max(nbytes, pixels * itemsize), max(most, pixels))
        name = self._slab.grow(layout.end)
        self._ask({"do": "grow", "name": name, "layout": layout.values, "nbytes": self._slab.nbytes}, _OPEN_S)
        self._layout, self._held = layout, []
        self._inputs = Inputs(self._slab, layout)
        self._slots = [_Slot(self._slab, layout, slot) for slot in range(SLOTS)]

    def _clocks_apart_s(self) -> float:
        """Return the seconds by which this process's clock is ahead of the other's.

        Both are the computer's on the systems we know: then the other's reading lies between two of this process, one
        before the question and one after the answer, however late the answer is read.
        """
        readings: list[tuple[float, float]] = []
        for _ in range(_CLOCK_READINGS):
            before_s = time.perf_counter()
            there_s = self._ask({"do": "tell_time"}, self._patience_s)["clock_s"]
            after_s = time.perf_counter()
            if before_s - _CLOCKS_AGREE_S <= there_s <= after_s + _CLOCKS_AGREE_S:
                return 0.0
            readings.append((after_s - before_s, (before_s + after_s) / 2 - there_s))
        return min(readings)[1]  # of the shortest question

    def _term(self, term: Any, new: list[Any]) -> int:
        """Return the place of a stream's key, a reason or a dtype among those sent; add it to the new ones else."""
        place = self._terms.get(term)
        if place is None:
            place = self._terms[term] = len(self._terms) + 1
            if isinstance(term, StreamKey):
                self._keys[place] = term
                new.append(_plain(term))
            else:
                new.append(term if isinstance(term, str) else term.name)  # of a dtype
        return place

    def _given_back(self) -> int:
        """Return the bits of the slots whose outputs nobody holds any more."""
        free = [slot for slot in self._held if slot.is_free()]
        if free:
            self._held = [slot for slot in self._held if slot not in free]
        return sum(slot.bit for slot in free)

    def _settle(self) -> None:
        """Wait for all frames under way; the next call that returns outputs returns theirs too."""
        while self._asked:
            self._collect()

    def _collect(self) -> None:
        """Wait for the oldest answer, and for all that it could not hold where nothing else is under way."""
        more = self._arrive(self._receive())
        while more and not self._asked:
            more = self._arrive(self._ask_for({"do": "more"}, self._patience_s))

    def _hand_out(self) -> list[Denoised]:
        outputs, self._arrived = self._arrived, []
        return outputs

    def _finish(self, words: Mapping[str, object], patience_s: float) -> list[Denoised]:
        self._settle()
        more = self._arrive(self._ask_for(words, patience_s))
        while more:
            more = self._arrive(self._ask_for({"do": "more"}, self._patience_s))
        return self._hand_out()

    def _ask(self, words: Mapping[str, Any], patience_s: float) -> Words:
        return self._ask_for(words, patience_s).words

    def _ask_for(self, words: Mapping[str, Any], patience_s: float) -> Message:
        """Ask and wait for the answer, where no frame is under way."""
        self._send({**words, "free": self._given_back()}, b"", _Asked(patience_s))
        return self._receive()

    def _send(self, words: Mapping[str, Any] | None, body: bytes, asked: _Asked) -> None:
        self._asked.append(asked)
        try:
            self._child.wire.send(words, body)
        except OSError:
            raise DenoiserLost(self._why_it_ended(asked.patience_s)) from None

    def _receive(self) -> Message:
        """Wait for the oldest answer; `_watch` ends a process that takes too long over a step."""
        asked = self._asked[0]
        while (message := self._child.receive()) is not None and "steps" in message.words:
            self.steps = message.words["steps"]
            self._asked[0] = _Asked(asked.patience_s)  # another one, so that the wait begins anew
        if message is None:  # it ended, perhaps in the middle of a message
            raise DenoiserLost(self._why_it_ended(asked.patience_s))
        self._asked.popleft()
        if asked.frame and message.body:
            now_s = time.perf_counter()
            values = ANSWER.unpack_from(message.body)
            began_s, ended_s = values[0] + self._apart_s, values[1] + self._apart_s
            count = values[7]
            stages = struct.unpack_from(f"<{count}d", message.body, len(message.body) - 8 * count)
            self._times.append(PushTimes(began_s - asked.sent_s, ended_s - began_s, now_s - ended_s, stages))
        if message.words:
            if "error" in message.words:
                raise _error(message.words)
            self._learned.update(message.words.get("learned", {}))
        return message

    def _arrive(self, message: Message) -> bool:
        """Keep the outputs of an answer until they are handed out; return whether more wait there.

        They lie in the shared memory as long as somebody holds them; when many are held, further ones are copied.
        """
        body, words, apart_s = message.body, message.words, self._apart_s
        _, _, received, emitted, in_flight, count, more, _ = ANSWER.unpack_from(body)
        at = ANSWER.size
        for _ in range(count):
            slot, stream, height, width, dtype, has_std, number, index, *times = RESULT.unpack_from(body, at)
            at += RESULT.size
            memory = self._slots[slot]
            frame = memory.frame((height, width), DTYPES[dtype])
            std = memory.std((height, width)) if has_std else None
            if len(self._held) >= _HELD:
                frame, std = frame.copy(), None if std is None else std.copy()
            self._held.append(memory)
            stages = StageTimes(*(at_s + apart_s for at_s in times))
            meta = FrameMeta(
                number, stages.received, self._keys[stream], source_index=None if index < 0 else index
            )
            self._arrived.append(Denoised(frame, std, meta, stages))
        before = self._counters
        self._counters = StreamCounters(
            received,
            emitted,
            words.get("dropped", before.dropped),
            in_flight,
            words.get("unusual", before.unusual),
        )
        return bool(more)

    def _why_it_ended(self, patience_s: float) -> str:
        if self._hangs:
            return f"the denoiser's process gave no answer for {patience_s:g} s and was ended"
        lines = self._child.last_words()
        words = f"the denoiser's process {exit_words(self._child.poll())}"
        fatal = [line for line in lines if line.startswith("Fatal Python error")]
        last = fatal or lines[-1:]
        return f"{words}, saying: {last[0]}" if last else words

    # -- our thread

    def _watch(self) -> None:
        """End a process that hangs, which ends the wait for its answer."""
        waited_for: _Asked | None = None
        looks = Looks(_LOOK_EVERY_S)
        while not self._closed.wait(_LOOK_EVERY_S) and self._child.poll() is None:
            try:
                asked: _Asked | None = self._asked[0]  # the others wait for it
            except IndexError:
                asked = None
            if asked is not waited_for:
                waited_for = asked
                looks.begin()
            elif asked is not None and looks.look() > asked.patience_s:
                self._hangs = True
                self._child.process.kill()
                return


def _plain(key: StreamKey) -> list[Any]:
    return [key.camera, key.channel, key.z, key.position]


def _error(answer: Mapping[str, Any]) -> Exception:
    """Return what was raised there: a denoscope error as itself, any other by name."""
    kind, text = str(answer["kind"]), str(answer["error"])
    ours = getattr(denoscope.runtime, kind, None)
    if isinstance(ours, type) and issubclass(ours, DenoscopeError):
        return ours(f"{text}.")  # the full stop is left out on the way
    return DenoiserFailed(f"{kind}: {text}")
