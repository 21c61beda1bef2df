"""ONNX Runtime on the processor: the backend that runs everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from denoscope.runtime.errors import BackendUnavailable, InvalidInput
from denoscope.runtime.words import first_line

from .base import Backend, Buffer, Graph, HostBuffer, check_dtype, check_names
from .onnxruntime_library import onnxruntime_library

__all__ = ["OnnxRuntimeCpu"]


class OnnxRuntimeCpu(Backend):
    """ONNX Runtime's CPU execution provider in float32, buffers bound without copies."""

    name: ClassVar[str] = "onnxruntime-cpu"
    raw_dtypes = frozenset({"uint8", "uint16", "int16"})
    redirects = True

    @classmethod
    def unavailable(cls) -> str | None:
        try:
            onnxruntime = onnxruntime_library()
        except ImportError as error:
            return f"onnxruntime cannot be imported ({error}): run `pip install onnxruntime`"
        if "CPUExecutionProvider" not in onnxruntime.get_available_providers():
            return "this build of onnxruntime has no CPU provider: run `pip install onnxruntime`"
        return None

    def describe(self) -> dict[str, str]:
        onnxruntime = onnxruntime_library()

        return {
            "library": f"onnxruntime {onnxruntime.__version__}",
            "device": "CPU",
            "precision": "float32",
            "threads": str(self.threads),
        }

    def compile(self, onnx: bytes) -> Graph:
        onnxruntime = onnxruntime_library()

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A spinning worker keeps a core from the camera's thread for nothing.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        try:
            session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library's exceptions share no other base
            raise BackendUnavailable(
                f"{self.name} (onnxruntime {onnxruntime.__version__}) refuses the graph "
                f"({first_line(error)}): choose another backend or update onnxruntime."
            ) from error
        if session.get_providers()[0] != "CPUExecutionProvider":
            raise BackendUnavailable(
                f"onnxruntime put the graph on {session.get_providers()[0]} instead of the CPU: "
                "keep one of onnxruntime and onnxruntime-gpu in the environment."
            )
        return _Graph(session)

    def buffer(self, shape: Sequence[int], dtype: str = "float32") -> Buffer:
        check_dtype(self, dtype)
        return _OrtBuffer(shape, dtype)

    def close(self) -> None:
        """Do nothing: sessions belong to their graphs."""


class _OrtBuffer(HostBuffer):
    def __init__(self, shape: Sequence[int], dtype: str) -> None:
        onnxruntime = onnxruntime_library()

        super().__init__(shape, dtype)
        # On the CPU the value shares the array's memory.
        self.value = onnxruntime.OrtValue.ortvalue_from_numpy(self.array)


class _Graph(Graph):
    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = tuple(i.name for i in session.get_inputs())
        self.outputs = tuple(o.name for o in session.get_outputs())

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Callable[..., None]:
        if self._session is None:
            raise InvalidInput("The graph is closed: compile it again before binding.")
        check_names("inputs", self.inputs, inputs)
        check_names("outputs", self.outputs, outputs)
        binding = self._session.io_binding()
        for name, buffer in inputs.items():
            binding.bind_ortvalue_input(name, _value(buffer))
        for name, buffer in outputs.items():
            binding.bind_ortvalue_output(name, _value(buffer))
        execute = self._session.run_with_iobinding
        keep = (dict(inputs), dict(outputs))  # the binding does not own the buffers' memory

        def run(instead: Mapping[str, Buffer] | None = None, _keep: object = keep) -> None:
            if instead is None:
                execute(binding)
                return
            for name, buffer in instead.items():
                binding.bind_ortvalue_output(name, _value(buffer))
            try:
                execute(binding)
            finally:
                for name in instead:
                    binding.bind_ortvalue_output(name, _value(outputs[name]))

        return run

    def close(self) -> None:
        self._session = None


def _value(buffer: Buffer) -> Any:
    if not isinstance(buffer, _OrtBuffer):
        raise InvalidInput(
            f"A {type(buffer).__name__} was made by another backend: use this backend's own buffers."
        )
    return buffer.value
