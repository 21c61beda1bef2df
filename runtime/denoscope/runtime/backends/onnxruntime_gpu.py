"""ONNX Runtime on NVIDIA GPUs: its CUDA provider, and TensorRT through its two others.

The backend owns the memory, not the library: every buffer is bound once by its address, sessions run on the
backend's compute stream and return without waiting, so nothing is copied but a frame up and a mean down.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import re
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from denoscope.runtime.engines import EngineCache, local_gpu
from denoscope.runtime.errors import BackendUnavailable, DenoscopeError, InvalidInput
from denoscope.runtime.words import first_line

from .base import Graph
from .device.convert_raw import ConvertedGraph
from .device.device import DeviceBackend, DeviceBuffer, DeviceGraph, Work, missing_cuda
from .onnxruntime_library import onnxruntime_library

__all__ = ["OnnxRuntimeCuda", "OnnxRuntimeNvTensorRtRtx", "OnnxRuntimeTensorRt", "graph_names", "with_shapes"]

_LIBRARIES = '`python -m pip install ".[cuda]" "onnxruntime-gpu[cuda,cudnn]==1.31.*"`'
# The two builds share their import name, so that one must go before the other comes.
_SWAP = f"`pip uninstall -y onnxruntime` and then {_LIBRARIES}"
_NO_GRAPH = -1  # the library neither captures nor replays in such a run


class OnnxRuntimeGpu(DeviceBackend):
    """Shared base of the providers.

    Attributes
    ----------
    provider
        ONNX Runtime's name for it.
    """

    provider: ClassVar[str]
    # Whether runs are captured here. Graphs that the library captures belong to the thread that ran them:
    # whoever prepares in one thread and denoises in another would have each captured again on its first frame.
    captures: ClassVar[bool] = False

    @classmethod
    def unavailable(cls) -> str | None:
        return missing_cuda() or cls._missing_provider()

    @classmethod
    def _missing_provider(cls) -> str | None:
        onnxruntime = onnxruntime_library()

        if cls.provider not in onnxruntime.get_available_providers():
            return f"this build of onnxruntime has no {cls.provider}: run {_SWAP}"
        if missing := _missing_library():
            return f"{missing} cannot be loaded: run {_LIBRARIES}"
        return None

    def inference_library(self) -> str:
        onnxruntime = onnxruntime_library()

        return f"onnxruntime {onnxruntime.__version__}, {self.provider}"

    @abstractmethod
    def options(self) -> dict[str, str]:
        """Return the provider's options; every one but the stream is documented in docs/results/gpu.md."""

    def compile(self, onnx: bytes) -> Graph:
        inputs, outputs = graph_names(self.name, onnx)
        return _Graph(self, onnx, inputs, outputs)

    def session(self, onnx: bytes) -> tuple[Any, bool]:
        """Open a session for a graph of fixed shapes; without CUDA graphs where the provider refuses them.

        Returns
        -------
        session
            Of ONNX Runtime.
        bool
            Whether its runs may be captured.
        """
        onnxruntime = onnxruntime_library()

        refusal = ""
        for options in _with_and_without_graphs(self.options()):
            settings = onnxruntime.SessionOptions()
            settings.log_severity_level = 3
            settings.intra_op_num_threads = 1
            settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
            try:
                session = self._open(onnx, settings, options)
            except DenoscopeError:
                raise
            except Exception as error:  # the library's exceptions share no other base
                explained = self.device.explain(error)
                if explained is not error:
                    raise explained from error
                refusal = first_line(error)
                continue
            if (found := session.get_providers()[0]) != self.provider:
                raise BackendUnavailable(
                    f"onnxruntime put the graph on {found} instead of {self.provider}, whose libraries it cannot "
                    f"load ({_missing_library() or 'it does not say which'}): run {_LIBRARIES}."
                )
            captured = True
            if graph_option := _graph_option(options):
                captured = options[graph_option] == "1"
                self.note("CUDA graphs", "captured" if captured else f"not captured: {refusal}")
            return session, captured
        raise BackendUnavailable(
            f"{self.name} (onnxruntime {onnxruntime.__version__}) refuses the graph ({refusal}): "
            "choose another backend or update onnxruntime."
        )

    def _open(self, onnx: bytes, settings: Any, options: dict[str, str]) -> Any:
        onnxruntime = onnxruntime_library()

        # Without enable_fallback=0 the library prints a notice and goes on with the processor.
        return onnxruntime.InferenceSession(
            onnx, settings, providers=[(self.provider, options)], enable_fallback=0
        )


