"""Shared base of the GPU backends: buffers on the device, three streams, and their order.

Frames go up on one stream, graphs run on a second and results come down on a third, so that the copy of
the next frame overlaps the work that is left of this one. Events keep the order, and nothing else does:

- an upload waits for the last run that reads the buffer, and the runs after it wait for the upload;
- a download waits for the run that wrote the buffer, and the host waits for the download when it wants the picture;
- a run does not wait for the download of what it writes: whoever fetched it has waited for it (`BoundWindow.side`);
- runs follow each other on their one stream.

What a frame needs can be one captured graph (`DeviceBackend.together`), with its copies up and down inside.

Every call of CUDA goes through a `Device`, so that all of this is tested on machines without a GPU, with a
device that does each thing as late as its order allows.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from denoscope.runtime.backends.base import Backend, Buffer, FrameCall, Graph, check_dtype, check_names
from denoscope.runtime.errors import BackendUnavailable, DeviceFailed, InvalidInput
from denoscope.runtime.words import first_line

__all__ = [
    "Device",
    "DeviceBackend",
    "DeviceBuffer",
    "DeviceGraph",
    "Landing",
    "Memory",
    "Pinned",
    "Work",
    "missing_cuda",
]

_CUDA_DRIVER = (13, 0)  # what cuda-core, onnxruntime-gpu 1.31 and the plugin are built with

Array = npt.NDArray[Any]
Stream = Any  # streams and events are the device's own objects
Event = Any
Work = Callable[[Stream], None]  # puts work onto a stream and returns before it is done


class Memory(ABC):
    """Memory of a device; freed with the object.

    Attributes
    ----------
    address
        Where it begins, as the libraries take it.
    size
        In bytes.
    """

    address: int
    size: int


class Pinned(ABC):
    """Memory of the host that the device copies from and to by itself; freed with the object.

    Attributes
    ----------
    array
        All of it, as bytes.
    """

    array: npt.NDArray[np.uint8]


class Device(ABC):
    """One GPU, as the backends use it.

    Attributes
    ----------
    name
        For people.
    capability
        Compute capability (major, minor).
    ort_name
        What ONNX Runtime calls its memory.
    """

    name: str
    capability: tuple[int, int]
    ort_name: ClassVar[str] = "cuda"

    @abstractmethod
    def enter(self) -> None:
        """Make the device usable from the calling thread; cheap when it is already."""

    @abstractmethod
    def stream(self) -> Stream:
        """Return a new stream that does not wait for the default stream."""

    @abstractmethod
    def handle(self, stream: Stream) -> int:
        """Return a stream as the libraries take it."""

    @abstractmethod
    def event(self) -> Event:
        """Return a new event; waiting for one that was never recorded is no wait."""

    @abstractmethod
    def record(self, event: Event, stream: Stream) -> None:
        """Let an event stand for all that the stream has been given so far."""

    @abstractmethod
    def wait(self, stream: Stream, event: Event) -> None:
        """Let what the stream is given from now on wait for the event as it was last recorded."""

    @abstractmethod
    def synchronise(self, event: Event) -> None:
        """Return when what the event stands for is done."""

    @abstractmethod
    def allocate(self, size: int, stream: Stream) -> Memory:
        """Return zeroed memory, freed in the order of the stream; BackendUnavailable when there is no room."""

    @abstractmethod
    def pinned(self, size: int) -> Pinned:
        """Return zeroed page-locked memory of the host; BackendUnavailable when there is no room."""

    @abstractmethod
    def copy_in(self, target: Memory, source: Pinned, stream: Stream) -> None:
        """Put a copy of pinned memory to the device onto a stream; both are equally long."""

    @abstractmethod
    def copy_out(self, source: Memory, target: Pinned, stream: Stream) -> None:
        """Put a copy of the device's memory to the host onto a stream; both are equally long."""

    @abstractmethod
    def clear(self, target: Memory, stream: Stream) -> None:
        """Fill memory with zeros."""

    @abstractmethod
    def launch(self, kernel: str, count: int, arguments: Sequence[Memory], stream: Stream) -> None:
        """Put one of the kernels of `convert.cu` onto a stream, for `count` pixels."""

    @abstractmethod
    def compile(self, source: str) -> Any:
        """Compile CUDA source for this device and return its kernels; BackendUnavailable when that fails."""

    @abstractmethod
    def start(
        self,
        kernels: Any,
        name: str,
        grid: tuple[int, int, int],
        block: int,
        addresses: Sequence[int],
        numbers: Sequence[int],
        stream: Stream,
    ) -> None:
        """Put one of the kernels that `compile` returned onto a stream.

        Parameters
        ----------
        kernels, name
            What `compile` returned, and which of them.
        grid, block
            Blocks along x, y and z, and threads of a block.
        addresses, numbers
            Its arguments: addresses of the device's memory, then 32-bit integers.
        stream
            Stream that it runs on.
        """

    @abstractmethod
    def capture(self, stream: Stream, work: Work) -> Work:
        """Return what replays `work` as one CUDA graph, without running it; raise where that is impossible."""

    @abstractmethod
    def aim(self, captured: Work, source: Memory, target: Pinned) -> None:
        """Let a captured copy of `source` to the host go to other memory whenever it is launched from now on.

        Raises where the driver cannot; what was captured stays as it is then.
        """

    @abstractmethod
    def beside(self, stream: Stream, work: Work, copies: Work) -> None:
        """Put two works onto a stream that need not wait for each other; what follows waits for both.

        `work` is put onto the stream itself, `copies` may be put onto another.
        """

    @abstractmethod
    def explain(self, error: Exception) -> Exception:
        """Return what to raise for an error of CUDA or of a library on it; the same if it is no such error."""

    def submit(self, stream: Stream, work: Work) -> None:
        """Call `work` for a stream; here so that a device of the tests can put it off."""
        work(stream)

    @abstractmethod
    def close(self) -> None:
        """Wait for the device and release what it holds. Safe to call twice."""


