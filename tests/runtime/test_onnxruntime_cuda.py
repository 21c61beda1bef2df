"""ONNX Runtime's GPU backends: their own code on a device that lies in the host's memory, and on a GPU if any."""

from __future__ import annotations

import pytest

from denoscope.runtime._backends._onnxruntime_gpu import (
    OnnxRuntimeCuda,
    OnnxRuntimeNvTensorRtRtx,
    OnnxRuntimeTensorRt,
)
from denoscope.runtime.testing import BackendContract
from support.gpu_on_host import CudaOnHost, TensorRtProviderOnHost


class TestOnHost(BackendContract):
    backend_class = CudaOnHost


class TestWithKernelsOnHost(BackendContract):
    backend_class = TensorRtProviderOnHost


@pytest.mark.gpu
class TestOnnxRuntimeCuda(BackendContract):
    backend_class = OnnxRuntimeCuda


@pytest.mark.gpu
class TestOnnxRuntimeTensorRt(BackendContract):
    backend_class = OnnxRuntimeTensorRt


@pytest.mark.gpu
class TestOnnxRuntimeNvTensorRtRtx(BackendContract):
    backend_class = OnnxRuntimeNvTensorRtRtx
