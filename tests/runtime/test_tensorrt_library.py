"""The adapter and TensorRT's own runtime, which a stand-in plays: no GPU is needed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from denoscope.runtime import BackendUnavailable, DeviceFailed, InvalidInput
from denoscope.runtime.backends.device.device import DeviceBuffer
from denoscope.runtime.backends.tensorrt import _LoadedEngine  # a library that is played, without a GPU
from denoscope.runtime.engines import EngineCache
from support.gpu_on_host import TensorRtOnHost


class Context:
    """Keeps what it is told, and what it was run on."""

    def __init__(self, trt: Library) -> None:
        self.trt, self.addresses, self.ran = trt, {}, []
        self.memory = 0

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        return index == 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (1, 1, 8, 8)

    def update_device_memory_size_for_shapes(self) -> int:
        return self.trt.asked

    def set_device_memory(self, address: int, size: int) -> None:
        self.memory = size
        if size < self.trt.needed:
            self.trt.logger.log(0, "too small")

    def is_stream_capturable(self, stream: int) -> bool:
        return self.trt.capturable

    def execute_async_v3(self, stream: int) -> bool:
        self.ran.append(dict(self.addresses))
        return not self.trt.broken


class Library:
    """A module like tensorrt_rtx."""

    class ILogger:
        ERROR = 1

    class ExecutionContextAllocationStrategy:
        USER_MANAGED = "user"

    class CudaGraphStrategy:
        DISABLED = "disabled"

    class DynamicShapesKernelSpecializationStrategy:
        EAGER = "eager"

    def __init__(self) -> None:
        self.contexts: list[Context] = []
        self.asked, self.needed, self.broken, self.takes_kept = 512, 0, False, True
        self.capturable = True
        self.logger: Any = None
        self.caches: list[Any] = []

    def Runtime(self, logger: Any) -> Any:  # noqa: N802  TensorRT's name
        self.logger = logger
        return SimpleNamespace(deserialize_cuda_engine=lambda data: self)

    num_optimization_profiles = 1

    def get_tensor_profile_shape(self, name: str, index: int) -> Any:
        return [(1, 1, 8, 8)] * 3

    def get_device_memory_size_for_profile_v2(self, index: int) -> int:
        return 4096

    def create_runtime_config(self) -> Any:
        def make() -> Any:
            self.caches.append(
                SimpleNamespace(deserialize=lambda data: self.takes_kept, serialize=lambda: b"kernels")
            )
            return self.caches[-1]

        def take(cache: Any) -> None:
            self.used = cache

        return SimpleNamespace(
            set_execution_context_allocation_strategy=lambda s: None,
            create_runtime_cache=make,
            set_runtime_cache=take,
        )

    def create_execution_context(self, config: Any) -> Context:
        self.contexts.append(Context(self))
        return self.contexts[-1]


@pytest.fixture
def owner(tmp_path: Path) -> Any:
    with TensorRtOnHost(EngineCache(tmp_path / "engines")) as backend:
        yield backend


def buffers(owner: Any, count: int) -> list[DeviceBuffer]:
    made = [owner.buffer((1, 1, 8, 8)) for _ in range(count)]
    assert all(isinstance(b, DeviceBuffer) for b in made)
    return made


def test_bindings_share_one_context_that_is_told_its_addresses_before_each_run(owner: Any) -> None:
    trt = Library()
    engine = _LoadedEngine(trt, owner, b"", "key")
    a, b, y, z = buffers(owner, 4)
    first = engine.prepare({"x": a}, {"y": y}, owner)
    second = engine.prepare({"x": b}, {"y": z}, owner)
    stream = owner.compute
    for run in (first, second, first):
        run(stream)
    (context,) = trt.contexts
    assert [c["x"] for c in context.ran] == [a.memory.address, b.memory.address, a.memory.address]
    assert [c["y"] for c in context.ran] == [y.memory.address, z.memory.address, y.memory.address]
    assert context.memory == 512


@pytest.mark.parametrize("capturable", [True, False])
def test_an_engine_that_cannot_be_captured_says_so(owner: Any, *, capturable: bool) -> None:
    trt = Library()
    trt.capturable = capturable
    engine = _LoadedEngine(trt, owner, b"", "key")
    x, y = buffers(owner, 2)
    engine.prepare({"x": x}, {"y": y}, owner)
    assert engine.capturable == capturable
    assert ("CUDA graphs" in owner.describe()) != capturable


def test_memory_that_is_too_small_is_noticed_although_nothing_is_returned(owner: Any) -> None:
    trt = Library()
    trt.needed = 1000
    x, y = buffers(owner, 2)
    with pytest.raises(BackendUnavailable, match=r"512 bytes of working memory \(too small\)"):
        _LoadedEngine(trt, owner, b"", "key").prepare({"x": x}, {"y": y}, owner)


def test_a_size_that_is_not_known_is_that_of_the_profile(owner: Any) -> None:
    trt = Library()
    trt.asked = 0
    x, y = buffers(owner, 2)
    _LoadedEngine(trt, owner, b"", "key").prepare({"x": x}, {"y": y}, owner)
    assert trt.contexts[0].memory == 4096


def test_an_old_error_is_not_quoted_for_a_new_one(owner: Any) -> None:
    trt = Library()
    engine = _LoadedEngine(trt, owner, b"", "key")
    x, y = buffers(owner, 2)
    run = engine.prepare({"x": x}, {"y": y}, owner)
    trt.logger.log(0, "something long ago")
    trt.broken = True
    with pytest.raises(DeviceFailed, match="it does not say why"):
        run(owner.compute)


def test_compiled_kernels_are_kept_after_the_first_run_not_only_at_the_end(owner: Any) -> None:
    engine = _LoadedEngine(Library(), owner, b"", "key")
    x, y = buffers(owner, 2)
    run = engine.prepare({"x": x}, {"y": y}, owner)
    assert owner.cache.kept("runtime", "key") is None
    run(owner.compute)
    assert owner.cache.kept("runtime", "key") == b"kernels"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), InvalidInput("Not yours alone.")])
def test_kernels_that_cannot_be_kept_cost_no_frame(
    owner: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    trt = Library()
    engine = _LoadedEngine(trt, owner, b"", "key")
    x, y = buffers(owner, 2)
    run = engine.prepare({"x": x}, {"y": y}, owner)
    monkeypatch.setattr(EngineCache, "keep", Mock(side_effect=error))
    run(owner.compute)
    engine.close()
    assert len(trt.contexts[0].ran) == 1
    said = owner.describe()["kernels"]
    assert said.startswith("compiled anew at the next start, too: ")
    assert str(error).rstrip(".") in said


@pytest.mark.parametrize("takes", [True, False])
def test_kernels_of_another_driver_are_compiled_anew(owner: Any, takes: bool) -> None:
    owner.cache.keep("runtime", "key", b"old")
    trt = Library()
    trt.takes_kept = takes
    _LoadedEngine(trt, owner, b"", "key")
    assert trt.used is trt.caches[-1]
    assert len(trt.caches) == (1 if takes else 2)
    assert ("compiled anew" in owner.describe().get("kernels", "")) is not takes
