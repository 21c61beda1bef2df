"""The denoiser of a session in a process of its own, so that its crash is not the recording's.

::

    the recording process                                  the denoiser's process
    lane: frame -> shared memory, a line of JSON  -------> Router -> backend
          sink  <- shared memory, a line of JSON <-------  outputs

One frame is under way at a time, which is what keeps the memory small and the order plain. An answer may take
long, because the first frames are held for the noise estimate and come back together: before it, the process
sends how many steps it has finished. A process that ends, or finishes no step in time and is ended, raises
`DenoiserLost` in the lane, and nothing anywhere else.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import numpy as np

import denoscope.runtime
from denoscope.acquisition.errors import DenoiserFailed, DenoiserLost
from denoscope.acquisition.processes.child import exit_words, overhear, start_child
from denoscope.acquisition.processes.shared_memory import Slab
from denoscope.acquisition.processes.wire import Wire
from denoscope.runtime import Denoised, DenoscopeError, FrameMeta, StageTimes, StreamCounters, StreamKey

from .local import UNKNOWN

if TYPE_CHECKING:
    import numpy.typing as npt

    from .local import DenoiserRequest

__all__ = ["SLOTS", "Layout", "RemoteDenoiser"]

SLOTS = 4  # outputs that fit into the memory at once; a flush sends more in several turns
_MODULE = "denoscope.acquisition.denoisers.process"
_OPEN_S = 900.0  # building an engine for a new frame size takes minutes
_LOOK_EVERY_S = 0.25
_CLOCKS_AGREE_S = 0.1
_ALIGNMENT = 64


class Layout:
    """Places of frames in the shared memory: one that goes in, `SLOTS` that come out with their deviation.

    Parameters
    ----------
    frame_bytes
        Size of the largest frame.
    pixels
        Its number of pixels.
    """

    def __init__(self, frame_bytes: int, pixels: int) -> None:
        self.frame_bytes = -(-frame_bytes // _ALIGNMENT) * _ALIGNMENT
        self._std_bytes = -(-4 * pixels // _ALIGNMENT) * _ALIGNMENT
        self.nbytes = self.frame_bytes + SLOTS * (self.frame_bytes + self._std_bytes)

    def output(self, slot: int) -> int:
        """Return the first byte of an output."""
        return self.frame_bytes + slot * (self.frame_bytes + self._std_bytes)

    def std(self, slot: int) -> int:
        """Return the first byte of its deviation."""
        return self.output(slot) + self.frame_bytes


class _Asked:
    """One question to the other process; each is an object of its own, which tells it from the one before."""

    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s


class RemoteDenoiser:
    """A `SessionDenoiser` that works in another process.

    Parameters
    ----------
    request
        What to open there.
    patience_s
        Seconds that one step may take (to encode a frame, to denoise a frame); a process that finishes none and
        does not answer is ended.

    Raises
    ------
    DenoscopeError
        As opening it here would; `DenoiserLost` when the process does not start.
    """

    def __init__(self, request: DenoiserRequest, *, patience_s: float = 20.0) -> None:
        self._patience_s = patience_s
        self._slab = Slab()
        self._process = start_child(
            _MODULE, str(os.getpid()), *map(str, self._slab.descriptors), descriptors=self._slab.descriptors
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._wire = Wire(cast("Any", self._process.stdout), cast("Any", self._process.stdin))
        self._words: list[str] = []
        self._asked: _Asked | None = None
        self._hangs = False
        self._closed = threading.Event()
        self._layout = Layout(0, 0)
        self._largest = (0, 0)
        self._seen: set[tuple[StreamKey, tuple[int, ...], str]] = set()
        self._counters = StreamCounters(0, 0, {}, 0)
        self.steps = 0
        """Finished steps, as the process told; it changes while a long answer is being worked on."""
        self._learned = dict(UNKNOWN)
        self._threads = [
            threading.Thread(
                target=overhear,
                args=(self._process, self._words, 41),
                name="denoscope-denoiser-words",
                daemon=True,
            ),
            threading.Thread(target=self._watch, name="denoscope-denoiser-watch", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        try:
            answer = self._ask({"do": "open", "request": request.as_json()}, _OPEN_S)
        except BaseException:
            self.close()
            raise
        self.look_ahead = int(answer["look_ahead"])
        self.provenance: dict[str, Any] = answer["provenance"]
        # Both clocks are the machine's on the systems we know; where not, they differ by a constant.
        apart_s = time.perf_counter() - answer["clock_s"]
        self._apart_s = apart_s if abs(apart_s) > _CLOCKS_AGREE_S else 0.0

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def counters(self) -> StreamCounters:
        """Counts of the pushed frames after the last answer."""
        return self._counters

    def learned(self) -> Mapping[str, Any]:
        """Return the intensity transform and whether the scene is followed, as far as they are known."""
        return dict(self._learned)

    def prepare(self, shape: tuple[int, int], dtype: npt.DTypeLike, streams: int) -> None:
        """Open so many streams for frames of a shape and dtype now, because it takes longer than a frame."""
        wanted = np.dtype(dtype)
        self._make_room(shape[0] * shape[1], wanted.itemsize)
        self._ask({"do": "prepare", "shape": list(shape), "dtype": wanted.name, "streams": streams}, _OPEN_S)

    def push(self, frame: Any, meta: FrameMeta, *, skip: str | None = None) -> list[Denoised]:
        """Take one frame; return the outputs that are due."""
        dtype = frame.dtype.newbyteorder("=")
        self._make_room(frame.size, dtype.itemsize)
        self._slab.view(0, frame.shape, dtype)[...] = frame
        kind = meta.key, frame.shape, dtype.name
        # A stream that opens or binds anew may have an engine to build.
        patience_s = self._patience_s if kind in self._seen else _OPEN_S
        self._seen.add(kind)
        message = {
            "do": "push",
            "key": _plain(meta.key),
            "number": meta.number,
            "source_index": meta.source_index,
            "received_s": meta.t_received_s - self._apart_s,
            "shape": list(frame.shape),
            "dtype": dtype.name,
            "skip": skip,
        }
        return self._outputs(self._ask(message, patience_s))

    def restart(self, key: StreamKey, *, recalibrate: bool) -> list[Denoised]:
        """Finish what one stream holds and begin it anew."""
        message = {"do": "restart", "key": _plain(key), "recalibrate": recalibrate}
        return self._outputs(self._ask(message, _OPEN_S))

    def flush(self) -> list[Denoised]:
        """Return the outputs of all frames still held."""
        return self._outputs(self._ask({"do": "flush"}, self._patience_s))

    def close(self) -> None:
        """End the process; it is given a moment unless it is busy. Safe to call twice."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._asked is None:
            with suppress(OSError):  # it is gone already
                self._wire.send({"do": "close"})
            with suppress(Exception):
                self._process.wait(5)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join(5)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            with suppress(OSError):  # what was still buffered for a process that is gone
                pipe.close()
        self._slab.close()

    # -- the lane's thread

    def _make_room(self, pixels: int, itemsize: int) -> None:
        largest = max(self._largest[0], pixels * itemsize), max(self._largest[1], pixels)
        if largest == self._largest:
            return
        self._largest, self._layout = largest, Layout(*largest)
        name = self._slab.grow(self._layout.nbytes)
        self._ask({"do": "grow", "name": name, "largest": largest, "nbytes": self._slab.nbytes}, _OPEN_S)

    def _ask(self, message: Mapping[str, Any], patience_s: float) -> dict[str, Any]:
        """Send a message and wait for the answer; `_watch` ends a process that takes too long over a step."""
        self._asked = _Asked(patience_s)
        try:
            self._wire.send(message)
            while (answer := self._wire.receive()) is not None and "steps" in answer:
                self.steps = answer["steps"]
                self._asked = _Asked(patience_s)
        except (OSError, ValueError):  # it ended, perhaps in the middle of a message
            answer = None
        if answer is None:
            raise DenoiserLost(self._why_it_ended(patience_s))
        self._asked = None
        if "error" in answer:
            raise _error(answer)
        self._learned.update(answer.get("learned", {}))
        return answer

    def _outputs(self, answer: dict[str, Any]) -> list[Denoised]:
        outputs = self._copy(answer)
        while answer["more"]:
            answer = self._ask({"do": "more"}, self._patience_s)
            outputs += self._copy(answer)
        self._counters = StreamCounters(*answer["counters"])
        return outputs

    def _copy(self, answer: Mapping[str, Any]) -> list[Denoised]:
        """Copy the outputs that lie in the shared memory, which the next message overwrites."""
        outputs = []
        for slot, values in enumerate(answer["outputs"]):
            shape = tuple(values["shape"])
            frame = self._slab.view(self._layout.output(slot), shape, values["dtype"]).copy()
            std = None
            if values["std"]:
                std = self._slab.view(self._layout.std(slot), shape, np.float32).copy()
            times = StageTimes(*(at_s + self._apart_s for at_s in values["times"]))
            meta = FrameMeta(
                values["number"],
                times.received,
                StreamKey(*values["key"]),
                source_index=values["source_index"],
            )
            outputs.append(Denoised(frame, std, meta, times))
        return outputs

    def _why_it_ended(self, patience_s: float) -> str:
        if self._hangs:
            return f"the denoiser's process gave no answer for {patience_s:g} s and was ended"
        with suppress(Exception):
            self._process.wait(5)
        self._threads[0].join(1)
        words = f"the denoiser's process {exit_words(self._process.poll())}"
        fatal = [word for word in self._words if word.startswith("Fatal Python error")]
        last = fatal or self._words[-1:]
        return f"{words}, saying: {last[0]}" if last else words

    # -- our threads

    def _watch(self) -> None:
        """End a process that hangs, which ends the wait for its answer.

        The wait is measured in looks of this thread, each of which counts for no longer than two of them should
        take: when this computer or this program stood still, the other process stood still too.
        """
        waited_for: _Asked | None = None
        waited_s, looked_s = 0.0, time.perf_counter()
        while not self._closed.wait(_LOOK_EVERY_S) and self._process.poll() is None:
            now_s = time.perf_counter()
            passed_s, looked_s = min(now_s - looked_s, 2 * _LOOK_EVERY_S), now_s
            asked = self._asked
            if asked is not waited_for:
                waited_for, waited_s = asked, 0.0
            elif asked is not None:
                waited_s += passed_s
                if waited_s > asked.patience_s:
                    self._hangs = True
                    self._process.kill()
                    return


def _plain(key: StreamKey) -> list[Any]:
    return [key.camera, key.channel, key.z, key.position]


def _error(answer: Mapping[str, Any]) -> Exception:
    """Return what was raised there: one of our own errors as itself, any other by name."""
    kind, text = str(answer["kind"]), str(answer["error"])
    ours = getattr(denoscope.runtime, kind, None)
    if isinstance(ours, type) and issubclass(ours, DenoscopeError):
        return ours(text)
    return DenoiserFailed(f"{kind}: {text}")
