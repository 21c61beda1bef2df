"""OpenVINO on the processor: the fast CPU path."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import BackendUnavailable, InvalidInput

from .base import Backend, Buffer, Graph, HostBuffer, check_dtype, check_names
from .bfloat16 import why_not
from .feature_layout import PIXELS, PLANES, lay_out
from .processor_graphs import for_processors

if TYPE_CHECKING:
    from denoscope.runtime.bundle.bundle import Bundle

__all__ = ["OpenVino", "OpenVinoBf16", "openvino_library"]

Array = npt.NDArray[Any]

_FILLS = 8  # channels that fill half a vector register


def openvino_library() -> Any:
    """Import OpenVINO without its telemetry, which writes an identity into the home folder and may report its use.

    OpenVINO then takes the stub that it has for computers without that package.
    """
    telemetry = "openvino_telemetry"
    kept_out = "openvino" not in sys.modules and telemetry not in sys.modules
    if kept_out:
        sys.modules[telemetry] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if kept_out:
            sys.modules.pop(telemetry, None)
    return openvino


@cache
def _has_processor() -> bool:
    """Say whether OpenVINO has its plugin for processors; the answer is kept, since asking takes 5 ms."""
    return "CPU" in openvino_library().Core().available_devices


class OpenVino(Backend):
    """OpenVINO's CPU plugin in float32, graphs compiled for the bound frame size."""

    name: ClassVar[str] = "openvino"
    raw_dtypes = frozenset({"uint8", "uint16", "int16"})
    redirects = True
    precision: ClassVar[str] = "f32"

    def __init__(self, *, threads: int | None = None) -> None:
        super().__init__(threads=threads)
        self._core = openvino_library().Core()

    @classmethod
    def unavailable(cls) -> str | None:
        try:
            openvino_library()  # its own libraries may not load
        except ImportError as error:
            return f'openvino cannot be imported ({error}): run `python -m pip install ".[cpu]"`'
        if not _has_processor():
            return "this build of openvino has no CPU plugin: run `pip install --force-reinstall openvino`"
        return None

    def describe(self) -> dict[str, str]:
        openvino = openvino_library()

        return {
            "library": f"openvino {openvino.__version__}",
            "device": str(self._core.get_property("CPU", "FULL_DEVICE_NAME")),
            "precision": {"f32": "float32", "bf16": "bfloat16"}[self.precision],
            "threads": str(self.threads),
        }

    def compile(self, onnx: bytes) -> Graph:
        try:
            model = self._core.read_model(model=onnx)
        except RuntimeError as error:
            raise BackendUnavailable(_refusal(self.name, error)) from error
        config = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(self.threads),
            # 8 bits would place pixels half a pixel off.
            "INFERENCE_PRECISION_HINT": "f32" if _places_pixels(model) else self.precision,
            # Pinned workers would share cores with the camera's thread instead of stepping aside.
            "ENABLE_CPU_PINNING": "NO",
        }
        return _Graph(self.name, self._core, onnx, model, config)

    def buffer(self, shape: Sequence[int], dtype: str = "float32") -> Buffer:
        check_dtype(self, dtype)
        return _OvBuffer(shape, dtype)

    def features(self, shape: Sequence[int], planes: int) -> Buffer:
        learned = shape[1] - planes
        if not planes or learned <= 0 or learned % _FILLS:  # of 12 channels it takes 3 % longer
            return self.buffer(shape)
        return _OvFeatures(shape, planes, bfloat16=self.precision == "bf16")

    def close(self) -> None:
        """Do nothing: compiled models belong to their graphs."""


class OpenVinoBf16(OpenVino):
    """OpenVINO in bfloat16, where the processor computes in it: 1.7 times as fast, at a small loss.

    `auto` picks it for bundles that lose little and gain enough, as was measured (`bfloat16`). Any other bundle uses it
    only where the backend is named.
    """

    name: ClassVar[str] = "openvino-bf16"
    precision: ClassVar[str] = "bf16"
    raw_dtypes = frozenset()  # raw counts need more than the 8 bits that the graphs compute with

    @classmethod
    def unavailable(cls) -> str | None:
        reason = super().unavailable()
        if reason is not None:
            return reason
        openvino = openvino_library()

        if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            return "this processor does not compute in bfloat16: use openvino"
        return None

    @classmethod
    def unsuited(cls, bundle: Bundle) -> str | None:
        return why_not(bundle)


class _OvBuffer(HostBuffer):
    def __init__(self, shape: Sequence[int], dtype: str) -> None:
        openvino = openvino_library()

        super().__init__(shape, dtype)
        self.tensor = openvino.Tensor(self.array, shared_memory=True)


