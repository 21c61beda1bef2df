"""The photon-transfer fit finds gain and read noise, whatever moves, and never divides by zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from denoscope.runtime import Intensity, InvalidInput, estimate_intensity
from denoscope.runtime.noise import noise as noise_module
from support.field_inputs import DETECTORS, detected

SHAPE = (96, 112)


def tissue(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Blobs of 2 to 40 photons on a background of 2."""
    rows, columns = np.indices(SHAPE)
    image = np.full(SHAPE, 2.0)
    for _ in range(40):
        y, x, size = rng.uniform(0, SHAPE[0]), rng.uniform(0, SHAPE[1]), rng.uniform(3, 9)
        image += rng.uniform(2, 30) * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * size**2))
    return image


def record(
    photons: npt.NDArray[np.float64], gain: float, read: float, rng: np.random.Generator, offset: float = 100
) -> npt.NDArray[Any]:
    counts = gain * rng.poisson(photons) + offset + rng.normal(0, read, photons.shape)
    return np.rint(counts).clip(0, 65535).astype(np.uint16)


@pytest.mark.parametrize("length", [4, 32])
@pytest.mark.parametrize(("gain", "read"), [(2.0, 5.0), (10.0, 4.0), (50.0, 20.0)])
def test_finds_gain_and_read_noise(gain: float, read: float, length: int) -> None:
    rng = np.random.default_rng(3)
    image = tissue(rng)
    found = estimate_intensity(record(np.broadcast_to(image, (length, *SHAPE)), gain, read, rng))
    assert found.gain == pytest.approx(gain, rel=0.1 if length == 32 else 0.2)
    level = float(np.median(image))
    assert found.offset == pytest.approx(100 + gain * level, rel=0.02)
    assert found.scale == pytest.approx(np.sqrt(gain**2 * level + read**2), rel=0.05)
    darkest = gain**2 * np.quantile(image, 1 / 64) + read**2
    assert found.noise_floor * found.scale**2 == pytest.approx(darkest, rel=0.25)


def test_finds_read_noise_alone() -> None:
    rng = np.random.default_rng(4)
    found = estimate_intensity(record(np.zeros((32, *SHAPE)), 1.0, 6.0, rng))
    assert found.scale == pytest.approx(6.0, rel=0.05)
    assert found.noise_slope * 10 < 1


def test_few_photons_do_not_bias_it() -> None:
    rng = np.random.default_rng(5)
    image = 0.02 * tissue(rng)
    found = estimate_intensity(record(np.broadcast_to(image, (32, *SHAPE)), 40.0, 2.0, rng))
    assert found.gain == pytest.approx(40.0, rel=0.1)


