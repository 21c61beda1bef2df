"""Verdicts on a residual whose make-up is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from denoscope.runtime import Intensity
from denoscope.train.evaluation.residual import _CONFIDENCE, REACH, _two_sided, analyse_residual, noise_sigma

SIGMA = 10.0
READ_NOISE = Intensity(offset=500, scale=SIGMA, noise_slope=0, noise_floor=1)
SHAPE = (60, 64, 80)


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    texture = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(SHAPE[1:]), 2)
    return np.broadcast_to(500 + 300 * texture, SHAPE).astype(np.float32)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return (SIGMA * np.random.default_rng(1).standard_normal(SHAPE)).astype(np.float32)


def test_exactly_the_noise(scene: np.ndarray, noise: np.ndarray) -> None:
    result = analyse_residual(scene + noise, scene, READ_NOISE, stride=4)
    assert abs(result.whiteness.excess) < result.whiteness.limit < 0.02
    assert result.variance_ratio == pytest.approx(1, abs=0.01)
    assert result.expected_ratio is None
    assert abs(result.baseline.largest) < result.baseline.limit
    assert not result.grid.found


def test_structure_taken_away_is_a_positive_correlation(scene: np.ndarray, noise: np.ndarray) -> None:
    flat = ndimage.gaussian_filter(scene, (0, 4, 4))
    result = analyse_residual(scene + noise, flat, READ_NOISE, stride=4)
    assert result.whiteness.excess > 3 * result.whiteness.limit
    assert result.variance_ratio > 1.1


def test_noise_left_is_a_negative_correlation(scene: np.ndarray, noise: np.ndarray) -> None:
    left = ndimage.uniform_filter(noise, (1, 1, 3))
    result = analyse_residual(scene + noise, scene + left, READ_NOISE, stride=4)
    # (n - mean of three): the product of neighbours is -2/3 + 1/3 + ... = (-1/3 + 2/9 - 1/3 + ...) / (2/3).
    weights = np.array([0, 0, -1 / 3, 2 / 3, -1 / 3, 0, 0])
    expected = float((weights[1:] * weights[:-1]).sum() / (weights**2).sum())
    assert result.whiteness.spatial[REACH, REACH + 1] == pytest.approx(expected, abs=0.02)
    assert result.whiteness.excess < -3 * result.whiteness.limit


def test_bleed_belongs_to_the_detector(scene: np.ndarray, noise: np.ndarray) -> None:
    bled = noise.copy()
    bled[:, :, 1:] = 0.9 * noise[:, :, 1:] + 0.1 * noise[:, :, :-1]
    white = analyse_residual(scene + bled, scene, READ_NOISE, stride=4).whiteness
    assert white.detector[REACH, REACH + 1] == pytest.approx(0.09 / 0.82, abs=0.02)
    assert white.spatial[REACH, REACH + 1] > 5 * white.limit
    assert abs(white.excess) < 2 * white.limit


def test_a_memory_of_old_frames_is_seen_in_time(scene: np.ndarray, noise: np.ndarray) -> None:
    kept = np.zeros((SHAPE[0], 1, 1), np.float32)
    kept[20:40] = SIGMA
    pixels = np.random.default_rng(5).choice([-1, 1], SHAPE[1:]).astype(np.float32)
    white = analyse_residual(scene + noise + kept * pixels, scene, READ_NOISE, stride=4).whiteness
    assert white.excess_at == (1, 0, 0)
    assert white.excess == pytest.approx((19 / 59) / (1 + 20 / 60), abs=0.01)  # pairs that share it


def test_a_baseline_that_jumps(scene: np.ndarray, noise: np.ndarray) -> None:
    shown = scene.copy()
    shown[:10] += SIGMA / 2
    base = analyse_residual(scene + noise, shown, READ_NOISE, stride=4).baseline
    assert base.first == pytest.approx(-0.5, abs=0.02)
    assert abs(base.last) < base.limit


@pytest.mark.parametrize(("period", "at"), [(2, (0.5, 0.5)), (4, (0.25, 0.25))])
@pytest.mark.parametrize("cut", [0, 3])
def test_a_faint_grid_is_found(
    scene: np.ndarray, noise: np.ndarray, period: int, at: tuple[float, float], cut: int
) -> None:
    height, width = SHAPE[1] - cut, SHAPE[2] - cut
    y, x = np.indices((height, width))
    wave = (0.2 * SIGMA * np.sqrt(2) * np.cos(2 * np.pi * (y + x) / period)).astype(np.float32)
    if period == 2:  # a wave that is its own mirror image has its amplitude as its root mean square
        wave /= np.sqrt(2)
    signs = np.where(np.arange(SHAPE[0]) % 2, 1, -1).astype(np.float32)[:, None, None]
    clean = scene[:, :height, :width]
    noisy = clean + noise[:, :height, :width]
    grid = analyse_residual(noisy, clean + signs * wave, READ_NOISE, stride=4).grid
    assert grid.found
    assert tuple(min(f, 1 - f) for f in grid.at) == at
    assert grid.rms_sigma == pytest.approx(0.2, rel=0.1)


def test_the_cameras_own_grid_is_not_blamed(scene: np.ndarray, noise: np.ndarray) -> None:
    y, x = np.indices(SHAPE[1:])
    pattern = (2 * SIGMA * (-1.0) ** (y + x)).astype(np.float32)
    assert not analyse_residual(scene + pattern + noise, scene + pattern, READ_NOISE, stride=4).grid.found


def test_the_variance_of_a_posterior_mean(scene: np.ndarray, noise: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    # A prior of variance 100 round `scene`, as much as the noise: the posterior's deviation is sqrt(50).
    truth = scene + 10 * rng.standard_normal(SHAPE).astype(np.float32)
    noisy = truth + noise
    posterior = (scene + noisy) / 2
    std = np.full(SHAPE, np.sqrt(50), np.float32)
    result = analyse_residual(noisy, posterior, READ_NOISE, stride=4, std=std)
    assert result.expected_ratio == pytest.approx(0.5, abs=0.001)
    assert result.variance_ratio == pytest.approx(result.expected_ratio, abs=0.02)


def test_shot_noise_by_brightness() -> None:
    rng = np.random.default_rng(3)
    light = np.tile(np.linspace(2, 40, 64, dtype=np.float32), (100, 32, 1))
    model = Intensity(offset=0, scale=1, noise_slope=1, noise_floor=0.01)
    noisy = rng.poisson(light).astype(np.float32)
    result = analyse_residual(
        noisy, light, Intensity(offset=20, scale=20**0.5, noise_slope=20**-0.5, noise_floor=0.01), stride=1
    )
    for part in result.bins:
        assert part.residual == pytest.approx(part.mean, rel=0.1)
        assert part.model == pytest.approx(part.mean, rel=0.01)
    assert noise_sigma(np.float32(8), model) == pytest.approx(3)


@pytest.mark.parametrize("tried", [1, 10])
def test_the_largest_of_normal_values_exceeds_its_bound_as_rarely_as_said(tried: int) -> None:
    largest = np.abs(np.random.default_rng(0).normal(size=(100_000 // tried, tried))).max(axis=1)
    expected = 1 - _CONFIDENCE
    assert (largest > _two_sided(tried)).mean() == pytest.approx(expected, rel=0.35)