class OnnxRuntimeCuda(OnnxRuntimeGpu):
    """ONNX Runtime's CUDA provider in float32; counts are converted inside the graphs."""

    name: ClassVar[str] = "onnxruntime-cuda"
    provider: ClassVar[str] = "CUDAExecutionProvider"
    raw_dtypes = frozenset({"uint8", "uint16", "int16"})
    captures: ClassVar[bool] = True
    warm_runs: ClassVar[int] = 3  # two as they are, one to be captured

    def options(self) -> dict[str, str]:
        # No device_id, though it is the first: with one, the library looks for a plugin of that name before it
        # takes the provider it has, and warns on standard error in every session that there is none.
        return {
            "user_compute_stream": str(self.device.handle(self.compute)),
            "do_copy_in_default_stream": "1",
            "enable_cuda_graph": "1",
            # Shapes never change, so that the search for the fastest convolution is paid once.
            "cudnn_conv_algo_search": "EXHAUSTIVE",
            "cudnn_conv_use_max_workspace": "1",
            "arena_extend_strategy": "kSameAsRequested",
            "use_tf32": "0",
        }


class _TensorRtProvider(OnnxRuntimeGpu):
    """TensorRT cannot read 16-bit counts, so that a kernel of denoscope converts them beside it."""

    raw_dtypes = frozenset({"uint8", "uint16", "int16"})

    def compile_raw(self, onnx: bytes, graph: str, dtype: str) -> Graph:
        inner = self.compile(onnx)
        assert isinstance(inner, DeviceGraph)
        return ConvertedGraph(inner, graph, dtype)

    def _cache(self) -> Path:
        """Return the private folder of what the provider builds, which is executable code.

        Raises
        ------
        BackendUnavailable
            Where it cannot be made, or others can write to it, so that `auto` goes on to another backend.
        """
        cache = EngineCache()
        try:
            return cache.private_folder(self.name)
        except InvalidInput as error:
            raise BackendUnavailable(str(error)) from error
        except OSError as error:
            raise BackendUnavailable(
                f"{self.name} keeps what it builds in {cache.folder}, which cannot be written "
                f"({error.strerror or error}): set DENOSCOPE_ENGINES to another folder, or choose another backend."
            ) from error


class OnnxRuntimeTensorRt(_TensorRtProvider):
    """ONNX Runtime's TensorRT provider, which builds its engines when a frame size is first bound."""

    name: ClassVar[str] = "onnxruntime-tensorrt"
    provider: ClassVar[str] = "TensorrtExecutionProvider"

    @classmethod
    def _missing_provider(cls) -> str | None:
        if missing := super()._missing_provider():
            return missing
        library = "nvinfer_10.dll" if sys.platform == "win32" else "libnvinfer.so.10"
        with contextlib.suppress(ImportError):
            __import__("tensorrt_libs")  # loads the libraries of the wheel, or lets Windows find them
        try:
            ctypes.CDLL(library)
        except OSError:
            return f"{library} was not found: run `pip install 'tensorrt-cu13>=10.13,<11'`"
        return None

    def options(self) -> dict[str, str]:
        folder = str(self._cache())
        return {  # without device_id, as for CUDA
            "user_compute_stream": str(self.device.handle(self.compute)),
            "trt_cuda_graph_enable": "1",
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": folder,
            "trt_fp16_enable": "0",
            "trt_int8_enable": "0",
        }


