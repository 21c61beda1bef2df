"""A wrong argument is one sentence with the value and the remedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from denoscope.runtime import (
    DenoscopeError,
    FrameMeta,
    InvalidInput,
    Stream,
    as_float32,
    estimate_intensity,
    filled_when_read,
    frames_to_measure,
    measure_noise_correlation,
    measure_saturation,
    measure_scanner,
    open_movie,
    without_holes,
)

_MOVIE = np.random.default_rng(0).poisson(6, (34, 48, 48)).astype(np.float32)


@pytest.mark.parametrize(
    "wrong",
    [
        {"look_ahead": "a"},
        {"look_ahead": 1.5},
        {"look_ahead": True},
        {"threads": "two"},
        {"threads": 0},
        {"start_within_s": "soon"},
        {"start_within_s": float("nan")},
        {"start_within_s": -1},
        {"intensity": 3},
        {"scanner": {"columns": ()}},
        {"bundle": 3},
        {"bundle": None},
        {"backend": 3},
        {"std": "yes"},
        {"std": 1},
        {"light": None},
        {"align": "yes"},
        {"fix_line_offset": "no"},
    ],
)
def test_a_wrong_argument_of_a_stream_is_refused(wrong: dict[str, Any]) -> None:
    value = next(iter(wrong.values()))
    with pytest.raises(DenoscopeError, match=r": .+\.|;") as refused:
        Stream(**({"bundle": "live-fast"} | wrong))
    assert repr(value) in str(refused.value)


@pytest.mark.parametrize(
    "meta",
    [
        FrameMeta(1.5, 0.0),  # type: ignore[arg-type]
        FrameMeta("1", 0.0),  # type: ignore[arg-type]
        FrameMeta(None, 0.0),  # type: ignore[arg-type]
        FrameMeta(0, float("nan")),
        FrameMeta(0, "now"),  # type: ignore[arg-type]
        7,
    ],
)
def test_a_frame_comes_with_a_whole_number_and_a_time(meta: Any) -> None:
    with Stream("live-fast") as stream:
        with pytest.raises(InvalidInput):
            stream.push(_MOVIE[0], meta)
        assert stream.push(_MOVIE[0], FrameMeta(np.int64(0), np.float64(0))) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given", [(3, "uint16"), ((64, "a"), "uint16"), ((64, 64), "foo"), ((64.5, 64), "uint8")]
)
def test_what_cannot_be_prepared_is_refused(given: Any) -> None:
    with Stream("live-fast") as stream, pytest.raises(InvalidInput):
        stream.prepare(*given)


@pytest.mark.parametrize("scale", [1e32, -1e32, 1e20, 1e-32])
def test_values_whose_squares_are_no_numbers_are_refused(scale: float) -> None:
    movie = _MOVIE * np.float32(scale)
    for measure in (estimate_intensity, measure_noise_correlation, measure_scanner):
        with pytest.raises(InvalidInput, match="constant"):
            measure(movie)


@pytest.mark.parametrize("scale", [2.0**40, 2.0**-38])
def test_the_noise_has_the_scale_of_the_movie(scale: float) -> None:
    one, other = estimate_intensity(_MOVIE), estimate_intensity(_MOVIE * np.float32(scale))
    assert other.scale == pytest.approx(one.scale * scale)
    assert other.offset == pytest.approx(one.offset * scale)


def _denoised(movie: Any) -> np.ndarray:
    with Stream("live-fast", look_ahead=0) as stream:
        outputs = [out for n, frame in enumerate(movie) for out in stream.push(frame, FrameMeta(n, 0.0))]
    return np.stack([out.frame for out in outputs])


def test_masked_pixels_of_floats_are_missing() -> None:
    masked = np.ma.masked_array(_MOVIE.copy(), np.zeros(_MOVIE.shape, bool))
    masked[:, 10:14, 20:25] = np.ma.masked
    holes = masked.filled(np.nan)
    assert np.array_equal(_denoised(masked), _denoised(holes), equal_nan=True)
    assert np.isnan(_denoised(masked)[-1]).sum() == 20
    assert estimate_intensity(masked) == estimate_intensity(holes)


def test_masked_pixels_of_integers_are_refused() -> None:
    frame = np.ma.masked_greater(_MOVIE[0].astype(np.uint16), 9)
    with Stream("live-fast") as stream:
        with pytest.raises(InvalidInput, match=r"masked pixels.+float32"):
            stream.push(frame, FrameMeta(0, 0.0))
        nothing_masked = np.ma.masked_array(frame.data)
        assert stream.push(nothing_masked, FrameMeta(0, 0.0)) == []


@pytest.mark.parametrize(
    "measure",
    [
        as_float32,
        estimate_intensity,
        filled_when_read,
        frames_to_measure,
        measure_noise_correlation,
        measure_saturation,
        measure_scanner,
        without_holes,
    ],
)
@pytest.mark.parametrize(
    "given",
    [[1, 2], 3, "a", None, _MOVIE[0], _MOVIE[:0], np.full((34, 48, 48), "a"), _MOVIE.astype(complex)],
    ids=["list", "number", "text", "none", "frame", "empty", "texts", "complex"],
)
def test_what_is_no_movie_is_refused(measure: Any, given: Any) -> None:
    with pytest.raises(InvalidInput, match=r"give .*T, H, W"):
        measure(given)


@pytest.mark.parametrize("path", [3, None, b"movie.tif", 1.5])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(InvalidInput, match="give the path"):
        open_movie(path)


def test_frames_are_skipped_for_a_reason_in_words() -> None:
    with Stream("live-fast") as stream:
        for skip in (3, "", True):
            with pytest.raises(InvalidInput, match="reason in words"):
                stream.push(_MOVIE[0], FrameMeta(0, 0.0), skip=skip)  # type: ignore[arg-type]
            with pytest.raises(InvalidInput, match="reason in words"):
                stream.flush(skip=skip)  # type: ignore[arg-type]
        assert stream.counters.received == 0
        for call in (stream.use_scanner, stream.expect, stream.track_motion):
            with pytest.raises(InvalidInput):
                call("no")  # type: ignore[operator]
        assert stream.push(_MOVIE[0], FrameMeta(0, 0.0), skip="busy") == []
