"""OpenVINO on the processor: the fast CPU path."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from denoscope.runtime.errors import BackendUnavailable, InvalidInput

from .base import Backend, Buffer, Graph, HostBuffer, check_dtype, check_names
from .bfloat16 import MOST_DB, loss_db
from .processor_graphs import for_processors

if TYPE_CHECKING:
    from denoscope.runtime.bundle.bundle import Bundle

__all__ = ["OpenVino", "OpenVinoBf16"]


class OpenVino(Backend):
    """OpenVINO's CPU plugin in float32, graphs compiled for the bound frame size."""

    name: ClassVar[str] = "openvino"
    raw_dtypes = frozenset({"uint8", "uint16", "int16"})
    redirects = True
    precision: ClassVar[str] = "f32"

    def __init__(self, *, threads: int | None = None) -> None:
        import openvino

        super().__init__(threads=threads)
        self._core = openvino.Core()

    @classmethod
    def unavailable(cls) -> str | None:
        try:
            import openvino
        except ImportError as error:
            return f'openvino cannot be imported ({error}): run `python -m pip install ".[cpu]"`'
        if "CPU" not in openvino.Core().available_devices:
            return "this build of openvino has no CPU plugin: run `pip install --force-reinstall openvino`"
        return None

    def describe(self) -> dict[str, str]:
        import openvino

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

    def close(self) -> None:
        """Do nothing: compiled models belong to their graphs."""


class OpenVinoBf16(OpenVino):
    """OpenVINO in bfloat16, where the processor computes in it: 1.7 times as fast, at a small loss.

    `auto` picks it for bundles whose loss has been measured (`bfloat16.LOSS_DB`), any other only by its name.
    """

    name: ClassVar[str] = "openvino-bf16"
    precision: ClassVar[str] = "bf16"
    raw_dtypes = frozenset()  # raw counts need more than the 8 bits that the graphs compute with

    @classmethod
    def unavailable(cls) -> str | None:
        reason = super().unavailable()
        if reason is not None:
            return reason
        import openvino

        if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            return "this processor does not compute in bfloat16: use openvino"
        return None

    @classmethod
    def unsuited(cls, bundle: Bundle) -> str | None:
        name, loss = bundle.manifest.name, loss_db(bundle)
        if loss is None:
            return f"the loss of {name} in bfloat16 is not known: name the backend to use it"
        if loss > MOST_DB:
            return f"{name} loses {loss:g} dB in bfloat16, more than {MOST_DB:g}: name the backend to use it"
        return None


class _OvBuffer(HostBuffer):
    def __init__(self, shape: Sequence[int], dtype: str) -> None:
        import openvino

        super().__init__(shape, dtype)
        self.tensor = openvino.Tensor(self.array, shared_memory=True)


def _places_pixels(model: Any) -> bool:
    """Say whether a graph is `align` or `recall`."""
    return any(i.get_any_name() == "places" for i in model.inputs)


class _Graph(Graph):
    def __init__(self, backend: str, core: Any, onnx: bytes, model: Any, config: dict[str, str]) -> None:
        self._backend, self._core, self._onnx, self._config = backend, core, onnx, config
        self.inputs = tuple(i.get_any_name() for i in model.inputs)
        self.outputs = tuple(o.get_any_name() for o in model.outputs)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._compiled: Any = None

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Callable[..., None]:
        if not self._onnx:
            raise InvalidInput("The graph is closed: compile it again before binding.")
        check_names("inputs", self.inputs, inputs)
        check_names("outputs", self.outputs, outputs)
        self._compile_for({name: buffer.shape for name, buffer in inputs.items()})
        request = self._compiled.create_infer_request()
        try:
            for name, buffer in {**inputs, **outputs}.items():
                request.set_tensor(name, _tensor(buffer))
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

    def _compile_for(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Compile once for each frame size: fixed shapes run faster and need no allocation."""
        if self._compiled is not None and shapes == self._shapes:
            return
        try:
            model = self._core.read_model(model=for_processors(self._onnx, shapes))
            model.reshape({name: list(shape) for name, shape in shapes.items()})
            self._compiled = self._core.compile_model(model, "CPU", self._config)
        except RuntimeError as error:
            raise BackendUnavailable(_refusal(self._backend, error)) from error
        self._shapes = shapes


def _refusal(backend: str, error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{backend} refuses the graph ({lines[-1]}): choose another backend or update openvino."


def _tensor(buffer: Buffer) -> Any:
    if not isinstance(buffer, _OvBuffer):
        raise InvalidInput(
            f"A {type(buffer).__name__} was made by another backend: use this backend's own buffers."
        )
    return buffer.tensor
