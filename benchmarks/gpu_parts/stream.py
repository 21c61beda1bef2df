"""The host's work for a frame: the product's stream on a backend whose graphs do nothing, with real calls of CUDA."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any
from unittest.mock import patch

from denoscope.runtime.backends.device.device import DeviceGraph
from denoscope.runtime.backends.onnxruntime_gpu import OnnxRuntimeCuda, graph_names
from denoscope.runtime.stream.residuals.guard import Guard

from . import BUNDLES, Plan
from .pushes import measure_pushes


class _NoWork(DeviceGraph):
    captures = True

    def work(self, inputs: Any, outputs: Any) -> Any:  # noqa: ARG002
        return lambda stream: None  # noqa: ARG005


def _backend(plan: Plan) -> Any:
    base: Any = OnnxRuntimeCuda
    if plan.dry:
        from support.gpu_on_host import CudaOnHost

        base = CudaOnHost

    class Idle(base):  # type: ignore[misc]
        """Graphs that do nothing, on the buffers and streams of the real backend."""

        def compile(self, onnx: bytes) -> Any:
            return _NoWork(self, *graph_names(self.name, onnx))

        def inference_library(self) -> str:
            return "graphs that do nothing"

    return Idle()


def rows(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield the seconds of a push and of its stages for each bundle, one at a time and with two under way."""
    for name, ahead in product(BUNDLES, (False, True)):
        # Graphs that do nothing give black frames, which the guard rightly refuses.
        with _backend(plan) as backend, patch.object(Guard, "check_numbers"):
            row, _ = measure_pushes(name, backend, plan, ahead=ahead)
        yield {"bundle": name, **row}
