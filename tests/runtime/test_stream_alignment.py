"""A stream follows a moving scene: outputs come back where their frames were, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from denoscope.runtime import Bundle, Denoised, FrameMeta, Intensity, InvalidInput, Stream
from support.tiny_bundle import tiny_bundle

CAMERA = Intensity(offset=100.0, scale=8.0, noise_slope=0.2, noise_floor=0.3)
SIZE = 96

Shifts = npt.NDArray[np.int64]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle") / "tiny.denoscope"
    return tiny_bundle(folder, window=7, intensity=None, calibration_frames=12)


def movie_of(shifts: Shifts) -> npt.NDArray[np.uint16]:
    """Return a noise-free textured scene seen through a window that moves."""
    rng = np.random.default_rng(0)
    edge = SIZE + 160
    fy, fx = np.fft.fftfreq(edge)[:, None], np.fft.fftfreq(edge)[None]
    blur = np.exp(-2 * (np.pi * np.hypot(fy, fx) * 2.0) ** 2)
    field = np.fft.ifft2(np.fft.fft2(rng.standard_normal((edge, edge))) * blur).real
    scene = np.rint(1000 + 150 * field / field.std()).astype(np.uint16)
    return np.stack([scene[80 - y : 80 - y + SIZE, 80 - x : 80 - x + SIZE] for y, x in shifts])


def push_all(stream: Stream, movie: npt.NDArray[np.uint16]) -> list[Denoised]:
    outputs = []
    for number, frame in enumerate(movie):
        outputs += stream.push(frame, FrameMeta(number=number, t_received_s=0.0))
    return outputs + stream.flush()


def walk(length: int) -> Shifts:
    steps = np.random.default_rng(1).integers(-2, 3, (length, 2))
    steps[0] = 0
    return np.clip(np.cumsum(steps, axis=0), -10, 10)


def test_outputs_lie_where_their_frames_were(bundle: Bundle) -> None:
    movie = movie_of(walk(40))
    with Stream(bundle, "onnxruntime-cpu", align=True, intensity=CAMERA, light=False) as stream:
        outputs = push_all(stream, movie)
        assert stream.tracks_motion
    assert [o.meta.number for o in outputs] == list(range(40))
    inner = np.s_[12:-12, 12:-12]
    for output in outputs[1:]:
        # The tiny bundle averages other frames: equal to this one only if all of them were aligned.
        np.testing.assert_allclose(
            output.frame[inner].astype(int), movie[output.meta.number][inner].astype(int), atol=1
        )


def test_without_alignment_the_same_movie_blurs(bundle: Bundle) -> None:
    movie = movie_of(walk(40))
    with Stream(bundle, "onnxruntime-cpu", align=False) as stream:
        outputs = push_all(stream, movie)
        assert not stream.tracks_motion
    errors = [np.abs(o.frame.astype(int) - movie[o.meta.number].astype(int)).max() for o in outputs[5:]]
    assert min(errors) > 50


@pytest.mark.parametrize(("shifts", "expected"), [(walk(40), True), (np.zeros((40, 2), np.int64), False)])
def test_the_calibration_frames_decide(bundle: Bundle, shifts: Shifts, expected: bool) -> None:
    movie = np.random.default_rng(2).poisson(movie_of(shifts) / 20).astype(np.uint16) * 20
    with Stream(bundle, "onnxruntime-cpu") as stream:
        outputs = push_all(stream, movie)
        assert stream.tracks_motion is expected
        assert stream.rebinds == ()
        assert stream.counters.emitted == len(outputs) == 40


def test_a_scene_that_drifts_away_starts_the_stream_anew(bundle: Bundle) -> None:
    shifts = np.stack([np.arange(60), np.zeros(60, np.int64)], axis=1)
    movie = movie_of(shifts)
    with Stream(bundle, "onnxruntime-cpu", align=True, intensity=CAMERA, light=False) as stream:
        outputs = push_all(stream, movie)
        assert [o.meta.number for o in outputs] == list(range(60))
        assert stream.rebinds
        assert all(
            r.motion == "drifted" and r.old_shape == r.new_shape == (SIZE, SIZE) for r in stream.rebinds
        )
        counters = stream.counters
        assert counters.received == counters.emitted == 60
    assert all(o.frame.shape == (SIZE, SIZE) for o in outputs)


def test_a_change_of_shape_keeps_following(bundle: Bundle, tmp_path: Path) -> None:
    movie = movie_of(walk(30))
    with Stream(bundle, "onnxruntime-cpu", align=True, intensity=CAMERA, light=False) as stream:
        outputs = []
        for number, frame in enumerate(movie):
            cut = frame if number < 15 else frame[:64, :72]
            outputs += stream.push(cut, FrameMeta(number=number, t_received_s=0.0))
        outputs += stream.flush()
        assert stream.tracks_motion
        assert [r.motion for r in stream.rebinds] == [None]
    assert [o.frame.shape for o in outputs] == [(SIZE, SIZE)] * 15 + [(64, 72)] * 15


@pytest.mark.parametrize("backend", ["onnxruntime-cpu", "openvino"])
def test_a_scene_that_begins_to_move_is_followed_from_then_on(bundle: Bundle, backend: str) -> None:
    pytest.importorskip("openvino")
    shifts = np.concatenate([np.zeros((60, 2), np.int64), walk(150)])
    movie = np.random.default_rng(5).poisson(movie_of(shifts) / 20).astype(np.uint16) * 20
    with Stream(bundle, backend) as stream:
        assert stream.watches_for_motion
        outputs = push_all(stream, movie)
        assert stream.tracks_motion
        assert not stream.watches_for_motion
        assert [r.motion for r in stream.rebinds] == ["moves"]
        at = stream.rebinds[0].number
        assert 60 < at < 190
        assert stream.counters.emitted == len(movie)
    assert [o.meta.number for o in outputs] == list(range(len(movie)))
    with Stream(bundle, backend, align=True, intensity=stream.intensity) as afresh:
        again = [
            output
            for number in range(at, len(movie))
            for output in afresh.push(movie[number], FrameMeta(number=number, t_received_s=0.0))
        ] + afresh.flush()
    for found, expected in zip(outputs[at:], again, strict=True):
        np.testing.assert_array_equal(found.frame, expected.frame)


def test_what_was_told_stays(bundle: Bundle) -> None:
    movie = np.random.default_rng(5).poisson(movie_of(walk(120)) / 20).astype(np.uint16) * 20
    with Stream(bundle, "onnxruntime-cpu") as stream:
        stream.track_motion(False)
        assert not stream.watches_for_motion
        push_all(stream, movie)
        assert not stream.tracks_motion
        stream.track_motion(True)
        stream.push(movie[0], FrameMeta(number=0, t_received_s=0.0))
        assert stream.tracks_motion
        with pytest.raises(InvalidInput, match="flush"):
            stream.track_motion(False)
