"""The host's work for a frame: the product's stream on a backend whose graphs do nothing, with real calls of CUDA."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from denoscope.acquisition._bench._scene import make_scene
from denoscope.runtime import Bundle, FrameMeta, Stream
from denoscope.runtime._backends._device import DeviceGraph
from denoscope.runtime._backends._onnxruntime_gpu import OnnxRuntimeCuda, _names

from . import BUNDLES, Plan, quantiles


class _NoWork(DeviceGraph):
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
            return _NoWork(self, *_names(self.name, onnx))

        def inference_library(self) -> str:
            return "graphs that do nothing"

    return Idle()


def rows(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield the seconds of a push and of its stages for each bundle."""
    scene = make_scene((plan.size, plan.size))
    for name in BUNDLES:
        with (
            _backend(plan) as backend,
            Stream(Bundle.load(name), backend, intensity=scene.intensity, align=False) as stream,
        ):
            stream.prepare((plan.size, plan.size), np.uint16)
            number = iter(range(10**6))

            def push(stream: Stream = stream, number: Any = number) -> None:
                i = next(number)
                stream.push(scene.frames[i % len(scene.frames)], FrameMeta(number=i, t_received_s=0.0))

            for _ in range(20):
                push()
            before = stream.stage_seconds
            timed = quantiles(push, plan.repeats)
            after = stream.stage_seconds
            stages = {
                key: (getattr(after, key) - getattr(before, key)) / plan.repeats
                for key in ("normalise_s", "encode_s", "motion_s", "fuse_s", "convert_s", "remember_s")
            }
            yield {"bundle": name, **timed, "stages_mean": stages}
