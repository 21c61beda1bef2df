"""The correlation of noise is found whatever moves, and white noise is called white."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from denoscope.runtime import InvalidInput, NoiseCorrelation, choose_blind_spot, measure_noise_correlation

FloatArray = npt.NDArray[np.float64]

T, H, W = 48, 112, 128


def photons(rng: np.random.Generator, light: float = 1.0) -> FloatArray:
    """Two blobs on a background of two photons."""
    y, x = np.indices((H, W))
    image = 2 + 20 * np.exp(-((y - 60) ** 2 + (x - 50) ** 2) / 400)
    image += 10 * np.exp(-((y - 30) ** 2 + (x - 100) ** 2) / 8)
    return rng.poisson(np.broadcast_to(light * image, (T, H, W))).astype(np.float64)


def white(rng: np.random.Generator) -> FloatArray:
    return photons(rng) + rng.normal(0, 1, (T, H, W))


def starved(rng: np.random.Generator) -> FloatArray:
    return photons(rng, 0.02) * 100 + rng.normal(0, 5, (T, H, W))


def bleed(rng: np.random.Generator) -> FloatArray:
    movie = photons(rng)
    return 0.94 * movie + 0.06 * np.roll(movie, 1, axis=2)


def rows(rng: np.random.Generator) -> FloatArray:
    return photons(rng) + rng.normal(0, 1, (T, H, 1))


def rows_and_bleed(rng: np.random.Generator) -> FloatArray:
    return bleed(rng) + rng.normal(0, 1, (T, H, 1))


def interpolated(rng: np.random.Generator) -> FloatArray:
    """Bilinear shifts by a part of a pixel, as motion correction makes them."""
    movie = photons(rng)
    for frame in movie:
        for axis in (0, 1):
            share = rng.uniform(0.2, 0.8)
            frame[:] = (1 - share) * frame + share * np.roll(frame, 1, axis=axis)
    return movie


def flicker(rng: np.random.Generator) -> FloatArray:
    return photons(rng) * (1 + 0.2 * rng.normal(size=(T, 1, 1)))


def bleaching(rng: np.random.Generator) -> FloatArray:
    return rng.poisson(20 * np.exp(-np.arange(T) / 20)[:, None, None] * np.ones((1, H, W))).astype(float)


def jitter(rng: np.random.Generator) -> FloatArray:
    still = photons(rng, 0.3).mean(0)
    return np.stack(
        [rng.poisson(np.roll(still, tuple(rng.integers(-2, 3, 2)), (0, 1))) for _ in range(T)]
    ).astype(float)


def shaken(rng: np.random.Generator) -> FloatArray:
    """A bright smooth scene that jumps by a pixel or two, which rules the differences of frames."""
    y, x = np.indices((H, W))
    scene = np.full((H, W), 100.0)
    for _ in range(60):
        py, px = rng.uniform(0, [H, W])
        scene += rng.uniform(20, 300) * np.exp(-((y - py) ** 2 + (x - px) ** 2) / rng.uniform(12, 80))
    shifts = np.rint(rng.normal(0, 1.5, (T, 2))).astype(int)
    return rng.poisson([np.roll(scene, tuple(shift), (0, 1)) for shift in shifts]).astype(np.float64)


def particles(rng: np.random.Generator) -> FloatArray:
    """Bright spots that cross the frame at up to four pixels a frame."""
    y, x = np.indices((H, W)).astype(np.float64)
    places, speeds = rng.uniform(0, [H, W], (25, 2)), rng.normal(0, 1.5, (25, 2))
    movie = np.full((T, H, W), 10.0)
    for t in range(T):
        for place, speed in zip(places, speeds, strict=True):
            py, px = (place + t * speed) % (H, W)
            movie[t] += 300 * np.exp(-((y - py) ** 2 + (x - px) ** 2) / 8)
    return rng.poisson(movie).astype(np.float64)


def particles_with_bleed(rng: np.random.Generator) -> FloatArray:
    movie = particles(rng)
    return 0.94 * movie + 0.06 * np.roll(movie, 1, axis=2)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (white, "white"),
        (starved, "white"),
        (flicker, "white"),
        (bleaching, "white"),
        (jitter, "white"),
        (particles, "white"),
        (shaken, "white"),
        (bleed, "bleed"),
        (particles_with_bleed, "bleed"),
        (rows, "row"),
        (rows_and_bleed, "row"),
        (interpolated, "neighbours"),
    ],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_kind_of_noise_is_recognised(
    make: Callable[[np.random.Generator], FloatArray], kind: str, seed: int
) -> None:
    found = measure_noise_correlation(make(np.random.default_rng(seed)))
    assert found.kind == kind
    assert choose_blind_spot(found) == ("cell" if kind == "white" else kind)
    assert (found.warning() is None) == (kind == "white" and not found.scene)
    assert not found.scene or make is shaken


def test_the_values_are_right() -> None:
    rng = np.random.default_rng(5)
    found = measure_noise_correlation(bleed(rng))
    assert found.along_row == pytest.approx(0.06 * 0.94 / (0.06**2 + 0.94**2), abs=5 * found.error)
    assert np.abs(found.lags[[0, 1, 2, 4, 5, 6]]).max() < 6 * found.error
    assert found.lags[3, 3] == 1
    np.testing.assert_array_equal(found.lags, found.lags[::-1, ::-1])
    assert found.samples == (T // 10) * 8 * (H - 14) * (W - 14)

    noise = rng.normal(0, 2, (T, H, W)) + rng.normal(0, 1, (T, H, 1)) + rng.normal(0, 1, (T, 1, 1))
    found = measure_noise_correlation(noise)
    assert found.row == pytest.approx(1 / 6, abs=0.02)
    assert found.frame == pytest.approx(1 / 6, abs=0.1)


def test_the_standard_error_holds() -> None:
    rng = np.random.default_rng(6)
    results = [measure_noise_correlation(rng.normal(0, 1, (20, 64, 64))) for _ in range(40)]
    values = np.array([r.along_row for r in results])
    assert values.std() == pytest.approx(np.mean([r.error for r in results]), rel=0.5)
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_averaging_cameras_are_noticed(frames: int) -> None:
    single = white(np.random.default_rng(7))
    movie = np.mean([single[i : T - frames + i] for i in range(frames)], axis=0)
    found = measure_noise_correlation(movie)
    if frames == 1:
        assert found.time == pytest.approx(0, abs=0.03)
        return
    assert found.time == pytest.approx(0.5, abs=0.03) if frames == 2 else found.time > 0.3
    warning = found.warning()
    assert warning is not None
    assert "in time" in warning


def test_the_warning_gives_value_limit_and_what_is_done() -> None:
    warning = measure_noise_correlation(bleed(np.random.default_rng(0))).warning()
    assert warning == (
        "neighbouring pixels of a row share some noise (correlation 0.06, independent pixels: below 0.015); "
        "the model handles it, nothing to do"
    )


def test_a_scene_that_rules_everything_is_admitted() -> None:
    lags = np.zeros((7, 7))
    lags[3, 3], lags[3, [2, 4]], lags[[2, 4], 3], lags[[1, 5], 3] = 1, 0.2, 0.19, 0.1
    found = NoiseCorrelation(lags, row=0.0, frame=0.0, time=0.1, error=0.01, samples=1000, scene=True)
    assert found.kind == "white"
    assert "scene moves too much" in str(found.warning())
    rng = np.random.default_rng(9)
    scene = rng.normal(0, 1, (40, 128, 128))
    for axis in (1, 2):
        scene = (scene + np.roll(scene, 1, axis) + np.roll(scene, 2, axis)) / np.sqrt(3)
    strength = np.geomspace(0.4, 4000, 64).reshape(8, 8).repeat(16, axis=0).repeat(16, axis=1)
    assert measure_noise_correlation(strength * scene + rng.normal(0, 1, scene.shape)).scene


@pytest.mark.parametrize("shape", [(4, 32, 32), (5, 30, 33), (100, 31, 40), (12, 600, 40)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_any_size_and_dtype_works(shape: tuple[int, int, int], dtype: Any) -> None:
    frames = np.random.default_rng(10).poisson(20, shape).astype(dtype)
    assert np.isfinite(measure_noise_correlation(frames).lags).all()


def test_a_movie_without_noise_is_white() -> None:
    found = measure_noise_correlation(np.full((8, 40, 40), 7, np.uint8))
    assert (found.kind, found.warning()) == ("white", None)


@pytest.mark.parametrize(
    ("frames", "complaint"),
    [
        (np.zeros((3, 64, 64)), "at least 4 frames"),
        (np.zeros((64, 64)), "T, H, W"),
        (np.zeros((8, 20, 64)), "30 x 30"),
        (np.full((8, 64, 64), np.inf), "NaN"),
    ],
)
def test_bad_movies_are_refused(frames: npt.NDArray[Any], complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint), np.errstate(invalid="ignore"):
        measure_noise_correlation(frames)
