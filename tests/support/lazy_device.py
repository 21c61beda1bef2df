"""A GPU that does everything as late as its order allows, in the host's memory.

What is put onto a stream waits there until somebody waits for it; then whatever may run is run, one thing at a
time, from a stream chosen at random. A wait that the backend forgot therefore shows as a wrong picture, and a
staging array that is written too early as a wrong frame. It stands in for `CudaDevice`, and has none of its own
behaviour: no memory limits, no errors of its own, no speed.
"""

from __future__ import annotations

import ctypes
import random
import weakref
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from denoscope.runtime.backends.base import HostBuffer
from denoscope.runtime.backends.device.device import Device, Memory, Pinned, Work

from .kernels_in_c import compile_as_c

__all__ = ["LazyDevice"]


class _Ticket:
    """One recording of an event."""

    def __init__(self) -> None:
        self.done = False


class _Event:
    def __init__(self) -> None:
        self.latest: _Ticket | None = None


class _Stream:
    def __init__(self, name: str) -> None:
        self.name = name
        self.queue: deque[tuple[_Ticket | None, Callable[[], None]]] = (
            deque()
        )  # what it waits for, what to do


class _Now(_Stream):
    """Stands for a stream while its work is being done; `aims` says where captured copies go instead."""

    def __init__(self, aims: Mapping[int, Pinned]) -> None:
        super().__init__("now")
        self.aims = aims


class _Replay:
    """A captured work. Like a CUDA graph it keeps addresses, and nothing alive."""

    def __init__(self, device: LazyDevice, work: Work) -> None:
        self._device, self._work = device, weakref.ref(work)
        self.aims: dict[int, Pinned] = {}

    def __call__(self, stream: _Stream) -> None:
        self._device.counts["replay"] += 1
        alive = self._work()
        assert alive is not None, (
            "what was captured has been freed: a real GPU would read what lies there now"
        )
        alive(stream)


class HostMemory(Memory):
    def __init__(self, size: int) -> None:
        self.size = size
        self._buffer = HostBuffer((size,), "uint8")
        self.array: Any = self._buffer.array
        self.address = self.array.ctypes.data


class HostPinned(Pinned):
    def __init__(self, size: int) -> None:
        self.array = np.zeros(size, np.uint8)


