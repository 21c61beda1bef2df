"""Order of work on a GPU: streams whose work is done as late, and in as odd an order, as is allowed."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from denoscope.runtime import (
    BackendUnavailable,
    Bundle,
    DeviceFailed,
    FrameMeta,
    Intensity,
    NotFinite,
    Stream,
)
from denoscope.runtime.backends.device.device import DeviceBuffer
from support.gpu_on_host import CudaOnHost, TensorRtProviderOnHost
from support.lazy_device import LazyDevice
from support.tiny_bundle import assert_answer, expected_movie, stamped, tiny_bundle

CAMERA = Intensity(offset=100.0, scale=7.5, noise_slope=0.3, noise_floor=0.2)
KINDS = [CudaOnHost, TensorRtProviderOnHost]

OnHost = CudaOnHost | TensorRtProviderOnHost


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "moving.denoscope", window=5, motion=True)


def meta(number: int) -> FrameMeta:
    return FrameMeta(number=number, t_received_s=time.perf_counter())


def answers(stream: Stream, frames: dict[int, Any], skip: Callable[[int], bool] = lambda _: False) -> int:
    """Push a movie and compare every output with the known answer."""
    expected = expected_movie(
        frames,
        window=stream.bundle.manifest.window,
        look_ahead=stream.look_ahead,
        motion=True,
        intensity=stream.intensity or CAMERA,
    )
    found = []
    for number, frame in frames.items():
        reused = frame.copy()
        found += stream.push(reused, meta(number), skip="slow" if skip(number) else None)
        reused[...] = 0  # a frame's memory is the caller's again
    found += stream.flush()
    for output in found:
        assert_answer(output.frame, expected[output.meta.number])
    return len(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_any_order_gives_the_known_answer(moving: Bundle, kind: type[OnHost], seed: int) -> None:
    gone = {4, 11, 12, 13, 14, 15, 16, 17}
    frames = {n: stamped(n) for n in range(24) if n not in gone}
    with (
        kind(seed=seed) as backend,
        Stream(moving, backend, look_ahead=seed % 3, intensity=CAMERA, light=False) as stream,
    ):
        assert answers(stream, frames) == len(frames)
        assert answers(stream, {n: stamped(n, (16, 40)) for n in range(9)}) == 9, "another size"
        assert answers(stream, {n: stamped(n, dtype=np.float32) for n in range(9)}) == 9, "another type"
        assert backend.device.overlaps > 10, "nothing could overlap: the streams are one"


@pytest.mark.parametrize("kind", KINDS)
def test_skipped_outputs_let_the_host_run_ahead_of_the_device(moving: Bundle, kind: type[OnHost]) -> None:
    frames = {n: stamped(n) for n in range(30)}
    with kind(seed=3) as backend, Stream(moving, backend, intensity=CAMERA, light=False) as stream:
        assert answers(stream, frames, skip=lambda n: 8 <= n < 25) == 30 - 17
        assert stream.counters.dropped == {"slow": 17}


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_goes_up_once_and_comes_down_once(moving: Bundle, kind: type[OnHost]) -> None:
    with kind() as backend, Stream(moving, backend, intensity=CAMERA, light=False) as stream:
        counts = backend.device.counts
        for number in range(20):
            stream.push(stamped(number), meta(number))
        before = counts.copy()
        for number in range(20, 30):
            stream.push(stamped(number), meta(number))
        spent = counts - before
    assert (spent["copy_in"], spent["copy_out"]) == (10, 10)
    # The TensorRT provider captures its runs itself, so that they are no part of a larger graph.
    assert spent["submit"] == 10 * (4 if kind is TensorRtProviderOnHost else 1), "one launch a frame"
    assert spent["launch"] == (20 if kind is TensorRtProviderOnHost else 0), "one conversion each way"
    assert not spent["allocate"]


def test_what_one_thread_prepared_is_replayed_in_another(moving: Bundle) -> None:
    """The library's own graphs are captured anew in each thread, which took 9 ms a rotation of the ring."""
    with CudaOnHost() as backend, Stream(moving, backend, intensity=CAMERA, light=False) as stream:
        stream.prepare((24, 32))
        backend.finish()
        before = backend.device.counts.copy()
        with ThreadPoolExecutor(1) as camera:
            found = camera.submit(answers, stream, {n: stamped(n) for n in range(30)}).result()
        backend.finish()
        spent = backend.device.counts - before
        assert found == 30
        assert spent["replay"] == spent["submit"] > 30
        assert not spent["capture"]
        assert backend.describe()["CUDA graphs"] == "captured"


