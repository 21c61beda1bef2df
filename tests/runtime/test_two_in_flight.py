"""Two frames under way on a device: the same outputs in the same order as one at a time, and each wait is needed."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from denoscope.runtime import Bundle, Denoised, DeviceFailed, FrameMeta, Intensity, NotFinite, Stream
from denoscope.runtime.backends.device import device as device_module
from denoscope.runtime.stream.passage import Passage
from denoscope.runtime.window.window import BoundWindow
from support.gpu_on_host import CudaOnHost, SelfBuildingOnHost
from support.lazy_device import LazyDevice
from support.tiny_bundle import stamped, tiny_bundle

CAMERA = Intensity(offset=100.0, scale=7.5, noise_slope=0.3, noise_floor=0.2)
EVERY, SOME = (lambda _: True), (lambda n: n % 3 != 1)

Frame = Any
Rule = Callable[[int], bool]


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "moving.denoscope", window=5, motion=True)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "still.denoscope", window=5, intensity=None)


@pytest.fixture(params=[CudaOnHost, SelfBuildingOnHost], ids=["in the graphs", "by kernels"])
def kind(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(SelfBuildingOnHost, "folder", tmp_path / "engines", raising=False)
    return request.param


def play(
    stream: Stream,
    frames: Sequence[tuple[int, Frame]],
    ahead: Rule,
    skip: Rule = lambda _: False,
) -> list[Denoised]:
    outputs: list[Denoised] = []
    for number, frame in frames:
        reused = frame.copy()
        meta = FrameMeta(number, 0.0)
        outputs += stream.push(reused, meta, skip="slow" if skip(number) else None, ahead=ahead(number))
        reused[...] = 0  # a frame's memory is the caller's again
    return outputs + stream.flush()


def assert_the_same(found: list[Denoised], expected: list[Denoised]) -> None:
    assert [o.meta.number for o in found] == [o.meta.number for o in expected]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.frame, b.frame, err_msg=str(a.meta.number))
        if b.std is not None:
            np.testing.assert_array_equal(a.std, b.std)


def both(kind: Any, bundle: Bundle, frames: Any, ahead: Rule, **settings: Any) -> tuple[Stream, Stream]:
    """Play a movie one at a time and ahead, compare, and return both streams, closed."""
    skip = settings.pop("skip", lambda _: False)
    streams, outputs = [], []
    for seed, rule in enumerate((lambda _: False, ahead)):
        with kind(seed=seed) as backend, Stream(bundle, backend, **settings) as stream:
            outputs.append(play(stream, frames, rule, skip))
            streams.append(stream)
            assert stream.counters.in_flight == 0
    alone, together = streams
    assert_the_same(outputs[1], outputs[0])
    assert together.counters == alone.counters
    assert together.guard == alone.guard
    assert together.rebinds == alone.rebinds
    assert together.missing == alone.missing
    return alone, together


def movie(count: int, **settings: Any) -> list[tuple[int, Frame]]:
    return [(n, stamped(n, **settings)) for n in range(count)]


def begun_ahead(stream: Stream) -> int:
    return stream._passage.ahead


@pytest.mark.parametrize("ahead", [EVERY, SOME])
@pytest.mark.parametrize("look_ahead", [0, 2])
def test_a_plain_movie(kind: Any, moving: Bundle, ahead: Rule, look_ahead: int) -> None:
    frames = movie(24)
    _, together = both(
        kind, moving, frames, ahead, intensity=CAMERA, light=False, look_ahead=look_ahead, std=True
    )
    assert begun_ahead(together) > (15 if ahead is EVERY else 5)


def test_skipped_and_missing_frames(kind: Any, moving: Bundle) -> None:
    gone = {4, 11, 12, 13, 14, 15, 16, 17}
    frames = [(n, frame) for n, frame in movie(34) if n not in gone]
    _, together = both(
        kind, moving, frames, EVERY, intensity=CAMERA, light=False, skip=lambda n: n in {6, 7, 22, 24, 25}
    )
    assert begun_ahead(together) > 5


def test_frames_of_another_kind(kind: Any, moving: Bundle) -> None:
    frames = movie(10)
    frames += [(n + 10, frame) for n, frame in movie(10, shape=(16, 40))]
    frames += [(n + 20, frame) for n, frame in movie(8, dtype=np.float32)]
    frames += [(n + 28, frame) for n, frame in movie(8, dtype=np.uint8)]
    frames[24][1][3:5, 6] = np.nan
    frames[26][1][...] = np.nan
    both(kind, moving, frames, EVERY, intensity=CAMERA, light=False)


def lit(
    count: int, photons: float, gain: float, shape: tuple[int, int] = (64, 64)
) -> list[tuple[int, Frame]]:
    rng = np.random.default_rng(3)
    scene = photons * (1 + np.add.outer(np.sin(np.arange(shape[0]) / 5), np.cos(np.arange(shape[1]) / 7)) / 3)
    return [(n, (100 + gain * rng.poisson(scene)).astype(np.uint16)) for n in range(count)]


def test_light_that_changes_dark_frames_and_another_scene(kind: Any, still: Bundle) -> None:
    frames = lit(60, 40.0, 4.0)
    for n in range(44, 60):  # flickers
        frames[n] = (n, (100 + (frames[n][1] - 100.0) * (1.3 if n % 2 else 0.8)).astype(np.uint16))
    for n in (41, 50, 51):
        frames[n] = (n, np.full((64, 64), 100, np.uint16))
    other = lit(60, 40.0, 4.0)
    frames += [(n + 60, np.ascontiguousarray(frame[::-1, ::-1].T)) for n, frame in other[:24]]
    alone, together = both(kind, still, frames, EVERY)
    assert sum(alone.counters.unusual.values()) > 0
    assert begun_ahead(together) > 10


def test_few_photons_are_rounded_once(kind: Any, still: Bundle) -> None:
    """Pictures of a few counts are converted once more with the light that they lack, after the next was begun."""
    frames = lit(70, 0.4, 2.0)
    for n in range(40, 70):
        frames[n] = (
            n,
            (100 + 2.0 * np.random.default_rng(n).poisson(0.4 + 0.02 * (n - 40), (64, 64))).astype(np.uint16),
        )
    converted = []
    with pytest.MonkeyPatch.context() as patch:
        true = BoundWindow.convert_again
        patch.setattr(BoundWindow, "convert_again", lambda *given: converted.append(1) or true(*given))
        both(kind, still, frames, EVERY)
    assert len(converted) > 4


@pytest.mark.parametrize("seed", range(1))
def test_a_scene_whose_motion_is_tracked(seed: int) -> None:
    rng = np.random.default_rng(seed)
    large = rng.gamma(0.4, 60, (96, 96))
    large = (large + np.roll(large, 1, 0) + np.roll(large, 1, 1)) / 3
    frames = []
    for n in range(20):
        dy, dx = 16 + round(4 * np.sin(n / 3)), 16 + round(3 * np.cos(n / 4))
        seen = rng.poisson(large[dy : dy + 48, dx : dx + 48])
        frames.append((n, (100 + 3 * seen).astype(np.uint16)))
    intensity = Intensity(offset=100.0, scale=13.0, noise_slope=0.2, noise_floor=0.05)
    _, together = both(CudaOnHost, Bundle.load("live-fast"), frames, EVERY, intensity=intensity, align=True)
    assert together.tracks_motion
    assert begun_ahead(together) > 8


def test_what_a_push_leaves_under_way_can_be_collected(kind: Any, moving: Bundle) -> None:
    with kind() as backend, Stream(moving, backend, intensity=CAMERA, light=False) as stream:
        for n in range(12):
            stream.push(stamped(n), FrameMeta(n, 0.0))
        assert stream.push(stamped(12), FrameMeta(12, 0.0), ahead=True) == []
        assert stream.counters.in_flight == stream.look_ahead + 1
        assert [o.meta.number for o in stream.push(stamped(13), FrameMeta(13, 0.0), ahead=True)] == [10]
        assert [o.meta.number for o in stream.collect()] == [11]
        assert stream.collect() == []
        assert [o.meta.number for o in stream.push(stamped(14), FrameMeta(14, 0.0))] == [12]
        assert stream.counters.in_flight == stream.look_ahead


def test_a_failure_loses_what_is_under_way_and_counts_it(kind: Any, moving: Bundle) -> None:
    with kind() as backend, Stream(moving, backend, intensity=CAMERA, light=False) as stream:
        for n in range(12):
            stream.push(stamped(n), FrameMeta(n, 0.0), ahead=True)
        backend.device.fail["submit"] = RuntimeError("CUDA_ERROR_LAUNCH_FAILED: an exception occurred")
        with pytest.raises(DeviceFailed):
            stream.push(stamped(12), FrameMeta(12, 0.0), ahead=True)
        counters = stream.counters
        assert (counters.received, counters.in_flight) == (13, 0)
        assert counters.received == counters.emitted + counters.dropped["failed"]
        assert counters.dropped["failed"] == 4, "one under way, one that was launched and two in the ring"


def test_closing_waits_for_what_is_under_way(kind: Any, moving: Bundle) -> None:
    with kind() as backend:
        stream = Stream(moving, backend, intensity=CAMERA, light=False)
        for n in range(12):
            stream.push(stamped(n), FrameMeta(n, 0.0), ahead=True)
        stream.close()
        streams = backend.device.work_left()
    assert not streams, "the device would write to memory that is let go of"


def test_a_movie_ends_and_another_begins(kind: Any, moving: Bundle) -> None:
    with kind() as backend, Stream(moving, backend, intensity=CAMERA, light=False) as stream:
        first = play(stream, movie(17), EVERY)
        second = play(stream, movie(17), EVERY)
    assert_the_same(second, first)


def test_pictures_are_not_written_again_while_somebody_holds_them(kind: Any, moving: Bundle) -> None:
    frames = movie(60)
    with kind() as backend, Stream(moving, backend, intensity=CAMERA, light=False) as stream:
        held = play(stream, frames, EVERY)  # more than may be page-locked
    with kind() as backend, Stream(moving, backend, intensity=CAMERA, light=False) as stream:
        copies = [o.frame.copy() for n, f in frames for o in stream.push(f, FrameMeta(n, 0.0))]
    for kept, copy in zip(held, copies, strict=False):
        np.testing.assert_array_equal(kept.frame, copy)


def test_where_copies_cannot_be_aimed_pictures_are_copied_once_more(moving: Bundle) -> None:
    with CudaOnHost() as backend, Stream(moving, backend, intensity=CAMERA, light=False) as stream:
        backend.device.fail["aim"] = RuntimeError("CUDA_ERROR_NOT_SUPPORTED")
        found = play(stream, movie(20), EVERY)
        assert "copied once more" in stream.backend_info["pictures"]
    with CudaOnHost() as backend, Stream(moving, backend, intensity=CAMERA, light=False) as stream:
        assert_the_same(found, play(stream, movie(20), EVERY))
        assert (
            stream.backend_info["pushes"]
            == "15 of 20 as one call, 15 begun while the one before was under way"
        )


# -- each wait is needed


def waits() -> Iterator[tuple[str, int]]:
    """Return each place in the module where a stream or the host waits: the function, and the line."""
    tree = ast.parse(Path(device_module.__file__).read_text(encoding="utf-8"))
    for owner in ast.walk(tree):
        for function in ast.iter_child_nodes(owner) if isinstance(owner, ast.ClassDef) else ():
            for node in ast.walk(function) if isinstance(function, ast.FunctionDef) else ():
                called = node.func if isinstance(node, ast.Call) else None
                if isinstance(called, ast.Attribute) and called.attr in ("wait", "synchronise"):
                    yield f"{owner.name}.{function.name}", node.lineno


WAITS = list(waits())


def test_the_waits_are_those_that_we_know() -> None:
    assert sorted(name for name, _ in WAITS) == [
        "DeviceBackend.finish",
        "DeviceBuffer.arrive",
        "DeviceBuffer.fetch",
        "DeviceBuffer.settle",
        "DeviceBuffer.upload",
        "DeviceBuffer.upload",
    ]


@pytest.mark.parametrize(("name", "line"), WAITS, ids=[f"{name}:{line}" for name, line in WAITS])
def test_without_any_one_wait_a_picture_is_wrong(
    moving: Bundle, monkeypatch: pytest.MonkeyPatch, name: str, line: int
) -> None:
    for method in ("wait", "synchronise"):
        true = getattr(LazyDevice, method)

        def forgetful(self: LazyDevice, *given: Any, _true: Any = true) -> None:
            caller = sys._getframe(1)
            if caller.f_code.co_filename != device_module.__file__ or caller.f_lineno != line:
                _true(self, *given)

        monkeypatch.setattr(LazyDevice, method, forgetful)

    def wrong(seed: int) -> bool:
        frames = movie(20)
        with CudaOnHost(seed=seed) as backend:
            stream = Stream(moving, backend, intensity=CAMERA, light=False)
            try:
                found = play(stream, frames, SOME if seed % 2 else EVERY, lambda n: 5 <= n < 9)
            except (AssertionError, NotFinite):
                return True
            stream.push(stamped(0), FrameMeta(0, 0.0))
            stream.close()
            if backend.device.work_left():
                return True
        try:
            assert_the_same(found, right)
        except AssertionError:
            return True
        return False

    right = reference(moving)
    assert any(wrong(seed) for seed in range(12))


def test_without_waiting_for_the_side_of_the_window_a_picture_is_wrong(
    moving: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window writes to two outputs in turn; where the memory stands still it is the same one twice."""
    monkeypatch.setattr(
        Passage, "_begin", lambda self, *given: self.under_way.append(self._maker.begin(*given[:3]))
    )
    frames = [(n, frame) for n, frame in movie(30) if n % 7]
    with Stream(moving, "onnxruntime-cpu", intensity=CAMERA, light=False, threads=1) as stream:
        right = play(stream, frames, lambda _: False)
    wrong = 0
    for seed in range(6):
        with (
            CudaOnHost(seed=seed) as backend,
            Stream(moving, backend, intensity=CAMERA, light=False) as stream,
        ):
            try:
                assert_the_same(play(stream, frames, EVERY), right)
            except (AssertionError, NotFinite):
                wrong += 1
    assert wrong


def reference(bundle: Bundle) -> list[Denoised]:
    with Stream(bundle, "onnxruntime-cpu", intensity=CAMERA, light=False, threads=1) as stream:
        return play(stream, movie(20), lambda _: False, lambda n: 5 <= n < 9)