class LazyDevice(Device):
    """See the module.

    Parameters
    ----------
    seed
        Of the order in which streams advance.
    capability
        Compute capability that it pretends to have.

    Attributes
    ----------
    counts
        How often each thing was asked for: `copy_in`, `copy_out`, `launch`, `submit`, `capture`, `replay`.
    fail
        Raised by the next thing that is asked for, once.
    """

    ort_name: ClassVar[str] = "cpu"

    def __init__(self, seed: int = 0, capability: tuple[int, int] = (8, 6)) -> None:
        self.name, self.capability = "Lazy GPU", capability
        self.counts: Counter[str] = Counter()
        self.captures_fail: Exception | None = None
        self.fail: dict[str, Exception] = {}
        self.overlaps = 0
        self._random = random.Random(seed)
        self._streams: list[_Stream] = []

    def enter(self) -> None:
        pass

    def stream(self) -> _Stream:
        self._streams.append(_Stream(f"stream {len(self._streams)}"))
        return self._streams[-1]

    def handle(self, stream: _Stream) -> int:
        return self._streams.index(stream) + 1

    def event(self) -> _Event:
        return _Event()

    def record(self, event: _Event, stream: _Stream) -> None:
        ticket = event.latest = _Ticket()

        def done() -> None:
            ticket.done = True

        stream.queue.append((None, done))

    def wait(self, stream: _Stream, event: _Event) -> None:
        stream.queue.append((event.latest, lambda: None))

    def synchronise(self, event: _Event) -> None:
        ticket = event.latest
        while ticket is not None and not ticket.done:
            self._advance()

    def allocate(self, size: int, stream: _Stream) -> Memory:
        self._ask("allocate")
        return HostMemory(size)

    def pinned(self, size: int) -> Pinned:
        return HostPinned(size)

    def copy_in(self, target: Memory, source: Pinned, stream: _Stream) -> None:
        assert isinstance(target, HostMemory)
        assert target.size == source.array.size
        array = target.array
        self._put("copy_in", stream, lambda: np.copyto(array, source.array))

    def copy_out(self, source: Memory, target: Pinned, stream: _Stream) -> None:
        assert isinstance(source, HostMemory)
        aimed = stream.aims.get(id(source), target) if isinstance(stream, _Now) else target
        assert source.size == aimed.array.size
        array = source.array
        self._put("copy_out", stream, lambda: np.copyto(aimed.array, array))

    def clear(self, target: Memory, stream: _Stream) -> None:
        assert isinstance(target, HostMemory)
        array = target.array
        self._put("clear", stream, lambda: array.fill(0))

    def launch(self, kernel: str, count: int, arguments: Sequence[Memory], stream: _Stream) -> None:
        arrays = [memory.array for memory in arguments if isinstance(memory, HostMemory)]
        self._put("launch", stream, lambda: run_kernel(kernel, count, arrays))

    def compile(self, source: str) -> Any:
        return compile_as_c(source)

    def start(
        self,
        kernels: Any,
        name: str,
        grid: tuple[int, int, int],
        block: int,
        addresses: Sequence[int],
        numbers: Sequence[int],
        stream: _Stream,
    ) -> None:
        arguments = [ctypes.c_void_p(a) for a in addresses] + [ctypes.c_int(n) for n in numbers]
        self._put("start", stream, lambda: getattr(kernels, name)(*arguments))

    def capture(self, stream: _Stream, work: Work) -> Work:
        self._ask("capture")
        if self.captures_fail is not None:
            raise self.captures_fail

        return _Replay(self, work)

    def aim(self, captured: Work, source: Memory, target: Pinned) -> None:
        self._ask("aim")
        assert isinstance(captured, _Replay)
        captured.aims[id(source)] = target

    def beside(self, stream: _Stream, work: Work, copies: Work) -> None:
        for each in self._random.sample((work, copies), 2):
            each(stream)

    def explain(self, error: Exception) -> Exception:
        from denoscope.runtime.backends.device.errors import explain

        return explain(error, self.name)

    def submit(self, stream: _Stream, work: Work) -> None:
        now = _Now(dict(work.aims) if isinstance(work, _Replay) else {})  # what it is at the launch
        self._put("submit", stream, lambda: work(now))

    def work_left(self) -> int:
        """Return how many things have not been done."""
        return sum(len(stream.queue) for stream in self._streams)

    def close(self) -> None:
        while any(stream.queue for stream in self._streams):
            self._advance()

    def _ask(self, what: str) -> None:
        self.counts[what] += 1
        if what in self.fail:
            raise self.fail.pop(what)

    def _put(self, what: str, stream: _Stream, action: Callable[[], None]) -> None:
        self._ask(what)
        if isinstance(stream, _Now):
            action()
        else:
            stream.queue.append((None, action))

    def _advance(self) -> None:
        """Do one thing that may be done."""
        ready = [s for s in self._streams if s.queue and (s.queue[0][0] is None or s.queue[0][0].done)]
        assert ready, "every stream waits for another: a real GPU would hang"
        self.overlaps += len(ready) > 1
        self._random.choice(ready).queue.popleft()[1]()


def run_kernel(name: str, count: int, arrays: Sequence[Any]) -> None:
    """Do in numpy what a kernel of `convert.cu` does, step by step in float32."""
    before, _, after = name.partition("_to_")
    source, offset, factor, target = (
        array.view(dtype) for array, dtype in zip(arrays, (before, "float32", "float32", after), strict=True)
    )
    assert source.size == target.size == count
    if after.startswith("float"):
        target[...] = (source.astype(np.float32) - offset[0]) * factor[0]
        return
    limits = np.iinfo(after)
    value = source.astype(np.float32) * factor[0] + offset[0]
    target[...] = np.rint(np.clip(value, np.float32(limits.min), np.float32(limits.max))).astype(after)