class OnnxRuntimeNvTensorRtRtx(_TensorRtProvider):
    """NVIDIA's plugin for ONNX Runtime: TensorRT for RTX, beside the plain onnxruntime of the base install."""

    name: ClassVar[str] = "onnxruntime-nv-tensorrt-rtx"
    provider: ClassVar[str] = "NvTensorRTRTXExecutionProvider"
    _PACKAGE = "onnxruntime_ep_nv_tensorrt_rtx"
    _OLDEST = (8, 6)

    @classmethod
    def _missing_provider(cls) -> str | None:
        gpu = local_gpu()
        assert not isinstance(gpu, str)
        if (
            gpu.capability < cls._OLDEST
            or gpu.capability in ((8, 7), (9, 0))
            or (10, 0) <= gpu.capability < (12, 0)
        ):
            major, minor = gpu.capability
            return (
                f"it runs on GeForce RTX 30 and newer (compute capability 8.6, 8.9, 12.0 and up), and {gpu.name} "
                f"has {major}.{minor}: use onnxruntime-cuda"
            )
        if find_spec(cls._PACKAGE) is None:
            return 'NVIDIA\'s plugin for onnxruntime is missing: run `python -m pip install ".[onnxruntime-rtx]"`'
        return None

    def inference_library(self) -> str:
        found = "version unknown"
        with contextlib.suppress(PackageNotFoundError):
            found = version("onnxruntime-ep-nv-tensorrt-rtx-cu13")
        return f"{super().inference_library()} {found}"

    def options(self) -> dict[str, str]:
        return {
            "has_user_compute_stream": "1",
            "user_compute_stream": str(self.device.handle(self.compute)),
            "enable_cuda_graph": "1",
            "nv_runtime_cache_path": str(self._cache()),
            # Else working memory is allocated for each run, whose addresses a captured run would keep.
            "nv_persistent_context_memory": "1",
        }

    def _open(self, onnx: bytes, settings: Any, options: dict[str, str]) -> Any:
        onnxruntime = onnxruntime_library()

        settings.add_provider_for_devices(self._devices(), options)
        return onnxruntime.InferenceSession(onnx, settings)

    def _devices(self) -> list[Any]:
        """Register the plugin with the library once a process, and return the first GPU it offers."""
        onnxruntime = onnxruntime_library()

        def offered() -> list[Any]:
            return [d for d in onnxruntime.get_ep_devices() if d.ep_name == self.provider][:1]

        if not offered():
            from importlib import import_module

            try:
                library = import_module(self._PACKAGE).get_library_path()
                onnxruntime.register_execution_provider_library(self.provider, library)
            except Exception as error:  # a missing library is one of several, none of which says what to do
                raise BackendUnavailable(
                    f"NVIDIA's plugin for onnxruntime does not load ({first_line(error)}): "
                    'run `python -m pip install --force-reinstall ".[onnxruntime-rtx]"` and update the NVIDIA driver.'
                ) from error
        if not (found := offered()):
            raise BackendUnavailable(
                "NVIDIA's plugin for onnxruntime offers no GPU here: update the NVIDIA driver, or use onnxruntime-cuda."
            )
        return found


class _SessionRun:
    """Runs a session on fixed buffers: as it is, or with a CUDA graph of the library's own."""

    def __init__(self, session: Any, binding: Any, buffers: object, graph: int | None) -> None:
        onnxruntime = onnxruntime_library()

        self._session, self._binding = session, binding
        self._kept = buffers  # the binding does not own their memory
        self._options = onnxruntime.RunOptions()
        number = str(_NO_GRAPH if graph is None else graph)
        self._options.add_run_config_entry("gpu_graph_id", number)
        self._options.add_run_config_entry("cuda_graph_annotation_id", number)
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def __call__(self, _stream: object) -> None:
        self._session.run_with_iobinding(self._binding, self._options)

    def with_graph(self, number: int) -> _SessionRun:
        """Return the same run as one that the library captures."""
        return _SessionRun(self._session, self._binding, self._kept, number)