class DeviceBuffer(Buffer):
    """Fixed memory of the device, with pinned memory of the host beside it once something is copied."""

    def __init__(self, owner: DeviceBackend, shape: Sequence[int], dtype: str = "float32") -> None:
        self.shape = tuple(int(n) for n in shape)
        self.dtype = np.dtype(dtype)
        self._owner = owner
        size = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
        owner.device.enter()
        self.memory = owner.device.allocate(size, owner.compute)
        self.read: Event | None = None  # after the last run that reads it
        self.written: Event | None = None  # after what wrote it last
        self.fetched: Event | None = None  # after the last copy to the host
        self.staged: Event | None = None  # after the last copy out of `staging`
        self._moved: Event = None
        self._cleared: Event = None
        self._pinned: Pinned | None = None
        self._staging: Array | None = None

    @property
    def staging(self) -> Array:
        if self._staging is None:
            device = self._owner.device
            device.enter()
            self._moved = device.event()
            self._pinned = device.pinned(self.memory.size)
            self._staging = self._pinned.array.view(self.dtype).reshape(self.shape)
        return self._staging

    @property
    def pinned(self) -> Pinned:
        """The memory of `staging`."""
        assert self.staging is not None
        assert self._pinned is not None
        return self._pinned

    def settle(self) -> None:
        if self.staged is not None:
            self._owner.device.synchronise(self.staged)

    def upload(self, source: Array) -> None:
        device, staging = self._owner.device, self.staging
        self._check(source)
        device.enter()
        try:
            if source is not staging:
                self.settle()
                np.copyto(staging, source)
            upload = self._owner.upload
            for event in (self.read, self.written):
                if event is not None:
                    device.wait(upload, event)
            device.copy_in(self.memory, self.pinned, upload)
            device.record(self._moved, upload)
            device.wait(self._owner.compute, self._moved)
        except Exception as error:
            raise device.explain(error) from error
        self.written = self.staged = self._moved

    def fetch(self, to: Buffer | None = None) -> None:
        device, pinned = self._owner.device, to.pinned if isinstance(to, Landing) else self.pinned
        device.enter()
        try:
            download = self._owner.download
            if self.written is not None:
                device.wait(download, self.written)
            device.copy_out(self.memory, pinned, download)
            device.record(self._moved, download)
        except Exception as error:
            raise device.explain(error) from error
        self.fetched = self._moved

    def arrive(self) -> None:
        if self.fetched is None:
            return
        device = self._owner.device
        device.enter()
        try:
            device.synchronise(self.fetched)
        except Exception as error:
            raise device.explain(error) from error

    def download(self, out: Array) -> None:
        self._check(out)
        self.fetch()
        self.arrive()
        if out is not self.staging:
            np.copyto(out, self.staging)

    def clear(self) -> None:
        owner, device = self._owner, self._owner.device
        device.enter()
        try:
            # Runs are on the same stream; uploads have made it wait, and downloads have ended.
            device.clear(self.memory, owner.compute)
            if self._cleared is None:
                self._cleared = device.event()
            device.record(self._cleared, owner.compute)
        except Exception as error:
            raise device.explain(error) from error
        self.written = self._cleared

    def _check(self, array: Array) -> None:
        if array.shape != self.shape or array.dtype != self.dtype:
            raise InvalidInput(
                f"An array of shape {array.shape} and type {array.dtype} does not fit a buffer of shape "
                f"{self.shape} and type {self.dtype}: give equal ones."
            )


