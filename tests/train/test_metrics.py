"""Scores and predicted deviations, on numbers known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from denoscope.train.evaluation.metrics import best_gaussian, best_temporal_average, reliability, score

SHAPE = (20, 32, 40)


def ramp() -> np.ndarray:
    return np.broadcast_to(np.linspace(0, 100, SHAPE[2], dtype=np.float32), SHAPE).copy()


def test_psnr_by_hand() -> None:
    result = score(ramp(), ramp() + 1)
    assert result.psnr_db == pytest.approx(40)
    assert result.psnr_p999_db == pytest.approx(40)
    assert 0.9 < result.ssim < 1


def test_the_filters_find_the_truth() -> None:
    noisy = ramp() + np.random.default_rng(0).normal(0, 20, SHAPE).astype(np.float32)
    average, length = best_temporal_average(ramp(), noisy)
    assert int(length.split()[0]) >= 15
    gaussian, _ = best_gaussian(ramp(), noisy)
    assert score(ramp(), gaussian).psnr_db > score(ramp(), average).psnr_db > score(ramp(), noisy).psnr_db + 8


@pytest.mark.parametrize(("scale", "inside"), [(1.0, 0.68), (0.5, 0.381), (2.0, 0.953)])
def test_coverage_of_a_normal_error(scale: float, inside: float) -> None:
    rng = np.random.default_rng(1)
    std = rng.uniform(1, 9, SHAPE).astype(np.float32)
    result = reliability(ramp(), ramp() + std * rng.standard_normal(SHAPE), scale * std)
    assert result.coverage(0.68) == pytest.approx(inside, abs=0.01)
    np.testing.assert_allclose(np.array(result.actual) * scale, result.predicted, rtol=0.1)
    assert list(result.observed) == sorted(result.observed)


def test_pixels_without_a_truth_are_in_no_number() -> None:
    rng = np.random.default_rng(2)
    truth, made = ramp(), (ramp() + rng.normal(0, 1, SHAPE)).astype(np.float32)
    std = np.ones(SHAPE, np.float32)
    holes = rng.random(SHAPE) < 0.02
    holed, wrong = np.where(holes, np.float32(np.nan), truth), np.where(holes, np.float32(1e6), made)
    found, spread = score(holed, wrong), reliability(holed, wrong, std)
    assert found.psnr_db == pytest.approx(score(truth, made).psnr_db, abs=0.1)
    assert spread.coverage(0.68) == pytest.approx(reliability(truth, made, std).coverage(0.68), abs=0.01)
    quiet = score(holed, np.where(holes, truth, made))
    assert quiet.ssim == pytest.approx(score(truth, made).ssim, abs=0.02)
    assert np.isfinite(best_gaussian(holed, made)[0]).all()
