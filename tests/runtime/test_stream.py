"""The stream's outputs equal the known answer, frame by frame, whatever arrives."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from denoscope.runtime import (
    BackendUnavailable,
    Bundle,
    Denoised,
    FrameMeta,
    FrameMismatch,
    Intensity,
    InvalidInput,
    Stream,
    StreamKey,
    estimate_intensity,
)
from denoscope.runtime.backends import Backend, choose_backend
from support.tiny_bundle import assert_answer, expected_movie, stamped, tiny_bundle
from support.wrapped_backends import DeviceBackend, WrappedBackend

WINDOW = 7
CAMERA = Intensity(offset=100.0, scale=7.5, noise_slope=0.3, noise_floor=0.2)

Frames = dict[int, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.denoscope", window=WINDOW)


@pytest.fixture(scope="module")
def unfrozen(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle that leaves the intensity to the session: eight frames of calibration."""
    folder = tmp_path_factory.mktemp("bundle") / "unfrozen.denoscope"
    return tiny_bundle(folder, window=WINDOW, intensity=None, calibration_frames=8)


@pytest.fixture(scope="module", params=["onnxruntime-cpu", "openvino", "device"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    opened = (
        DeviceBackend(threads=1) if request.param == "device" else choose_backend(request.param, threads=1)[0]
    )
    with opened:
        yield opened


def meta(number: int, **settings: Any) -> FrameMeta:
    return FrameMeta(number=number, t_received_s=time.perf_counter(), **settings)


def run(stream: Stream, frames: Mapping[int, npt.NDArray[Any]]) -> list[Denoised]:
    outputs = []
    for number, frame in frames.items():
        outputs += stream.push(frame, meta(number))
        check_counters(stream)
    outputs += stream.flush()
    check_counters(stream)
    assert stream.counters.in_flight == 0
    return outputs


def check_counters(stream: Stream) -> None:
    c = stream.counters
    assert c.received == c.emitted + sum(c.dropped.values()) + c.in_flight


def check(outputs: list[Denoised], expected: Mapping[int, npt.NDArray[np.float64]]) -> None:
    assert [o.meta.number for o in outputs] == list(expected)
    for o in outputs:
        assert_answer(o.frame, expected[o.meta.number])


@pytest.mark.parametrize("look_ahead", [0, 1, 2, 3])
def test_every_frame_comes_out_once_in_order(bundle: Bundle, backend: Backend, look_ahead: int) -> None:
    frames = {n: stamped(n) for n in range(20)}
    with Stream(bundle, backend, look_ahead=look_ahead) as stream:
        for number, frame in frames.items():
            outputs = stream.push(frame, meta(number))
            assert [o.meta.number for o in outputs] == ([number - look_ahead] if number >= look_ahead else [])
        rest = stream.flush()
        assert [o.meta.number for o in rest] == list(range(20 - look_ahead, 20))
    with Stream(bundle, backend, look_ahead=look_ahead) as stream:
        check(run(stream, frames), expected_movie(frames, window=WINDOW, look_ahead=look_ahead))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("look_ahead", [0, 3])
def test_short_movies_end_as_they_begin(
    bundle: Bundle, backend: Backend, count: int, look_ahead: int
) -> None:
    frames = {n: stamped(n) for n in range(count)}
    with Stream(bundle, backend, look_ahead=look_ahead) as stream:
        check(run(stream, frames), expected_movie(frames, window=WINDOW, look_ahead=look_ahead))


@pytest.mark.parametrize("gone", [{5}, {4, 5, 6}, set(range(4, 30)), {1, 3, 5, 7, 9, 38}])
@pytest.mark.parametrize("look_ahead", [0, 2])
def test_a_missing_frame_is_missed_and_not_invented(
    bundle: Bundle, backend: Backend, gone: set[int], look_ahead: int
) -> None:
    frames = {n: stamped(n) for n in range(100, 140) if n - 100 not in gone}
    with Stream(bundle, backend, look_ahead=look_ahead) as stream:
        check(run(stream, frames), expected_movie(frames, window=WINDOW, look_ahead=look_ahead))
        assert stream.missing == len(gone)


@pytest.mark.parametrize("shape", [(16, 16), (17, 23), (31, 40), (40, 33)])
def test_odd_sizes_are_padded_and_cropped(bundle: Bundle, backend: Backend, shape: tuple[int, int]) -> None:
    frames = {n: stamped(n, shape) for n in range(10)}
    with Stream(bundle, backend, std=True) as stream:
        outputs = run(stream, frames)
    check(outputs, expected_movie(frames, window=WINDOW, look_ahead=3))
    assert all(o.std is not None and o.std.shape == shape and o.std.dtype == np.float32 for o in outputs)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", ">u2"])
def test_dtype_and_scale_are_kept(bundle: Bundle, backend: Backend, dtype: str) -> None:
    frames = {n: stamped(n, dtype=dtype) for n in range(12)}
    native = {n: f.astype(f.dtype.newbyteorder("=")) for n, f in frames.items()}
    with Stream(bundle, backend, intensity=CAMERA, light=False, std=True) as stream:
        assert stream.intensity == CAMERA
        outputs = run(stream, frames)
    check(outputs, expected_movie(native, window=WINDOW, look_ahead=3, intensity=CAMERA))
    assert all(o.frame.dtype == native[0].dtype for o in outputs)
    first = outputs[0].std
    assert first is not None
    # Frames 0 to 3 in the places 3 to 6 of the window, with the weights 4 to 7.
    rounding = 0 if dtype == "float32" else 1 / 12
    expected = ((CAMERA.scale / (4 + 5 + 6 + 7)) ** 2 + rounding) ** 0.5
    np.testing.assert_allclose(first, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [("uint8", 0, 255), ("uint16", 0, 65535), ("int16", -32768, 32767)]
)
def test_integers_are_clipped_not_wrapped(bundle: Bundle, dtype: str, low: int, high: int) -> None:
    # Offsets that carry the answer of an engine's rounding beyond the range.
    bad = Intensity(offset=float(high), scale=1e-3, noise_slope=0, noise_floor=1)
    for value in (low, high):
        frames = {n: np.full((16, 16), value, dtype) for n in range(4)}
        with Stream(bundle, "onnxruntime-cpu", intensity=bad) as stream:
            assert all(abs(o.frame.astype(int) - value).max() <= 1 for o in run(stream, frames))


def test_the_pushed_memory_may_be_reused(bundle: Bundle, unfrozen: Bundle) -> None:
    for each in (bundle, unfrozen):
        frames = {n: stamped(n) for n in range(12)}
        with Stream(each, "onnxruntime-cpu") as stream:
            plain = run(stream, frames)
        shared = np.empty_like(frames[0])
        with Stream(each, "onnxruntime-cpu") as stream:
            outputs = []
            for number, frame in frames.items():
                shared[:] = frame
                outputs += stream.push(shared, meta(number))
                shared[:] = 9999
            outputs += stream.flush()
        for a, b in zip(plain, outputs, strict=True):
            np.testing.assert_array_equal(a.frame, b.frame)


def test_outputs_do_not_share_memory(bundle: Bundle) -> None:
    with Stream(bundle, "onnxruntime-cpu", std=True) as stream:
        outputs = run(stream, {n: stamped(n) for n in range(5)})
    kept = [a for o in outputs for a in (o.frame, o.std) if a is not None]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(kept) for b in kept[:i])


def test_each_frame_is_encoded_once_and_absorbed_once(bundle: Bundle) -> None:
    with WrappedBackend() as counting:
        with Stream(bundle, counting, look_ahead=2) as stream:
            stream.prepare((24, 32))
            warm = counting.runs.copy()
            run(stream, {n: stamped(n) for n in range(50)})
        found = counting.runs - warm
    assert found["encode"] == 50
    assert found["fuse"] == 50
    # All frames that left the window of the last centre, which is frame 49: 0 to 46.
    assert found["remember"] == 47


def test_a_bundle_without_memory_uses_the_window_alone(tmp_path: Path, backend: Backend) -> None:
    bundle = tiny_bundle(tmp_path / "b", window=5, memory=False)
    frames = {n: stamped(n) for n in range(15)}
    with Stream(bundle, backend) as stream:
        check(run(stream, frames), expected_movie(frames, window=5, look_ahead=2, memory=False))


@pytest.mark.parametrize("window", [3, 9, 15])
def test_other_windows(tmp_path: Path, window: int) -> None:
    bundle = tiny_bundle(tmp_path / "b", window=window)
    frames = {n: stamped(n) for n in range(25)}
    with Stream(bundle, "onnxruntime-cpu") as stream:
        check(run(stream, frames), expected_movie(frames, window=window, look_ahead=window // 2))


def test_a_skip_costs_no_fuse_and_its_neighbours_nothing(bundle: Bundle) -> None:
    frames = {n: stamped(n) for n in range(20)}
    skipped = {6, 7, 8, 15}
    with WrappedBackend() as counting, Stream(bundle, counting, look_ahead=1) as stream:
        outputs = []
        for number, frame in frames.items():
            outputs += stream.push(frame, meta(number), skip="keep-up" if number - 1 in skipped else None)
            check_counters(stream)
        outputs += stream.flush()
        assert stream.counters.dropped == {"keep-up": len(skipped)}
        assert counting.runs["fuse"] == 1 + 20 - len(skipped)  # one to warm up
    expected = expected_movie(frames, window=WINDOW, look_ahead=1)
    check(outputs, {n: f for n, f in expected.items() if n not in skipped})


def test_flush_can_skip_and_another_movie_may_follow(bundle: Bundle) -> None:
    frames = {n: stamped(n) for n in range(9)}
    with Stream(bundle, "onnxruntime-cpu") as stream:
        for number, frame in frames.items():
            stream.push(frame, meta(number))
        assert stream.flush(skip="stopped") == []
        assert stream.counters.dropped == {"stopped": 3}
        assert stream.flush() == []
        check(run(stream, frames), expected_movie(frames, window=WINDOW, look_ahead=3))
        assert stream.missing == 0


@pytest.mark.parametrize("change", ["shape", "dtype", "both", "same padded shape"])
def test_frames_of_another_kind_start_anew(bundle: Bundle, backend: Backend, change: str) -> None:
    shape = {"dtype": (24, 32), "same padded shape": (23, 31)}.get(change, (32, 40))
    dtype = np.uint8 if change in ("dtype", "both") else np.uint16
    first = {n: stamped(n) for n in range(9)}
    second = {n: stamped(n, shape, dtype) for n in range(11, 20)}
    with Stream(bundle, backend) as stream:
        outputs = run(stream, {**first, **second})
        (rebind,) = stream.rebinds
        assert stream.missing == 2
    assert (rebind.number, rebind.old_shape, rebind.new_shape) == (11, (24, 32), shape)
    assert (rebind.old_dtype, rebind.new_dtype) == ("uint16", np.dtype(dtype).name)
    expected = expected_movie(first, window=WINDOW, look_ahead=3)
    check(outputs, {**expected, **expected_movie(second, window=WINDOW, look_ahead=3)})


def noisy(count: int, seed: int = 0, dtype: npt.DTypeLike = np.uint16) -> Frames:
    rng = np.random.default_rng(seed)
    light = np.linspace(2, 30, 24 * 32).reshape(24, 32)
    return {n: (rng.poisson(light) * 6 + 10).clip(0, 255).astype(dtype) for n in range(count)}


@pytest.mark.parametrize("count", [1, 5, 8, 9, 12, 30])
def test_the_intensity_is_estimated_once_from_the_first_frames(unfrozen: Bundle, count: int) -> None:
    frames = noisy(count)
    with Stream(unfrozen, "onnxruntime-cpu") as stream:
        for number, frame in frames.items():
            outputs = stream.push(frame, meta(number))
            assert (stream.intensity is None) == (number < 7)
            assert len(outputs) <= 2
        stream.flush()
        wanted = estimate_intensity(np.stack(list(frames.values())[:8]))
        assert stream.intensity == wanted
    with Stream(unfrozen, "onnxruntime-cpu") as stream:
        expected = expected_movie(frames, window=WINDOW, look_ahead=3, intensity=wanted)
        check(run(stream, frames), expected)


def test_the_intensity_outlives_a_new_shape_but_not_a_new_dtype(unfrozen: Bundle) -> None:
    first, second, third = noisy(10), noisy(10, 1), noisy(10, 2, np.uint8)
    with Stream(unfrozen, "onnxruntime-cpu") as stream:
        outputs, seen = [], []
        cropped = (f[:16, :20] for f in second.values())
        for n, frame in enumerate([*first.values(), *cropped, *third.values()]):
            outputs += stream.push(frame, meta(n))
            seen.append(stream.intensity)
        outputs += stream.flush()
        assert [o.meta.number for o in outputs] == list(range(30))
        assert len(stream.rebinds) == 2
    assert seen[9] is not None
    assert seen[9] == seen[19]
    assert seen[20] is None
    assert stream.intensity is not None
    assert stream.intensity != seen[9]


def test_held_frames_drain_when_the_shape_changes(unfrozen: Bundle) -> None:
    with Stream(unfrozen, "onnxruntime-cpu") as stream:
        for number, frame in noisy(5).items():
            assert stream.push(frame, meta(number)) == []
        assert stream.counters.in_flight == 5
        outputs = stream.push(stamped(5, (40, 40)), meta(5))
        assert [o.meta.number for o in outputs] == [0, 1, 2, 3, 4]
        assert stream.counters.in_flight == 1


def test_stages_are_stamped_in_order_and_summed(bundle: Bundle) -> None:
    with WrappedBackend(fuse_delay_s=0.005) as slow, Stream(bundle, slow, look_ahead=1) as stream:
        stream.prepare((24, 32))
        outputs = run(stream, {n: stamped(n) for n in range(6)})
        seconds = stream.stage_seconds
    for o in outputs:
        t = o.times
        assert t.received <= t.pushed <= t.encoded <= t.fuse_start <= t.fused <= t.emitted
        assert t.fused - t.fuse_start >= 0.004
        assert sum(t.durations().values()) == pytest.approx(t.latency_s)
    assert (seconds.pushes, seconds.outputs) == (6, 6)
    assert seconds.fuse_s >= 6 * 0.004
    assert 0 < seconds.own_s < seconds.total_s
    parts = (seconds.normalise_s, seconds.encode_s, seconds.convert_s, seconds.remember_s, seconds.bind_s)
    assert all(s > 0 for s in parts)


def test_the_choice_of_backend_is_told(bundle: Bundle) -> None:
    with Stream(bundle, threads=1) as stream:
        assert stream.choice.name in ("openvino", "onnxruntime-cpu")
        assert stream.choice.reason
        assert stream.backend_info["threads"] == "1"
    with WrappedBackend() as mine, Stream(bundle, mine) as stream:
        assert stream.choice.reason == "it was given by the caller"


def test_a_failing_backend_ends_the_stream_and_loses_no_count(bundle: Bundle) -> None:
    with WrappedBackend(fail_at=10) as failing, Stream(bundle, failing, look_ahead=2) as stream:
        emitted = sum(len(stream.push(stamped(n), meta(n))) for n in range(12))
        with pytest.raises(RuntimeError, match="the device was lost"):
            stream.push(stamped(12), meta(12))
        counters = stream.counters
        assert (counters.received, counters.emitted, counters.in_flight) == (13, emitted, 0)
        assert counters.dropped == {"failed": 3}
        check_counters(stream)
        with pytest.raises(InvalidInput, match="has failed"):
            stream.push(stamped(20), meta(20))
        with pytest.raises(InvalidInput, match="has failed"):
            stream.flush()


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (np.zeros((24, 32), np.float64), "dtype float64.*uint8, uint16, int16, float32"),
        (np.zeros((24, 32), bool), "dtype bool"),
        (np.zeros((24, 32), np.uint32), "dtype uint32"),
        (np.zeros((24, 32, 3), np.uint8), r"\(24, 32, 3\).*two-dimensional"),
        (np.zeros((15, 32), np.uint8), "15 x 32.*16 x 16"),
        ([[1, 2], [3, 4]], "list"),
    ],
)
def test_a_frame_that_does_not_fit_changes_nothing(bundle: Bundle, frame: Any, complaint: str) -> None:
    frames = {n: stamped(n) for n in range(8)}
    with Stream(bundle, "onnxruntime-cpu") as stream:
        outputs = []
        for number, good in frames.items():
            with pytest.raises(FrameMismatch, match=complaint):
                stream.push(frame, meta(number))
            outputs += stream.push(good, meta(number))
        outputs += stream.flush()
        assert stream.counters.received == 8
    check(outputs, expected_movie(frames, window=WINDOW, look_ahead=3))


def test_numbers_must_grow(bundle: Bundle) -> None:
    with Stream(bundle, "onnxruntime-cpu") as stream:
        stream.push(stamped(5), meta(5))
        for number in (5, 4):
            with pytest.raises(InvalidInput, match=r"after frame 5.*flush\(\)"):
                stream.push(stamped(number), meta(number))
        stream.flush()
        stream.push(stamped(0), meta(0))
        assert stream.counters.received == 2


def test_a_stream_holds_one_movie(bundle: Bundle) -> None:
    with Stream(bundle, "onnxruntime-cpu") as stream:
        stream.push(stamped(0), meta(0, key=StreamKey(channel="GFP")))
        with pytest.raises(InvalidInput, match="one stream for each camera, channel, z and position"):
            stream.push(stamped(1), meta(1, key=StreamKey(channel="RFP")))


def test_a_closed_stream_says_so(bundle: Bundle) -> None:
    stream = Stream(bundle, "onnxruntime-cpu")
    stream.close()
    stream.close()
    for call in (lambda: stream.push(stamped(0), meta(0)), stream.flush, lambda: stream.prepare((24, 32))):
        with pytest.raises(InvalidInput, match="is closed"):
            call()


def test_settings_out_of_range_are_refused(bundle: Bundle) -> None:
    for look_ahead in (-1, 4):
        with pytest.raises(InvalidInput, match="offers 0 to 3"):
            Stream(bundle, "onnxruntime-cpu", look_ahead=look_ahead)
    with pytest.raises(InvalidInput, match="no backend 'gpu'"):
        Stream(bundle, "gpu")
    with WrappedBackend() as mine, pytest.raises(InvalidInput, match="open backend"):
        Stream(bundle, mine, threads=2)
    with Stream(bundle, "onnxruntime-cpu") as stream, pytest.raises(InvalidInput, match="16 x 16"):
        stream.prepare((8, 64))


def test_a_bundle_may_be_named(bundle: Bundle) -> None:
    with Stream(bundle.folder, "onnxruntime-cpu") as stream:
        assert stream.bundle.digest == bundle.digest


def test_a_graph_that_the_backend_refuses_is_reported(bundle: Bundle) -> None:
    broken = Bundle(bundle.folder, bundle.manifest, dict.fromkeys(bundle.manifest.graphs, b"junk"))
    with pytest.raises(BackendUnavailable, match="refuses the graph"):
        Stream(broken, "onnxruntime-cpu")


def test_tags_come_back_untouched(bundle: Bundle) -> None:
    with Stream(bundle, "onnxruntime-cpu", look_ahead=0) as stream:
        sent = meta(0, tags={"ElapsedTime-ms": "1.5"})
        (output,) = stream.push(stamped(0), sent)
        assert output.meta is sent
        assert output.std is None