def test_what_cannot_be_captured_here_is_left_to_the_library(moving: Bundle) -> None:
    with CudaOnHost() as backend, Stream(moving, backend, intensity=CAMERA, light=False) as stream:
        backend.device.captures_fail = RuntimeError("operation not permitted when stream is capturing")
        assert answers(stream, {n: stamped(n) for n in range(30)}) == 30
        assert not backend.device.counts["replay"]
        assert backend.describe()["CUDA graphs"] == (
            "captured by onnxruntime, in each thread anew: operation not permitted when stream is capturing"
        )


def test_the_deviation_is_one_more_download(moving: Bundle) -> None:
    with CudaOnHost() as backend, Stream(moving, backend, intensity=CAMERA, light=False, std=True) as stream:
        for number in range(12):
            outputs = stream.push(stamped(number), meta(number))
        before = backend.device.counts["copy_out"]
        outputs = stream.push(stamped(12), meta(12))
        assert outputs[0].std is not None
        assert outputs[0].std.max() > 0
        assert backend.device.counts["copy_out"] - before == 2


def _without_wait(monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    """Let a device forget the waits of one of its streams: 0 upload, 1 compute, 2 download."""
    wait = LazyDevice.wait

    def forgetful(self: LazyDevice, stream: Any, event: Any) -> None:
        if self.handle(stream) - 1 != which:
            wait(self, stream, event)

    monkeypatch.setattr(LazyDevice, "wait", forgetful)


@pytest.mark.parametrize("forgotten", ["upload", "compute", "download", "settle"])
def test_each_wait_is_needed(moving: Bundle, monkeypatch: pytest.MonkeyPatch, forgotten: str) -> None:
    """The device of these tests does notice a missing wait, so that passing means something."""
    if forgotten == "settle":
        monkeypatch.setattr(DeviceBuffer, "settle", lambda self: None)
    else:
        _without_wait(monkeypatch, ["upload", "compute", "download"].index(forgotten))

    def wrong(seed: int) -> bool:
        frames = {n: stamped(n) for n in range(20)}
        with (
            CudaOnHost(seed=seed) as backend,
            Stream(moving, backend, intensity=CAMERA, light=False) as stream,
        ):
            try:
                answers(stream, frames, skip=lambda n: 5 <= n < 12)
            except (AssertionError, NotFinite):  # the guard may notice it first
                return True
        return False

    assert any(wrong(seed) for seed in range(12))


def test_a_lost_device_ends_the_stream_with_one_sentence(moving: Bundle) -> None:
    with CudaOnHost() as backend, Stream(moving, backend, intensity=CAMERA, light=False) as stream:
        for number in range(8):
            stream.push(stamped(number), meta(number))
        backend.device.fail["submit"] = RuntimeError("CUDA_ERROR_LAUNCH_FAILED: an exception occurred")
        with pytest.raises(DeviceFailed, match=r"Lazy GPU was lost .*restart the program"):
            stream.push(stamped(8), meta(8))
        counters = stream.counters
        assert counters.received == counters.emitted + counters.dropped["failed"]


def test_a_gpu_that_is_full_before_the_first_frame_leaves_the_choice_of_another(moving: Bundle) -> None:
    full = RuntimeError("CUDA failure 2: out of memory")
    with CudaOnHost() as backend, Stream(moving, backend, intensity=CAMERA, light=False) as stream:
        backend.device.fail["submit"] = full
        with pytest.raises(BackendUnavailable, match="Lazy GPU is out of memory"):
            stream.prepare((24, 32))
    with CudaOnHost() as backend, Stream(moving, backend, intensity=CAMERA, light=False) as stream:
        stream.prepare((24, 32))
        backend.device.fail["submit"] = full
        with pytest.raises(DeviceFailed, match="Lazy GPU is out of memory"):
            stream.push(stamped(0), meta(0))
