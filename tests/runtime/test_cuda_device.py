"""The module that calls CUDA, against the signatures of cuda-core itself: no GPU, but no invented name either."""

from __future__ import annotations

import ctypes
from typing import Any
from unittest.mock import create_autospec

import numpy as np
import pytest

from denoscope.runtime import BackendUnavailable

core = pytest.importorskip("cuda.core", reason="needs the extra 'cuda'")

from cuda.core.graph import ExecutableMemcpyNode, Graph, GraphBuilder, MemcpyNode  # noqa: E402

from denoscope.runtime.backends.device.cuda import CudaDevice  # noqa: E402


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """cuda-core's classes with their real signatures; page-locked memory is real memory."""
    device = create_autospec(core.Device, instance=True)
    device.name, device.compute_capability = "NVIDIA RTX 4090", (8, 9)

    def stream(*_: Any, **__: Any) -> Any:
        made = create_autospec(core.Stream, instance=True)
        builder = create_autospec(GraphBuilder, instance=True)
        builder.end_building.return_value = builder
        builder.complete.return_value = create_autospec(Graph, instance=True)
        made.create_graph_builder.return_value = builder
        made.handle = 77
        return made

    def memory(size: int, **_: Any) -> Any:
        made = create_autospec(core.Buffer, instance=True)
        made.block = (ctypes.c_uint8 * size)()
        made.handle, made.size = ctypes.addressof(made.block), size
        return made

    device.create_stream.side_effect = stream
    device.create_event.side_effect = lambda *_: create_autospec(core.Event, instance=True)
    device.allocate.side_effect = memory
    pinned = create_autospec(core.LegacyPinnedMemoryResource, instance=True)
    pinned.allocate.side_effect = memory
    monkeypatch.setattr(core, "Device", lambda index: device)
    monkeypatch.setattr(core, "LegacyPinnedMemoryResource", lambda: pinned)
    monkeypatch.setattr(core, "launch", create_autospec(core.launch))
    return device


def test_what_the_device_is(gpu: Any) -> None:
    device = CudaDevice()
    assert (device.name, device.capability) == ("NVIDIA RTX 4090", (8, 9))
    device.enter()
    gpu.set_current.assert_called_once_with()
    device.close()
    device.close()
    gpu.sync.assert_called_once_with()


def test_streams_and_events(gpu: Any) -> None:
    device = CudaDevice()
    stream, event = device.stream(), device.event()
    assert gpu.create_stream.call_args.kwargs["options"].nonblocking
    assert not gpu.create_event.call_args.args[0].timing_enabled
    assert device.handle(stream) == 77
    device.record(event, stream)
    stream.record.assert_called_once_with(event)
    device.wait(stream, event)
    stream.wait.assert_called_once_with(event)
    device.synchronise(event)
    event.sync.assert_called_once_with()


def test_memory_is_zeroed_and_copied_asynchronously(gpu: Any) -> None:
    device = CudaDevice()
    stream = device.stream()
    memory, pinned = device.allocate(64, stream), device.pinned(64)
    memory.buffer.fill.assert_called_once_with(0, stream=stream)  # type: ignore[attr-defined]
    assert memory.address == memory.buffer.handle  # type: ignore[attr-defined]
    device.copy_in(memory, pinned, stream)
    memory.buffer.copy_from.assert_called_once_with(pinned.buffer, stream=stream)  # type: ignore[attr-defined]
    device.copy_out(memory, pinned, stream)
    memory.buffer.copy_to.assert_called_once_with(pinned.buffer, stream=stream)  # type: ignore[attr-defined]
    view = pinned.array.view(np.uint16).reshape(4, 8)
    view[...] = 513
    assert bytes(pinned.buffer.block) == b"\x01\x02" * 32  # type: ignore[attr-defined]


