"""Backend `cuda`: denoscope's kernels for NVIDIA GPUs since 2020; needs only the driver and NVRTC."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, ClassVar

from .base import Graph
from .device.device import Device, DeviceBackend, DeviceBuffer, DeviceGraph, Memory, Work, missing_cuda
from .device.kernels.plan import Kernel, Plan, argument_name, plan_kernels
from .device.kernels.read import missing_kernels, read_program
from .onnxruntime_gpu import graph_names, with_shapes

if TYPE_CHECKING:
    from denoscope.runtime.bundle.bundle import Bundle

__all__ = ["OwnKernels", "kernel_prelude"]

_OLDEST = (8, 0)  # the first whose tensor cores take mma.m16n8k16
_THREADS = 128
_ALIGNMENT = 256


class OwnKernels(DeviceBackend):
    """Convolutions in half precision on tensor cores, everything else in float32, fused."""

    name: ClassVar[str] = "cuda"
    raw_dtypes = frozenset({"uint8", "uint16", "int16"})

    @classmethod
    def unavailable(cls) -> str | None:
        from denoscope.runtime.engines import local_gpu

        if missing := missing_cuda():
            return missing
        gpu = local_gpu()
        assert not isinstance(gpu, str)
        if gpu.capability < _OLDEST:
            major, minor = gpu.capability
            return (
                f"it needs compute capability 8.0 or more (GeForce RTX 30 and newer), and {gpu.name} has "
                f"{major}.{minor}: use onnxruntime-cuda"
            )
        return None

    @classmethod
    def obstacle(cls, bundle: Bundle) -> str | None:
        present = [name for name in _STILL if name in bundle.manifest.graphs]
        missing = sorted({op for name in present for op in missing_kernels(bundle.graph_bytes(name))})
        if missing:
            return f"it has no kernel yet for {', '.join(missing)}, which {bundle.manifest.name} uses"
        return None

    def inference_library(self) -> str:
        return "denoscope's kernels, compiled by NVRTC for this GPU"

    def describe(self) -> dict[str, str]:
        return {
            **super().describe(),
            "precision": "convolutions in float16 with float32 sums, the rest in float32",
        }

    def compile(self, onnx: bytes) -> Graph:
        inputs, outputs = graph_names(self.name, onnx)
        return _Graph(self, onnx, inputs, outputs)


_STILL = ("encode", "motion", "fuse", "remember")  # of a scene that is not followed


def kernel_prelude() -> str:
    """Return what every source begins with: conversions, and the convolution."""
    return (
        files(__package__)
        .joinpath("device")
        .joinpath("kernels")
        .joinpath("kernels.cu")
        .read_text(encoding="utf-8")
    )


@dataclass(frozen=True)
class _Compiled:
    """A graph of fixed shapes, ready to be launched.

    Attributes
    ----------
    plan
        What it does.
    kernels
        As the device compiled them.
    memory
        Holds every intermediate buffer and all weights; shared by all runs, which follow each other on one stream.
    addresses
        Where each of these buffers begins.
    """

    plan: Plan
    kernels: Any
    memory: tuple[Memory, ...]
    addresses: Mapping[str, int]


class _Graph(DeviceGraph):
    captures = True

    def __init__(self, owner: OwnKernels, onnx: bytes, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__(owner, inputs, outputs)
        self._onnx = onnx
        self._compiled: dict[tuple[tuple[str, tuple[int, ...]], ...], _Compiled] = {}

    def work(self, inputs: Mapping[str, DeviceBuffer], outputs: Mapping[str, DeviceBuffer]) -> Work:
        buffers = {**inputs, **outputs}
        key = tuple((name, buffer.shape) for name, buffer in buffers.items())
        if key not in self._compiled:
            self._compiled[key] = self._compile(dict(key))
        return _Launches(self.owner.device, self._compiled[key], buffers)

    def close(self) -> None:
        super().close()
        self._compiled.clear()

    def _compile(self, shapes: Mapping[str, tuple[int, ...]]) -> _Compiled:
        device, stream = self.owner.device, self.owner.compute
        plan = plan_kernels(read_program(with_shapes(self._onnx, shapes)))
        kernels = device.compile(f"{kernel_prelude()}\n{plan.source}")
        offsets, size = _places(plan)
        memory = device.allocate(max(size, _ALIGNMENT), stream)
        addresses = {name: memory.address + offset for name, offset in offsets.items()}
        kept = [memory]
        for name, array in plan.weights.items():
            held = device.allocate(array.nbytes, stream)
            staging = device.pinned(array.nbytes)
            staging.array[:] = array.reshape(-1).view("uint8")
            device.copy_in(held, staging, stream)
            done = device.event()
            device.record(done, stream)
            device.synchronise(done)
            addresses[name] = held.address
            kept.append(held)
        return _Compiled(plan, kernels, tuple(kept), addresses)


class _Launches:
    """Puts the kernels of one bound graph onto a stream, and keeps alive what they point to."""

    def __init__(self, device: Device, compiled: _Compiled, buffers: Mapping[str, DeviceBuffer]) -> None:
        self._kept = compiled, dict(buffers)
        bound = {argument_name(name): buffer.memory.address for name, buffer in buffers.items()}
        addresses = {**compiled.addresses, **bound}
        self._calls = [
            _launch(device, compiled.kernels, kernel, addresses) for kernel in compiled.plan.kernels
        ]

    def __call__(self, stream: Any) -> None:
        for call in self._calls:
            call(stream)


def _launch(
    device: Device, kernels: Any, kernel: Kernel, addresses: Mapping[str, int]
) -> Callable[[Any], None]:
    height, width = kernel.places
    if kernel.convolution is not None:
        rows, split, _ = kernel.convolution.layout
        grid, block = (-(-width // 16), -(-height // rows), split), rows // 2 * 32
    elif kernel.places == (1, 1):
        grid, block = (1, 1, 1), 32
    else:
        grid, block = (-(-height * width // _THREADS), 1, 1), _THREADS
    pointers = []
    for argument in kernel.arguments:
        name, _, offset = argument.partition("+")
        pointers.append(addresses[name] + 4 * int(offset or 0))
    numbers = kernel.numbers

    def call(stream: Any) -> None:
        device.start(kernels, kernel.name, grid, block, pointers, numbers, stream)

    return call


def _places(plan: Plan) -> tuple[dict[str, int], int]:
    """Return where each intermediate buffer lies: those that are never needed at once share their place."""
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first and last use
    offsets: dict[str, int] = {}
    for name in sorted(plan.buffers, key=lambda n: -plan.buffers[n]):
        length = -(-plan.buffers[name] // _ALIGNMENT) * _ALIGNMENT
        begin, end = plan.use[name]
        offset = 0
        for low, high, a, b in sorted(placed):
            if a <= end and begin <= b and offset < high and low < offset + length:
                offset = high
        placed.append((offset, offset + length, begin, end))
        offsets[name] = offset
    return offsets, max((end for _, end, _, _ in placed), default=0)
