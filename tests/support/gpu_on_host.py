"""The GPU backends' own classes on the lazy device, so that their code runs where there is no GPU."""

from __future__ import annotations

from typing import Any, ClassVar

from denoscope.runtime._backends._onnxruntime_gpu import OnnxRuntimeCuda, OnnxRuntimeTensorRt

from .lazy_device import LazyDevice

__all__ = ["CudaOnHost", "TensorRtProviderOnHost"]


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


class TensorRtProviderOnHost(_OnHost, OnnxRuntimeTensorRt):
    """Counts are converted by kernels beside the graphs."""
