"""The generalised Anscombe transform stabilises, and its inverse has no bias, from 0.1 to 1000 photons."""

from __future__ import annotations

import math
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from denoscope.runtime import GeneralisedAnscombe, InvalidInput, estimate_intensity

LIGHT = [0.1, 0.3, 1.0, 3.0, 10.0, 100.0, 1000.0]
GAIN, OFFSET = 3.0, 100.0


def record(light: float, sigma: float, seed: int, n: int = 400_000) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return GAIN * (rng.poisson(light, n) + rng.normal(0, sigma, n)) + OFFSET


@pytest.mark.parametrize("sigma", [0.0, 0.5, 2.0, 10.0])
@pytest.mark.parametrize("light", LIGHT)
def test_the_inverse_of_the_mean_is_the_light(light: float, sigma: float) -> None:
    transform = GeneralisedAnscombe(GAIN, OFFSET, GAIN * sigma)
    z = transform.forward(record(light, sigma, seed=1))
    mean, error = float(z.mean()), float(z.std()) / math.sqrt(z.size)
    low, found, high = (
        (transform.inverse(np.array(mean + k * error)) - OFFSET) / GAIN for k in (-4.5, 0.0, 4.5)
    )
    assert low < light < high
    assert found == pytest.approx(light, rel=0.02, abs=0.1 if sigma == 10 else 0.02)


@pytest.mark.parametrize("sigma", [0.0, 0.5, 2.0, 10.0])
@pytest.mark.parametrize("light", LIGHT)
def test_the_noise_is_stabilised(light: float, sigma: float) -> None:
    spread = GeneralisedAnscombe(GAIN, OFFSET, GAIN * sigma).forward(record(light, sigma, seed=2)).std()
    if light + sigma**2 >= 3:
        assert spread == pytest.approx(1, abs=0.1)
    else:  # a few photons cannot be stabilised: Poisson noise vanishes with them
        assert spread < 1.02


@pytest.mark.parametrize("sigma", [0.0, 0.3, 3.0, 300.0])
@pytest.mark.parametrize("light", [0.0, 0.02, 0.5, 7.0, 90.0, 4e4])
def test_it_agrees_with_direct_integration(light: float, sigma: float) -> None:
    """The expectation summed and integrated without a table, by a much finer rule."""
    n = np.arange(max(0, int(light - 10 * light**0.5)), int(light + 10 * light**0.5) + 40)
    shares = np.exp([k * math.log(light) - light - math.lgamma(k + 1) for k in n]) if light else n == 0
    t = np.linspace(-10, 10, 20001 if light < 100 else 401)
    weights = np.exp(-(t**2) / 2)
    root = 2 * np.sqrt(np.maximum(n[:, None] + 0.375 + sigma**2 + sigma * t, 0))
    expected = float(shares @ (root @ weights) / weights.sum() / np.sum(shares))
    found = GeneralisedAnscombe(1.0, 0.0, sigma).inverse(np.array(expected))
    assert found == pytest.approx(light, rel=1e-5, abs=2e-5 * max(sigma, 1))


def test_above_the_table_it_goes_on() -> None:
    transform = GeneralisedAnscombe(1.0)
    for light in (9e4, 1.1e5, 1e7):
        z = 2 * math.sqrt(light) * (1 + 1 / (16 * light))  # the first terms of the expectation
        assert transform.inverse(np.array(z)) == pytest.approx(light, abs=0.01)


def test_the_algebraic_inverse_would_be_biased() -> None:
    z = GeneralisedAnscombe(1.0).forward(np.random.default_rng(3).poisson(5.0, 400_000))
    assert GeneralisedAnscombe(1.0).inverse(z.mean()) == pytest.approx(5, abs=0.02)
    assert float(z.mean()) ** 2 / 4 - 0.375 == pytest.approx(4.75, abs=0.02)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
def test_shapes_and_dtypes(dtype: Any) -> None:
    transform = GeneralisedAnscombe(2.0, 10.0, 3.0)
    frames = np.random.default_rng(4).poisson(30, (2, 5, 7)).astype(dtype)
    z = transform.forward(frames)
    back = transform.inverse(z)
    wanted = np.float64 if dtype is np.float64 else np.float32
    assert (z.dtype, back.dtype, z.shape, back.shape) == (wanted, wanted, frames.shape, frames.shape)
    assert frames.dtype == dtype
    np.testing.assert_allclose(back[frames > 20], frames[frames > 20] + 0.5, atol=0.1)
    assert back.min() >= 10
    grid = transform.inverse(np.linspace(-1, 60, 5000))
    assert (np.diff(grid) >= 0).all()


def test_the_transform_of_an_estimated_movie() -> None:
    rng = np.random.default_rng(5)
    image = rng.uniform(2, 60, (96, 96))
    image = (image + np.roll(image, 1, 0) + np.roll(image, 1, 1) + np.roll(image, 2, 0)) / 4
    movie = 4.0 * rng.poisson(np.broadcast_to(image, (60, 96, 96))) + 50 + rng.normal(0, 8, (60, 96, 96))
    transform = GeneralisedAnscombe.of(estimate_intensity(movie), read_noise=8.0)
    assert transform.gain == pytest.approx(4, rel=0.05)
    assert transform.offset == pytest.approx(50, abs=6)
    z = transform.forward(movie)
    assert z.std(axis=0).mean() == pytest.approx(1, abs=0.03)
    np.testing.assert_allclose(transform.inverse(z.mean(0)).mean(), movie.mean(), rtol=0.01)
    with pytest.raises(InvalidInput, match="nothing to stabilise"):
        GeneralisedAnscombe.of(estimate_intensity(np.full((4, 40, 40), 9, np.uint8)))


def test_it_agrees_with_published_codes_of_a_real_movie() -> None:
    """The demo movie's bytes are Anscombe codes in steps of half a standard deviation.

    Decoded one by one they are linear in light, so their mean has no bias. The inverse of the mean
    transformed value must meet it, but for a quarter of the variance above 1 that activity adds.
    """
    file = resources.files("denoscope.acquisition").joinpath("data/demo_2p_gcamp.npz")
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
        codes, levels = data["codes"], data["levels"].astype(np.float64)
    transform = GeneralisedAnscombe(gain=96.995, offset=86.0)
    z = transform.forward(levels)
    np.testing.assert_allclose(np.diff(z[3:]), 0.5, atol=0.01)
    decoded, transformed = levels[codes].mean(0), z[codes].mean(0)
    bright = decoded > transform.offset + 2 * transform.gain
    excess = np.median(z[codes].var(0)[bright]) - 1
    gap = np.median((transform.inverse(transformed) - decoded)[bright]) / transform.gain
    assert gap == pytest.approx(-excess / 4, abs=0.02)
    algebraic = (transformed**2 / 4 - 0.375) * transform.gain + transform.offset
    assert np.median((algebraic - decoded)[bright]) / transform.gain == pytest.approx(gap - 0.25, abs=0.02)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ((0.0, 0.0, 0.0), "above 0"),
        ((math.nan, 0.0, 0.0), "above 0"),
        ((1.0, math.inf, 0.0), "finite"),
        ((1.0, 0.0, -1.0), "0 to 1000"),
        ((1.0, 0.0, 1001.0), "0 to 1000"),
        ((1.0, 0.0, math.nan), "0 to 1000"),
    ],
)
def test_impossible_cameras_are_refused(values: tuple[float, float, float], complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        GeneralisedAnscombe(*values)
