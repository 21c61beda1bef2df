"""TensorRT on NVIDIA GPUs, from engines that `denoscope build` has made: one adapter for both distributions.

Nothing is built here. An engine is loaded only from the private cache, with its SHA-256 checked, for exactly this
graph, this GPU and this version of the library.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from denoscope.runtime.engines import EngineCache, EngineManifest, error_log, local_gpu
from denoscope.runtime.errors import BackendUnavailable, DeviceFailed, InvalidInput
from denoscope.runtime.words import first_line

from .base import Graph
from .device.convert_raw import ConvertedGraph
from .device.device import Device, DeviceBackend, DeviceBuffer, DeviceGraph, Memory, Work, missing_cuda

if TYPE_CHECKING:
    from denoscope.runtime.bundle.bundle import Bundle

__all__ = ["Engine", "EngineTarget", "TensorRt", "TensorRtRtx", "engines_for"]

_NUMPY = {"FLOAT": "float32", "HALF": "float16"}
_KEPT = "runtime"  # folder, inside that of the engines, of what TensorRT for RTX compiles when it loads one


class Engine(ABC):
    """A loaded engine.

    Attributes
    ----------
    capturable
        False where its runs cannot be part of a CUDA graph; known once one is prepared.
    """

    capturable: bool = True

    @abstractmethod
    def prepare(
        self, inputs: Mapping[str, DeviceBuffer], outputs: Mapping[str, DeviceBuffer], owner: TensorRt
    ) -> Work:
        """Return what puts one run on these buffers onto a stream."""

    @abstractmethod
    def close(self) -> None:
        """Let the engine go. Safe to call twice."""


class TensorRt(DeviceBackend):
    """TensorRT 10 and 11, with engines that were built on this very GPU.

    Parameters
    ----------
    threads, device
        See `DeviceBackend`.
    cache
        Where engines lie; None for the user's own.
    """

    name: ClassVar[str] = "tensorrt"
    raw_dtypes = frozenset({"uint8", "uint16", "int16"})  # by a kernel beside the engine
    as_exported = True
    flavour: ClassVar[str] = "tensorrt"
    install: ClassVar[str] = 'python -m pip install ".[tensorrt]"'
    capabilities: ClassVar[frozenset[tuple[int, int]] | None] = None  # None: as the library says itself

    def __init__(
        self, *, threads: int | None = None, device: Device | None = None, cache: EngineCache | None = None
    ) -> None:
        super().__init__(threads=threads, device=device)
        self.cache = cache or EngineCache()
        self.version = self.installed_version()
        self._scratch: Memory | None = None

    @classmethod
    def unavailable(cls) -> str | None:
        if missing := missing_cuda():
            return missing
        gpu = local_gpu()
        assert not isinstance(gpu, str)
        if cls.capabilities is not None and gpu.capability not in cls.capabilities:
            major, minor = gpu.capability
            return f"{cls.flavour} does not run on {gpu.name}, of compute capability {major}.{minor}: use tensorrt"
        if find_spec(cls.flavour) is None:
            return f"{cls.flavour} is not installed: run `{cls.install}`"
        try:
            cls.installed_version()
        except BackendUnavailable as error:
            return str(error).rstrip(".")
        return None

    @classmethod
    def installed_version(cls) -> str:
        """Return the full version of the library, which is loaded for it: there must be a driver."""
        return str(cls._load().__version__)

    @classmethod
    def _load(cls) -> Any:
        try:
            return import_module(cls.flavour)
        except Exception as error:  # a missing library is an OSError, a wrong Python an ImportError, …
            raise BackendUnavailable(
                f"{cls.flavour} is installed but does not load ({first_line(error)}): run `{cls.install}`."
            ) from error

    @classmethod
    def obstacle(cls, bundle: Bundle) -> str | None:
        gpu = local_gpu()
        if isinstance(gpu, str):
            return gpu
        cache, place = (
            EngineCache(),
            EngineTarget(cls.flavour, cls.installed_version(), gpu.capability, gpu.name),
        )
        for graph in bundle.manifest.graphs:
            try:
                engines_for(bundle.graph_bytes(graph), cache, place)
            except BackendUnavailable as error:
                return str(error).rstrip(".").replace("BUNDLE", bundle.manifest.name)
        return None

    def inference_library(self) -> str:
        return f"{self.flavour} {self.version}"

    def compiles(self, onnx: bytes) -> bool:
        try:
            self._engines(onnx)
        except BackendUnavailable:
            # Built by an older version: what it computes is complete.
            self.note("deviation", "computed though nobody reads it: `denoscope build` makes a faster engine")
            return False
        return True

    def compile(self, onnx: bytes) -> Graph:
        return _Graph(self, self._engines(onnx))

    def _engines(self, onnx: bytes) -> list[EngineManifest]:
        place = EngineTarget(self.flavour, self.version, self.device.capability, self.device.name)
        return engines_for(onnx, self.cache, place, self.name)

    def compile_raw(self, onnx: bytes, graph: str, dtype: str) -> Graph:
        inner = self.compile(onnx)
        assert isinstance(inner, DeviceGraph)
        return ConvertedGraph(inner, graph, dtype)

    def load(self, data: bytes, key: str) -> Engine:
        """Load a checked engine onto the device."""
        return _LoadedEngine(self._load(), self, data, key)

    def scratch(self, size: int) -> Memory:
        """Return working memory for a context; all share it, since one runs after the other on `compute`, no other."""
        if self._scratch is None or self._scratch.size < size:
            self._scratch = self.device.allocate(max(size, 256), self.compute)
        return self._scratch


class TensorRtRtx(TensorRt):
    """TensorRT for RTX, with engines built ahead of time on any machine."""

    name: ClassVar[str] = "tensorrt-rtx"
    flavour: ClassVar[str] = "tensorrt_rtx"
    install: ClassVar[str] = 'python -m pip install ".[tensorrt-rtx]"'
    capabilities = frozenset({(7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1)})


class _Graph(DeviceGraph):
    """One graph of a bundle by its engines, of which the first that covers a frame size is loaded."""

    captures = True

    def __init__(self, owner: TensorRt, engines: Sequence[EngineManifest]) -> None:
        contents = engines[0].contents
        super().__init__(owner, [t.name for t in contents.inputs], [t.name for t in contents.outputs])
        self._backend, self._manifests = owner, engines
        self._dtypes = {t.name: t.dtype for t in (*contents.inputs, *contents.outputs)}
        self._loaded: dict[str, Engine] = {}

    def dtype_of(self, name: str) -> str:
        kind = self._dtypes[name]
        if kind not in _NUMPY:
            raise BackendUnavailable(
                f"The engine takes {name} as {kind}, which this version does not give: build the bundle again."
            )
        return _NUMPY[kind]

    def work(self, inputs: Mapping[str, DeviceBuffer], outputs: Mapping[str, DeviceBuffer]) -> Work:
        engine = self._engine(inputs)
        prepared = engine.prepare(inputs, outputs, self._backend)
        self.captures = engine.capturable  # as it is for these buffers
        return prepared

    def close(self) -> None:
        super().close()
        for engine in self._loaded.values():
            engine.close()
        self._loaded.clear()

    def _engine(self, inputs: Mapping[str, DeviceBuffer]) -> Engine:
        backend, first = self._backend, self._manifests[0].spec
        height, width = _frame_size({n: b.shape for n, b in inputs.items()}, first.options)
        chosen = next(
            (m for m in self._manifests if any(p.covers(height, width) for p in m.spec.profiles)), None
        )
        major, minor = backend.device.capability
        again = f"run `denoscope build BUNDLE --for sm{major}{minor} --size {height}x{width}`"
        if chosen is None:
            covered = ", ".join(str(p) for m in self._manifests for p in m.spec.profiles)
            raise BackendUnavailable(
                f"The engines of {first.graph} are for frames of {covered} and these are {height}x{width}: {again}."
            )
        key = chosen.spec.key
        if key not in self._loaded:
            found = backend.cache.find(chosen.spec)
            if isinstance(found, str):
                raise BackendUnavailable(f"The engine of {first.graph} is not used, since {found}: {again}.")
            self._loaded[key] = backend.load(found.data, key)
            if said := _precision(chosen.spec.options):
                backend.note("precision", said)
        return self._loaded[key]


class _LoadedEngine(Engine):
    """An engine in TensorRT's own runtime."""

    def __init__(self, trt: Any, owner: TensorRt, data: bytes, key: str) -> None:
        self._trt, self._owner, self._key = trt, owner, key
        self._log = error_log(trt)
        self._runtime = trt.Runtime(self._log)
        engine = self._runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise BackendUnavailable(
                f"{owner.inference_library()} does not load the engine ({_last(self._log.errors)}): build the "
                "bundle again."
            )
        self._engine: Any = engine
        self._config, self._compiled = self._runtime_config()
        self._contexts: dict[tuple[tuple[str, tuple[int, ...]], ...], tuple[Any, Memory]] = {}
        self._saved = self._compiled is None

    def prepare(
        self, inputs: Mapping[str, DeviceBuffer], outputs: Mapping[str, DeviceBuffer], owner: TensorRt
    ) -> Work:
        device, log, library = owner.device, self._log, owner.inference_library()
        log.errors = []
        context, memory = self._context(inputs, owner)
        addresses = {name: buffer.memory.address for name, buffer in {**inputs, **outputs}.items()}
        self._address(context, addresses)
        for name, buffer in outputs.items():
            shape = tuple(context.get_tensor_shape(name))
            self._must(shape == buffer.shape, f"a buffer of {buffer.shape} for {name}, which is {shape}")
        keep = (memory, dict(inputs), dict(outputs))

        def run(stream: Any, _keep: object = keep) -> None:
            # A captured run keeps the addresses that the context, which bindings share, has at that time.
            log.errors = []
            if not all(context.set_tensor_address(n, a) for n, a in addresses.items()):
                raise _failure(device, library, log.errors)
            if not context.execute_async_v3(device.handle(stream)):
                raise _failure(device, library, log.errors)
            self._save()

        return run

    def close(self) -> None:
        if self._engine is not None:
            self._saved = self._compiled is None
            self._save()
        self._contexts.clear()
        self._engine = self._config = self._compiled = None

    def _save(self) -> None:
        """Keep what was compiled for this GPU: after the first run, and again at the end."""
        if not self._saved:
            self._saved = True
            if (data := self._compiled.serialize()) is None:
                return
            try:
                self._owner.cache.keep(_KEPT, self._key, bytes(data))
            except (OSError, InvalidInput) as error:  # a full disk costs the next start time, and no frame
                reason = first_line(error).rstrip(".")
                self._owner.note("kernels", f"compiled anew at the next start, too: {reason}")

    def _runtime_config(self) -> tuple[Any, Any]:
        """Return what TensorRT for RTX compiles kernels by; plain TensorRT has compiled them already."""
        trt = self._trt
        if not hasattr(trt, "CudaGraphStrategy"):
            return None, None
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        # Runs are captured together with denoscope's kernels, see `_Run`.
        config.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED
        # Now rather than at a frame of the movie.
        config.dynamic_shapes_kernel_specialization_strategy = (
            trt.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        compiled = config.create_runtime_cache()
        kept = self._owner.cache.kept(_KEPT, self._key)
        if kept is not None and not compiled.deserialize(kept):
            self._owner.note(
                "kernels", "compiled anew: those kept from before are of another GPU, driver or version"
            )
            compiled = config.create_runtime_cache()
        config.set_runtime_cache(compiled)
        return config, compiled

    def _context(self, inputs: Mapping[str, DeviceBuffer], owner: TensorRt) -> tuple[Any, Memory]:
        """Return the context for inputs of these shapes and its memory; runs follow each other on one stream."""
        key = tuple((name, buffer.shape) for name, buffer in inputs.items())
        if key in self._contexts:
            return self._contexts[key]
        if self._config is not None:
            context = self._engine.create_execution_context(self._config)
        else:
            strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
            context = self._engine.create_execution_context(strategy)
        self._must(context is not None, "a context")
        profile = self._profile(inputs)
        stream = owner.device.handle(owner.compute)
        self._must(context.set_optimization_profile_async(profile, stream), "its profile")
        for name, buffer in inputs.items():
            self._must(context.set_input_shape(name, buffer.shape), f"the shape {buffer.shape} of {name}")
        # What these shapes need, or else what any shape of the profile does.
        size = int(context.update_device_memory_size_for_shapes())
        if size <= 0:
            size = int(self._engine.get_device_memory_size_for_profile_v2(profile))
        memory = owner.scratch(size)
        self._log.errors = []
        context.set_device_memory(memory.address, memory.size)  # returns nothing, but says what is wrong
        self._must(not self._log.errors, f"{memory.size} bytes of working memory")
        if hasattr(context, "is_stream_capturable") and not context.is_stream_capturable(stream):
            self.capturable = False
            self._owner.note(
                "CUDA graphs", "not captured: the engine needs the host in between; build the bundle again"
            )
        self._contexts[key] = context, memory
        return context, memory

    def _address(self, context: Any, addresses: Mapping[str, int]) -> None:
        for name, address in addresses.items():
            self._must(context.set_tensor_address(name, address), f"the memory of {name}")

    def _profile(self, inputs: Mapping[str, DeviceBuffer]) -> int:
        """Return the first profile whose ranges hold every input's shape."""
        for index in range(self._engine.num_optimization_profiles):
            ranges = {name: self._engine.get_tensor_profile_shape(name, index) for name in inputs}
            if all(
                all(low <= n <= high for low, n, high in zip(r[0], inputs[name].shape, r[2], strict=True))
                for name, r in ranges.items()
            ):
                return index
        shapes = ", ".join(f"{name} {buffer.shape}" for name, buffer in inputs.items())
        raise BackendUnavailable(
            f"No profile of the engine covers {shapes}: build the bundle for this frame size."
        )

    def _must(self, done: bool, what: str) -> None:
        if not done:
            raise BackendUnavailable(
                f"{self._owner.inference_library()} does not take {what} ({_last(self._log.errors)}): build the "
                "bundle again, or choose another backend."
            )


@dataclass(frozen=True)
class EngineTarget:
    """GPU and library that an engine would run on.

    Attributes
    ----------
    flavour, version
        Kind of TensorRT, and its version.
    capability, gpu
        The GPU's compute capability and name.
    """

    flavour: str
    version: str
    capability: tuple[int, int]
    gpu: str


def engines_for(
    onnx: bytes, cache: EngineCache, place: EngineTarget, backend: str = ""
) -> list[EngineManifest]:
    """Return the engines of a graph that can run at a place, best first.

    Raises
    ------
    BackendUnavailable
        With the reason why none can; it begins with the backend's name if one is given.
    """
    (major, minor), gpu, version = place.capability, place.gpu, place.version
    target = f"sm{major}{minor}"
    again = f"run `denoscope build BUNDLE --for {target} --flavour {place.flavour} --size HEIGHTxWIDTH`"
    try:
        found = cache.search(hashlib.sha256(onnx).hexdigest())
    except InvalidInput as error:  # others can write to the folder: `auto` goes on to another backend
        raise BackendUnavailable(str(error)) from error
    except OSError as error:
        raise BackendUnavailable(
            f"the folder of engines {cache.folder} cannot be read ({first_line(error)}): set "
            "DENOSCOPE_ENGINES to another folder"
        ) from error
    known = [m for m in found if m.spec.flavour == place.flavour]
    if backend:
        backend = f"{backend}: "
    if not known:
        raise BackendUnavailable(f"{backend}no engine has been built for the graph: {again}.")
    here = [m for m in known if m.spec.target in (target, f"{target} {gpu}")]
    if not here:
        others = ", ".join(sorted({m.spec.target for m in known}))
        raise BackendUnavailable(
            f"{backend}engines have been built for {others}, and this is {target} {gpu}: {again}."
        )
    current = [m for m in here if m.spec.flavour_version == version]
    if not current:
        others = ", ".join(sorted({m.spec.flavour_version for m in here}))
        raise BackendUnavailable(
            f"{backend}engines are of {place.flavour} {others}, and {version} is installed: {again}."
        )

    def order(manifest: EngineManifest) -> tuple[bool, bool, bool]:
        fixed = all(p.minimum == p.maximum for p in manifest.spec.profiles)
        options = manifest.spec.options
        return options.get("precision") != "fp16", options.get("tf32") == "True", not fixed

    return sorted(current, key=order)


def _precision(options: Mapping[str, str]) -> str:
    """Return what a report says of an engine's precision; nothing where it is as in the graphs."""
    half, tf32 = options.get("precision") == "fp16", options.get("tf32") == "True"
    if half:
        return "convolutions in float16, the rest in float32" + (" with TF32" if tf32 else "")
    return "as in the bundle's graphs, float32 convolutions with TF32" if tf32 else ""


def _failure(device: Device, library: str, errors: Sequence[str]) -> Exception:
    """Return what to raise when a graph did not run: what CUDA says of it, or else what TensorRT says."""
    words = RuntimeError(_last(errors))
    explained = device.explain(words)
    if explained is not words:
        return explained
    return DeviceFailed(
        f"{library} did not run a graph ({words}): restart the program, and the computer if it happens again."
    )


def _frame_size(shapes: Mapping[str, Sequence[int]], options: Mapping[str, str]) -> tuple[int, int]:
    """Return the (padded) size of the frames that inputs of these shapes belong to."""
    for name, shape in shapes.items():
        if len(shape) == 4:
            factor = int(options.get("scale", "1"))
            if name == "frame":
                factor = 1
            elif name.startswith("flow_"):
                factor = int(options["flow_scale"])
            return shape[2] * factor, shape[3] * factor
    raise BackendUnavailable("The engine has no input of a frame's shape: build the bundle again.")


def _last(messages: Sequence[str]) -> str:
    return " ".join(messages[-1].split())[:300].rstrip(".") if messages else "it does not say why"