def test_activity_and_motion_hardly_move_it() -> None:
    rng = np.random.default_rng(6)
    image = tissue(rng)
    movie = np.stack([np.roll(image, (t // 5, t // 7), (0, 1)) for t in range(32)])
    movie[12:20, 20:32, 30:42] *= 3  # a cell fires
    found = estimate_intensity(record(movie, 10.0, 4.0, rng))
    assert found.gain == pytest.approx(10.0, rel=0.1)


@pytest.mark.parametrize("bleed", [0.0, 0.06])
@pytest.mark.parametrize("light", [1.0, 30.0])
@pytest.mark.parametrize("motion", [1.0, 3.0])
def test_a_shaken_bright_scene_is_not_taken_for_noise(light: float, motion: float, bleed: float) -> None:
    """At a thousand photons jumps of a pixel change it by many times its noise."""
    rng = np.random.default_rng(11)
    image = light * tissue(rng)
    shifts = np.rint(rng.normal(0, motion, (32, 2))).astype(int)
    expected = np.stack([np.roll(image, tuple(shift), (0, 1)) for shift in shifts])
    counts = 10.0 * rng.poisson(expected) + 100.0
    counts = (1 - bleed) * counts + bleed * np.roll(counts, 1, 2) + rng.normal(0, 4, counts.shape)
    found = estimate_intensity(np.rint(counts).astype(np.uint16))
    gain = 10.0 * ((1 - bleed) ** 2 + bleed**2)
    assert found.gain == pytest.approx(gain, rel=0.12)
    assert found.scale**2 == pytest.approx(gain * 10 * np.median(expected.mean(0)) + 16, rel=0.12)


def test_noise_shared_by_rows_stays_in_the_estimate() -> None:
    rng = np.random.default_rng(12)
    image = tissue(rng)
    movie = record(np.broadcast_to(image, (32, *SHAPE)), 1.0, 4.0, rng) + rng.normal(0, 4, (32, SHAPE[0], 1))
    assert estimate_intensity(movie).scale == pytest.approx(np.sqrt(np.median(image) + 32), rel=0.05)


def test_interpolated_noise_is_not_taken_for_motion() -> None:
    rng = np.random.default_rng(13)
    movie = record(np.broadcast_to(tissue(rng), (32, *SHAPE)), 10.0, 4.0, rng).astype(np.float32)
    smooth = (movie + np.roll(movie, 1, 1)) / 2
    smooth = (smooth + np.roll(smooth, 1, 2)) / 2
    assert estimate_intensity(smooth).gain == pytest.approx(2.5, rel=0.1)


def test_saturated_pixels_are_left_out() -> None:
    rng = np.random.default_rng(7)
    image = tissue(rng)
    image[:20] = 4000
    counts = record(np.broadcast_to(image, (32, *SHAPE)), 20.0, 4.0, rng)
    assert (counts == 65535).any()
    assert estimate_intensity(counts).gain == pytest.approx(20.0, rel=0.1)


def test_one_frame_is_enough_for_a_smooth_image() -> None:
    rng = np.random.default_rng(8)
    rows, columns = np.indices(SHAPE)
    found = estimate_intensity(record((2 + rows + 0.3 * columns)[None], 10.0, 4.0, rng))
    assert found.gain == pytest.approx(10.0, rel=0.15)


def test_a_large_frame_is_sampled() -> None:
    rng = np.random.default_rng(9)
    image = np.tile(tissue(rng), (8, 8))
    found = estimate_intensity(record(np.broadcast_to(image, (3, *image.shape)), 10.0, 4.0, rng))
    assert found.gain == pytest.approx(10.0, rel=0.1)


@pytest.mark.parametrize("unit", [1.0, 1e-4])
def test_floating_point_counts_may_have_any_unit(unit: float) -> None:
    rng = np.random.default_rng(10)
    movie = record(np.broadcast_to(tissue(rng), (32, *SHAPE)), 10.0, 4.0, rng)
    found = estimate_intensity((movie * unit).astype(np.float32))
    assert found.gain == pytest.approx(10.0 * unit, rel=0.1)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("value", [0, 7, 127])
@pytest.mark.parametrize("shape", [(32, 24, 24), (1, 16, 16), (2, 1, 1)])
def test_a_constant_movie_works(dtype: str, value: int, shape: tuple[int, int, int]) -> None:
    found = estimate_intensity(np.full(shape, value, dtype))
    assert found.offset == value
    assert found.scale > 0
    assert found.noise_slope == 0
    assert found.noise_floor == pytest.approx(1)


def test_a_movie_saturated_throughout_works() -> None:
    assert estimate_intensity(np.full((3, 20, 20), 255, np.uint8)).noise_slope == 0


@pytest.mark.parametrize(
    ("frames", "complaint"),
    [
        (np.zeros((16, 16)), "T, H, W"),
        (np.zeros((0, 16, 16)), "at least one frame"),
        (np.full((2, 16, 16), np.nan), "NaN"),
    ],
)
def test_bad_movies_are_refused(frames: npt.NDArray[Any], complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        estimate_intensity(frames)


@pytest.mark.parametrize("field", ["offset", "scale", "noise_slope", "noise_floor"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_intensity_is_finite(field: str, value: float) -> None:
    good = {"offset": 0.0, "scale": 1.0, "noise_slope": 0.0, "noise_floor": 1.0}
    with pytest.raises(ValidationError):
        Intensity(**{**good, field: value})


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_saturated_pixels_say_nothing_of_the_noise(bits: int) -> None:
    rng = np.random.default_rng(4)
    full = 2**bits - 1
    gain = full / 400
    light = np.kron(rng.gamma(1.0, 170.0, (24, 24)), np.ones((4, 4)))
    counts = 0.02 * full + gain * rng.poisson(light, (32, 96, 96))
    frames = np.minimum(np.rint(counts), full).astype(np.uint16)
    assert 0.05 < (frames == full).mean() < 0.2
    assert estimate_intensity(frames).gain == pytest.approx(gain, rel=0.15)


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("photons", [0.01, 0.03, 0.1, 0.3, 3.0, 1000.0])
@pytest.mark.parametrize("length", [4, 16])
def test_the_noise_is_never_off_by_a_factor_of_two(detector: str, photons: float, length: int) -> None:
    """At five frames of few photons the fitted line was negative at the median: 1/12 count^2 was taken."""
    clean, variance, frames = detected(detector, photons, length, seed=3)
    found = estimate_intensity(frames)
    z = (clean - found.offset) / found.scale
    noise = np.maximum(found.noise_slope * z + 1, found.noise_floor) * found.scale**2
    assert 0.7 < noise.mean() / variance.mean() < 1.4
    for part in np.array_split(np.argsort(clean.ravel()), 10):
        assert 0.5 < noise.ravel()[part].mean() / variance.ravel()[part].mean() < 2


@pytest.mark.parametrize(("photons", "length"), [(0.05, 5), (0.05, 32), (0.1, 5), (0.2, 10)])
def test_an_even_field_of_few_pulses_has_its_noise(photons: float, length: int) -> None:
    random = np.random.default_rng(0)
    pulses = random.poisson(photons, (length, 128, 128))
    light = random.gamma(np.maximum(pulses, 1e-9), 1500.0) * (pulses > 0)
    frames = np.clip(1500 + random.normal(0, 150, pulses.shape) + light, 0, 65535).astype(np.uint16)
    noise = np.sqrt(2 * photons * 1500**2 + 150**2)
    assert estimate_intensity(frames).scale == pytest.approx(noise, rel=0.25)


def test_row_noise_counts_where_the_scene_moves() -> None:
    """The high-passed differences lose the share of row noise, which is put back."""
    random = np.random.default_rng(12)
    image = 30 * tissue(random)
    moved = np.stack([np.roll(image, tuple(shift), (0, 1)) for shift in random.integers(-2, 3, (32, 2))])
    rows = random.normal(0, 30, (32, SHAPE[0], 1))
    found = estimate_intensity(record(moved, 1.0, 30.0, random, offset=1000) + rows)
    assert found.scale**2 == pytest.approx(float(np.median(moved)) + 900 + 900, rel=0.2)


def test_bleed_counts_where_the_scene_moves() -> None:
    """The high-passed differences lose what neighbours along a row share, which is put back."""
    random = np.random.default_rng(11)
    image = 3 * tissue(random)
    expected = np.stack([np.roll(image, (t, 2 * t // 3), (0, 1)) for t in range(32)])
    counts = 10.0 * random.poisson(expected) + 100.0
    counts = 0.88 * counts + 0.12 * np.roll(counts, 1, 2)
    found = estimate_intensity(np.rint(counts).astype(np.uint16))
    noise = 10 * (0.88**2 + 0.12**2) * 10 * np.median(expected.mean(0))
    assert found.scale**2 == pytest.approx(noise, rel=0.12)


def test_a_fit_is_not_replaced_where_the_scene_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bright moving scenes the mean difference of frames is no noise: it gave up to 2.8 times as much."""
    random = np.random.default_rng(11)
    rows, columns = np.indices(SHAPE)
    scene = 200 * (1.2 + np.sin(rows / 4.0) * np.sin(columns / 5.0))
    moving = record(np.stack([np.roll(scene, t % 3, 1) for t in range(5)]), 2.0, 3.0, random)
    pulses = detected("gamma pulses", 0.05, 5, seed=3)[2]
    for frames, white in ((moving, False), (pulses, True)):
        _, variance, usable, _ = noise_module._moments(frames)
        assert noise_module._is_white(frames, variance, usable) is white
    replaced = estimate_intensity(pulses)
    monkeypatch.setattr(noise_module, "_is_white", lambda *_: False)
    assert estimate_intensity(pulses).scale < 0.9 * replaced.scale


def test_an_evenly_lit_field_shows_no_gain() -> None:
    """A slope below two standard errors is chance: sixteen fields of pure read noise show none."""
    slopes = []
    for seed in range(16):
        random = np.random.default_rng(seed)
        frames = random.normal(500, 20, (8, 64, 64)).round().astype(np.uint16)
        slopes.append(estimate_intensity(frames).noise_slope)
    assert np.count_nonzero(slopes) <= 2  # chance


@pytest.mark.parametrize(("detector", "photons"), [("gamma pulses", 0.05), ("emccd", 0.03)])
def test_it_says_where_the_fit_failed(detector: str, photons: float) -> None:
    found = estimate_intensity(detected(detector, photons, 16)[2])
    assert found.empirical
    assert "few photons or strong pulses" in (found.warning() or "")
    assert Intensity(**found.model_dump()) == found
    assert found.model_dump()["empirical"]


def test_it_says_nothing_where_the_fit_is_good() -> None:
    found = estimate_intensity(detected("poisson", 10.0, 32)[2])
    assert not found.empirical
    assert found.warning() is None
    assert set(found.model_dump()) == {"offset", "scale", "noise_slope", "noise_floor"}


@pytest.mark.parametrize(
    ("gain", "photons", "shape", "length"),
    [(450.0, 0.0116, (256, 64), 3), (727.0, 0.027, (96, 96), 3), (300.0, 0.02, (96, 96), 16)],
)
def test_single_photons_are_no_structures(
    gain: float, photons: float, shape: tuple[int, int], length: int
) -> None:
    """A few hundred photons in a whole movie were left out as structures: noise 20 times too small, or unwarned."""
    for seed in range(3):
        random = np.random.default_rng(seed)
        light = photons * np.linspace(0.3, 1.7, shape[1]) * np.ones(shape)
        pulses = random.poisson(light, (length, *shape)).astype(np.float64)
        pulses = random.gamma(np.maximum(pulses, 1e-9)) * (pulses > 0)
        frames = np.rint(1500 + gain * pulses + random.normal(0, 5, pulses.shape)).astype(np.uint16)
        found = estimate_intensity(frames)
        truth = 2 * gain**2 * light + 25
        made = found.scale**2 * np.maximum(
            1 + found.noise_slope * (1500 + gain * light - found.offset) / found.scale, found.noise_floor
        )
        assert 0.6 < float(made.mean() / truth.mean()) < 1.6
        assert 0.5 < float(np.median(made / truth)) < 2


def test_a_slope_that_photons_are_too_few_for_is_said() -> None:
    """With 460 photons in all, the brightest tenth came out with half of its noise and without a word."""
    clean, variance, frames = detected("poisson", 0.01, 5, seed=10, shape=(96, 96))
    found = estimate_intensity(frames)
    bright = clean >= np.quantile(clean, 0.9)
    made = found.scale**2 * (1 + found.noise_slope * (clean[bright] - found.offset) / found.scale)
    assert found.empirical or 0.5 < float(made.mean() / variance[bright].mean()) < 2
