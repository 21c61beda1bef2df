"""The GPU backends' own classes on the lazy device, so that their code runs where there is no GPU."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import onnx
import onnxruntime

from denoscope.runtime import Bundle
from denoscope.runtime.backends import Graph
from denoscope.runtime.backends.device.device import DeviceBuffer, Work
from denoscope.runtime.backends.onnxruntime_gpu import OnnxRuntimeCuda, OnnxRuntimeTensorRt
from denoscope.runtime.backends.own_kernels import OwnKernels
from denoscope.runtime.backends.tensorrt import Engine, TensorRt, TensorRtRtx
from denoscope.runtime.engines import (
    BuiltEngine,
    CachedEngine,
    EngineCache,
    EngineContents,
    EngineSpec,
    SizeRange,
    TensorRecord,
)

from .lazy_device import LazyDevice

__all__ = [
    "VERSION",
    "CudaOnHost",
    "KernelsOnHost",
    "SelfBuildingOnHost",
    "TensorRtOnHost",
    "TensorRtProviderOnHost",
    "put_engine",
]

VERSION = "1.7.1"
ANY_SIZE = SizeRange(minimum=(8, 8), typical=(64, 64), maximum=(4096, 4096))


class _OnHost:
    """ONNX Runtime's CPU provider in the place of a GPU's; everything else is the product's."""

    provider: ClassVar[str] = "CPUExecutionProvider"
    device: LazyDevice

    def __init__(self, *, threads: int | None = None, seed: int = 0) -> None:
        arguments: dict[str, Any] = {"threads": threads, "device": LazyDevice(seed)}
        super().__init__(**arguments)

    @classmethod
    def unavailable(cls) -> str | None:
        return None

    def options(self) -> dict[str, str]:
        return {}


class CudaOnHost(_OnHost, OnnxRuntimeCuda):
    """Counts are converted inside the graphs."""


class KernelsOnHost(OwnKernels):
    """The backend of our own kernels, compiled as C; everything else is the product's."""

    device: LazyDevice

    def __init__(self, *, threads: int | None = None, seed: int = 0) -> None:
        super().__init__(threads=threads, device=LazyDevice(seed))

    @classmethod
    def unavailable(cls) -> str | None:
        return None


class TensorRtProviderOnHost(_OnHost, OnnxRuntimeTensorRt):
    """Counts are converted by kernels beside the graphs."""


class TensorRtOnHost(TensorRtRtx):
    """TensorRT's backend with engines that are ONNX files, run on the processor: the rest is the product's."""

    device: LazyDevice

    def __init__(
        self,
        cache: EngineCache,
        *,
        threads: int | None = None,
        seed: int = 0,
        capability: tuple[int, int] = (8, 6),
    ) -> None:
        self.loads = 0
        super().__init__(threads=threads, device=LazyDevice(seed, capability), cache=cache)

    @classmethod
    def unavailable(cls) -> str | None:
        return None

    @classmethod
    def installed_version(cls) -> str:
        return VERSION

    def load(self, data: bytes, key: str) -> Engine:
        self.loads += 1
        return _OnnxEngine(data)


class SelfBuildingOnHost(TensorRtOnHost):
    """Puts an engine of each graph into a separate cache before it asks for it there."""

    folder: ClassVar[Path]

    def __init__(self, *, threads: int | None = None, seed: int = 0) -> None:
        super().__init__(EngineCache(self.folder), threads=threads, seed=seed)

    def compile(self, onnx: bytes) -> Graph:
        put_engine(self.cache, onnx)
        return super().compile(onnx)


class _OnnxEngine(Engine):
    def __init__(self, data: bytes) -> None:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(data, settings, providers=["CPUExecutionProvider"])

    def prepare(
        self, inputs: Mapping[str, DeviceBuffer], outputs: Mapping[str, DeviceBuffer], owner: TensorRt
    ) -> Work:
        binding = self._session.io_binding()
        for bind, buffers in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
            for name, buffer in buffers.items():
                bind(name, "cpu", 0, buffer.dtype.type, list(buffer.shape), buffer.memory.address)
        keep = (dict(inputs), dict(outputs))

        def run(_stream: object, _keep: object = keep) -> None:
            self._session.run_with_iobinding(binding)

        return run

    def close(self) -> None:
        self._session = None


def put_engine(
    cache: EngineCache,
    data: bytes,
    *,
    profiles: tuple[SizeRange, ...] = (ANY_SIZE,),
    manifest: Any = None,
    **changes: Any,
) -> CachedEngine:
    """Put an "engine", the ONNX graph itself, into a cache as `denoscope build` would."""
    options = {"recipe": "1", "scale": str(manifest.scale if manifest else 1), "tf32": "False"}
    if manifest is not None and manifest.flow_scale:
        options["flow_scale"] = str(manifest.flow_scale)
    settings: dict[str, Any] = {
        "graph": "graph",
        "onnx_sha256": hashlib.sha256(data).hexdigest(),
        "flavour": "tensorrt_rtx",
        "flavour_version": VERSION,
        "target": "sm86",
        "profiles": profiles,
        "options": options,
    }
    spec = EngineSpec(**{**settings, **changes})
    try:
        graph = onnx.load_model_from_string(data).graph
        constants = {t.name for t in graph.initializer}
    except Exception:  # noqa: BLE001  what is no graph becomes no engine either
        raise_not_a_graph()
    contents = EngineContents(
        inputs=tuple(_record(v) for v in graph.input if v.name not in constants),
        outputs=tuple(_record(v) for v in graph.output),
    )
    return cache.get_or_build(spec, lambda: BuiltEngine(data, contents))


def raise_not_a_graph() -> None:
    from denoscope.runtime import BackendUnavailable

    raise BackendUnavailable("tensorrt-rtx: no engine can be built of what is no graph.")


def put_bundle(cache: EngineCache, bundle: Bundle, **settings: Any) -> list[CachedEngine]:
    """Put an engine of each graph of a bundle into a cache."""
    m = bundle.manifest
    return [put_engine(cache, bundle.graph_bytes(g), manifest=m, graph=g, **settings) for g in m.graphs]


def _record(value: onnx.ValueInfoProto) -> TensorRecord:
    dims = value.type.tensor_type.shape.dim
    shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims)
    return TensorRecord(name=value.name, dtype="FLOAT", shape=shape)
