"""Pixels that are NaN or infinite: they stay NaN, and what is beside them is denoised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from denoscope.runtime import (
    Bundle,
    Denoised,
    FrameMeta,
    InvalidInput,
    Stream,
    estimate_intensity,
    measure_noise_correlation,
    measure_saturation,
    measure_scanner,
    moves_anywhere,
)
from denoscope.runtime.movies.holes import filled, filled_when_read, measured_part, without_holes
from support.tiny_bundle import tiny_bundle

BACKEND = "onnxruntime-cpu"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder: Path = tmp_path_factory.mktemp("bundles") / "tiny.denoscope"
    return tiny_bundle(folder, intensity=None, calibration_frames=16)


def movie(count: int = 48, *, seed: int = 0, edge: int = 48) -> npt.NDArray[np.float32]:
    """Return noisy frames of float32 with some structure."""
    rng = np.random.default_rng(seed)
    light = 20 + 15 * np.sin(np.arange(edge) / 5)[:, None] * np.cos(np.arange(edge) / 7)
    return rng.poisson(light, (count, edge, edge)).astype(np.float32) * 3 + 100


def run(
    bundle: Bundle, frames: dict[int, npt.NDArray[Any]], *, look_ahead: int | None = None, **settings: Any
) -> dict[int, Denoised]:
    """Push frames by their number; return what comes out, in order, with nothing lost."""
    outputs: list[Denoised] = []
    with Stream(bundle, BACKEND, look_ahead=look_ahead, **settings) as stream:
        for number, frame in frames.items():
            outputs += stream.push(frame, FrameMeta(number, 0.0))
            counters = stream.counters
            assert counters.received == counters.emitted + counters.in_flight
        outputs += stream.flush()
        assert stream.counters.in_flight == 0
    assert [out.meta.number for out in outputs] == list(frames)
    return {out.meta.number: out for out in outputs}


def test_a_hole_is_filled_with_the_nearest_pixel_of_its_row_then_of_a_row() -> None:
    nan, inf = np.nan, np.inf
    frame = np.array([[nan, nan, nan], [nan, 2, 3], [4, inf, 6], [7, 8, nan], [nan, -inf, nan]], np.float32)
    before = frame.copy()
    assert filled(frame).tolist() == [[2, 2, 3], [2, 2, 3], [4, 4, 6], [7, 8, 8], [7, 8, 8]]
    np.testing.assert_array_equal(frame, before)
    whole = np.ones((4, 5), np.float32)
    assert filled(whole) is whole


def test_filling_equals_a_search_pixel_by_pixel() -> None:
    rng = np.random.default_rng(3)
    for share in (0.02, 0.3, 0.8):
        frame = rng.normal(size=(17, 23)).astype(np.float32)
        frame[rng.random(frame.shape) < share] = np.nan
        frame[5:8] = np.nan
        expected = frame.copy()
        for y, row in enumerate(frame):
            there = np.flatnonzero(np.isfinite(row))
            for x in np.flatnonzero(~np.isfinite(row)) if len(there) else ():
                expected[y, x] = row[there[np.abs(there - x).argmin()]]
        some = np.flatnonzero(np.isfinite(expected).all(axis=1))
        for y in np.flatnonzero(~np.isfinite(expected).all(axis=1)):
            expected[y] = expected[some[np.abs(some - y).argmin()]]
        np.testing.assert_array_equal(filled(frame), expected)


@pytest.mark.parametrize("look_ahead", [0, None])
@pytest.mark.parametrize("align", [False, None])
def test_holes_are_nan_in_the_output_and_all_else_is_denoised(
    bundle: Bundle, look_ahead: int | None, align: bool | None
) -> None:
    frames = movie()
    frames[:, :3], frames[:, :, -4:] = np.nan, np.nan
    frames[7, 20, 20], frames[9, 21, 22], frames[40, 20:24, 6] = np.inf, -np.inf, np.nan
    holes = ~np.isfinite(frames)
    outputs = run(
        bundle, dict(enumerate(frames)), look_ahead=look_ahead, std=bundle.manifest.predicts_std, align=align
    )
    inside = np.stack([filled(frame) for frame in frames])
    plain = run(bundle, dict(enumerate(inside)), look_ahead=look_ahead, align=align)
    for number, out in outputs.items():
        np.testing.assert_array_equal(np.isnan(out.frame), holes[number])
        assert np.isfinite(out.frame[~holes[number]]).all()
        # The rest is what a movie gives that was filled beforehand.
        np.testing.assert_array_equal(
            out.frame[~holes[number]], plain[number].frame[~holes[number]].astype(out.frame.dtype)
        )
        if out.std is not None:
            np.testing.assert_array_equal(np.isnan(out.std), holes[number])


@pytest.mark.parametrize(
    "blank", [[20], [20, 21, 22], [0, 1], [46, 47], [3, 31, 32, 40], list(range(10, 30))]
)
@pytest.mark.parametrize("look_ahead", [0, None])
def test_a_frame_of_nothing_but_nan_is_a_missing_frame_for_its_neighbours(
    bundle: Bundle, blank: list[int], look_ahead: int | None
) -> None:
    frames = dict(enumerate(movie()))
    there = {number: frame for number, frame in frames.items() if number not in blank}
    with_blanks = {n: np.full_like(f, np.nan) if n in blank else f for n, f in frames.items()}
    outputs = run(bundle, with_blanks, look_ahead=look_ahead)
    missing = run(bundle, there, look_ahead=look_ahead)
    for number, out in outputs.items():
        if number in blank:
            assert out.frame.dtype == np.float32
            assert np.isnan(out.frame).all()
        else:
            np.testing.assert_array_equal(out.frame, missing[number].frame)


def test_frames_of_nan_are_returned_as_soon_as_any_other(bundle: Bundle) -> None:
    frames = movie(60)
    frames[40:] = np.nan
    with Stream(bundle, BACKEND) as stream:
        for number, frame in enumerate(frames):
            stream.push(frame, FrameMeta(number, 0.0))
        assert stream.counters.in_flight == stream.look_ahead


def test_a_calibration_does_not_wait_for_ever_for_frames_with_values(bundle: Bundle) -> None:
    frames = {n: np.full((48, 48), np.nan, np.float32) for n in range(200)} | dict(enumerate(movie(5)))
    outputs = run(bundle, frames)
    assert all(np.isnan(outputs[n].frame).all() == (n >= 5) for n in frames)


def test_frames_of_nan_that_are_skipped_are_counted(bundle: Bundle) -> None:
    frames = movie(40)
    frames[36:] = np.nan
    with Stream(bundle, BACKEND) as stream:
        for number, frame in enumerate(frames):
            stream.push(frame, FrameMeta(number, 0.0), skip="late")
        stream.flush(skip="late")
        assert stream.counters.dropped == {"late": 40}
        # Numbers may begin anew: no hole of before is left.
        frame = frames[0].copy()
        outputs = stream.push(frame, FrameMeta(36, 0.0)) + stream.flush()
    assert np.isfinite(outputs[0].frame).all()


def test_a_movie_of_nothing_but_nan_comes_out_as_it_is(bundle: Bundle) -> None:
    outputs = run(bundle, {n: np.full((24, 24), np.nan, np.float32) for n in range(50)})
    assert all(np.isnan(out.frame).all() for out in outputs.values())


def test_a_border_of_nan_changes_no_measurement_of_a_movie() -> None:
    plain = movie(64, edge=96)
    cropped = plain[:, 8:, :-10]
    framed = plain.copy()
    framed[:, :8], framed[:, :, -10:] = np.nan, np.nan
    framed[30] = np.nan
    without = np.delete(cropped, 30, axis=0)
    assert measured_part(framed) == (slice(8, 96), slice(0, 86))
    assert estimate_intensity(framed) == estimate_intensity(without)
    correlation = measure_noise_correlation(framed)
    assert correlation.kind == measure_noise_correlation(cropped).kind == "white"
    assert measure_scanner(framed) == measure_scanner(plain)
    assert measure_saturation(framed) == measure_saturation(without)
    intensity = estimate_intensity(framed)
    assert not moves_anywhere(framed, intensity)


def test_scattered_holes_hardly_change_the_noise_estimate() -> None:
    plain = movie(32, edge=64)
    dotted = plain.copy()
    dotted[np.random.default_rng(5).random(plain.shape) < 0.02] = np.nan
    found, true = estimate_intensity(dotted), estimate_intensity(plain)
    assert found.scale == pytest.approx(true.scale, rel=0.05)
    assert found.gain == pytest.approx(true.gain, rel=0.15)


def test_a_session_with_wide_borders_estimates_the_noise_of_the_rest(bundle: Bundle) -> None:
    plain = movie(16, edge=64)
    framed = plain.copy()
    framed[:, :6], framed[:, :, -6:] = np.nan, np.nan
    with Stream(bundle, BACKEND) as stream:
        for number, frame in enumerate(framed):
            stream.push(frame, FrameMeta(number, 0.0))
        stream.flush()
        assert stream.intensity is not None
        assert stream.intensity.scale == pytest.approx(estimate_intensity(plain[:, 6:, :-6]).scale, rel=0.05)


def test_frames_without_a_finite_value_cannot_be_measured() -> None:
    for measure in (estimate_intensity, measure_noise_correlation, measure_saturation):
        with pytest.raises(InvalidInput, match="NaN"):
            measure(np.full((8, 64, 64), np.nan, np.float32))


def test_movies_to_train_on_lose_borders_and_frames_of_nan_in_all_alike() -> None:
    noisy, clean = movie(20, edge=64), movie(20, seed=1, edge=64)
    framed = noisy.copy()
    framed[:, :3], framed[4], framed[7, 30, 30] = np.nan, np.nan, np.inf
    one, two = without_holes(framed, clean)
    np.testing.assert_array_equal(two, np.delete(clean, 4, axis=0)[:, 3:])
    expected = np.delete(noisy, 4, axis=0)[:, 3:]
    expected[6, 27, 30] = expected[6, 27, 29]
    np.testing.assert_array_equal(one, expected)
    assert without_holes(noisy)[0] is noisy
    with pytest.raises(InvalidInput, match="NaN"):
        without_holes(np.full((3, 20, 20), np.nan, np.float32))


def test_a_movie_on_disk_is_cut_and_filled_as_it_is_read() -> None:
    frames = movie(20, edge=40)
    frames[:, :3], frames[:, :, -2:], frames[4], frames[7, 20, 11] = np.nan, np.nan, np.nan, np.nan
    read = filled_when_read(frames)
    assert read.shape == (20, 37, 38)
    np.testing.assert_array_equal(np.asarray(read[7]), filled(frames[7, 3:, :-2]))
    np.testing.assert_array_equal(np.asarray(read[5:8, 2:9, 4:30]), frames[5:8, 5:12, 4:30])
    assert np.isfinite(np.asarray(read)).all()
