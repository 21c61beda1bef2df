"""ONNX Runtime's GPU backends: their own code on a device that lies in the host's memory, and on a GPU if any."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import onnxruntime
import pytest
from onnx import helper

from denoscope.runtime import BackendUnavailable, DeviceFailed
from denoscope.runtime.backends import onnxruntime_gpu as gpu_module
from denoscope.runtime.backends.device.errors import explain
from denoscope.runtime.backends.onnxruntime_gpu import (
    OnnxRuntimeCuda,
    OnnxRuntimeNvTensorRtRtx,
    OnnxRuntimeTensorRt,
)
from denoscope.runtime.backends.tensorrt import EngineTarget, engines_for
from denoscope.runtime.engines import EngineCache, LocalGpu
from denoscope.runtime.testing import BackendContract, make_graph
from support.gpu_on_host import CudaOnHost, TensorRtProviderOnHost
from support.lazy_device import LazyDevice


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


# What stands in the way, on a machine that has a GPU.


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def there(capability: tuple[int, int] = (8, 9), driver: tuple[int, int] = (13, 0)) -> None:
        found = LocalGpu("NVIDIA RTX 4090", capability, driver)
        monkeypatch.setattr("denoscope.runtime.engines.local_gpu", lambda: found)
        monkeypatch.setattr(gpu_module, "local_gpu", lambda: found)

    return there


def test_without_a_driver_every_one_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("denoscope.runtime.engines.local_gpu", lambda: "no NVIDIA driver is installed")
    for backend in (OnnxRuntimeCuda, OnnxRuntimeTensorRt, OnnxRuntimeNvTensorRtRtx):
        reason = backend.unavailable()
        assert reason is not None
        assert reason.startswith("no NVIDIA driver is installed; install the newest from nvidia.com")


def test_an_old_driver_is_named_with_what_is_needed(gpu: Callable[..., None]) -> None:
    gpu(driver=(12, 4))
    reason = OnnxRuntimeCuda.unavailable()
    assert reason is not None
    assert "CUDA up to 12.4 and 13.0 is needed: install a driver of version 580 or newer" in reason


def test_the_plain_build_of_onnxruntime_has_no_cuda(gpu: Callable[..., None]) -> None:
    gpu()
    for backend in (OnnxRuntimeCuda, OnnxRuntimeTensorRt):
        reason = backend.unavailable()
        assert reason is not None
        assert re.search(rf"no {backend.provider}: run .*uninstall.*onnxruntime-gpu\[cuda,cudnn\]", reason)


@pytest.mark.parametrize(
    ("capability", "complaint"),
    [((8, 9), "onnxruntime-rtx"), ((9, 0), "has 9.0: use onnxruntime-cuda"), ((7, 5), "has 7.5")],
)
def test_the_plugin_runs_on_some_gpus_and_must_be_there(
    gpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], complaint: str
) -> None:
    gpu(capability)
    if capability != (8, 9):
        monkeypatch.setattr(gpu_module, "find_spec", lambda name: object())
    reason = OnnxRuntimeNvTensorRtRtx.unavailable()
    assert reason is not None
    assert complaint in reason


def test_a_missing_library_is_named_and_nothing_is_printed(
    gpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu()
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(
        onnxruntime, "preload_dlls", lambda: print("Failed to load libcudnn.so.9: cannot open shared object")
    )
    gpu_module._missing_library.cache_clear()
    try:
        reason = OnnxRuntimeCuda.unavailable()
    finally:
        gpu_module._missing_library.cache_clear()
    assert reason is not None
    assert reason.startswith("libcudnn.so.9 cannot be loaded: run `python -m pip install")
    assert not capsys.readouterr().out


def test_a_session_that_lands_on_the_processor_is_refused() -> None:
    """Without one of its libraries onnxruntime-gpu goes on by itself, without the GPU."""
    backend = OnnxRuntimeCuda(device=LazyDevice())
    graph = backend.compile(_relu())
    a, b = backend.buffer((1, 1, 8, 8)), backend.buffer((1, 1, 8, 8))
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(
            BackendUnavailable,
            match=r"on CPUExecutionProvider instead of CUDAExecutionProvider.*onnxruntime-gpu",
        ),
    ):
        graph.bind({"x": a}, {"y": b})


@pytest.mark.parametrize("kind", [OnnxRuntimeCuda, OnnxRuntimeTensorRt])
def test_no_option_makes_the_library_warn_of_a_missing_plugin(
    kind: type[OnnxRuntimeCuda | OnnxRuntimeTensorRt], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnnxRuntimeTensorRt, "_cache", lambda self: tmp_path)
    assert "device_id" not in kind(device=LazyDevice()).options()


def test_the_plugin_keeps_its_working_memory_for_captured_runs(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnnxRuntimeNvTensorRtRtx, "_cache", lambda self: tmp_path)
    options = OnnxRuntimeNvTensorRtRtx(device=LazyDevice()).options()
    assert options["enable_cuda_graph"] == options["nv_persistent_context_memory"] == "1"


@pytest.mark.parametrize("kind", [OnnxRuntimeTensorRt, OnnxRuntimeNvTensorRtRtx])
def test_a_folder_that_cannot_be_made_lets_auto_go_on(
    kind: type[OnnxRuntimeTensorRt | OnnxRuntimeNvTensorRtRtx],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DENOSCOPE_ENGINES", str(tmp_path / "file" / "engines"))
    with pytest.raises(BackendUnavailable, match=r"engines, which cannot be written .*DENOSCOPE_ENGINES"):
        kind(device=LazyDevice()).options()


@pytest.mark.skipif(sys.platform == "win32", reason="access lists decide there")
def test_a_folder_that_others_can_write_to_lets_auto_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines").chmod(0o777)
    monkeypatch.setenv("DENOSCOPE_ENGINES", str(tmp_path / "engines"))
    with pytest.raises(BackendUnavailable, match="can be written by other users"):
        OnnxRuntimeTensorRt(device=LazyDevice()).options()
    with pytest.raises(BackendUnavailable, match="can be written by other users"):
        engines_for(b"onnx", EngineCache(), EngineTarget("tensorrt", "10", (8, 9), "GPU"))


def test_a_folder_of_engines_that_cannot_be_read_lets_auto_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EngineCache, "search", Mock(side_effect=PermissionError(13, "Permission denied")))
    with pytest.raises(BackendUnavailable, match=r"cannot be read .*Permission denied.*DENOSCOPE_ENGINES"):
        engines_for(b"onnx", EngineCache(tmp_path), EngineTarget("tensorrt", "10", (8, 9), "GPU"))


def test_a_provider_that_refuses_cuda_graphs_runs_without_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def refuse(self: CudaOnHost, onnx: bytes, settings: Any, options: dict[str, str]) -> Any:
        asked.append(options["enable_cuda_graph"])
        if asked[-1] == "1":
            raise RuntimeError("not all nodes are on the CUDA provider")
        return onnxruntime.InferenceSession(onnx, settings, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(CudaOnHost, "_open", refuse)
    monkeypatch.setattr(CudaOnHost, "options", lambda self: {"enable_cuda_graph": "1"})
    backend = CudaOnHost()
    a, b = backend.buffer((1, 1, 8, 8)), backend.buffer((1, 1, 8, 8))
    backend.compile(_relu()).bind({"x": a}, {"y": b})()
    assert asked == ["1", "0"]
    assert backend.describe()["CUDA graphs"] == "not captured: not all nodes are on the CUDA provider"


@pytest.mark.parametrize(
    ("words", "kind", "sentence"),
    [
        ("CUDA failure 2: out of memory ; GPU=0", DeviceFailed, "RTX is out of memory"),
        ("CUDA_ERROR_OUT_OF_MEMORY: The API call failed", DeviceFailed, "choose a smaller region"),
        ("CUDA failure 700: an illegal memory access was encountered", DeviceFailed, "RTX was lost"),
        ("Cuda Runtime (unspecified launch failure)", DeviceFailed, "restart the program"),
        ("CUDA_ERROR_LAUNCH_TIMEOUT: the device kernel took too long", DeviceFailed, "TdrDelay"),
        ("CUDA_ERROR_ECC_UNCORRECTABLE", DeviceFailed, "RTX was lost"),
        ("CUDA driver version is insufficient for CUDA runtime version", BackendUnavailable, "too old"),
        ("CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected", BackendUnavailable, "nvidia-smi"),
        ('"cuda" is an NVIDIA driver library and can only be found', BackendUnavailable, "No NVIDIA driver"),
        ("CUDA_ERROR_DEVICE_UNAVAILABLE", BackendUnavailable, "another program"),
    ],
)
def test_what_cuda_says_becomes_one_sentence(words: str, kind: type[Exception], sentence: str) -> None:
    error = explain(RuntimeError(words), "RTX")
    assert type(error) is kind
    assert sentence in str(error)
    assert words[:20] in str(error)
    assert explain(error, "RTX") is error
    other = ValueError("a buffer does not fit")
    assert explain(other, "RTX") is other


def _relu() -> bytes:
    shape = (1, 1, "H", "W")
    return make_graph([helper.make_node("Relu", ["x"], ["y"])], {"x": shape}, {"y": shape})