class _Graph(DeviceGraph):
    """One ONNX graph; a session for each set of shapes, so that the library can fix and capture everything."""

    # The library takes memory in the first run, and in the second once more by the pattern of the first.
    runs_before_capture: ClassVar[int] = 2

    def __init__(
        self, owner: OnnxRuntimeGpu, onnx: bytes, inputs: Sequence[str], outputs: Sequence[str]
    ) -> None:
        super().__init__(owner, inputs, outputs)
        self._backend, self._onnx = owner, onnx
        self._sessions: dict[tuple[tuple[str, tuple[int, ...]], ...], tuple[Any, bool]] = {}
        self._numbers = count(1)

    def work(self, inputs: Mapping[str, DeviceBuffer], outputs: Mapping[str, DeviceBuffer]) -> Work:
        session, capturable = self._session({**inputs, **outputs})
        self.captures = self._backend.captures and capturable
        ort_name = self.owner.device.ort_name
        binding = session.io_binding()
        for bind, buffers in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
            for name, buffer in buffers.items():
                bind(name, ort_name, 0, buffer.dtype.type, list(buffer.shape), buffer.memory.address)
        # Each binding has other addresses, and therefore another graph.
        number = None if self.captures else next(self._numbers)
        return _SessionRun(session, binding, (dict(inputs), dict(outputs)), number)

    def uncaptured(self, work: Work, refusal: str) -> Work:
        assert isinstance(work, _SessionRun)
        self.owner.note("CUDA graphs", f"captured by onnxruntime, in each thread anew: {refusal}")
        return work.with_graph(next(self._numbers))

    def close(self) -> None:
        super().close()
        self._sessions.clear()

    def _session(self, buffers: Mapping[str, DeviceBuffer]) -> tuple[Any, bool]:
        key = tuple((name, buffer.shape) for name, buffer in buffers.items())
        if key not in self._sessions:
            self._sessions[key] = self._backend.session(with_shapes(self._onnx, dict(key)))
        return self._sessions[key]


@cache
def _missing_library() -> str | None:
    """Load the libraries of CUDA and cuDNN, once a process, and return the first that is not there.

    Those of pip's nvidia packages are found, on Windows above all, only when they are loaded first. The
    library prints what it misses, and standard output belongs to the command's JSON.
    """
    onnxruntime = onnxruntime_library()

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        onnxruntime.preload_dlls()
    found = re.search(r"Failed to load (\S+?):", said.getvalue())
    return found[1] if found else None


def graph_names(backend: str, data: bytes) -> tuple[list[str], list[str]]:
    """Return the names of a graph's inputs and outputs; sessions are opened when shapes are known."""
    import onnx

    try:
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's two implementations and the checker raise different ones
        raise BackendUnavailable(
            f"{backend} refuses the graph, which is no valid ONNX model ({first_line(error)}): "
            "load the bundle again."
        ) from error
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in constants]
    return inputs, [value.name for value in model.graph.output]


def with_shapes(data: bytes, shapes: Mapping[str, Sequence[int]]) -> bytes:
    """Return a graph with the shapes of its inputs and outputs fixed."""
    import onnx

    model = onnx.load_model_from_string(data)
    for value in (*model.graph.input, *model.graph.output):
        wanted = shapes.get(value.name)
        if wanted is None:
            continue
        tensor = value.type.tensor_type
        if len(tensor.shape.dim) != len(wanted) or any(
            d.HasField("dim_value") and d.dim_value != n
            for d, n in zip(tensor.shape.dim, wanted, strict=True)
        ):
            raise InvalidInput(
                f"A buffer of shape {tuple(wanted)} does not fit {value.name} of the graph: "
                "give buffers of the graph's shapes."
            )
        for dim, n in zip(tensor.shape.dim, wanted, strict=True):
            dim.dim_value = n
    del model.graph.value_info[:]
    return bytes(model.SerializeToString())


def _graph_option(options: Mapping[str, str]) -> str | None:
    return next((name for name in ("enable_cuda_graph", "trt_cuda_graph_enable") if name in options), None)


def _with_and_without_graphs(options: dict[str, str]) -> list[dict[str, str]]:
    name = _graph_option(options)
    return [options] if name is None else [options, {**options, name: "0"}]
