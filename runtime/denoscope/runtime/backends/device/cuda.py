"""The one module that calls CUDA: a `Device` made of cuda-core's streams, events, memory and graphs."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from denoscope.runtime.errors import BackendUnavailable
from denoscope.runtime.words import first_line

from .convert_raw import kernel_source
from .device import Device, Memory, Pinned, Work
from .errors import explain

__all__ = ["CudaDevice", "compile_kernels"]

_BLOCK = 256
_MOST_BLOCKS = 4096


def compile_kernels(architecture: str, source: str | None = None, *, exact: bool = True) -> Any:
    """Compile kernels with NVRTC; it needs no GPU.

    Parameters
    ----------
    architecture
        For example `sm_86`.
    source
        CUDA source; None for the kernels that convert counts.
    exact
        Round after every operation, as numpy does.

    Raises
    ------
    BackendUnavailable
        If NVRTC is missing or too old for the architecture.
    """
    from cuda.core import Program, ProgramOptions

    try:
        options = ProgramOptions(arch=architecture, fma=not exact, std="c++17")
        return Program(kernel_source() if source is None else source, "c++", options).compile("cubin")
    except Exception as error:  # what is missing, or refused, has no common base
        raise BackendUnavailable(
            f"NVRTC does not compile the kernels for {architecture} ({first_line(error)}): "
            'run `python -m pip install --upgrade ".[cuda]"`.'
        ) from error


class _DeviceMemory(Memory):
    def __init__(self, buffer: Any, size: int) -> None:
        self.buffer, self.size = buffer, size
        self.address = int(buffer.handle)


class _PinnedMemory(Pinned):
    def __init__(self, buffer: Any, size: int) -> None:
        self.buffer = buffer
        block: Any = (ctypes.c_uint8 * size).from_address(int(buffer.handle))
        block.owner = buffer  # every view of the array keeps the memory
        self.array = np.frombuffer(block, np.uint8)
        self.array[...] = 0


class _Captured:
    """A captured graph: launched by a call, and its copies to the host by where they come from."""

    def __init__(self, graph: Any, definition: Any) -> None:
        self._graph, self._definition = graph, definition
        self._copies: dict[int, Any] | None = None

    def __call__(self, stream: Any) -> None:
        self._graph.launch(stream)

    def aim(self, source: int, target: int, size: int) -> None:
        if self._copies is None:
            from cuda.core.graph import MemcpyNode

            copies = [node for node in self._definition.nodes() if isinstance(node, MemcpyNode)]
            self._copies = {int(node.src): self._graph[node] for node in copies}
        self._copies[source].update(dst=target, src=source, size=size)


class CudaDevice(Device):
    """The first GPU of this machine.

    Raises
    ------
    BackendUnavailable
        If the driver refuses to open it.
    """

    def __init__(self, index: int = 0) -> None:
        from cuda.core import Device as CoreDevice
        from cuda.core import LegacyPinnedMemoryResource

        self._entered = threading.local()
        try:
            self._core = CoreDevice(index)
            self.enter()
            self.name = str(self._core.name)
            major, minor = self._core.compute_capability
            self.capability = int(major), int(minor)
        except Exception as error:
            raise _refused(error) from error
        self._page_locked = LegacyPinnedMemoryResource()
        self._second: tuple[Any, Any, Any] | None = None
        self._closed = False

    def enter(self) -> None:
        # A CUDA context belongs to the process, but each thread must say that it uses it.
        if not getattr(self._entered, "done", False):
            self._core.set_current()
            self._entered.done = True

    def stream(self) -> Any:
        from cuda.core import StreamOptions

        return self._core.create_stream(options=StreamOptions(nonblocking=True))

    def handle(self, stream: Any) -> int:
        return int(stream.handle)

    def event(self) -> Any:
        from cuda.core import EventOptions

        # The host spins for the fraction of a millisecond that a frame takes: a sleep would take longer.
        return self._core.create_event(EventOptions(timing_enabled=False, blocking_sync=False))

    def record(self, event: Any, stream: Any) -> None:
        stream.record(event)

    def wait(self, stream: Any, event: Any) -> None:
        stream.wait(event)

    def synchronise(self, event: Any) -> None:
        event.sync()

    def allocate(self, size: int, stream: Any) -> Memory:
        try:
            buffer = self._core.allocate(size, stream=stream)
            buffer.fill(0, stream=stream)
            stream.sync()
        except Exception as error:
            explained = explain(error, self.name)
            if explained is error:
                raise
            # Nothing is under way yet, so that another backend may still be chosen.
            asked = f"{size / 2**20:.1f} MiB were asked for"
            raise BackendUnavailable(f"{str(explained).rstrip('.')} ({asked}).") from error
        return _DeviceMemory(buffer, size)

    def pinned(self, size: int) -> Pinned:
        try:
            return _PinnedMemory(self._page_locked.allocate(size), size)
        except Exception as error:
            raise BackendUnavailable(
                f"{size / 2**20:.1f} MiB of page-locked memory cannot be had ({first_line(error)}): "
                "close other programs, or choose a smaller region of interest."
            ) from error

    def copy_in(self, target: Memory, source: Pinned, stream: Any) -> None:
        assert isinstance(target, _DeviceMemory)
        assert isinstance(source, _PinnedMemory)
        target.buffer.copy_from(source.buffer, stream=stream)

    def copy_out(self, source: Memory, target: Pinned, stream: Any) -> None:
        assert isinstance(source, _DeviceMemory)
        assert isinstance(target, _PinnedMemory)
        source.buffer.copy_to(target.buffer, stream=stream)

    def clear(self, target: Memory, stream: Any) -> None:
        assert isinstance(target, _DeviceMemory)
        target.buffer.fill(0, stream=stream)

    def launch(self, kernel: str, count: int, arguments: Sequence[Memory], stream: Any) -> None:
        from cuda.core import LaunchConfig, launch

        config = LaunchConfig(grid=min(-(-count // _BLOCK), _MOST_BLOCKS), block=_BLOCK)
        pointers = [np.uint64(memory.address) for memory in arguments]
        launch(stream, config, self._kernels.get_kernel(kernel), *pointers, np.uint64(count))

    def compile(self, source: str) -> Any:
        major, minor = self.capability
        return compile_kernels(f"sm_{major}{minor}", source, exact=False)

    def start(
        self,
        kernels: Any,
        name: str,
        grid: tuple[int, int, int],
        block: int,
        addresses: Sequence[int],
        numbers: Sequence[int],
        stream: Any,
    ) -> None:
        from cuda.core import LaunchConfig, launch

        arguments = [np.uint64(address) for address in addresses] + [np.int32(n) for n in numbers]
        launch(stream, LaunchConfig(grid=grid, block=block), kernels.get_kernel(name), *arguments)

    def capture(self, stream: Any, work: Work) -> Work:
        builder = stream.create_graph_builder()
        # Relaxed, because libraries set the device or load a kernel meanwhile, which the stricter modes prohibit.
        builder.begin_building("relaxed")
        try:
            work(stream)
        except BaseException:
            # The stream must leave the capture before anything else can be put onto it.
            with contextlib.suppress(Exception):
                builder.end_building()
            raise
        graph = builder.end_building().complete()
        graph.upload(stream)
        return _Captured(graph, builder.graph_definition)

    def aim(self, captured: Work, source: Memory, target: Pinned) -> None:
        assert isinstance(captured, _Captured)
        assert isinstance(target, _PinnedMemory)
        captured.aim(source.address, int(target.buffer.handle), source.size)

    def beside(self, stream: Any, work: Work, copies: Work) -> None:
        # In a capture, events make the second stream a branch of the graph.
        if self._second is None:
            self._second = self.stream(), self.event(), self.event()
        second, begun, ended = self._second
        stream.record(begun)
        second.wait(begun)
        copies(second)
        second.record(ended)
        work(stream)
        stream.wait(ended)

    def explain(self, error: Exception) -> Exception:
        return explain(error, self.name)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.enter()
            self._core.sync()

    @cached_property
    def _kernels(self) -> Any:
        major, minor = self.capability
        return compile_kernels(f"sm_{major}{minor}")


def _refused(error: Exception) -> Exception:
    explained = explain(error, "The GPU")
    if explained is not error:
        return explained
    return BackendUnavailable(
        f"The NVIDIA driver does not open the GPU ({first_line(error)}): run nvidia-smi, and reinstall "
        "the driver if that fails too."
    )