class _OvFeatures(Buffer):
    """Features (1, C, h, w) in two parts, in the order of memory of convolutions; see `feature_layout`."""

    def __init__(self, shape: Sequence[int], planes: int, *, bfloat16: bool) -> None:
        openvino = openvino_library()

        self.shape = tuple(shape)
        batch, channels, *size = shape
        self.planes, self.bfloat16 = planes, bfloat16
        self._cells = HostBuffer((batch, planes, *size))
        self._learned = HostBuffer((batch, *size, channels - planes), "uint16" if bfloat16 else "float32")
        self.tensors = {PLANES: openvino.Tensor(self._cells.array, shared_memory=True)}
        learned = self._learned.array
        if bfloat16:
            kind = openvino.Type.bf16
            self.tensors[PIXELS] = openvino.Tensor(learned, openvino.Shape(list(learned.shape)), kind)
        else:
            self.tensors[PIXELS] = openvino.Tensor(learned, shared_memory=True)

    def upload(self, source: Array) -> None:
        learned = np.moveaxis(source[:, self.planes :], 1, -1)
        if self.bfloat16:
            bits = np.ascontiguousarray(learned).view(np.uint32)
            learned = (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype(np.uint16)  # round half to even
        self._cells.array[...] = source[:, : self.planes]
        self._learned.array[...] = learned

    def download(self, out: Array) -> None:
        learned = self._learned.array
        if self.bfloat16:
            learned = (learned.astype(np.uint32) << 16).view(np.float32)
        out[:, : self.planes] = self._cells.array
        out[:, self.planes :] = np.moveaxis(learned, -1, 1)

    def clear(self) -> None:
        self._cells.clear()
        self._learned.clear()


def _places_pixels(model: Any) -> bool:
    """Say whether a graph is `align` or `recall`."""
    return any(i.get_any_name() == "places" for i in model.inputs)


class _Graph(Graph):
    def __init__(self, backend: str, core: Any, onnx: bytes, model: Any, config: dict[str, str]) -> None:
        self._backend, self._core, self._onnx, self._config = backend, core, onnx, config
        self.inputs = tuple(i.get_any_name() for i in model.inputs)
        self.outputs = tuple(o.get_any_name() for o in model.outputs)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._planes: dict[str, int] = {}
        self._ports: set[str] = set()  # of what was compiled; parts of features that nothing reads are none
        self._compiled: Any = None

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Callable[..., None]:
        if not self._onnx:
            raise InvalidInput("The graph is closed: compile it again before binding.")
        check_names("inputs", self.inputs, inputs)
        check_names("outputs", self.outputs, outputs)
        both = {**inputs, **outputs}
        apart = {name: buffer for name, buffer in both.items() if isinstance(buffer, _OvFeatures)}
        self._compile_for({name: buffer.shape for name, buffer in inputs.items()}, apart)
        request = self._compiled.create_infer_request()
        try:
            for name, buffer in both.items():
                for part, tensor in _tensors(name, buffer).items():
                    if part in self._ports:
                        request.set_tensor(part, tensor)
        except RuntimeError as error:
            raise InvalidInput(
                f"A buffer does not fit the graph ({str(error).splitlines()[-1].strip()}): "
                "give buffers of the graph's shapes."
            ) from error
        keep = (dict(inputs), dict(outputs))  # the request does not own the buffers' memory

        def run(instead: Mapping[str, Buffer] | None = None, _keep: object = keep) -> None:
            if instead is None:
                request.infer(share_outputs=True)
                return
            for name, buffer in instead.items():
                request.set_tensor(name, _tensor(buffer))
            try:
                request.infer(share_outputs=True)
            finally:
                for name in instead:
                    request.set_tensor(name, _tensor(outputs[name]))

        return run

    def close(self) -> None:
        self._compiled, self._onnx = None, b""

    def _compile_for(self, shapes: dict[str, tuple[int, ...]], apart: dict[str, _OvFeatures]) -> None:
        """Compile once for each frame size: fixed shapes run faster and need no allocation."""
        planes = {name: features.planes for name, features in apart.items()}
        if self._compiled is not None and (shapes, planes) == (self._shapes, self._planes):
            return
        sizes: dict[str, tuple[int, ...]] = {}
        for name, shape in shapes.items():
            if (count := planes.get(name)) is None:
                sizes[name] = shape
            else:
                sizes[name + PLANES] = (shape[0], count, *shape[2:])
                sizes[name + PIXELS] = (shape[0], *shape[2:], shape[1] - count)
        try:
            onnx = self._onnx
            if planes:
                onnx = lay_out(onnx, planes, bfloat16=any(each.bfloat16 for each in apart.values()))
            model = self._core.read_model(model=for_processors(onnx, sizes))
            names = {each.get_any_name() for each in model.inputs}
            model.reshape({name: list(size) for name, size in sizes.items() if name in names})
            self._compiled = self._core.compile_model(model, "CPU", self._config)
        except RuntimeError as error:
            raise BackendUnavailable(_refusal(self._backend, error)) from error
        self._ports = names | {each.get_any_name() for each in model.outputs}
        self._shapes, self._planes = shapes, planes


def _refusal(backend: str, error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{backend} refuses the graph ({lines[-1]}): choose another backend or update openvino."


def _tensors(name: str, buffer: Buffer) -> dict[str, Any]:
    """Return tensors by the names that a compiled graph has for them."""
    if isinstance(buffer, _OvFeatures):
        return {name + part: tensor for part, tensor in buffer.tensors.items()}
    return {name: _tensor(buffer)}


def _tensor(buffer: Buffer) -> Any:
    if not isinstance(buffer, _OvBuffer):
        raise InvalidInput(
            f"A {type(buffer).__name__} was made by another backend: use this backend's own buffers."
        )
    return buffer.tensor