def test_a_view_keeps_the_page_locked_memory(gpu: Any) -> None:
    import gc
    import weakref

    pinned = CudaDevice().pinned(64)
    alive = weakref.ref(pinned.buffer)  # type: ignore[attr-defined]
    core.LegacyPinnedMemoryResource().allocate.reset_mock()
    view = pinned.array.view(np.float32)
    del pinned
    gc.collect()
    assert alive() is not None
    view[...] = 1
    del view
    gc.collect()
    assert alive() is None


def test_kernels_are_launched_for_every_pixel(gpu: Any) -> None:
    device = CudaDevice()
    stream = device.stream()
    device.__dict__["_kernels"] = kernels = create_autospec(core.ObjectCode, instance=True)
    arguments = [device.allocate(8, stream) for _ in range(4)]
    device.launch("uint16_to_float32", 512 * 512 + 1, arguments, stream)
    where, config, kernel, *given = core.launch.call_args.args
    assert where is stream
    assert kernel is kernels.get_kernel.return_value
    kernels.get_kernel.assert_called_once_with("uint16_to_float32")
    assert (config.grid[0], config.block[0]) == (1025, 256)
    assert [int(value) for value in given] == [*(m.address for m in arguments), 512 * 512 + 1]
    assert all(value.dtype == np.uint64 for value in given)


def test_work_is_captured_and_replayed(gpu: Any) -> None:
    device = CudaDevice()
    stream, done = device.stream(), []
    replay = device.capture(stream, done.append)
    builder = stream.create_graph_builder.return_value
    builder.begin_building.assert_called_once_with("relaxed")
    assert done == [stream]
    replay(stream)
    builder.complete.return_value.launch.assert_called_once_with(stream)


def test_a_captured_copy_is_aimed_elsewhere(gpu: Any) -> None:
    device = CudaDevice()
    stream = device.stream()
    captured = device.capture(stream, lambda _: None)
    builder = stream.create_graph_builder.return_value
    memory, target = device.allocate(64, stream), device.pinned(64)
    up, down = (create_autospec(MemcpyNode, instance=True) for _ in range(2))
    up.src, down.src = 4, memory.address
    builder.graph_definition.nodes.return_value = {up, down, object()}
    views = {up: create_autospec(ExecutableMemcpyNode), down: create_autospec(ExecutableMemcpyNode)}
    builder.complete.return_value.__getitem__.side_effect = views.get
    device.aim(captured, memory, target)
    where = target.buffer.handle  # type: ignore[attr-defined]
    views[down].update.assert_called_once_with(dst=where, src=memory.address, size=64)
    views[up].update.assert_not_called()


def test_two_works_beside_each_other_are_joined(gpu: Any) -> None:
    device = CudaDevice()
    stream, order = device.stream(), []
    device.beside(stream, lambda s: order.append(("work", s)), lambda s: order.append(("copies", s)))
    second = next(s for what, s in order if what == "copies")
    assert second is not stream
    assert ("work", stream) in order
    begun, ended = stream.record.call_args.args[0], second.record.call_args.args[0]
    assert begun is not ended
    second.wait.assert_called_once_with(begun)
    stream.wait.assert_called_once_with(ended)


def test_a_capture_that_fails_is_ended(gpu: Any) -> None:
    device = CudaDevice()
    stream = device.stream()

    def refuse(_stream: Any) -> None:
        raise RuntimeError("not permitted")

    with pytest.raises(RuntimeError, match="not permitted"):
        device.capture(stream, refuse)
    stream.create_graph_builder.return_value.end_building.assert_called_once_with()


def test_a_full_gpu_leaves_the_choice_of_another_backend(gpu: Any) -> None:
    device = CudaDevice()
    gpu.allocate.side_effect = RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: the API call failed")
    with pytest.raises(BackendUnavailable, match=r"RTX 4090 is out of memory .*1\.0 MiB were asked for"):
        device.allocate(2**20, device.stream())


def test_without_a_driver_there_is_one_sentence() -> None:
    from denoscope.runtime.engines import local_gpu

    if not isinstance(local_gpu(), str):
        pytest.skip("there is a driver")
    with pytest.raises(BackendUnavailable, match=r"No NVIDIA driver was found .*install it from nvidia\.com"):
        CudaDevice()