class Landing(Buffer):
    """Memory of the host that outputs are copied to by the device itself."""

    def __init__(self, device: Device, shape: Sequence[int], dtype: str) -> None:
        self.shape = tuple(int(n) for n in shape)
        kind = np.dtype(dtype)
        device.enter()
        self.pinned = device.pinned(int(np.prod(self.shape, dtype=np.int64)) * kind.itemsize)
        self._array: Array = self.pinned.array.view(kind).reshape(self.shape)

    @property
    def array(self) -> Array:
        return self._array

    def upload(self, source: Array) -> None:
        np.copyto(self._array, source)

    def download(self, out: Array) -> None:
        np.copyto(out, self._array)


class DeviceGraph(Graph):
    """A graph on a device: subclasses say what one run puts onto the compute stream.

    Parameters
    ----------
    owner
        Whose buffers it is bound to.
    inputs, outputs
        Names, in the graph's order.
    """

    captures: bool = False  # whether runs are captured here
    # Libraries prepare themselves in their first runs, which a capture would not take.
    runs_before_capture: ClassVar[int] = 1

    def __init__(self, owner: DeviceBackend, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self.owner = owner
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self._open = True

    @abstractmethod
    def work(self, inputs: Mapping[str, DeviceBuffer], outputs: Mapping[str, DeviceBuffer]) -> Work:
        """Return what puts one run on these buffers onto a stream."""

    def uncaptured(self, work: Work, refusal: str) -> Work:
        """Return what to run in the place of work that cannot be captured here, and note that."""
        self.owner.note("CUDA graphs", f"not captured: {refusal}")
        return work

    def dtype_of(self, name: str) -> str:  # noqa: ARG002  for graphs that know better
        """Return the type of an input or output."""
        return "float32"

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Callable[[], None]:
        """Tie the graph to buffers; the call returns before the outputs are there, see the module."""
        if not self._open:
            raise InvalidInput("The graph is closed: compile it again before binding.")
        check_names("inputs", self.inputs, inputs)
        check_names("outputs", self.outputs, outputs)
        sources = {name: _own(buffer) for name, buffer in inputs.items()}
        targets = {name: _own(buffer) for name, buffer in outputs.items()}
        device = self.owner.device
        device.enter()
        try:
            work = self.work(sources, targets)
            done = device.event()
        except Exception as error:
            explained = device.explain(error)
            if isinstance(explained, DeviceFailed):  # no frame is under way: another backend may be chosen
                explained = BackendUnavailable(str(explained))
            raise explained from error
        return _Run(self, work, done, sources, targets)

    def close(self) -> None:
        if self._open:
            self._open = False
            with contextlib.suppress(Exception):  # a lost device has nothing under way
                self.owner.finish()


class _Run:
    """One bound graph: runs as it is at first, is then captured, and replayed from then on."""

    def __init__(
        self,
        graph: DeviceGraph,
        work: Work,
        done: Event,
        inputs: Mapping[str, DeviceBuffer],
        outputs: Mapping[str, DeviceBuffer],
    ) -> None:
        self._graph, self._owner, self._work, self._done = graph, graph.owner, work, done
        self.work = work  # kept: a captured graph holds addresses, not the contexts and buffers behind them
        self.inputs, self.outputs = tuple(inputs.values()), tuple(outputs.values())
        self.captures = graph.captures  # as it is for these buffers
        self._runs = 0

    def __call__(self) -> None:
        device, compute = self._owner.device, self._owner.compute
        device.enter()
        try:
            if self.captures and self._runs == self._graph.runs_before_capture:
                self._capture(device, compute)
            self._runs += 1
            device.submit(compute, self._work)
            device.record(self._done, compute)
        except Exception as error:
            raise device.explain(error) from error
        for buffer in self.inputs:
            buffer.read = self._done
        for buffer in self.outputs:
            buffer.written = self._done

    def _capture(self, device: Device, compute: Stream) -> None:
        try:
            self._work = device.capture(compute, self._work)
        except Exception as error:  # noqa: BLE001  what cannot be captured can still be run
            self._work = self._graph.uncaptured(self._work, first_line(error))
            self.captures = False
        else:
            self._owner.note("CUDA graphs", "captured")


class _Together(FrameCall):
    """Copies up, runs and copies down of one frame as one captured graph."""

    def __init__(
        self,
        owner: DeviceBackend,
        uploads: Sequence[DeviceBuffer],
        runs: Sequence[_Run],
        fetches: Sequence[DeviceBuffer],
        beside: Sequence[_Run],
    ) -> None:
        self._owner, self._done = owner, owner.device.event()
        self._uploads, self._fetches = tuple(uploads), tuple(fetches)
        self._runs, self._beside = tuple(runs), tuple(beside)
        every = (*runs, *beside)
        self._read = tuple({id(b): b for run in every for b in run.inputs}.values())
        self._written = tuple({id(b): b for run in every for b in run.outputs}.values())
        self._targets = [buffer.pinned for buffer in fetches]
        self._kept: Work = self._whole
        self._captured = owner.device.capture(owner.compute, self._kept)

    def __call__(self, landings: Sequence[Buffer | None]) -> None:
        device, compute = self._owner.device, self._owner.compute
        device.enter()
        try:
            for place, (buffer, landing) in enumerate(zip(self._fetches, landings, strict=True)):
                target = landing.pinned if isinstance(landing, Landing) else buffer.pinned
                if target is not self._targets[place]:
                    self.aim(place, target)
            device.submit(compute, self._captured)
            device.record(self._done, compute)
        except Exception as error:
            raise device.explain(error) from error
        done = self._done
        for buffer in self._read:
            buffer.read = done
        for buffer in self._written:
            buffer.written = done
        for buffer in self._uploads:
            buffer.written = buffer.staged = done
        for buffer in self._fetches:
            buffer.fetched = done

    def aim(self, place: int, target: Pinned) -> None:
        """Let one of the fetched buffers come down to this memory from now on."""
        self._owner.device.aim(self._captured, self._fetches[place].memory, target)
        self._targets[place] = target

    def _whole(self, stream: Stream) -> None:
        device = self._owner.device
        for buffer in self._uploads:
            device.copy_in(buffer.memory, buffer.pinned, stream)
        for run in self._runs:
            run.work(stream)
        device.beside(stream, self._absorb, self._bring)

    def _absorb(self, stream: Stream) -> None:
        for run in self._beside:
            run.work(stream)

    def _bring(self, stream: Stream) -> None:
        for buffer in self._fetches:
            self._owner.device.copy_out(buffer.memory, buffer.pinned, stream)


class DeviceBackend(Backend):
    """A backend whose buffers lie on a GPU.

    Parameters
    ----------
    threads
        Checked and otherwise without effect: the GPU does the work.
    device
        Where; None opens the machine's first GPU.
    """

    # Every bound graph runs this often before the first frame: once as it is, once to be captured.
    warm_runs: ClassVar[int] = 2
    overlaps: ClassVar[bool] = True

    def __init__(self, *, threads: int | None = None, device: Device | None = None) -> None:
        super().__init__(threads=threads)
        self._owns_device = device is None
        self.device = _open_device() if device is None else device
        self.device.enter()
        self.upload, self.compute, self.download = (self.device.stream() for _ in range(3))
        self._finished = self.device.event()
        self._lands = True
        self._notes: dict[str, str] = {}

    def note(self, what: str, how: str) -> None:
        """Keep something that `describe` shall say."""
        self._notes[what] = how

    @abstractmethod
    def inference_library(self) -> str:
        """Return name and version of what executes the graphs."""

    def describe(self) -> dict[str, str]:
        major, minor = self.device.capability
        return {
            "library": self.inference_library(),
            "device": f"{self.device.name} (compute capability {major}.{minor})",
            "precision": "as in the bundle's graphs, float32 without TF32",
            "threads": "on the GPU",
            **self._notes,
        }

    def buffer(self, shape: Sequence[int], dtype: str = "float32") -> Buffer:
        check_dtype(self, dtype)
        return DeviceBuffer(self, shape, dtype)

    def landing(self, shape: Sequence[int], dtype: str) -> Buffer | None:
        return Landing(self.device, shape, dtype) if self._lands else None

    def together(
        self,
        uploads: Sequence[Buffer],
        calls: Sequence[Callable[..., None]],
        fetches: Sequence[Buffer],
        beside: Sequence[Callable[..., None]],
    ) -> FrameCall | None:
        runs = [[run for run in each if isinstance(run, _Run)] for each in (calls, beside)]
        if not all(run.captures for each in runs for run in each):
            return None  # `note` says why
        up, down = ([_own(buffer) for buffer in each] for each in (uploads, fetches))
        try:
            whole = _Together(self, up, runs[0], down, runs[1])
        except Exception as error:  # noqa: BLE001  each part can still be run
            self.note("frames", f"launched in parts: {first_line(error)}")
            return None
        self.note("frames", "one captured graph each")
        try:
            for place, buffer in enumerate(down):
                whole.aim(place, buffer.pinned)
        except Exception as error:  # noqa: BLE001  then pictures are copied once more
            self._lands = False
            self.note("pictures", f"copied once more on the way out: {first_line(error)}")
        return whole

    def finish(self) -> None:
        try:
            self.device.enter()
            # Frames that are on their way down are written to memory that is let go of.
            for stream in (self.compute, self.download):
                self.device.record(self._finished, stream)
                self.device.synchronise(self._finished)
        except Exception as error:
            raise self.device.explain(error) from error

    def close(self) -> None:
        if self._owns_device:
            with contextlib.suppress(Exception):  # a lost device cannot be waited for
                self.device.close()


def missing_cuda() -> str | None:
    """Return why CUDA cannot be used from Python here, None when it can; backends then ask for their own."""
    from denoscope.runtime.engines import local_gpu

    gpu = local_gpu()
    if isinstance(gpu, str):
        return f"{gpu}; install the newest from nvidia.com if this computer has an NVIDIA GPU"
    if gpu.driver < _CUDA_DRIVER:
        return (
            f"the NVIDIA driver runs CUDA up to {gpu.driver[0]}.{gpu.driver[1]} and "
            f"{_CUDA_DRIVER[0]}.{_CUDA_DRIVER[1]} is needed: install a driver of version 580 or newer"
        )
    for module in ("cuda.core", "cuda.bindings"):
        try:
            found = find_spec(module)
        except ImportError:
            found = None
        if found is None:
            return 'cuda-core is not installed: run `python -m pip install ".[cuda]"`'
    return None


def _own(buffer: Buffer) -> DeviceBuffer:
    if not isinstance(buffer, DeviceBuffer):
        raise InvalidInput(
            f"A {type(buffer).__name__} was made by another backend: use this backend's own buffers."
        )
    return buffer


def _open_device() -> Device:
    from .cuda import CudaDevice

    return CudaDevice()
