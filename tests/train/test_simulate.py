"""The simulator delivers the noise, motion and activity that it says it does."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from denoscope.train import CameraSettings, SceneSettings, random_settings, simulate

SCENE = SceneSettings(frames=120, height=64, width=80)


def test_same_seed_same_movie() -> None:
    first, second = simulate(SCENE, seed=5), simulate(SCENE, seed=5)
    np.testing.assert_array_equal(first.noisy, second.noisy)
    assert not np.array_equal(first.noisy, simulate(SCENE, seed=6).noisy)


@pytest.mark.parametrize("photons", [0.3, 5.0])
def test_noise_has_the_stated_mean_and_variance(photons: float) -> None:
    camera = CameraSettings(photons=photons, gain=50, gain_spread=0.3, read_noise=10, bleed=0, offset=200)
    movie = simulate(SCENE, camera, seed=1)
    error = movie.noisy - movie.clean
    assert movie.clean.mean() == pytest.approx(200 + 50 * photons, rel=1e-3)
    assert error.mean() == pytest.approx(0, abs=0.01 * 50 * photons)
    expected = 50**2 * photons * (1 + 0.3**2) + 10**2
    assert error.var() == pytest.approx(expected, rel=0.03)


def test_bleed_correlates_neighbours_in_a_row_only() -> None:
    movie = simulate(SCENE, CameraSettings(bleed=0.08), seed=2)
    error = movie.noisy - movie.clean
    error = error - error.mean(axis=0)
    along = (error[:, :, 1:] * error[:, :, :-1]).mean() / error.var()
    across = (error[:, 1:] * error[:, :-1]).mean() / error.var()
    assert along == pytest.approx(0.08 * 0.92 / (0.08**2 + 0.92**2), abs=0.015)
    assert across == pytest.approx(0, abs=0.01)


def test_motion_moves_the_scene_by_the_stated_shifts() -> None:
    scene = SceneSettings(
        frames=40, height=64, width=64, motion_px=3, spike_rate_hz=1e-6, rise_s=0.01, neuropil_contrast=0.9
    )
    movie = simulate(scene, seed=3)
    assert movie.shifts.std() == pytest.approx(3, rel=0.2)
    a, b = int(np.argmin(movie.shifts[:, 1])), int(np.argmax(movie.shifts[:, 1]))
    inner = np.s_[14:-14, 14:-14]
    moved = ndimage.shift(movie.clean[a], movie.shifts[b] - movie.shifts[a], order=1)
    assert np.corrcoef(moved[inner].ravel(), movie.clean[b][inner].ravel())[0, 1] > 0.7
    assert np.corrcoef(movie.clean[a][inner].ravel(), movie.clean[b][inner].ravel())[0, 1] < 0.4


def test_transients_decay_with_the_stated_time_constant() -> None:
    scene = SceneSettings(
        frames=3000, height=16, width=16, frame_rate_hz=30, spike_rate_hz=0.02, decay_s=1.0, rise_s=0.01
    )
    trace = simulate(scene, seed=4).traces[0]
    falling = np.diff(trace) < 0
    rates = -np.diff(np.log(np.maximum(trace - trace.min(), 1e-3)))[
        falling & (trace[:-1] > trace.min() + 0.5)
    ]
    assert np.median(rates) == pytest.approx(1 / 30, rel=0.1)


def test_random_settings_stay_in_their_range() -> None:
    rng = np.random.default_rng(0)
    photons = []
    for _ in range(200):
        scene, camera = random_settings(rng, frames=8, height=32, width=32)
        photons.append(camera.photons)
        assert 0.1 <= camera.photons <= 100
        assert camera.read_noise > 0
        assert scene.frames == 8
    assert min(photons) < 0.3
    assert max(photons) > 30
